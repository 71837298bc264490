"""The watch hub's share of the member's time: slices of catching up between other work, and ticks.

Events themselves need no time of their own: ``apply`` queues them. Source: etcd
``server/mvcc/watchable_store.go`` (syncWatchersLoop), ``v3rpc/watch.go`` (sendLoop's ticker).
"""

from collections.abc import Callable
from typing import Final, final

from kvorum.server.timers import Timers
from kvorum.watch.hub import WatchHub


@final
class Watches:
    """Drives the hub; ``guard`` runs a part of the member's work and ends the member if it fails.

    Invariant: while anybody lags, a slice is scheduled (``_catching_up``), until ``stop``.
    """

    def __init__(self, hub: WatchHub, timers: Timers, guard: Callable[[Callable[[], None]], None]) -> None:
        self._hub: Final = hub
        self._timers: Final = timers
        self._guard: Final = guard
        self._catching_up = False
        self._stopped = False
        hub.on_lagging = self._begin

    def tick(self, now: float) -> None:
        """Queue the progress notifications that are due; a tick may be later than they by its distance."""
        self._hub.progress.tick(now)

    def stop(self) -> None:
        """Do nothing more: the store is about to be closed."""
        self._stopped = True

    def _begin(self) -> None:
        if not self._catching_up:
            self._catching_up = True
            self._soon()

    def _soon(self) -> None:
        self._timers.call_later(0, lambda: self._guard(self._slice))

    def _slice(self) -> None:
        if self._stopped:
            return
        if self._hub.catch_up():
            self._soon()
        else:
            self._catching_up = False
