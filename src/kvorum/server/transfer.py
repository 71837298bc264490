"""Snapshots between members: the database as a file to send, a file that came as the database.

Sending: the database is committed and another process copies what is committed into a bbolt file that has no
name (``snapshot.export``), so a crash leaves nothing. The message then says which index, term and
configuration the process found: those of the copy, which may be a little later than asked for. The v2 tree
travels in the message.

Receiving: the pieces go to a file, another process checks it and makes a database of it
(``snapshot.intake``), a thread builds the index of that. Only then does Raft hear of the snapshot, and
putting it in its place takes a moment (``mvcc.install``). What the steps leave after a crash:
``snapshot.received``.

Source: etcd ``server/etcdserver/snapshot_merge.go``, ``api/snap/db.go``, ``server.go`` (applySnapshot).
"""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from io import FileIO
from typing import IO, Final, TypeVar, final

from kvorum import failpoint, limits
from kvorum.logging import Logger
from kvorum.metrics import Metrics, histogram
from kvorum.mvcc.backend import BackendError, lock_path
from kvorum.mvcc.exchange import FileIdentity
from kvorum.mvcc.install import Prepared, prepare, sync_directory
from kvorum.mvcc.store import Store
from kvorum.raft.types import Message, Snapshot, SnapshotMetadata
from kvorum.snapshot import process
from kvorum.snapshot.export import MOVED, Exported
from kvorum.snapshot.received import TEMPORARY_PREFIX, received_path
from kvorum.snapshot.snap_file import encode_snap_file

T = TypeVar("T")

_EXPORT_ATTEMPTS: Final = 3
"""The database can be replaced while an export starts, not three times in a row."""


class TransferError(ValueError):
    """A snapshot cannot be sent or taken in; one line."""


@final
class OutgoingSnapshot:
    """A snapshot to be sent: Raft's part, and a file with the database. ``close`` it, sent or not."""

    def __init__(self, snapshot: Snapshot, size: int, file: IO[bytes], closed: Callable[[], None]) -> None:
        self.snapshot: Final = snapshot
        self.size: Final = size
        self._file: Final = file
        self._closed: Final = [closed]
        self._open = True

    def when_closed(self, act: Callable[[], None]) -> None:
        """Do this, too, when it is closed."""
        self._closed.append(act)

    async def pieces(self) -> AsyncIterator[bytes]:
        """The database, piece by piece."""
        handle = self._file.fileno()
        ahead = 0
        for at in range(0, self.size, limits.SNAPSHOT_PIECE_BYTES):
            if at >= ahead:
                ahead = at + limits.SNAPSHOT_READ_AHEAD_BYTES
                os.posix_fadvise(handle, ahead, limits.SNAPSHOT_READ_AHEAD_BYTES, os.POSIX_FADV_WILLNEED)
            yield os.pread(handle, min(limits.SNAPSHOT_PIECE_BYTES, self.size - at), at)

    def close(self) -> None:
        """Let the file go; does nothing the second time."""
        if self._open:
            self._open = False
            for act in self._closed:
                act()
            # To give back a large file's blocks takes a while.
            asyncio.get_running_loop().run_in_executor(None, self._file.close)


@final
class SnapshotSource:
    """Makes snapshots of the store, one at a time.

    Args:
        directory: where the files may be; a file system with room for another database.
    """

    def __init__(self, store: Store, directory: str) -> None:
        self._store: Final = store
        self._directory: Final = directory
        self._turn: Final = asyncio.Lock()
        self._outgoing = 0
        self._seconds: Final = histogram("etcd_disk_backend_snapshot_duration_seconds")
        self._to_members = 0
        self._held_until = 0.0

    def bind(self, metrics: Metrics) -> None:
        """Name the source of the metric."""
        metrics.bind("etcd_disk_backend_snapshot_duration_seconds", self._seconds)

    def in_flight(self) -> bool:
        """Whether a member is being sent one, or was so lately that it may not have caught up."""
        return self._to_members > 0 or asyncio.get_running_loop().time() < self._held_until

    async def open_for_member(self) -> OutgoingSnapshot:
        """The same as ``open``, for a member who will need the log behind it.

        Raises: as ``open``.
        """
        self._to_members += 1
        try:
            snapshot = await self.open()
        except BaseException:
            self._to_members -= 1
            raise
        snapshot.when_closed(self._member_served)
        return snapshot

    def _member_served(self) -> None:
        self._to_members -= 1
        self._held_until = asyncio.get_running_loop().time() + limits.SNAPSHOT_RELEASE_DELAY_SECONDS

    async def open(self) -> OutgoingSnapshot:
        """A snapshot of all that is applied now, or a little later.

        Raises:
            OSError: the disk's, or the other process failed. TransferError: too many are being sent.
            BackendError: the database failed.
        """
        if self._outgoing >= limits.MAX_OUTGOING_SNAPSHOTS:
            raise TransferError("too many snapshots are being sent")
        self._outgoing += 1
        started = asyncio.get_running_loop().time()
        try:
            async with self._turn:
                # without a name, or removed at once where there is no such thing
                file = tempfile.TemporaryFile(dir=self._directory, prefix=TEMPORARY_PREFIX)  # noqa: SIM115
                try:
                    exported, v2 = await self._export(file)
                except BaseException:
                    file.close()
                    raise
        except BaseException:
            self._outgoing -= 1
            raise
        position = exported.position
        metadata = SnapshotMetadata(position.conf_state, position.index, position.term)
        return OutgoingSnapshot(Snapshot(v2, metadata), exported.size, file, lambda: self._let_go(started))

    def _let_go(self, started: float) -> None:
        self._outgoing -= 1
        self._seconds.observe(asyncio.get_running_loop().time() - started)

    async def _export(self, file: IO[bytes]) -> tuple[Exported, bytes]:
        backend = self._store.backend
        for _ in range(_EXPORT_ATTEMPTS):
            if self._store.dirty:
                self._store.commit()
            numbers = (backend.map_bytes, *FileIdentity.of(backend.path), file.fileno())
            try:
                done = await process.run(
                    "kvorum.snapshot.export", [backend.path, *map(str, numbers)], [file.fileno()]
                )
            finally:
                # One that was killed still counts as a reader, and keeps pages from being used again.
                backend.forget_dead_readers()
            if done.code != MOVED:
                break
        if done.code:
            raise OSError(f"cannot export the database: {done.trouble}")
        line, _, v2 = done.output.partition(b"\n")
        exported = Exported.from_line(line)
        if len(v2) != exported.v2_bytes:
            raise OSError("cannot export the database: the process did not say all it had to")
        return exported, v2


@final
class SnapshotSink:
    """Takes in databases that other members send, and puts them in the place of the store's.

    Args:
        directory: the snap directory.
        open_aside: opens a database as the store was opened; called on a thread.
    """

    def __init__(self, store: Store, directory: str, open_aside: Callable[[str], Store], log: Logger) -> None:
        self._store: Final = store
        self._directory: Final = directory
        self._open_aside: Final = open_aside
        self._log: Final = log
        self._thread: Final = ThreadPoolExecutor(1, "kvorum-transfer")
        self._turn: Final = asyncio.Lock()
        self._receiving: Final[set[int]] = set()
        self._prepared: Final[dict[int, Prepared]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._save_seconds: Final = histogram("etcd_snap_db_save_total_duration_seconds")
        self._sync_seconds: Final = histogram("etcd_snap_db_fsync_duration_seconds")

    def bind(self, metrics: Metrics) -> None:
        """Name the source of each metric; saving a database includes checking and preparing it."""
        metrics.bind("etcd_snap_db_save_total_duration_seconds", self._save_seconds)
        metrics.bind("etcd_snap_db_fsync_duration_seconds", self._sync_seconds)

    async def receive(self, message: Message, pieces: AsyncIterator[bytes]) -> None:
        """Store, check and prepare the database that comes with a MsgSnap; then it can be installed.

        Raises:
            TransferError: it is not sound, or one of that index is being received, or too many wait.
            OSError: the disk's, or the rest did not come. Nothing of it remains after either.
        """
        index = message.snapshot.metadata.index
        self._drop_stale()
        if index in self._receiving:
            raise TransferError(f"a snapshot at index {index} is being received already")
        if index in self._prepared:
            async for _ in pieces:
                pass
            return
        if len(self._prepared) + len(self._receiving) >= limits.MAX_PREPARED_SNAPSHOTS:
            raise TransferError("other snapshots that were received have not been installed yet")
        self._receiving.add(index)
        started = asyncio.get_running_loop().time()
        try:
            self._prepared[index] = await self._take_in(message.snapshot, pieces)
        finally:
            self._receiving.discard(index)
        self._save_seconds.observe(asyncio.get_running_loop().time() - started)
        if self._timer is not None:
            self._timer.cancel()
        self._look_later()

    def install(self, index: int) -> None:
        """Put the database received for the snapshot at ``index`` in the place of the store's contents.

        Raises:
            BackendError: the disk failed.
        """
        prepared = self._prepared.pop(index, None)
        if prepared is None:
            # It was prepared before Raft heard of it; somebody asks twice, or for what never came.
            raise BackendError(f"no database was received for the snapshot at index {index}")
        self._store.install(prepared)
        self._thread.submit(prepared.dispose)
        self._drop_stale()

    def _look_later(self) -> None:
        """Raft need not take a snapshot: what was prepared for nothing is found in a while."""
        if self._prepared and not self._closed:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(limits.PREPARED_SNAPSHOT_LOOK_SECONDS, self._look)

    def _look(self) -> None:
        self._drop_stale()
        self._look_later()

    def _drop_stale(self) -> None:
        """Let go of what Raft had no use for: the store is as new, or newer."""
        for index in [index for index in self._prepared if index <= self._store.consistent_index]:
            self._thread.submit(self._discard, self._prepared.pop(index))

    def _discard(self, prepared: Prepared) -> None:
        prepared.dispose()
        _remove(prepared.path, lock_path(prepared.path))

    def close(self) -> None:
        """Let go of everything; what waits to be installed is removed by the next start."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for prepared in self._prepared.values():
            prepared.store.backend.abandon()
        self._prepared.clear()
        self._thread.shutdown(wait=False, cancel_futures=True)

    # --- one snapshot ---------------------------------------------------------------------------------------

    async def _take_in(self, snapshot: Snapshot, pieces: AsyncIterator[bytes]) -> Prepared:
        directory = await self._aside(tempfile.mkdtemp, "", TEMPORARY_PREFIX, self._directory)
        source, message, target = (os.path.join(directory, name) for name in ("db", "message", "lmdb"))
        path = received_path(self._directory, snapshot.metadata.index)
        try:
            size = await self._write(source, pieces)
            self._log.info("saved database snapshot to disk", path=source, bytes=size)
            await self._aside(_write_file, message, encode_snap_file(snapshot))
            async with self._turn:
                await self._convert(source, target, message)
                await self._aside(_rename, target, path)
                return await self._aside(prepare, self._open_aside, path)
        except BaseException as error:
            await self._aside(_remove, path, lock_path(path))
            if isinstance(error, BackendError):
                raise TransferError(str(error)) from error
            raise
        finally:
            await self._aside(_remove_directory, directory, source, message, target)

    async def _write(self, path: str, pieces: AsyncIterator[bytes]) -> int:
        """Write the pieces to a file; returns how many bytes there were."""
        total = 0
        with await self._aside(FileIO, path, "w") as file:
            waiting: list[bytes] = []
            size = 0
            async for piece in pieces:
                waiting.append(piece)
                size += len(piece)
                if size >= limits.SNAPSHOT_WRITE_BYTES:
                    await self._aside(_write_all, file, b"".join(waiting))
                    total += size
                    waiting, size = [], 0
            await self._aside(_write_all, file, b"".join(waiting))
        return total + size

    async def _convert(self, source: str, target: str, message: str) -> None:
        done = await process.run("kvorum.snapshot.intake", [source, target, message])
        if done.code:
            raise TransferError(f"the snapshot that was received is not sound: {done.trouble}")
        counts, *left_out = done.output.decode().splitlines()
        records, seconds = counts.split()
        self._sync_seconds.observe(float(seconds))
        self._log.info("took in a database snapshot", records=int(records))
        if left_out:
            self._log.warn("left out buckets that are unknown here", buckets=left_out)

    async def _aside(self, work: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)


def _write_all(file: FileIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def _write_file(path: str, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)


def _rename(source: str, target: str) -> None:
    if failpoint.enabled:
        failpoint.hit("received_before_rename")
    os.rename(source, target)
    if failpoint.enabled:
        failpoint.hit("received_after_rename")
    sync_directory(os.path.dirname(target))


def _remove(*paths: str) -> None:
    for path in paths:
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass


def _remove_directory(directory: str, *paths: str) -> None:
    _remove(*paths)
    os.rmdir(directory)
