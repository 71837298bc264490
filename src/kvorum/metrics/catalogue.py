"""Every metric that Kvorum may expose: name, type, labels, help text, buckets.

Names, types and labels are those of ``facts/metrics.csv``, on which people's dashboards and alerts stand (a
test compares the two, and the buckets with a scrape of etcd). Help texts are our own.
"""

from dataclasses import dataclass
from typing import Final

COUNTER: Final = "counter"
GAUGE: Final = "gauge"
HISTOGRAM: Final = "histogram"


@dataclass(frozen=True)
class Metric:
    """One metric as scrapers see it."""

    name: str
    type: str
    """COUNTER, GAUGE or HISTOGRAM."""
    help: str
    labels: tuple[str, ...] = ()
    """Label names in alphabetical order."""
    buckets: tuple[float, ...] = ()
    """Upper bounds of a histogram's buckets, without the last, infinite one."""
    since: str = "3.5"
    """The first etcd release that Kvorum took it from."""
    clustered: bool = False
    """Whether only members that have others show it; the facts are of one that has none."""


def _doubling(first: float, count: int) -> tuple[float, ...]:
    return tuple(first * 2**step for step in range(count))


_DISK_SECONDS: Final = _doubling(0.001, 14)
_APPLY_SECONDS: Final = _doubling(0.0001, 20)
_SNAPSHOT_SECONDS: Final = _doubling(0.01, 17)
_HASH_SECONDS: Final = _doubling(0.01, 15)
_DEFRAG_SECONDS: Final = _doubling(0.1, 13)
_PROXY_SECONDS: Final = _doubling(0.0005, 13)
_DB_SAVE_SECONDS: Final = _doubling(0.1, 10)
_ROUND_TRIP_SECONDS: Final = _doubling(0.0001, 16)
_LEASE_SECONDS: Final = _doubling(1, 24)
_INDEX_PAUSE_MS: Final = _doubling(0.5, 14)
_DB_PAUSE_MS: Final = _doubling(1, 13)
_COMPACTION_MS: Final = _doubling(100, 14)

_METRICS: Final = (
    Metric(
        "etcd_cluster_version",
        GAUGE,
        "The version that the members have agreed on, as a label; always 1.",
        labels=("cluster_version",),
    ),
    Metric("etcd_debugging_auth_revision", GAUGE, "Revision of the users, roles and permissions."),
    Metric(
        "etcd_debugging_disk_backend_commit_rebalance_duration_seconds",
        HISTOGRAM,
        "Time a database commit spent merging pages.",
        buckets=_DISK_SECONDS,
    ),
    Metric(
        "etcd_debugging_disk_backend_commit_spill_duration_seconds",
        HISTOGRAM,
        "Time a database commit spent splitting and placing pages.",
        buckets=_DISK_SECONDS,
    ),
    Metric(
        "etcd_debugging_disk_backend_commit_write_duration_seconds",
        HISTOGRAM,
        "Time a database commit spent writing and syncing pages.",
        buckets=_DISK_SECONDS,
    ),
    Metric("etcd_debugging_lease_granted_total", COUNTER, "Leases granted."),
    Metric("etcd_debugging_lease_renewed_total", COUNTER, "Leases renewed by this member as leader."),
    Metric("etcd_debugging_lease_revoked_total", COUNTER, "Leases revoked."),
    Metric(
        "etcd_debugging_lease_ttl_total",
        HISTOGRAM,
        "Time to live of leases, in seconds, as granted.",
        buckets=_LEASE_SECONDS,
    ),
    Metric(
        "etcd_debugging_mvcc_compact_revision", GAUGE, "Revision of the last compaction, -1 before the first."
    ),
    Metric("etcd_debugging_mvcc_current_revision", GAUGE, "Revision of the last change to the key space."),
    Metric("etcd_debugging_mvcc_db_compaction_keys_total", COUNTER, "Key revisions removed by compactions."),
    Metric(
        "etcd_debugging_mvcc_db_compaction_last",
        GAUGE,
        "Unix time at which the last compaction ended; 0 before the first.",
    ),
    Metric(
        "etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds",
        HISTOGRAM,
        "Time that one slice of a database compaction held up others.",
        buckets=_DB_PAUSE_MS,
    ),
    Metric(
        "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds",
        HISTOGRAM,
        "Time a database compaction took from start to end.",
        buckets=_COMPACTION_MS,
    ),
    Metric("etcd_debugging_mvcc_events_total", COUNTER, "Events sent to watchers."),
    Metric(
        "etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds",
        HISTOGRAM,
        "Time that compacting the key index held up others.",
        buckets=_INDEX_PAUSE_MS,
    ),
    Metric("etcd_debugging_mvcc_keys_total", GAUGE, "Keys that exist."),
    Metric("etcd_debugging_mvcc_pending_events_total", GAUGE, "Events that wait to be sent to watchers."),
    Metric(
        "etcd_debugging_mvcc_range_total", COUNTER, "Ranges read (the older name of etcd_mvcc_range_total)."
    ),
    Metric("etcd_debugging_mvcc_slow_watcher_total", GAUGE, "Watchers that are behind the key space."),
    Metric("etcd_debugging_mvcc_total_put_size_in_bytes", GAUGE, "Bytes of keys and values put."),
    Metric("etcd_debugging_mvcc_watch_stream_total", GAUGE, "Watch streams that are open."),
    Metric("etcd_debugging_mvcc_watcher_total", GAUGE, "Watchers that exist."),
    Metric("etcd_debugging_server_lease_expired_total", COUNTER, "Leases that ran out."),
    Metric(
        "etcd_debugging_snap_save_marshalling_duration_seconds",
        HISTOGRAM,
        "Time spent encoding a snapshot.",
        buckets=_DISK_SECONDS,
    ),
    Metric(
        "etcd_debugging_snap_save_total_duration_seconds",
        HISTOGRAM,
        "Time saving a snapshot took altogether.",
        buckets=_DISK_SECONDS,
    ),
    Metric("etcd_debugging_store_expires_total", COUNTER, "Keys of the v2 store whose time to live ran out."),
    Metric(
        "etcd_debugging_store_reads_total",
        COUNTER,
        "Reads of the v2 store by kind, on this member.",
        labels=("action",),
    ),
    Metric(
        "etcd_debugging_store_watch_requests_total", COUNTER, "Watches of the v2 store that were asked for."
    ),
    Metric("etcd_debugging_store_watchers", GAUGE, "Watchers of the v2 store that wait."),
    Metric(
        "etcd_debugging_store_writes_total",
        COUNTER,
        "Writes to the v2 store by kind, as seen by this member.",
        labels=("action",),
    ),
    Metric(
        "etcd_disk_backend_commit_duration_seconds",
        HISTOGRAM,
        "Time a database commit took.",
        buckets=_DISK_SECONDS,
    ),
    Metric(
        "etcd_disk_backend_defrag_duration_seconds",
        HISTOGRAM,
        "Time a defragmentation took.",
        buckets=_DEFRAG_SECONDS,
    ),
    Metric(
        "etcd_disk_backend_snapshot_duration_seconds",
        HISTOGRAM,
        "Time sending a snapshot of the database took.",
        buckets=_SNAPSHOT_SECONDS,
    ),
    Metric("etcd_disk_defrag_inflight", GAUGE, "1 while the database is being defragmented, else 0."),
    Metric(
        "etcd_disk_wal_fsync_duration_seconds",
        HISTOGRAM,
        "Time one sync of the write-ahead log took.",
        buckets=_DISK_SECONDS,
    ),
    Metric("etcd_disk_wal_write_bytes_total", GAUGE, "Bytes written to the write-ahead log."),
    Metric("etcd_grpc_proxy_cache_hits_total", GAUGE, "Reads that the gRPC proxy answered from its cache."),
    Metric("etcd_grpc_proxy_cache_keys_total", GAUGE, "Ranges in the gRPC proxy's cache."),
    Metric("etcd_grpc_proxy_cache_misses_total", GAUGE, "Reads that the gRPC proxy passed on."),
    Metric(
        "etcd_grpc_proxy_events_coalescing_total",
        COUNTER,
        "Events that the gRPC proxy sent to more than one client from one watch.",
    ),
    Metric(
        "etcd_grpc_proxy_watchers_coalescing_total",
        GAUGE,
        "Client watches that share one watch of the gRPC proxy.",
    ),
    Metric(
        "etcd_proxy_dropped_total",
        COUNTER,
        "Requests that the v2 proxy got no answer for.",
        labels=("method", "proxying_error"),
        since="2.3",
    ),
    Metric(
        "etcd_proxy_handled_total",
        COUNTER,
        "Requests that a member behind the v2 proxy answered.",
        labels=("code", "method"),
        since="2.3",
    ),
    Metric(
        "etcd_proxy_handling_duration_seconds",
        HISTOGRAM,
        "Time to a member's answer, by method.",
        labels=("method",),
        buckets=_PROXY_SECONDS,
        since="2.3",
    ),
    Metric(
        "etcd_proxy_requests_total",
        COUNTER,
        "Requests to the v2 proxy.",
        labels=("method",),
        since="2.3",
    ),
    Metric("etcd_mvcc_db_open_read_transactions", GAUGE, "Read transactions open on the database."),
    Metric("etcd_mvcc_db_total_size_in_bytes", GAUGE, "Size of the database file, free pages included."),
    Metric("etcd_mvcc_db_total_size_in_use_in_bytes", GAUGE, "Bytes of the database file that hold data."),
    Metric("etcd_mvcc_delete_total", COUNTER, "Deletes applied by this member."),
    Metric(
        "etcd_mvcc_hash_duration_seconds",
        HISTOGRAM,
        "Time hashing the whole database took.",
        buckets=_HASH_SECONDS,
    ),
    Metric(
        "etcd_mvcc_hash_rev_duration_seconds",
        HISTOGRAM,
        "Time hashing the key space up to a revision took.",
        buckets=_HASH_SECONDS,
    ),
    Metric("etcd_mvcc_put_total", COUNTER, "Puts applied by this member."),
    Metric("etcd_mvcc_range_total", COUNTER, "Ranges read by this member."),
    Metric("etcd_mvcc_txn_total", COUNTER, "Transactions with more than one change applied by this member."),
    Metric(
        "etcd_network_active_peers",
        GAUGE,
        "1 while a peer can be reached, else 0.",
        labels=("Local", "Remote"),
        clustered=True,
    ),
    Metric(
        "etcd_network_client_grpc_received_bytes_total", COUNTER, "Message bytes received from gRPC clients."
    ),
    Metric("etcd_network_client_grpc_sent_bytes_total", COUNTER, "Message bytes sent to gRPC clients."),
    Metric(
        "etcd_network_disconnected_peers_total",
        COUNTER,
        "How often a peer could not be reached any more.",
        labels=("Local", "Remote"),
        clustered=True,
    ),
    Metric(
        "etcd_network_peer_received_bytes_total",
        COUNTER,
        "Bytes received from peers.",
        labels=("From",),
        clustered=True,
    ),
    Metric(
        "etcd_network_peer_received_failures_total",
        COUNTER,
        "Requests of peers that could not be read.",
        labels=("From",),
        clustered=True,
    ),
    Metric(
        "etcd_network_peer_round_trip_time_seconds",
        HISTOGRAM,
        "Round-trip time of probes.",
        labels=("To",),
        buckets=_ROUND_TRIP_SECONDS,
        clustered=True,
    ),
    Metric(
        "etcd_network_peer_sent_bytes_total",
        COUNTER,
        "Bytes sent to peers.",
        labels=("To",),
        clustered=True,
    ),
    Metric(
        "etcd_network_peer_sent_failures_total",
        COUNTER,
        "Messages or connections to peers that were lost.",
        labels=("To",),
        clustered=True,
    ),
    Metric(
        "etcd_network_snapshot_receive_failures",
        COUNTER,
        "Snapshots that were not received to the end.",
        labels=("From",),
        clustered=True,
    ),
    Metric(
        "etcd_network_snapshot_receive_inflights_total",
        GAUGE,
        "Snapshots that are being received.",
        labels=("From",),
        clustered=True,
    ),
    Metric(
        "etcd_network_snapshot_receive_success",
        COUNTER,
        "Snapshots received.",
        labels=("From",),
        clustered=True,
    ),
    Metric(
        "etcd_network_snapshot_receive_total_duration_seconds",
        HISTOGRAM,
        "Time a snapshot took to be received.",
        labels=("From",),
        buckets=_DB_SAVE_SECONDS,
        clustered=True,
    ),
    Metric(
        "etcd_network_snapshot_send_failures",
        COUNTER,
        "Snapshots that were not sent to the end.",
        labels=("To",),
        clustered=True,
    ),
    Metric(
        "etcd_network_snapshot_send_inflights_total",
        GAUGE,
        "Snapshots that are being sent.",
        labels=("To",),
        clustered=True,
    ),
    Metric(
        "etcd_network_snapshot_send_success",
        COUNTER,
        "Snapshots sent.",
        labels=("To",),
        clustered=True,
    ),
    Metric(
        "etcd_network_snapshot_send_total_duration_seconds",
        HISTOGRAM,
        "Time a snapshot took to be sent.",
        labels=("To",),
        buckets=_DB_SAVE_SECONDS,
        clustered=True,
    ),
    Metric(
        "etcd_server_apply_duration_seconds",
        HISTOGRAM,
        "Time applying one entry took, by API version, operation and outcome.",
        labels=("op", "success", "version"),
        buckets=_APPLY_SECONDS,
    ),
    Metric(
        "etcd_server_client_requests_total",
        COUNTER,
        "Client requests by call type and the API version that the client named.",
        labels=("client_api_version", "type"),
    ),
    Metric(
        "etcd_server_go_version",
        GAUGE,
        "The language runtime that the server runs on, as a label; always 1.",
        labels=("server_go_version",),
    ),
    Metric("etcd_server_has_leader", GAUGE, "1 while this member knows a leader, else 0."),
    Metric("etcd_server_health_failures", COUNTER, "Health checks that were answered with a failure."),
    Metric("etcd_server_health_success", COUNTER, "Health checks that were answered with success."),
    Metric(
        "etcd_server_healthcheck",
        GAUGE,
        "Last result of each liveness and readiness check: 1 for success, else 0.",
        labels=("name", "type"),
        since="3.6",
    ),
    Metric(
        "etcd_server_healthchecks_total",
        COUNTER,
        "Liveness and readiness checks that ran, by result.",
        labels=("name", "status", "type"),
        since="3.6",
    ),
    Metric("etcd_server_heartbeat_send_failures_total", COUNTER, "Heartbeats that the leader sent too late."),
    Metric(
        "etcd_server_id",
        GAUGE,
        "This member's ID in hexadecimal, as a label; always 1.",
        labels=("server_id",),
    ),
    Metric("etcd_server_is_leader", GAUGE, "1 while this member leads, else 0."),
    Metric("etcd_server_is_learner", GAUGE, "1 while this member is a learner, else 0."),
    Metric("etcd_server_leader_changes_seen_total", COUNTER, "Changes of leader that this member saw."),
    Metric("etcd_server_learner_promote_successes", COUNTER, "Learners that this member promoted as leader."),
    Metric("etcd_server_proposals_applied_total", GAUGE, "Index of the last log entry applied."),
    Metric("etcd_server_proposals_committed_total", GAUGE, "Index of the last log entry committed."),
    Metric("etcd_server_proposals_failed_total", COUNTER, "Proposals that failed on this member."),
    Metric("etcd_server_proposals_pending", GAUGE, "Proposals that wait to be committed and applied."),
    Metric("etcd_server_quota_backend_bytes", GAUGE, "Size that the database may reach."),
    Metric(
        "etcd_server_read_indexes_failed_total",
        COUNTER,
        "Linearizable reads for which no read index could be had.",
    ),
    Metric("etcd_server_slow_apply_total", COUNTER, "Entries whose applying took longer than it should."),
    Metric("etcd_server_slow_read_indexes_total", COUNTER, "Read indexes that were slow or timed out."),
    Metric(
        "etcd_server_snapshot_apply_in_progress_total",
        GAUGE,
        "1 while a snapshot from the leader is being applied, else 0.",
    ),
    Metric(
        "etcd_server_version",
        GAUGE,
        "The server's version, as a label; always 1.",
        labels=("server_version",),
    ),
    Metric(
        "etcd_snap_db_fsync_duration_seconds",
        HISTOGRAM,
        "Time syncing a received database snapshot took.",
        buckets=_DISK_SECONDS,
    ),
    Metric(
        "etcd_snap_db_save_total_duration_seconds",
        HISTOGRAM,
        "Time saving a received database snapshot took altogether.",
        buckets=_DB_SAVE_SECONDS,
    ),
    Metric(
        "etcd_snap_fsync_duration_seconds",
        HISTOGRAM,
        "Time syncing a snapshot file took.",
        buckets=_DISK_SECONDS,
    ),
    Metric(
        "grpc_server_handled_total",
        COUNTER,
        "Calls that have ended, by status code.",
        labels=("grpc_code", "grpc_method", "grpc_service", "grpc_type"),
    ),
    Metric(
        "grpc_server_msg_received_total",
        COUNTER,
        "Messages received from clients.",
        labels=("grpc_method", "grpc_service", "grpc_type"),
    ),
    Metric(
        "grpc_server_msg_sent_total",
        COUNTER,
        "Messages sent to clients.",
        labels=("grpc_method", "grpc_service", "grpc_type"),
    ),
    Metric(
        "grpc_server_started_total",
        COUNTER,
        "Calls that have begun.",
        labels=("grpc_method", "grpc_service", "grpc_type"),
    ),
    Metric("os_fd_limit", GAUGE, "File descriptors that the process may have open."),
    Metric("os_fd_used", GAUGE, "File descriptors that the process has open."),
    Metric("process_cpu_seconds_total", COUNTER, "Processor time spent, user and system, in seconds."),
    Metric("process_max_fds", GAUGE, "File descriptors that the process may have open."),
    Metric("process_open_fds", GAUGE, "File descriptors that the process has open."),
    Metric("process_resident_memory_bytes", GAUGE, "Resident memory."),
    Metric("process_start_time_seconds", GAUGE, "When the process started, in Unix seconds."),
    Metric("process_virtual_memory_bytes", GAUGE, "Virtual memory."),
    Metric("process_virtual_memory_max_bytes", GAUGE, "Virtual memory that the process may have."),
)

CATALOGUE: Final = {metric.name: metric for metric in _METRICS}
"""All of them by name."""
