"""What the member's rooms see of their loop, so that a simulated one does as well."""

from collections.abc import Callable
from typing import Protocol


class Timers(Protocol):
    """The clock and the callbacks of a loop (asyncio's, or a simulation's)."""

    def time(self) -> float:
        """Seconds, monotonic."""

    def call_later(self, delay: float, callback: Callable[[], None]) -> object:
        """Call ``callback`` after ``delay`` seconds."""
