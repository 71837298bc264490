"""The Election service: the leader of a name is the oldest key below it, and its value is what it proclaims.

Campaigning is queueing as for a lock (``lock``), with a value. Where etcd tells a campaigner that it leads
although its key was deleted while it waited (its lease ended, or somebody resigned in its name), it is
refused here: by then the next in the queue leads as well.

Source: etcd ``server/etcdserver/api/v3election/election.go``, ``client/v3/concurrency/election.go``.
"""

import asyncio
from typing import Final, final

from kvorum import errors, limits
from kvorum.api.gate import Gate
from kvorum.api.v3.leadership import UNSURE, Leadership
from kvorum.api.v3.local import LocalClient, created_at, get, own_key, put
from kvorum.api.v3.service import Methods, Service, parse
from kvorum.api.v3.standing import StandingStreams
from kvorum.api.v3.waiting import Place, WaitingCalls
from kvorum.errors import EtcdError
from kvorum.proto.rpc_pb2 import DeleteRangeRequest, RequestOp, TxnRequest
from kvorum.proto.v3election_pb2 import (
    CampaignRequest,
    CampaignResponse,
    LeaderKey,
    LeaderRequest,
    ProclaimRequest,
    ResignRequest,
)
from kvorum.proto.wire import delimited
from kvorum.rpc.grpc import StreamCall, UnaryCall
from kvorum.server.node import Node

ERR_MISSING_LEADER_KEY: Final = EtcdError(errors.UNKNOWN, '"leader" field must be provided')
ERR_NOT_LEADER: Final = EtcdError(errors.UNKNOWN, "election: not leader")
ERR_NO_LEADER: Final = EtcdError(errors.UNKNOWN, "election: no leader")

_KV_TAG: Final = b"\x12"


@final
class ElectionService(Service):
    """Campaign, Proclaim, Leader, Observe, Resign."""

    def __init__(
        self,
        node: Node,
        gate: Gate,
        waiting: WaitingCalls,
        standing: StandingStreams,
        *,
        max_txn_ops: int = limits.MAX_TXN_OPS,
    ) -> None:
        super().__init__(node, gate)
        self._client: Final = LocalClient(node, gate, max_txn_ops)
        self._waiting: Final = waiting
        self._standing: Final = standing

    def register(self, server: Methods) -> None:
        """Put the service's methods into the server's table."""
        server.unary("/v3electionpb.Election/Campaign", self.campaign)
        server.unary("/v3electionpb.Election/Proclaim", self.proclaim)
        server.unary("/v3electionpb.Election/Leader", self.leader)
        server.unary("/v3electionpb.Election/Resign", self.resign)
        server.stream("/v3electionpb.Election/Observe", self.observe, "server_stream")

    def _header(self, revision: int) -> bytes:
        return self.header.encode(revision, self.node.term)

    # --- to lead ----------------------------------------------------------------------------------------

    def campaign(self, call: UnaryCall, body: bytes) -> None:
        """Answer once the caller leads."""
        request = parse(CampaignRequest, body)
        place = Place(self._client, call)
        self._waiting.start(call, self._campaign(call, request, place), place)

    async def _campaign(self, call: UnaryCall, request: CampaignRequest, place: Place) -> bytes:
        client = self._client
        lease = await client.session(call, request.lease)
        place.key = own_key(request.name, lease)
        revision, response = await client.txn(
            call,
            TxnRequest(
                compare=[created_at(place.key, 0)],
                success=[put(place.key, request.value, lease)],
                failure=[get(place.key)],
            ),
        )
        place.create_revision = revision
        if not response.succeeded:
            present = response.responses[0].response_range.kvs[0]
            place.create_revision = present.create_revision
            if present.value != request.value:
                await self._replace(call, place, request.value, lease)
        place.held = True
        try:
            await client.wait_deletes(call, request.name + b"/", place.create_revision - 1)
        finally:
            place.held = False
        if not client.exists(place.key, place.create_revision):
            raise ERR_NOT_LEADER
        leader = LeaderKey(name=request.name, key=place.key, rev=place.create_revision, lease=lease)
        return self._header(revision) + CampaignResponse(leader=leader).SerializeToString()

    async def _replace(self, call: UnaryCall, place: Place, value: bytes, lease: int) -> None:
        """Change the value of a campaign that goes on; if that cannot be done the campaign ends."""
        try:
            await self._proclaim(call, place.key, place.create_revision, value, lease)
        except EtcdError:
            self._client.delete_own(call, place.key, place.create_revision)
            raise

    def proclaim(self, call: UnaryCall, body: bytes) -> None:
        """Change the value of the caller's leadership."""
        request = parse(ProclaimRequest, body)
        if not request.HasField("leader"):
            raise ERR_MISSING_LEADER_KEY
        self._waiting.start(call, self._answer_proclaim(call, request))

    async def _answer_proclaim(self, call: UnaryCall, request: ProclaimRequest) -> bytes:
        leader = request.leader
        lease = await self._client.session(call, leader.lease)
        return self._header(await self._proclaim(call, leader.key, leader.rev, request.value, lease))

    async def _proclaim(
        self, call: UnaryCall, key: bytes, create_revision: int, value: bytes, lease: int
    ) -> int:
        """Put a value under a key that must still be the one that was created then; returns the revision.

        Raises:
            EtcdError: ERR_NOT_LEADER, or as KV.Txn.
        """
        revision, response = await self._client.txn(
            call, TxnRequest(compare=[created_at(key, create_revision)], success=[put(key, value, lease)])
        )
        if not response.succeeded:
            raise ERR_NOT_LEADER
        return revision

    def resign(self, call: UnaryCall, body: bytes) -> None:
        """Give the caller's leadership, or candidacy, up; having none is fine as well."""
        request = parse(ResignRequest, body)
        if not request.HasField("leader"):
            raise ERR_MISSING_LEADER_KEY
        self._waiting.start(call, self._resign(call, request.leader))

    async def _resign(self, call: UnaryCall, leader: LeaderKey) -> bytes:
        await self._client.session(call, leader.lease)
        revision, _ = await self._client.txn(
            call,
            TxnRequest(
                compare=[created_at(leader.key, leader.rev)],
                success=[RequestOp(request_delete_range=DeleteRangeRequest(key=leader.key))],
            ),
        )
        return self._header(revision)

    # --- to know who leads ------------------------------------------------------------------------------

    def leader(self, call: UnaryCall, body: bytes) -> None:
        """Who leads now."""
        prefix = parse(LeaderRequest, body).name + b"/"

        def look(error: EtcdError | None) -> None:
            if error is not None:
                call.fail(errors.UNKNOWN, error.message)
                return
            try:
                revision, kv = self._client.first_created(call, prefix)
            except EtcdError as refused:
                call.fail(errors.UNKNOWN, refused.forget().message)
                return
            if kv is None:
                call.fail(ERR_NO_LEADER.code, ERR_NO_LEADER.message)
            else:
                self.reply(call, revision, delimited(_KV_TAG, kv))

        self.node.reads.wait(look)

    async def observe(self, call: StreamCall) -> None:
        """Tell of every leader and what it proclaims, beginning with the present one.

        Raises:
            EtcdError: ERR_REQUEST_TOO_MANY_REQUESTS, ERR_NO_LEADER, ERR_STOPPED.
        """
        body = await call.read()
        if body is None:
            raise EtcdError(errors.INTERNAL, "grpc: client closed the stream without a request")
        prefix = parse(LeaderRequest, body).name + b"/"
        with self._standing.entered(call), self._waiting.entered(call):
            woken = asyncio.Event()
            leadership = Leadership(woken.set, limits.ELECTION_OBSERVER_QUEUE_BYTES)
            observer = self.node.observers.observe_prefix(prefix, leadership.told)
            try:
                await self._pass_on(call, prefix, leadership, woken)
            except EtcdError as error:
                # Whoever observes begins anew when the stream ends; etcd does not say why it does either.
                error.forget()
            finally:
                self.node.observers.remove(observer)

    async def _pass_on(
        self, call: StreamCall, prefix: bytes, leadership: Leadership, woken: asyncio.Event
    ) -> None:
        while True:
            led = leadership.take()
            if led is not None:
                revision, kv = led
                await call.write(self._header(revision) + delimited(_KV_TAG, kv))
            elif leadership.state == UNSURE:
                await self.node.linearizable_read()
                leadership.asked(*self._client.first_created(call, prefix))
            else:
                woken.clear()
                await woken.wait()
