"""Changes on their way: who waits for one is told once, whatever comes of it."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from kvorum import errors, limits
from kvorum.errors import EtcdError
from kvorum.raft.types import ENTRY_CONF_CHANGE, ENTRY_NORMAL
from kvorum.server import changes
from kvorum.server.changes import MemberInfo
from kvorum.server.reconfigure import longest_connected
from tests.membership.kit import LOCAL, TIMEOUT_SECONDS, Machine, member, settle

URL = "http://10.0.0.9:2380"


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(scenario())


def in_vain(machine: Machine, change: Coroutine[Any, Any, Any]) -> EtcdError:
    """Ask for what is refused before it is proposed; returns why."""
    before = len(machine.entries)
    with pytest.raises(EtcdError) as refused:
        asyncio.run(change)
    machine.drive()
    assert len(machine.entries) == before
    return refused.value


def test_add_and_remove() -> None:
    async def scenario() -> None:
        machine = Machine().elect()
        adding = asyncio.ensure_future(machine.reconfigure.add_member([f" {URL}"], False))
        await settle()
        assert not adding.done()
        machine.drive()
        added, members = await adding
        assert added == MemberInfo(added.id, (URL,))
        assert members == machine.cluster.listed()
        assert machine.connections.peers == {added.id: (URL,)}
        # One that voted for nothing yet: the second change needs its acknowledgement, and gets none here.
        removing = asyncio.ensure_future(machine.reconfigure.remove_member(added.id))
        await settle()
        machine.drive()
        await settle()
        assert not removing.done()
        machine.apply(changes.removing(added.id).encoded(1001))
        assert await removing == machine.cluster.listed()

    run(scenario)


def test_ids_are_of_the_urls_and_the_time() -> None:
    async def scenario() -> None:
        ids = set()
        for urls in ([URL], [URL, "http://10.0.0.8:2380"], ["http://10.0.0.8:2380", URL]):
            machine = Machine().elect()
            adding = asyncio.ensure_future(machine.reconfigure.add_member(urls, True))
            await settle()
            machine.drive()
            added, _ = await adding
            assert added.is_learner
            assert added.peer_urls == tuple(sorted(urls))
            ids.add(added.id)
        assert len(ids) == 2, "the order of the URLs is none"

    run(scenario)


def test_a_change_that_does_not_hold_any_more_is_refused_when_it_is_applied() -> None:
    async def scenario() -> None:
        machine = Machine().elect()
        promoting = asyncio.ensure_future(machine.reconfigure.promote_member(9))
        await settle()
        machine.drive()
        with pytest.raises(EtcdError) as refused:
            await promoting
        assert refused.value is errors.ERR_MEMBER_NOT_FOUND
        assert machine.entries[-1].type == ENTRY_CONF_CHANGE, "it is in the log all the same"
        assert machine.reconfigure.promotions_total == 0

    run(scenario)


def test_a_change_that_finds_no_leader_is_proposed_with_a_later_tick() -> None:
    async def scenario() -> None:
        machine = Machine()
        adding = asyncio.ensure_future(machine.reconfigure.add_member([URL], False))
        await settle()
        machine.reconfigure.tick(machine.clock.time())
        machine.drive()
        assert not adding.done()
        machine.elect()
        machine.reconfigure.tick(machine.clock.time())
        machine.drive()
        await adding
        machine.reconfigure.tick(machine.clock.time())
        machine.drive()
        kinds = [entry.type for entry in machine.entries]
        assert kinds == [ENTRY_CONF_CHANGE, ENTRY_NORMAL, ENTRY_CONF_CHANGE], "once"

    run(scenario)


def test_who_has_waited_for_too_long_is_told() -> None:
    async def scenario() -> None:
        machine = Machine()
        started = machine.clock.time()
        adding = asyncio.ensure_future(machine.reconfigure.add_member([URL], False))
        await settle()
        machine.reconfigure.tick(started + TIMEOUT_SECONDS - 0.1)
        await settle()
        assert not adding.done()
        machine.reconfigure.tick(started + TIMEOUT_SECONDS)
        with pytest.raises(EtcdError, match=f"late since {started:g}"):
            await adding

    run(scenario)


def test_the_second_of_two_at_once_waits_for_the_first() -> None:
    async def scenario() -> None:
        machine = Machine(max_learners=2).elect()
        asked = [
            asyncio.ensure_future(machine.reconfigure.add_member([f"http://10.0.0.{n}:2380"], True))
            for n in (7, 8, 9)
        ]
        await settle()
        machine.drive()
        await asked[0]
        for one in asked[1:]:
            assert not one.done()
            machine.reconfigure.tick(machine.clock.time())
            machine.drive()
            await settle()
        await asked[1]
        with pytest.raises(EtcdError) as refused:
            await asked[2]
        assert refused.value is errors.ERR_TOO_MANY_LEARNERS
        assert all(entry.data for entry in machine.entries if entry.index > 2), "none in vain"

    run(scenario)


def test_what_comes_to_a_leader_too_soon_becomes_an_empty_entry() -> None:
    machine = Machine().elect()
    machine.raft.propose_conf_change(changes.adding(member(2, learner=True)).encoded(1))
    machine.raft.propose_conf_change(changes.adding(member(3, learner=True)).encoded(2))
    machine.drive()
    assert [one.id for one in machine.cluster.listed()] == [1, 2]
    assert (machine.entries[-1].type, machine.entries[-1].data) == (ENTRY_NORMAL, b"")


def test_who_does_not_wait_any_more_is_forgotten() -> None:
    async def scenario() -> None:
        machine = Machine().elect()
        adding = asyncio.ensure_future(machine.reconfigure.add_member([URL], False))
        await settle()
        adding.cancel()
        await settle()
        machine.drive()
        assert len(machine.cluster.members) == 2, "but what is in the log counts"

    run(scenario)


def test_the_members_stop_tells_everyone() -> None:
    async def scenario() -> None:
        machine = Machine()
        waiting = [
            asyncio.ensure_future(machine.reconfigure.add_member([f"http://10.0.0.{n}:2380"], False))
            for n in (8, 9)
        ]
        await settle()
        machine.reconfigure.fail_all(errors.ERR_STOPPED)
        for one in (*waiting, machine.reconfigure.remove_member(9)):
            with pytest.raises(EtcdError) as refused:
                await one
            assert refused.value is errors.ERR_STOPPED

    run(scenario)


def test_no_more_wait_than_may() -> None:
    machine = Machine()
    for _ in range(limits.MAX_WAITING_MEMBER_CHANGES):
        machine.reconfigure.propose(changes.removing(9), lambda error: None)
    with pytest.raises(EtcdError) as refused:
        machine.reconfigure.propose(changes.removing(9), lambda error: None)
    assert refused.value is errors.ERR_REQUEST_TOO_MANY_REQUESTS


def test_an_update_keeps_a_learner_one() -> None:
    async def scenario() -> None:
        machine = Machine()
        machine.apply_steps(changes.adding(member(2, learner=True)))
        machine.elect()
        updating = asyncio.ensure_future(machine.reconfigure.update_member(2, [URL]))
        await settle()
        machine.drive()
        assert (await updating)[1] == MemberInfo(2, (URL,), "m2", is_learner=True)
        assert machine.connections.peers == {2: (URL,)}

    run(scenario)


# --- leaving ----------------------------------------------------------------------------------------------


def test_a_member_that_is_removed_stays_for_a_moment() -> None:
    machine = Machine()
    assert machine.apply_steps(changes.adding(member(2)), changes.removing(LOCAL)) is None
    assert machine.cluster.is_removed(LOCAL)
    machine.clock.forward(limits.LEAVE_SECONDS - 0.01)
    assert machine.removed == 0
    machine.clock.forward(0.01)
    assert machine.removed == 1


def test_the_last_voter_cannot_be_removed() -> None:
    machine = Machine()
    assert machine.apply_steps(changes.removing(LOCAL)) is errors.ERR_MEMBER_NOT_ENOUGH_STARTED
    assert machine.cluster.local is not None
    assert machine.raft.status().conf_state.voters == (LOCAL,)


def test_a_member_that_was_removed_before_it_began_again_stops() -> None:
    machine = Machine()
    machine.reconfigure.start()
    machine.clock.forward(limits.LEAVE_SECONDS)
    assert machine.removed == 0
    machine.cluster.remove(LOCAL)
    machine.reconfigure.start()
    machine.clock.forward(limits.LEAVE_SECONDS)
    assert machine.removed == 1


def test_a_snapshot_brings_other_members() -> None:
    machine = Machine()
    machine.apply_steps(changes.adding(member(2)))
    other = Machine()
    other.apply_steps(changes.adding(member(3)), changes.adding(member(4)), changes.removing(3))
    machine.cluster.recover(other.tables)
    machine.reconfigure.installed()
    assert machine.cluster.members == other.cluster.members
    assert machine.cluster.removed == {3}
    assert machine.connections.peers == other.connections.peers
    other.apply_steps(changes.removing(LOCAL))
    machine.cluster.recover(other.tables)
    machine.reconfigure.installed()
    machine.clock.forward(limits.LEAVE_SECONDS)
    assert machine.removed == 1, "it was removed while it was away"


# --- the strict check, with connections -------------------------------------------------------------------

LONG = -limits.HEALTH_INTERVAL_SECONDS - 1
JUST_NOW = -limits.HEALTH_INTERVAL_SECONDS + 1


def strict_machine(**since: float) -> Machine:
    """Three voters; ``m2`` and ``m3`` say since when they are connected, if they are."""
    machine = Machine([2, 3], strict=True)
    for name, seconds in since.items():
        machine.connections.since[int(name[1:])] = machine.clock.time() + seconds
    return machine


@pytest.mark.parametrize("since", [{}, {"m2": LONG}, {"m2": LONG, "m3": JUST_NOW}], ids=str)
def test_nobody_is_added_unless_all_have_been_connected(since: dict[str, float]) -> None:
    for is_learner in (False, True):
        machine = strict_machine(**since)
        assert in_vain(machine, machine.reconfigure.add_member([URL], is_learner)) is errors.ERR_UNHEALTHY
        assert "rejecting member add request; local member has not been connected" in machine.lines.text()


def test_the_strict_check_lets_pass_what_is_safe() -> None:
    async def scenario() -> None:
        asked: tuple[Callable[[Machine], Coroutine[Any, Any, Any]], ...] = (
            lambda machine: machine.reconfigure.add_member([URL], False),
            lambda machine: machine.reconfigure.remove_member(3),
            lambda machine: machine.reconfigure.remove_member(LOCAL),
        )
        for ask in asked:
            machine = strict_machine(m2=LONG, m3=LONG)
            task = asyncio.ensure_future(ask(machine))
            await settle()
            assert not task.done(), "it is proposed"
            task.cancel()
            await settle()

    run(scenario)


@pytest.mark.parametrize(
    ("since", "leaving", "is_refused"),
    [
        ({}, 2, False),  # who is down does not count
        ({"m2": JUST_NOW}, 3, False),
        ({"m2": LONG}, 2, True),
        ({"m2": LONG, "m3": JUST_NOW}, 2, True),
        ({"m2": LONG, "m3": LONG}, 2, False),
        ({"m2": LONG}, LOCAL, True),
        ({}, LOCAL, True),
    ],
)
def test_whose_removal_would_break_the_quorum(
    since: dict[str, float], leaving: int, is_refused: bool
) -> None:
    async def scenario() -> None:
        machine = strict_machine(**since)
        removing = asyncio.ensure_future(machine.reconfigure.remove_member(leaving))
        await settle()
        if is_refused:
            with pytest.raises(EtcdError) as refused:
                await removing
            assert refused.value is errors.ERR_UNHEALTHY
        else:
            assert not removing.done()
            removing.cancel()
            await settle()

    run(scenario)


def test_members_that_never_started() -> None:
    machine = Machine(strict=True)
    machine.apply_steps(changes.adding(member(2, name="")))
    machine.connections.since[2] = machine.clock.time() + LONG
    reconfigure = machine.reconfigure
    assert in_vain(machine, reconfigure.add_member([URL], False)) is errors.ERR_MEMBER_NOT_ENOUGH_STARTED
    assert in_vain(machine, reconfigure.remove_member(LOCAL)) is errors.ERR_MEMBER_NOT_ENOUGH_STARTED


def test_who_is_connected_for_longest() -> None:
    machine = Machine([2, 3])
    members = machine.cluster.listed()
    assert longest_connected(members, machine.connections) is None
    machine.connections.since = {3: 5.0, 2: 7.0, 4: 1.0}
    assert longest_connected(members, machine.connections) == 3
