"""Who may lead, and since when (Raft §5.2, §5.4; thesis §4.2.3, §6.2, §9.6)."""

import pytest

from kvorum.raft.core import CANDIDATE, FOLLOWER, LEADER, PRE_CANDIDATE, ProposalDropped
from kvorum.raft.types import (
    MSG_APP,
    MSG_APP_RESP,
    MSG_HEARTBEAT,
    MSG_PRE_VOTE,
    MSG_PRE_VOTE_RESP,
    MSG_VOTE,
    MSG_VOTE_RESP,
    NONE,
    Message,
)
from tests.raft.cluster import Cluster


def role(cluster: Cluster, member: int) -> int:
    return cluster[member].raft.status().role


def test_election_timeout_starts_an_election() -> None:
    """§5.2: a follower that hears of no leader for its timeout starts an election; timeouts are spread."""
    cluster = Cluster(3)
    assert len({m.raft._raft.randomized_election_timeout for m in cluster.members.values()}) > 1
    cluster.tick(20)
    assert cluster.leader() != NONE
    assert all(m.raft.lead == cluster.leader() for m in cluster.members.values())


def test_timeouts_are_drawn_from_the_range() -> None:
    """§5.2, §9.3: election timeouts are uniform in [T, 2T)."""
    drawn = set()
    for seed in range(100):
        drawn |= {m.raft._raft.randomized_election_timeout for m in Cluster(3, seed=seed).members.values()}
    assert drawn == set(range(10, 20))


def test_leader_lost() -> None:
    """§5.2: the others elect a new leader; the old one, back, follows it and takes over its log."""
    cluster = Cluster(3)
    cluster.campaign(1)
    cluster.propose(1, b"before")
    cluster.crash(1)
    cluster.tick(40)
    lead = cluster.leader()
    assert lead in (2, 3)
    cluster.propose(lead, b"meanwhile")
    cluster.restart(1)
    cluster.tick(3)
    assert role(cluster, 1) == FOLLOWER
    assert cluster[1].raft.lead == lead
    assert cluster.agreed() == [b"before", b"meanwhile"]


def test_follower_lost() -> None:
    """§5.5: the majority goes on, and brings the follower up to date when it is back."""
    cluster = Cluster(3)
    cluster.campaign(1)
    cluster.crash(3)
    cluster.propose(1, b"a", b"b")
    assert cluster[1].machine.data == [b"a", b"b"]
    cluster.restart(3)
    cluster.tick(3)
    assert cluster.leader() == 1
    assert cluster.agreed() == [b"a", b"b"]


def test_two_candidates_one_wins() -> None:
    """§5.2: both ask in the same term; the third gives its vote once, and the loser follows the winner."""
    cluster = Cluster(3, pre_vote=False)
    cluster[1].raft.campaign()
    cluster[2].raft.campaign()
    cluster.settle()
    assert [role(cluster, m) for m in (1, 2, 3)].count(LEADER) == 1
    lead = cluster.leader()
    assert {m.raft.lead for m in cluster.members.values()} == {lead}
    assert {m.raft.term for m in cluster.members.values()} == {2}


def test_split_vote() -> None:
    """§5.2: each of two candidates gets two of four votes; nobody leads that term, somebody a later one."""
    cluster = Cluster(4, pre_vote=False)
    cluster.isolate(1, 3)
    for candidate in (1, 2):
        cluster[candidate].raft.campaign()
    cluster.settle()
    assert role(cluster, 1) == role(cluster, 2) == CANDIDATE
    cluster.heal()
    cluster.tick(40)
    assert cluster.leader() != NONE
    assert cluster[1].raft.term > 2


def test_vote_is_given_once_per_term() -> None:
    """§5.2, Figure 2: first come, first served; asking again is answered the same."""
    cluster = Cluster(3, pre_vote=False, check_quorum=False)
    voter = cluster[3]
    for candidate, granted in ((1, True), (2, False), (1, True)):
        voter.raft.step(Message(MSG_VOTE, to=3, from_=candidate, term=5, index=9, log_term=4))
        cluster[3].take()
        (answer,) = voter.persist()
        assert (answer.type, answer.term, answer.reject) == (MSG_VOTE_RESP, 5, not granted)
    assert voter.disk.hard_state.vote == 1


def test_vote_survives_a_restart() -> None:
    """Figure 2, persistent state: a member that forgot its vote could elect two leaders of one term."""
    cluster = Cluster(3, pre_vote=False, check_quorum=False)
    cluster[3].raft.step(Message(MSG_VOTE, to=3, from_=1, term=5, index=9, log_term=4))
    cluster[3].take()
    cluster[3].persist()
    cluster.crash(3)
    cluster[3].restart()
    cluster[3].raft.step(Message(MSG_VOTE, to=3, from_=2, term=5, index=9, log_term=4))
    cluster[3].take()
    (answer,) = cluster[3].persist()
    assert answer.reject


def test_vote_that_was_not_written_was_not_given() -> None:
    """Figure 2: votes leave only once they are durable."""
    cluster = Cluster(3, pre_vote=False, check_quorum=False)
    cluster[3].raft.step(Message(MSG_VOTE, to=3, from_=1, term=5, index=9, log_term=4))
    assert cluster[3].take() == []
    assert cluster[3].ready is not None
    assert cluster[3].ready.must_sync
    assert [m.type for m in cluster[3].persist()] == [MSG_VOTE_RESP]


@pytest.mark.parametrize("pre_vote", [True, False])
def test_candidate_asks_and_votes_only_once_that_is_durable(pre_vote: bool) -> None:
    """Figure 2: a candidate that forgot would campaign in the same term with another log."""
    cluster = Cluster(3, pre_vote=pre_vote)
    cluster[1].raft.campaign()
    if pre_vote:
        cluster.send(cluster[1].take() + cluster[1].persist())
        while cluster.wire:
            cluster.deliver(cluster.wire.pop(0))
        for other in (2, 3):
            cluster.send(cluster[other].take() + cluster[other].persist())
        while cluster.wire:
            cluster.deliver(cluster.wire.pop(0))
    assert role(cluster, 1) == CANDIDATE
    assert cluster[1].take() == []
    assert cluster[1].raft._raft.votes == {}
    asked = cluster[1].persist()
    assert [m.type for m in asked] == [MSG_VOTE, MSG_VOTE]
    assert cluster[1].raft._raft.votes == {1: True}
    assert cluster[1].disk.hard_state.vote == 1


@pytest.mark.parametrize(
    ("last", "granted"),
    [
        # (term, index) of the candidate's last entry; the voter's is (3, 4)
        ((3, 4), True),
        ((3, 5), True),
        ((4, 1), True),
        ((3, 3), False),
        ((2, 9), False),
    ],
)
def test_up_to_date(last: tuple[int, int], granted: bool) -> None:
    """§5.4.1: the later last term is more up to date; with equal terms, the longer log."""
    cluster = Cluster(1, pre_vote=False)
    cluster.campaign(1)
    cluster.crash(1)
    cluster.restart(1)
    cluster.campaign(1)
    cluster.propose(1, b"x")
    assert cluster[1].log()[-1] == (3, 4)
    term, index = last
    cluster[1].raft._raft.check_quorum()
    cluster[1].raft.step_down()
    cluster[1].raft.step(Message(MSG_VOTE, to=1, from_=2, term=9, log_term=term, index=index))
    cluster[1].take()
    assert [m.reject for m in cluster[1].persist()] == [not granted]


def test_pre_vote_keeps_a_partitioned_member_from_disturbing() -> None:
    """Thesis §9.6: cut off, it asks in vain and its term does not grow; back, it just follows."""
    cluster = Cluster(3, pre_vote=True, check_quorum=False)
    cluster.campaign(1)
    cluster.isolate(3)
    cluster.tick(100)
    assert role(cluster, 3) == PRE_CANDIDATE
    assert cluster[3].raft.term == 2
    cluster.propose(1, b"x")
    cluster.heal()
    cluster.tick(20)
    assert cluster.leader() == 1
    assert {m.raft.term for m in cluster.members.values()} == {2}
    assert cluster.agreed() == [b"x"]


def test_pre_vote_is_granted_in_the_term_asked_for() -> None:
    """etcd: the asker ignores answers of terms older than its own; nothing changes."""
    cluster = Cluster(3)
    cluster[2].raft.step(Message(MSG_PRE_VOTE, to=2, from_=3, term=5, index=9, log_term=4))
    cluster[2].take()
    (answer,) = cluster[2].persist()
    assert (answer.type, answer.term, answer.reject) == (MSG_PRE_VOTE_RESP, 5, False)
    status = cluster[2].raft.status()
    assert (status.term, status.vote) == (1, NONE)


def test_giving_a_vote_restarts_the_election_timeout() -> None:
    """§5.2, Rules for Followers: it runs from a heartbeat or a granted vote."""
    cluster = Cluster(3, check_quorum=False)
    voter = cluster[2].raft
    voter.step(Message(MSG_VOTE, to=2, from_=1, term=2, index=9, log_term=1))
    for from_, granted in ((3, False), (1, True)):
        for _ in range(5):
            voter.tick()
        voter.step(Message(MSG_VOTE, to=2, from_=from_, term=2, index=9, log_term=1))
        assert (voter._raft.election_elapsed == 0) == granted


def test_without_pre_vote_a_partitioned_member_does_disturb() -> None:
    """The twin of the test above, so that it is known to be able to fail."""
    cluster = Cluster(3, pre_vote=False, check_quorum=False)
    cluster.campaign(1)
    cluster.isolate(3)
    cluster.tick(100)
    term = cluster[3].raft.term
    assert term > 4
    cluster.heal()
    cluster.tick(20)
    assert cluster.leader() != NONE
    assert cluster[cluster.leader()].raft.term >= term


def test_lease_ignores_votes_while_the_leader_is_heard() -> None:
    """Thesis §4.2.3: who heard of a leader within an election timeout ignores requests for votes."""
    cluster = Cluster(3, pre_vote=False, check_quorum=True)
    cluster.campaign(1)
    cluster[2].raft.step(Message(MSG_VOTE, to=2, from_=3, term=9, index=99, log_term=9))
    assert cluster[2].raft.term == 2
    assert not cluster[2].raft.has_ready()
    for _ in range(10):
        cluster[2].raft._raft.election_elapsed += 1
    cluster[2].raft.step(Message(MSG_VOTE, to=2, from_=3, term=9, index=99, log_term=9))
    assert cluster[2].raft.term == 9


def test_check_quorum_deposes_a_leader_without_followers() -> None:
    """Thesis §6.2: a leader that hears of no majority for an election timeout steps down, in its term."""
    cluster = Cluster(3, check_quorum=True)
    cluster.campaign(1)
    cluster.isolate(1)
    cluster.tick(20, only=[1])
    assert role(cluster, 1) in (FOLLOWER, PRE_CANDIDATE)
    with pytest.raises(ProposalDropped):
        cluster.propose(1, b"x")


def test_check_quorum_spares_a_leader_with_a_majority() -> None:
    cluster = Cluster(3, check_quorum=True)
    cluster.campaign(1)
    cluster.isolate(3)
    cluster.tick(100, only=[1, 2])
    assert cluster.leader() == 1


def test_single_voter_never_loses_its_quorum() -> None:
    cluster = Cluster(1, check_quorum=True)
    cluster.campaign(1)
    cluster.tick(100)
    assert cluster.leader() == 1


def test_isolated_member_with_high_term_comes_back() -> None:
    """etcd: with check-quorum its requests are ignored, so it answers the leader's old term instead."""
    cluster = Cluster(3, pre_vote=False, check_quorum=True)
    cluster.campaign(1)
    cluster.isolate(3)
    cluster.tick(60)
    high = cluster[3].raft.term
    assert high > 2
    cluster.heal()
    cluster.tick(60)
    assert cluster.leader() != NONE
    assert {m.raft.lead for m in cluster.members.values()} == {cluster.leader()}
    assert cluster[1].raft.term > high


@pytest.mark.parametrize("kind", [MSG_APP, MSG_HEARTBEAT])
def test_old_term_leader_is_told(kind: int) -> None:
    cluster = Cluster(3)
    cluster.campaign(1)
    cluster[2].raft.step(Message(kind, to=2, from_=3, term=1))
    cluster[2].take()
    (answer,) = cluster[2].persist()
    assert (answer.type, answer.to, answer.term) == (MSG_APP_RESP, 3, 2)


def test_pre_vote_of_an_old_term_is_refused_aloud() -> None:
    """etcd: dropped silently, a candidate with a high term and a short log could wait for ever."""
    cluster = Cluster(3)
    cluster.campaign(1)
    cluster[2].raft.step(Message(MSG_PRE_VOTE, to=2, from_=3, term=1, index=9, log_term=9))
    cluster[2].take()
    (answer,) = cluster[2].persist()
    assert (answer.reject, answer.term) == (True, 2)


def test_rejoining_with_an_old_term() -> None:
    """§5.1: messages of old terms change nothing; a member that slept through terms follows the newest."""
    cluster = Cluster(3)
    cluster.campaign(1)
    cluster.isolate(1)
    cluster.tick(40, only=[2, 3])
    lead = cluster.leader()
    cluster.propose(lead, b"new")
    cluster[2].raft.step(Message(MSG_APP, to=2, from_=1, term=2, index=4, log_term=2, commit=99))
    cluster.heal()
    cluster.tick(3)
    assert cluster[1].raft.term == cluster[lead].raft.term
    assert cluster[1].raft.lead == lead
    assert cluster.agreed() == [b"new"]


def test_candidate_falls_back_to_the_winner() -> None:
    """§5.2: a candidate that hears of the leader of its own term recognises it."""
    cluster = Cluster(3, pre_vote=False)
    cluster[1].raft.campaign()
    cluster.take(cluster[1])
    cluster.persist(cluster[1])
    cluster[1].raft.step(Message(MSG_HEARTBEAT, to=1, from_=3, term=2))
    assert role(cluster, 1) == FOLLOWER
    assert cluster[1].raft.lead == 3


def test_removed_or_learning_members_do_not_campaign() -> None:
    cluster = Cluster(3)
    stranger = cluster.join(9)
    stranger.raft.campaign()
    for _ in range(100):
        stranger.raft.tick()
    assert stranger.raft.status().role == FOLLOWER
    assert stranger.raft.term == 0


def test_forgotten_term_is_taken_from_the_log() -> None:
    """A torn write may leave entries without the term's record; the term is at least the last entry's."""
    cluster = Cluster(3)
    cluster.campaign(1)
    member = cluster[2]
    cluster.crash(2)
    member.disk.hard_state = type(member.disk.hard_state)(1, 3, 3)
    member.restart()
    assert member.raft.term == 2
    assert member.raft.status().vote == NONE
