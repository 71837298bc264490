"""A thin typed gRPC client on grpcio, which shares no code with the server's own HTTP/2.

Every method takes the request message's fields as keywords and returns the response message; a refusal is
grpcio's ``grpc.RpcError``, or one of the catalogue's errors inside ``refused_with``.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar, cast, final

import grpc
from google.protobuf.message import Message

from kvorum.errors import EtcdError
from kvorum.proto import rpc_pb2 as pb

R = TypeVar("R", bound=Message)

CALL_SECONDS: Final = 20.0
_OPTIONS: Final = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
)


@contextmanager
def refused_with(error: EtcdError) -> Iterator[None]:
    """Expect the block to be refused with exactly this error: code and text, as clients compare them."""
    try:
        yield
    except grpc.RpcError as refusal:
        call = cast("grpc.Call", refusal)
        assert (call.code().value[0], call.details()) == (error.code, error.message)
        return
    raise AssertionError(f"was not refused; expected {error.message!r}")


@final
class Client:
    """One channel to one member. Calls wait for the connection, up to ``timeout_seconds`` each, unless
    ``wait_for_ready`` is False: then they fail as soon as it breaks.
    """

    def __init__(
        self,
        endpoint: str,
        timeout_seconds: float = CALL_SECONDS,
        *,
        wait_for_ready: bool = True,
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        self.timeout_seconds = timeout_seconds
        self.wait_for_ready: Final = wait_for_ready
        self.channel: Final = (
            grpc.insecure_channel(endpoint, options=_OPTIONS)
            if credentials is None
            else grpc.secure_channel(endpoint, credentials, options=_OPTIONS)
        )

    def call(
        self,
        method: str,
        request: Message,
        response: type[R],
        metadata: Sequence[tuple[str, str]] = (),
    ) -> R:
        """Make a unary call; ``method`` is ``package.Service/Method``. Raises grpc.RpcError."""
        stub = self.channel.unary_unary(
            f"/{method}", request_serializer=_serialize, response_deserializer=response.FromString
        )
        answer = stub(
            request,
            timeout=self.timeout_seconds,
            metadata=tuple(metadata),
            wait_for_ready=self.wait_for_ready,
        )
        return cast("R", answer)

    def stream(self, method: str, request: Message, response: type[R]) -> Iterator[R]:
        """Make a server-streaming call. Raises grpc.RpcError."""
        stub = self.channel.unary_stream(
            f"/{method}", request_serializer=_serialize, response_deserializer=response.FromString
        )
        answers = stub(request, timeout=self.timeout_seconds, wait_for_ready=self.wait_for_ready)
        return cast("Iterator[R]", answers)

    def range(self, key: bytes, range_end: bytes = b"", **fields: Any) -> pb.RangeResponse:
        """KV.Range."""
        request = pb.RangeRequest(key=key, range_end=range_end, **fields)
        return self.call("etcdserverpb.KV/Range", request, pb.RangeResponse)

    def range_stream(self, key: bytes, range_end: bytes = b"", **fields: Any) -> list[pb.RangeStreamResponse]:
        """KV.RangeStream, all of its messages."""
        request = pb.RangeRequest(key=key, range_end=range_end, **fields)
        return list(self.stream("etcdserverpb.KV/RangeStream", request, pb.RangeStreamResponse))

    def get(self, key: bytes, **fields: Any) -> bytes | None:
        """Return the value of one key, or None."""
        kvs = self.range(key, **fields).kvs
        return kvs[0].value if kvs else None

    def put(self, key: bytes, value: bytes, **fields: Any) -> pb.PutResponse:
        """KV.Put."""
        request = pb.PutRequest(key=key, value=value, **fields)
        return self.call("etcdserverpb.KV/Put", request, pb.PutResponse)

    def delete(self, key: bytes, range_end: bytes = b"", **fields: Any) -> pb.DeleteRangeResponse:
        """KV.DeleteRange."""
        request = pb.DeleteRangeRequest(key=key, range_end=range_end, **fields)
        return self.call("etcdserverpb.KV/DeleteRange", request, pb.DeleteRangeResponse)

    def txn(
        self,
        compare: Sequence[pb.Compare] = (),
        success: Sequence[pb.RequestOp] = (),
        failure: Sequence[pb.RequestOp] = (),
    ) -> pb.TxnResponse:
        """KV.Txn."""
        request = pb.TxnRequest(compare=compare, success=success, failure=failure)
        return self.call("etcdserverpb.KV/Txn", request, pb.TxnResponse)

    def compact(self, revision: int, *, physical: bool = False) -> pb.CompactionResponse:
        """KV.Compact."""
        request = pb.CompactionRequest(revision=revision, physical=physical)
        return self.call("etcdserverpb.KV/Compact", request, pb.CompactionResponse)

    def grant(self, ttl: int, lease_id: int = 0) -> pb.LeaseGrantResponse:
        """Lease.LeaseGrant."""
        request = pb.LeaseGrantRequest(TTL=ttl, ID=lease_id)
        return self.call("etcdserverpb.Lease/LeaseGrant", request, pb.LeaseGrantResponse)

    def revoke(self, lease_id: int) -> pb.LeaseRevokeResponse:
        """Lease.LeaseRevoke."""
        request = pb.LeaseRevokeRequest(ID=lease_id)
        return self.call("etcdserverpb.Lease/LeaseRevoke", request, pb.LeaseRevokeResponse)

    def time_to_live(self, lease_id: int, *, keys: bool = False) -> pb.LeaseTimeToLiveResponse:
        """Lease.LeaseTimeToLive."""
        request = pb.LeaseTimeToLiveRequest(ID=lease_id, keys=keys)
        return self.call("etcdserverpb.Lease/LeaseTimeToLive", request, pb.LeaseTimeToLiveResponse)

    def leases(self) -> list[int]:
        """Lease.LeaseLeases: the ids."""
        answer = self.call("etcdserverpb.Lease/LeaseLeases", pb.LeaseLeasesRequest(), pb.LeaseLeasesResponse)
        return [status.ID for status in answer.leases]

    def status(self) -> pb.StatusResponse:
        """Maintenance.Status."""
        return self.call("etcdserverpb.Maintenance/Status", pb.StatusRequest(), pb.StatusResponse)

    def hash(self) -> pb.HashResponse:
        """Maintenance.Hash."""
        return self.call("etcdserverpb.Maintenance/Hash", pb.HashRequest(), pb.HashResponse)

    def hash_kv(self, revision: int = 0) -> pb.HashKVResponse:
        """Maintenance.HashKV."""
        request = pb.HashKVRequest(revision=revision)
        return self.call("etcdserverpb.Maintenance/HashKV", request, pb.HashKVResponse)

    def member_list(self, *, linearizable: bool = True) -> pb.MemberListResponse:
        """Cluster.MemberList."""
        request = pb.MemberListRequest(linearizable=linearizable)
        return self.call("etcdserverpb.Cluster/MemberList", request, pb.MemberListResponse)

    def member_add(self, peer_url: str, *, learner: bool = False) -> pb.MemberAddResponse:
        """Cluster.MemberAdd."""
        request = pb.MemberAddRequest(peerURLs=[peer_url], isLearner=learner)
        return self.call("etcdserverpb.Cluster/MemberAdd", request, pb.MemberAddResponse)

    def member_remove(self, member_id: int) -> pb.MemberRemoveResponse:
        """Cluster.MemberRemove."""
        request = pb.MemberRemoveRequest(ID=member_id)
        return self.call("etcdserverpb.Cluster/MemberRemove", request, pb.MemberRemoveResponse)

    def member_update(self, member_id: int, peer_url: str) -> pb.MemberUpdateResponse:
        """Cluster.MemberUpdate."""
        request = pb.MemberUpdateRequest(ID=member_id, peerURLs=[peer_url])
        return self.call("etcdserverpb.Cluster/MemberUpdate", request, pb.MemberUpdateResponse)

    def member_promote(self, member_id: int) -> pb.MemberPromoteResponse:
        """Cluster.MemberPromote."""
        request = pb.MemberPromoteRequest(ID=member_id)
        return self.call("etcdserverpb.Cluster/MemberPromote", request, pb.MemberPromoteResponse)

    def move_leader(self, target_id: int) -> pb.MoveLeaderResponse:
        """Maintenance.MoveLeader; only the leader takes it."""
        request = pb.MoveLeaderRequest(targetID=target_id)
        return self.call("etcdserverpb.Maintenance/MoveLeader", request, pb.MoveLeaderResponse)

    def close(self) -> None:
        """Close the channel."""
        self.channel.close()

    def __enter__(self) -> "Client":
        """Return the client itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the channel."""
        self.close()


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()


def op_put(key: bytes, value: bytes, **fields: Any) -> pb.RequestOp:
    """Return a put for a transaction."""
    return pb.RequestOp(request_put=pb.PutRequest(key=key, value=value, **fields))


def op_range(key: bytes, range_end: bytes = b"", **fields: Any) -> pb.RequestOp:
    """Return a range for a transaction."""
    return pb.RequestOp(request_range=pb.RangeRequest(key=key, range_end=range_end, **fields))


def op_delete(key: bytes, range_end: bytes = b"", **fields: Any) -> pb.RequestOp:
    """Return a delete for a transaction."""
    return pb.RequestOp(request_delete_range=pb.DeleteRangeRequest(key=key, range_end=range_end, **fields))
