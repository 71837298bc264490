"""What a member does with its leases outside the log: renews them, and proposes what their time demands.

All of it is the leader's work, whose lessor is the primary. A renewal does not enter the log; only a lease
with a checkpoint must have that taken back first, so that a later leader cannot count from it. Source: etcd
``server/etcdserver/v3_server.go`` (LeaseRenew, LeaseTimeToLive), ``server.go`` (expired leases).
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol, TypeVar, final

from kvorum import errors, limits
from kvorum.apply.applier import Result
from kvorum.lease.lessor import Lessor
from kvorum.lease.terms import LeaseExpiringError, choose_id
from kvorum.proto.rpc_pb2 import LeaseCheckpoint, LeaseCheckpointRequest, LeaseRevokeRequest
from kvorum.server import requests
from kvorum.server.propose import Done
from kvorum.server.timers import Timers

T = TypeVar("T")


class Surroundings(Protocol):
    """What the leases ask of their member (``node.Node``)."""

    leader: int

    def propose(self, number: int, body: bytes, done: Done) -> None:
        """Put a request into the log. Raises EtcdError."""


@final
class Leases:
    """The lessor, with the member around it.

    Args:
        next_id: gives numbers that no member gave before.
        timeout_seconds: how long may be waited for a leader.
    """

    def __init__(
        self,
        lessor: Lessor,
        member: Surroundings,
        timers: Timers,
        next_id: Callable[[], int],
        timeout_seconds: float,
    ) -> None:
        self.lessor: Final = lessor
        self._member: Final = member
        self._timers: Final = timers
        self._next_id: Final = next_id
        self._timeout_seconds: Final = timeout_seconds
        self.expired_total = 0
        """Leases that this member, as leader, saw run out and be revoked."""

    def choose_id(self) -> int:
        """An id for a lease whose client gave none."""
        return choose_id(self._next_id, self.lessor.__contains__)

    # --- what time demands --------------------------------------------------------------------------------

    def tend(self, now: float) -> None:
        """Propose what is due: revocations, and checkpoints of long leases. For every tick."""
        for lease_id in self.lessor.expired(now):
            request = LeaseRevokeRequest(ID=lease_id)
            self._member.propose(requests.LEASE_REVOKE, request.SerializeToString(), self._revoked)
        due = self.lessor.due_checkpoints(now)
        if due:
            self._propose_checkpoints(due, _ignore)

    def _revoked(self, result: Result) -> None:
        if result.error is None:
            self.expired_total += 1

    def _propose_checkpoints(self, due: list[tuple[int, int]], done: Done) -> None:
        checkpoints = [LeaseCheckpoint(ID=lease_id, remaining_TTL=left) for lease_id, left in due]
        entry = LeaseCheckpointRequest(checkpoints=checkpoints)
        self._member.propose(requests.LEASE_CHECKPOINT, entry.SerializeToString(), done)

    # --- renewing -----------------------------------------------------------------------------------------

    def renew_at_once(self, lease_id: int) -> int | None:
        """Start a lease's TTL anew and return it, 0 for a lease that is not there; None: ask ``renew``."""
        lessor = self.lessor
        if not lessor.primary:
            return None
        if lease_id not in lessor:
            return 0
        if lessor.needs_reset(lease_id):
            return None
        try:
            return lessor.renew(lease_id, self._timers.time())
        except LeaseExpiringError:
            return None

    async def renew(self, lease_id: int) -> int:
        """As ``renew_at_once``, after what has to be waited for: a leader, a log entry, or the lease's end.

        A lease that has expired but is not revoked yet cannot be saved any more, so the answer waits until
        it is gone.

        Raises:
            EtcdError: ERR_NO_LEADER, ERR_TIMEOUT; what refuses a proposal.
        """
        while True:
            ttl = self.renew_at_once(lease_id)
            if ttl is not None:
                return ttl
            if not self.lessor.primary:
                await self._primary()
            elif self.lessor.needs_reset(lease_id):
                await self._take_checkpoint_back(lease_id)
            else:
                await self._end_of(lease_id)

    async def _take_checkpoint_back(self, lease_id: int) -> None:
        applied: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._propose_checkpoints([(lease_id, 0)], partial(_settle, applied))
        error = (await applied).error
        if error is not None:
            raise error

    async def _end_of(self, lease_id: int) -> None:
        ended: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        settle = partial(_settle, ended)
        self.lessor.when_ended(lease_id, settle)
        try:
            await ended
        finally:
            self.lessor.forget(lease_id, settle)

    async def _primary(self) -> None:
        found: asyncio.Future[errors.EtcdError | None] = asyncio.get_running_loop().create_future()
        self.when_primary(partial(_settle, found))
        error = await found
        if error is not None:
            raise error

    def when_primary(self, done: Callable[[errors.EtcdError | None], None]) -> None:
        """Call back when this member knows its leases' times; with an error if that takes too long."""
        self._look_for_primary(done, self._timers.time() + self._timeout_seconds)

    def _look_for_primary(self, done: Callable[[errors.EtcdError | None], None], deadline: float) -> None:
        if self.lessor.primary:
            done(None)
        elif self._timers.time() >= deadline:
            done(errors.ERR_TIMEOUT if self._member.leader else errors.ERR_NO_LEADER)
        else:
            look_again = partial(self._look_for_primary, done, deadline)
            self._timers.call_later(limits.LEASE_PRIMARY_RETRY_SECONDS, look_again)


def _ignore(_result: Result) -> None:
    """For proposals that nobody waits for."""


def _settle(future: asyncio.Future[T], result: T) -> None:
    """Give a future its result, unless who waited is gone."""
    if not future.done():
        future.set_result(result)
