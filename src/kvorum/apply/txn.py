"""Transactions: which branches run is decided first, then they are checked, then they run as one revision.

The compares of a nested transaction see the store as it was before the outer one changed anything; its
operations see what earlier operations of the same request did. An operation that fails its check fails the
request before anything is written. Source: etcd ``server/etcdserver/apply.go`` (Txn, compareToPath,
checkRequests, applyTxn).
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, final

from kvorum import errors
from kvorum.apply import kv
from kvorum.apply import range as ranges
from kvorum.apply.range import Readable
from kvorum.mvcc.keyvalue import parse
from kvorum.mvcc.store import Store, WriteTxn
from kvorum.proto.rpc_pb2 import Compare, RangeRequest, RequestOp, TxnRequest
from kvorum.proto.wire import delimited, varint

_SUCCEEDED: Final = b"\x10\x01"
_RESPONSES_TAG: Final = b"\x1a"
_RANGE_TAG: Final = b"\x0a"
_PUT_TAG: Final = b"\x12"
_DELETE_RANGE_TAG: Final = b"\x1a"
_TXN_TAG: Final = b"\x22"
_EMPTY_HEADER: Final = b"\x0a\x00"

_VALUE: Final = int(Compare.CompareTarget.VALUE)
_ABSENT: Final = b""
"""The serialized KeyValue of a key that does not exist: all zeros."""

# target -> (what the key has, what the request names)
_OPERANDS: Final[dict[int, tuple[Callable[[bytes], Any], Callable[[Compare], Any]]]] = {
    int(Compare.CompareTarget.VERSION): (lambda kv: parse(kv).version, lambda c: c.version),
    int(Compare.CompareTarget.CREATE): (lambda kv: parse(kv).create_revision, lambda c: c.create_revision),
    int(Compare.CompareTarget.MOD): (lambda kv: parse(kv).mod_revision, lambda c: c.mod_revision),
    _VALUE: (ranges.value_of, lambda c: c.value),
    int(Compare.CompareTarget.LEASE): (lambda kv: parse(kv).lease, lambda c: c.lease),
}
_HOLDS: Final[dict[int, Callable[[Any, Any], bool]]] = {
    int(Compare.CompareResult.EQUAL): lambda a, b: bool(a == b),
    int(Compare.CompareResult.GREATER): lambda a, b: bool(a > b),
    int(Compare.CompareResult.LESS): lambda a, b: bool(a < b),
    int(Compare.CompareResult.NOT_EQUAL): lambda a, b: bool(a != b),
}

# What etcd does with enum values of a later version: an unknown target compares equal, an unknown result
# holds.
_ALWAYS_EQUAL: Final[tuple[Callable[[bytes], Any], Callable[[Compare], Any]]] = (
    lambda _: 0,
    lambda _: 0,
)


def _anything(_has: Any, _wanted: Any) -> bool:
    return True


@final
class Branch:
    """A transaction whose compares have been decided: the operations that run, nested ones decided too."""

    __slots__ = ("nested", "operations", "succeeded")

    def __init__(
        self, succeeded: bool, operations: Sequence[RequestOp], nested: list["Branch | None"]
    ) -> None:
        self.succeeded = succeeded
        self.operations = operations
        self.nested = nested


def is_read_only(request: TxnRequest) -> bool:
    """Whether both branches hold nothing but ranges; such a transaction needs no log entry.

    A nested transaction counts as a write whatever it holds, as in etcd.
    """
    return all(op.WhichOneof("request") == "request_range" for op in (*request.success, *request.failure))


def is_serializable(request: TxnRequest) -> bool:
    """Whether a read-only transaction asks for nothing that must be confirmed with the cluster."""
    return all(op.request_range.serializable for op in (*request.success, *request.failure))


def execute_write(store: Store, request: TxnRequest) -> tuple[int, bytes]:
    """Run a transaction that may write, as one revision.

    Raises:
        EtcdError: a check failed (ERR_KEY_NOT_FOUND, ERR_LEASE_NOT_FOUND, ERR_COMPACTED, ERR_FUTURE_REV);
        nothing
            was written.
    """
    view = store.read()
    branch = decide(view, request)
    _check_puts(view, branch)
    _check_ranges(view, branch)
    txn = store.write()
    try:
        body = _body(txn, branch)
        revision = txn.revision
    finally:
        txn.end()
    return revision, body


def execute_read_only(view: Readable, request: TxnRequest, revision: int) -> tuple[int, bytes]:
    """Run a transaction of ranges only, at the head ``revision``.

    Raises:
        EtcdError: ERR_COMPACTED, ERR_FUTURE_REV.
    """
    branch = decide(view, request)
    _check_ranges(view, branch)
    return revision, _body(view, branch)


def decide(view: Readable, request: TxnRequest) -> Branch:
    """Choose the branch of ``request`` and of every transaction nested in the chosen branch."""
    succeeded = all(_holds(view, compare) for compare in request.compare)
    operations = request.success if succeeded else request.failure
    nested = [
        decide(view, op.request_txn) if op.WhichOneof("request") == "request_txn" else None
        for op in operations
    ]
    return Branch(succeeded, operations, nested)


def _holds(view: Readable, compare: Compare) -> bool:
    """Whether a comparison holds for every key of its range (for an absent key: for zeros, never for a
    value).
    """
    of_key, of_request = _OPERANDS.get(compare.target, _ALWAYS_EQUAL)
    holds = _HOLDS.get(compare.result, _anything)
    kvs = view.range(compare.key, compare.range_end, keys_only=compare.target != _VALUE).kvs
    if not kvs and compare.target == _VALUE:
        return False
    wanted = of_request(compare)
    return all(holds(of_key(found), wanted) for found in kvs or (_ABSENT,))


def _check_puts(view: Readable, branch: Branch) -> None:
    for op, nested in zip(branch.operations, branch.nested, strict=True):
        if nested is not None:
            _check_puts(view, nested)
        elif op.WhichOneof("request") == "request_put":
            kv.check_put(view, op.request_put)


def _check_ranges(view: Readable, branch: Branch) -> None:
    for op, nested in zip(branch.operations, branch.nested, strict=True):
        if nested is not None:
            _check_ranges(view, nested)
        elif op.WhichOneof("request") == "request_range" and op.request_range.revision:
            _check_revision(view, op.request_range)


def _check_revision(view: Readable, request: RangeRequest) -> None:
    """A range inside a transaction must be possible before anything is written; negative is compacted."""
    if request.revision < 0:
        raise errors.ERR_COMPACTED
    ranges.select(view, RangeRequest(key=request.key, revision=request.revision, count_only=True))


def _body(view: "Readable | WriteTxn", branch: Branch) -> bytes:
    """Run the branch; the bytes of its TxnResponse after the header."""
    parts = [_SUCCEEDED] if branch.succeeded else []
    for op, nested in zip(branch.operations, branch.nested, strict=True):
        response = _run(view, op, nested)
        parts.append(_RESPONSES_TAG + varint(len(response)) + response)
    return b"".join(parts)


def _run(view: "Readable | WriteTxn", op: RequestOp, nested: Branch | None) -> bytes:
    """Run one operation; the bytes of its ResponseOp. Inner headers carry the revision and nothing else."""
    if nested is not None:
        return delimited(_TXN_TAG, _EMPTY_HEADER + _body(view, nested))
    kind = op.WhichOneof("request")
    if kind == "request_range":
        revision, body = ranges.execute(view, op.request_range)
        return delimited(_RANGE_TAG, _inner_header(revision) + body)
    assert isinstance(view, WriteTxn), "a read-only transaction holds nothing but ranges"
    if kind == "request_put":
        revision, body = kv.put(view, op.request_put)
        return delimited(_PUT_TAG, _inner_header(revision) + body)
    assert kind == "request_delete_range", "an empty operation is refused before it is proposed"
    revision, body = kv.delete_range(view, op.request_delete_range)
    return delimited(_DELETE_RANGE_TAG, _inner_header(revision) + body)


def _inner_header(revision: int) -> bytes:
    return delimited(b"\x0a", b"\x18" + varint(revision))
