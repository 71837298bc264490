"""Members that lag behind what was compacted (Raft §7)."""

import pytest

from kvorum.raft.core import FOLLOWER
from kvorum.raft.types import (
    MSG_APP,
    MSG_HEARTBEAT_RESP,
    MSG_SNAP,
    ConfState,
    Entry,
    Message,
    Snapshot,
    SnapshotMetadata,
)
from tests.raft.cluster import Cluster


def test_snapshot_for_who_lags_behind() -> None:
    """§7: what was compacted is replaced by a snapshot; then the log goes on."""
    cluster = Cluster(3)
    cluster.campaign(1)
    cluster.isolate(3)
    cluster.propose(1, *[b"%d" % n for n in range(20)])
    cluster[1].snapshot()
    cluster.heal()
    cluster.tick(3)
    assert cluster[3].disk.snapshot.metadata.index == 24
    assert cluster[3].machine.digest == cluster[1].machine.digest
    assert cluster[1].raft.status().progress[3].state == "StateReplicate"
    cluster.propose(1, b"after")
    assert cluster[3].machine.data == [b"after"]
    cluster.crash(3)
    cluster.restart(3)
    cluster.propose(1, b"later")
    assert cluster[3].machine.digest == cluster[1].machine.digest


def test_nothing_is_sent_while_a_snapshot_is_under_way() -> None:
    cluster = Cluster(3, check_quorum=False)
    cluster.campaign(1)
    cluster.isolate(3)
    cluster.propose(1, b"a", b"b")
    cluster[1].snapshot()
    cluster.cuts.clear()
    cluster.sent.clear()
    # It never arrives, and nobody tells the leader yet.
    cluster.lose = lambda message: None  # type: ignore[method-assign]
    cluster.cut(1, 3)
    cluster[1].raft.report_unreachable(3)
    cluster[1].raft.step(Message(MSG_HEARTBEAT_RESP, to=1, from_=3, term=2))
    cluster.settle()
    progress = cluster[1].raft.status().progress[3]
    assert (progress.state, progress.pending_snapshot) == ("StateSnapshot", 6)
    cluster.propose(1, b"c")
    assert [m.snapshot.metadata.index for m in cluster.sent if not m.snapshot.is_empty()] == [6]
    # It failed: probe again from where the follower was, after the next heartbeat's answer.
    cluster[1].raft.report_snapshot(3, False)
    progress = cluster[1].raft.status().progress[3]
    assert (progress.state, progress.is_paused, progress.next) == ("StateProbe", True, 5)
    cluster.cuts.clear()
    cluster.tick(3)
    assert cluster[3].machine.digest == cluster[1].machine.digest


def test_snapshot_goes_only_to_who_is_there() -> None:
    cluster = Cluster(3)
    cluster.campaign(1)
    cluster.crash(3)
    cluster.propose(1, b"a")
    cluster[1].snapshot()
    cluster.tick(30)
    assert cluster.leader() == 1
    cluster[1].raft.report_unreachable(3)
    cluster.propose(1, b"b")
    progress = cluster[1].raft.status().progress[3]
    assert (progress.state, progress.recent_active) == ("StateProbe", False)
    assert not [m for m in cluster.sent if m.type == MSG_SNAP]
    cluster.restart(3)
    cluster.tick(3)
    assert cluster[3].machine.digest == cluster[1].machine.digest


def test_snapshot_that_is_no_news() -> None:
    """§7: an old snapshot changes nothing; one that the log covers only moves the commit index."""
    cluster = Cluster(3, check_quorum=False)
    follower = cluster[2]
    follower.raft.step(
        Message(MSG_APP, to=2, from_=1, term=2, index=3, log_term=1, entries=[Entry(2, 4), Entry(2, 5)])
    )
    conf = ConfState((1, 2, 3))
    for index, term, commit in ((2, 1, 3), (4, 2, 4)):
        snapshot = Snapshot(b"s", SnapshotMetadata(conf, index, term))
        follower.raft.step(Message(MSG_SNAP, to=2, from_=1, term=2, snapshot=snapshot))
        assert follower.raft.commit == commit
    assert follower.log()[-1] == (2, 5)
    follower.take()
    assert follower.ready is not None
    assert follower.ready.snapshot.is_empty()
    assert [m.index for m in follower.persist()] == [5, 3, 4]


@pytest.mark.parametrize(
    "conf", [ConfState((1, 3)), ConfState((1, 2), (2,)), ConfState((1, 2), (), (), (3,))], ids=str
)
def test_snapshot_for_others_or_with_an_impossible_configuration_is_refused(conf: ConfState) -> None:
    cluster = Cluster(3, check_quorum=False)
    snapshot = Snapshot(b"s", SnapshotMetadata(conf, 50, 2))
    cluster[2].raft.step(Message(MSG_SNAP, to=2, from_=1, term=2, snapshot=snapshot))
    assert cluster[2].raft.status().last_index == 3


def test_nothing_is_applied_before_the_snapshot_is() -> None:
    """Entries behind a snapshot wait until its state machine is in place, and the member may not campaign."""
    cluster = Cluster(3, check_quorum=False, pre_vote=False)
    follower = cluster[2]
    conf = ConfState((1, 2, 3))
    follower.raft.step(
        Message(MSG_SNAP, to=2, from_=1, term=2, snapshot=Snapshot(b"s", SnapshotMetadata(conf, 50, 2)))
    )
    follower.raft.step(
        Message(
            MSG_APP, to=2, from_=1, term=2, index=50, log_term=2, commit=51, entries=[Entry(2, 51, data=b"x")]
        )
    )
    ready = follower.raft.ready()
    assert ready.snapshot.metadata.index == 50
    assert [entry.index for entry in ready.entries] == [51]
    assert ready.must_sync
    follower.raft.advance()
    assert not follower.raft.has_ready()
    follower.raft.campaign()
    assert follower.raft.status().role == FOLLOWER
    follower.raft.applied_to(50)
    ready = follower.raft.ready()
    assert [entry.data for entry in ready.committed_entries] == [b"x"]
