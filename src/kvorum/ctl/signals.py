"""SIGINT and SIGTERM as an exception in the main thread, for commands that wait to be told to end."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(Exception):  # noqa: N818 - nothing is wrong
    """A signal asked the command to end."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Have the signals raise Interrupted; the second one as well."""
    if threading.current_thread() is not threading.main_thread():
        yield  # a test's thread gets no signals
        return

    def raise_it(number: int, frame: FrameType | None) -> None:
        raise Interrupted

    before = {number: signal.signal(number, raise_it) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
