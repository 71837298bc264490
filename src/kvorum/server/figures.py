"""What the node shows of itself: to health checks, and to ``/metrics``."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, final

from kvorum import ETCD_VERSION
from kvorum.api.http.health import HealthHandlers
from kvorum.apply.alarms import NONE
from kvorum.logging import hex_id
from kvorum.metrics import Figure, Labels, Metrics, bind_calls, bind_process, histogram
from kvorum.proto.rpc_pb2 import AlarmType
from kvorum.rpc.observer import RpcObserver
from kvorum.server.bootstrap import Begun
from kvorum.server.node import Node
from kvorum.v2store.stats import EXPIRE_COUNT


@final
class NodeHealth:
    """The node as the health endpoints ask about it."""

    def __init__(self, node: Node, request_timeout_seconds: float) -> None:
        self._node: Final = node
        self.request_timeout_seconds: Final = request_timeout_seconds

    def has_leader(self) -> bool:
        """Whether this member knows a leader."""
        return self._node.leader != 0

    def is_learner(self) -> bool:
        """Whether this member is a learner."""
        return self._node.is_learner

    def alarms(self) -> Sequence[str]:
        """Names of the alarms that are raised, one for each member that raised it."""
        return [AlarmType.Name(raised.alarm) for raised in self._node.alarms.of(NONE)]

    def serializable_read(self) -> None:
        """Read one key of this member's store."""
        self._node.store.read().range(b"health", b"", count_only=True)

    async def linearizable_read(self) -> None:
        """Read one key after the quorum has confirmed how far the log goes."""
        await self._node.linearizable_read()
        self.serializable_read()


def bind_metrics(
    node: Node, begun: Begun, observer: RpcObserver, health: HealthHandlers, *, quota_bytes: int
) -> Metrics:
    """Name the source of every metric that this member has."""
    metrics = Metrics()
    bind = metrics.bind
    store = begun.store
    bind_process(metrics)
    bind_calls(metrics, observer)
    bind("etcd_disk_wal_fsync_duration_seconds", begun.figures.fsync_seconds)
    bind("etcd_disk_wal_write_bytes_total", lambda: begun.wal.bytes_written)
    bind("etcd_disk_backend_commit_duration_seconds", begun.figures.commit_seconds)
    bind("etcd_mvcc_db_total_size_in_bytes", lambda: store.backend.size)
    bind("etcd_mvcc_db_total_size_in_use_in_bytes", lambda: store.backend.size_in_use)
    bind("etcd_mvcc_db_open_read_transactions", lambda: len(store.backend.snapshots))
    bind("etcd_mvcc_put_total", lambda: store.puts)
    bind("etcd_mvcc_delete_total", lambda: store.deletes)
    bind("etcd_mvcc_range_total", lambda: store.ranges)
    bind("etcd_debugging_mvcc_range_total", lambda: store.ranges)
    bind("etcd_mvcc_txn_total", lambda: store.txns)
    bind("etcd_debugging_mvcc_keys_total", lambda: len(store.index))
    bind("etcd_debugging_mvcc_current_revision", lambda: store.revision)
    bind("etcd_debugging_mvcc_compact_revision", lambda: store.compact_revision)
    bind("etcd_debugging_mvcc_db_compaction_keys_total", lambda: store.compacted_revisions)
    bind("etcd_debugging_auth_revision", lambda: node.auth.store.revision)
    _bind_watches(metrics, node)
    _bind_leases(metrics, node)
    _bind_v2(metrics, node)
    bind("etcd_server_has_leader", lambda: int(node.leader != 0))
    bind("etcd_server_is_leader", lambda: int(node.is_leader))
    bind("etcd_server_is_learner", lambda: int(node.is_learner))
    bind("etcd_server_learner_promote_successes", lambda: node.reconfigure.promotions_total)
    bind("etcd_server_leader_changes_seen_total", lambda: node.leader_changes_total)
    bind("etcd_server_proposals_applied_total", lambda: node.applied_index)
    bind("etcd_server_proposals_committed_total", lambda: node.committed_index)
    bind("etcd_server_proposals_pending", lambda: node.proposals.pending)
    bind("etcd_server_proposals_failed_total", lambda: node.proposals.failed_total)
    bind("etcd_server_read_indexes_failed_total", lambda: node.reads.failed_total)
    bind("etcd_server_slow_read_indexes_total", lambda: node.reads.slow_total)
    bind("etcd_server_quota_backend_bytes", lambda: quota_bytes)
    bind("etcd_server_health_success", lambda: health.successes)
    bind("etcd_server_health_failures", lambda: health.failures)
    bind("etcd_server_healthcheck", lambda: _figures(health.last_result))
    bind("etcd_server_healthchecks_total", lambda: _figures(health.results))
    bind("etcd_server_id", lambda: {(hex_id(node.member_id),): 1})
    bind("etcd_server_version", lambda: {(ETCD_VERSION,): 1})
    bind("etcd_cluster_version", lambda: {(_short(node.cluster.version),): 1} if node.cluster.version else {})
    return metrics


def _bind_watches(metrics: Metrics, node: Node) -> None:
    hub = node.watch_hub
    metrics.bind("etcd_debugging_mvcc_watch_stream_total", lambda: hub.streams)
    metrics.bind("etcd_debugging_mvcc_watcher_total", lambda: hub.watchers)
    metrics.bind("etcd_debugging_mvcc_slow_watcher_total", lambda: hub.slow_watchers)
    metrics.bind("etcd_debugging_mvcc_events_total", lambda: hub.events)
    metrics.bind("etcd_debugging_mvcc_pending_events_total", lambda: hub.queued_events)


def _bind_leases(metrics: Metrics, node: Node) -> None:
    lessor = node.lessor
    ttl_seconds = histogram("etcd_debugging_lease_ttl_total")
    lessor.observe_ttl = ttl_seconds.observe
    metrics.bind("etcd_debugging_lease_ttl_total", ttl_seconds)
    metrics.bind("etcd_debugging_lease_granted_total", lambda: lessor.granted)
    metrics.bind("etcd_debugging_lease_revoked_total", lambda: lessor.revoked)
    metrics.bind("etcd_debugging_lease_renewed_total", lambda: lessor.renewed)
    metrics.bind("etcd_debugging_server_lease_expired_total", lambda: node.leases.expired_total)


def _bind_v2(metrics: Metrics, node: Node) -> None:
    """What was done to the v2 store; counts of writes go on over restarts, since they are of the log."""
    store = node.v2.store
    metrics.bind("etcd_debugging_store_expires_total", lambda: store.stats.counts[EXPIRE_COUNT])
    metrics.bind("etcd_debugging_store_reads_total", store.stats.reads)
    metrics.bind("etcd_debugging_store_watch_requests_total", lambda: store.hub.requests_total)
    metrics.bind("etcd_debugging_store_watchers", lambda: store.hub.count)
    metrics.bind("etcd_debugging_store_writes_total", store.stats.writes)


def _figures(counts: Mapping[Any, int]) -> Mapping[Labels, Figure]:
    return {tuple(labels): count for labels, count in counts.items()}


def _short(version: str | None) -> str:
    return ".".join((version or "").split(".")[:2])
