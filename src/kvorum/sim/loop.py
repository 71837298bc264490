"""An asyncio loop whose time is a number.

Nothing is waited for: when nothing is left to run, the clock jumps to the next timer. Callbacks due at one
time run in an order that depends on nothing but the order in which they were scheduled, so a program that
takes its dice from a seed does the same things every time.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final, final

RESOLUTION_SECONDS: Final = 1e-9


class DeadlockError(Exception):
    """Nothing is scheduled, and what is waited for has not come."""


@final
class _Skip:
    """Stands where asyncio has its selector: instead of waiting, time passes."""

    def __init__(self, loop: "SimulatedLoop") -> None:
        self._loop: Final = loop

    def select(self, timeout: float | None) -> list[Any]:
        """Let ``timeout`` seconds pass."""
        if timeout is None:
            raise DeadlockError
        if timeout > 0:
            self._loop.now += timeout
        return []


@final
class SimulatedLoop(asyncio.BaseEventLoop):
    """See the module. Errors in callbacks go to ``failed``, which gets the first one."""

    def __init__(self, failed: Callable[[BaseException], None]) -> None:
        super().__init__()
        self.now = 0.0
        self._selector = _Skip(self)
        self._clock_resolution = RESOLUTION_SECONDS
        self.set_debug(False)
        self._failed: Final = failed
        self.set_exception_handler(self._handle)

    def time(self) -> float:
        """Simulated seconds since the beginning."""
        return self.now

    def _process_events(self, event_list: list[Any]) -> None:
        """There are none but timers."""

    def _write_to_self(self) -> None:
        """There is no other thread to wake it from."""

    def _handle(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self._failed(error if error is not None else RuntimeError(context.get("message", "")))
