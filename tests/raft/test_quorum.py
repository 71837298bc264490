"""Majorities against a twin that tries every set of voters."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvorum.raft import quorum

VOTERS = st.sets(st.integers(1, 9), max_size=7)
ACKED = st.dictionaries(st.integers(1, 9), st.integers(0, 12), max_size=9)
VOTES = st.dictionaries(st.integers(1, 9), st.booleans(), max_size=9)


def majorities(voters: set[int]) -> list[set[int]]:
    """Every set of voters that no two of are disjoint, minimal or not."""
    return [
        set(some)
        for size in range(len(voters) + 1)
        for some in combinations(sorted(voters), size)
        if 2 * size > len(voters)
    ]


def dumb_committed(voters: set[int], acked: dict[int, int]) -> int:
    if not voters:
        return quorum.EVERYTHING
    return max(min(acked.get(voter, 0) for voter in some) for some in majorities(voters))


def dumb_vote(voters: set[int], votes: dict[int, bool]) -> int:
    if not voters:
        return quorum.VOTE_WON
    if any(all(votes.get(voter) for voter in some) for some in majorities(voters)):
        return quorum.VOTE_WON
    if any(all(votes.get(voter, True) for voter in some) for some in majorities(voters)):
        return quorum.VOTE_PENDING
    return quorum.VOTE_LOST


@given(VOTERS, ACKED)
def test_committed_index(voters: set[int], acked: dict[int, int]) -> None:
    assert quorum.committed_index(voters, acked) == dumb_committed(voters, acked)


@given(VOTERS, VOTERS, ACKED)
def test_joint_committed_index(incoming: set[int], outgoing: set[int], acked: dict[int, int]) -> None:
    expected = min(dumb_committed(incoming, acked), dumb_committed(outgoing, acked))
    assert quorum.joint_committed_index(incoming, outgoing, acked) == expected


@given(VOTERS, VOTES)
def test_vote_result(voters: set[int], votes: dict[int, bool]) -> None:
    assert quorum.vote_result(voters, votes) == dumb_vote(voters, votes)


@given(VOTERS, VOTERS, VOTES)
def test_joint_vote_result(incoming: set[int], outgoing: set[int], votes: dict[int, bool]) -> None:
    halves = {dumb_vote(incoming, votes), dumb_vote(outgoing, votes)}
    if quorum.VOTE_LOST in halves:
        expected = quorum.VOTE_LOST
    elif quorum.VOTE_PENDING in halves:
        expected = quorum.VOTE_PENDING
    else:
        expected = quorum.VOTE_WON
    assert quorum.joint_vote_result(incoming, outgoing, votes) == expected


@pytest.mark.parametrize(("size", "needed"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (7, 4)])
def test_majority(size: int, needed: int) -> None:
    assert quorum.majority(size) == needed
