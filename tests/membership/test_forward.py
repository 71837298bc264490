"""What goes to the leader over HTTP, with a leader by hand: batches, attempts, and how answers are read."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pytest

from kvorum import errors, limits
from kvorum.errors import EtcdError
from kvorum.lease.lessor import Lessor
from kvorum.proto.rpc_pb2 import (
    LeaseCheckpoint,
    LeaseCheckpointRequest,
    LeaseKeepAliveRequest,
    LeaseKeepAliveResponse,
)
from kvorum.server import changes, forward
from kvorum.server.changes import MemberInfo
from kvorum.server.forward import ToLeader
from kvorum.server.handover import ERR_TIMEOUT_LEADER_TRANSFER, Handover
from kvorum.server.leases import Leases
from kvorum.server.membership import Cluster
from kvorum.server.propose import Done
from kvorum.server.renewals import ASK_ALONE, BATCH_PATH, LEASES_PATH, LeaderLeases
from tests.lease.table import MemoryTable
from tests.membership.kit import LOCAL, HandClock, Machine, MemoryTables, member, settle

TIMEOUT_SECONDS: Final = 7.0
LEADER: Final = 2


@dataclass
class Answer:
    status: int
    body: bytes = b""

    def header(self, name: str) -> str:
        return ""


class Leader:
    """A leader's peer port: leases by id, a request at a time held back if the test says so."""

    def __init__(self) -> None:
        self.ttls: dict[int, int] = {}
        self.takes_batches = True
        self.slow: set[int] = set()
        """Leases that a batch does not wait for."""
        self.down: set[str] = set()
        self.posted: list[tuple[str, str, int]] = []
        """URL, path and number of leases of each request."""
        self.held: asyncio.Event | None = None
        self.status = 200

    async def get(
        self, url: str, path: str, *, headers: Sequence[tuple[str, str]] = (), timeout_seconds: float = 5.0
    ) -> Answer:
        raise AssertionError("nothing is fetched here")

    async def post(
        self,
        url: str,
        path: str,
        body: bytes = b"",
        *,
        headers: Sequence[tuple[str, str]] = (),
        timeout_seconds: float = 5.0,
    ) -> Answer:
        if path == BATCH_PATH:
            asked = [one.ID for one in LeaseCheckpointRequest.FromString(body).checkpoints]
        else:
            asked = [LeaseKeepAliveRequest.FromString(body).ID]
        self.posted.append((url, path, len(asked)))
        if self.held is not None:
            await self.held.wait()
        if url in self.down:
            raise OSError("connection refused")
        if self.status != 200:
            return Answer(self.status)
        if path == LEASES_PATH:
            ttl = self.ttls.get(asked[0])
            if ttl is None:
                return Answer(404)
            return Answer(200, LeaseKeepAliveResponse(ID=asked[0], TTL=ttl).SerializeToString())
        if not self.takes_batches:
            return Answer(404)
        told = [ASK_ALONE if one in self.slow else self.ttls.get(one, 0) for one in asked]
        renewed = [LeaseCheckpoint(ID=one, remaining_TTL=ttl) for one, ttl in zip(asked, told, strict=True)]
        return Answer(200, LeaseCheckpointRequest(checkpoints=renewed).SerializeToString())


class Follower:
    """A member of three that follows, with everything that asks the leader."""

    def __init__(self) -> None:
        self.leader = LEADER
        self.network = Leader()
        self.clock = HandClock()
        self.cluster = Cluster(1, LOCAL, MemoryTables())
        two = MemberInfo(2, ("http://10.0.0.2:1", "http://10.0.0.2:2"), "m2")
        self.cluster.assume([member(LOCAL), two, member(3)])
        self.to_leader = ToLeader(
            self.cluster, self, self.network, self.clock, timeout_seconds=TIMEOUT_SECONDS
        )
        self.at_leader = LeaderLeases(self.to_leader)
        self.lessor = Lessor(MemoryTable(), minimum_ttl=2)
        self.leases = Leases(self.lessor, self, self.clock, iter(range(9)).__next__, TIMEOUT_SECONDS)
        self.leases.at_leader = self.at_leader

    def propose(self, number: int, body: bytes, done: Done) -> None:
        raise AssertionError("nothing is proposed here")

    def propose_as_leader(self, batch: Sequence[tuple[int, bytes, Done]]) -> None:
        raise AssertionError("it does not lead")

    async def forward(self, seconds: float) -> None:
        """Let time pass, with a look of everyone who waits in every hundredth of a second."""
        for _ in range(round(seconds * 100)):
            self.clock.forward(0.01)
            await settle()


def run(scenario: Callable[[Follower], Coroutine[Any, Any, None]]) -> None:
    async def with_follower() -> None:
        await scenario(Follower())

    asyncio.run(with_follower())


def paths(follower: Follower) -> list[tuple[str, int]]:
    return [(path, count) for _, path, count in follower.network.posted]


# --- renewals ---------------------------------------------------------------------------------------------


def test_one_renewal_goes_as_etcds_do() -> None:
    async def scenario(follower: Follower) -> None:
        follower.network.ttls = {7: 30}
        assert await follower.leases.renew(7) == 30
        assert await follower.leases.renew_all([8]) == [0]
        assert paths(follower) == [(LEASES_PATH, 1), (LEASES_PATH, 1)]

    run(scenario)


def test_renewals_gather_while_a_request_is_under_way() -> None:
    async def scenario(follower: Follower) -> None:
        network = follower.network
        network.ttls = {number: 100 + number for number in range(20)}
        network.held = asyncio.Event()
        first = asyncio.ensure_future(follower.leases.renew_all([1, 2, 3]))
        await settle()
        others = [asyncio.ensure_future(follower.leases.renew_all([n, 99])) for n in range(4, 14)]
        others.append(asyncio.ensure_future(follower.leases.renew_all([15, 15])))
        await settle()
        network.held.set()
        assert await first == [101, 102, 103]
        answered = await asyncio.gather(*others)
        assert answered == [*([100 + n, 0] for n in range(4, 14)), [115, 115]]
        assert paths(follower) == [(BATCH_PATH, 3), (BATCH_PATH, 21)]

    run(scenario)


def test_a_batch_has_a_bound() -> None:
    async def scenario(follower: Follower) -> None:
        many = list(range(1, limits.MAX_LEASES_PER_REQUEST + 1))
        follower.network.ttls = dict.fromkeys(many, 5)
        both = await asyncio.gather(follower.leases.renew_all(many), follower.leases.renew_all([1, 2]))
        assert list(both) == [[5] * len(many), [5, 5]]
        assert paths(follower) == [(BATCH_PATH, len(many)), (BATCH_PATH, 2)]

    run(scenario)


def test_what_a_batch_does_not_wait_for_is_asked_alone() -> None:
    async def scenario(follower: Follower) -> None:
        follower.network.ttls = {1: 10, 2: 20, 3: 30}
        follower.network.slow = {2}
        assert await follower.leases.renew_all([1, 2, 3]) == [10, 20, 30]
        assert paths(follower) == [(BATCH_PATH, 3), (LEASES_PATH, 1)]

    run(scenario)


def test_a_leader_without_batches_gets_single_requests() -> None:
    async def scenario(follower: Follower) -> None:
        follower.network.ttls = {1: 10, 2: 20}
        follower.network.takes_batches = False
        assert await follower.leases.renew_all([1, 2, 3]) == [10, 20, 0]
        assert await follower.leases.renew_all([1, 2]) == [10, 20]
        assert paths(follower) == [(BATCH_PATH, 3), *[(LEASES_PATH, 1)] * 5], "it is asked for batches once"

    run(scenario)


def test_another_leader_is_asked_when_the_first_is_lost() -> None:
    async def scenario(follower: Follower) -> None:
        network = follower.network
        network.ttls = {1: 10, 2: 20}
        network.down = {"http://10.0.0.2:1", "http://10.0.0.2:2"}
        renewals = asyncio.ensure_future(follower.leases.renew_all([1, 2]))
        await follower.forward(0.2)
        assert not renewals.done()
        assert {url for url, _, _ in network.posted} == network.down, "by all of its URLs"
        follower.leader = 0
        await follower.forward(1.0)
        assert not renewals.done()
        follower.leader = 3
        await follower.forward(1.0)
        assert renewals.done()
        assert await renewals == [10, 20]
        assert network.posted[-1][0] == "http://10.0.0.3:2380"

    run(scenario)


def test_this_member_leads_in_the_end() -> None:
    async def scenario(follower: Follower) -> None:
        follower.network.status = 400
        follower.lessor.grant(1, 10, 0.0)
        renewals = asyncio.ensure_future(follower.leases.renew_all([1, 2]))
        await follower.forward(0.2)
        follower.leader = LOCAL
        follower.lessor.promote(1.0, follower.clock.time())
        await follower.forward(1.0)
        assert renewals.done()
        assert await renewals == [10, 0]

    run(scenario)


@pytest.mark.parametrize(("leader", "error"), [(0, errors.ERR_NO_LEADER), (LEADER, errors.ERR_TIMEOUT)])
@pytest.mark.parametrize("lease_ids", [[1], [1, 2]])
def test_attempts_end(leader: int, error: EtcdError, lease_ids: list[int]) -> None:
    async def scenario(follower: Follower) -> None:
        follower.leader = leader
        follower.network.status = 408
        renewals = asyncio.ensure_future(follower.leases.renew_all(lease_ids))
        looking = asyncio.ensure_future(follower.leases.time_to_live(1, keys=True))
        await follower.forward(TIMEOUT_SECONDS - 0.5)
        assert not renewals.done()
        await follower.forward(0.6)
        for waiting in (renewals, looking):
            with pytest.raises(EtcdError) as refused:
                await waiting
            assert refused.value is error

    run(scenario)


def test_nobody_waits_for_a_batch_that_is_given_up() -> None:
    async def scenario(follower: Follower) -> None:
        follower.network.held = asyncio.Event()
        asked = [asyncio.ensure_future(follower.at_leader.renew_many([n, n])) for n in (1, 2)]
        await settle()
        follower.at_leader.close()
        assert await asyncio.gather(*asked) == [[None, None]] * 2

    run(scenario)


# --- promotion --------------------------------------------------------------------------------------------

LISTED: Final = b'[{"id":7,"peerURLs":["http://a:1"],"name":"n"}]\n'


@pytest.mark.parametrize(
    ("status", "body", "means"),
    [
        (200, LISTED, [MemberInfo(7, ("http://a:1",), "n")]),
        (200, b"no JSON", None),
        (200, b"7", None),
        (408, b"", None),
        (500, b'{"message":"Internal Server Error"}', None),
        (412, b"something else", None),
    ],
)
def test_promotions_read(status: int, body: bytes, means: list[MemberInfo] | None) -> None:
    assert forward.read_promotion(status, body) == means


@pytest.mark.parametrize(
    "error", [errors.ERR_MEMBER_NOT_FOUND, errors.ERR_MEMBER_NOT_LEARNER, errors.ERR_LEARNER_NOT_READY]
)
def test_a_refusal_comes_back_as_it_went(error: EtcdError) -> None:
    refusal = forward.promotion_refusal(error)
    assert refusal is not None
    with pytest.raises(EtcdError) as read:
        forward.read_promotion(refusal[0], refusal[1].encode() + b"\n")
    assert read.value is error
    assert forward.promotion_refusal(errors.ERR_UNHEALTHY) is None


# --- handing over -----------------------------------------------------------------------------------------


class Handing:
    """A leader of three whose Raft hands over, or does not."""

    def __init__(self) -> None:
        self.leader = LOCAL
        self.machine = Machine([2, 3])
        self.machine.apply_steps(changes.adding(member(4, learner=True)))
        self.asked: list[int] = []
        self.handover = Handover(
            self,
            self.machine.cluster,
            self.machine.connections,
            self,
            self.machine.clock,
            self.machine.log,
            kick=lambda: None,
            look_seconds=0.1,
            timeout_seconds=TIMEOUT_SECONDS,
        )

    def transfer_leadership(self, transferee: int) -> None:
        self.asked.append(transferee)


def test_move_leader() -> None:
    async def scenario() -> None:
        handing = Handing()
        for target in (4, 5):
            with pytest.raises(EtcdError) as refused:
                await handing.handover.move_leader(target)
            assert refused.value is errors.ERR_BAD_LEADER_TRANSFEREE
        await handing.handover.move_leader(LOCAL)
        moving = asyncio.ensure_future(handing.handover.move_leader(3))
        await settle()
        assert handing.asked == [LOCAL, 3]
        handing.leader = 3
        handing.machine.clock.forward(0.1)
        await moving
        with pytest.raises(EtcdError) as refused:
            await handing.handover.move_leader(2)
        assert refused.value is errors.ERR_NOT_LEADER

    asyncio.run(scenario())


def test_a_transfer_that_takes_too_long() -> None:
    async def scenario() -> None:
        handing = Handing()
        moving = asyncio.ensure_future(handing.handover.move_leader(2))
        for _ in range(80):
            await settle()
            handing.machine.clock.forward(0.1)
        with pytest.raises(EtcdError) as refused:
            await moving
        assert refused.value is ERR_TIMEOUT_LEADER_TRANSFER

    asyncio.run(scenario())


def test_before_the_end() -> None:
    async def scenario() -> None:
        handing = Handing()
        await handing.handover.before_stop()  # nobody is connected
        assert not handing.asked
        handing.machine.connections.since = {2: 7.0, 3: 5.0, 4: 1.0}
        stopping = asyncio.ensure_future(handing.handover.before_stop())
        await settle()
        assert handing.asked == [3], "a voter, and the one that has been connected for longest"
        handing.leader = 3
        handing.machine.clock.forward(0.1)
        await stopping
        await handing.handover.before_stop()  # it does not lead
        assert handing.asked == [3]

    asyncio.run(scenario())
