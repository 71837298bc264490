"""A revision in twelve bytes.

A revision names one change of one key: ``main`` is the transaction, ``sub`` the change's place inside it, and
a flag tells a deletion (tombstone) from a put. Packed as

    main, 8 bytes big-endian | sub << 1 | tombstone, 4 bytes big-endian

it is at once the key in LMDB, the state of a key in the index, and one record of a key's history: packed
revisions compare as bytes in the order in which the changes were made, so that nothing is decoded to compare.
etcd's form of the same ("main '_' sub", 17 bytes, and 't' behind a tombstone's; ``server/mvcc/revision.go``)
costs 16 bytes more per key in memory and is made from it where bytes leave: in hashes and in bbolt files.
"""

from struct import Struct
from typing import Final

REVISION_BYTES: Final = 12
MAX_SUB: Final = (1 << 31) - 1
"""Changes one transaction can make: sub has 31 bits."""

_REVISION: Final = Struct(">QI")
_ETCD_KEY: Final = Struct(">QcQ")
pack_revision: Final = _REVISION.pack
"""``pack_revision(main, sub << 1 | tombstone)``, for hot paths."""
unpack_revision: Final = _REVISION.unpack_from
"""The opposite: a tuple (main, sub << 1 | tombstone) from the bytes at an offset."""


def revision(main: int, sub: int, tombstone: bool = False) -> bytes:
    """Pack a revision."""
    return _REVISION.pack(main, sub << 1 | tombstone)


def main_of(packed: bytes | bytearray) -> int:
    """The main revision of a packed one."""
    return int.from_bytes(packed[:8], "big")


def sub_of(packed: bytes | bytearray) -> int:
    """The sub revision of a packed one."""
    return int.from_bytes(packed[8:12], "big") >> 1


def is_tombstone(packed: bytes | bytearray) -> bool:
    """Whether a packed revision is a deletion."""
    return packed[11] & 1 == 1


def after_main(main: int) -> bytes:
    """The bound above every revision of the transaction ``main`` and of those before it."""
    return _REVISION.pack(main + 1, 0)


def etcd_key(packed: bytes) -> bytes:
    """The revision as etcd's ``key`` bucket spells it."""
    main, rest = _REVISION.unpack_from(packed)
    if rest & 1:
        return _ETCD_KEY.pack(main, b"_", rest >> 1) + b"t"
    return _ETCD_KEY.pack(main, b"_", rest >> 1)


def from_etcd_key(key: bytes) -> bytes:
    """A packed revision from etcd's spelling.

    Raises:
        ValueError: the bytes are no revision, or its sub is larger than MAX_SUB.
    """
    tombstone = len(key) == 18 and key[17:] == b"t"
    if not (len(key) == 17 or tombstone) or key[8:9] != b"_":
        raise ValueError(f"no revision: {key!r}")
    main, _, sub = _ETCD_KEY.unpack_from(key)
    if sub > MAX_SUB:
        raise ValueError(f"sub revision {sub} is too large")
    return _REVISION.pack(main, sub << 1 | tombstone)
