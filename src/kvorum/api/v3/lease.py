"""The Lease service. Grants and revocations are proposed; renewals are the leader's own, without the log.

Source: etcd ``server/etcdserver/api/v3rpc/lease.go``, ``quota.go``, ``server/etcdserver/v3_server.go``.
"""

import asyncio
from functools import partial
from typing import Final, final

from kvorum import errors, limits
from kvorum.api.v3.service import Methods, Service, parse
from kvorum.api.v3.standing import StandingStreams
from kvorum.apply.alarms import LEASE_COST_BYTES
from kvorum.errors import EtcdError
from kvorum.proto.rpc_pb2 import (
    LeaseGrantRequest,
    LeaseKeepAliveRequest,
    LeaseLeasesRequest,
    LeaseRevokeRequest,
    LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse,
)
from kvorum.proto.wire import delimited, varint
from kvorum.rpc.grpc import StreamCall, UnaryCall
from kvorum.server import requests
from kvorum.server.node import Node

NOT_THERE: Final = -1
"""TimeToLive's TTL of a lease that does not exist."""

# LeaseKeepAliveResponse: ID = 2, TTL = 3. LeaseLeasesResponse: leases = 2; LeaseStatus: ID = 1.
_ID_TAG: Final = b"\x10"
_TTL_TAG: Final = b"\x18"
_LEASES_TAG: Final = b"\x12"
_STATUS_ID_TAG: Final = b"\x08"

_CLOCK_STEP_SECONDS: Final = 0.001
"""The loop's clock stands still for so long, where in etcd some time has always passed since a grant: what
is left is less than the whole TTL from the first answer on.
"""


@final
class LeaseService(Service):
    """LeaseGrant, LeaseRevoke, LeaseKeepAlive, LeaseTimeToLive, LeaseLeases."""

    def __init__(self, node: Node, standing: StandingStreams) -> None:
        super().__init__(node)
        self._leases: Final = node.leases
        self._standing: Final = standing

    def register(self, server: Methods) -> None:
        """Put the service's methods into the server's table."""
        server.unary("/etcdserverpb.Lease/LeaseGrant", self.grant)
        server.unary("/etcdserverpb.Lease/LeaseRevoke", self.revoke)
        server.stream("/etcdserverpb.Lease/LeaseKeepAlive", self.keep_alive)
        server.unary("/etcdserverpb.Lease/LeaseTimeToLive", self.time_to_live)
        server.unary("/etcdserverpb.Lease/LeaseLeases", self.leases)

    def grant(self, call: UnaryCall, body: bytes) -> None:
        """Make a lease, with an id of ours if the request gives none."""
        request = parse(LeaseGrantRequest, body)
        if not self.node.has_room_for(LEASE_COST_BYTES):
            call.fail(errors.ERR_NO_SPACE.code, errors.ERR_NO_SPACE.message)
            return
        if not request.ID:
            request.ID = self._leases.choose_id()
            body = request.SerializeToString()
        self.node.propose(requests.LEASE_GRANT, body, partial(self.answer, call))

    def revoke(self, call: UnaryCall, body: bytes) -> None:
        """End a lease and delete its keys."""
        parse(LeaseRevokeRequest, body)
        self.node.propose(requests.LEASE_REVOKE, body, partial(self.answer, call))

    # --- keepalives ---------------------------------------------------------------------------------------

    async def keep_alive(self, call: StreamCall) -> None:
        """Renew lease after lease, in the order they are asked for.

        What the client sent together is answered together, without giving up the loop in between.

        Raises:
            EtcdError: ERR_NO_LEADER, ERR_TIMEOUT, ERR_STOPPED; a message is no request.
        """
        with self._standing.entered(call):
            answered = 0
            while bodies := await call.read_all():
                await self._renew_all(call, bodies)
                answered += len(bodies)
                if answered >= limits.KEEPALIVES_PER_TURN:
                    answered = 0
                    await asyncio.sleep(0)

    async def _renew_all(self, call: StreamCall, bodies: list[bytes]) -> None:
        leases, node = self._leases, self.node
        answers: list[bytes] = []
        for body in bodies:
            try:
                lease_id = parse(LeaseKeepAliveRequest, body).ID
            except EtcdError:
                await _write(call, answers)  # what came before it is answered
                raise
            # Made before the renewal: its revision must not be one at which the lease was gone already.
            header = self.header.encode(node.revision, node.term)
            ttl = leases.renew_at_once(lease_id)
            if ttl is None:
                await _write(call, answers)
                answers = []
                ttl = await leases.renew(lease_id)
            answers.append(_keep_alive_response(header, lease_id, ttl))
            if len(answers) == limits.KEEPALIVES_PER_WRITE:
                await _write(call, answers)
                answers = []
        await _write(call, answers)

    # --- looking ------------------------------------------------------------------------------------------

    def time_to_live(self, call: UnaryCall, body: bytes) -> None:
        """What is left of a lease, and its keys if asked for; the leader's lessor knows."""
        request = parse(LeaseTimeToLiveRequest, body)
        self._leases.when_primary(partial(self._time_to_live, call, request))

    def _time_to_live(
        self, call: UnaryCall, request: LeaseTimeToLiveRequest, error: EtcdError | None
    ) -> None:
        if error is not None:
            call.fail(error.code, error.message)
            return
        lessor = self.node.lessor
        if request.ID not in lessor:
            response = LeaseTimeToLiveResponse(ID=request.ID, TTL=NOT_THERE)
            self.reply(call, self.node.revision, response.SerializeToString())
            return
        left = lessor.time_to_live(request.ID, self.node.timers.time() + _CLOCK_STEP_SECONDS)
        response = LeaseTimeToLiveResponse(ID=request.ID, TTL=left.remaining, grantedTTL=left.granted)
        if request.keys:
            response.keys.extend(lessor.keys(request.ID))
        self.reply(call, self.node.revision, response.SerializeToString())

    def leases(self, call: UnaryCall, body: bytes) -> None:
        """The ids of all leases; those that expire first come first."""
        parse(LeaseLeasesRequest, body)
        call.when_writable(partial(self._list, call))

    def _list(self, call: UnaryCall) -> None:
        if call.cancelled:
            return
        statuses = [
            delimited(_LEASES_TAG, _STATUS_ID_TAG + varint(lease_id))
            for lease_id in self.node.lessor.leases()
        ]
        self.reply(call, self.node.revision, b"".join(statuses))


async def _write(call: StreamCall, answers: list[bytes]) -> None:
    while answers and not call.write_batch(answers):
        await call.drained()


def _keep_alive_response(header: bytes, lease_id: int, ttl: int) -> bytes:
    """A LeaseKeepAliveResponse; fields that are 0 are left out."""
    id_field = _ID_TAG + varint(lease_id) if lease_id else b""
    return header + id_field + (_TTL_TAG + varint(ttl) if ttl else b"")
