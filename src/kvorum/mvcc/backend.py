"""The database file: an LMDB environment with one write transaction always open.

Everything applied goes straight into that transaction, on the loop's own thread, and everybody reads through
it, so there is no second copy of what is not yet on disk. ``commit`` makes it durable with a real sync and
opens the next. What must agree is put between two commits: LMDB then guarantees that a crash shows all of it
or nothing.

When to commit (``commit_if_due``): after ``batch_interval`` or ``batch_limit`` operations as in etcd, but a
commit holds the loop, so the pause before it is at least 20 times as long as the last commit took, within the
bounds of ``limits``.

The map: LMDB reserves address space for the database and cannot grow it inside a transaction, and a
transaction that has once met a full map can only be thrown away, with all that it held. So the map is made
larger between two transactions, long before it is full: it must always have room for as much again as is
used, plus ``MAP_HEADROOM_BYTES``.

Long readers use a ``Snapshot``, a read transaction on the committed state, also from other threads. The map
cannot grow under them; if it must, they are expired and their readers told.

Another database can take this one's place while everybody keeps the same ``Backend`` and ``Table`` objects
(``trade``); what a member does with a snapshot it was sent.

A commit that failed is never tried again: after a failed fsync the kernel may have dropped the pages it could
not write and report success the next time. The backend is then unusable, every call raises BackendError, and
the process has to stop; what the disk holds is the state before that commit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from os import path as paths
from typing import TYPE_CHECKING, Final, final

import lmdb

from kvorum import failpoint
from kvorum.limits import (
    BACKEND_BATCH_INTERVAL_SECONDS,
    BACKEND_BATCH_LIMIT,
    COMMIT_SECONDS_PER_OPERATION,
    COMMIT_TIME_SHARE,
    INITIAL_MAP_BYTES,
    MAP_HEADROOM_BYTES,
    MAX_BACKEND_TABLES,
    MAX_COMMIT_BYTES,
    MAX_COMMIT_INTERVAL_SECONDS,
    MAX_COMMIT_OPERATIONS_FACTOR,
)
from kvorum.mvcc.reader import Snapshot as Snapshot
from kvorum.mvcc.reader import SnapshotExpiredError as SnapshotExpiredError
from kvorum.mvcc.reader import chunk_of
from kvorum.mvcc.whole import missing_from

if TYPE_CHECKING:
    from lmdb import _Database

KEY_TABLE: Final = b"key"
META_TABLE: Final = b"meta"


def lock_path(path: str) -> str:
    """LMDB's name for the lock file of a database."""
    return path + "-lock"


class BackendError(Exception):
    """The database failed or is inconsistent: the process must stop, nothing more may be acknowledged."""


@final
class Table:
    """A named table of the database, read and written in the open transaction."""

    __slots__ = ("_backend", "_db", "name")

    def __init__(self, backend: Backend, name: bytes, db: _Database) -> None:
        self._backend = backend
        self._db = db
        self.name: Final = name

    def rebind(self, db: _Database) -> None:
        """The backend holds another database now."""
        self._db = db

    def get(self, key: bytes) -> bytes | None:
        """The value at a key, None if there is none."""
        return self._backend.txn.get(key, None, self._db)

    def put(self, key: bytes, value: bytes) -> None:
        """Set the value at a key of 1 to 511 bytes."""
        backend = self._backend
        try:
            backend.txn.put(key, value, db=self._db)
        except lmdb.Error as error:
            raise backend.fail("write", error) from error
        backend.note_changes(1, len(key) + len(value) + 8192)

    def delete(self, key: bytes) -> bool:
        """Remove a key; False if it was not there."""
        backend = self._backend
        try:
            deleted = backend.txn.delete(key, b"", self._db)
        except lmdb.Error as error:
            raise backend.fail("delete", error) from error
        backend.note_changes(1, 8192)
        return deleted

    def iterate(self, start: bytes = b"", end: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """The records of [start, end) in order; the table must not change and nothing be committed
        meanwhile."""
        cursor = self._backend.txn.cursor(self._db)
        if not (cursor.set_range(start) if start else cursor.first()):
            return
        for key, value in cursor.iternext():
            if end is not None and key >= end:
                return
            yield key, value

    def chunk(self, after: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Up to ``limit`` records in order, those behind the key ``after`` (empty: from the first)."""
        return chunk_of(self._backend.txn, self._db, after, limit)

    def __len__(self) -> int:
        return int(self._backend.txn.stat(self._db)["entries"])


def refuse_cut(path: str) -> None:
    """Look whether a file lacks its end, which LMDB would find out by a signal that ends the process.

    Raises:
        BackendError: it does.
    """
    missing = missing_from(path) if paths.exists(path) else None
    if missing is not None:
        raise BackendError(
            f"the database {path} was cut short: {missing}; restore the member's directory as a whole, or"
            " from a snapshot"
        )


@final
class Backend:
    """The environment, its open write transaction, its tables.

    Args:
        path: the database file; its directory must exist. A lock file is made beside it.
        clock: monotonic seconds.
        batch_interval_seconds, batch_limit: when a commit is due.
        map_bytes, headroom_bytes: address space at first, and how much of it must be free besides as much as
        is used. before_commit: called before each commit, to put what must be in it. on_commit: called after
        each with the seconds it took.

    Raises:
        BackendError: the file cannot be opened.
    """

    __slots__ = (
        "_batch_interval",
        "_batch_limit",
        "_clock",
        "_env",
        "_failure",
        "_handed_out",
        "_headroom",
        "_last_commit_at",
        "_map_bytes",
        "_page_bytes",
        "_tables",
        "_waiting_saves",
        "before_commit",
        "commit_seconds",
        "commits",
        "key_db",
        "meta_db",
        "on_commit",
        "path",
        "pending",
        "pending_bytes",
        "size",
        "snapshots",
        "txn",
    )

    txn: lmdb.Transaction[bytes]

    def __init__(
        self,
        path: str,
        *,
        clock: Callable[[], float],
        batch_interval_seconds: float = BACKEND_BATCH_INTERVAL_SECONDS,
        batch_limit: int = BACKEND_BATCH_LIMIT,
        map_bytes: int = INITIAL_MAP_BYTES,
        headroom_bytes: int = MAP_HEADROOM_BYTES,
        before_commit: Callable[[], None] | None = None,
        on_commit: Callable[[float], None] | None = None,
    ) -> None:
        self.path: Final = path
        self._clock = clock
        self._batch_interval = batch_interval_seconds
        self._batch_limit = batch_limit
        self._headroom = headroom_bytes
        self.before_commit = before_commit
        self.on_commit = on_commit
        self._failure: BackendError | None = None
        self._handed_out: Final[dict[bytes, Table]] = {}
        self.snapshots: set[Snapshot] = set()
        self.commits = 0
        self.commit_seconds = 0.0
        """How long the last commit took."""
        self._waiting_saves = 0.0
        self.pending = self.pending_bytes = self.size = 0
        self._last_commit_at = clock()
        refuse_cut(path)
        try:
            self._env = lmdb.open(
                path, map_size=map_bytes, subdir=False, max_dbs=MAX_BACKEND_TABLES, mode=0o600
            )
            self._map_bytes = map_bytes
            self._page_bytes = int(self._env.stat()["psize"])
            with self._env.begin() as txn:
                names = {*self._env.dbs(txn), KEY_TABLE, META_TABLE}
            self._begin()
            self._tables = {name: self._env.open_db(name, self.txn) for name in sorted(names)}
            self.txn.commit()
            self._begin()
        except lmdb.Error as error:
            raise BackendError(f"cannot open the database {path}: {error}") from error
        self.key_db = self._tables[KEY_TABLE]
        self.meta_db = self._tables[META_TABLE]

    # --- the open transaction -----------------------------------------------------------------------------

    def _begin(self) -> None:
        info = self._env.info()
        self.size = (info["last_pgno"] + 1) * self._page_bytes
        self._map_bytes = info["map_size"]
        if self._map_bytes < 2 * (self.size + self._headroom):
            self._grow_map()
        self.txn = self._env.begin(write=True)
        self.pending = self.pending_bytes = 0

    def _grow_map(self) -> None:
        """Double the map, between two write transactions."""
        if self.snapshots:
            if self._map_bytes >= 2 * self.size + self._headroom:
                return
            for snapshot in list(self.snapshots):
                snapshot.close()
        while self._map_bytes < 2 * (self.size + self._headroom):
            self._map_bytes *= 2
        self._env.set_mapsize(self._map_bytes)

    def remap(self) -> None:
        """Let go of the pages that were read, which count as the process's memory; nothing may be pending."""
        assert not self.pending
        assert not self.snapshots
        self.txn.abort()
        self._env.set_mapsize(self._map_bytes)
        self._begin()

    def rest(self) -> None:
        """End the open transaction and begin no other, so that another thread may ``trade``; nothing may be
        pending."""
        assert not self.pending
        self.txn.abort()

    def trade(self, other: Backend) -> None:
        """Take another backend's database, which rests, and give it this one's, which rests then.

        What was not committed here is lost. Snapshots are closed; tables that were handed out are those of
        the new database, made where it has none.

        Raises:
            BackendError: the disk failed, now or before.
        """
        if self._failure is not None:
            raise self._failure
        for snapshot in list(self.snapshots):
            snapshot.close()
        self.txn.abort()
        self._env, other._env = other._env, self._env
        self._tables, other._tables = other._tables, self._tables
        self._page_bytes, other._page_bytes = other._page_bytes, self._page_bytes
        self.key_db, self.meta_db = self._tables[KEY_TABLE], self._tables[META_TABLE]
        try:
            self._begin()
            for table in self._handed_out.values():
                table.rebind(self._db(table.name))
        except (lmdb.Error, OSError) as error:
            raise self.fail("begin a transaction", error) from error

    def note_changes(self, operations: int, size_bytes: int) -> None:
        """Count what was written into the open transaction."""
        self.pending += operations
        self.pending_bytes += size_bytes

    def fail(self, what: str, error: Exception) -> BackendError:
        """Make the backend unusable; returns the error to raise."""
        self._failure = BackendError(f"the database failed to {what}: {error}")
        return self._failure

    def commit(self) -> None:
        """Make everything written so far durable.

        Raises:
            BackendError: the disk failed, now or before. Nothing since the last commit may be relied on.
        """
        if self._failure is not None:
            raise self._failure
        if self.before_commit is not None:
            self.before_commit()
        started = self._clock()
        pending = self.pending
        try:
            if failpoint.enabled:
                failpoint.hit("backend_before_commit")
            self.txn.commit()
        except (lmdb.Error, OSError) as error:
            raise self.fail("commit", error) from error
        try:
            if failpoint.enabled:
                failpoint.hit("backend_after_commit")
            self._begin()
        except (lmdb.Error, OSError) as error:
            raise self.fail("begin a transaction", error) from error
        self._last_commit_at = self._clock()
        self.commit_seconds = self._last_commit_at - started
        self._waiting_saves = self.commit_seconds - pending * COMMIT_SECONDS_PER_OPERATION
        self.commits += 1
        if self.on_commit is not None:
            self.on_commit(self.commit_seconds)

    def due_in(self, now: float) -> float:
        """Seconds until a commit is due if something waits for one; zero or less: now."""
        if self.pending_bytes >= MAX_COMMIT_BYTES:
            return 0.0
        rest = min(self._waiting_saves * COMMIT_TIME_SHARE, MAX_COMMIT_INTERVAL_SECONDS)
        if self.pending >= self._batch_limit:
            if self.pending >= self._batch_limit * MAX_COMMIT_OPERATIONS_FACTOR:
                return 0.0
        else:
            rest = max(rest, self._batch_interval)
        return self._last_commit_at + rest - now

    def close(self) -> None:
        """Commit, unless the backend has failed, and close the file.

        Raises:
            BackendError: that commit failed; the file is closed all the same.
        """
        try:
            if self._failure is None:
                self.commit()
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Close the file without a commit, as a crash would."""
        for snapshot in list(self.snapshots):
            snapshot.close()
        self.txn.abort()
        self._env.close()
        self._failure = self._failure or BackendError("the database is closed")

    # --- tables, readers, sizes ---------------------------------------------------------------------------

    def table(self, name: bytes) -> Table:
        """The table of that name; made, in the open transaction, if there is none."""
        table = self._handed_out.get(name)
        if table is None:
            table = self._handed_out[name] = Table(self, name, self._db(name))
        return table

    def _db(self, name: bytes) -> _Database:
        db = self._tables.get(name)
        if db is None:
            try:
                db = self._tables[name] = self._env.open_db(name, self.txn)
            except lmdb.Error as error:
                raise self.fail(f"make the table {name!r}", error) from error
            self.note_changes(1, 16384)
        return db

    def snapshot(self) -> Snapshot:
        """Commit what is pending and open a read transaction on the result."""
        if self.pending:
            self.commit()
        if self._failure is not None:
            raise self._failure
        snapshot = Snapshot(self, self._env.begin(), dict(self._tables))
        self.snapshots.add(snapshot)
        return snapshot

    def forget_dead_readers(self) -> None:
        """Give back what a process that read the database held when it died (``exchange.Committed``)."""
        self._env.reader_check()

    @property
    def map_bytes(self) -> int:
        """Address space of the map."""
        return self._map_bytes

    @property
    def size_in_use(self) -> int:
        """Bytes of pages that hold data, in the open transaction (``size`` is the file, with its free
        pages)."""
        stats = [self.txn.stat(db) for db in (None, *self._tables.values())]
        pages = sum(stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"] for stat in stats)
        return (2 + int(pages)) * self._page_bytes
