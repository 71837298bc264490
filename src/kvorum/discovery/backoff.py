"""How long a member waits before it asks a discovery service again (etcd ``logAndBackoffForRetry``)."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias, final

from kvorum import limits
from kvorum.duration import SECOND, Duration

Sleep: TypeAlias = Callable[[float], Awaitable[None]]


@final
class Backoff:
    """2, 4, ... 256 seconds, then always that; from the beginning after an answer."""

    def __init__(self, sleep: Sleep = asyncio.sleep) -> None:
        self._sleep: Final = sleep
        self._retries = 0

    def succeeded(self) -> None:
        """The service answered."""
        self._retries = 0

    async def wait(self, say: Callable[[str], None]) -> None:
        """Tell ``say`` how long this waits, and wait."""
        self._retries += 1
        seconds = 1 << min(self._retries, limits.DISCOVERY_MAX_DOUBLINGS)
        say(str(Duration(seconds * SECOND)))
        await self._sleep(seconds)
