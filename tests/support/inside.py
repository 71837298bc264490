"""A member in this process, for what no client can see or wait for: counters of its rooms, and hours.

It is the whole member, with its files and its port, on a loop whose clock can be put forward.
"""

import asyncio
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar, final

from kvorum.config_sources import load
from kvorum.logging import ERROR, Logger
from kvorum.server.member import Member
from kvorum.server.node import Node
from tests.support.ports import free_port

T = TypeVar("T")
WAIT_SECONDS: Final = 30.0


class _SkippingLoop(asyncio.SelectorEventLoop):
    """Its time is the machine's, plus what was skipped."""

    skipped_seconds = 0.0

    def time(self) -> float:
        return super().time() + self.skipped_seconds


@final
class _Stderr:
    def write(self, level: int, line: bytes) -> None:
        sys.stderr.write(line.decode())


@final
class Inside:
    """The running member; everything that touches it goes through ``call``."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint: Final = endpoint
        self.loop: Final = _SkippingLoop()
        self.member: Member
        self._thread: Final = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    @property
    def node(self) -> Node:
        return self.member.node

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(WAIT_SECONDS)

    def call(self, function: Callable[[], T]) -> T:
        """Call a function on the member's loop."""

        async def once() -> T:
            return function()

        return self.run(once())

    def skip(self, seconds: float) -> None:
        """Put the member's clock forward, and let it tick."""
        ticked = threading.Event()

        def forward() -> None:
            self.loop.skipped_seconds += seconds
            # Longer than the distance of ticks, so one has been by then.
            self.loop.call_later(0.25, ticked.set)

        self.loop.call_soon_threadsafe(forward)
        assert ticked.wait(WAIT_SECONDS)

    def end(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(WAIT_SECONDS)
        self.loop.close()


@contextmanager
def running_inside(data_dir: Path, flags: Sequence[str] = ()) -> Iterator[Inside]:
    """Start a member on a data directory, new or not, and stop it cleanly."""
    port = free_port()
    inside = Inside(f"127.0.0.1:{port}")
    log = Logger([_Stderr()], level=ERROR)
    urls, peer_urls = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{free_port()}"
    arguments = [
        f"--data-dir={data_dir}",
        f"--listen-client-urls={urls}",
        f"--advertise-client-urls={urls}",
        f"--listen-peer-urls={peer_urls}",
        f"--initial-advertise-peer-urls={peer_urls}",
        f"--initial-cluster=default={peer_urls}",
        *flags,
    ]
    config = load(arguments, {}, log, default_host=lambda: "")
    config.validate()

    async def start() -> None:
        inside.member = Member(config, log)
        await inside.member.start()

    try:
        inside.run(start())
        yield inside
        assert not inside.member.failed.done(), inside.member.failed.result()
        inside.run(inside.member.stop())
    finally:
        inside.end()
