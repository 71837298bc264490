"""The whole log, read once, every entry decoded.

The log's own reader passes over entries that it need not keep, and so cannot say where they end.
"""

from pathlib import Path
from typing import Final, final

from kvorum.raft.codec import decode_entry
from kvorum.wal.reader import LogReader
from kvorum.wal.record import ENTRY_TYPE, WalSnapshot
from kvorum.wal.recovery import read_log


@final
class LogScan:
    """What the log holds, from its first segment to its end; a torn tail is forgiven.

    Raises:
        WalError: Damage, or a missing segment.
        OSError: The disk's.
    """

    def __init__(self, folder: Path) -> None:
        self._last_entry = 0
        self.reader: Final[LogReader] = read_log(str(folder), on_record=self._record)

    def _record(self, path: str, offset: int, kind: int, data: bytes) -> None:
        if kind == ENTRY_TYPE:
            self._last_entry = decode_entry(data).index

    @property
    def snapshot_index(self) -> int:
        """Index of the newest committed snapshot that the log names; 0 if there is none."""
        return max((marker.index for marker in self.committed_markers()), default=0)

    @property
    def last_index(self) -> int:
        """Index of the last entry, or of the snapshot that stands for it."""
        return max(self._last_entry, self.snapshot_index)

    def committed_markers(self) -> list[WalSnapshot]:
        """Return the markers of snapshots that are committed, oldest first."""
        return [marker for marker in self.reader.markers if marker.index <= self.reader.state.commit]
