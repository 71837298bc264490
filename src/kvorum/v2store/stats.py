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


@final
class Stats:
    """The counters, by the numbers above."""

    __slots__ = ("counts",)

    def __init__(self) -> None:
        self.counts: Final = [0] * len(NAMES)

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

    def to_json(self, watchers: int) -> str:
        """etcd's JSON."""
        counts = "".join([f'"{name}":{count},' for name, count in zip(NAMES, self.counts, strict=True)])
        return f'{{{counts}"watchers":{watchers}}}'
