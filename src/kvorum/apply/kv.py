"""Put, DeleteRange and Compact as operations on the store.

Each takes the parsed request and a transaction and returns ``(revision, bytes)``: the revision for the
response's header, and the response without its header. Source: etcd ``server/etcdserver/apply.go``.
"""

from typing import Final, Protocol

from kvorum import errors
from kvorum.apply.range import Readable, value_of
from kvorum.mvcc.keyvalue import parse
from kvorum.mvcc.store import WriteTxn
from kvorum.proto.rpc_pb2 import DeleteRangeRequest, PutRequest
from kvorum.proto.wire import varint

_PREV_KV_TAG: Final = b"\x12"
_DELETED_TAG: Final = b"\x10"
_PREV_KVS_TAG: Final = b"\x1a"


class Leases(Protocol):
    """The leases that exist, by ID."""

    def __contains__(self, lease_id: int, /) -> bool:
        """Whether the lease exists."""


def check_put(view: Readable, request: PutRequest, leases: Leases) -> None:
    """Refuse what ``put`` could not do.

    Raises:
        EtcdError: ERR_KEY_NOT_FOUND if the key is to keep what it does not have, ERR_LEASE_NOT_FOUND.
    """
    if (request.ignore_value or request.ignore_lease) and view.get(request.key) is None:
        raise errors.ERR_KEY_NOT_FOUND
    check_lease(request, leases)


def check_lease(request: PutRequest, leases: Leases) -> None:
    """Refuse a lease that does not exist.

    Raises:
        EtcdError: ERR_LEASE_NOT_FOUND.
    """
    if request.lease and request.lease not in leases:
        raise errors.ERR_LEASE_NOT_FOUND


def put(txn: WriteTxn, request: PutRequest) -> tuple[int, bytes]:
    """Write a key; ``check_put`` has passed at the same state of the store."""
    key, value, lease = request.key, request.value, request.lease
    if not (request.prev_kv or request.ignore_value or request.ignore_lease):
        txn.put(key, value, lease)
        return txn.main, b""
    found = txn.range(key, b"").kvs
    previous = found[0] if found else None
    if request.ignore_value:
        assert previous is not None, "check_put lets no ignore_value pass without a key"
        value = value_of(previous)
    if request.ignore_lease:
        assert previous is not None, "check_put lets no ignore_lease pass without a key"
        lease = parse(previous).lease
    txn.put(key, value, lease)
    if not request.prev_kv or previous is None:
        return txn.main, b""
    return txn.main, _PREV_KV_TAG + varint(len(previous)) + previous


def delete_range(txn: WriteTxn, request: DeleteRangeRequest) -> tuple[int, bytes]:
    """Delete the keys of a range; the revision moves only if there were any."""
    if request.prev_kv:
        previous = txn.delete_range(request.key, request.range_end)
        deleted = len(previous)
    else:
        previous = []
        deleted = txn.delete_range_count(request.key, request.range_end)
    parts = [_DELETED_TAG + varint(deleted)] if deleted else []
    parts += [_PREV_KVS_TAG + varint(len(kv)) + kv for kv in previous]
    return txn.revision, b"".join(parts)
