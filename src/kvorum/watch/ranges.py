"""Ranges of keys, each with a value, and the question which of them hold a key. Sans-IO.

Three kinds of ranges, three structures, because each put asks the question:

- a prefix, which most watched ranges are: a dict of prefixes, asked once for each length that any of them
has;
- everything from a key on: a sorted list, of which the ones up to the key match;
- any other range, and prefixes once there are too many lengths to ask for: the interval tree.

Invariants (``check_invariants``): every range is in exactly one of the three; ``_lengths`` are those of
the prefixes.
"""

from bisect import bisect_left, bisect_right, insort
from typing import Final, Generic, TypeVar, final

from kvorum.watch.intervals import IntervalTree

T = TypeVar("T")

MAX_PREFIX_LENGTHS: Final = 32
"""Lengths asked for on each put; about as dear as one search in a tree of a million."""


def prefix_end(prefix: bytes) -> bytes | None:
    """The end of the range of all keys with a prefix; None if it has no upper bound (nothing but 0xff)."""
    stem = prefix.rstrip(b"\xff")
    if not stem:
        return None
    return stem[:-1] + bytes((stem[-1] + 1,))


@final
class RangeIndex(Generic[T]):
    """Ranges [start, end), an end of None being no upper bound; each once and with a value."""

    __slots__ = ("_from", "_length_counts", "_lengths", "_prefixes", "_tree", "_values")

    def __init__(self) -> None:
        self._values: dict[tuple[bytes, bytes | None], T] = {}
        self._prefixes: dict[bytes, T] = {}
        self._length_counts: dict[int, int] = {}
        self._lengths: list[int] = []
        self._from: list[bytes] = []
        self._tree: IntervalTree[T] = IntervalTree()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, start: bytes, end: bytes | None) -> T | None:
        """The value of a range, None if it is not here."""
        return self._values.get((start, end))

    def values(self) -> list[T]:
        """The values of all ranges."""
        return list(self._values.values())

    def add(self, start: bytes, end: bytes | None, value: T) -> None:
        """Put in a range that is not here; its start is smaller than its end."""
        assert (start, end) not in self._values, "a range is put in once"
        self._values[(start, end)] = value
        if end is None:
            insort(self._from, start)
        elif end == prefix_end(start) and self._count_length(len(start)):
            self._prefixes[start] = value
        else:
            self._tree.add(start, end, value)

    def _count_length(self, length: int) -> bool:
        """Count a prefix of that length in; False if it would be one length too many."""
        count = self._length_counts.get(length, 0)
        if count == 0:
            if len(self._lengths) >= MAX_PREFIX_LENGTHS:
                return False
            insort(self._lengths, length)
        self._length_counts[length] = count + 1
        return True

    def remove(self, start: bytes, end: bytes | None) -> None:
        """Take out a range that is here."""
        del self._values[(start, end)]
        self._forget(start, end)

    def pop(self) -> tuple[bytes, bytes | None, T]:
        """Take out any range, of at least one: (start, end, value)."""
        (start, end), value = self._values.popitem()
        self._forget(start, end)
        return start, end, value

    def _forget(self, start: bytes, end: bytes | None) -> None:
        if end is None:
            del self._from[bisect_left(self._from, start)]
        elif start in self._prefixes and end == prefix_end(start):
            del self._prefixes[start]
            length = len(start)
            self._length_counts[length] -= 1
            if not self._length_counts[length]:
                del self._length_counts[length]
                self._lengths.remove(length)
        else:
            self._tree.remove(start, end)

    def stab(self, key: bytes, found: list[T]) -> None:
        """Append the values of all ranges that hold the key to ``found``."""
        if self._prefixes:
            prefixes = self._prefixes
            size = len(key)
            for length in self._lengths:
                if length > size:
                    break
                value = prefixes.get(key[:length])
                if value is not None:
                    found.append(value)
        if self._from:
            found += [self._values[(start, None)] for start in self._from[: bisect_right(self._from, key)]]
        if len(self._tree):
            self._tree.stab(key, found)

    def check_invariants(self) -> None:
        """Assert what the module docstring promises; O(n)."""
        self._tree.check_invariants()
        assert self._from == sorted(start for start, end in self._values if end is None), "from-keys differ"
        assert all((start, prefix_end(start)) in self._values for start in self._prefixes), (
            "a prefix too many"
        )
        assert len(self._from) + len(self._prefixes) + len(self._tree) == len(self._values), "a range is lost"
        counts: dict[int, int] = {}
        for prefix in self._prefixes:
            counts[len(prefix)] = counts.get(len(prefix), 0) + 1
        assert counts == self._length_counts, "lengths are miscounted"
        assert self._lengths == sorted(counts), "lengths differ from the prefixes"
