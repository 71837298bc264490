"""The Cluster service: who is in the cluster, and how that changes.

Source: etcd ``server/etcdserver/api/v3rpc/member.go``.
"""

import asyncio
from collections.abc import Coroutine, Iterable
from functools import partial
from typing import Any, Final, final

from google.protobuf.message import Message

from kvorum.api.gate import Gate
from kvorum.api.v3.service import Methods, Service, parse
from kvorum.api.v3.waiting import WaitingCalls
from kvorum.errors import EtcdError
from kvorum.proto.rpc_pb2 import (
    Member,
    MemberAddRequest,
    MemberAddResponse,
    MemberListRequest,
    MemberListResponse,
    MemberPromoteRequest,
    MemberPromoteResponse,
    MemberRemoveRequest,
    MemberRemoveResponse,
    MemberUpdateRequest,
    MemberUpdateResponse,
)
from kvorum.rpc.grpc import UnaryCall
from kvorum.server.membership import MemberInfo
from kvorum.server.node import Node
from kvorum.server.reconfigure import Reconfigure


@final
class ClusterService(Service):
    """MemberAdd, MemberRemove, MemberUpdate, MemberPromote, MemberList."""

    def __init__(
        self, node: Node, gate: Gate, reconfigure: Reconfigure | None, waiting: WaitingCalls
    ) -> None:
        super().__init__(node, gate)
        self._reconfigure: Final = reconfigure
        self._waiting: Final = waiting

    def register(self, server: Methods) -> None:
        """Put the service's methods into the server's table."""
        server.unary("/etcdserverpb.Cluster/MemberList", self.member_list)
        reconfigure = self._reconfigure
        if reconfigure is None:
            return
        for name, change in (
            ("MemberAdd", self._add),
            ("MemberRemove", self._remove),
            ("MemberUpdate", self._update),
            ("MemberPromote", self._promote),
        ):
            server.unary(f"/etcdserverpb.Cluster/{name}", partial(self._start, change, reconfigure))

    def member_list(self, call: UnaryCall, body: bytes) -> None:
        """The members, confirmed with the cluster first if the request says linearizable."""
        if parse(MemberListRequest, body).linearizable:
            self.node.reads.wait(partial(self._list, call))
        else:
            self._list(call, None)

    def _list(self, call: UnaryCall, error: EtcdError | None) -> None:
        if error is not None:
            call.fail(error.code, error.message)
            return
        members = _messages(self.node.cluster.listed())
        self.reply(call, 0, MemberListResponse(members=members).SerializeToString())

    # --- changes ------------------------------------------------------------------------------------------

    def _start(self, change: Any, reconfigure: Reconfigure, call: UnaryCall, body: bytes) -> None:
        """Begin a change; it is answered when it is applied, or refused."""
        self._waiting.start(call, self._answer(change(reconfigure, body)), result_of=asyncio.Task.result)

    async def _answer(self, change: Coroutine[Any, Any, Message]) -> bytes:
        response = await change
        return self.header.encode(0, self.node.term) + response.SerializeToString()

    async def _add(self, reconfigure: Reconfigure, body: bytes) -> MemberAddResponse:
        request = parse(MemberAddRequest, body)
        member, members = await reconfigure.add_member(request.peerURLs, request.isLearner)
        return MemberAddResponse(member=_message(member), members=_messages(members))

    async def _remove(self, reconfigure: Reconfigure, body: bytes) -> MemberRemoveResponse:
        request = parse(MemberRemoveRequest, body)
        return MemberRemoveResponse(members=_messages(await reconfigure.remove_member(request.ID)))

    async def _update(self, reconfigure: Reconfigure, body: bytes) -> MemberUpdateResponse:
        request = parse(MemberUpdateRequest, body)
        members = await reconfigure.update_member(request.ID, request.peerURLs)
        return MemberUpdateResponse(members=_messages(members))

    async def _promote(self, reconfigure: Reconfigure, body: bytes) -> MemberPromoteResponse:
        request = parse(MemberPromoteRequest, body)
        return MemberPromoteResponse(members=_messages(await reconfigure.promote_member(request.ID)))


def _message(member: MemberInfo) -> Member:
    return Member(
        ID=member.id,
        name=member.name,
        peerURLs=member.peer_urls,
        clientURLs=member.client_urls,
        isLearner=member.is_learner,
    )


def _messages(members: Iterable[MemberInfo]) -> list[Member]:
    return [_message(member) for member in members]
