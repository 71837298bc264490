"""Deadlines by id: which are past, cheaply even if most of them are put off again and again.

A heap would pay for each keepalive. Here putting a deadline off is one store into a dict; the heap keeps
the earlier time it knew, and only when that has come is the id looked at and put back with its real
deadline: once in a TTL, however often it was renewed.

Invariants (``check_invariants``): an id has exactly one entry in the heap that counts, at ``_queued`` of
it, never later than its deadline; entries that do not count are fewer than those that do, or than a few.
"""

from heapq import heapify, heappop, heappush, heapreplace
from typing import Final, final

from kvorum.limits import LEASE_LOOKS

_FEW: Final = 64
"""Stale entries that are not worth a cleaning."""


@final
class Deadlines:
    """Ids with the time, in seconds of some clock, at which each is due."""

    __slots__ = ("_at", "_heap", "_queued")

    def __init__(self) -> None:
        self._at: dict[int, float] = {}
        self._queued: dict[int, float] = {}
        self._heap: list[tuple[float, int]] = []

    def __len__(self) -> int:
        return len(self._at)

    @property
    def entries(self) -> int:
        """Entries of the heap, stale ones too: what time has to work through."""
        return len(self._heap)

    def get(self, name: int) -> float | None:
        """When an id is due, None if it has no deadline."""
        return self._at.get(name)

    def set(self, name: int, at: float) -> None:
        """Give an id a deadline, in place of the one it may have."""
        queued = self._queued.get(name)
        self._at[name] = at
        if queued is None or at < queued:
            self._queued[name] = at
            heappush(self._heap, (at, name))
            self._clean()

    def remove(self, name: int) -> None:
        """Take away an id's deadline, if it has one."""
        if self._at.pop(name, None) is not None:
            del self._queued[name]
            self._clean()

    def clear(self) -> None:
        """Take away all deadlines."""
        self._at.clear()
        self._queued.clear()
        self._heap.clear()

    def next_at(self) -> float | None:
        """No id is due before this; None if there is none."""
        return self._heap[0][0] if self._heap else None

    def take(self, now: float, limit: int) -> list[tuple[float, int]]:
        """Take away up to ``limit`` deadlines that have come, the earliest first, as (deadline, id).

        Looks at no more than LEASE_LOOKS entries besides; if those had all been put off, the rest is for
        the next call.
        """
        taken: list[tuple[float, int]] = []
        heap = self._heap
        looks = limit + LEASE_LOOKS
        while heap and heap[0][0] <= now and len(taken) < limit and looks:
            looks -= 1
            queued, name = heap[0]
            if self._queued.get(name) != queued:
                heappop(heap)
                continue
            at = self._at[name]
            if at > queued:
                self._queued[name] = at
                heapreplace(heap, (at, name))
                continue
            heappop(heap)
            del self._at[name], self._queued[name]
            taken.append((at, name))
        return taken

    def _clean(self) -> None:
        """Build the heap anew once most of it is stale."""
        if len(self._heap) > 2 * len(self._at) + _FEW:
            self._queued = dict(self._at)
            self._heap = [(at, name) for name, at in self._at.items()]
            heapify(self._heap)

    def check_invariants(self) -> None:
        """Assert what the module docstring promises; O(n)."""
        assert self._at.keys() == self._queued.keys(), "an id without an entry, or the other way round"
        entries = set(self._heap)
        for name, queued in self._queued.items():
            assert (queued, name) in entries, "an id is not in the heap"
            assert queued <= self._at[name], "an entry that comes too late"
        assert len(self._heap) <= 2 * len(self._at) + _FEW, "too many stale entries"
