"""What was done to the store, counted (``/v2/stats/store``).

Counts of writes are functions of the log and are stored with it; counts of reads are this process's own.
Source: etcd 3.4.23 ``v2store/stats.go``.
"""

import struct
from typing import Any, Final, final

GET_SUCCESS: Final = 0
GET_FAIL: Final = 1
SET_SUCCESS: Final = 2
SET_FAIL: Final = 3
DELETE_SUCCESS: Final = 4
DELETE_FAIL: Final = 5
UPDATE_SUCCESS: Final = 6
UPDATE_FAIL: Final = 7
CREATE_SUCCESS: Final = 8
CREATE_FAIL: Final = 9
COMPARE_AND_SWAP_SUCCESS: Final = 10
COMPARE_AND_SWAP_FAIL: Final = 11
COMPARE_AND_DELETE_SUCCESS: Final = 12
COMPARE_AND_DELETE_FAIL: Final = 13
EXPIRE_COUNT: Final = 14

NAMES: Final = (
    "getsSuccess",
    "getsFail",
    "setsSuccess",
    "setsFail",
    "deleteSuccess",
    "deleteFail",
    "updateSuccess",
    "updateFail",
    "createSuccess",
    "createFail",
    "compareAndSwapSuccess",
    "compareAndSwapFail",
    "compareAndDeleteSuccess",
    "compareAndDeleteFail",
    "expireCount",
)
"""etcd's names, by the numbers above; ``watchers`` follows."""

_PACKED: Final = struct.Struct(">14Q")
NOTHING_DONE: Final = bytes(_PACKED.size)
"""What ``Stats.pack`` makes of index 0 and no writes."""


@final
class Stats:
    """The counters, by the numbers above, and how many of the reads listed all that is below."""

    __slots__ = ("counts", "recursive_reads")

    def __init__(self) -> None:
        self.counts: Final = [0] * len(NAMES)
        self.recursive_reads = 0

    def pack(self, index: int) -> bytes:
        """The store's index and the counts of writes, as they are stored."""
        return _PACKED.pack(index, *self.counts[SET_SUCCESS:])

    def unpack(self, record: bytes) -> int:
        """Take the counts of writes from what ``pack`` made; returns the index."""
        index, *counts = _PACKED.unpack(record)
        self.counts[SET_SUCCESS:] = counts
        return int(index)

    def fill(self, fields: dict[str, Any]) -> None:
        """Take the counts from etcd's JSON; what is not there is zero."""
        self.counts[:] = [int(fields.get(name, 0)) for name in NAMES]

    def reads(self) -> dict[tuple[str, ...], float]:
        """How many reads this process did, by etcd's kinds; none of kinds without (metrics)."""
        plain = self.counts[GET_SUCCESS] + self.counts[GET_FAIL] - self.recursive_reads
        kinds = (("get", plain), ("getRecursive", self.recursive_reads))
        return {(kind,): total for kind, total in kinds if total}

    def writes(self) -> dict[tuple[str, ...], float]:
        """How many writes there were by action, refused ones as well; none of actions without (metrics)."""
        counts = self.counts
        totals: dict[tuple[str, ...], float] = {
            (action,): counts[success] + counts[success + 1]
            for action, success in (
                ("set", SET_SUCCESS),
                ("delete", DELETE_SUCCESS),
                ("update", UPDATE_SUCCESS),
                ("create", CREATE_SUCCESS),
                ("compareAndSwap", COMPARE_AND_SWAP_SUCCESS),
                ("compareAndDelete", COMPARE_AND_DELETE_SUCCESS),
            )
        }
        return {labels: total for labels, total in totals.items() if total}

    def to_json(self, watchers: int) -> str:
        """etcd's JSON."""
        counts = "".join([f'"{name}":{count},' for name, count in zip(NAMES, self.counts, strict=True)])
        return f'{{{counts}"watchers":{watchers}}}'
