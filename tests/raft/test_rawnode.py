"""The protocol of Readies: what is handed out when, and what may happen meanwhile."""

from collections.abc import Callable

import pytest

from kvorum.raft import codec
from kvorum.raft.config import RaftConfig
from kvorum.raft.core import LEADER, ProposalDropped
from kvorum.raft.log import LogLostError
from kvorum.raft.rawnode import RawNode, Ready
from kvorum.raft.types import (
    CONF_CHANGE_ADD_NODE,
    EMPTY_SNAPSHOT,
    ENTRY_CONF_CHANGE,
    MSG_APP,
    MSG_HEARTBEAT,
    MSG_SNAP,
    MSG_VOTE,
    NONE,
    ConfChange,
    ConfState,
    Entry,
    HardState,
    Message,
    Snapshot,
    SnapshotMetadata,
)
from tests.raft.cluster import Cluster, timeouts


def drain(node: RawNode, do: Callable[[Ready], None] = lambda ready: None) -> list[Entry]:
    """Run Readies until there are none; the entries applied."""
    applied: list[Entry] = []
    while node.has_ready():
        ready = node.ready()
        node.check_invariants()
        do(ready)
        for entry in ready.committed_entries:
            if entry.type == ENTRY_CONF_CHANGE:
                node.apply_conf_change(codec.conf_change_of(entry))
            applied.append(entry)
            node.applied_to(entry.index)
        node.advance()
        node.check_invariants()
    return applied


def single(**options: int) -> RawNode:
    node = RawNode.bootstrap(RaftConfig(id=1, random=timeouts(), **options), [(1, b"me")])  # type: ignore[arg-type]
    node.campaign()
    drain(node)
    return node


def test_bootstrap() -> None:
    """etcd ``raft/bootstrap.go``: one AddNode entry per member, term 1, committed."""
    node = RawNode.bootstrap(RaftConfig(id=2, random=timeouts()), [(1, b"a"), (2, b"b"), (3, b"c")])
    ready = node.ready()
    assert [(entry.term, entry.index, entry.type) for entry in ready.entries] == [
        (1, 1, 1),
        (1, 2, 1),
        (1, 3, 1),
    ]
    assert codec.decode_conf_change(ready.entries[1].data) == ConfChange(CONF_CHANGE_ADD_NODE, 2, b"b")
    assert ready.hard_state == HardState(1, 0, 3)
    assert ready.must_sync
    assert ready.committed_entries == [], "not on disk yet"
    node.advance()
    ready = node.ready()
    assert [entry.index for entry in ready.committed_entries] == [1, 2, 3]
    assert (ready.entries, ready.hard_state, ready.must_sync) == ([], None, False)
    assert node.status().conf_state == ConfState((1, 2, 3))


def test_bootstrap_needs_somebody() -> None:
    with pytest.raises(ValueError, match="at least one peer"):
        RawNode.bootstrap(RaftConfig(id=2, random=timeouts()), [])


def test_single_voter_from_start_to_first_put() -> None:
    node = RawNode.bootstrap(RaftConfig(id=1, random=timeouts()), [(1, b"")])
    node.campaign()
    ready = node.ready()
    assert ready.hard_state == HardState(2, 1, 1)
    assert node.lead == NONE, "the own vote is not durable yet"
    node.advance()
    assert node.lead == 1
    ready = node.ready()
    assert ready.soft_state is not None
    assert (ready.soft_state.lead, ready.soft_state.role) == (1, LEADER)
    assert ready.entries == [Entry(2, 2)]
    node.applied_to(1)
    node.advance()
    node.propose([b"put"])
    ready = node.ready()
    assert (ready.entries, ready.hard_state) == ([Entry(2, 3, 0, b"put")], HardState(2, 1, 2))
    assert ready.committed_entries == [Entry(2, 2)]
    node.applied_to(2)
    node.advance()
    assert node.commit == 3
    ready = node.ready()
    assert ready.committed_entries == [Entry(2, 3, 0, b"put")]
    assert not ready.must_sync
    assert ready.hard_state == HardState(2, 1, 3)


def test_everything_goes_on_while_a_ready_is_written() -> None:
    node = single()
    node.propose([b"1"])
    first = node.ready()
    node.propose([b"2", b"3"])
    node.read_index(b"r")
    node.tick()
    assert not node.has_ready(), "one at a time"
    assert [entry.data for entry in first.entries] == [b"1"]
    node.advance()
    second = node.ready()
    assert [entry.data for entry in second.entries] == [b"2", b"3"]
    assert [entry.data for entry in second.committed_entries] == [b"1"]
    assert [(state.context, state.index) for state in second.read_states] == [(b"r", 2)]
    # Applying and advancing come in either order.
    node.advance()
    node.applied_to(second.committed_entries[-1].index)
    assert [entry.data for entry in drain(node)] == [b"2", b"3"]


def test_one_ready_at_a_time() -> None:
    node = single()
    with pytest.raises(AssertionError):
        node.advance()
    node.ready()
    with pytest.raises(AssertionError):
        node.ready()


def test_nothing_to_do_is_no_ready() -> None:
    node = single()
    assert not node.has_ready()
    for _ in range(100):
        node.tick()
        drain(node)
    assert node.is_leader
    node.propose([])
    assert not node.has_ready()


def test_ready_says_only_what_changed() -> None:
    node = single()
    ready = node.ready()
    assert (ready.soft_state, ready.hard_state, ready.entries, ready.committed_entries) == (
        None,
        None,
        [],
        [],
    )
    assert ready.snapshot is EMPTY_SNAPSHOT
    assert (ready.messages, ready.messages_after_persist, ready.read_states) == ([], [], [])
    assert not ready.must_sync


def test_what_must_be_synced() -> None:
    """Figure 2, persistent state: the term, the vote and the log; the commit index only by the way."""
    node = RawNode(RaftConfig(id=1, random=timeouts()), hard_state=HardState(3), conf_state=ConfState((1, 2)))

    def must_sync(message: Message) -> bool:
        node.step(message)
        ready = node.ready()
        node.advance()
        return ready.must_sync

    assert must_sync(Message(MSG_VOTE, to=1, from_=2, term=3, log_term=3, index=1)), "the vote"
    assert must_sync(Message(MSG_HEARTBEAT, to=1, from_=2, term=4)), "the term"
    assert not must_sync(Message(MSG_HEARTBEAT, to=1, from_=2, term=4)), "nothing"
    snapshot = Snapshot(b"s", SnapshotMetadata(ConfState((1, 2)), 9, 4))
    assert must_sync(Message(MSG_SNAP, to=1, from_=2, term=4, snapshot=snapshot)), "a snapshot"
    entry = Entry(4, 10)
    assert must_sync(Message(MSG_APP, to=1, from_=2, term=4, index=9, log_term=4, entries=[entry])), (
        "an entry"
    )
    assert not must_sync(Message(MSG_HEARTBEAT, to=1, from_=2, term=4, commit=10)), "the commit index"


def test_committed_entries_are_paged() -> None:
    """max_committed_size_per_ready bounds what is handed out; what is left makes the next Ready."""
    node = single(max_committed_size_per_ready=300)
    node.propose([b"x" * 100] * 7)
    pages: list[int] = []
    drain(node, lambda ready: pages.append(len(ready.committed_entries)))
    assert pages == [0, 2, 2, 2, 1]


def test_uncommitted_bytes_are_bounded() -> None:
    """The first proposal fits at any size; then it is all or nothing until something is handed out."""
    node = single(max_uncommitted_size=1000)
    node.propose([b"x" * 2000])
    with pytest.raises(ProposalDropped, match="2000 bytes are uncommitted"):
        node.propose([b"y"])
    drain(node)
    node.propose([b"x" * 400])
    node.propose([b"x" * 600])
    before = node.status().last_index
    with pytest.raises(ProposalDropped):
        node.propose([b"", b"y"])
    node.propose([b""])
    assert node.status().last_index == before + 1
    drain(node)
    assert node.status().uncommitted_size == 0


def test_a_refused_change_weighs_nothing() -> None:
    """It is logged as an empty entry, and counted as one."""
    node = single()
    node.propose_conf_change(ConfChange(CONF_CHANGE_ADD_NODE, 1, b"x" * 50))
    node.propose_conf_change(ConfChange(CONF_CHANGE_ADD_NODE, 1, b"x" * 50))
    drain(node)
    assert node.status().uncommitted_size == 0


def test_restart() -> None:
    """From (snapshot, hard state, entries, applied, configuration), as the server finds them."""
    snapshot = Snapshot(b"", SnapshotMetadata(ConfState((9,)), 3, 2))
    node = RawNode(
        RaftConfig(id=1, random=timeouts()),
        snapshot=snapshot,
        hard_state=HardState(2, 1, 5),
        entries=[Entry(2, n, data=b"%d" % n) for n in range(2, 8)],
        applied=4,
        conf_state=ConfState((1,)),
    )
    assert node.status().conf_state == ConfState((1,))
    ready = node.ready()
    assert [entry.index for entry in ready.committed_entries] == [5]
    assert (ready.entries, ready.hard_state) == ([], None)
    node.applied_to(5)
    node.advance()
    node.campaign()
    assert [entry.index for entry in drain(node)] == [6, 7, 8]
    assert node.term == 3


def test_restart_with_the_snapshots_configuration() -> None:
    snapshot = Snapshot(b"", SnapshotMetadata(ConfState((1, 2), (3,)), 3, 2))
    node = RawNode(RaftConfig(id=1, random=timeouts()), snapshot=snapshot, hard_state=HardState(2, 1, 3))
    assert node.status().conf_state == ConfState((1, 2), (3,))
    assert node.status().applied == 3


def test_restart_before_the_bootstrap_was_applied() -> None:
    node = RawNode.bootstrap(RaftConfig(id=1, random=timeouts()), [(1, b"")])
    ready = node.ready()
    assert ready.hard_state is not None
    again = RawNode(RaftConfig(id=1, random=timeouts()), hard_state=ready.hard_state, entries=ready.entries)
    again.campaign()
    assert again.status().role != LEADER, "nobody votes before the first change is applied"
    drain(again)
    again.campaign()
    drain(again)
    assert again.is_leader


def test_restart_with_a_state_machine_ahead_of_the_log() -> None:
    with pytest.raises(LogLostError, match="corrupted, truncated, or lost"):
        RawNode(
            RaftConfig(id=1, random=timeouts()),
            hard_state=HardState(1, 1, 1),
            entries=[Entry(1, 1)],
            applied=9,
        )


def test_committed_commit_index_is_written() -> None:
    """A restart hands out again what the written commit index covers; it may not run ahead of the entries."""
    node = single()
    written = 0
    last = 2

    def check(ready: Ready) -> None:
        nonlocal written, last
        last = ready.entries[-1].index if ready.entries else last
        if ready.hard_state is not None:
            written = ready.hard_state.commit
        assert written <= last

    for n in range(10):
        node.propose([b"%d" % n] * n)
        drain(node, check)
    assert written == node.commit


def test_step_down() -> None:
    """For a member whose disk no longer keeps up: it stops leading within its term."""
    node = single()
    node.step_down()
    assert not node.is_leader
    assert node.lead == 0
    with pytest.raises(ProposalDropped, match="no leader"):
        node.propose([b"x"])
    node.step_down()
    assert node.term == 2


def test_compaction_keeps_the_log_going() -> None:
    node = single()
    for n in range(20):
        node.propose([b"%d" % n])
        drain(node)
    node.create_snapshot(20, ConfState((1,)), b"s")
    node.compact(15)
    assert (node.status().first_index, node.status().last_index) == (16, 22)
    node.propose([b"after"])
    assert [entry.data for entry in drain(node)] == [b"after"]
    node.compact(20)
    node.check_invariants()


def test_status_is_a_copy() -> None:
    cluster = Cluster(3)
    cluster.campaign(1)
    before = cluster[1].raft.status()
    assert before.role_name == "StateLeader"
    assert {m: (p.match, p.state, p.is_learner) for m, p in before.progress.items()} == dict.fromkeys(
        (1, 2, 3), (4, "StateReplicate", False)
    )
    cluster.propose(1, b"x")
    assert before.progress[2].match == 4
    assert cluster[2].raft.status().progress == {}


def test_trace_speaks_etcds_words() -> None:
    lines: list[str] = []
    node = RawNode.bootstrap(RaftConfig(id=0xABC, random=timeouts(), trace=lines.append), [(0xABC, b"")])
    node.campaign()
    drain(node)
    for said in (
        "abc became pre-candidate at term 1",
        "abc became candidate at term 2",
        "abc became leader at term 2",
    ):
        assert said in lines


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"id": 0}, "none as id"),
        ({"heartbeat_ticks": 0}, "heartbeat tick"),
        ({"election_ticks": 1}, "election tick"),
        ({"max_inflight_messages": 0}, "max inflight messages"),
        ({"max_inflight_bytes": 1}, "max inflight bytes"),
    ],
)
def test_wrong_configurations(wrong: dict[str, int], says: str) -> None:
    options = {"id": 1, **wrong}
    with pytest.raises(ValueError, match=says):
        RaftConfig(random=timeouts(), **options)  # type: ignore[arg-type]
