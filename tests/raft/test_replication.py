"""The log and its copies (Raft §5.3, §5.4.2; etcd's flow control)."""

import pytest

from kvorum.raft import codec
from kvorum.raft.core import FOLLOWER, ProposalDropped
from kvorum.raft.log import LogLostError
from kvorum.raft.rawnode import RawNode
from kvorum.raft.types import (
    MSG_APP,
    MSG_APP_RESP,
    MSG_HEARTBEAT,
    MSG_HEARTBEAT_RESP,
    MSG_PROP,
    ConfState,
    Entry,
    HardState,
    Message,
)
from tests.raft.cluster import Cluster, Machine, Member


def with_logs(logs: dict[int, list[int]], **options: int) -> Cluster:
    """A cluster whose members restart with the given logs: the terms of their entries, from index 1 on."""
    cluster = Cluster(len(logs), **options)
    voters = tuple(logs)
    for identity, terms in logs.items():
        member = cluster[identity]
        cluster.crash(identity)
        member.disk.entries = [
            Entry(term, index, data=b"%d/%d" % (term, index)) for index, term in enumerate(terms, 1)
        ]
        member.disk.hard_state = HardState(max(terms, default=0), 0, 0)
        member.machine = Machine()
        member.machine.conf_state = ConfState(voters)
        member.machine.note()
        member.restart()
    cluster.judge = type(cluster.judge)()
    return cluster


def appends_to(cluster: Cluster, member: int) -> list[int]:
    """How many entries each append to the member had."""
    return [len(m.entries) for m in cluster.sent if m.type == MSG_APP and m.to == member]


def terms(member: Member) -> list[int]:
    return [term for term, _ in member.log()]


def test_proposal_reaches_everybody() -> None:
    """§5.3: appended by the leader, copied, committed by a majority, applied by all in the same order."""
    cluster = Cluster(3)
    cluster.campaign(2)
    cluster.propose(2, b"a", b"b")
    cluster.propose(2, b"c")
    assert cluster.agreed() == [b"a", b"b", b"c"]


def test_proposals_are_forwarded() -> None:
    """§8: a follower passes proposals on to the leader it knows; without one they are dropped."""
    cluster = Cluster(3)
    with pytest.raises(ProposalDropped):
        cluster.propose(3, b"nobody leads")
    cluster.campaign(1)
    cluster.propose(3, b"a", b"b")
    assert cluster.agreed() == [b"a", b"b"]


def test_minority_commits_nothing_and_its_tail_is_replaced() -> None:
    """§5.3, §5.4: what a cut-off leader took in is overwritten once it follows the new one."""
    cluster = Cluster(5, check_quorum=False)
    cluster.campaign(1)
    cluster.isolate(1, 2)
    cluster.propose(1, b"lost 1", b"lost 2", b"lost 3")
    assert cluster[1].machine.data == []
    assert cluster[2].raft._raft.log.last_term == 2
    cluster.campaign(3)
    cluster.propose(3, b"kept")
    cluster.heal()
    cluster.tick(3)
    assert cluster.agreed() == [b"kept"]
    assert cluster[1].log() == cluster[3].log() == cluster[2].log()


FIGURE_7 = {
    # index:     1  2  3  4  5  6  7  8  9 10 11 12
    "leader": [1, 1, 1, 4, 4, 5, 5, 6, 6, 6],
    "a": [1, 1, 1, 4, 4, 5, 5, 6, 6],
    "b": [1, 1, 1, 4],
    "c": [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
    "d": [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
    "e": [1, 1, 1, 4, 4, 4, 4],
    "f": [1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
}


@pytest.mark.parametrize("name", "abcdef")
def test_figure_7(name: str) -> None:
    """§5.3, Figure 7: whatever a follower is missing or has too much, it ends up with the leader's log."""
    # The third log is the leader's own, so that the leader of the figure can win.
    cluster = with_logs({1: FIGURE_7["leader"], 2: FIGURE_7[name], 3: [1]}, pre_vote=False)
    cluster[1].raft._raft.term = 7
    cluster.campaign(1)
    if cluster.leader() != 1:
        # c and d refuse (§5.4.1), but the third member suffices
        cluster.campaign(1)
    assert cluster.leader() == 1
    cluster.tick(2)
    expected = [*FIGURE_7["leader"], 8]
    assert terms(cluster[1]) == terms(cluster[2]) == terms(cluster[3]) == expected
    assert cluster[2].raft.commit == 11


def test_figure_7_takes_one_probe_per_term() -> None:
    """§5.3: the hint lets the leader skip a conflicting term instead of an entry (follower f)."""
    cluster = with_logs({1: FIGURE_7["leader"], 2: FIGURE_7["f"], 3: [1]}, pre_vote=False)
    cluster[1].raft._raft.term = 7
    cluster.campaign(1)
    rejected = [m for m in cluster.sent if m.type == MSG_APP_RESP and m.from_ == 2 and m.reject]
    # Probed at 10: f's terms up to there are 3 at most, the leader's terms above 3 can't match, so 3 is next.
    assert [(m.index, m.reject_hint, m.log_term) for m in rejected] == [(10, 10, 3)]
    assert terms(cluster[2]) == [*FIGURE_7["leader"], 8]


def test_follower_skips_its_own_newer_terms() -> None:
    """The other direction: the follower's tail has higher terms than the leader's at the same places."""
    leader = [1, 3, 3, 3, 3, 3, 3, 3, 7]
    follower = [1, 3, 3, 4, 4, 5, 5, 5, 6]
    cluster = with_logs({1: leader, 2: follower, 3: [1]}, pre_vote=False)
    cluster.campaign(1)
    rejected = [m for m in cluster.sent if m.type == MSG_APP_RESP and m.from_ == 2 and m.reject]
    assert [(m.index, m.reject_hint, m.log_term) for m in rejected] == [(9, 9, 6), (8, 3, 3)]
    assert terms(cluster[2]) == [*leader, 8]


def test_figure_8_counting_old_entries_would_lose_them() -> None:
    """§5.4.2, Figure 8: an entry of an earlier term is not committed by being on a majority."""
    # (c): S1, of term 4, has copied its entry of term 2 to S2 and S3; S5 has one of term 3.
    cluster = with_logs({1: [1, 2], 2: [1, 2], 3: [1], 4: [1], 5: [1, 3]}, pre_vote=False, check_quorum=False)
    cluster[1].raft._raft.term = 3
    # Nothing of term 4 gets through, only what was there before.
    cluster.lost = lambda m: any(entry.term == 4 for entry in m.entries)
    cluster.campaign(1)
    assert cluster.leader() == 1
    cluster[3].disk.entries = cluster[1].disk.entries[:2]
    for peer in (2, 3):
        cluster[1].raft.step(Message(MSG_APP_RESP, to=1, from_=peer, term=4, index=2))
    assert [cluster[1].raft._raft.progress[m].match for m in (1, 2, 3)] == [3, 2, 2]
    assert cluster[1].raft.commit == 0
    # (e): with an entry of its own term on a majority, everything before it is committed too.
    cluster.crash(3)
    cluster[3].restart()
    cluster.heal()
    cluster.tick(3)
    assert cluster[1].raft.commit == 3
    assert terms(cluster[5]) == [1, 2, 4]


def test_figure_8_the_old_entry_can_still_be_overwritten() -> None:
    """§5.4.2, Figure 8 (d): S5 leads with the votes of S2, S3, S4 and replaces the entry of term 2."""
    cluster = with_logs(
        {1: [1, 2], 2: [1, 2], 3: [1, 2], 4: [1], 5: [1, 3]}, pre_vote=False, check_quorum=False
    )
    for member in cluster.members.values():
        member.raft._raft.term = 4
    cluster.isolate(1)
    cluster.campaign(5)
    assert cluster.leader() == 5
    cluster.heal()
    cluster.tick(2)
    assert all(terms(member) == [1, 3, 5] for member in cluster.members.values())


def test_leader_alone_commits_nothing_by_its_own_disk() -> None:
    """§5.3: a majority of disks. The leader's counts once its Ready is durable, no sooner."""
    cluster = Cluster(3)
    cluster.campaign(1)
    leader = cluster[1]
    before = leader.raft.commit
    leader.raft.propose([b"x"])
    cluster.send(leader.take())  # thesis §10.2.1: sent before the own disk has it
    assert [m.type for m in cluster.wire] == [MSG_APP, MSG_APP]
    cluster.deliver(cluster.wire.pop(0))
    cluster.wire.clear()
    cluster.take(cluster[2])
    cluster.persist(cluster[2])
    cluster.deliver(cluster.wire.pop(0))
    assert leader.raft.commit == before  # one disk of three
    cluster.persist(leader)
    assert leader.raft.commit == before + 1


def test_followers_can_commit_ahead_of_the_leaders_disk() -> None:
    """Thesis §10.2.1: two of three disks commit; the leader applies only when its own has it too."""
    cluster = Cluster(3)
    cluster.campaign(1)
    leader = cluster[1]
    leader.raft.propose([b"x"])
    cluster.send(leader.take())
    for _ in (2, 3):
        cluster.deliver(cluster.wire.pop(0))
    for other in (2, 3):
        cluster.take(cluster[other])
        cluster.persist(cluster[other])
    while cluster.wire:
        cluster.deliver(cluster.wire.pop(0))
    assert leader.raft.commit == leader.raft.status().last_index
    assert leader.machine.data == []
    cluster.settle()
    assert cluster.agreed() == [b"x"]


def test_acknowledgement_waits_for_the_disk() -> None:
    """§5.3: a follower acknowledges what is durable."""
    cluster = Cluster(3)
    cluster.campaign(1)
    cluster[1].raft.propose([b"x"])
    cluster.send(cluster[1].take())
    cluster.deliver(next(m for m in cluster.wire if m.to == 2))
    assert cluster[2].take() == []
    assert [m.type for m in cluster[2].persist()] == [MSG_APP_RESP]


def test_replaced_while_being_written() -> None:
    """A tail that is replaced while the old one is on its way to the disk is written again, not applied."""
    cluster = Cluster(3, pre_vote=False, check_quorum=False)
    follower = cluster[2]
    old = [Entry(2, 4, data=b"old 4"), Entry(2, 5, data=b"old 5"), Entry(2, 6, data=b"old 6")]
    follower.raft.step(Message(MSG_APP, to=2, from_=1, term=2, index=3, log_term=1, entries=old))
    follower.take()
    new = [Entry(3, 5, data=b"new 5")]
    follower.raft.step(Message(MSG_APP, to=2, from_=3, term=3, index=4, log_term=2, commit=5, entries=new))
    follower.raft.check_invariants()
    follower.persist()
    assert follower.raft.status().stable_index == 4
    follower.take()
    assert follower.machine.data == [b"old 4"]
    assert follower.ready is not None
    assert [entry.data for entry in follower.ready.entries] == [b"new 5"]
    follower.persist()
    follower.take()
    assert follower.machine.data == [b"old 4", b"new 5"]
    assert [entry.data for entry in follower.disk.entries[3:]] == [b"old 4", b"new 5"]


def test_duplicates_and_old_appends_do_not_shorten_the_log() -> None:
    """§5.3: only a conflict removes entries; a late copy of an earlier append must not."""
    cluster = Cluster(3, check_quorum=False)
    follower = cluster[2]
    entries = [Entry(2, 4, data=b"4"), Entry(2, 5, data=b"5")]
    late = Message(MSG_APP, to=2, from_=1, term=2, index=3, log_term=1, entries=entries[:1])
    follower.raft.step(Message(MSG_APP, to=2, from_=1, term=2, index=3, log_term=1, entries=entries))
    follower.raft.step(late)
    assert follower.log()[-1] == (2, 5)
    follower.raft.step(Message(MSG_APP, to=2, from_=1, term=2, index=5, log_term=2, commit=5))
    follower.raft.step(late)
    follower.take()
    # Below the commit index the answer names the commit index.
    assert [m.index for m in follower.persist()] == [5, 4, 5, 5]


def test_commit_is_bounded_by_what_is_known_to_match() -> None:
    """Figure 2, AppendEntries 5: min(leaderCommit, last new entry), not the end of the tail."""
    cluster = Cluster(3, check_quorum=False)
    follower = cluster[2]
    tail = [Entry(2, 4), Entry(2, 5), Entry(2, 6)]
    follower.raft.step(Message(MSG_APP, to=2, from_=1, term=2, index=3, log_term=1, entries=tail))
    follower.raft.step(Message(MSG_APP, to=2, from_=3, term=3, index=4, log_term=2, commit=9))
    assert follower.raft.commit == 4


def test_heartbeat_does_not_commit_what_is_not_there() -> None:
    """The leader bounds it by what it knows to match; more means that this log lost something: stop."""
    cluster = Cluster(3)
    cluster.campaign(1)
    with pytest.raises(LogLostError, match="truncated, or lost"):
        cluster[2].raft.step(Message(MSG_HEARTBEAT, to=2, from_=1, term=2, commit=99))


def test_committed_entries_are_not_replaced() -> None:
    cluster = Cluster(3)
    cluster.campaign(1)
    cluster.propose(1, b"x")
    log = cluster[2].raft._raft.log
    with pytest.raises(LogLostError, match="is committed"):
        log.append([Entry(9, 4)])


@pytest.mark.parametrize(
    "nonsense",
    [
        Message(MSG_APP_RESP, to=1, from_=2, term=2, index=99),
        Message(MSG_APP_RESP, to=1, from_=77, term=9, index=2),
        Message(MSG_HEARTBEAT_RESP, to=1, from_=2, term=2, context=b"not a number"),
        Message(MSG_HEARTBEAT_RESP, to=1, from_=2, term=2, context=b"\xff" * 8),
        Message(MSG_APP, to=1, from_=2, term=9, index=3, log_term=1, entries=[Entry(9, 7)]),
        Message(0, to=1, from_=2),
        Message(MSG_PROP, to=1, from_=2, entries=[]),
    ],
    ids=lambda m: repr(m),
)
def test_nonsense_from_peers_is_ignored(nonsense: Message) -> None:
    cluster = Cluster(3)
    cluster.campaign(1)
    before = cluster[1].log()
    commit = cluster[1].raft.commit
    cluster[1].raft.step(nonsense)
    cluster[1].raft.check_invariants()
    assert cluster[1].log() == before
    assert cluster[1].raft.commit == commit


# --- flow control -------------------------------------------------------------------------------------------


def test_probe_sends_one_message_until_it_is_answered() -> None:
    cluster = Cluster(3)
    cluster.isolate(3)
    cluster.campaign(1)
    pr = cluster[1].raft._raft.progress[3]
    cluster.cuts.clear()
    cluster.sent.clear()
    cluster[1].raft.report_unreachable(3)
    assert (pr.state, pr.is_paused()) == (0, True)
    cluster.propose(1, b"a")
    cluster.propose(1, b"b")
    assert appends_to(cluster, 3) == []
    cluster.cut(3, 1)
    cluster[1].raft.step(Message(MSG_HEARTBEAT_RESP, to=1, from_=3, term=2))
    cluster.settle()
    assert appends_to(cluster, 3) == [3]
    cluster.heal()
    cluster.tick(2)
    assert pr.match == cluster[1].raft.status().last_index


def test_window_of_messages() -> None:
    """At most max_inflight_messages unanswered; the answer to a heartbeat lets an empty one through."""
    cluster = Cluster(3, max_inflight_messages=3, check_quorum=False)
    cluster.campaign(1)
    cluster.sent.clear()
    cluster.lost = lambda m: m.to == 3 and m.type == MSG_APP
    for n in range(6):
        cluster.propose(1, b"%d" % n)
    # Empty ones bring the commit index of those that have left.
    assert appends_to(cluster, 3) == [1, 0, 1, 0, 1]
    cluster.sent.clear()
    assert cluster[1].raft.status().progress[3].inflight_messages == 3
    cluster[1].raft.step(Message(MSG_HEARTBEAT_RESP, to=1, from_=3, term=2))
    cluster.settle()
    assert appends_to(cluster, 3) == [0]
    cluster.heal()
    cluster.tick(2)
    assert cluster.agreed() == [b"%d" % n for n in range(6)]


def test_window_of_bytes() -> None:
    cluster = Cluster(3, max_inflight_bytes=100, max_size_per_message=100, check_quorum=False)
    cluster.campaign(1)
    cluster.isolate(3)
    for _ in range(5):
        cluster.propose(1, b"x" * 60)
    status = cluster[1].raft.status().progress[3]
    assert (status.inflight_messages, status.inflight_bytes) == (2, 120)
    assert status.is_paused


def test_messages_are_paged() -> None:
    """max_size_per_message bounds an append; one entry always fits."""
    cluster = Cluster(2, max_size_per_message=300)
    cluster.campaign(1)
    cluster.isolate(2)
    cluster.propose(1, *[b"x" * 100] * 5, b"y" * 1000, b"z")
    cluster.cuts.clear()
    cluster.sent.clear()
    cluster[1].raft.report_unreachable(2)
    cluster.tick(2)
    assert [count for count in appends_to(cluster, 2) if count] == [2, 2, 1, 1, 1]
    assert len(cluster.agreed()) == 7


# --- restarts and bytes ------------------------------------------------------------------------------------


def test_restart_of_all() -> None:
    """§5.5, Figure 2: from what is durable alone, everything acknowledged comes back."""
    cluster = Cluster(3)
    cluster.campaign(1)
    cluster.propose(1, b"a", b"b")
    for identity in (1, 2, 3):
        cluster[identity].crash(applied=0)
        cluster[identity].machine.data.clear()
    for identity in (1, 2, 3):
        cluster[identity].restart()
    cluster.settle()
    cluster.tick(40)
    assert cluster.leader() != 0
    assert cluster.agreed() == [b"a", b"b"]


def test_messages_survive_their_bytes() -> None:
    """Every message of a lively cluster is the same after encoding and decoding."""
    cluster = Cluster(3)
    cluster.campaign(1)
    cluster.propose(2, b"x")
    cluster.tick(3)
    for message in cluster.sent:
        assert codec.decode_message(codec.encode_message(message)) == message
    assert len({message.type for message in cluster.sent}) >= 8


def test_restarted_alone() -> None:
    """A node made of what is on disk begins as a follower of its last term, with its log."""
    node = RawNode(
        Cluster(1).config(1),
        hard_state=HardState(3, 1, 1),
        entries=[Entry(1, 1), Entry(3, 2)],
        conf_state=ConfState((1,)),
    )
    status = node.status()
    assert (status.term, status.vote, status.commit, status.last_index, status.role) == (3, 1, 1, 2, FOLLOWER)
