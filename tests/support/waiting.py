"""Waiting for what no line of a log announces: a look every few milliseconds, under a deadline."""

import time
from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")

POLL_SECONDS: Final = 0.02
WAIT_SECONDS: Final = 30.0


class WaitError(AssertionError):
    """What was awaited did not come in time; the text says what, and what was seen last."""


def wait_until(
    look: Callable[[], T | None],
    what: str,
    deadline_seconds: float = WAIT_SECONDS,
    poll_seconds: float = POLL_SECONDS,
) -> T:
    """Return the first answer of ``look`` that is not None and not False. Raises WaitError."""
    end = time.monotonic() + deadline_seconds
    while True:
        seen = look()
        if seen is not None and seen is not False:
            return seen
        if time.monotonic() > end:
            raise WaitError(f"{what}: not in {deadline_seconds:g} s")
        time.sleep(poll_seconds)
