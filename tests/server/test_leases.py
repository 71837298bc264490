"""Renewals that have to wait: for a leader, for a checkpoint to be taken back, for an expired lease's end."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

import pytest

from kvorum import errors
from kvorum.apply.applier import Result
from kvorum.lease.lessor import Lessor
from kvorum.proto.rpc_pb2 import LeaseCheckpointRequest, LeaseRevokeRequest
from kvorum.server import requests
from kvorum.server.leases import Leases
from kvorum.server.propose import Done
from tests.lease.table import MemoryTable

TIMEOUT_SECONDS: Final = 7.0


class Member:
    """A log that the test applies by hand, and a clock that it puts forward."""

    def __init__(self) -> None:
        self.leader = 1
        self.now = 0.0
        self.due: list[tuple[float, Callable[[], None]]] = []
        self.log: list[tuple[int, bytes, Done]] = []
        self.lessor = Lessor(MemoryTable(), minimum_ttl=2)
        self.leases = Leases(self.lessor, self, self, iter([0, 5, 6]).__next__, TIMEOUT_SECONDS)
        self.lessor.promote(0.0, 0.0)

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Callable[[], None]) -> object:
        self.due.append((self.now + delay, callback))
        return None

    def propose(self, number: int, body: bytes, done: Done) -> None:
        self.log.append((number, body, done))

    def propose_as_leader(self, batch: Sequence[tuple[int, bytes, Done]]) -> None:
        self.log += batch

    async def forward(self, seconds: float) -> None:
        end = self.now + seconds
        while self.due and min(at for at, _ in self.due) <= end:
            self.due.sort(key=lambda pair: pair[0])
            self.now, callback = self.due.pop(0)
            callback()
        self.now = end
        await settle()

    async def apply(self, error: errors.EtcdError | None = None) -> None:
        """Apply what is in the log, or refuse it."""
        log, self.log = self.log, []
        for number, body, done in log:
            if error is None and number == requests.LEASE_REVOKE:
                self.lessor.revoke(LeaseRevokeRequest.FromString(body).ID)
            elif error is None:
                assert number == requests.LEASE_CHECKPOINT
                for checkpoint in LeaseCheckpointRequest.FromString(body).checkpoints:
                    self.lessor.checkpoint(checkpoint.ID, checkpoint.remaining_TTL, self.now)
            done(Result(1, b"", error))
        await settle()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def run(scenario: Callable[[Member], Coroutine[Any, Any, None]]) -> None:
    async def with_member() -> None:
        await scenario(Member())

    asyncio.run(with_member())


def test_what_needs_no_waiting() -> None:
    async def scenario(member: Member) -> None:
        assert member.leases.choose_id() == 5
        member.lessor.grant(7, 100, member.now)
        assert member.leases.renew_at_once(7) == 100
        assert member.leases.renew_at_once(8) == 0
        assert await member.leases.renew(7) == 100
        assert not member.log

    run(scenario)


def test_an_expired_lease_is_answered_when_it_is_gone() -> None:
    async def scenario(member: Member) -> None:
        member.lessor.grant(7, 10, member.now)
        await member.forward(11)
        assert member.leases.renew_at_once(7) is None
        renewal = asyncio.ensure_future(member.leases.renew(7))
        await settle()
        assert not renewal.done()
        member.leases.tend(member.now)
        await member.apply()
        assert await renewal == 0
        assert member.leases.expired_total == 1
        member.lessor.check_invariants()

    run(scenario)


def test_who_waits_for_an_expired_lease_may_give_up() -> None:
    async def scenario(member: Member) -> None:
        member.lessor.grant(7, 10, member.now)
        await member.forward(11)
        renewal = asyncio.ensure_future(member.leases.renew(7))
        await settle()
        renewal.cancel()
        await settle()
        member.leases.tend(member.now)
        await member.apply(errors.ERR_TIMEOUT)
        assert member.leases.expired_total == 0
        member.lessor.check_invariants()

    run(scenario)


def test_a_new_leader_takes_up_a_lease_that_had_expired_with_the_old_one() -> None:
    async def scenario(member: Member) -> None:
        member.lessor.grant(7, 10, member.now)
        await member.forward(11)
        renewal = asyncio.ensure_future(member.leases.renew(7))
        await settle()
        member.leader = 0
        member.lessor.demote()
        await member.forward(1)
        assert not renewal.done()
        member.leader = 1
        member.lessor.promote(1.0, member.now)
        await member.forward(1)
        assert await renewal == 10

    run(scenario)


def test_a_checkpoint_is_taken_back_first() -> None:
    async def scenario(member: Member) -> None:
        member.lessor.grant(7, 1000, member.now)
        await member.forward(301)
        member.leases.tend(member.now)
        renewal = asyncio.ensure_future(member.leases.renew(7))
        await settle()
        assert len(member.log) == 2, "the checkpoint, and what takes it back"
        await member.apply()
        assert await renewal == 1000
        assert member.lessor.time_to_live(7, member.now).remaining == 1000
        await member.forward(301)
        member.leases.tend(member.now)
        refused = asyncio.ensure_future(member.leases.renew(7))
        await settle()
        await member.apply(errors.ERR_TIMEOUT)
        with pytest.raises(errors.EtcdError, match="timed out"):
            await refused

    run(scenario)


@pytest.mark.parametrize(("leader", "error"), [(0, errors.ERR_NO_LEADER), (2, errors.ERR_TIMEOUT)])
def test_no_wait_for_a_leader_is_endless(leader: int, error: errors.EtcdError) -> None:
    async def scenario(member: Member) -> None:
        member.lessor.demote()
        member.leader = leader
        renewal = asyncio.ensure_future(member.leases.renew(7))
        await settle()
        await member.forward(TIMEOUT_SECONDS - 0.1)
        assert not renewal.done()
        await member.forward(0.2)
        with pytest.raises(errors.EtcdError) as failed:
            await renewal
        assert failed.value.message == error.message

    run(scenario)
