"""The ``.snap`` files: which entry a member's state stands for (etcd ``server/etcdserver/api/snap``).

A file is named ``<term>-<index>.snap``, both as 16 hex digits, and holds a ``snappb.Snapshot``: the
serialized ``raftpb.Snapshot`` and its CRC32C. A snapshot counts only if the log holds its marker, which is
written after the file: a crash in between leaves a file that nothing names, never a marker without its file.
"""

import logging
import os
import re
import time
from collections.abc import Callable, Collection
from typing import Final, NamedTuple, final

from crc32c import crc32c

from kvorum import failpoint
from kvorum.proto import snap_pb2
from kvorum.proto.wire import varint
from kvorum.raft.codec import CodecError, decode_snapshot, encode_snapshot
from kvorum.raft.types import Snapshot
from kvorum.wal.disk import Disk, OsDisk
from kvorum.wal.record import WalSnapshot
from kvorum.wal.segments import purge

_LOGGER: Final = logging.getLogger(__name__)
_NAME: Final = re.compile(r"[0-9a-f]{16}-[0-9a-f]{16}\.snap")


class SnapFileError(Exception):
    """A .snap file is empty, cut or changed (etcd ``snap.ErrEmptySnapshot``, ``ErrCRCMismatch``)."""


class SaveDurations(NamedTuple):
    """Seconds that saving took, for etcd's histograms."""

    marshalling_seconds: float
    fsync_seconds: float
    total_seconds: float


def snap_name(term: int, index: int) -> str:
    """The file name of the snapshot at that entry."""
    return f"{term:016x}-{index:016x}.snap"


def encode_snap_file(snapshot: Snapshot) -> bytes:
    """The content of a .snap file."""
    data = encode_snapshot(snapshot)
    return b"\x08%b\x12%b%b" % (varint(crc32c(data)), varint(len(data)), data)


def decode_snap_file(content: bytes, path: str) -> Snapshot:
    """Decode and check the content of the .snap file at ``path``.

    Raises:
        SnapFileError: it is not as it was written.
    """
    message = snap_pb2.snapshot()
    try:
        message.ParseFromString(content)
    except Exception as error:  # protobuf's DecodeError has moved between its releases
        raise SnapFileError(f"snap: {path} is no snapshot file: {error}") from error
    if not message.data or not message.crc:
        raise SnapFileError(f"snap: {path} is empty")
    if crc32c(message.data) != message.crc:
        raise SnapFileError(f"snap: crc mismatch in {path}")
    try:
        return decode_snapshot(message.data)
    except CodecError as error:
        raise SnapFileError(f"snap: {path}: {error}") from error


def read_snap_file(path: str, disk: Disk | None = None) -> Snapshot:
    """Read one .snap file.

    Raises:
        SnapFileError: it is not as it was written. OSError: the disk's.
    """
    disk = disk or OsDisk()
    handle = disk.open(path)
    try:
        content = disk.pread(handle, disk.size(handle), 0)
    finally:
        disk.close(handle)
    return decode_snap_file(content, path)


@final
class Snapshotter:
    """The .snap files of one directory. Every method blocks for as long as the disk takes."""

    __slots__ = ("_clock", "_disk", "directory")

    def __init__(
        self, directory: str, *, disk: Disk | None = None, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        """The directory must be there."""
        self.directory: Final = directory
        self._disk: Final = disk or OsDisk()
        self._clock: Final = clock

    def save(self, snapshot: Snapshot) -> SaveDurations:
        """Write a snapshot; durable on return. Its marker goes into the log next, not before.

        Raises:
            OSError: the disk's; nothing that could be taken for the snapshot is left.
        """
        assert not snapshot.is_empty(), "an empty snapshot stands for nothing"
        started = self._clock()
        content = encode_snap_file(snapshot)
        marshalled = self._clock()
        path = os.path.join(self.directory, snap_name(snapshot.metadata.term, snapshot.metadata.index))
        temporary = path + ".tmp"
        if failpoint.enabled:
            failpoint.hit("snap_before_write")
        try:
            self._write(temporary, content)
            if failpoint.enabled:
                failpoint.hit("snap_before_rename")
            self._disk.rename(temporary, path)
        except OSError:
            _LOGGER.warning("failed to write a snap file", extra={"path": path})
            if self._disk.exists(temporary):
                self._disk.unlink(temporary)
            raise
        if failpoint.enabled:
            failpoint.hit("snap_after_rename")
        self._disk.sync_dir(self.directory)
        if failpoint.enabled:
            failpoint.hit("snap_before_wal_marker")
        ended = self._clock()
        return SaveDurations(marshalled - started, ended - marshalled, ended - started)

    def _write(self, path: str, content: bytes) -> None:
        handle = self._disk.open(path, write=True, create=True)
        try:
            self._disk.truncate(handle, 0)
            self._disk.pwrite(handle, content, 0)
            self._disk.fdatasync(handle)
        finally:
            self._disk.close(handle)

    def load_newest(self, markers: Collection[WalSnapshot] | None = None) -> Snapshot | None:
        """The newest sound snapshot that ``markers`` (of the log) names; any, without them. None if there is
        none.

        A file that is not sound is renamed to ``<name>.broken``, so that it is looked at by people and not
        again by us; what a crash left half written is removed.

        Raises:
            OSError: the directory cannot be read.
        """
        named = None if markers is None else {(marker.term, marker.index) for marker in markers}
        for name in self.names():
            snapshot = self._load(name)
            if snapshot is None:
                continue
            if named is None or (snapshot.metadata.term, snapshot.metadata.index) in named:
                return snapshot
        return None

    def names(self) -> list[str]:
        """Names of the .snap files, newest first."""
        names = []
        for name in self._disk.list(self.directory):
            if _NAME.fullmatch(name):
                names.append(name)
            elif name.endswith(".snap.tmp"):
                self._disk.unlink(os.path.join(self.directory, name))
        names.reverse()
        return names

    def _load(self, name: str) -> Snapshot | None:
        path = os.path.join(self.directory, name)
        try:
            snapshot = read_snap_file(path, self._disk)
            if snap_name(snapshot.metadata.term, snapshot.metadata.index) != name:
                raise SnapFileError(f"snap: {path} holds another snapshot than its name says")
        except (SnapFileError, OSError) as error:
            _LOGGER.warning("failed to read a snap file", extra={"path": path, "error": str(error)})
        else:
            return snapshot
        try:
            self._disk.rename(path, path + ".broken")
            _LOGGER.warning(
                "renamed to a broken snap file", extra={"path": path, "broken-path": path + ".broken"}
            )
        except OSError as error:
            _LOGGER.warning("failed to rename a broken snap file", extra={"path": path, "error": str(error)})
        return None

    def purge(self, keep: int, needed: WalSnapshot) -> list[str]:
        """Remove the oldest .snap files beyond ``keep`` (0 keeps all), never ``needed`` nor what is newer.

        ``needed`` is the newest snapshot whose marker the log holds: files that a crash left without a marker
        count among those kept, and must not push it out.

        Raises:
            OSError: the directory cannot be read, or a file not be removed.
        """
        return purge(
            self.directory, ".snap", keep, self._disk, spare_from=snap_name(needed.term, needed.index)
        )
