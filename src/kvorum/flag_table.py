"""Every flag of etcd 2.3 to 3.7, in the groups and the order of ``etcd --help``.

``facts/flags.csv`` has the names, groups and defaults; a test holds this table against it. The last groups
are the names that older releases used and that newer ones map onto the final names (`TWINS`).
"""

from collections.abc import Mapping
from typing import Final

from kvorum.flags import (
    BOOL,
    CHOICE,
    CHOICES,
    DURATION,
    IGNORED,
    INT,
    LIST,
    NAMES,
    ORIGINS,
    STRING,
    UINT,
    UINT32,
    URLS,
    Flag,
)

LOG_ROTATION_DEFAULT: Final = (
    '{"maxsize": 100, "maxage": 0, "maxbackups": 0, "localtime": false, "compress": false}'
)


def _member() -> list[Flag]:
    group = "member"
    return [
        Flag("name", STRING, "default", "What people call this member.", group),
        Flag("data-dir", STRING, "", "Folder that holds the data.", group, shown_default="${name}.etcd"),
        Flag("wal-dir", STRING, "", "Folder for the write-ahead log, if not the one in the data.", group),
        Flag("snapshot-count", UINT, "10000", "Entries applied between two snapshots.", group),
        Flag("heartbeat-interval", UINT, "100", "Milliseconds between heartbeats, and of a tick.", group),
        Flag("election-timeout", UINT, "1000", "Milliseconds without a leader before an election.", group),
        Flag("initial-election-tick-advance", BOOL, "true", "Shorten the first election at start.", group),
        Flag("listen-peer-urls", URLS, "http://localhost:2380", "Where to listen for other members.", group),
        Flag("listen-client-urls", URLS, "http://localhost:2379", "Where to listen for clients.", group),
        Flag("listen-client-http-urls", URLS, "", "Where to listen for HTTP clients apart from gRPC.", group),
        Flag("max-wals", UINT, "5", "Log files to keep (0 keeps all).", group),
        Flag("max-snapshots", UINT, "5", "Snapshot files to keep (0 keeps all).", group),
        Flag("memory-mlock", BOOL, "false", "Keep the database's pages in RAM.", group),
        Flag("quota-backend-bytes", INT, "0", "Largest size of the database; 0 means 2 GiB.", group),
        Flag("backend-bbolt-freelist-type", STRING, "map", "Form of bbolt's free list: map or array.", group),
        Flag("backend-batch-interval", DURATION, "100ms", "Longest time between database commits.", group),
        Flag("backend-batch-limit", INT, "10000", "Most operations between database commits.", group),
        Flag("max-txn-ops", UINT, "128", "Most operations in one transaction.", group),
        Flag("max-request-bytes", UINT, "1572864", "Largest request taken from a client.", group),
        Flag("max-concurrent-streams", UINT32, "4294967295", "Most calls at once on a connection.", group),
        Flag("grpc-keepalive-min-time", DURATION, "5s", "Shortest time between a client's pings.", group),
        Flag("grpc-keepalive-interval", DURATION, "2h", "Time between the server's pings (0: none).", group),
        Flag("grpc-keepalive-timeout", DURATION, "20s", "Time a client has to answer a ping.", group),
        Flag("socket-reuse-port", BOOL, "false", "Listen with SO_REUSEPORT.", group),
        Flag("socket-reuse-address", BOOL, "false", "Listen with SO_REUSEADDR.", group),
        Flag("enable-grpc-gateway", BOOL, "true", "Serve gRPC calls as JSON over HTTP.", group),
        Flag("raft-read-timeout", DURATION, "5s", "Longest silence of another member's connection.", group),
        Flag("raft-write-timeout", DURATION, "5s", "Longest write to another member's connection.", group),
        Flag("feature-gates", STRING, "", "Features to switch, as name=true,name=false.", group),
    ]


def _clustering() -> list[Flag]:
    group = "clustering"
    states, fallbacks = ("new", "existing"), ("exit", "proxy")
    local = "http://localhost:"
    return [
        Flag("initial-advertise-peer-urls", URLS, local + "2380", "Peer URLs told to other members.", group),
        Flag("initial-cluster", STRING, f"default={local}2380", "The members that begin the cluster.", group),
        Flag("initial-cluster-state", CHOICE, "new", "Begin a new cluster or join one.", group, states),
        Flag("initial-cluster-token", STRING, "etcd-cluster", "Keeps clusters of one name apart.", group),
        Flag("advertise-client-urls", URLS, local + "2379", "Client URLs told to clients.", group),
        Flag("discovery", STRING, "", "URL of a v2 discovery service.", group),
        Flag("discovery-token", STRING, "", "Token of the cluster in v3 discovery.", group),
        Flag("discovery-endpoints", NAMES, "", "Endpoints of the v3 discovery service.", group),
        Flag("discovery-dial-timeout", DURATION, "2s", "Discovery: time to connect.", group),
        Flag("discovery-request-timeout", DURATION, "5s", "Discovery: time for a request.", group),
        Flag("discovery-keepalive-time", DURATION, "2s", "Discovery: time between pings.", group),
        Flag("discovery-keepalive-timeout", DURATION, "6s", "Discovery: time to answer a ping.", group),
        Flag("discovery-insecure-transport", BOOL, "true", "Discovery: connect without TLS.", group),
        Flag("discovery-insecure-skip-tls-verify", BOOL, "false", "Discovery: trust any certificate.", group),
        Flag("discovery-cert", STRING, "", "Discovery: certificate to show.", group),
        Flag("discovery-key", STRING, "", "Discovery: key of that certificate.", group),
        Flag("discovery-cacert", STRING, "", "Discovery: authorities to trust.", group),
        Flag("discovery-user", STRING, "", "Discovery: user, or user:password.", group),
        Flag("discovery-password", STRING, "", "Discovery: password.", group),
        Flag("discovery-fallback", CHOICE, "exit", "What to do if the cluster is full.", group, fallbacks),
        Flag("discovery-proxy", STRING, "", "HTTP proxy on the way to v2 discovery.", group),
        Flag("discovery-srv", STRING, "", "Domain whose SRV records name the members.", group),
        Flag("discovery-srv-name", STRING, "", "Suffix of the SRV service name.", group),
        Flag("enable-discovery-service", BOOL, "false", "Be a v2 discovery service (Kvorum's).", group),
        Flag("discovery-service-ttl", DURATION, "168h", "How long its tokens live (Kvorum's).", group),
        Flag("strict-reconfig-check", BOOL, "true", "Refuse changes that would lose the quorum.", group),
        Flag("pre-vote", BOOL, "true", "Ask before raising the term in an election.", group),
        Flag("auto-compaction-retention", STRING, "0", "History to keep (0: all).", group),
        Flag("auto-compaction-mode", STRING, "periodic", "Keep by time (periodic) or revision.", group),
        Flag("enable-v2", BOOL, "true", "Serve the v2 API.", group),
        Flag("v2-deprecation", CHOICES, "", "Stage of v2's removal in etcd.", group, V2_STAGES),
    ]


V2_STAGES: Final = ("not-yet", "write-only", "write-only-skip-check", "write-only-drop-data", "gone")


def _security() -> list[Flag]:
    group = "security"
    return [
        Flag("cert-file", STRING, "", "Certificate shown to clients.", group),
        Flag("key-file", STRING, "", "Key of that certificate.", group),
        Flag("client-cert-auth", BOOL, "false", "Ask clients for a certificate.", group),
        Flag("client-cert-file", STRING, "", "Certificate shown when connecting to clients' port.", group),
        Flag("client-key-file", STRING, "", "Key of that certificate.", group),
        Flag("client-crl-file", STRING, "", "Revoked client certificates.", group),
        Flag("client-cert-allowed-hostname", LIST, "", "Host names allowed in client certificates.", group),
        Flag("trusted-ca-file", STRING, "", "Authorities that sign client certificates.", group),
        Flag("auto-tls", BOOL, "false", "Make a certificate for clients at start.", group),
        Flag("peer-cert-file", STRING, "", "Certificate shown to other members.", group),
        Flag("peer-key-file", STRING, "", "Key of that certificate.", group),
        Flag("peer-client-cert-auth", BOOL, "false", "Ask other members for a certificate.", group),
        Flag("peer-client-cert-file", STRING, "", "Certificate shown when connecting to members.", group),
        Flag("peer-client-key-file", STRING, "", "Key of that certificate.", group),
        Flag("peer-trusted-ca-file", STRING, "", "Authorities that sign members' certificates.", group),
        Flag("peer-cert-allowed-cn", LIST, "", "Common names allowed in members' certificates.", group),
        Flag("peer-cert-allowed-hostname", LIST, "", "Host names allowed in them.", group),
        Flag("peer-auto-tls", BOOL, "false", "Make a certificate for members at start.", group),
        Flag("self-signed-cert-validity", UINT, "1", "Years for which made certificates are good.", group),
        Flag("peer-crl-file", STRING, "", "Revoked members' certificates.", group),
        Flag("cipher-suites", LIST, "", "TLS cipher suites allowed.", group),
        Flag("cors", ORIGINS, "*", "Origins that browsers may come from.", group),
        Flag("host-whitelist", NAMES, "*", "Host names that HTTP requests may be for.", group),
        Flag("tls-min-version", STRING, "TLS1.2", "Lowest TLS version.", group),
        Flag("tls-max-version", STRING, "", "Highest TLS version.", group),
    ]


def _auth() -> list[Flag]:
    group = "auth"
    return [
        Flag("auth-token", STRING, "simple", "Kind of token: simple, or jwt with its options.", group),
        Flag("bcrypt-cost", UINT, "10", "Cost of hashing a password.", group),
        Flag("auth-token-ttl", UINT, "300", "Seconds for which a token is good.", group),
    ]


def _operation() -> list[Flag]:
    monitoring, logging, tracing = "profiling and monitoring", "logging", "distributed tracing"
    return [
        Flag("enable-pprof", BOOL, "false", "Serve profiles under /debug/pprof/.", monitoring),
        Flag("metrics", STRING, "basic", "basic, or extensive with histograms of calls.", monitoring),
        Flag("listen-metrics-urls", URLS, "", "Where else to serve /metrics and /health.", monitoring),
        Flag("logger", STRING, "zap", "Form of the log; zap is the only one.", logging),
        Flag("log-outputs", NAMES, "default", "stderr, stdout, systemd/journal or files.", logging),
        Flag("log-level", STRING, "info", "debug, info, warn, error, panic or fatal.", logging),
        Flag("log-format", STRING, "json", "json, or console for people.", logging),
        Flag("enable-log-rotation", BOOL, "false", "Begin a new log file when one is full.", logging),
        Flag("log-rotation-config-json", STRING, LOG_ROTATION_DEFAULT, "When to, and what to keep.", logging),
        Flag("warning-unary-request-duration", DURATION, "300ms", "Log calls that take longer.", logging),
        Flag("enable-distributed-tracing", BOOL, "false", "Send traces to a collector.", tracing),
        Flag("distributed-tracing-address", STRING, "localhost:4317", "The collector.", tracing),
        Flag("distributed-tracing-service-name", STRING, "etcd", "Name in traces.", tracing),
        Flag("distributed-tracing-instance-id", STRING, "", "This member's id in traces.", tracing),
        Flag("distributed-tracing-sampling-rate", INT, "0", "Traces sent of a million.", tracing),
    ]


def _features() -> list[Flag]:
    group, unsafe = "features", "unsafe feature"
    return [
        Flag("corrupt-check-time", DURATION, "0s", "Time between comparisons of members (0: none).", group),
        Flag("compact-hash-check-time", DURATION, "1m", "Time between comparisons at compactions.", group),
        Flag("compaction-batch-limit", INT, "1000", "Most revisions removed at a stretch.", group),
        Flag("peer-skip-client-san-verification", BOOL, "false", "Do not compare members' names.", group),
        Flag("watch-progress-notify-interval", DURATION, "10m", "Time between progress notices.", group),
        Flag("warning-apply-duration", DURATION, "100ms", "Log entries that take longer to apply.", group),
        Flag("bootstrap-defrag-threshold-megabytes", UINT, "0", "Defragment at start if it frees.", group),
        Flag("max-learners", INT, "1", "Most learners in the cluster.", group),
        Flag("compaction-sleep-interval", DURATION, "10ms", "Pause between stretches of removal.", group),
        Flag("downgrade-check-time", DURATION, "5s", "Time between looks at a downgrade.", group),
        Flag("snapshot-catchup-entries", UINT, "5000", "Entries kept for slow members.", group),
        Flag("force-new-cluster", BOOL, "false", "Begin a cluster of one from this data.", unsafe),
        Flag("unsafe-no-fsync", BOOL, "false", "Never sync the disk; loses data.", unsafe),
    ]


def _experimental() -> list[Flag]:
    group, twin = "experimental feature", "Older name of --{}."
    twins = [
        Flag(old, _KINDS[old], _OLD_DEFAULTS[old], twin.format(new), group)
        for old, new in TWINS.items()
        if old.startswith("experimental-") and old not in _FROM_2_3
    ]
    return [
        *twins,
        Flag("experimental-initial-corrupt-check", BOOL, "false", "Compare members before serving.", group),
        Flag("experimental-compact-hash-check-enabled", BOOL, "false", "Compare at compactions.", group),
        Flag("experimental-enable-v2v3", STRING, "", "Serve v2 from v3 keys under this prefix.", group),
        Flag(
            "experimental-enable-lease-checkpoint", BOOL, "false", "Replicate leases' remaining TTL.", group
        ),
        Flag("experimental-enable-lease-checkpoint-persist", BOOL, "false", "Keep it, too.", group),
        Flag(
            "experimental-txn-mode-write-with-shared-buffer", BOOL, "true", "How etcd buffers reads.", group
        ),
        Flag("experimental-stop-grpc-service-on-defrag", BOOL, "false", "Not serving meanwhile.", group),
        Flag("experimental-wait-cluster-ready-timeout", DURATION, "5s", "Wait before serving.", group),
    ]


def _past() -> list[Flag]:
    group, modes, deprecated = "proxy", ("off", "readonly", "on"), "to be deprecated"
    return [
        Flag("proxy", CHOICE, "off", "Be a v2 proxy.", group, modes),
        Flag("proxy-failure-wait", UINT, "5000", "v2 proxy: milliseconds after a failure.", group),
        Flag("proxy-refresh-interval", UINT, "30000", "v2 proxy: milliseconds between looks.", group),
        Flag("proxy-dial-timeout", UINT, "1000", "v2 proxy: milliseconds to connect.", group),
        Flag("proxy-write-timeout", UINT, "5000", "v2 proxy: milliseconds to write.", group),
        Flag("proxy-read-timeout", UINT, "0", "v2 proxy: milliseconds to read.", group),
        Flag("debug", BOOL, "false", "The same as --log-level debug.", deprecated),
        Flag("log-package-levels", STRING, "", "Levels for parts of etcd's former logger.", deprecated),
        Flag("ca-file", STRING, "", "Authorities that sign client certificates (2.3).", deprecated),
        Flag("peer-ca-file", STRING, "", "Authorities that sign members' certificates (2.3).", deprecated),
        Flag("experimental-v3demo", BOOL, "false", "Serve the v3 API (2.3).", deprecated),
        Flag("experimental-auto-compaction-retention", STRING, "0", "Hours of history (2.3).", deprecated),
        Flag("experimental-gRPC-addr", STRING, "127.0.0.1:2378", "Where to serve v3 (2.3).", deprecated),
    ]


TWINS: Final[Mapping[str, str]] = {
    "experimental-corrupt-check-time": "corrupt-check-time",
    "experimental-compact-hash-check-time": "compact-hash-check-time",
    "experimental-compaction-batch-limit": "compaction-batch-limit",
    "experimental-compaction-sleep-interval": "compaction-sleep-interval",
    "experimental-watch-progress-notify-interval": "watch-progress-notify-interval",
    "experimental-warning-apply-duration": "warning-apply-duration",
    "experimental-warning-unary-request-duration": "warning-unary-request-duration",
    "experimental-bootstrap-defrag-threshold-megabytes": "bootstrap-defrag-threshold-megabytes",
    "experimental-memory-mlock": "memory-mlock",
    "experimental-max-learners": "max-learners",
    "experimental-snapshot-catchup-entries": "snapshot-catchup-entries",
    "experimental-downgrade-check-time": "downgrade-check-time",
    "experimental-peer-skip-client-san-verification": "peer-skip-client-san-verification",
    "experimental-backend-bbolt-freelist-type": "backend-bbolt-freelist-type",
    "experimental-enable-distributed-tracing": "enable-distributed-tracing",
    "experimental-distributed-tracing-address": "distributed-tracing-address",
    "experimental-distributed-tracing-service-name": "distributed-tracing-service-name",
    "experimental-distributed-tracing-instance-id": "distributed-tracing-instance-id",
    "experimental-distributed-tracing-sampling-rate": "distributed-tracing-sampling-rate",
    "experimental-auto-compaction-retention": "auto-compaction-retention",
}
"""Names that later releases renamed: the older one sets the final one, unless that is given, too."""
_FROM_2_3: Final = frozenset(("experimental-auto-compaction-retention",))

_FINAL: Final = [*_member(), *_clustering(), *_security(), *_auth(), *_operation(), *_features()]
_KINDS: Final = {old: flag.kind for old, new in TWINS.items() for flag in _FINAL if flag.name == new}
_OLD_DEFAULTS: Final = {
    old: flag.default for old, new in TWINS.items() for flag in _FINAL if flag.name == new
} | {"experimental-backend-bbolt-freelist-type": "array"}

_SPECIAL: Final = [
    Flag("config-file", STRING, "", "Read everything from this YAML file and nothing else."),
    Flag("version", BOOL, "false", "Print the version and end."),
]
_FORGOTTEN: Final = (
    "cluster-active-size",
    "cluster-remove-delay",
    "cluster-sync-interval",
    "config",
    "force",
    "max-result-buffer",
    "max-retry-attempts",
    "peer-heartbeat-interval",
    "peer-election-timeout",
    "retry-interval",
    "snapshot",
    "v",
    "vv",
)
"""Flags of etcd 0.4 that etcd still takes without a word in ``--help``."""

DOCUMENTED: Final[tuple[Flag, ...]] = (*_FINAL, *_experimental(), *_past())
"""What ``--help`` and docs/configuration.md list, in order."""

FLAGS: Final[Mapping[str, Flag]] = {
    flag.name: flag
    for flag in (*DOCUMENTED, *_SPECIAL, *(Flag(name, IGNORED, "", "") for name in _FORGOTTEN))
}
"""Every flag by name."""
