"""What a KV request must satisfy before it is proposed; each function returns the error or None.

Returned, not raised: these run for every request. Source: etcd ``server/etcdserver/api/v3rpc/key.go``.
"""

from collections.abc import Iterable

from kvorum import errors
from kvorum.errors import EtcdError
from kvorum.proto.rpc_pb2 import DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest

_SORT_ORDERS = frozenset(RangeRequest.SortOrder.values())
_SORT_TARGETS = frozenset(RangeRequest.SortTarget.values())


def check_range(request: RangeRequest) -> EtcdError | None:
    """A range needs a key and a known order."""
    if not request.key:
        return errors.ERR_EMPTY_KEY
    if request.sort_order not in _SORT_ORDERS or request.sort_target not in _SORT_TARGETS:
        return errors.ERR_INVALID_SORT_OPTION
    return None


def check_put(request: PutRequest) -> EtcdError | None:
    """A put needs a key, and no value or lease if the present one is to be kept."""
    if not request.key:
        return errors.ERR_EMPTY_KEY
    if request.ignore_value and request.value:
        return errors.ERR_VALUE_PROVIDED
    if request.ignore_lease and request.lease:
        return errors.ERR_LEASE_PROVIDED
    return None


def check_delete(request: DeleteRangeRequest) -> EtcdError | None:
    """A delete needs a key."""
    return None if request.key else errors.ERR_EMPTY_KEY


def check_txn(request: TxnRequest, max_ops: int) -> EtcdError | None:
    """A transaction: bounded in every list, its operations valid, no key written twice.

    What an outer transaction uses of ``max_ops`` its nested ones cannot.
    """
    return _check_ops(request, max_ops) or _check_overlaps(request)


def _check_ops(request: TxnRequest, max_ops: int) -> EtcdError | None:
    used = max(len(request.compare), len(request.success), len(request.failure))
    if used > max_ops:
        return errors.ERR_TOO_MANY_OPS
    if not all(compare.key for compare in request.compare):
        return errors.ERR_EMPTY_KEY
    for op in (*request.success, *request.failure):
        error = _check_op(op, max_ops - used)
        if error is not None:
            return error
    return None


def _check_op(op: RequestOp, max_ops: int) -> EtcdError | None:
    match op.WhichOneof("request"):
        case "request_range":
            return check_range(op.request_range)
        case "request_put":
            return check_put(op.request_put)
        case "request_delete_range":
            return check_delete(op.request_delete_range)
        case "request_txn":
            return _check_ops(op.request_txn, max_ops)
        case _:
            return errors.ERR_KEY_NOT_FOUND


class _OverlapError(Exception):
    """A key would be written twice by one transaction."""


class _Deletes:
    """The intervals that a branch deletes: single keys apart, so that asking about one is cheap."""

    __slots__ = ("keys", "ranges")

    def __init__(self) -> None:
        self.keys: set[bytes] = set()
        self.ranges: list[tuple[bytes, bytes]] = []

    def add(self, request: DeleteRangeRequest) -> None:
        if request.range_end:
            self.ranges.append((request.key, request.range_end))
        else:
            self.keys.add(request.key)

    def update(self, other: "_Deletes") -> None:
        self.keys |= other.keys
        self.ranges += other.ranges

    def covers(self, key: bytes) -> bool:
        # An end of "\0" deletes from the key on, but etcd's intervals take it as it stands: it covers
        # nothing.
        return key in self.keys or any(start <= key < end for start, end in self.ranges)


def _check_overlaps(request: TxnRequest) -> EtcdError | None:
    try:
        _written(request.success)
        _written(request.failure)
    except _OverlapError:
        return errors.ERR_DUPLICATE_KEY
    return None


def _written(ops: Iterable[RequestOp]) -> tuple[set[bytes], _Deletes]:
    """The keys put and the ranges deleted by one branch and everything nested in it.

    The two branches of a nested transaction exclude each other, so both may write a key. A delete of this
    level collides with any put at or below it; what a nested transaction deletes collides with puts of this
    level only.

    Raises:
        _OverlapError: a key would be written twice.
    """
    ops = list(ops)
    deletes = _Deletes()
    for op in ops:
        if op.WhichOneof("request") == "request_delete_range":
            deletes.add(op.request_delete_range)
    puts: set[bytes] = set()
    for op in ops:
        if op.WhichOneof("request") != "request_txn":
            continue
        then_puts, then_deletes = _written(op.request_txn.success)
        else_puts, else_deletes = _written(op.request_txn.failure)
        nested = then_puts | else_puts
        if nested & puts or any(deletes.covers(key) for key in nested):
            raise _OverlapError
        puts |= nested
        deletes.update(then_deletes)
        deletes.update(else_deletes)
    for op in ops:
        if op.WhichOneof("request") != "request_put":
            continue
        key = op.request_put.key
        if key in puts or deletes.covers(key):
            raise _OverlapError
        puts.add(key)
    return puts, deletes
