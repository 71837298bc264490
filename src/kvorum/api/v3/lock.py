"""The Lock service: who holds a name is the oldest key below it, and everyone waits for the one before.

A lock call puts ``<name>/<lease>`` bound to the lease, unless that key is there already, and waits until all
keys below the name that were created before are gone. That it then holds the lock is only true if its own
key has survived the wait; without this look a client whose lease ended meanwhile would hold a lock that the
next one in the queue gets as well (etcd issue 11456).

Source: etcd ``server/etcdserver/api/v3lock/lock.go``, ``client/v3/concurrency/mutex.go``.
"""

from functools import partial
from typing import Final, final

from kvorum import errors, limits
from kvorum.api.gate import Gate
from kvorum.api.v3.local import LocalClient, created_at, first_created, get, own_key, put
from kvorum.api.v3.service import Methods, Service, parse
from kvorum.api.v3.waiting import Place, WaitingCalls, without_code
from kvorum.apply.applier import Result
from kvorum.errors import EtcdError
from kvorum.proto.rpc_pb2 import DeleteRangeRequest, RequestOp, TxnRequest
from kvorum.proto.v3lock_pb2 import LockRequest, LockResponse, UnlockRequest
from kvorum.rpc.grpc import UnaryCall
from kvorum.server import requests
from kvorum.server.node import Node

ERR_SESSION_EXPIRED: Final = EtcdError(errors.UNKNOWN, "mutex: session is expired")


@final
class LockService(Service):
    """Lock, Unlock."""

    def __init__(
        self, node: Node, gate: Gate, waiting: WaitingCalls, *, max_txn_ops: int = limits.MAX_TXN_OPS
    ) -> None:
        super().__init__(node, gate)
        self._client: Final = LocalClient(node, gate, max_txn_ops)
        self._waiting: Final = waiting

    def register(self, server: Methods) -> None:
        """Put the service's methods into the server's table."""
        server.unary("/v3lockpb.Lock/Lock", self.lock)
        server.unary("/v3lockpb.Lock/Unlock", self.unlock)

    def lock(self, call: UnaryCall, body: bytes) -> None:
        """Answer once the caller's key is the oldest of the name."""
        request = parse(LockRequest, body)
        place = Place(self._client, call)
        self._waiting.start(call, self._lock(call, request, place), place)

    async def _lock(self, call: UnaryCall, request: LockRequest, place: Place) -> bytes:
        client = self._client
        prefix = request.name + b"/"
        lease = await client.session(call, request.lease)
        place.key = own_key(request.name, lease)
        owner = RequestOp(request_range=first_created(prefix))
        revision, response = await client.txn(
            call,
            TxnRequest(
                compare=[created_at(place.key, 0)],
                success=[put(place.key, b"", lease), owner],
                failure=[get(place.key), owner],
            ),
        )
        place.create_revision = revision
        if not response.succeeded:
            place.create_revision = response.responses[0].response_range.kvs[0].create_revision
        oldest = response.responses[1].response_range.kvs
        if oldest and oldest[0].create_revision != place.create_revision:
            revision = await self._wait(call, prefix, place)
        return self.header.encode(revision, self.node.term) + LockResponse(key=place.key).SerializeToString()

    async def _wait(self, call: UnaryCall, prefix: bytes, place: Place) -> int:
        """Wait for all who came before; returns the revision at which they were gone.

        Raises:
            EtcdError: ERR_SESSION_EXPIRED: the key of this call is gone as well.
        """
        client = self._client
        place.held = True
        try:
            await client.wait_deletes(call, prefix, place.create_revision - 1)
        except EtcdError:
            place.give_up()
            raise
        place.held = False
        if not client.exists(place.key, place.create_revision):
            raise ERR_SESSION_EXPIRED
        return self.node.revision

    def unlock(self, call: UnaryCall, body: bytes) -> None:
        """Delete a key that a lock call answered with."""
        key = parse(UnlockRequest, body).key
        if not key:
            raise without_code(errors.ERR_EMPTY_KEY)
        request = DeleteRangeRequest(key=key)
        try:
            body = request.SerializeToString()
            self.propose(call, requests.DELETE_RANGE, body, partial(self._unlocked, call))
        except EtcdError as refused:
            raise without_code(refused) from None

    def _unlocked(self, call: UnaryCall, result: Result) -> None:
        if result.error is not None:
            call.fail(errors.UNKNOWN, result.error.message)
        else:
            self.reply(call, result.revision or self.node.revision, b"")
