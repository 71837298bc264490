"""All services of the v3 API, put into one server's table."""

from kvorum.api.gate import Gate
from kvorum.api.v3.admission import Admission
from kvorum.api.v3.auth import AuthService
from kvorum.api.v3.cluster import ClusterService
from kvorum.api.v3.election import ElectionService
from kvorum.api.v3.kv import KvService
from kvorum.api.v3.lease import LeaseService
from kvorum.api.v3.lock import LockService
from kvorum.api.v3.maintenance import MaintenanceService
from kvorum.api.v3.standing import StandingStreams
from kvorum.api.v3.waiting import WaitingCalls
from kvorum.api.v3.watch import WatchService
from kvorum.logging import Logger
from kvorum.rpc.grpc import GrpcServer
from kvorum.server.handover import Handover
from kvorum.server.node import Node
from kvorum.server.passwords import Passwords
from kvorum.server.reconfigure import Reconfigure
from kvorum.server.transfer import SnapshotSource


def install_services(
    server: GrpcServer,
    node: Node,
    gate: Gate,
    passwords: Passwords,
    log: Logger,
    *,
    max_txn_ops: int,
    max_request_bytes: int,
    reconfigure: Reconfigure | None = None,
    handover: Handover | None = None,
    snapshots: SnapshotSource | None = None,
) -> StandingStreams:
    """Register them; returns what ends their standing streams when the member stops."""
    methods = Admission(server, node, node.cluster, gate)
    standing = StandingStreams(node)
    KvService(node, gate, max_txn_ops=max_txn_ops, max_request_bytes=max_request_bytes).register(methods)
    WatchService(node, gate, standing).register(methods)
    waiting = WaitingCalls()
    standing.when_stopped(waiting.stop)
    LeaseService(node, gate, standing, waiting).register(methods)
    LockService(node, gate, waiting, max_txn_ops=max_txn_ops).register(methods)
    ElectionService(node, gate, waiting, standing, max_txn_ops=max_txn_ops).register(methods)
    MaintenanceService(node, gate, handover, waiting, snapshots).register(methods)
    ClusterService(node, gate, reconfigure, waiting).register(methods)
    auth = AuthService(node, gate, passwords, log)
    auth.register(methods)
    standing.when_stopped(auth.waiting.stop)
    return standing
