"""Long readers of the database: the committed state at one moment, in pieces, on any thread."""

from __future__ import annotations

from itertools import islice
from threading import Lock
from typing import TYPE_CHECKING, final

import lmdb

if TYPE_CHECKING:
    from lmdb import _Database

    from kvorum.mvcc.backend import Backend


class SnapshotExpiredError(Exception):
    """A long reader had to make way for the growing map; it can begin again."""


@final
class Snapshot:
    """The committed state at one moment, for long readers on any thread.

    Close it soon: while it is open, LMDB cannot reuse pages that are freed, so the file grows.
    """

    def __init__(
        self, backend: Backend, txn: lmdb.Transaction[bytes], tables: dict[bytes, _Database]
    ) -> None:
        self._backend = backend
        self._txn: lmdb.Transaction[bytes] | None = txn
        self._tables = tables
        self._lock = Lock()

    @property
    def tables(self) -> list[bytes]:
        """Names of the tables, in order."""
        return sorted(self._tables)

    def chunk(self, table: bytes, after: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Up to ``limit`` records of a table in order, those behind the key ``after`` (empty: from the
        first).

        Raises:
            SnapshotExpiredError: the snapshot was closed or had to make way.
        """
        with self._lock:
            if self._txn is None:
                raise SnapshotExpiredError
            return chunk_of(self._txn, self._tables[table], after, limit)

    def close(self) -> None:
        """End the read transaction; does nothing the second time."""
        with self._lock:
            if self._txn is not None:
                self._txn.abort()
                self._txn = None
        self._backend.snapshots.discard(self)

    def __enter__(self) -> Snapshot:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def chunk_of(
    txn: lmdb.Transaction[bytes], db: _Database, after: bytes, limit: int
) -> list[tuple[bytes, bytes]]:
    """Up to ``limit`` records of a table in order, those behind the key ``after`` (empty: from the first)."""
    cursor = txn.cursor(db)
    if after:
        if not cursor.set_range(after):
            return []
        records = list(islice(cursor.iternext(), limit + 1))
        return records[1:] if records[0][0] == after else records[:limit]
    return list(islice(cursor.iternext(), limit))
