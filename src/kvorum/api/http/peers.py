"""What members ask each other besides Raft's messages, on the peer port: who is a member, what a lease has
left, that a learner be promoted.

Answers go without the codes of gRPC, so status and text are all that the asking member has. Source of
behaviour: etcd ``etcdhttp/peer.go``, ``server/lease/leasehttp/http.go``, ``corrupt.go`` (hashKVHandler),
``server.go`` (downgradeEnabledHandler).
"""

import asyncio
import json
from typing import Any, Final, final

from google.protobuf.message import DecodeError

from kvorum import limits
from kvorum.errors import EtcdError
from kvorum.golang import MAX_UINT64, json_text
from kvorum.logging import Logger, hex_id
from kvorum.proto.lease_pb2 import LeaseInternalRequest, LeaseInternalResponse
from kvorum.proto.rpc_pb2 import (
    LeaseCheckpoint,
    LeaseCheckpointRequest,
    LeaseKeepAliveRequest,
    LeaseKeepAliveResponse,
    ResponseHeader,
)
from kvorum.rpc.http1 import HttpServer
from kvorum.rpc.http1_types import APPLICATION_JSON, HttpRequest, HttpResponse, error_response
from kvorum.server.forward import PROMOTE_PATH, promotion_refusal
from kvorum.server.leases import NotPrimaryError
from kvorum.server.membership import MemberInfo
from kvorum.server.node import Node
from kvorum.server.reconfigure import Reconfigure
from kvorum.server.renewals import ASK_ALONE, BATCH_PATH, GONE, INTERNAL_PATH, LEASES_PATH, NOT_THERE
from kvorum.server.slices import HashKvResult
from kvorum.server.timers import pause

PROTOBUF: Final = ("Content-Type", "application/protobuf")
CANNOT_READ: Final = "error unmarshalling request"
NOT_CAUGHT_UP: Final = "waiting for node to catch up its applied index has timed out"
NOT_PRIMARY: Final = "not a primary lessor"
LEASE_NOT_FOUND: Final = "lease not found"
_INTERNAL_ERROR: Final = json_text({"message": "Internal Server Error"}).encode()
_LOOK_SECONDS: Final = 0.005


@final
class PeerHandlers:
    """The handlers; ``install`` puts them into the peer port's table."""

    def __init__(self, node: Node, reconfigure: Reconfigure, log: Logger) -> None:
        self._node: Final = node
        self._reconfigure: Final = reconfigure
        self._log: Final = log
        self._cluster_header: Final = ("X-Etcd-Cluster-ID", hex_id(node.cluster.id))

    def install(self, http: HttpServer) -> None:
        """Register everything but Raft's own paths and ``/version``."""
        http.route("GET", "/members", self.members)
        http.route("GET", "/members/hashkv", self.hash_kv)
        http.route("POST", PROMOTE_PATH, self.promote)
        http.route("GET", "/downgrade/enabled", self.downgrade_enabled)
        for path, handler in (
            (LEASES_PATH, self.renew),
            (INTERNAL_PATH, self.time_to_live),
            (BATCH_PATH, self.renew_many),
        ):
            http.route("POST", path, handler, max_body_bytes=limits.LEASE_BODY_BYTES)

    # --- members ------------------------------------------------------------------------------------------

    def members(self, request: HttpRequest) -> HttpResponse:
        """``/members``: who is in the cluster, by this member's knowledge."""
        return self._members(self._node.cluster.listed())

    def _members(self, members: list[MemberInfo]) -> HttpResponse:
        body = json_text([member.fields() for member in members]).encode() + b"\n"
        return HttpResponse(200, body, (self._cluster_header, APPLICATION_JSON))

    async def promote(self, request: HttpRequest) -> HttpResponse:
        """``/members/promote/<id>``: for a follower, who does not know whether the learner has caught up."""
        text = request.path.removeprefix(PROMOTE_PATH)
        if not (text.isascii() and text.isdigit() and int(text) <= MAX_UINT64):
            return error_response(404, f"member {text} not found in cluster", (self._cluster_header,))
        try:
            return self._members(await self._reconfigure.promote_member(int(text)))
        except EtcdError as error:
            self._log.warn(
                "failed to promote a member", member_id=hex_id(int(text)), error=error.forget().message
            )
            refusal = promotion_refusal(error)
        if refusal is None:
            return HttpResponse(500, _INTERNAL_ERROR, (self._cluster_header, APPLICATION_JSON))
        return error_response(*refusal, (self._cluster_header,))

    async def downgrade_enabled(self, request: HttpRequest) -> HttpResponse:
        """``/downgrade/enabled``: whether a member of the release before may join."""
        try:
            await self._node.linearizable_read()
        except EtcdError as error:
            text = f"failed linearized read: {error.forget().message}"
            return error_response(500, text, (self._cluster_header,))
        enabled = b"false" if self._node.cluster.downgrade_target is None else b"true"
        return HttpResponse(200, enabled, (self._cluster_header, ("Content-Type", "text/plain")))

    async def hash_kv(self, request: HttpRequest) -> HttpResponse:
        """``/members/hashkv``: a checksum of the key space up to the revision that a JSON body names."""
        hashed: asyncio.Future[HashKvResult] = asyncio.get_running_loop().create_future()
        try:
            self._node.slices.hash_kv(int(json.loads(request.body).get("revision", 0)), hashed.set_result)
        except (ValueError, TypeError, AttributeError):
            return error_response(400, CANNOT_READ)
        except EtcdError as error:
            return error_response(400, error.forget().message.removeprefix("etcdserver: "))
        result = await hashed
        fields: dict[str, Any] = {
            "header": {"revision": result.revision},
            "hash": result.hash,
            "compact_revision": result.compact_revision,
        }
        present = {name: value for name, value in fields.items() if value}
        return HttpResponse(200, json_text(present).encode(), (self._cluster_header, APPLICATION_JSON))

    # --- leases -------------------------------------------------------------------------------------------

    async def renew(self, request: HttpRequest) -> HttpResponse:
        """``/leases``: renew one lease."""
        try:
            lease_id = LeaseKeepAliveRequest.FromString(request.body).ID
        except DecodeError:
            return error_response(400, CANNOT_READ)
        if not await self._caught_up():
            return error_response(408, NOT_CAUGHT_UP)
        try:
            ttl = await self._node.leases.renew_here(lease_id)
        except NotPrimaryError:
            return error_response(400, NOT_PRIMARY)
        except EtcdError as error:
            return error_response(400, error.forget().message)
        if ttl == GONE:
            return error_response(404, LEASE_NOT_FOUND)
        body = LeaseKeepAliveResponse(ID=lease_id, TTL=ttl).SerializeToString()
        return HttpResponse(200, body, (PROTOBUF,))

    async def renew_many(self, request: HttpRequest) -> HttpResponse:
        """``/leases/kvorum``: renew those that need no waiting; a batch waits for none of its leases."""
        try:
            asked = LeaseCheckpointRequest.FromString(request.body).checkpoints
        except DecodeError:
            return error_response(400, CANNOT_READ)
        if not await self._caught_up():
            return error_response(408, NOT_CAUGHT_UP)
        leases = self._node.leases
        if not leases.lessor.primary:
            return error_response(400, NOT_PRIMARY)
        renewed: list[LeaseCheckpoint] = []
        for one in asked:
            ttl = leases.renew_at_once(one.ID)
            renewed.append(LeaseCheckpoint(ID=one.ID, remaining_TTL=ASK_ALONE if ttl is None else ttl))
        return HttpResponse(200, LeaseCheckpointRequest(checkpoints=renewed).SerializeToString(), (PROTOBUF,))

    async def time_to_live(self, request: HttpRequest) -> HttpResponse:
        """``/leases/internal``: what is left of a lease, and its keys."""
        try:
            asked = LeaseInternalRequest.FromString(request.body).LeaseTimeToLiveRequest
        except DecodeError:
            return error_response(400, CANNOT_READ)
        if not await self._caught_up():
            return error_response(408, NOT_CAUGHT_UP)
        leases = self._node.leases
        if not leases.lessor.primary:  # etcd would say that the lease lasts for 292 years
            return error_response(400, NOT_PRIMARY)
        response = leases.look(asked.ID, asked.keys)
        if response.TTL == NOT_THERE and not response.grantedTTL:
            return error_response(404, LEASE_NOT_FOUND)
        response.header.CopyFrom(ResponseHeader())
        body = LeaseInternalResponse(LeaseTimeToLiveResponse=response).SerializeToString()
        return HttpResponse(200, body, (PROTOBUF,))

    async def _caught_up(self) -> bool:
        """Whether what is committed now is applied, after a moment's patience."""
        node = self._node
        target = node.committed_index
        deadline = node.timers.time() + limits.LEASE_APPLY_SECONDS
        while node.applied_index < target:
            if node.timers.time() >= deadline:
                return False
            await pause(node.timers, _LOOK_SECONDS)
        return True
