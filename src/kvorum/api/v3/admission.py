"""Whether a call is served here and now: not every one is by a learner, or by a member without a leader,
and not to everybody (``api/gate.py``).

A learner may lag without bound, so it answers only what says nothing about the cluster's newest state. A
client that cannot do with a member that is cut off asks for a leader in its metadata ("hasleader"); streams
that stay open are watched over in ``standing.py``. Source: etcd ``api/v3rpc/interceptor.go``
(newUnaryInterceptor, newStreamInterceptor), ``util.go`` (isRPCSupportedForLearner).
"""

import asyncio
from functools import partial
from typing import Final, Protocol, final

from kvorum.api.gate import INNER_KEYS, RPC_RULES, STREAM_KEYS, Gate, NotYetKnownError
from kvorum.api.v3.service import parse
from kvorum.api.v3.standing import LEADER_METADATA, LEADER_REQUIRED
from kvorum.api.v3.waiting import without_code
from kvorum.errors import (
    ERR_INVALID_AUTH_TOKEN,
    ERR_NO_LEADER,
    ERR_NOT_SUPPORTED_FOR_LEARNER,
    EtcdError,
)
from kvorum.proto.rpc_pb2 import RangeRequest
from kvorum.rpc.connection import StreamHandler, UnaryHandler
from kvorum.rpc.grpc import GrpcServer, StreamCall, UnaryCall
from kvorum.rpc.observer import BIDI_STREAM
from kvorum.server.membership import Cluster

RANGE: Final = "/etcdserverpb.KV/Range"
STATUS: Final = "/etcdserverpb.Maintenance/Status"
SNAPSHOT: Final = "/etcdserverpb.Maintenance/Snapshot"


class Led(Protocol):
    """Who has a leader, or has not (``node.Node``)."""

    leader: int
    """The leader's ID, 0 for none."""


@final
class Admission:
    """Registers methods so that they are called only if they may be answered; each has a rule of the gate."""

    def __init__(self, server: GrpcServer, member: Led, cluster: Cluster, gate: Gate) -> None:
        self._server: Final = server
        self._member: Final = member
        self._cluster: Final = cluster
        self._gate: Final = gate

    def unary(self, path: str, handler: UnaryHandler) -> None:
        """Serve a unary method."""
        member, cluster, users, rule = self._member, self._cluster, self._gate.users, RPC_RULES[path]

        def admitted(call: UnaryCall, body: bytes) -> None:
            if not member.leader or cluster.is_learner:
                refusal = self._refusal(call, body)
                if refusal is not None:
                    call.fail(refusal.code, refusal.message)
                    return
            if users.enabled and not self._lets_in(rule, handler, call, body):
                return
            handler(call, body)

        self._server.unary(path, admitted)

    def stream(self, path: str, handler: StreamHandler, kind: str = BIDI_STREAM) -> None:
        """Serve a streaming method."""
        member, cluster, users, rule = self._member, self._cluster, self._gate.users, RPC_RULES[path]

        async def admitted(call: StreamCall) -> None:
            if cluster.is_learner and path != SNAPSHOT:
                raise ERR_NOT_SUPPORTED_FOR_LEARNER
            if not member.leader and asks_for_leader(call):
                raise ERR_NO_LEADER
            if users.enabled:
                await self._let_stream_in(rule, call)
            await handler(call)

        self._server.stream(path, admitted, kind)

    def _refusal(self, call: UnaryCall, body: bytes) -> EtcdError | None:
        if self._cluster.is_learner and not learner_answers(call.method, body):
            return ERR_NOT_SUPPORTED_FOR_LEARNER
        return ERR_NO_LEADER if not self._member.leader and asks_for_leader(call) else None

    # --- the gate -------------------------------------------------------------------------------------------

    def _lets_in(self, rule: str, handler: UnaryHandler, call: UnaryCall, body: bytes) -> bool:
        """Whether the handler is to be called now; if it is too early for that, it is later.

        Raises:
            EtcdError: the caller may not.
        """
        try:
            self._check(rule, call)
        except NotYetKnownError as early:
            again = partial(self._try_again, rule, handler, call, body)
            if not self._gate.when_applied(early.index, partial(call.go_on, again)):
                raise ERR_INVALID_AUTH_TOKEN from None
            return False
        return True

    def _try_again(self, rule: str, handler: UnaryHandler, call: UnaryCall, body: bytes) -> None:
        self._check(rule, call, final=True)
        handler(call, body)

    def _check(self, rule: str, call: UnaryCall, *, final: bool = False) -> None:
        try:
            self._gate.check(rule, call, final=final)
        except EtcdError as refused:
            raise (without_code(refused) if rule == INNER_KEYS else refused) from None

    async def _let_stream_in(self, rule: str, call: StreamCall) -> None:
        """Return once the caller is known, if there is anything to know.

        Raises:
            EtcdError: the caller may not.
        """
        try:
            self._gate.check(rule, call)
        except NotYetKnownError as early:
            await self._applied(early.index)
            if rule != STREAM_KEYS:
                self._gate.check(rule, call, final=True)
        except EtcdError as refused:
            if rule != STREAM_KEYS:
                raise
            refused.forget()  # it is refused in the stream, request by request

    async def _applied(self, index: int) -> None:
        applied: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def settle() -> None:
            if not applied.done():
                applied.set_result(None)

        if not self._gate.when_applied(index, settle):
            raise ERR_INVALID_AUTH_TOKEN
        await applied


def asks_for_leader(call: UnaryCall | StreamCall) -> bool:
    """Whether the client wants an answer only from a member that has a leader."""
    return call.metadata().get(LEADER_METADATA, ())[:1] == [LEADER_REQUIRED]


def learner_answers(path: str, body: bytes) -> bool:
    """Whether a unary call is one that a learner may answer.

    Raises:
        EtcdError: the body is no such request.
    """
    return path == STATUS or (path == RANGE and parse(RangeRequest, body).serializable)
