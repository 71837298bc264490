"""Database files as others see them: one in use, read from another process; a new one, written in bulk.

``Committed`` is for a process beside the member's: LMDB lets it read the last committed state while the
member goes on writing, through the lock file beside the database. Until it has ended, the member cannot use
freed pages again, so its file grows by what is written meanwhile. The state is that of one moment, and its
consistent index is in it; which moment is not the reader's to choose. The member may put another file in the
place of the one being opened (``Store.install``). Two files' halves must not be mixed up, so the reader holds
both files against what it was told to expect, after its transaction has begun.

``BulkWriter`` makes a database from records in order. Nothing is durable before ``finish``, and a file that
was not finished is good for nothing.
"""

import os
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Final, NamedTuple, final

import lmdb

from kvorum.limits import BULK_COMMIT_RECORDS, INITIAL_MAP_BYTES, MAP_HEADROOM_BYTES, MAX_BACKEND_TABLES
from kvorum.mvcc.backend import BackendError, lock_path, refuse_cut


class MovedError(Exception):
    """The database is another file than the one that was meant; ask again which it is."""


class FileIdentity(NamedTuple):
    """Which files a database is: the inodes of the data and of its lock."""

    data: int
    lock: int

    @classmethod
    def of(cls, path: str) -> "FileIdentity":
        """The files that are there now.

        Raises:
            OSError: they are not.
        """
        return cls(os.stat(path).st_ino, os.stat(lock_path(path)).st_ino)


@final
class Committed:
    """The last committed state of a database that another process has open. Use as a context manager.

    Args:
        path: the database file.
        map_bytes: address space, as much as the writer has.
        expected: the files that it must be; None for a database that nobody has open.

    Raises:
        MovedError: they are others. BackendError: they cannot be opened.
    """

    def __init__(self, path: str, map_bytes: int, expected: FileIdentity | None) -> None:
        try:
            if expected is not None and FileIdentity.of(path) != expected:
                raise MovedError(path)
            if expected is None:
                refuse_cut(path)
            self._env: Final = lmdb.open(
                path,
                map_size=map_bytes,
                subdir=False,
                readonly=True,
                max_dbs=MAX_BACKEND_TABLES,
                lock=expected is not None,
            )
            try:
                self._txn: Final = self._env.begin()
                if expected is not None and FileIdentity.of(path) != expected:
                    raise MovedError(path)
                names = sorted(self._env.dbs(self._txn))
                self._tables: Final = {
                    name: self._env.open_db(name, self._txn, create=False) for name in names
                }
            except BaseException:
                self._env.close()
                raise
        except (lmdb.Error, OSError) as error:
            raise BackendError(f"cannot read the database {path} beside its writer: {error}") from error

    @property
    def tables(self) -> list[bytes]:
        """Names of the tables, in order."""
        return list(self._tables)

    def get(self, table: bytes, key: bytes) -> bytes | None:
        """The value at a key, None without one."""
        return self._txn.get(key, None, self._tables[table]) if table in self._tables else None

    def records(self, table: bytes) -> Iterator[tuple[bytes, bytes]]:
        """The records of a table in order; none of one that is not there."""
        return self._txn.cursor(self._tables[table]).iternext() if table in self._tables else iter(())

    def close(self) -> None:
        """Let the writer use the pages again."""
        self._txn.abort()
        self._env.close()

    def __enter__(self) -> "Committed":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@final
class BulkTable:
    """A table of a database being made, as ``backend.Table`` would be, for rooms that fill their own."""

    __slots__ = ("_writer", "name")

    def __init__(self, writer: "BulkWriter", name: bytes) -> None:
        self._writer = writer
        self.name: Final = name

    def get(self, key: bytes) -> bytes | None:
        """The value at a key, None without one."""
        return self._writer.get(self.name, key)

    def put(self, key: bytes, value: bytes) -> None:
        """Set a key of 1 to 511 bytes."""
        self._writer.put(self.name, key, value)

    def delete(self, key: bytes) -> bool:
        """Remove a key; False if it was not there."""
        return self._writer.delete(self.name, key)

    def iterate(self, start: bytes = b"", end: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """The records of [start, end) in order; the table must not change meanwhile."""
        for key, value in self._writer.records(self.name, start):
            if end is not None and key >= end:
                return
            yield key, value


@final
class BulkWriter:
    """A new database file. ``finish``, or ``abandon`` and remove the file.

    Args:
        path: where it is made; nothing may be there.
        expected_bytes: how large it will be, about; it may become four times as large.

    Raises:
        BackendError: it cannot be made.
    """

    def __init__(self, path: str, expected_bytes: int) -> None:
        assert not os.path.exists(path), "a database is made anew, never added to"
        self._path: Final = path
        map_bytes = max(INITIAL_MAP_BYTES, 4 * expected_bytes + MAP_HEADROOM_BYTES)
        try:
            # One sync at the end is all that counts: until then the file is nobody's.
            self._env: Final = lmdb.open(
                path,
                map_size=map_bytes,
                subdir=False,
                max_dbs=MAX_BACKEND_TABLES,
                mode=0o600,
                sync=False,
                lock=False,
            )
            self._txn = self._env.begin(write=True)
        except lmdb.Error as error:
            raise self._failed(error) from error
        self._tables: Final[dict[bytes, lmdb._Database]] = {}

    def table(self, name: bytes) -> BulkTable:
        """A table, made if it is not there."""
        self._db(name)
        return BulkTable(self, name)

    def append(self, table: bytes, records: Iterable[tuple[bytes, bytes]]) -> int:
        """Put records that ascend by key into a table that is empty; returns how many.

        Raises:
            BackendError: the disk, or a key that LMDB cannot hold.
        """
        db = self._db(table)
        source = iter(records)
        total = 0
        try:
            for first in source:
                batch = chain((first,), islice(source, BULK_COMMIT_RECORDS - 1))
                consumed, added = self._txn.cursor(db).putmulti(batch, append=True)
                assert consumed == added, "records out of order"
                total += added
                self._txn.commit()
                self._txn = self._env.begin(write=True)
        except lmdb.Error as error:
            raise self._failed(error) from error
        return total

    def get(self, table: bytes, key: bytes) -> bytes | None:
        """The value at a key, None without one."""
        return self._txn.get(key, None, self._db(table))

    def put(self, table: bytes, key: bytes, value: bytes) -> None:
        """Set a key.

        Raises:
            BackendError: the disk, or a key that LMDB cannot hold.
        """
        try:
            self._txn.put(key, value, db=self._db(table))
        except lmdb.Error as error:
            raise self._failed(error) from error

    def delete(self, table: bytes, key: bytes) -> bool:
        """Remove a key; False if it was not there."""
        return self._txn.delete(key, b"", self._db(table))

    def records(self, table: bytes, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """The records of a table from a key on."""
        cursor = self._txn.cursor(self._db(table))
        return cursor.iternext() if not start or cursor.set_range(start) else iter(())

    def finish(self) -> None:
        """Make all of it durable and close the file.

        Raises:
            BackendError: the disk's; the file is good for nothing then.
        """
        try:
            self._txn.commit()
            self._env.sync(True)
        except lmdb.Error as error:
            raise self._failed(error) from error
        self._env.close()

    def abandon(self) -> None:
        """Close the file, which is good for nothing."""
        self._txn.abort()
        self._env.close()

    def _db(self, name: bytes) -> "lmdb._Database":
        db = self._tables.get(name)
        if db is None:
            try:
                db = self._tables[name] = self._env.open_db(name, self._txn)
            except lmdb.Error as error:
                raise self._failed(error) from error
        return db

    def _failed(self, error: Exception) -> BackendError:
        return BackendError(f"cannot write the database {self._path}: {error}")
