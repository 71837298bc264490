"""When streams hear where they are: each watch that asked for it and had no events for an interval is told.

As in etcd (``v3rpc/watch.go``: sendLoop) a stream's ticks count from when it was opened, and a watch that got
events since the last tick, or is behind, is left out.
"""

from collections.abc import Callable
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Final, final

from kvorum.limits import MIN_WATCH_PROGRESS_INTERVAL_SECONDS, WATCH_PROGRESS_JITTER
from kvorum.watch import response

if TYPE_CHECKING:
    from kvorum.watch.hub import WatchHub
    from kvorum.watch.stream import WatchStream


@final
class ProgressTimer:
    """The streams with watches that asked, by when they are due. A closed stream stays until then, but empty.

    Args:
        interval_seconds: between two ticks of a stream; raised to the smallest that is taken.
        jitter: random numbers from [0, 1).
    """

    __slots__ = ("_due", "_hub", "_interval", "_jitter", "_order")

    def __init__(self, hub: "WatchHub", interval_seconds: float, jitter: Callable[[], float]) -> None:
        self._hub: Final = hub
        self._interval: Final = max(interval_seconds, MIN_WATCH_PROGRESS_INTERVAL_SECONDS)
        self._jitter: Final = jitter
        self._due: list[tuple[float, int, WatchStream]] = []
        self._order = 0

    def add(self, stream: "WatchStream", now: float) -> None:
        """A watch of the stream asked for notifications."""
        if stream.progress_interval:
            return
        interval = stream.progress_interval = self._interval * (1 + WATCH_PROGRESS_JITTER * self._jitter())
        ticks = int((now - stream.opened_at) / interval)
        self._schedule(stream, stream.opened_at + (ticks + 1) * interval)

    def _schedule(self, stream: "WatchStream", at: float) -> None:
        self._order += 1
        heappush(self._due, (at, self._order, stream))

    @property
    def next_tick_at(self) -> float | None:
        """When ``tick`` is due, None if nobody waits for it."""
        return self._due[0][0] if self._due else None

    def tick(self, now: float) -> None:
        """Queue the notifications that are due; ``now`` is the clock's, in seconds."""
        while self._due and self._due[0][0] <= now:
            _, _, stream = heappop(self._due)
            if stream.closed:
                continue
            self._notify(stream)
            self._schedule(stream, now + stream.progress_interval)

    def _notify(self, stream: "WatchStream") -> None:
        hub = self._hub
        header = hub.header(hub.revision)
        bound = hub.queue_bound()
        for watcher in stream.reporting.values():
            if watcher.quiet and hub.is_synced(watcher) and stream.queued_bytes < bound:
                stream.push(response.progress(header, watcher.id))
            watcher.quiet = True
