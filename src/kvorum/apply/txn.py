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
from kvorum.apply.alarms import cost_of_put
from kvorum.apply.range import Readable
from kvorum.mvcc.keyvalue import parse
from kvorum.mvcc.store import WriteTxn
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


PUT: Final = "request_put"
RANGE: Final = "request_range"
DELETE_RANGE: Final = "request_delete_range"
TXN: Final = "request_txn"

Operation = tuple[str | None, Any]
"""The kind of an operation (a field of RequestOp; None for an empty one) and its request."""


@final
class OpenedTxn:
    """A TxnRequest taken apart once, because asking a message for its parts costs more than using them.

    A nested transaction stands in its operation as an OpenedTxn.
    """

    __slots__ = ("compares", "failure", "success")

    def __init__(self, request: TxnRequest) -> None:
        self.compares: Final[Sequence[Compare]] = request.compare
        self.success: Final = _open_all(request.success)
        self.failure: Final = _open_all(request.failure)

    @property
    def is_read_only(self) -> bool:
        """Whether both branches hold nothing but ranges; such a transaction needs no log entry.

        A nested transaction counts as a write whatever it holds, as in etcd.
        """
        return all(kind == RANGE for kind, _ in self.success) and all(
            kind == RANGE for kind, _ in self.failure
        )

    @property
    def is_serializable(self) -> bool:
        """Whether a read-only transaction asks for nothing that must be confirmed with the cluster."""
        return all(request.serializable for _, request in (*self.success, *self.failure))

    @property
    def cost_bytes(self) -> int:
        """Bytes by which the dearer branch may grow the backend (etcd ``costTxn``: not nested ones)."""
        return max(
            sum(cost_of_put(request.key, request.value) for kind, request in branch if kind == PUT)
            for branch in (self.success, self.failure)
        )


def _open_all(ops: Sequence[RequestOp]) -> list[Operation]:
    opened: list[Operation] = []
    for op in ops:
        kind = op.WhichOneof("request")
        if kind == TXN:
            opened.append((kind, OpenedTxn(op.request_txn)))
        else:
            opened.append((kind, None if kind is None else getattr(op, kind)))
    return opened


@final
class Branch:
    """A transaction whose compares have been decided: the operations that run, nested ones decided too."""

    __slots__ = ("operations", "succeeded")

    def __init__(self, succeeded: bool, operations: list[Operation]) -> None:
        self.succeeded = succeeded
        self.operations = operations


def check(view: Readable, opened: OpenedTxn, leases: kv.Leases) -> Branch:
    """Decide what runs, and refuse it if any of it cannot.

    Raises:
        EtcdError: a check failed (ERR_KEY_NOT_FOUND, ERR_LEASE_NOT_FOUND, ERR_COMPACTED, ERR_FUTURE_REV);
            nothing was written.
    """
    branch = decide(view, opened)
    _check_puts(view, branch, leases)
    _check_ranges(view, branch)
    return branch


def execute_write(txn: WriteTxn, branch: Branch) -> tuple[int, bytes]:
    """Run what ``check`` has let pass at the same state of the store."""
    body = _body(txn, branch)
    return txn.revision, body


def execute_read_only(view: Readable, opened: OpenedTxn, revision: int) -> tuple[int, bytes]:
    """Run a transaction of ranges only, at the head ``revision``.

    Raises:
        EtcdError: ERR_COMPACTED, ERR_FUTURE_REV.
    """
    branch = decide(view, opened)
    _check_ranges(view, branch)
    return revision, _body(view, branch)


def decide(view: Readable, opened: OpenedTxn) -> Branch:
    """Choose the branch of a transaction and of every one nested in the chosen branch."""
    succeeded = all(_holds(view, compare) for compare in opened.compares)
    operations = opened.success if succeeded else opened.failure
    return Branch(
        succeeded,
        [(kind, decide(view, part) if kind == TXN else part) for kind, part in operations],
    )


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


def _check_puts(view: Readable, branch: Branch, leases: kv.Leases) -> None:
    for kind, part in branch.operations:
        if kind == PUT:
            if part.lease or part.ignore_value or part.ignore_lease:
                kv.check_put(view, part, leases)
        elif kind == TXN:
            _check_puts(view, part, leases)


def _check_ranges(view: Readable, branch: Branch) -> None:
    for kind, part in branch.operations:
        if kind == RANGE:
            if part.revision:
                _check_revision(view, part)
        elif kind == TXN:
            _check_ranges(view, part)


def _check_revision(view: Readable, request: RangeRequest) -> None:
    """A range inside a transaction must be possible before anything is written; negative is compacted."""
    if request.revision < 0:
        raise errors.ERR_COMPACTED
    ranges.select(view, RangeRequest(key=request.key, revision=request.revision, count_only=True))


def _body(view: "Readable | WriteTxn", branch: Branch) -> bytes:
    """Run the branch; the bytes of its TxnResponse after the header."""
    parts = [_SUCCEEDED] if branch.succeeded else []
    plain_put = b""
    for kind, part in branch.operations:
        if kind == PUT:
            assert isinstance(view, WriteTxn), "a read-only transaction holds nothing but ranges"
            revision, body = kv.put(view, part)
            if body:
                parts.append(_response(_PUT_TAG, revision, body))
            else:
                # All puts of a transaction have its revision: those without prev_kv answer alike.
                plain_put = plain_put or _response(_PUT_TAG, revision, b"")
                parts.append(plain_put)
        elif kind == RANGE:
            revision, body = ranges.execute(view, part)
            parts.append(_response(_RANGE_TAG, revision, body))
        elif kind == TXN:
            parts.append(delimited(_RESPONSES_TAG, delimited(_TXN_TAG, _EMPTY_HEADER + _body(view, part))))
        else:
            assert kind == DELETE_RANGE, "an empty operation is refused before it is proposed"
            assert isinstance(view, WriteTxn), "a read-only transaction holds nothing but ranges"
            revision, body = kv.delete_range(view, part)
            parts.append(_response(_DELETE_RANGE_TAG, revision, body))
    return b"".join(parts)


def _response(tag: bytes, revision: int, body: bytes) -> bytes:
    """One ResponseOp in its field of the TxnResponse; inner headers carry the revision and nothing else."""
    header = delimited(b"\x0a", b"\x18" + varint(revision))
    return delimited(_RESPONSES_TAG, delimited(tag, header + body))
