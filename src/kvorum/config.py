"""The configuration of one member, frozen, and the checks that its values fit together.

Three steps, so that the log can be set up between them:

1. ``config_sources.load`` reads command line, environment and file into a `Config`;
2. `Config.validate` compares the values with each other;
3. `Config.verify_bootstrap` is the server's to call, when there is no data yet.

A `FlagError` is one line for the user and exit code 2; a `ConfigError` goes into the log, exit code 1.
Source of behaviour: etcd ``server/embed/config.go`` and ``server/config/config.go``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kvorum import layout
from kvorum.duration import HOUR, SECOND, Duration, parse_duration
from kvorum.flag_support import HARMLESS, NOT_THERE_YET
from kvorum.flag_table import FLAGS
from kvorum.flags import FlagError, Value
from kvorum.golang import MAX_INT64, quote
from kvorum.log_outputs import RotationConfig, open_outputs
from kvorum.logging import Logger, parse_format, parse_level
from kvorum.tls.info import TlsError
from kvorum.tls.names import check_versions
from kvorum.urls import Url, check_bind_urls, check_host_urls, format_cluster, parse_cluster

DEFAULT_NAME: Final = "default"
DEFAULT_QUOTA_BYTES: Final = 2 * 1024 * 1024 * 1024
MAX_ELECTION_MS: Final = 50_000

CONFLICTING_BOOTSTRAP: Final = (
    "multiple discovery or bootstrap flags are set. "
    'Choose one of "initial-cluster", "discovery" or "discovery-srv"'
)
UNSET_ADVERTISE_CLIENT_URLS: Final = (
    "--advertise-client-urls is required when --listen-client-urls is set explicitly"
)
_V3_DISCOVERY: Final = (
    "discovery-token",
    "discovery-endpoints",
    "discovery-cert",
    "discovery-key",
    "discovery-cacert",
    "discovery-user",
    "discovery-password",
)


class ConfigError(Exception):
    """The configuration does not hold together: logged, exit code 1."""


class ShadowedVariableError(ConfigError):
    """A variable and the flag that it would set are both given."""

    def __init__(self, variable: str) -> None:
        super().__init__(
            "conflicting environment variable is shadowed by corresponding command-line flag"
            " (either unset environment variable or disable flag))"
        )
        self.variable: Final = variable


_IRREGULAR: Final = {
    "heartbeat_interval_ms": "heartbeat-interval",
    "election_timeout_ms": "election-timeout",
    "advertise_peer_urls": "initial-advertise-peer-urls",
}
"""Fields whose flag is not the field's name with dashes."""


def flag_of(field_name: str) -> str:
    """Return the flag that sets a field of `Config`."""
    return _IRREGULAR.get(field_name, field_name.replace("_", "-"))


@dataclass(frozen=True)
class Config:
    """What one member needs to know, typed; the rest of the flags by `value`. Times are `Duration`s."""

    name: str
    data_dir: str
    """Never empty: ``<name>.etcd`` if not given."""
    wal_dir: str
    """Empty: below the data directory; see `wal_path`."""
    snapshot_count: int
    heartbeat_interval_ms: int
    election_timeout_ms: int
    initial_election_tick_advance: bool
    listen_peer_urls: tuple[Url, ...]
    listen_client_urls: tuple[Url, ...]
    listen_metrics_urls: tuple[Url, ...]
    advertise_peer_urls: tuple[Url, ...]
    advertise_client_urls: tuple[Url, ...]
    """Empty only before `validate`."""
    initial_cluster: str
    initial_cluster_state: str
    initial_cluster_token: str
    discovery: str
    discovery_token: str
    discovery_endpoints: tuple[str, ...]
    discovery_dial_timeout: Duration
    discovery_request_timeout: Duration
    discovery_keepalive_time: Duration
    discovery_keepalive_timeout: Duration
    discovery_insecure_transport: bool
    discovery_insecure_skip_tls_verify: bool
    discovery_cert: str
    discovery_key: str
    discovery_cacert: str
    discovery_user: str
    """A name, or ``name:password``."""
    discovery_password: str
    discovery_fallback: str
    """``exit`` or ``proxy``."""
    discovery_proxy: str
    discovery_srv: str
    discovery_srv_name: str
    enable_discovery_service: bool
    discovery_service_ttl: Duration
    strict_reconfig_check: bool
    force_new_cluster: bool
    pre_vote: bool
    max_learners: int
    max_snapshots: int
    max_wals: int
    snapshot_catchup_entries: int
    quota_backend_bytes: int
    """As given: 0 for the default, negative for no limit; see `quota_bytes`."""
    backend_batch_interval: Duration
    backend_batch_limit: int
    compaction_batch_limit: int
    compaction_sleep_interval: Duration
    auto_compaction_mode: str
    auto_compaction_retention: str
    """As given; see `compaction_retention`."""
    enable_v2: bool
    max_txn_ops: int
    max_request_bytes: int
    max_concurrent_streams: int
    grpc_keepalive_min_time: Duration
    grpc_keepalive_interval: Duration
    grpc_keepalive_timeout: Duration
    socket_reuse_port: bool
    socket_reuse_address: bool
    cert_file: str
    key_file: str
    client_cert_auth: bool
    client_cert_file: str
    client_key_file: str
    client_crl_file: str
    client_cert_allowed_hostname: tuple[str, ...]
    trusted_ca_file: str
    auto_tls: bool
    peer_cert_file: str
    peer_key_file: str
    peer_client_cert_auth: bool
    peer_client_cert_file: str
    peer_client_key_file: str
    peer_trusted_ca_file: str
    peer_cert_allowed_cn: tuple[str, ...]
    peer_cert_allowed_hostname: tuple[str, ...]
    peer_skip_client_san_verification: bool
    peer_auto_tls: bool
    self_signed_cert_validity: int
    """Years for which certificates that a member makes for itself are good."""
    peer_crl_file: str
    cipher_suites: tuple[str, ...]
    """Go's names."""
    tls_min_version: str
    tls_max_version: str
    """Empty: the highest there is."""
    cors: tuple[str, ...]
    host_whitelist: tuple[str, ...]
    metrics: str
    log_outputs: tuple[str, ...]
    log_level: str
    log_format: str
    enable_log_rotation: bool
    log_rotation_config_json: str
    watch_progress_notify_interval: Duration
    warning_apply_duration: Duration
    warning_unary_request_duration: Duration
    unsafe_no_fsync: bool
    auth_token: str
    auth_token_ttl: int
    """Seconds."""
    bcrypt_cost: int
    proxy: str
    """``on``, ``readonly`` or ``off``; the times of the v2 proxy are milliseconds."""
    proxy_failure_wait: int
    proxy_refresh_interval: int
    proxy_dial_timeout: int
    proxy_write_timeout: int
    proxy_read_timeout: int
    values: Mapping[str, Value]
    """Every flag's value by its name."""
    given: frozenset[str]
    """Names of the flags that were set by command line, environment or file."""

    def value(self, name: str) -> Value:
        """Return the value of any flag by its name."""
        return self.values[name]

    def is_given(self, name: str) -> bool:
        """Whether the flag was set, be it to its default."""
        return name in self.given

    @property
    def member_path(self) -> Path:
        """``<data-dir>/member``, or beside an etcd member that was taken over (``layout.py``)."""
        return layout.member_folder(Path(self.data_dir))

    @property
    def wal_path(self) -> Path:
        """Folder of the log's segments."""
        return layout.wal_folder(Path(self.data_dir), self.wal_dir)

    @property
    def snap_path(self) -> Path:
        """Folder of the snapshots and the database."""
        return self.member_path / "snap"

    @property
    def database_path(self) -> Path:
        """The LMDB file; its lock file is beside it."""
        return self.snap_path / layout.DATABASE_FILE

    @property
    def election_ticks(self) -> int:
        """Election timeout in ticks (a tick is a heartbeat interval)."""
        return self.election_timeout_ms // self.heartbeat_interval_ms

    @property
    def quota_bytes(self) -> int:
        """Largest size of the database in bytes; 0 is no limit (``--quota-backend-bytes`` below zero)."""
        if self.quota_backend_bytes < 0:
            return 0
        return self.quota_backend_bytes or DEFAULT_QUOTA_BYTES

    @property
    def request_timeout(self) -> Duration:
        """How long a proposal may wait: queue, disk and an election (etcd ``ServerConfig.ReqTimeout``)."""
        ticks_ms = self.election_ticks * self.heartbeat_interval_ms
        return Duration(5 * SECOND + 2 * ticks_ms * 1_000_000)

    def compaction_retention(self) -> int:
        """Return what ``--auto-compaction-retention`` means, revisions or nanoseconds; raises ConfigError."""
        text = self.auto_compaction_retention or "0"
        if text.lstrip("+").isdecimal() and int(text) <= MAX_INT64:
            return int(text) if self.auto_compaction_mode == "revision" else int(text) * HOUR
        try:
            return parse_duration(text)
        except ValueError as error:
            raise ConfigError(f"error parsing CompactionRetention: {error}") from None

    def open_log(self) -> Logger:
        """Return the logger that the ``--log-*`` flags ask for; raises ConfigError, FlagError or OSError."""
        logger = self.values["logger"]
        if logger == "capnslog":
            raise ConfigError("--logger=capnslog is removed in v3.5")
        if logger != "zap":
            raise ConfigError(f"unknown logger option {quote(str(logger))}")
        try:
            level = parse_level(self.log_level)
        except ValueError as error:  # etcd ends with a panic and code 2 here
            raise FlagError(str(error)) from None
        try:
            form = parse_format(self.log_format)
            rotation = RotationConfig.parse(self.log_rotation_config_json)
            outputs = open_outputs(self.log_outputs, rotation if self.enable_log_rotation else None)
        except ValueError as error:
            raise ConfigError(str(error)) from None
        return Logger(outputs, level=level, format=form)

    def validate(self) -> None:
        """Compare the values with each other, in etcd's order and words; raises ConfigError or FlagError."""
        try:
            check_bind_urls(self.listen_peer_urls)
            check_bind_urls(self.listen_client_urls)
            check_bind_urls(self.listen_metrics_urls)
            _check_advertised("--initial-advertise-peer-urls", self.advertise_peer_urls)
            _check_advertised("--advertise-client-urls", self.advertise_client_urls)
        except ValueError as error:
            raise ConfigError(str(error)) from None
        self._validate_cluster()
        self._validate_timing()
        if self.listen_client_urls and not self.advertise_client_urls:
            raise ConfigError(UNSET_ADVERTISE_CLIENT_URLS)
        if self.auto_compaction_mode not in ("", "periodic", "revision"):
            raise ConfigError(f"unknown auto-compaction-mode {quote(self.auto_compaction_mode)}")
        self.compaction_retention()
        try:
            check_versions(self.tls_min_version, self.tls_max_version, self.cipher_suites)
        except TlsError as error:
            raise ConfigError(str(error)) from None
        self._refuse_missing()

    def _validate_cluster(self) -> None:
        if self.initial_cluster_state not in ("new", "existing"):
            raise ConfigError(f"unexpected clusterState {quote(self.initial_cluster_state)}")
        ways = (self.initial_cluster, self.discovery, self.discovery_srv, self.discovery_endpoints)
        if sum(1 for way in ways if way) > 1:
            raise ConfigError(CONFLICTING_BOOTSTRAP)
        if self.discovery_proxy and any(self.values[name] for name in _V3_DISCOVERY):
            raise ConfigError(
                "both v2 discovery settings (discovery, discovery-proxy) and v3 discovery settings"
                f" ({', '.join(_V3_DISCOVERY)}) are set"
            )
        if bool(self.discovery_token) != bool(self.discovery_endpoints):
            raise ConfigError("both --discovery-token and --discovery-endpoints must be set")
        if self.discovery_service_ttl < SECOND:
            raise ConfigError(f"--discovery-service-ttl must be at least 1s ({self.discovery_service_ttl})")

    def _validate_timing(self) -> None:
        heartbeat, election = self.heartbeat_interval_ms, self.election_timeout_ms
        if not heartbeat:
            raise ConfigError("--heartbeat-interval must be >0 (set to 0ms)")
        if not election:
            raise ConfigError("--election-timeout must be >0 (set to 0ms)")
        if 5 * heartbeat > election:
            raise ConfigError(
                f"--election-timeout[{election}ms] should be at least as 5 times as"
                f" --heartbeat-interval[{heartbeat}ms]"
            )
        if election > MAX_ELECTION_MS:
            raise ConfigError(
                f"--election-timeout[{election}ms] is too long,"
                f" and should be set less than {MAX_ELECTION_MS}ms"
            )

    def _refuse_missing(self) -> None:
        for name, reason in NOT_THERE_YET.items():
            if self.values[name] != FLAGS[name].default_value:
                raise FlagError(f"--{name} cannot be used: {reason}")

    def without_effect(self) -> dict[str, str]:
        """Return the given flags that are taken but do nothing, each with the reason."""
        return {
            name: reason
            for name, reason in HARMLESS.items()
            if name in self.given and self.values[name] != FLAGS[name].default_value
        }

    def initial_members(self) -> dict[str, tuple[Url, ...]]:
        """Return the members of ``--initial-cluster`` by name; raises ConfigError."""
        try:
            return parse_cluster(self.initial_cluster)
        except ValueError as error:
            raise ConfigError(f"error setting up initial cluster: {error}") from None

    def verify_bootstrap(self) -> None:
        """Check what the members of a new cluster start from, in etcd's words; raises ConfigError."""
        members = self._members_with_local()
        self._advertised_as_configured(members[self.name])
        self._without_duplicates(members)

    def verify_join_existing(self) -> None:
        """Check what a member that joins a cluster starts from; raises ConfigError.

        Its peer URLs were announced to the cluster before, so they are not compared with the flags.
        """
        self._without_duplicates(self._members_with_local())

    def _members_with_local(self) -> dict[str, tuple[Url, ...]]:
        members = self.initial_members()
        if self.name not in members:
            raise ConfigError(
                f"couldn't find local name {quote(self.name)} in the initial cluster configuration"
            )
        return members

    def _without_duplicates(self, members: dict[str, tuple[Url, ...]]) -> None:
        urls = [url for part in members.values() for url in part]
        if len(set(urls)) != len(urls):
            raise ConfigError(f"initial cluster {format_cluster(members)} has duplicate url")

    def _advertised_as_configured(self, configured: tuple[Url, ...]) -> None:
        advertised = self.advertise_peer_urls
        missing = [f"{self.name}={url}" for url in dict.fromkeys(configured) if url not in advertised]
        if missing:
            listed = ",".join(sorted(str(url) for url in advertised))
            raise ConfigError(
                f"--initial-cluster has {','.join(missing)} but missing from"
                f" --initial-advertise-peer-urls={listed}"
            )
        missing = [str(url) for url in advertised if url not in configured]
        if missing:
            raise ConfigError(
                f"--initial-advertise-peer-urls has {','.join(missing)} but missing from"
                f" --initial-cluster={format_cluster({self.name: advertised})}"
            )


def _check_advertised(flag: str, urls: Sequence[Url]) -> None:
    try:
        check_host_urls(urls)
    except ValueError as error:
        listed = ",".join(str(url) for url in urls)
        raise ValueError(f'{flag} {quote(listed)} must be "host:port" ({error})') from None
