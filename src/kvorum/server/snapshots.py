"""Snapshots: when the log may forget.

Every ``--snapshot-count`` applied entries the backend is committed, so that it holds all of them for good;
then a ``.snap`` file is written beside the loop, then a marker in the WAL says so, and only then older
segments and files go. On a restart replay begins there. In memory the last ``--snapshot-catchup-entries``
stay for members that lag a little; a member that is alone has nobody to wait for and keeps almost none.
While a snapshot is being sent, and for a while after, nothing is forgotten: whoever takes it in would find
the log gone again that follows it, and be sent one snapshot after the other.
Source: etcd ``server/etcdserver/server.go`` (triggerSnapshot, snapshot).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, final

from kvorum import limits
from kvorum.logging import Logger
from kvorum.mvcc.store import Store
from kvorum.raft.codec import decode_conf_state
from kvorum.raft.rawnode import RawNode
from kvorum.raft.types import ConfState, Snapshot, SnapshotMetadata
from kvorum.wal.record import WalSnapshot

InBackground = Callable[[Callable[[], None], Callable[[], None]], None]
"""Run the first off the loop, then the second on it; an error of the first is fatal."""


class Files(Protocol):
    """The files of the log and the snapshots (``server/member.py`` has the real ones)."""

    def save(self, snapshot: Snapshot) -> None:
        """Write the ``.snap`` file, durably."""

    def purge(self, newest: WalSnapshot) -> None:
        """Remove the segments and ``.snap`` files beyond ``--max-wals`` and ``--max-snapshots``."""

    def release_to(self, index: int) -> None:
        """Let go of segments that a replay from ``index`` does not need."""

    def install(self, index: int) -> None:
        """Replace the database by the one that was received for the snapshot at ``index``."""


@final
@dataclass(frozen=True)
class SnapshotOptions:
    """``--snapshot-count`` and ``--snapshot-catchup-entries``, in entries."""

    count: int = 10_000
    catchup_entries: int = 5_000


@final
class Snapshots:
    """Takes snapshots as entries are applied.

    Invariants: the index of the newest ``.snap`` is never above the backend's durable consistent index; at
    most one snapshot is being taken.
    """

    def __init__(
        self,
        raft: RawNode,
        store: Store,
        files: Files,
        *,
        last_index: int,
        in_background: InBackground,
        write_marker: Callable[[WalSnapshot, Callable[[], None]], None],
        options: SnapshotOptions,
        log: Logger,
        in_flight: Callable[[], bool] = lambda: False,
    ) -> None:
        """``in_flight`` says whether a snapshot is on its way to another member."""
        self._raft: Final = raft
        self._store: Final = store
        self._files: Final = files
        self._in_background: Final = in_background
        self._write_marker: Final = write_marker
        self._options: Final = options
        self._log: Final = log
        self._in_flight: Final = in_flight
        self._index = last_index
        self._forgotten = last_index
        self._saving = False

    def save_received(self, snapshot: Snapshot, done: Callable[[], None]) -> None:
        """Write the ``.snap`` file of a snapshot that came from the leader; its data is in the database."""
        kept = Snapshot(metadata=snapshot.metadata)
        self._in_background(lambda: self._files.save(kept), done)

    def install(self, snapshot: Snapshot) -> None:
        """Replace the database by the received one; the log begins behind it from now on."""
        index = snapshot.metadata.index
        self._files.install(index)
        self._index = self._forgotten = index
        self._files.release_to(index)

    def after_apply(self, applied_index: int) -> None:
        """Entries up to ``applied_index`` are applied: take a snapshot, forget entries, or do nothing."""
        if applied_index - self._forgotten >= limits.LONE_MEMBER_LOG_ENTRIES and self.is_alone():
            self._forget(applied_index)
        if applied_index - self._index >= self._options.count and not self._saving:
            self._take(applied_index)

    def is_alone(self) -> bool:
        """Whether this member is the cluster's only one."""
        state = self._conf_state()
        return len(state.voters) == 1 and not (state.learners or state.voters_outgoing or state.learners_next)

    def _conf_state(self) -> ConfState:
        return decode_conf_state(self._store.conf_state)

    def _forget(self, index: int) -> None:
        """Drop entries up to ``index`` from memory; the log on disk keeps them until its own snapshot.

        A snapshot from the leader may have dropped them already: Raft knows of it before it is installed.
        """
        if index < self._raft.first_index:
            return
        self._raft.create_snapshot(index, self._conf_state())
        self._raft.compact(index)
        self._forgotten = index

    def _take(self, index: int) -> None:
        self._saving = True
        self._log.info(
            "triggering snapshot",
            local_member_applied_index=index,
            local_member_snapshot_index=self._index,
            local_member_snapshot_count=self._options.count,
        )
        # The log will begin behind ``index``: whatever it forgets must be durable in the backend first.
        self._store.commit()
        snapshot = Snapshot(metadata=SnapshotMetadata(self._conf_state(), index, self._store.term))
        self._in_background(lambda: self._files.save(snapshot), lambda: self._saved(snapshot))

    def _saved(self, snapshot: Snapshot) -> None:
        metadata = snapshot.metadata
        marker = WalSnapshot(metadata.index, metadata.term, metadata.conf_state)
        self._write_marker(marker, lambda: self._marked(marker))

    def _marked(self, marker: WalSnapshot) -> None:
        """The log knows the snapshot: what is older may go."""
        index = marker.index
        self._log.info("saved snapshot", snapshot_index=index)
        if index > self._index:  # or the leader's has replaced everything meanwhile
            self._index = index
            self._files.release_to(index)
        keep_from = index - self._options.catchup_entries
        if keep_from > self._forgotten and not self.is_alone():
            if self._in_flight():
                self._log.info("skip compaction since there is an inflight snapshot")
            else:
                self._forget(keep_from)
                self._log.info("compacted Raft logs", compact_index=keep_from)
        self._in_background(lambda: self._files.purge(marker), self._purged)

    def _purged(self) -> None:
        self._saving = False
