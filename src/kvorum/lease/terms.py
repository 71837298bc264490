"""What leases are spoken of in: ids, times to live, and why a lessor cannot help."""

from collections.abc import Callable
from typing import Final, NamedTuple

NO_LEASE: Final = 0


class NotPrimaryError(Exception):
    """This member is not the leader: another one knows when the lease expires."""


class LeaseExpiringError(Exception):
    """The lease has expired and its revocation is under way; ``when_ended`` tells how that ended."""


class TimeToLive(NamedTuple):
    """What is left of a lease, in seconds (negative if it should be gone), and the TTL it was granted."""

    remaining: int
    granted: int


def minimum_ttl(election_ticks: int, tick_ms: int) -> int:
    """The shortest TTL granted, in seconds: an election and a half, so that a lease outlives one."""
    return -(-(3 * election_ticks // 2) * tick_ms // 1000)


def choose_id(generate: Callable[[], int], taken: Callable[[int], bool]) -> int:
    """An id for a lease whose client gave none: positive, from the low 63 bits of generated numbers."""
    while True:
        lease_id = generate() & ((1 << 63) - 1)
        if lease_id != NO_LEASE and not taken(lease_id):
            return lease_id
