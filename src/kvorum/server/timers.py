"""What the member's rooms see of their loop, so that a simulated one does as well."""

import asyncio
from collections.abc import Callable
from typing import Protocol


class Timers(Protocol):
    """The clock and the callbacks of a loop (asyncio's, or a simulation's)."""

    def time(self) -> float:
        """Seconds, monotonic."""

    def call_later(self, delay: float, callback: Callable[[], None]) -> object:
        """Call ``callback`` after ``delay`` seconds."""


async def pause(timers: Timers, seconds: float) -> None:
    """Go on after so many seconds."""
    over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def wake() -> None:
        if not over.done():
            over.set_result(None)

    timers.call_later(seconds, wake)
    await over
