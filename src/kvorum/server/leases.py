"""What a member does with its leases outside the log: renews them, and proposes what their time demands.

All of it is the leader's work, whose lessor is the primary; a follower asks the leader (``renewals.py``) for
as long as there is time. A renewal does not enter the log; only a lease with a checkpoint must have that
taken back first, so that a later leader cannot count from it. Source: etcd
``server/etcdserver/v3_server.go`` (LeaseRenew, LeaseTimeToLive), ``server.go`` (expired leases).
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Protocol, TypeVar, final

from kvorum import errors, limits
from kvorum.apply.applier import Result
from kvorum.lease.lessor import Lessor
from kvorum.lease.terms import LeaseExpiringError, choose_id
from kvorum.lease.terms import NotPrimaryError as NotPrimaryError
from kvorum.proto.rpc_pb2 import (
    LeaseCheckpoint,
    LeaseCheckpointRequest,
    LeaseRevokeRequest,
    LeaseTimeToLiveResponse,
)
from kvorum.server import requests
from kvorum.server.propose import Done
from kvorum.server.renewals import ASK_ALONE, NOT_THERE, LeaderLeases
from kvorum.server.timers import Timers, pause

T = TypeVar("T")

_CLOCK_STEP_SECONDS: Final = 0.001
"""The loop's clock stands still for so long, where in etcd some time has always passed since a grant: what
is left is less than the whole TTL from the first answer on.
"""


class Surroundings(Protocol):
    """What the leases ask of their member (``node.Node``)."""

    leader: int

    def propose(self, number: int, body: bytes, done: Done) -> None:
        """Put a request into the log. Raises EtcdError."""

    def propose_as_leader(self, batch: Sequence[tuple[int, bytes, Done]]) -> None:
        """Put requests into the log if this member leads, and never into another leader's."""


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
        self.at_leader: LeaderLeases | None = None
        """The leases of another member that leads; None for a member that has no peers."""
        self.expired_total = 0
        """Leases that this member, as leader, saw run out and be revoked."""

    def choose_id(self) -> int:
        """An id for a lease whose client gave none."""
        return choose_id(self._next_id, self.lessor.__contains__)

    # --- what time demands --------------------------------------------------------------------------------

    def tend(self, now: float) -> None:
        """Propose what is due: revocations, and checkpoints of long leases. For every tick.

        A leader that has been deposed and does not know yet (its process was stopped) would propose by an old
        clock, and as a follower pass that on to the new leader, for whom the lease lives (etcd issue 15247).
        """
        batch: list[tuple[int, bytes, Done]] = [
            (requests.LEASE_REVOKE, LeaseRevokeRequest(ID=lease_id).SerializeToString(), self._revoked)
            for lease_id in self.lessor.expired(now)
        ]
        due = self.lessor.due_checkpoints(now)
        if due:
            batch.append((requests.LEASE_CHECKPOINT, _checkpoints(due), _ignore))
        if batch:
            self._member.propose_as_leader(batch)

    def _revoked(self, result: Result) -> None:
        if result.error is None:
            self.expired_total += 1

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
        deadline = self._timers.time() + self._timeout_seconds
        while True:
            try:
                return await self.renew_here(lease_id)
            except NotPrimaryError:
                pass
            elsewhere = self.at_leader
            if elsewhere is not None and elsewhere.is_elsewhere:
                (ttl,) = await elsewhere.renew_many([lease_id])
                if ttl == ASK_ALONE:
                    ttl = await elsewhere.renew(lease_id)
                if ttl is not None:
                    return ttl
            await self._again(deadline)

    async def renew_all(self, lease_ids: Sequence[int]) -> list[int]:
        """As ``renew`` for each, together."""
        if len(lease_ids) == 1:
            return [await self.renew(lease_ids[0])]
        ttls: dict[int, int] = {}
        left = set(lease_ids)
        deadline = self._timers.time() + self._timeout_seconds
        elsewhere = self.at_leader
        while left and elsewhere is not None and not self.lessor.primary:
            asked = list(left) if elsewhere.is_elsewhere else []
            told = zip(asked, await elsewhere.renew_many(asked), strict=True)
            ttls |= {lease_id: ttl for lease_id, ttl in told if ttl is not None}
            left.difference_update(ttls)
            if left:
                await self._again(deadline)
        alone = [lease_id for lease_id in {*lease_ids} if ttls.get(lease_id, ASK_ALONE) == ASK_ALONE]
        renewed = await asyncio.gather(*map(self.renew, alone))
        ttls.update(zip(alone, renewed, strict=True))
        return [ttls[lease_id] for lease_id in lease_ids]

    async def renew_here(self, lease_id: int) -> int:
        """As ``renew``, if this member's lessor is the primary.

        Raises:
            NotPrimaryError: it is not, or no longer.
            EtcdError: what refuses a proposal.
        """
        while True:
            ttl = self.renew_at_once(lease_id)
            if ttl is not None:
                return ttl
            if not self.lessor.primary:
                raise NotPrimaryError
            if self.lessor.needs_reset(lease_id):
                await self._take_checkpoint_back(lease_id)
            else:
                await self._end_of(lease_id)

    async def _take_checkpoint_back(self, lease_id: int) -> None:
        applied: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._member.propose(
            requests.LEASE_CHECKPOINT, _checkpoints([(lease_id, 0)]), partial(_settle, applied)
        )
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

    # --- looking ------------------------------------------------------------------------------------------

    def look(self, lease_id: int, keys: bool) -> LeaseTimeToLiveResponse:
        """What is left of a lease, and its keys if asked for, without a header; NOT_THERE if it is gone.

        Only the primary knows.
        """
        lessor = self.lessor
        assert lessor.primary, "asked of a follower"
        if lease_id not in lessor:
            return LeaseTimeToLiveResponse(ID=lease_id, TTL=NOT_THERE)
        left = lessor.time_to_live(lease_id, self._timers.time() + _CLOCK_STEP_SECONDS)
        attached = lessor.keys(lease_id) if keys else ()
        return LeaseTimeToLiveResponse(
            ID=lease_id, TTL=left.remaining, grantedTTL=left.granted, keys=attached
        )

    async def time_to_live(self, lease_id: int, keys: bool) -> LeaseTimeToLiveResponse:
        """As ``look``, wherever the leader is.

        Raises:
            EtcdError: ERR_NO_LEADER, ERR_TIMEOUT.
        """
        deadline = self._timers.time() + self._timeout_seconds
        while not self.lessor.primary:
            elsewhere = self.at_leader
            if elsewhere is not None and elsewhere.is_elsewhere:
                response = await elsewhere.time_to_live(lease_id, keys)
                if response is not None:
                    return response
            await self._again(deadline)
        return self.look(lease_id, keys)

    async def _again(self, deadline: float) -> None:
        """Wait a moment before the next attempt.

        Raises:
            EtcdError: ERR_NO_LEADER, ERR_TIMEOUT: there is no time for one.
        """
        leader = self._member.leader
        left = deadline - self._timers.time()
        if left <= 0:
            raise errors.ERR_TIMEOUT if leader else errors.ERR_NO_LEADER
        seconds = limits.LEASE_PRIMARY_RETRY_SECONDS if leader else limits.LEASE_LEADER_RETRY_SECONDS
        await pause(self._timers, min(seconds, left))


def _checkpoints(due: Sequence[tuple[int, int]]) -> bytes:
    """The request that keeps what is left of leases (id, remaining seconds)."""
    checkpoints = [LeaseCheckpoint(ID=lease_id, remaining_TTL=left) for lease_id, left in due]
    return LeaseCheckpointRequest(checkpoints=checkpoints).SerializeToString()


def _ignore(_result: Result) -> None:
    """For proposals that nobody waits for."""


def _settle(future: asyncio.Future[T], result: T) -> None:
    """Give a future its result, unless who waited is gone."""
    if not future.done():
        future.set_result(result)
