"""Opening a log that a crash left behind, and looking into one that is closed.

A torn tail is cut off once, its original kept as ``<segment>.broken`` (etcd ``wal/repair.go``,
``etcdserver/storage.go``: ``readWAL``). Nothing else is ever repaired.
"""

import logging
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from kvorum import failpoint
from kvorum.limits import WAL_SEGMENT_BYTES
from kvorum.raft.types import Entry, HardState
from kvorum.wal import segments as segment_files
from kvorum.wal.disk import Disk, OsDisk
from kvorum.wal.errors import SnapshotNotFoundError, TornTailError, WalError
from kvorum.wal.reader import LogReader
from kvorum.wal.record import WalSnapshot
from kvorum.wal.segments import Segment
from kvorum.wal.wal import Wal

_LOGGER: Final = logging.getLogger(__name__)
_COPY_BYTES: Final = 1 << 20


class Recovered(NamedTuple):
    """A log ready for writing, and what it holds after the snapshot it was opened at."""

    wal: Wal
    metadata: bytes
    state: HardState
    entries: list[Entry]


def recover(
    directory: str,
    start: WalSnapshot,
    *,
    disk: Disk | None = None,
    segment_bytes: int = WAL_SEGMENT_BYTES,
    unsafe_no_fsync: bool = False,
    clock: Callable[[], float] = time.perf_counter,
) -> Recovered:
    """Open and read a log, repairing a torn tail once.

    Raises:
        WalError: what :meth:`Wal.open` and :meth:`Wal.read_all` raise, except a torn tail.
        OSError: the disk's.
    """
    disk = disk or OsDisk()
    repaired = False
    while True:
        wal = Wal.open(
            directory,
            start,
            disk=disk,
            segment_bytes=segment_bytes,
            unsafe_no_fsync=unsafe_no_fsync,
            clock=clock,
        )
        try:
            metadata, state, entries = wal.read_all()
        except TornTailError as error:
            wal.close()
            if repaired:
                raise
            repair(directory, error, disk=disk)
            repaired = True
            continue
        except BaseException:
            wal.close()
            raise
        return Recovered(wal, metadata, state, entries)


def repair(directory: str, torn: TornTailError, *, disk: Disk | None = None) -> str:
    """Cut the torn tail off the last segment; returns the path of the copy of the original.

    Raises:
        WalLockedError: another process has the segment.
        WalError: the tear is not in the last segment.
        OSError: the disk's.
    """
    disk = disk or OsDisk()
    last = segment_files.list_segments(disk, directory)[-1]
    if last.path != torn.path:
        raise WalError(f"wal: {torn.path} is torn but not the last segment, which is {last.path}") from torn
    _LOGGER.info("repairing", extra={"path": last.path, "offset": torn.offset})
    segment_files.lock_segments(disk, [last])
    try:
        broken = last.path + ".broken"
        _copy(disk, last, broken)
        disk.sync_dir(directory)
        if failpoint.enabled:
            failpoint.hit("wal_repair_before_truncate")
        disk.truncate(last.handle, torn.offset)
        if failpoint.enabled:
            failpoint.hit("wal_repair_after_truncate")
        disk.fdatasync(last.handle)
    finally:
        disk.close(last.handle)
        last.handle = -1
    _LOGGER.info(
        "repaired",
        extra={"path": last.path, "offset": torn.offset, "original": broken, "error": "unexpected EOF"},
    )
    return broken


def _copy(disk: Disk, segment: Segment, path: str) -> None:
    copy = disk.open(path, write=True, create=True)
    try:
        disk.truncate(copy, 0)
        offset = 0
        while data := disk.pread(segment.handle, _COPY_BYTES, offset):
            disk.pwrite(copy, data, offset)
            offset += len(data)
        disk.fdatasync(copy)
    finally:
        disk.close(copy)


def read_log(
    directory: str,
    *,
    start: WalSnapshot | None = None,
    disk: Disk | None = None,
    on_record: Callable[[str, int, int, bytes], None] | None = None,
) -> LogReader:
    """Read a closed log without locking or changing it; a torn tail is forgiven.

    Without ``start`` every segment there is is read, whatever snapshot it begins at. ``on_record(path,
    offset, type, data)`` sees each record.

    Raises:
        WalError: damage, or a missing segment.
        OSError: the disk's.
    """
    disk = disk or OsDisk()
    first = start.index if start is not None else segment_files.list_segments(disk, directory)[0].index
    segments = segment_files.select_segments(disk, directory, first)
    reader = LogReader(start, on_record)
    try:
        for segment in segments:
            reader.feed(
                segment.path, segment_files.read_segment(disk, segment), is_last=segment is segments[-1]
            )
    except TornTailError as error:
        _LOGGER.info("the log ends in a torn record", extra={"path": error.path, "offset": error.offset})
    return reader


def valid_snapshots(directory: str, *, disk: Disk | None = None) -> list[WalSnapshot]:
    """The markers of all snapshots that are committed, oldest first (etcd ``ValidSnapshotEntries``).

    Raises:
        WalError: damage, or a missing segment.
        OSError: the disk's.
    """
    reader = read_log(directory, disk=disk)
    return [marker for marker in reader.markers if marker.index <= reader.state.commit]


def verify(directory: str, start: WalSnapshot, *, disk: Disk | None = None) -> HardState:
    """Check a closed log from a snapshot on; returns its hard state (etcd ``wal.Verify``).

    Raises:
        WalError: damage, a missing segment, or no such snapshot.
        OSError: the disk's.
    """
    disk = disk or OsDisk()
    reader = read_log(directory, start=start, disk=disk)
    reader.finish(directory)
    if not reader.matched:
        raise SnapshotNotFoundError(
            f"wal: no snapshot marker (index {start.index}, term {start.term}) in {directory}"
        )
    return reader.state
