"""Majorities, alone and joined (Raft §5.2, §5.3; thesis §4.3).

A joint configuration decides by two majorities at once, so its answer is the weaker of the two: the lower
commit index, the less certain vote. The empty set of voters therefore has to be the neutral element: it has
committed everything and lost no vote.
"""

from collections.abc import Collection, Mapping
from typing import Final

VOTE_PENDING: Final = 0
VOTE_LOST: Final = 1
VOTE_WON: Final = 2

EVERYTHING: Final = (1 << 64) - 1
"""The index that nobody's disagreement holds back."""


def majority(size: int) -> int:
    """The least number of ``size`` voters of which any two such sets share one."""
    return size // 2 + 1


def committed_index(voters: Collection[int], acked: Mapping[int, int]) -> int:
    """The highest index that a majority of ``voters`` acknowledged; absent from ``acked`` counts 0.

    ``max { i : |{v ∈ voters : acked[v] ≥ i}| ≥ majority }``
    """
    size = len(voters)
    if size == 0:
        return EVERYTHING
    if size == 1:
        (only,) = voters
        return acked.get(only, 0)
    ascending = sorted([acked.get(voter, 0) for voter in voters])
    return ascending[size - majority(size)]


def joint_committed_index(
    incoming: Collection[int], outgoing: Collection[int], acked: Mapping[int, int]
) -> int:
    """The highest index that a majority of each half acknowledged."""
    index = committed_index(incoming, acked)
    if outgoing:
        index = min(index, committed_index(outgoing, acked))
    return index


def vote_result(voters: Collection[int], votes: Mapping[int, bool]) -> int:
    """VOTE_WON with a majority of grants, VOTE_LOST once that is out of reach, else VOTE_PENDING."""
    size = len(voters)
    if size == 0:
        return VOTE_WON
    granted = missing = 0
    for voter in voters:
        vote = votes.get(voter)
        if vote is None:
            missing += 1
        elif vote:
            granted += 1
    needed = majority(size)
    if granted >= needed:
        return VOTE_WON
    if granted + missing >= needed:
        return VOTE_PENDING
    return VOTE_LOST


def joint_vote_result(incoming: Collection[int], outgoing: Collection[int], votes: Mapping[int, bool]) -> int:
    """Won if both halves won, lost if either lost."""
    first = vote_result(incoming, votes)
    second = vote_result(outgoing, votes)
    if first == second:
        return first
    if first == VOTE_LOST or second == VOTE_LOST:
        return VOTE_LOST
    return VOTE_PENDING
