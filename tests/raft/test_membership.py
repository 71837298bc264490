"""Changing who votes (thesis §4), and handing leadership over (§3.10)."""

import pytest

from kvorum.raft import confchange
from kvorum.raft.core import FOLLOWER, LEADER, PRE_CANDIDATE, ProposalDropped
from kvorum.raft.types import (
    CONF_CHANGE_ADD_LEARNER_NODE,
    CONF_CHANGE_ADD_NODE,
    CONF_CHANGE_REMOVE_NODE,
    CONF_CHANGE_UPDATE_NODE,
    MSG_APP,
    MSG_TIMEOUT_NOW,
    MSG_VOTE,
    NONE,
    TRANSITION_AUTO,
    TRANSITION_JOINT_EXPLICIT,
    TRANSITION_JOINT_IMPLICIT,
    ConfChange,
    ConfChangeSingle,
    ConfChangeV2,
    ConfState,
    Entry,
    Message,
)
from tests.raft.cluster import Cluster


def change(cluster: Cluster, what: ConfChange | ConfChangeV2) -> ConfState:
    cluster[cluster.leader()].raft.propose_conf_change(what)
    cluster.settle()
    cluster.tick()
    return cluster[cluster.leader()].raft.status().conf_state


def led(size: int, **options: int) -> Cluster:
    cluster = Cluster(size, **options)
    cluster.campaign(1)
    return cluster


def swap(add: int, remove: int, transition: int) -> ConfChangeV2:
    return ConfChangeV2(
        transition,
        (ConfChangeSingle(CONF_CHANGE_ADD_NODE, add), ConfChangeSingle(CONF_CHANGE_REMOVE_NODE, remove)),
    )


# --- one step -----------------------------------------------------------------------------------------------


def test_add_a_voter() -> None:
    """§4.1: the new member is sent the log, and counts."""
    cluster = led(1)
    cluster.propose(1, b"a")
    cluster.join(2)
    assert change(cluster, ConfChange(CONF_CHANGE_ADD_NODE, 2)).voters == (1, 2)
    assert cluster.agreed() == [b"a"]
    cluster.isolate(2)
    cluster.propose(1, b"needs both")
    assert cluster[1].machine.data == [b"a"]
    cluster.heal()
    cluster.tick(2)
    assert cluster.agreed() == [b"a", b"needs both"]


def test_remove_a_voter() -> None:
    cluster = led(3)
    assert change(cluster, ConfChange(CONF_CHANGE_REMOVE_NODE, 3)).voters == (1, 2)
    cluster.crash(3)
    cluster.propose(1, b"x")
    assert cluster[2].machine.data == [b"x"]
    assert 3 not in cluster[1].raft.status().progress


def test_remove_the_leader_of_two() -> None:
    """§4.2.2: it leads until the other knows, but takes no proposals; then it is stopped."""
    cluster = led(2)
    cluster[1].raft.propose_conf_change(ConfChange(CONF_CHANGE_REMOVE_NODE, 1))
    cluster.settle()
    assert cluster[2].raft.status().conf_state.voters == (2,)
    with pytest.raises(ProposalDropped, match="removed"):
        cluster[1].raft.propose([b"x"])
    cluster.crash(1)
    cluster.tick(20)
    cluster.propose(2, b"alone")
    assert cluster[2].machine.data == [b"alone"]


def test_update_changes_nothing() -> None:
    cluster = led(3)
    assert change(cluster, ConfChange(CONF_CHANGE_UPDATE_NODE, 3, b"urls")).voters == (1, 2, 3)


def test_a_change_the_application_refused_changes_nothing() -> None:
    """etcd applies a change it decided against with node 0."""
    cluster = led(1)
    assert cluster[1].raft.apply_conf_change(ConfChange(CONF_CHANGE_ADD_NODE, 0)).voters == (1,)


def test_two_disjoint_majorities_are_prevented() -> None:
    """§4.1: with the first change committed but not applied everywhere, the second has to wait."""
    cluster = led(3)
    for new in (4, 5):
        cluster.join(new)
        cluster[1].raft.propose_conf_change(ConfChange(CONF_CHANGE_ADD_NODE, new))
    log = cluster[1].raft._raft.log
    kinds = [entry.type for entry in log.slice(log.last_index - 1, log.last_index + 1)]
    assert kinds == [1, 0], "the second is logged as an empty entry"
    cluster.settle()
    assert cluster[1].raft.status().conf_state.voters == (1, 2, 3, 4)
    assert change(cluster, ConfChange(CONF_CHANGE_ADD_NODE, 5)).voters == (1, 2, 3, 4, 5)


def test_new_leader_waits_for_the_tail_it_inherits() -> None:
    """§4.1: some change may be in there; until all of it is applied no new one is taken."""
    cluster = led(3)
    raft = cluster[1].raft._raft
    assert raft.pending_conf_index == 3
    cluster.crash(3)
    cluster[1].raft.step_down()
    cluster[2].raft.campaign()
    cluster.tick(20)
    lead = cluster.leader()
    raft = cluster[lead].raft._raft
    raft.log.applied -= 2  # as if the state machine were behind
    cluster[lead].raft.propose_conf_change(ConfChange(CONF_CHANGE_REMOVE_NODE, 3))
    assert raft.log.slice(raft.log.last_index, raft.log.last_index + 1)[0].type == 0


def test_no_campaign_with_an_unapplied_change() -> None:
    """etcd: who may vote is only known once the committed change is applied."""
    cluster = Cluster(2, check_quorum=False, pre_vote=False)
    member = cluster[2]
    leave = codec_entry(ConfChange(CONF_CHANGE_REMOVE_NODE, 1))
    member.raft.step(
        Message(
            MSG_APP, to=2, from_=1, term=2, index=2, log_term=1, commit=3, entries=[Entry(2, 3, 1, leave)]
        )
    )
    member.raft.campaign()
    assert member.raft.status().role == FOLLOWER
    cluster.settle()
    member.raft.campaign()
    cluster.settle()
    assert member.raft.status().role == LEADER


def codec_entry(what: ConfChange) -> bytes:
    from kvorum.raft.codec import encode_conf_change

    return encode_conf_change(what)


def test_single_voter_campaigns_before_its_bootstrap_is_applied() -> None:
    """etcd: the configuration of the bootstrap entries is in force at once."""
    cluster = Cluster(1)
    node = type(cluster[1].raft).bootstrap(cluster.config(1), [(1, b"")])
    node.campaign()
    assert node.status().term == 2


def test_added_member_has_time_to_speak() -> None:
    """etcd: a new member counts as active, or check-quorum could depose the leader before it said a word."""
    cluster = led(1, check_quorum=True)
    cluster.join(2)
    cluster.isolate(2)
    for _ in range(8):
        cluster[1].raft.tick()
    cluster[1].raft.propose_conf_change(ConfChange(CONF_CHANGE_ADD_NODE, 2))
    cluster.settle()
    cluster.tick(4, only=[1])
    assert cluster.leader() == 1
    cluster.tick(10, only=[1])
    assert cluster.leader() == NONE


# --- learners -----------------------------------------------------------------------------------------------


def test_learner_receives_and_does_not_count() -> None:
    """§4.2.1: a non-voting member gets the log; it neither holds commits back nor helps them."""
    cluster = led(1)
    cluster.join(2)
    assert change(cluster, ConfChange(CONF_CHANGE_ADD_LEARNER_NODE, 2)) == ConfState((1,), (2,))
    cluster.propose(1, b"a")
    assert cluster.agreed() == [b"a"]
    cluster.isolate(2)
    cluster.propose(1, b"b")
    assert cluster[1].machine.data == [b"a", b"b"]
    cluster.tick(60)
    assert cluster[2].raft.status().role == FOLLOWER
    assert cluster.leader() == 1


def test_learner_promotion() -> None:
    cluster = led(1)
    cluster.join(2)
    change(cluster, ConfChange(CONF_CHANGE_ADD_LEARNER_NODE, 2))
    assert change(cluster, ConfChange(CONF_CHANGE_ADD_NODE, 2)) == ConfState((1, 2))
    cluster[1].raft.transfer_leadership(2)
    cluster.settle()
    assert cluster.leader() == 2


def test_learner_votes_when_it_was_promoted_without_knowing() -> None:
    """etcd: the learner missed its promotion; its vote may be the one that is needed."""
    cluster = led(2, check_quorum=False, pre_vote=False)
    cluster.join(3)
    change(cluster, ConfChange(CONF_CHANGE_ADD_LEARNER_NODE, 3))
    cluster.isolate(3)
    change(cluster, ConfChange(CONF_CHANGE_ADD_NODE, 3))
    assert cluster[3].raft._raft.progress[3].is_learner
    cluster.heal()
    cluster.crash(1)
    cluster.campaign(2)
    assert cluster.leader() == 2
    assert not cluster[3].raft._raft.progress[3].is_learner


def test_leadership_is_not_transferred_to_a_learner() -> None:
    cluster = led(1)
    cluster.join(2)
    change(cluster, ConfChange(CONF_CHANGE_ADD_LEARNER_NODE, 2))
    cluster[1].raft.transfer_leadership(2)
    cluster.propose(1, b"goes on")
    assert cluster.leader() == 1


# --- joint consensus ----------------------------------------------------------------------------------------


def test_joint_consensus_leaves_by_itself() -> None:
    """§4.3: both majorities decide until the entry that leaves is applied; Raft proposes it."""
    cluster = led(3)
    cluster.join(4)
    state = change(cluster, swap(4, 3, TRANSITION_AUTO))
    assert state == ConfState((1, 2, 4))
    assert len([m for m in cluster.members.values() if m.machine.conf_state == state]) >= 3


def test_joint_consensus_needs_both_majorities() -> None:
    """§4.3: neither half alone commits, nor elects."""
    cluster = led(3, check_quorum=False)
    for new in (4, 5):
        cluster.join(new)
    both = ConfChangeV2(
        TRANSITION_JOINT_EXPLICIT,
        tuple(ConfChangeSingle(CONF_CHANGE_ADD_NODE, n) for n in (4, 5))
        + tuple(ConfChangeSingle(CONF_CHANGE_REMOVE_NODE, n) for n in (2, 3)),
    )
    state = change(cluster, both)
    assert state == ConfState((1, 4, 5), (), (1, 2, 3))
    for apart in ((4, 5), (2, 3)):
        cluster.isolate(*apart)
        before = cluster[1].raft.commit
        cluster.propose(1, b"x")
        assert cluster[1].raft.commit == before
        cluster.heal()
        cluster.tick(2)
        assert cluster[1].raft.commit > before
    # The old majority alone can't elect anybody either, the new one neither.
    cluster.isolate(1)
    for apart, candidate in (((4, 5), 2), ((2, 3), 4)):
        cluster.isolate(*apart)
        cluster.campaign(candidate)
        assert cluster[candidate].raft.status().role == PRE_CANDIDATE
    cluster.heal()
    cluster.tick(40)
    assert change(cluster, ConfChangeV2()) == ConfState((1, 4, 5))


def test_joint_explicit_stays_until_it_is_left() -> None:
    cluster = led(3)
    cluster.join(4)
    state = change(cluster, swap(4, 3, TRANSITION_JOINT_EXPLICIT))
    assert state == ConfState((1, 2, 4), (), (1, 2, 3))
    cluster.tick(5)
    assert change(cluster, ConfChange(CONF_CHANGE_ADD_NODE, 9)) == state, "must be left first"
    assert change(cluster, ConfChangeV2(context=b"leave")) == ConfState((1, 2, 4))
    assert change(cluster, ConfChangeV2()) == ConfState((1, 2, 4)), "nothing to leave"


def test_demotion_waits_until_the_joint_configuration_is_left() -> None:
    """A voter that becomes a learner still votes in the outgoing half: learners_next."""
    cluster = led(3)
    demote = ConfChangeV2(TRANSITION_JOINT_EXPLICIT, (ConfChangeSingle(CONF_CHANGE_ADD_LEARNER_NODE, 3),))
    assert change(cluster, demote) == ConfState((1, 2), (), (1, 2, 3), (3,))
    assert change(cluster, ConfChangeV2()) == ConfState((1, 2), (3,))


def test_new_leader_leaves_the_joint_configuration() -> None:
    """etcd: auto_leave is part of the configuration, so whoever leads next goes on with it."""
    cluster = led(3, check_quorum=False)
    cluster.join(4)
    cluster.lost = lambda m: any(entry.type == 2 and not entry.data for entry in m.entries)
    cluster[1].raft.propose_conf_change(swap(4, 3, TRANSITION_JOINT_IMPLICIT))
    cluster.settle()
    assert cluster[2].raft.status().conf_state.auto_leave
    cluster.crash(1)
    cluster.heal()
    cluster.tick(60)
    assert cluster[cluster.leader()].raft.status().conf_state == ConfState((1, 2, 4))


def test_restart_in_a_joint_configuration() -> None:
    cluster = led(3)
    cluster.join(4)
    state = change(cluster, swap(4, 3, TRANSITION_JOINT_EXPLICIT))
    cluster.crash(2)
    cluster.restart(2)
    assert cluster[2].raft.status().conf_state == state
    assert confchange.restore(state).conf_state() == state


# --- leadership transfer ------------------------------------------------------------------------------------


def test_transfer() -> None:
    """§3.10: the leader tells the other to campaign at once; leases and pre-votes don't stand in the way."""
    cluster = led(3, check_quorum=True, pre_vote=True)
    cluster[1].raft.transfer_leadership(3)
    cluster.settle()
    assert cluster.leader() == 3
    assert cluster[1].raft.term == 3
    cluster.propose(1, b"x")
    assert cluster.agreed() == [b"x"]


def test_transfer_asked_at_a_follower() -> None:
    cluster = led(3)
    cluster[2].raft.transfer_leadership(3)
    cluster.settle()
    assert cluster.leader() == 3


def test_transfer_waits_until_the_other_is_up_to_date_and_takes_no_proposals() -> None:
    """§3.10, steps 1 and 2."""
    cluster = led(3, check_quorum=False)
    cluster.isolate(3)
    cluster.propose(1, b"missed")
    cluster.lost = lambda m: m.type == MSG_TIMEOUT_NOW
    cluster[1].raft.transfer_leadership(3)
    with pytest.raises(ProposalDropped, match="transferred to 3"):
        cluster[1].raft.propose([b"x"])
    assert cluster[1].raft.status().lead_transferee == 3
    cluster.heal()
    cluster.tick(3)
    assert cluster.leader() == 3
    assert cluster.agreed() == [b"missed"]


def test_transfer_is_given_up_after_an_election_timeout() -> None:
    """§3.10: the target may be dead; then the leader goes on."""
    cluster = led(3)
    cluster.crash(3)
    cluster[1].raft.transfer_leadership(3)
    cluster.tick(11)
    assert cluster.leader() == 1
    assert cluster[1].raft.status().lead_transferee == NONE
    cluster.propose(1, b"goes on")
    assert cluster.agreed() == [b"goes on"]


def test_transfer_to_another_replaces_the_first_and_to_oneself_ends_it() -> None:
    cluster = led(3)
    cluster.lost = lambda m: m.type == MSG_TIMEOUT_NOW
    for target, pending in ((2, 2), (3, 3), (3, 3), (1, NONE), (77, NONE)):
        cluster[1].raft.transfer_leadership(target)
        assert cluster[1].raft.status().lead_transferee == pending


def test_transfer_ends_when_the_target_is_removed() -> None:
    cluster = led(3)
    cluster[1].raft.propose_conf_change(ConfChange(CONF_CHANGE_REMOVE_NODE, 3))
    cluster.lost = lambda m: m.type == MSG_TIMEOUT_NOW
    cluster[1].raft.transfer_leadership(3)
    cluster.settle()
    assert cluster[1].raft.status().lead_transferee == NONE


def test_vote_of_a_transfer_is_not_held_back_by_leases() -> None:
    cluster = led(3, check_quorum=True)
    cluster[2].raft.step(
        Message(MSG_VOTE, to=2, from_=3, term=3, index=4, log_term=2, context=b"CampaignTransfer")
    )
    assert cluster[2].raft.term == 3
