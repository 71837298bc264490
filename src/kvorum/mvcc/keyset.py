"""A sorted set of keys whose ranks and pages cost what they return.

Keys stand in blocks of some hundred, each a sorted list; ``_lasts`` holds each block's last key, so that a
key is found by two binary searches. The rank of a key is the number of keys in the blocks before its own and
its place there. Blocks are counted in groups of 64: a rank is one sum over the groups before, one over at
most 63 block lengths, and the place, all in C. At a million keys that is 35 groups, at a hundred million
3,500, so the sum over groups never shows.

Measured at a million random keys, in µs, ``sortedcontainers.SortedList`` in brackets: add 1.8 (1.9), remove
1.9 (2.2), add and then ask for a rank 4.7 (17: changes take its index of positions apart). ``BTrees`` has no
ranks.

Invariants (``check_invariants``): no block is empty; keys ascend strictly within and across blocks;
``_lasts`` and ``_groups`` agree with the blocks.
"""

from bisect import bisect_left, insort
from collections.abc import Collection, Iterator
from itertools import islice
from typing import Final, final

LOAD: Final = 512
"""A block is cut in two at twice this many keys, and joined with a neighbour when both hold less than
this."""
_SPARSE: Final = LOAD // 4
_SHIFT: Final = 6
_RUN: Final = 4096
"""Keys sorted at once: 2 ms."""
_SAMPLES: Final = 16
"""Keys looked at for each run, so that runs become about equal."""


@final
class KeySet:
    """An ordered set of byte strings. An end of None means: to the last key."""

    __slots__ = ("_blocks", "_groups", "_lasts", "_size")

    def __init__(self) -> None:
        """Begin without keys."""
        self._blocks: list[list[bytes]] = []
        self._lasts: list[bytes] = []
        self._groups: list[int] = []
        self._size = 0

    @classmethod
    def of(cls, keys: Collection[bytes]) -> "KeySet":
        """The set of distinct keys in any order.

        They are sorted in steps of some milliseconds, as another thread may want the interpreter: one call of
        ``sorted`` keeps it for 0.6 s at a million, and merely copying or dropping a list of them for 10 ms.
        """
        made = cls()
        rest = iter(keys)
        samples = []
        for key in rest:
            samples.append(key)
            next(islice(rest, _RUN // _SAMPLES - 1, None), None)
        samples.sort()
        bounds = samples[_SAMPLES // 2 :: _SAMPLES]
        runs: list[list[bytes]] = [[] for _ in range(len(bounds) + 1)]
        for key in keys:
            runs[bisect_left(bounds, key)].append(key)
        runs.reverse()
        while runs:
            run = runs.pop()
            run.sort()
            made._blocks += [run[at : at + LOAD] for at in range(0, len(run), LOAD)]
        made._lasts = [block[-1] for block in made._blocks]
        made._size = len(keys)
        made._recount(0)
        return made

    def __len__(self) -> int:
        return self._size

    def __contains__(self, key: bytes) -> bool:
        at = bisect_left(self._lasts, key)
        if at == len(self._lasts):
            return False
        block = self._blocks[at]
        return block[bisect_left(block, key)] == key

    def __iter__(self) -> Iterator[bytes]:
        for block in self._blocks:
            yield from block

    def _recount(self, at: int) -> None:
        """Count the groups again from that of block ``at``: the blocks behind it have moved."""
        first = at >> _SHIFT
        width = 1 << _SHIFT
        blocks = self._blocks
        self._groups[first:] = [
            sum(map(len, blocks[start : start + width]))
            for start in range(first << _SHIFT, len(blocks), width)
        ]

    def add(self, key: bytes) -> None:
        """Add a key that is not in the set."""
        lasts = self._lasts
        at = bisect_left(lasts, key)
        self._size += 1
        if at < len(lasts):
            block = self._blocks[at]
            insort(block, key)
            self._groups[at >> _SHIFT] += 1
            if len(block) >= 2 * LOAD:
                self._cut(at, LOAD)
            return
        if not lasts:
            self._blocks.append([key])
            lasts.append(key)
            self._groups.append(1)
            return
        at -= 1
        block = self._blocks[at]
        block.append(key)
        lasts[at] = key
        self._groups[at >> _SHIFT] += 1
        if len(block) >= 2 * LOAD:
            # Keys that come in order fill their blocks and never return to them.
            self._cut(at, 2 * LOAD - 1)

    def _cut(self, at: int, keep: int) -> None:
        block = self._blocks[at]
        self._blocks.insert(at + 1, block[keep:])
        self._blocks[at] = block[:keep]
        self._lasts.insert(at, block[keep - 1])
        self._recount(at)

    def remove(self, key: bytes) -> None:
        """Remove a key that is in the set."""
        lasts = self._lasts
        at = bisect_left(lasts, key)
        block = self._blocks[at]
        place = bisect_left(block, key)
        assert block[place] == key
        del block[place]
        self._size -= 1
        self._groups[at >> _SHIFT] -= 1
        if len(block) < _SPARSE:
            self._thin(at)
        elif place == len(block):
            lasts[at] = block[-1]

    def _thin(self, at: int) -> None:
        """Drop a block that has become empty, or join it with a neighbour if both fit into one."""
        blocks = self._blocks
        block = blocks[at]
        if not block:
            del blocks[at], self._lasts[at]
            self._recount(at)
            return
        self._lasts[at] = block[-1]
        for left in (at - 1, at):
            if left >= 0 and left + 1 < len(blocks) and len(blocks[left]) + len(blocks[left + 1]) < LOAD:
                blocks[left] += blocks[left + 1]
                del blocks[left + 1], self._lasts[left]
                self._recount(left)
                return

    def rank(self, key: bytes) -> int:
        """How many keys are smaller."""
        at = bisect_left(self._lasts, key)
        if at == len(self._lasts):
            return self._size
        group = at >> _SHIFT
        before = sum(self._groups[:group]) + sum(map(len, self._blocks[group << _SHIFT : at]))
        return before + bisect_left(self._blocks[at], key)

    def count(self, start: bytes, end: bytes | None) -> int:
        """How many keys are in [start, end)."""
        if end is None:
            return self._size - self.rank(start)
        if end <= start:
            return 0
        return self.rank(end) - self.rank(start)

    def page(self, start: bytes, end: bytes | None, limit: int = 0) -> list[bytes]:
        """The first ``limit`` keys (0: all) of [start, end), in order."""
        if end is not None and end <= start:
            return []
        lasts = self._lasts
        at = bisect_left(lasts, start)
        if at == len(lasts):
            return []
        blocks = self._blocks
        last = len(lasts) if end is None else bisect_left(lasts, end)
        block = blocks[at]
        place = bisect_left(block, start)
        if at == last and end is not None:
            keys = block[place : bisect_left(block, end, place)]
            return keys[:limit] if limit else keys
        keys = block[place:]
        at += 1
        while at < last and not 0 < limit <= len(keys):
            keys += blocks[at]
            at += 1
        if at == last and last < len(lasts) and end is not None:
            keys += blocks[at][: bisect_left(blocks[at], end)]
        if 0 < limit < len(keys):
            del keys[limit:]
        return keys

    def iterate(self, start: bytes, end: bytes | None) -> Iterator[bytes]:
        """The keys of [start, end) one by one; the set must not change meanwhile."""
        at = bisect_left(self._lasts, start)
        if at == len(self._lasts):
            return
        place = bisect_left(self._blocks[at], start)
        for block in islice(self._blocks, at, None):
            if end is not None and block[-1] >= end:
                yield from block[place : bisect_left(block, end)]
                return
            yield from islice(block, place, None)
            place = 0

    def dismantle(self) -> None:
        """Forget everything, block by block."""
        self._size = 0
        self._groups, self._lasts = [], []
        while self._blocks:
            self._blocks.pop()

    def check_invariants(self) -> None:
        """Assert what the class docstring promises; O(n)."""
        assert all(self._blocks), "an empty block"
        assert self._lasts == [block[-1] for block in self._blocks], "lasts differ from the blocks"
        keys = list(self)
        assert all(a < b for a, b in zip(keys, islice(keys, 1, None), strict=False)), "keys out of order"
        assert self._size == len(keys), "size differs from the blocks"
        width = 1 << _SHIFT
        counts = [sum(map(len, self._blocks[at : at + width])) for at in range(0, len(self._blocks), width)]
        assert self._groups == counts, "groups differ from the blocks"
