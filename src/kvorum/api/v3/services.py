"""All services of the v3 API, put into one server's table."""

from kvorum.api.v3.cluster import ClusterService
from kvorum.api.v3.election import ElectionService
from kvorum.api.v3.kv import KvService
from kvorum.api.v3.lease import LeaseService
from kvorum.api.v3.lock import LockService
from kvorum.api.v3.maintenance import MaintenanceService
from kvorum.api.v3.standing import StandingStreams
from kvorum.api.v3.waiting import WaitingCalls
from kvorum.api.v3.watch import WatchService
from kvorum.rpc.grpc import GrpcServer
from kvorum.server.node import Node


def install_services(
    server: GrpcServer, node: Node, *, max_txn_ops: int, max_request_bytes: int
) -> StandingStreams:
    """Register them; returns what ends their standing streams when the member stops."""
    standing = StandingStreams(node)
    KvService(node, max_txn_ops=max_txn_ops, max_request_bytes=max_request_bytes).register(server)
    WatchService(node, standing).register(server)
    LeaseService(node, standing).register(server)
    waiting = WaitingCalls()
    standing.when_stopped(waiting.stop)
    LockService(node, waiting, max_txn_ops=max_txn_ops).register(server)
    ElectionService(node, waiting, standing, max_txn_ops=max_txn_ops).register(server)
    MaintenanceService(node).register(server)
    ClusterService(node).register(server)
    return standing
