"""What a KV request must satisfy before it is proposed; each function returns the error or None.

Returned, not raised: these run for every request. Source: etcd ``server/etcdserver/api/v3rpc/key.go``.
"""

from collections.abc import Callable
from typing import Any, Final

from kvorum import errors
from kvorum.apply.txn import DELETE_RANGE, PUT, RANGE, TXN, OpenedTxn, Operation
from kvorum.errors import EtcdError
from kvorum.proto.rpc_pb2 import DeleteRangeRequest, PutRequest, RangeRequest

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


def check_txn(opened: OpenedTxn, max_ops: int) -> EtcdError | None:
    """A transaction: bounded in every list, its operations valid, no key written twice.

    What an outer transaction uses of ``max_ops`` its nested ones cannot.
    """
    return _check_ops(opened, max_ops) or _check_overlaps(opened)


def _check_ops(opened: OpenedTxn, max_ops: int) -> EtcdError | None:
    used = max(len(opened.compares), len(opened.success), len(opened.failure))
    if used > max_ops:
        return errors.ERR_TOO_MANY_OPS
    if not all(compare.key for compare in opened.compares):
        return errors.ERR_EMPTY_KEY
    for kind, part in (*opened.success, *opened.failure):
        if kind == TXN:
            error = _check_ops(part, max_ops - used)
        else:
            check = _CHECKS.get(kind)
            error = errors.ERR_KEY_NOT_FOUND if check is None else check(part)
        if error is not None:
            return error
    return None


_CHECKS: Final[dict[str | None, Callable[[Any], EtcdError | None]]] = {
    RANGE: check_range,
    PUT: check_put,
    DELETE_RANGE: check_delete,
}


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


def _check_overlaps(opened: OpenedTxn) -> EtcdError | None:
    try:
        _written(opened.success)
        _written(opened.failure)
    except _OverlapError:
        return errors.ERR_DUPLICATE_KEY
    return None


def _written(operations: list[Operation]) -> tuple[set[bytes], _Deletes]:
    """The keys put and the ranges deleted by one branch and everything nested in it.

    The two branches of a nested transaction exclude each other, so both may write a key. A delete of this
    level collides with any put at or below it; what a nested transaction deletes collides with puts of this
    level only.

    Raises:
        _OverlapError: a key would be written twice.
    """
    deletes = _Deletes()
    keys: list[bytes] = []
    nested: list[OpenedTxn] = []
    for kind, part in operations:
        if kind == PUT:
            keys.append(part.key)
        elif kind == DELETE_RANGE:
            deletes.add(part)
        elif kind == TXN:
            nested.append(part)
    puts: set[bytes] = set()
    for opened in nested:
        then_puts, then_deletes = _written(opened.success)
        else_puts, else_deletes = _written(opened.failure)
        below = then_puts | else_puts
        if below & puts or any(deletes.covers(key) for key in below):
            raise _OverlapError
        puts |= below
        deletes.update(then_deletes)
        deletes.update(else_deletes)
    distinct = set(keys)
    if len(distinct) < len(keys) or distinct & puts or distinct & deletes.keys:
        raise _OverlapError
    if deletes.ranges and any(deletes.covers(key) for key in keys):
        raise _OverlapError
    return puts | distinct, deletes
