"""Every method of the v3 API, and where the proxy sends it.

A method whose request only asks may be sent again to another member; the others only if they certainly were
not sent. Source of behaviour: etcd ``server/proxy/grpcproxy``, ``client/v3/retry.go``.
"""

from typing import Final

from kvorum.proto import rpc_pb2
from kvorum.proxy.grpc.keepalive import KeepAlive
from kvorum.proxy.grpc.kv import KvWork, parsed
from kvorum.proxy.grpc.members import Members
from kvorum.proxy.grpc.namespace import Namespace
from kvorum.proxy.grpc.passing import Ask, Passing, Work
from kvorum.proxy.grpc.upstream import Metadata
from kvorum.proxy.grpc.watching import WatchService
from kvorum.rpc.grpc import GrpcServer

_SERVER_STREAM: Final = "server_stream"

ASKING: Final = {
    "etcdserverpb.Lease": ("LeaseLeases",),
    "etcdserverpb.Maintenance": ("Status", "Hash", "HashKV"),
    "etcdserverpb.Auth": ("AuthStatus", "Authenticate", "UserGet", "UserList", "RoleGet", "RoleList"),
    "v3electionpb.Election": ("Leader",),
}
"""Methods that change nothing."""

CHANGING: Final = {
    "etcdserverpb.Lease": ("LeaseGrant", "LeaseRevoke"),
    "etcdserverpb.Cluster": ("MemberAdd", "MemberRemove", "MemberUpdate", "MemberPromote"),
    "etcdserverpb.Maintenance": ("Alarm", "Defragment", "MoveLeader", "Downgrade"),
    "etcdserverpb.Auth": (
        "AuthEnable", "AuthDisable", "UserAdd", "UserDelete", "UserChangePassword", "UserGrantRole",
        "UserRevokeRole", "RoleAdd", "RoleDelete", "RoleGrantPermission", "RoleRevokePermission",
    ),
    "v3lockpb.Lock": ("Lock", "Unlock"),
    "v3electionpb.Election": ("Campaign", "Proclaim", "Resign"),
}  # fmt: skip
"""Methods that change something."""


def install(
    grpc: GrpcServer,
    passing: Passing,
    kv: KvWork,
    watch: WatchService,
    keep_alive: KeepAlive,
    members: Members,
    namespace: Namespace,
) -> None:
    """Register all methods."""

    def pass_on(service: str, method: str, *, repeatable: bool, work: Work | None = None) -> None:
        path = f"/{service}/{method}"
        grpc.unary(path, passing.unary(path, repeatable=repeatable, work=work))

    for methods, repeatable in ((ASKING, True), (CHANGING, False)):
        for service, names in methods.items():
            for name in names:
                pass_on(service, name, repeatable=repeatable)
    pass_on("etcdserverpb.KV", "Range", repeatable=True, work=kv.range)
    pass_on("etcdserverpb.KV", "Put", repeatable=False, work=kv.put)
    pass_on("etcdserverpb.KV", "DeleteRange", repeatable=False, work=kv.delete_range)
    pass_on("etcdserverpb.KV", "Txn", repeatable=False, work=kv.txn)
    pass_on("etcdserverpb.KV", "Compact", repeatable=False, work=kv.compact)
    pass_on("etcdserverpb.Cluster", "MemberList", repeatable=True, work=members.member_list)
    pass_on("etcdserverpb.Lease", "LeaseTimeToLive", repeatable=True, work=_time_to_live(namespace))
    streams = ["/etcdserverpb.Maintenance/Snapshot", "/v3electionpb.Election/Observe"]
    if not namespace:
        streams.append("/etcdserverpb.KV/RangeStream")
    for path in streams:
        grpc.stream(path, passing.server_stream(path), _SERVER_STREAM)
    grpc.stream("/etcdserverpb.Watch/Watch", watch.watch)
    grpc.stream("/etcdserverpb.Lease/LeaseKeepAlive", keep_alive.keep_alive)


def _time_to_live(namespace: Namespace) -> Work:
    """Lease.LeaseTimeToLive, which tells keys."""

    async def work(message: bytes, ask: Ask, _: Metadata) -> bytes:
        answer = await ask(message)
        if not namespace or not parsed(rpc_pb2.LeaseTimeToLiveRequest, message).keys:
            return answer
        told = rpc_pb2.LeaseTimeToLiveResponse.FromString(answer)
        prefix = namespace.prefix
        ours = [key[len(prefix) :] for key in told.keys if key.startswith(prefix)]
        del told.keys[:]
        told.keys.extend(ours)
        return told.SerializeToString()

    return work
