"""A member's files of the log and the snapshots, as ``snapshots.py`` needs them."""

from typing import Final, final

from kvorum.config import Config
from kvorum.raft.types import Snapshot
from kvorum.server.transfer import SnapshotSink
from kvorum.snapshot.snap_file import Snapshotter
from kvorum.wal import segments
from kvorum.wal.record import WalSnapshot
from kvorum.wal.wal import Wal


@final
class MemberFiles:
    """The log's and the snapshots' files, as ``Snapshots`` sees them."""

    def __init__(self, config: Config, wal: Wal, snapshotter: Snapshotter, sink: SnapshotSink) -> None:
        self._config: Final = config
        self._wal: Final = wal
        self._snapshotter: Final = snapshotter
        self._sink: Final = sink

    def save(self, snapshot: Snapshot) -> None:
        """Write the ``.snap`` file, durably."""
        self._snapshotter.save(snapshot)

    def release_to(self, index: int) -> None:
        """Let go of segments that a replay from ``index`` does not need."""
        self._wal.release_to(index)

    def install(self, index: int) -> None:
        """Put the database that was received for the snapshot at ``index`` in the place of this one."""
        self._sink.install(index)

    def purge(self, newest: WalSnapshot) -> None:
        """Remove the oldest segments and snapshots; those still needed are held or newer."""
        segments.purge(str(self._config.wal_path), ".wal", self._config.max_wals)
        self._snapshotter.purge(self._config.max_snapshots, newest)
