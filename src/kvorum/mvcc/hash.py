"""Hashes over the keyspace and over the database, in slices.

``HashKvJob`` is etcd's HashKV (3.5.1, ``server/mvcc/kvstore.go``: HashByRev), which members and tools
compare, so it must be equal to etcd's for the same history: CRC-32C over the bucket name ``key``, then over
the key and value, in etcd's byte form, of every record up to a revision R, except those at or below the
compact revision that are not what a compaction at R would keep; if that would keep nothing at all, nothing is
excepted.

It runs on the loop through the open transaction, a few milliseconds at a time, while writes go on: what is
newer than R is not looked at, and compaction waits while a job is under way, so R's past does not change
either. (etcd holds its read lock instead, and all writes wait.)

If the store is replaced by a snapshot meanwhile, both jobs begin again with what is there now; a HashKV at a
revision that is not to be had any more, at the current one.

``HashJob`` is Maintenance.Hash: over all tables as committed. Kvorum's tables are its own, so this one is
equal only between Kvorum members that did the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, final

from crc32c import crc32c

from kvorum.mvcc.backend import KEY_TABLE, META_TABLE, Backend, SnapshotExpiredError
from kvorum.mvcc.keyvalue import key_of
from kvorum.mvcc.revision import after_main, etcd_key, is_tombstone

if TYPE_CHECKING:
    from kvorum.mvcc.store import Store

SLICE_RECORDS: Final = 1000
"""Records in one step: 1 to 2 ms."""
_IGNORED_META: Final = (b"consistent_index", b"term")
"""Entries that do not change the data move these (etcd ``buckets.go``: DefaultIgnores)."""


class HashKvResult(NamedTuple):
    """A HashKV: the hash, and the compact and current revisions when it began."""

    hash: int
    compact_revision: int
    revision: int


@final
class HashKvJob:
    """One HashKV. Use as a context manager, or close it: compaction waits for it."""

    def __init__(self, store: Store, revision: int) -> None:
        self._store = store
        self._open = True
        store.hash_jobs += 1
        self._begin(revision)

    def _begin(self, revision: int) -> None:
        store = self._store
        self._revision = revision
        self._generation = store.generation
        self._compact_revision = store.compact_revision
        self._current = store.revision
        self._upper = after_main(revision)
        self._lower = after_main(max(store.compact_revision, 0))
        keeps = bool(store.index.page_at(b"", None, revision, 1))
        # Nothing to keep at R: then whatever the finished compaction has left counts.
        self._kept_before = self._upper if keeps else self._lower
        self._position = b"\0"
        self._crc = crc32c(KEY_TABLE)
        self._done = False

    def step(self, records: int = SLICE_RECORDS) -> bool:
        """Hash the next records; True when done."""
        assert self._open, "a closed job"
        store = self._store
        if self._generation != store.generation:
            there = store.compact_revision < self._revision <= store.revision
            self._begin(self._revision if there else store.revision)
        cursor = store.backend.txn.cursor(store.backend.key_db)
        more = not self._done and cursor.set_range(self._position)
        parts: list[bytes] = []
        for packed, kv in cursor.iternext() if more else ():
            if packed >= self._upper:
                break
            records -= 1
            if records < 0:
                self._position = packed
                self._crc = crc32c(b"".join(parts), self._crc)
                return False
            if packed < self._lower and (
                is_tombstone(packed) or store.index.newest_before(key_of(kv), self._kept_before) != packed
            ):
                continue
            parts += (etcd_key(packed), kv)
        self._crc = crc32c(b"".join(parts), self._crc)
        self._done = True
        return True

    @property
    def result(self) -> HashKvResult:
        """The hash, once ``step`` has said it is done."""
        assert self._done, "not done"
        return HashKvResult(self._crc, self._compact_revision, self._current)

    def close(self) -> None:
        """Let compaction go on."""
        if self._open:
            self._open = False
            self._store.hash_jobs -= 1

    def __enter__(self) -> HashKvJob:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


@final
class HashJob:
    """A hash over the whole database as committed; where its snapshot has to make way, as of then."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._begin()

    def _begin(self) -> None:
        self._snapshot = self._backend.snapshot()
        self._tables = self._snapshot.tables
        self._position = b""
        self._crc = crc32c(self._tables[0])

    def step(self, records: int = SLICE_RECORDS) -> bool:
        """Hash the next records; True when done.

        Raises:
            BackendError: the disk failed.
        """
        if not self._tables:
            return True
        table = self._tables[0]
        try:
            chunk = self._snapshot.chunk(table, self._position, records)
        except SnapshotExpiredError:
            self._begin()
            return False
        parts: list[bytes] = []
        for key, value in chunk:
            if table == META_TABLE and key in _IGNORED_META:
                continue
            parts += (etcd_key(key) if table == KEY_TABLE else key, value)
        if len(chunk) == records:
            self._position = chunk[-1][0]
        else:
            self._position = b""
            del self._tables[0]
            if self._tables:
                parts.append(self._tables[0])
        self._crc = crc32c(b"".join(parts), self._crc)
        return not self._tables

    @property
    def result(self) -> int:
        """The hash, once ``step`` has said it is done."""
        assert not self._tables, "not done"
        return self._crc

    def close(self) -> None:
        """End the snapshot."""
        self._snapshot.close()

    def __enter__(self) -> HashJob:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
