"""etcd as a dictionary: what each entry of the log should have done, and what it should have answered.

The model is fed with the entries that members apply, in the order of their indexes, each once. It is written
for reading and not for speed, takes nothing from ``mvcc``, ``apply`` or ``lease``, and speaks protobuf with
everybody. From its history any past revision can be read.

What it knows: put, delete, transaction (compares of version, create, mod and value; puts, ranges and deletes
in both branches), compaction, lease grant and revocation. Other requests change no key.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, final

from kvorum.proto.kv_pb2 import KeyValue
from kvorum.proto.raft_internal_pb2 import InternalRaftRequest
from kvorum.proto.rpc_pb2 import (
    Compare,
    DeleteRangeRequest,
    DeleteRangeResponse,
    PutRequest,
    PutResponse,
    RangeRequest,
    RangeResponse,
    ResponseHeader,
    ResponseOp,
    TxnRequest,
    TxnResponse,
)
from kvorum.raft.types import ENTRY_NORMAL, Entry

LEASE_NOT_FOUND: Final = "etcdserver: requested lease not found"
LEASE_EXISTS: Final = "etcdserver: lease already exists"
COMPACTED: Final = "etcdserver: mvcc: required revision has been compacted"
FUTURE: Final = "etcdserver: mvcc: required revision is a future revision"


@final
@dataclass(frozen=True)
class Value:
    """A key at some revision."""

    create: int
    mod: int
    version: int
    value: bytes
    lease: int = 0


@final
@dataclass(frozen=True)
class Change:
    """One key changed at one revision; ``now`` is None for a deletion."""

    revision: int
    key: bytes
    now: Value | None


@final
@dataclass(frozen=True)
class Answer:
    """What applying an entry should have answered: an error's text, or a revision and a response."""

    revision: int
    response: object = None
    error: str = ""


class _RefusedError(Exception):
    """The request fails, and changes nothing."""


def in_range(key: bytes, start: bytes, end: bytes) -> bool:
    """Whether ``key`` is in etcd's range of ``start`` and ``end``."""
    if not end:
        return key == start
    return key >= start and (end == b"\0" or key < end)


@final
class Model:
    """The state after every entry so far, and all the past."""

    def __init__(self) -> None:
        self.revision = 1
        self.compacted = -1
        self.compactions: set[int] = set()
        self.keys: dict[bytes, Value] = {}
        self.past: dict[bytes, list[Change]] = {}
        self.changes: list[Change] = []
        self.leases: dict[int, int] = {}
        self.index_of_revision: list[int] = [0, 0]
        """The index of the entry that made each revision."""
        self.index = 0
        self._new: list[Change] = []

    # --- reading ------------------------------------------------------------------------------------------

    def at(self, key: bytes, revision: int) -> Value | None:
        """A key as of a revision."""
        history = self.past.get(key, [])
        position = bisect_right(history, revision, key=lambda change: change.revision)
        return history[position - 1].now if position else None

    def range(self, request: RangeRequest, revision: int) -> RangeResponse:
        """What a range request should see at ``revision``."""
        end = request.range_end
        at = request.revision or revision
        names = [request.key] if not end else sorted(k for k in self.past if in_range(k, request.key, end))
        found = [(name, now) for name in names if (now := self.at(name, at)) is not None]
        return self._response(request, found)

    def _response(self, request: RangeRequest, found: Sequence[tuple[bytes, Value]]) -> RangeResponse:
        shown = found[: request.limit] if request.limit else found
        if request.count_only:
            return RangeResponse(count=len(found))
        kvs = [message_of(key, now, with_value=not request.keys_only) for key, now in shown]
        return RangeResponse(kvs=kvs, count=len(found), more=len(shown) < len(found))

    def _range_now(self, request: RangeRequest) -> RangeResponse:
        """A range inside a transaction: what it has changed so far is seen."""
        names = sorted(key for key in self.keys if in_range(key, request.key, request.range_end))
        return self._response(request, [(name, self.keys[name]) for name in names])

    # --- applying -----------------------------------------------------------------------------------------

    def apply(self, entry: Entry, request: InternalRaftRequest | None) -> Answer:
        """Take in the next entry; ``request`` is what stands in it, None if it is no request."""
        assert entry.index == self.index + 1, "the model is fed in order"
        self.index = entry.index
        if request is None or entry.type != ENTRY_NORMAL:
            return Answer(0)
        self._new = []
        try:
            response = self._apply(request)
        except _RefusedError as refused:
            return Answer(0, error=str(refused))
        if self._new:
            self.revision += 1
            self.index_of_revision.append(entry.index)
            self.changes += self._new
            for change in self._new:
                self.past.setdefault(change.key, []).append(change)
        return Answer(self.revision, response)

    def _apply(self, request: InternalRaftRequest) -> object:
        kind = next(
            (field.name for field, _ in request.ListFields() if field.name not in ("header", "ID")), ""
        )
        if kind == "put":
            self._check_lease(request.put)
            return self._put(request.put)
        if kind == "delete_range":
            return self._delete(request.delete_range)
        if kind == "txn":
            return self._txn(request.txn)
        if kind == "compaction":
            self._compact(request.compaction.revision)
        elif kind == "lease_grant":
            if request.lease_grant.ID in self.leases:
                raise _RefusedError(LEASE_EXISTS)
            self.leases[request.lease_grant.ID] = request.lease_grant.TTL
        elif kind == "lease_revoke":
            self._revoke(request.lease_revoke.ID)
        return None

    def _check_lease(self, request: PutRequest) -> None:
        if request.lease and request.lease not in self.leases:
            raise _RefusedError(LEASE_NOT_FOUND)

    def _put(self, request: PutRequest) -> PutResponse:
        before = self.keys.get(request.key)
        main = self.revision + 1
        if before is None:
            now = Value(main, main, 1, request.value, request.lease)
        else:
            now = replace(
                before, mod=main, version=before.version + 1, value=request.value, lease=request.lease
            )
        self.keys[request.key] = now
        self._new.append(Change(main, request.key, now))
        if request.prev_kv and before is not None:
            return PutResponse(prev_kv=message_of(request.key, before))
        return PutResponse()

    def _delete(self, request: DeleteRangeRequest) -> DeleteRangeResponse:
        keys = sorted(key for key in self.keys if in_range(key, request.key, request.range_end))
        gone = [(key, self.keys[key]) for key in keys]
        self._remove(keys)
        previous = [message_of(key, was) for key, was in gone] if request.prev_kv else []
        return DeleteRangeResponse(deleted=len(gone), prev_kvs=previous)

    def _remove(self, keys: Iterable[bytes]) -> None:
        for key in keys:
            del self.keys[key]
            self._new.append(Change(self.revision + 1, key, None))

    def _txn(self, request: TxnRequest) -> TxnResponse:
        succeeded = all(self._holds(compare) for compare in request.compare)
        branch = request.success if succeeded else request.failure
        for op in branch:
            if op.WhichOneof("request") == "request_put":
                self._check_lease(op.request_put)
        responses = []
        for op in branch:
            kind = op.WhichOneof("request")
            if kind == "request_put":
                response = ResponseOp(response_put=self._put(op.request_put))
            elif kind == "request_range":
                response = ResponseOp(response_range=self._range_now(op.request_range))
            else:
                response = ResponseOp(response_delete_range=self._delete(op.request_delete_range))
            inner = getattr(response, response.WhichOneof("response") or "")
            revision = self.revision + 1 if self._new else self.revision
            inner.header.CopyFrom(ResponseHeader(revision=revision))
            responses.append(response)
        return TxnResponse(succeeded=succeeded, responses=responses)

    def _holds(self, compare: Compare) -> bool:
        now = self.keys.get(compare.key)
        target = compare.target
        if target == Compare.CompareTarget.VALUE:
            if now is None:
                return False
            return _compared(compare, now.value, compare.value)
        number = {
            int(Compare.CompareTarget.VERSION): (now.version if now else 0, compare.version),
            int(Compare.CompareTarget.CREATE): (now.create if now else 0, compare.create_revision),
            int(Compare.CompareTarget.MOD): (now.mod if now else 0, compare.mod_revision),
        }[int(target)]
        return _compared(compare, *number)

    def _compact(self, revision: int) -> None:
        if revision <= self.compacted:
            raise _RefusedError(COMPACTED)
        if revision > self.revision:
            raise _RefusedError(FUTURE)
        self.compacted = revision
        self.compactions.add(revision)

    def _revoke(self, lease: int) -> None:
        if self.leases.pop(lease, None) is None:
            raise _RefusedError(LEASE_NOT_FOUND)
        self._remove(sorted(key for key, now in self.keys.items() if now.lease == lease))


def _compared(compare: Compare, mine: object, theirs: object) -> bool:
    equal = mine == theirs
    if compare.result == Compare.CompareResult.EQUAL:
        return equal
    assert compare.result == Compare.CompareResult.NOT_EQUAL, "the workload compares for equality only"
    return not equal


def message_of(key: bytes, now: Value, *, with_value: bool = True) -> KeyValue:
    """The protobuf message of a key's value."""
    return KeyValue(
        key=key,
        create_revision=now.create,
        mod_revision=now.mod,
        version=now.version,
        value=now.value if with_value else b"",
        lease=now.lease,
    )
