"""What a service asks of its own member, as a client would: transactions, a confirmed look, leases, waiting.

Lock and Election are written in terms of the other services, in etcd as well as here
(``server/etcdserver/api/v3client``), so every step passes the checks that a client's request passes.
Coroutines may be cancelled at any point; what was proposed by then may still be applied.
"""

import asyncio
from typing import Final, final

from kvorum import errors
from kvorum.api.gate import Gate
from kvorum.api.v3 import checks
from kvorum.apply import range as ranges
from kvorum.apply.alarms import LEASE_COST_BYTES
from kvorum.apply.applier import Result
from kvorum.apply.txn import OpenedTxn
from kvorum.proto.kv_pb2 import KeyValue
from kvorum.proto.rpc_pb2 import (
    Compare,
    DeleteRangeRequest,
    LeaseGrantRequest,
    PutRequest,
    RangeRequest,
    RequestOp,
    TxnRequest,
    TxnResponse,
)
from kvorum.rpc.grpc import StreamCall, UnaryCall
from kvorum.server import requests
from kvorum.server.node import Node

SESSION_TTL_SECONDS: Final = 60
"""TTL of the lease that is granted to a call that names none (etcd ``concurrency/session.go``)."""

NO_LEASE: Final = 0


@final
class LocalClient:
    """A client of this member in this process; what it asks for, it asks for as who makes a call."""

    def __init__(self, node: Node, gate: Gate, max_txn_ops: int) -> None:
        self.node: Final = node
        self._gate: Final = gate
        self._max_txn_ops: Final = max_txn_ops

    async def txn(self, call: UnaryCall, request: TxnRequest) -> tuple[int, TxnResponse]:
        """Run a transaction that may write; returns the revision for the header, and the rest.

        Raises:
            EtcdError: as KV.Txn.
        """
        opened = OpenedTxn(request)
        if not self.node.has_room_for(opened.cost_bytes):
            raise errors.ERR_NO_SPACE
        error = checks.check_txn(opened, self._max_txn_ops)
        if error is not None:
            raise error
        result = await self._propose(call, requests.TXN, request.SerializeToString(), opened)
        return result.revision or self.node.revision, TxnResponse.FromString(result.body)

    async def session(self, call: UnaryCall, lease: int) -> int:
        """The lease that a call's key is bound to: the one it named, or a new one that nobody keeps alive.

        Raises:
            EtcdError: as Lease.LeaseGrant.
        """
        if lease != NO_LEASE:
            return lease
        if not self.node.has_room_for(LEASE_COST_BYTES):
            raise errors.ERR_NO_SPACE
        lease = self.node.leases.choose_id()
        grant = LeaseGrantRequest(ID=lease, TTL=SESSION_TTL_SECONDS)
        await self._propose(call, requests.LEASE_GRANT, grant.SerializeToString())
        return lease

    async def _propose(self, call: UnaryCall, number: int, body: bytes, parsed: object = None) -> Result:
        applied: asyncio.Future[Result] = asyncio.get_running_loop().create_future()

        def done(result: Result) -> None:
            if not applied.done():
                applied.set_result(result)

        self.node.propose(number, body, done, parsed, self._gate.entry(call))
        result = await applied
        if result.error is not None:
            raise result.error
        return result

    def delete_own(self, call: UnaryCall, key: bytes, create_revision: int) -> None:
        """Delete a key if it is still the one that was created then, and wait for nothing.

        Proposed at once, so that it precedes whatever the client asks for next. Errors are nobody's: the key
        goes with its lease in the end.
        """
        request = TxnRequest(
            compare=[created_at(key, create_revision)],
            success=[RequestOp(request_delete_range=DeleteRangeRequest(key=key))],
        )
        try:
            who = self._gate.entry(call)
            self.node.propose(requests.TXN, request.SerializeToString(), _ignore, None, who)
        except errors.EtcdError as refused:
            refused.forget()

    def first_created(self, call: UnaryCall | StreamCall, prefix: bytes) -> tuple[int, bytes | None]:
        """The oldest key with a prefix, serialized, and the revision it was read at. Not confirmed.

        Raises:
            EtcdError: the caller may not read it.
        """
        request = first_created(prefix)
        self._gate.check_range(call, request.key, request.range_end)
        revision, kvs, _, _ = ranges.select(self.node.view(), request)
        return revision, kvs[0] if kvs else None

    async def wait_deletes(self, call: UnaryCall, prefix: bytes, max_create_revision: int) -> None:
        """Return once no key with ``prefix`` is left that was created up to that revision.

        Waits for one key at a time, the youngest of them: of all who wait each is woken for its turn alone.
        The store has been confirmed and not changed since when this returns.

        Raises:
            EtcdError: as a linearizable KV.Range.
        """
        request = RangeRequest(
            key=prefix,
            range_end=_prefix_end(prefix),
            sort_order=RangeRequest.SortOrder.DESCEND,
            sort_target=RangeRequest.SortTarget.CREATE,
            limit=1,
            max_create_revision=max_create_revision,
        )
        while True:
            await self.node.linearizable_read()
            self._gate.check_range(call, request.key, request.range_end)
            _, kvs, _, _ = ranges.select(self.node.view(), request)
            if not kvs:
                return
            await self._deletion(ranges.key_of(kvs[0]))

    async def _deletion(self, key: bytes) -> None:
        """Wait until a key that exists is deleted."""
        gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def told(_key: bytes, kv: bytes | None) -> None:
            if kv is None and not gone.done():
                gone.set_result(None)

        observer = self.node.observers.observe_key(key, told)
        try:
            await gone
        finally:
            self.node.observers.remove(observer)

    def exists(self, key: bytes, create_revision: int) -> bool:
        """Whether a key is still the one that was created then. Not confirmed."""
        kv = self.node.view().get(key)
        return kv is not None and KeyValue.FromString(kv).create_revision == create_revision


def _ignore(_result: Result) -> None:
    """For proposals that nobody waits for."""


def created_at(key: bytes, revision: int) -> Compare:
    """The condition that a key was created at a revision; 0: that it does not exist."""
    return Compare(
        key=key,
        target=Compare.CompareTarget.CREATE,
        result=Compare.CompareResult.EQUAL,
        create_revision=revision,
    )


def first_created(prefix: bytes) -> RangeRequest:
    """The request for the oldest key with a prefix."""
    return RangeRequest(
        key=prefix,
        range_end=_prefix_end(prefix),
        sort_order=RangeRequest.SortOrder.ASCEND,
        sort_target=RangeRequest.SortTarget.CREATE,
        limit=1,
    )


def put(key: bytes, value: bytes, lease: int) -> RequestOp:
    """A put bound to a lease, as an operation of a transaction."""
    return RequestOp(request_put=PutRequest(key=key, value=value, lease=lease))


def get(key: bytes) -> RequestOp:
    """A get, as an operation of a transaction."""
    return RequestOp(request_range=RangeRequest(key=key))


def own_key(name: bytes, lease: int) -> bytes:
    """The key by which a lease stands in the queue of a name: ``<name>/<lease in hexadecimal>``."""
    return b"%s/%s" % (name, f"{lease:x}".encode())


def _prefix_end(prefix: bytes) -> bytes:
    assert prefix.endswith(b"/"), "a queue's prefix ends with a slash"
    return prefix[:-1] + b"0"
