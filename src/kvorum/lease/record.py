"""A lease as the table ``lease`` holds it: ``leasepb.Lease`` at the id, eight bytes big-endian.

Source: etcd ``server/lease/lessor.go`` (persistTo, int64ToBytes); a checkpoint's remaining TTL is stored
from the first, as etcd 3.6 does.
"""

from collections.abc import Iterator
from typing import Final, Protocol

from kvorum.proto.lease_pb2 import Lease
from kvorum.proto.wire import varint

LEASE_TABLE: Final = b"lease"


class Table(Protocol):
    """The table of the store's database (``mvcc.backend.Table``)."""

    def put(self, key: bytes, value: bytes) -> None:
        """Set the value at a key."""

    def delete(self, key: bytes) -> bool:
        """Remove a key; False if it was not there."""

    def iterate(self, start: bytes = b"", end: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """The records in order."""


def key_of_id(lease_id: int) -> bytes:
    """The table's key of a lease."""
    return lease_id.to_bytes(8, "big", signed=True)


def encode(lease_id: int, ttl: int, remaining: int) -> bytes:
    """A lease's record; TTLs in seconds, a remaining TTL of 0 for none."""
    fields = b"\x08" + varint(lease_id) + b"\x10" + varint(ttl)
    return fields + b"\x18" + varint(remaining) if remaining else fields


def load(table: Table) -> Iterator[tuple[int, int, int]]:
    """The leases of the table: (id, ttl, remaining TTL or 0)."""
    for _, value in table.iterate():
        lease = Lease.FromString(value)
        yield lease.ID, lease.TTL, lease.RemainingTTL
