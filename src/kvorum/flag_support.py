"""What Kvorum does with each of etcd's flags that it does not simply obey.

Nothing is ignored in silence. A flag is obeyed (some room reads its field of `Config`), or it is harmless
here and taken with a reason (`HARMLESS`), or what it asks for is not there yet and any value but the default
is refused with one line (`NOT_THERE_YET`). When a feature arrives, its line goes away here; a test finds
fields that nobody reads.
"""

from collections.abc import Mapping
from typing import Final

_CA: Final = "etcd 3 removed it; use --trusted-ca-file or --peer-trusted-ca-file"
_TRACING: Final = "tracing is not there yet"
_COMPARE: Final = "comparing members is not there yet"
_SLOW: Final = "slow requests are not logged yet"

NOT_THERE_YET: Final[Mapping[str, str]] = {
    "listen-client-http-urls": "a listener for HTTP alone is not there yet; --listen-client-urls has both",
    "memory-mlock": "locking the database into memory is not there yet",
    "feature-gates": "no feature gate is there yet",
    "auto-compaction-retention": "automatic compaction is not there yet; run kvorumctl compaction",
    "ca-file": _CA,
    "peer-ca-file": _CA,
    "metrics": "histograms of calls are not there yet",
    "warning-apply-duration": _SLOW,
    "warning-unary-request-duration": _SLOW,
    "enable-pprof": "profiles over HTTP are not there yet",
    "enable-distributed-tracing": _TRACING,
    "corrupt-check-time": _COMPARE,
    "experimental-initial-corrupt-check": _COMPARE,
    "experimental-compact-hash-check-enabled": _COMPARE,
    "bootstrap-defrag-threshold-megabytes": "defragmentation is not there yet",
    "experimental-enable-v2v3": "v2 served from v3 keys is not there yet",
    "log-package-levels": "etcd 3.5 removed it with its former logger; use --log-level",
    "experimental-gRPC-addr": "gRPC is served on --listen-client-urls",
}
"""Flag, and what is said when it has a value other than its default."""

_PEER_TIMEOUTS: Final = "connections between members have the five seconds that etcd had before it was a flag"
_NO_TRACING: Final = "means nothing without tracing"

HARMLESS: Final[Mapping[str, str]] = {
    "experimental-enable-lease-checkpoint": "the remaining TTLs of leases are always replicated",
    "experimental-enable-lease-checkpoint-persist": "replicated TTLs are always kept, too",
    "socket-reuse-address": "listeners always have SO_REUSEADDR, as Go's do",
    "auto-compaction-mode": "means nothing without --auto-compaction-retention",
    "compaction-batch-limit": "compaction works for a few milliseconds at a stretch, however many revisions",
    "backend-bbolt-freelist-type": "the database is LMDB, which keeps its free list as a tree",
    "enable-grpc-gateway": "the JSON gateway is not there yet, so there is none to switch off",
    "raft-read-timeout": _PEER_TIMEOUTS,
    "raft-write-timeout": _PEER_TIMEOUTS,
    "v2-deprecation": "etcd 3.7 reads it and does what it did without",
    "logger": "zap's form is the only one, as in etcd since 3.5; any other name is refused",
    "distributed-tracing-address": _NO_TRACING,
    "distributed-tracing-service-name": _NO_TRACING,
    "distributed-tracing-instance-id": _NO_TRACING,
    "distributed-tracing-sampling-rate": _NO_TRACING,
    "compact-hash-check-time": "means nothing without --experimental-compact-hash-check-enabled",
    "downgrade-check-time": "whether a downgrade is complete is looked at with the members' versions",
    "experimental-txn-mode-write-with-shared-buffer": "concerns a buffer that only etcd has",
    "experimental-stop-grpc-service-on-defrag": "there is no defragmentation yet",
    "experimental-wait-cluster-ready-timeout": "a member serves clients once it is part of its cluster",
    "experimental-v3demo": "the v3 API is always served",
}
"""Flag, and why any value of it may be taken without doing anything."""
