"""The Lease service. Grants and revocations are proposed; renewals are the leader's own, without the log.

A follower asks the leader for those, and for what is left of a lease. Source: etcd
``server/etcdserver/api/v3rpc/lease.go``, ``quota.go``, ``server/etcdserver/v3_server.go``.
"""

import asyncio
from functools import partial
from typing import Final, final

from kvorum import errors, limits
from kvorum.api.gate import Gate
from kvorum.api.v3.service import Methods, Service, parse
from kvorum.api.v3.standing import StandingStreams
from kvorum.api.v3.waiting import WaitingCalls
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

# LeaseKeepAliveResponse: ID = 2, TTL = 3. LeaseLeasesResponse: leases = 2; LeaseStatus: ID = 1.
_ID_TAG: Final = b"\x10"
_TTL_TAG: Final = b"\x18"
_LEASES_TAG: Final = b"\x12"
_STATUS_ID_TAG: Final = b"\x08"


@final
class LeaseService(Service):
    """LeaseGrant, LeaseRevoke, LeaseKeepAlive, LeaseTimeToLive, LeaseLeases."""

    def __init__(self, node: Node, gate: Gate, standing: StandingStreams, waiting: WaitingCalls) -> None:
        super().__init__(node, gate)
        self._waiting: Final = waiting
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
        self.propose(call, requests.LEASE_GRANT, body)

    def revoke(self, call: UnaryCall, body: bytes) -> None:
        """End a lease and delete its keys."""
        parse(LeaseRevokeRequest, body)
        self.propose(call, requests.LEASE_REVOKE, body)

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
        """Answer requests in their order. Those that have to wait, as all do at a follower, wait together."""
        for start in range(0, len(bodies), limits.KEEPALIVES_PER_WRITE):
            await self._renew_some(call, bodies[start : start + limits.KEEPALIVES_PER_WRITE])

    async def _renew_some(self, call: StreamCall, bodies: list[bytes]) -> None:
        leases = self._leases
        # Made before the renewals: its revision must not be one at which a lease was gone already.
        header = self.header.encode(self.node.revision, self.node.term)
        lease_ids, unreadable = _parse_all(bodies)
        if self.users.enabled:
            self.gate.check_renewal(call, lease_ids)
        ttls = [leases.renew_at_once(lease_id) for lease_id in lease_ids]
        if None in ttls:
            first = ttls.index(None)
            await _write(call, [*map(partial(_keep_alive_response, header), lease_ids[:first], ttls[:first])])
            del lease_ids[:first], ttls[:first]
            waiting = [lease_id for lease_id, ttl in zip(lease_ids, ttls, strict=True) if ttl is None]
            renewed = iter(await leases.renew_all(waiting))
            ttls = [next(renewed) if ttl is None else ttl for ttl in ttls]
        await _write(call, [*map(partial(_keep_alive_response, header), lease_ids, ttls)])
        if unreadable is not None:
            raise unreadable

    # --- looking ------------------------------------------------------------------------------------------

    def time_to_live(self, call: UnaryCall, body: bytes) -> None:
        """What is left of a lease, and its keys if asked for; the leader's lessor knows."""
        request = parse(LeaseTimeToLiveRequest, body)
        if self.users.enabled and request.keys:
            self.gate.check_lease_keys(call, [request.ID])
        if self.node.lessor.primary:
            self._looked(call, self._leases.look(request.ID, request.keys))
        else:
            self._waiting.start(call, self._look(request), result_of=asyncio.Task.result)

    def _looked(self, call: UnaryCall, response: LeaseTimeToLiveResponse) -> None:
        self.reply(call, self.node.revision, response.SerializeToString())

    async def _look(self, request: LeaseTimeToLiveRequest) -> bytes:
        revision = self.users.revision
        response = await self._leases.time_to_live(request.ID, request.keys)
        if request.keys and self.users.enabled and self.users.revision != revision:
            raise errors.ERR_AUTH_OLD_REVISION
        return self.header.encode(self.node.revision, self.node.term) + response.SerializeToString()

    def leases(self, call: UnaryCall, body: bytes) -> None:
        """The ids of all leases; those that expire first come first."""
        parse(LeaseLeasesRequest, body)
        call.when_writable(partial(self._list, call))

    def _list(self, call: UnaryCall) -> None:
        if call.cancelled:
            return
        leases = self.node.lessor.leases()
        if self.users.enabled:
            self.gate.check_lease_keys(call, leases)
        statuses = [delimited(_LEASES_TAG, _STATUS_ID_TAG + varint(lease_id)) for lease_id in leases]
        self.reply(call, self.node.revision, b"".join(statuses))


async def _write(call: StreamCall, answers: list[bytes]) -> None:
    while answers and not call.write_batch(answers):
        await call.drained()


def _parse_all(bodies: list[bytes]) -> tuple[list[int], EtcdError | None]:
    """The ids that keepalives ask for, up to the first that is none, and what that is refused with."""
    lease_ids: list[int] = []
    try:
        lease_ids.extend(parse(LeaseKeepAliveRequest, body).ID for body in bodies)
    except EtcdError as error:
        return lease_ids, error
    return lease_ids, None


def _keep_alive_response(header: bytes, lease_id: int, ttl: int | None) -> bytes:
    """A LeaseKeepAliveResponse; fields that are 0 are left out."""
    id_field = _ID_TAG + varint(lease_id) if lease_id else b""
    return header + id_field + (_TTL_TAG + varint(ttl) if ttl else b"")
