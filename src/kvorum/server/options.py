"""What flags say about the node."""

from dataclasses import dataclass
from typing import final

from kvorum import limits
from kvorum.auth.tokens import TokenProvider
from kvorum.lease.terms import minimum_ttl


@final
@dataclass(frozen=True)
class NodeOptions:
    """What flags say about the node; times in seconds."""

    heartbeat_seconds: float = 0.1
    election_seconds: float = 1.0
    max_request_bytes: int = limits.MAX_REQUEST_BYTES
    compaction_sleep_seconds: float = 0.01
    watch_progress_seconds: float = limits.WATCH_PROGRESS_INTERVAL_SECONDS
    quota_bytes: int = 0
    """0 is no limit."""
    strict_reconfig_check: bool = True
    tokens: TokenProvider | None = None
    """How users show who they are; None for simple tokens."""
    token_ttl_seconds: float = limits.SIMPLE_TOKEN_TTL_SECONDS
    """How long a simple token is good (``--auth-token-ttl``)."""

    @property
    def minimum_lease_ttl_seconds(self) -> int:
        """Shorter leases could end while a new leader is found (etcd ``server.go``: minTTL)."""
        tick_ms = round(self.heartbeat_seconds * 1000)
        return minimum_ttl(round(self.election_seconds * 1000) // tick_ms, tick_ms)

    @property
    def request_timeout_seconds(self) -> float:
        """How long a proposal may wait: 5 s for the queue and the disk, twice an election for a lost leader
        (etcd ``config.ReqTimeout``).
        """
        return 5 + 2 * self.election_seconds
