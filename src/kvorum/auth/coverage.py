"""Which keys a set of ranges covers.

Ranges are half-open, ``[begin, end)``, or open-ended. They are merged when the set is made, so a question
costs one bisection however many grants a user has. Empty and reversed ranges cover nothing. Source of
behaviour: etcd ``pkg/adt/interval_tree.go`` (Contains, Intersects on ``BytesAffineComparable``),
``server/auth/range_perm_cache.go``.
"""

from bisect import bisect_right
from collections.abc import Iterable
from typing import Final, final

OPEN_END: Final = b"\0"
"""The end of a range that has none, in requests and in permissions."""

Range = tuple[bytes, bytes]
"""Key and range end as in a permission: an empty end is the key alone, ``OPEN_END`` all keys from it on."""


@final
class Coverage:
    """The union of some ranges.

    Invariant: ``_begins`` is sorted, the ranges are apart from each other, and only the last may be open:
    then its end is empty.
    """

    __slots__ = ("_begins", "_ends")

    def __init__(self, ranges: Iterable[Range]) -> None:
        self._begins: Final[list[bytes]] = []
        self._ends: Final[list[bytes]] = []
        for begin, end in sorted(filter(None, map(_bounds, ranges))):
            self._append(begin, end)

    def _append(self, begin: bytes, end: bytes) -> None:
        ends = self._ends
        if not ends or (ends[-1] and ends[-1] < begin):
            self._begins.append(begin)
            ends.append(end)
        elif ends[-1] and (not end or end > ends[-1]):
            ends[-1] = end

    def has(self, key: bytes) -> bool:
        """Whether the key is covered."""
        at = bisect_right(self._begins, key) - 1
        if at < 0:
            return False
        end = self._ends[at]
        return not end or key < end

    def covers(self, key: bytes, range_end: bytes) -> bool:
        """Whether all keys of a request's range are covered: of ``[key, range_end)``, all from ``key`` on if
        the end is ``OPEN_END``, the key alone if it is empty.

        A range whose end is not behind its key is covered where the key is, as in etcd.
        """
        at = bisect_right(self._begins, key) - 1
        if at < 0:
            return False
        end = self._ends[at]
        if not end:
            return True
        if range_end == OPEN_END or key >= end:
            return False
        return range_end <= end

    def ranges(self) -> list[tuple[bytes, bytes]]:
        """The merged ranges; an empty end is none."""
        return list(zip(self._begins, self._ends, strict=True))


def _bounds(granted: Range) -> tuple[bytes, bytes] | None:
    """Begin and end (empty: none) of a permission's range; None if it covers nothing."""
    key, range_end = granted
    if not key:
        return None
    if not range_end:
        return key, key + b"\0"
    if range_end == OPEN_END:
        return key, b""
    return (key, range_end) if key < range_end else None


def is_valid(key: bytes, range_end: bytes) -> bool:
    """Whether a permission's range covers anything (etcd 3.6 ``isValidPermissionRange``)."""
    return _bounds((key, range_end)) is not None
