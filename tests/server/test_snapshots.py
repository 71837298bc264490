"""Snapshots of one's own and those that the leader sends, in each other's way."""

from collections.abc import Callable
from pathlib import Path

from kvorum.logging import Logger
from kvorum.mvcc.store import Store
from kvorum.raft.codec import encode_conf_state
from kvorum.raft.config import RaftConfig
from kvorum.raft.rawnode import RawNode
from kvorum.raft.types import (
    MSG_SNAP,
    ConfState,
    Entry,
    HardState,
    Message,
    Snapshot,
    SnapshotMetadata,
)
from kvorum.server.snapshots import SnapshotOptions, Snapshots
from kvorum.wal.record import WalSnapshot

VOTERS = ConfState((1, 2, 3))


class Files:
    """Remembers what was asked of it."""

    def __init__(self) -> None:
        self.saved: list[int] = []

    def save(self, snapshot: Snapshot) -> None:
        self.saved.append(snapshot.metadata.index)

    def purge(self, newest: WalSnapshot) -> None:
        pass

    def release_to(self, index: int) -> None:
        pass

    def install(self, index: int) -> None:
        pass


def test_a_leaders_snapshot_may_come_while_ones_own_is_being_saved(tmp_path: Path) -> None:
    """Raft has dropped the entries then that the saved snapshot lets it drop."""
    log = [Entry(1, index) for index in range(1, 11)]
    raft = RawNode(
        RaftConfig(1, lambda n: 0),
        hard_state=HardState(1, 2, 10),
        entries=log,
        applied=10,
        conf_state=VOTERS,
    )
    store = Store.open(str(tmp_path / "db"), clock=lambda: 0.0)
    store.conf_state = encode_conf_state(VOTERS)
    store.consistent_index, store.term = 10, 1
    markers: list[Callable[[], None]] = []

    def at_once(work: Callable[[], None], done: Callable[[], None]) -> None:
        work()
        done()

    files = Files()
    snapshots = Snapshots(
        raft,
        store,
        files,
        last_index=0,
        in_background=at_once,
        write_marker=lambda marker, done: markers.append(done),
        options=SnapshotOptions(count=10, catchup_entries=2),
        log=Logger(()),
    )
    snapshots.after_apply(10)
    assert files.saved == [10]
    sent = Snapshot(metadata=SnapshotMetadata(VOTERS, 20, 1))
    raft.step(Message(MSG_SNAP, to=1, from_=2, term=1, snapshot=sent))
    assert raft.first_index == 21
    markers.pop()()
    assert raft.first_index == 21
    store.close()
