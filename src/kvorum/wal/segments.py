"""The segment files of a log: names, order, locks, and what may go.

A segment is named ``<sequence>-<index of its first entry>.wal``, both as 16 hex digits (etcd
``server/wal/util.go``). The log that holds them open keeps a lock on each; :func:`purge` removes old ones
only as far as nobody holds them, which is how a segment that is still needed is safe from it (etcd
``fileutil/purge.go``).
"""

import itertools
import logging
import os
import re
from collections.abc import Sequence
from typing import Final, final

from kvorum import failpoint
from kvorum.wal.disk import Disk, OsDisk
from kvorum.wal.errors import WalLockedError, WalNotFoundError

_LOGGER: Final = logging.getLogger(__name__)
_NAME: Final = re.compile(r"([0-9a-f]{16})-([0-9a-f]{16})\.wal")
LOCK_NAME: Final = "lock"
"""The file in the member directory that says which process works there."""


def segment_name(sequence: int, index: int) -> str:
    """The name of the segment with that number, whose first entry has that index."""
    return f"{sequence:016x}-{index:016x}.wal"


def parse_segment_name(name: str) -> tuple[int, int] | None:
    """Sequence and index of a segment's name; None for any other name."""
    match = _NAME.fullmatch(name)
    return (int(match[1], 16), int(match[2], 16)) if match else None


@final
class Segment:
    """One file of the log, open and locked if ``handle`` is not -1."""

    __slots__ = ("handle", "index", "path", "sequence")

    def __init__(self, path: str, sequence: int, index: int, handle: int = -1) -> None:
        self.path = path
        self.sequence: Final = sequence
        self.index: Final = index
        self.handle = handle


def exists(directory: str, disk: Disk | None = None) -> bool:
    """Whether a log is there (etcd ``wal.Exist``)."""
    disk = disk or OsDisk()
    return disk.exists(directory) and any(name.endswith(".wal") for name in disk.list(directory))


def list_segments(disk: Disk, directory: str) -> list[Segment]:
    """All segments in order, not opened.

    Raises:
        WalNotFoundError: there is none.
    """
    segments = []
    for name in disk.list(directory) if disk.exists(directory) else ():
        parsed = parse_segment_name(name)
        if parsed:
            segments.append(Segment(os.path.join(directory, name), *parsed))
    if not segments:
        raise WalNotFoundError(f"wal: no segment file in {directory}")
    segments.sort(key=lambda segment: segment.sequence)
    return segments


def select_segments(disk: Disk, directory: str, index: int) -> list[Segment]:
    """The segments needed to read from ``index`` on: the last that starts at or before it, and all later
    ones.

    Raises:
        WalNotFoundError: nothing reaches back to it, or a segment in between is missing.
    """
    segments = list_segments(disk, directory)
    first = _last_at_or_before(segments, index)
    if first < 0:
        raise WalNotFoundError(
            f"wal: no segment in {directory} reaches back to index {index}, the first is {segments[0].path}; "
            "its older segments were purged: restore the member's directory from a backup"
        )
    segments = segments[first:]
    for before, after in itertools.pairwise(segments):
        if after.sequence != before.sequence + 1:
            raise WalNotFoundError(
                f"wal: a segment is missing between {before.path} and {after.path}; "
                "restore the member's directory from a backup"
            )
    return segments


def _last_at_or_before(segments: Sequence[Segment], index: int) -> int:
    for at in range(len(segments) - 1, -1, -1):
        if segments[at].index <= index:
            return at
    return -1


def lock_opened(disk: Disk, segment: Segment) -> None:
    """Lock a segment that is open.

    Raises:
        WalLockedError: another process has it.
    """
    if not disk.try_lock(segment.handle):
        raise WalLockedError(f"cannot lock {segment.path}: it is held by another process")


def lock_segments(disk: Disk, segments: Sequence[Segment]) -> None:
    """Open every segment for writing and lock it.

    Raises:
        WalLockedError: another process has one of them; those already opened are closed again.
    """
    try:
        for segment in segments:
            segment.handle = disk.open(segment.path, write=True)
            lock_opened(disk, segment)
    except BaseException:
        for segment in segments:
            if segment.handle >= 0:
                disk.close(segment.handle)
                segment.handle = -1
        raise


def create_first(disk: Disk, directory: str, head: bytes, segment_bytes: int) -> Segment:
    """Create a log's directory with its first segment, open and locked; all of it is there after a crash, or
    nothing.

    Raises:
        OSError: the disk's.
    """
    temporary = directory + ".tmp"
    disk.remove_tree(temporary)
    disk.make_dirs(temporary)
    segment = Segment(os.path.join(temporary, segment_name(0, 0)), 0, 0)
    try:
        segment.handle = disk.open(segment.path, write=True, create=True)
        lock_opened(disk, segment)
        disk.preallocate(segment.handle, segment_bytes)
        disk.write_durable(segment.handle, head, 0)
        disk.sync_dir(temporary)
        if failpoint.enabled:
            failpoint.hit("wal_create_before_rename")
        disk.remove_tree(directory)
        disk.rename(temporary, directory)
        segment.path = os.path.join(directory, segment_name(0, 0))
        if failpoint.enabled:
            failpoint.hit("wal_create_after_rename")
        disk.sync_dir(os.path.dirname(directory) or ".")
    except BaseException as error:
        if isinstance(error, OSError) and error.filename is None:
            error.filename = segment.path  # the operating system names no file that it has open
        if segment.handle >= 0:
            disk.close(segment.handle)
        raise
    return segment


def read_segment(disk: Disk, segment: Segment) -> bytes:
    """The whole segment, through its handle if it is open."""
    handle = segment.handle if segment.handle >= 0 else disk.open(segment.path)
    try:
        return disk.pread(handle, disk.size(handle), 0)
    finally:
        if segment.handle < 0:
            disk.close(handle)


def purge(
    directory: str, suffix: str, keep: int, disk: Disk | None = None, *, spare_from: str = ""
) -> list[str]:
    """Remove the oldest files with ``suffix`` beyond ``keep``, up to the first that somebody holds locked.

    Serves segments (".wal", ``--max-wals``) and snapshots (".snap", ``--max-snapshots``) alike; 0 keeps all.
    With ``spare_from``, nothing that sorts at or after that name goes. Returns the paths removed. Blocks for
    as long as the disk takes: call it off the loop.

    Raises:
        OSError: the directory cannot be read, or a file not be removed.
    """
    disk = disk or OsDisk()
    if keep <= 0:
        return []
    names = [name for name in disk.list(directory) if name.endswith(suffix)]
    purged: list[str] = []
    for name in names[: max(0, len(names) - keep)]:
        path = os.path.join(directory, name)
        if (spare_from and name >= spare_from) or not _unlink_if_free(disk, path):
            break
        purged.append(path)
        _LOGGER.info("purged", extra={"path": path})
    return purged


def _unlink_if_free(disk: Disk, path: str) -> bool:
    handle = disk.open(path, write=True)
    try:
        if not disk.try_lock(handle):
            return False
        if failpoint.enabled:
            failpoint.hit("purge_before_unlink")
        disk.unlink(path)
    finally:
        disk.close(handle)
    if failpoint.enabled:
        failpoint.hit("purge_after_unlink")
    return True


@final
class DirectoryLock:
    """Holds a member directory for this process until ``release``; the lock dies with the process."""

    __slots__ = ("_disk", "_handle", "path")

    def __init__(self, directory: str, disk: Disk | None = None) -> None:
        """Take the lock.

        Raises:
            WalLockedError: another process has it.
        """
        self._disk: Final = disk or OsDisk()
        self.path: Final = os.path.join(directory, LOCK_NAME)
        self._handle = self._disk.open(self.path, write=True, create=True)
        if not self._disk.try_lock(self._handle):
            holder = self._disk.pread(self._handle, 32, 0).decode("ascii", "replace").strip()
            self._disk.close(self._handle)
            raise WalLockedError(
                f"cannot lock data directory {directory}: it is held by another process"
                + (f" (pid {holder})" if holder else "")
            )
        self._disk.truncate(self._handle, 0)
        self._disk.pwrite(self._handle, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Give the directory back; twice does nothing."""
        if self._handle >= 0:
            self._disk.close(self._handle)
            self._handle = -1
