"""What a member is told about how to take part; etcd's defaults."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

from kvorum import limits


def _no_trace(_text: str) -> None:
    """Say nothing."""


@final
@dataclass(frozen=True)
class RaftConfig:
    """A member's parameters. Times are in ticks, sizes in bytes.

    ``random(n)`` gives a number in ``range(n)`` and spreads the election timeouts (Raft §5.2); pass
    ``random.Random(seed).randrange`` or a stronger source. ``trace`` takes a line of text for every change of
    role, vote and configuration, in etcd's words.
    """

    id: int
    random: Callable[[int], int]
    election_ticks: int = 10
    heartbeat_ticks: int = 1
    pre_vote: bool = True
    check_quorum: bool = True
    max_size_per_message: int = limits.RAFT_MAX_SIZE_PER_MESSAGE
    max_committed_size_per_ready: int = limits.RAFT_MAX_COMMITTED_SIZE_PER_READY
    max_uncommitted_size: int = limits.RAFT_MAX_UNCOMMITTED_SIZE
    max_inflight_messages: int = limits.RAFT_MAX_INFLIGHT_MESSAGES
    max_inflight_bytes: int = limits.RAFT_MAX_INFLIGHT_BYTES
    trace: Callable[[str], None] = _no_trace

    def __post_init__(self) -> None:
        if self.id == 0:
            raise ValueError("cannot use none as id")
        if self.heartbeat_ticks <= 0:
            raise ValueError("heartbeat tick must be greater than 0")
        if self.election_ticks <= self.heartbeat_ticks:
            raise ValueError("election tick must be greater than heartbeat tick")
        if self.max_inflight_messages <= 0:
            raise ValueError("max inflight messages must be greater than 0")
        if 0 < self.max_inflight_bytes < self.max_size_per_message:
            raise ValueError("max inflight bytes must be >= max message size")
