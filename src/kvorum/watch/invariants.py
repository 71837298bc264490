"""What must be true of a hub at any time; see ``hub.py`` for why."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvorum.watch.hub import WatchHub
    from kvorum.watch.stream import WatchStream


def check_invariants(hub: "WatchHub", streams: Iterable["WatchStream"]) -> None:
    """Assert that every watcher is in one place, that its place fits it, and that all is counted right."""
    hub.synced.check_invariants()
    hub.laggards.check_invariants()
    parked = watchers = slow = queued = 0
    for stream in streams:
        _check_stream(hub, stream)
        held = sum(not watcher.ended for watcher in stream.watchers.values())
        parked += len(stream.parked)
        watchers += held
        slow += stream.lagging
        queued += stream.queued_bytes
    assert watchers == hub.watchers, "watchers are miscounted"
    assert watchers == hub.synced.size + parked + len(hub.laggards), "a watcher is lost"
    assert slow == hub.slow_watchers, "slow watchers are miscounted"
    assert queued == hub.queued_bytes, "queued bytes are miscounted"
    for cursor, cohort in hub.laggards.cohorts():
        assert 0 <= cursor <= hub.revision + 1, "a cohort is ahead of the store"
        for lot in cohort.lots():
            assert all(watcher.next_revision <= cursor for watcher in lot), "a cohort is behind its watcher"


def _check_stream(hub: "WatchHub", stream: "WatchStream") -> None:
    assert not stream.closed, "only open streams count"
    held = [watcher for watcher in stream.watchers.values() if not watcher.ended]
    behind = [watcher for watcher in held if not hub.is_synced(watcher)]
    assert len(behind) == stream.lagging, "lagging watchers are miscounted"
    assert {watcher for watcher in behind if watcher.group is None} == set(stream.parked), (
        "a watcher is nowhere"
    )
    assert all(watcher.next_revision <= hub.revision for watcher in stream.parked), "parked for nothing"
    assert not (stream.progress_wanted and not stream.lagging), "a progress request is forgotten"
    assert all(stream.watchers[name] is watcher for name, watcher in stream.reporting.items()), (
        "a stale report"
    )
    assert not stream.queue or stream.queued_bytes > 0, "a queue that weighs nothing"
