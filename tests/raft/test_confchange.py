"""Configurations: the rules of one step, and of two (thesis §4)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvorum.raft import confchange
from kvorum.raft.confchange import ConfChangeError, Configuration
from kvorum.raft.types import ConfChangeSingle, ConfChangeV2, ConfState

ADD, REMOVE, UPDATE, LEARN = 0, 1, 2, 3
SINGLES = st.lists(st.builds(ConfChangeSingle, st.integers(0, 3), st.integers(0, 6)), max_size=5).map(tuple)
CHANGES = st.builds(ConfChangeV2, st.integers(0, 2), SINGLES)


def config(voters: str = "", learners: str = "") -> Configuration:
    return confchange.restore(ConfState(tuple(map(int, voters)), tuple(map(int, learners))))


def v2(*singles: tuple[int, int], transition: int = 0) -> ConfChangeV2:
    return ConfChangeV2(transition, tuple(ConfChangeSingle(*single) for single in singles))


@pytest.mark.parametrize(
    ("before", "change", "after"),
    [
        (config("1"), v2((ADD, 2)), config("12")),
        (config("12"), v2((ADD, 2)), config("12")),
        (config("12"), v2((REMOVE, 2)), config("1")),
        (config("12"), v2((REMOVE, 9)), config("12")),
        (config("12"), v2((UPDATE, 2)), config("12")),
        (config("12"), v2((REMOVE, 0)), config("12")),
        (config("1"), v2((LEARN, 2)), config("1", "2")),
        (config("1", "2"), v2((LEARN, 2)), config("1", "2")),
        (config("1", "2"), v2((ADD, 2)), config("12")),
        (config("12"), v2((LEARN, 2)), config("1", "2")),
        (config("1", "2"), v2((REMOVE, 2)), config("1")),
        (config(""), v2((ADD, 1)), config("1")),
    ],
)
def test_one_step(before: Configuration, change: ConfChangeV2, after: Configuration) -> None:
    assert confchange.apply(before, change) == after


@pytest.mark.parametrize(
    ("before", "change", "error"),
    [
        (config("1"), v2((REMOVE, 1)), "removed all voters"),
        (config("1"), v2((LEARN, 1)), "removed all voters"),
        (config("1"), v2(), "can't leave a non-joint config"),
        (config(""), v2((ADD, 1), (ADD, 2)), "zero-voter"),
        (config("1"), v2((7, 2)), "unexpected conf type 7"),
        (confchange.apply(config("1"), v2((ADD, 2), (ADD, 3))), v2((ADD, 4)), "in joint config"),
        (confchange.apply(config("1"), v2((ADD, 2), (ADD, 3))), v2((ADD, 4), (ADD, 5)), "already joint"),
    ],
)
def test_refused(before: Configuration, change: ConfChangeV2, error: str) -> None:
    with pytest.raises(ConfChangeError, match=error):
        confchange.apply(before, change)


def test_more_than_one_voter_needs_two_steps() -> None:
    with pytest.raises(ConfChangeError, match="more than one voter"):
        confchange.simple(config("1"), v2((ADD, 2), (ADD, 3)).changes)


def test_two_steps() -> None:
    joint = confchange.apply(config("123"), v2((ADD, 4), (REMOVE, 1), (LEARN, 2), (LEARN, 9)))
    assert joint.conf_state() == ConfState((3, 4), (9,), (1, 2, 3), (2,), True)
    assert joint.members == {1, 2, 3, 4, 9}
    left = confchange.apply(joint, v2())
    assert left.conf_state() == ConfState((3, 4), (2, 9))


def test_a_voter_taken_back_before_the_joint_configuration_is_left() -> None:
    joint = confchange.apply(config("12"), v2((LEARN, 2), (ADD, 2), (ADD, 3), transition=2))
    assert joint.conf_state() == ConfState((1, 2, 3), (), (1, 2))


@pytest.mark.parametrize(
    "state",
    [
        ConfState((1,), (1,)),
        ConfState((1,), (2,), (2,)),
        ConfState((1,), (), (), (2,)),
        ConfState((1,), (), (2,), (3,)),
        ConfState((1,), auto_leave=True),
    ],
)
def test_impossible_states_are_refused(state: ConfState) -> None:
    with pytest.raises(ConfChangeError):
        confchange.restore(state)


@given(st.lists(CHANGES, max_size=12))
def test_any_sequence_keeps_majorities_overlapping(changes: list[ConfChangeV2]) -> None:
    """§4.1, §4.3: at each step, a majority of before and one of after share a member."""
    current = config("1")
    for change in changes:
        try:
            after = confchange.apply(current, change)
        except ConfChangeError:
            continue
        after.check_invariants()
        assert confchange.restore(after.conf_state()) == after
        assert after.voters
        halves = (current.voters, current.voters_outgoing), (after.voters, after.voters_outgoing)
        shared = [a for a in halves[0] for b in halves[1] if a and b and len(a ^ b) <= 1]
        assert shared, (current, after)
        current = after
