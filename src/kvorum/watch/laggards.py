"""Watchers that are behind, and whose turn it is.

Those that need the same revision next form a cohort: a group with a cursor. One scan of the history
serves a whole cohort, and a cohort whose cursor reaches another's joins it, so however many clients come
back at once, each stretch of history is read once for all of them. (etcd instead reads, for up to 512
watchers at a time, everything from the oldest one's revision to the head:
``server/mvcc/watchable_store.go``, syncWatchers.)

The oldest cohort goes first, which costs the least work in sum. But who is nearly up to date does not
wait for someone who reads a year's history: every other turn belongs to the oldest of those near the
head.

Invariants (``check_invariants``): ``_cursors`` are the keys of ``_cohorts``, in order; ``size`` counts
their watchers.
"""

from bisect import bisect_left, bisect_right, insort
from typing import final

from kvorum.watch.watcher import Watcher, WatcherGroup


@final
class Laggards:
    """Cohorts by cursor; a cohort may have become empty, by watchers that were cancelled."""

    __slots__ = ("_cohorts", "_cursors", "_near_turn")

    def __init__(self) -> None:
        self._cohorts: dict[int, WatcherGroup] = {}
        self._cursors: list[int] = []
        self._near_turn = False

    def __bool__(self) -> bool:
        return bool(self._cursors)

    def __len__(self) -> int:
        return sum(cohort.size for cohort in self._cohorts.values())

    def add(self, watcher: Watcher, cursor: int) -> None:
        """Take in a watcher that needs the revision ``cursor`` next."""
        cohort = self._cohorts.get(cursor)
        if cohort is None:
            cohort = self._cohorts[cursor] = WatcherGroup()
            insort(self._cursors, cursor)
        cohort.add(watcher)

    def add_cohort(self, cohort: WatcherGroup, cursor: int) -> int:
        """Take in a cohort, joining it with one at the same cursor; returns how many watchers had to move."""
        other = self._cohorts.get(cursor)
        if other is None:
            self._cohorts[cursor] = cohort
            insort(self._cursors, cursor)
            return 0
        if other.size < cohort.size:
            self._cohorts[cursor] = cohort
            cohort, other = other, cohort
        moved = cohort.take(cohort.size)
        for watcher in moved:
            other.add(watcher)
        return len(moved)

    def next_turn(self) -> None:
        """Pass the turn between the near and the far."""
        self._near_turn = not self._near_turn

    def pop(self, near: int) -> tuple[int, WatcherGroup]:
        """Take out the cohort whose turn it is; cursors from ``near`` on count as near the head."""
        at = bisect_left(self._cursors, near) if self._near_turn else 0
        if at == len(self._cursors):
            at = 0
        cursor = self._cursors.pop(at)
        return cursor, self._cohorts.pop(cursor)

    def next_cursor(self, cursor: int, otherwise: int) -> int:
        """The smallest cursor above the given one."""
        at = bisect_right(self._cursors, cursor)
        return self._cursors[at] if at < len(self._cursors) else otherwise

    def cohorts(self) -> list[tuple[int, WatcherGroup]]:
        """All cohorts, the oldest first."""
        return [(cursor, self._cohorts[cursor]) for cursor in self._cursors]

    def check_invariants(self) -> None:
        """Assert what the module docstring promises; O(n)."""
        assert self._cursors == sorted(self._cohorts), "cursors differ from the cohorts"
        for cohort in self._cohorts.values():
            cohort.check_invariants()
