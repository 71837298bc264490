"""The log: what a member must remember before it answers, one write and one sync per batch.

Two threads, two halves. ``prepare`` runs on the loop: it encodes, rolls the CRC, assigns the place on the
disk and decides about a cut, so that it alone owns the log's logical end. ``flush`` runs in the WAL thread:
it does what the batch says and owns the files. Batches must be flushed in the order in which they were
prepared; ``prepare`` may run ahead of ``flush``. Where the kernel syncs by itself (``writer.py``), the loop
calls ``write_unsynced`` instead, and only cuts are left to ``flush``.

A change of the commit index alone need not be remembered (etcd ``raft.MustSync``: a member that lost it
learns it again). Such a batch stays in memory and leaves with the next one that must be synced: ``must_sync``
is False, there is nothing to wait for and nothing to flush.

When a segment has reached its size, the batch that did it also carries the head of the next one. ``flush``
then writes that head into a file preallocated beforehand, gives it its name and syncs the directory (etcd
``wal.cut``).

Invariants, held by ``check_invariants``:

- ``_offset`` is where the next byte goes in the newest segment, and lies at most one batch beyond the segment
  size;
- every offset is a multiple of 8;
- a log that failed once is failed for good: an fsync that returned an error may succeed the next time without
  having written anything, so nothing after it can be believed.
"""

import itertools
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final, final

from kvorum import failpoint
from kvorum.limits import MAX_DEFERRED_WAL_BYTES, SLOW_FSYNC_SECONDS, WAL_SEGMENT_BYTES
from kvorum.raft.types import Entry, HardState
from kvorum.wal import segments as segment_files
from kvorum.wal.batch import Batch
from kvorum.wal.disk import Disk, OsDisk
from kvorum.wal.errors import SnapshotNotFoundError, TornTailError, WalExistsError, WalFailedError
from kvorum.wal.reader import LogReader
from kvorum.wal.record import WalSnapshot, encode_batch, encode_head, encode_marker
from kvorum.wal.segments import Segment, segment_name

_LOGGER: Final = logging.getLogger(__name__)
_NO_STATE: Final = HardState()


_DEFERRED: Final = Batch(b"", 0, False)


@final
class Wal:
    """A log on disk. Made by :meth:`create`, :meth:`open` or :meth:`open_for_read`."""

    __slots__ = (
        "_clock",
        "_crc",
        "_deferred",
        "_deferred_bytes",
        "_directory",
        "_disk",
        "_failure",
        "_last_index",
        "_lock",
        "_metadata",
        "_next_segment",
        "_offset",
        "_reading",
        "_segment_bytes",
        "_segments",
        "_start",
        "_state",
        "_temporary_count",
        "_unsafe_no_fsync",
        "_writable",
        "bytes_written",
    )

    def __init__(
        self,
        directory: str,
        segments: list[Segment],
        start: WalSnapshot,
        *,
        writable: bool,
        disk: Disk,
        segment_bytes: int,
        unsafe_no_fsync: bool,
        clock: Callable[[], float],
    ) -> None:
        """Not for callers: use the class methods."""
        self.bytes_written = 0
        """Bytes handed to the disk so far (``etcd_disk_wal_write_bytes_total``)."""
        self._directory: Final = directory
        self._segments = segments
        self._start: Final = start
        self._writable: Final = writable
        self._disk: Final = disk
        self._segment_bytes: Final = segment_bytes
        self._unsafe_no_fsync: Final = unsafe_no_fsync
        self._clock: Final = clock
        self._reading = True
        self._failure: BaseException | None = None
        self._metadata = b""
        self._state = _NO_STATE
        self._crc = 0
        self._offset = 0
        self._last_index = start.index
        self._deferred: list[bytes] = []
        self._deferred_bytes = 0
        self._next_segment: Segment | None = None
        self._temporary_count = 0
        self._lock: Final = (
            threading.Lock()
        )  # guards _segments between a cut and release_to; never held over a sync

    # --- opening --------------------------------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        directory: str,
        metadata: bytes,
        *,
        disk: Disk | None = None,
        segment_bytes: int = WAL_SEGMENT_BYTES,
        unsafe_no_fsync: bool = False,
        clock: Callable[[], float] = time.perf_counter,
    ) -> "Wal":
        """Create a log with an empty snapshot marker, ready for ``prepare``.

        It is built in ``<directory>.tmp`` and renamed, so that a crash leaves all of it or nothing.

        Raises:
            WalExistsError: there is one.
            OSError: the disk's.
        """
        disk = disk or OsDisk()
        directory = os.path.normpath(directory)
        if segment_files.exists(directory, disk):
            raise WalExistsError(f"wal: there is a log in {directory} already")
        head, crc = encode_head(metadata, 0, None)
        marker, crc = encode_marker(WalSnapshot(), crc)
        segment = segment_files.create_first(disk, directory, head + marker, segment_bytes)
        wal = cls(
            directory,
            [segment],
            WalSnapshot(),
            writable=True,
            disk=disk,
            segment_bytes=segment_bytes,
            unsafe_no_fsync=unsafe_no_fsync,
            clock=clock,
        )
        wal._reading = False
        wal._metadata = metadata
        wal._crc = crc
        wal._offset = wal.bytes_written = len(head) + len(marker)
        return wal

    @classmethod
    def open(
        cls,
        directory: str,
        start: WalSnapshot,
        *,
        disk: Disk | None = None,
        segment_bytes: int = WAL_SEGMENT_BYTES,
        unsafe_no_fsync: bool = False,
        clock: Callable[[], float] = time.perf_counter,
    ) -> "Wal":
        """Open a log at a snapshot whose marker it holds, and lock it; ``read_all`` comes next, then
        ``prepare``.

        Raises:
            WalNotFoundError: no segment reaches back to the snapshot, or one is missing.
            WalLockedError: another process has the log open.
            OSError: the disk's.
        """
        disk = disk or OsDisk()
        segments = segment_files.select_segments(disk, directory, start.index)
        segment_files.lock_segments(disk, segments)
        return cls(
            os.path.normpath(directory),
            segments,
            start,
            writable=True,
            disk=disk,
            segment_bytes=segment_bytes,
            unsafe_no_fsync=unsafe_no_fsync,
            clock=clock,
        )

    @classmethod
    def open_for_read(cls, directory: str, start: WalSnapshot, *, disk: Disk | None = None) -> "Wal":
        """Open a log only to read it: takes no lock, changes nothing, forgives a torn tail.

        Raises:
            WalNotFoundError: no segment reaches back to the snapshot, or one is missing.
            OSError: the disk's.
        """
        disk = disk or OsDisk()
        return cls(
            os.path.normpath(directory),
            segment_files.select_segments(disk, directory, start.index),
            start,
            writable=False,
            disk=disk,
            segment_bytes=WAL_SEGMENT_BYTES,
            unsafe_no_fsync=True,
            clock=time.perf_counter,
        )

    def read_all(self) -> tuple[bytes, HardState, list[Entry]]:
        """Read everything after the start; the log is then ready for ``prepare`` if it was opened for
        writing.

        Entries beyond the hard state's commit may yet be replaced.

        Raises:
            TornTailError: the last write was interrupted; see :func:`kvorum.wal.recovery.repair`.
            CorruptWalError: damage, with file, offset and remedy.
            SnapshotNotFoundError: the start is not in the log. SnapshotMismatchError: under another term.
            OSError: the disk's.
        """
        assert self._reading, "a log is read once, after it was opened"
        reader = LogReader(self._start)
        tail = self._segments[-1]
        for segment in self._segments:
            data = segment_files.read_segment(self._disk, segment)
            try:
                reader.feed(segment.path, data, is_last=segment is tail)
            except TornTailError:
                if self._writable:
                    raise
        reader.finish(tail.path)
        if not reader.matched:
            raise SnapshotNotFoundError(
                f"wal: no snapshot marker (index {self._start.index}, term {self._start.term}) "
                f"in {self._directory}"
            )
        metadata = reader.metadata
        assert metadata is not None
        self._reading = False
        self._metadata = metadata
        self._state = reader.state
        self._crc = reader.crc
        self._offset = reader.offset
        self._last_index = reader.last_index
        if self._writable:
            self._clear_tail(tail, len(data), reader.tail_is_dirty)
        return metadata, reader.state, reader.entries

    def _clear_tail(self, tail: Segment, size: int, is_dirty: bool) -> None:
        """Zero what follows the end: records written over half of it would be read on into the other half.

        What was read is synced, and the segment's name: a process that was killed between a write and its
        sync leaves both to the kernel, and from now on the member will speak of these entries as its own.
        """
        if is_dirty:
            self._disk.truncate(tail.handle, self._offset)
        if is_dirty or size < self._segment_bytes:
            self._disk.preallocate(tail.handle, max(size, self._segment_bytes))
        if not self._unsafe_no_fsync:
            self._disk.fdatasync(tail.handle)
            self._disk.sync_dir(self._directory)

    # --- writing: the loop's half ---------------------------------------------------------------------------

    @property
    def state(self) -> HardState:
        """The hard state saved last."""
        return self._state

    @property
    def last_index(self) -> int:
        """Index of the last entry or marker prepared."""
        return self._last_index

    @property
    def failure(self) -> BaseException | None:
        """Why the log is unusable for good; None while it is sound."""
        return self._failure

    def prepare(
        self,
        hard_state: HardState | None,
        entries: Sequence[Entry],
        received: WalSnapshot | None = None,
    ) -> Batch:
        """Encode what must be remembered into one batch for ``flush``. Loop thread only; no I/O.

        ``received`` marks a snapshot that came from the leader and takes the place of the log; its ``.snap``
        file is durable. Its marker stands before the hard state, and that before the entries: torn anywhere,
        what is left is the old log, or the snapshot with as many entries as reached the disk. A marker
        without the hard state that commits it does not count (``valid_snapshots``).

        Raises:
            ValueError: as ``prepare_snapshot``. WalFailedError: the log failed before.
        """
        self._check_usable()
        before = self._state
        if hard_state is not None and hard_state.is_empty():
            hard_state = None
        must_sync = bool(entries) or received is not None
        if hard_state is not None:
            must_sync = must_sync or hard_state.term != before.term or hard_state.vote != before.vote
            self._state = hard_state
        elif not must_sync:
            return _DEFERRED
        head = b""
        if received is not None:
            head = self._encode_marker(received)
            if hard_state is not None:
                first, self._crc = encode_batch((), hard_state, self._crc)
                head += first
                hard_state = None
        data, self._crc = encode_batch(entries, hard_state, self._crc)
        if entries:
            self._last_index = entries[-1].index
        return self._place(head + data if head else data, must_sync)

    def prepare_snapshot(self, marker: WalSnapshot) -> Batch:
        """Encode the marker of a snapshot whose .snap file is durable. Loop thread only; no I/O.

        Raises:
            ValueError: a snapshot after the empty one lacks its ConfState (etcd
            ``ValidateSnapshotForWrite``). WalFailedError: the log failed before.
        """
        self._check_usable()
        return self._place(self._encode_marker(marker), True)

    def save_snapshot(self, marker: WalSnapshot) -> None:
        """Write the marker of a snapshot and sync. Blocks: where that hurts, submit ``prepare_snapshot``'s
        batch.

        Raises:
            ValueError, WalFailedError, OSError: as ``prepare_snapshot`` and ``flush``.
        """
        self.flush(self.prepare_snapshot(marker))

    def _encode_marker(self, marker: WalSnapshot) -> bytes:
        if marker.conf_state is None and marker.index > 0:
            raise ValueError(f"snapshot marker without ConfState: {marker}")
        data, self._crc = encode_marker(marker, self._crc)
        self._last_index = max(self._last_index, marker.index)
        return data

    def _place(self, data: bytes, must_sync: bool) -> Batch:
        """Give encoded records their place; those that need no sync wait for the next that do."""
        if not must_sync and self._deferred_bytes + len(data) < MAX_DEFERRED_WAL_BYTES:
            self._deferred.append(data)
            self._deferred_bytes += len(data)
            return _DEFERRED
        if self._deferred:
            self._deferred.append(data)
            data = b"".join(self._deferred)
            self._deferred.clear()
            self._deferred_bytes = 0
        offset = self._offset
        self._offset = offset + len(data)
        if self._offset < self._segment_bytes:
            return Batch(data, offset, True)
        head, self._crc = encode_head(self._metadata, self._crc, self._state)
        self._offset = len(head)
        return Batch(data, offset, True, head, self._last_index + 1)

    def _check_usable(self) -> None:
        if self._failure is not None:
            raise WalFailedError(
                f"wal: unusable since an earlier failure: {self._failure}"
            ) from self._failure
        assert self._writable, "the log was opened for reading only"
        assert not self._reading, "read_all comes first"

    # --- writing: the WAL thread's half ---------------------------------------------------------------------

    def flush(self, batch: Batch) -> float:
        """Make a batch durable: one write and sync. WAL thread only, batches in the order they were prepared.

        Returns the seconds that took.

        Raises:
            OSError: the disk's; the log is unusable from then on.
            WalFailedError: it was already.
        """
        self._check_usable()
        if not batch.data:
            return 0.0
        try:
            tail = self._segments[-1]
            started = self._clock()
            if failpoint.enabled:
                self._write_by_steps(tail, batch)
            elif self._unsafe_no_fsync:
                self._disk.pwrite(tail.handle, batch.data, batch.offset)
            else:
                self._disk.write_durable(tail.handle, batch.data, batch.offset)
            took = self._clock() - started
            self.bytes_written += len(batch.data)
            if took > SLOW_FSYNC_SECONDS:
                _LOGGER.warning(
                    "slow fdatasync",
                    extra={"took": f"{took:.3f}s", "expected-duration": f"{SLOW_FSYNC_SECONDS:g}s"},
                )
            if batch.next_head:
                self._cut(tail, batch)
        except BaseException as error:
            self.fail(error)
            raise
        return took

    def write_unsynced(self, batch: Batch) -> int:
        """Write a batch that ends no segment and leave the sync to the caller; returns the file to sync.

        The batch is durable once that file was synced; if that fails, ``fail`` must be called. Instead of
        ``flush``, under its rules.

        Raises:
            OSError: the disk's; the log is unusable from then on.
            WalFailedError: it was already.
        """
        self._check_usable()
        assert not batch.next_head, "a cut is more than a write and a sync"
        tail = self._segments[-1]
        try:
            self._disk.pwrite(tail.handle, batch.data, batch.offset)
        except BaseException as error:
            self.fail(error)
            raise
        self.bytes_written += len(batch.data)
        return tail.handle

    def fail(self, error: BaseException) -> None:
        """Make the log unusable: a write failed, or a sync that the caller took over. Says in the error which
        file it was, which the operating system does not.
        """
        if isinstance(error, OSError) and error.filename is None:
            error.filename = self._segments[-1].path
        self._failure = error

    @property
    def can_sync_outside(self) -> bool:
        """Whether ``write_unsynced`` gives a file that the operating system can sync."""
        return isinstance(self._disk, OsDisk) and not self._unsafe_no_fsync

    def _write_by_steps(self, tail: Segment, batch: Batch) -> None:
        """The same in two calls, so that there is a state between them to fail in."""
        disk = self._disk
        failpoint.hit("wal_before_write")
        cut = failpoint.hit_partial("wal_after_partial_write", len(batch.data))
        if cut >= 0:
            disk.pwrite(tail.handle, batch.data[:cut], batch.offset)
            failpoint.act("wal_after_partial_write")
        disk.pwrite(tail.handle, batch.data, batch.offset)
        failpoint.hit("wal_before_fsync")
        if not self._unsafe_no_fsync:
            disk.fdatasync(tail.handle)
        failpoint.hit("wal_after_fsync")

    def _cut(self, tail: Segment, batch: Batch) -> None:
        """Start the next segment: head, name, directory; in this order a crash may stop it anywhere."""
        disk = self._disk
        disk.truncate(tail.handle, batch.offset + len(batch.data))
        self.make_next_segment()
        fresh = self._next_segment
        assert fresh is not None
        if self._unsafe_no_fsync:
            disk.pwrite(fresh.handle, batch.next_head, 0)
        else:
            disk.write_durable(fresh.handle, batch.next_head, 0)
        self.bytes_written += len(batch.next_head)
        if failpoint.enabled:
            failpoint.hit("wal_cut_before_rename")
        sequence = tail.sequence + 1
        path = os.path.join(self._directory, segment_name(sequence, batch.next_index))
        disk.rename(fresh.path, path)
        self._next_segment = None
        with self._lock:
            self._segments.append(Segment(path, sequence, batch.next_index, fresh.handle))
        if failpoint.enabled:
            failpoint.hit("wal_cut_after_rename")
        if not self._unsafe_no_fsync:
            disk.sync_dir(self._directory)
        if failpoint.enabled:
            failpoint.hit("wal_cut_after_dir_fsync")
        _LOGGER.info("created a new WAL segment", extra={"path": path})

    def make_next_segment(self) -> None:
        """Preallocate the file of the next segment unless that is done. WAL thread, when nobody waits for it.

        The names alternate, so that this is never the one renamed last (etcd ``filePipeline``).

        Raises:
            OSError: the disk's. The log stays usable: the cut will try again.
        """
        if self._next_segment is not None:
            return
        disk = self._disk
        path = os.path.join(self._directory, f"{self._temporary_count % 2}.tmp")
        segment = Segment(path, 0, 0, disk.open(path, write=True, create=True))
        try:
            segment_files.lock_opened(disk, segment)
            disk.truncate(segment.handle, 0)
            disk.preallocate(segment.handle, self._segment_bytes)
        except BaseException:
            disk.close(segment.handle)
            raise
        self._temporary_count += 1
        self._next_segment = segment

    # --- keeping and closing --------------------------------------------------------------------------------

    def release_to(self, index: int) -> None:
        """Let go of the segments that a log read from ``index`` on does not need, so that ``purge`` may take
        them.

        The newest segment that starts before ``index`` is kept, and all after it (etcd ``ReleaseLockTo``).
        """
        with self._lock:
            keep = len(self._segments) - 1
            for at, segment in enumerate(self._segments):
                if segment.index >= index:
                    keep = at - 1
                    break
            if keep <= 0:
                return
            released = self._segments[:keep]
            self._segments = self._segments[keep:]
        for segment in released:
            self._disk.close(segment.handle)

    def close(self) -> None:
        """Write what was deferred, sync, and give every file back. No flush may be under way.

        Raises:
            OSError: the disk's; the files are given back all the same.
        """
        try:
            if self._writable and not self._reading and self._failure is None:
                if self._deferred:
                    self.flush(self._place(b"", True))
                elif not self._unsafe_no_fsync:
                    self._disk.fdatasync(self._segments[-1].handle)
        finally:
            self._reading = True
            self._failure = self._failure or WalFailedError("the log is closed")
            spare = self._next_segment
            self._next_segment = None
            for segment in [*self._segments, *([spare] if spare else [])]:
                if segment.handle >= 0:
                    self._disk.close(segment.handle)
                    segment.handle = -1
            if spare is not None:
                self._disk.unlink(spare.path)

    def segment_paths(self) -> list[str]:
        """The segments held, oldest first."""
        with self._lock:
            return [segment.path for segment in self._segments]

    def check_invariants(self) -> None:
        """Assert what the class promises; for tests and simulation, after every step."""
        assert self._offset % 8 == 0
        with self._lock:
            held = list(self._segments)
        assert held
        for before, after in itertools.pairwise(held):
            assert after.sequence == before.sequence + 1
        if self._writable and self._failure is None:
            assert all(segment.handle >= 0 for segment in held)
        assert self._deferred_bytes == sum(map(len, self._deferred)) < MAX_DEFERRED_WAL_BYTES
