"""Linearizable reads without a log entry (thesis §6.4)."""

import pytest

from kvorum import limits
from kvorum.raft.types import (
    CONF_CHANGE_ADD_LEARNER_NODE,
    MSG_APP,
    MSG_HEARTBEAT,
    MSG_HEARTBEAT_RESP,
    MSG_READ_INDEX,
    MSG_READ_INDEX_RESP,
    ConfChange,
    Entry,
    Message,
)
from tests.raft.cluster import Cluster


def led(size: int, **options: int) -> Cluster:
    cluster = Cluster(size, **options)
    cluster.campaign(1)
    return cluster


def read(cluster: Cluster, member: int, context: bytes) -> int | None:
    cluster[member].raft.read_index(context)
    cluster.settle()
    return cluster[member].reads.get(context)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_read_index_everywhere(size: int) -> None:
    """§6.4: the commit index at the time of asking, from the leader and from followers alike."""
    cluster = led(size)
    cluster.propose(1, b"a", b"b")
    for member in cluster.members:
        assert read(cluster, member, b"r%d" % member) == cluster[1].raft.commit


def test_read_index_of_a_learner() -> None:
    cluster = led(1)
    cluster.join(2)
    cluster[1].raft.propose_conf_change(ConfChange(CONF_CHANGE_ADD_LEARNER_NODE, 2))
    cluster.settle()
    assert read(cluster, 2, b"r") == cluster[1].raft.commit
    cluster.isolate(2)
    assert read(cluster, 1, b"s") == cluster[1].raft.commit


def test_read_index_with_a_deposed_leader() -> None:
    """§6.4: a leader that was replaced without knowing hears of no majority, so it answers no read."""
    cluster = led(3, check_quorum=False)
    cluster.isolate(1)
    cluster.campaign(2)
    cluster.propose(2, b"newer")
    assert cluster[1].raft.lead == 1
    assert read(cluster, 1, b"stale") is None
    cluster.heal()
    cluster.tick(2)
    assert cluster[1].raft.lead == 2
    assert b"stale" not in cluster[1].reads
    assert read(cluster, 1, b"fresh") == cluster[2].raft.commit


def test_read_index_waits_for_the_first_commit_of_the_term() -> None:
    """§6.4 step 1: until then the leader does not know what earlier terms had committed."""
    cluster = led(3, check_quorum=False)
    cluster.propose(1, b"a")
    committed = cluster[1].raft.commit
    cluster.lost = lambda m: m.type == MSG_APP and m.to == 3 and m.term == 3
    cluster.isolate(1)
    cluster[2].raft.campaign()
    cluster.settle()
    assert cluster.leader() == 2
    assert read(cluster, 2, b"r") is None
    cluster.heal()
    cluster.tick(2)
    assert cluster[2].reads[b"r"] > committed


def test_read_index_of_a_restarted_single_voter() -> None:
    """The commit index on disk may be behind what was acknowledged; a read must not see less."""
    cluster = led(1)
    cluster.propose(1, b"acknowledged")
    acknowledged = cluster[1].raft.commit
    cluster[1].disk.hard_state = type(cluster[1].disk.hard_state)(2, 1, 1)
    cluster[1].crash(applied=1)
    cluster[1].restart()
    cluster[1].raft.campaign()
    cluster[1].raft.read_index(b"r")
    cluster.take(cluster[1])
    cluster.persist(cluster[1])
    cluster[1].raft.read_index(b"s")
    cluster.settle()
    assert b"r" not in cluster[1].reads, "asked before it led: to be asked again"
    assert cluster[1].reads[b"s"] > acknowledged


def test_many_reads_cost_one_round_of_heartbeats() -> None:
    """§6.4: reads are batched; all that came between two Readies share one heartbeat."""
    cluster = led(3)
    for n in range(100):
        cluster[1].raft.read_index(b"%d" % n)
    sent = cluster[1].take()
    assert [m.type for m in sent] == [MSG_HEARTBEAT, MSG_HEARTBEAT]
    cluster.send(sent)
    cluster.settle()
    assert len(cluster[1].reads) == 100


def test_reads_are_confirmed_by_a_majority_and_once() -> None:
    cluster = led(5)
    leader = cluster[1]
    leader.raft.read_index(b"r")
    context = leader.take()[0].context
    leader.persist()
    for peer, done in ((2, False), (2, False), (3, True), (4, False)):
        leader.raft.step(Message(MSG_HEARTBEAT_RESP, to=1, from_=peer, term=2, context=context))
        assert bool(leader.raft._raft.read_states) == done
        leader.raft._raft.read_states.clear()


def test_reads_survive_a_lost_heartbeat() -> None:
    cluster = led(3)
    cluster.isolate(1)
    assert read(cluster, 1, b"r") is None
    cluster.heal()
    cluster.tick()
    assert cluster[1].reads[b"r"] == cluster[1].raft.commit


def test_reads_of_a_leader_that_steps_down_are_not_answered() -> None:
    cluster = led(3)
    cluster.isolate(1)
    cluster[1].raft.read_index(b"r")
    cluster.settle()
    cluster[1].raft.step_down()
    cluster.heal()
    cluster.tick(40)
    assert b"r" not in cluster[1].reads


def test_waiting_reads_are_bounded() -> None:
    cluster = led(3)
    cluster.isolate(1)
    for n in range(limits.RAFT_MAX_PENDING_READS + 5):
        cluster[1].raft.read_index(b"%d" % n)
    assert cluster[1].raft.status().pending_reads == limits.RAFT_MAX_PENDING_READS


def test_read_asked_by_an_etcd_member_is_answered_in_its_form() -> None:
    """raftpb: the context is the data of the only entry, both ways."""
    cluster = led(3)
    cluster[1].raft.step(Message(MSG_READ_INDEX, to=1, from_=2, entries=[Entry(0, 0, data=b"ctx")]))
    cluster.settle()
    answers = [m for m in cluster.sent if m.type == MSG_READ_INDEX_RESP]
    assert [(m.to, m.index, m.entries[0].data) for m in answers] == [(2, 4, b"ctx")]
