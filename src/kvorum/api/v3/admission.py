"""Whether a call is served here and now: not every one is by a learner, or by a member without a leader.

A learner may lag without bound, so it answers only what says nothing about the cluster's newest state. A
client that cannot do with a member that is cut off asks for a leader in its metadata ("hasleader"); streams
that stay open are watched over in ``standing.py``. Source: etcd ``api/v3rpc/interceptor.go``
(newUnaryInterceptor, newStreamInterceptor), ``util.go`` (isRPCSupportedForLearner).
"""

from typing import Final, Protocol, final

from kvorum.api.v3.service import parse
from kvorum.api.v3.standing import LEADER_METADATA, LEADER_REQUIRED
from kvorum.errors import ERR_NO_LEADER, ERR_NOT_SUPPORTED_FOR_LEARNER, EtcdError
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
    """Registers methods so that they are only called when they may be answered."""

    def __init__(self, server: GrpcServer, member: Led, cluster: Cluster) -> None:
        self._server: Final = server
        self._member: Final = member
        self._cluster: Final = cluster

    def unary(self, path: str, handler: UnaryHandler) -> None:
        """Serve a unary method."""
        member, cluster = self._member, self._cluster

        def admitted(call: UnaryCall, body: bytes) -> None:
            if not member.leader or cluster.is_learner:
                refusal = self._refusal(call, body)
                if refusal is not None:
                    call.fail(refusal.code, refusal.message)
                    return
            handler(call, body)

        self._server.unary(path, admitted)

    def stream(self, path: str, handler: StreamHandler, kind: str = BIDI_STREAM) -> None:
        """Serve a streaming method."""
        member, cluster = self._member, self._cluster

        async def admitted(call: StreamCall) -> None:
            if cluster.is_learner and path != SNAPSHOT:
                raise ERR_NOT_SUPPORTED_FOR_LEARNER
            if not member.leader and asks_for_leader(call):
                raise ERR_NO_LEADER
            await handler(call)

        self._server.stream(path, admitted, kind)

    def _refusal(self, call: UnaryCall, body: bytes) -> EtcdError | None:
        if self._cluster.is_learner and not learner_answers(call.method, body):
            return ERR_NOT_SUPPORTED_FOR_LEARNER
        return ERR_NO_LEADER if not self._member.leader and asks_for_leader(call) else None


def asks_for_leader(call: UnaryCall | StreamCall) -> bool:
    """Whether the client wants an answer only from a member that has a leader."""
    return call.metadata().get(LEADER_METADATA, ())[:1] == [LEADER_REQUIRED]


def learner_answers(path: str, body: bytes) -> bool:
    """Whether a unary call is one that a learner may answer.

    Raises:
        EtcdError: the body is no such request.
    """
    return path == STATUS or (path == RANGE and parse(RangeRequest, body).serializable)
