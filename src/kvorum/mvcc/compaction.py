"""Carrying out a compaction in slices.

To be removed for a compaction at R is, of each key, every revision up to R except the newest, and that one
too if it is a tombstone (etcd ``key_index.go``: compact). etcd walks the whole index and then all revisions
up to R. Here only what changed since the last compaction is walked: a revision is superseded by a later
change of its key, so whoever is to go now has a change of its key between the last compaction and R.

    1. scan   the revision tree in (last compaction, R]; for each record let the index forget what its key has
              to lose
    2. delete those revisions from the tree, in the order of the tree, so that whole pages become free

What the scan finds is kept packed by ranges of revisions, and deleted before it grows beyond its bound. A
crash forgets it: the index is rebuilt from the tree with all that was not deleted, and the scan begins again.
It finds the same: of each key the revisions go oldest first, so that the change that superseded the others is
either kept or goes last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final, final

import lmdb

from kvorum import failpoint
from kvorum.limits import COMPACTION_BATCH, MAX_COMPACTION_BACKLOG_BYTES, MAX_COMPACTION_BATCH_PAGES
from kvorum.mvcc.keyvalue import key_of
from kvorum.mvcc.revision import REVISION_BYTES, after_main, main_of

if TYPE_CHECKING:
    from kvorum.mvcc.store import Store

_SCAN_RECORDS: Final = 64
_DELETE_RECORDS: Final = 64
"""Records between two looks at the clock: some 0.2 ms."""
_SORT_RECORDS: Final = 4096
"""Found revisions put in order at once: 1 ms."""
_PAGE_RECORDS: Final = 8
"""Main revisions in a page of the database, roughly, for an estimate of the pages that deletions touch."""
_BUCKET_SHIFT: Final = 12
"""Found revisions are gathered by 4,096 main revisions."""


def _records(packed: bytes) -> Iterator[bytes]:
    """The revisions in a concatenation."""
    return (packed[at : at + REVISION_BYTES] for at in range(0, len(packed), REVISION_BYTES))


@final
class Compaction:
    """One compaction, at ``revision``; ``step`` until it is done."""

    __slots__ = (
        "_bound",
        "_buckets",
        "_doomed",
        "_found",
        "_position",
        "_scanned",
        "_store",
        "_touched",
        "_uncommitted",
        "on_done",
        "revision",
    )

    def __init__(self, store: Store, revision: int, on_done: Callable[[], None] | None) -> None:
        self._store = store
        self.revision: Final = revision
        self.on_done: Final = on_done
        self._bound: Final = after_main(revision)
        self._position = b""
        self._scanned = False
        self._buckets: dict[int, bytearray] = {}
        self._doomed: list[bytes] = []
        self._found = 0
        self._uncommitted = 0
        self._touched = 0

    def backlog(self) -> Iterator[bytes]:
        """The revisions that the index has forgotten and the tree still has."""
        yield from self._doomed
        for bucket in self._buckets.values():
            yield from _records(bytes(bucket))

    def step(self, until: float, clock: Callable[[], float]) -> bool:
        """Work until the clock says so, at least a little; True when everything is done."""
        while True:
            if self._uncommitted >= COMPACTION_BATCH or self._touched >= MAX_COMPACTION_BATCH_PAGES:
                self._store.commit()
                self._uncommitted = self._touched = 0
            elif self._doomed or (
                self._buckets and (self._scanned or self._found >= MAX_COMPACTION_BACKLOG_BYTES)
            ):
                self._delete()
            elif self._scanned:
                return True
            else:
                self._scan()
            if clock() >= until:
                return self._scanned and not self._doomed and not self._buckets

    def _scan(self) -> None:
        """Look at the next records and let the index forget what they supersede."""
        store = self._store
        if not self._position:
            # Only now, as the compactions before this one are done.
            self._position = after_main(max(store.finished_compact_revision, 0))
        cursor = store.backend.txn.cursor(store.backend.key_db)
        more = cursor.set_range(self._position)
        for _ in range(_SCAN_RECORDS):
            packed = cursor.key() if more else self._bound
            if packed >= self._bound:
                self._scanned = True
                return
            self._position = packed
            gone = store.index.prune(key_of(cursor.value()), self._bound, COMPACTION_BATCH)
            if gone:
                self._gather(gone)
                if len(gone) == COMPACTION_BATCH * REVISION_BYTES:
                    # The key has more to lose: come back to this record.
                    return
            more = cursor.next()
        self._position = cursor.key() if more else self._bound

    def _gather(self, gone: bytes) -> None:
        self._found += len(gone)
        buckets = self._buckets
        for packed in _records(gone):
            number = main_of(packed) >> _BUCKET_SHIFT
            bucket = buckets.get(number)
            if bucket is None:
                buckets[number] = bytearray(packed)
            else:
                bucket += packed

    def _take(self) -> None:
        """Take a piece of the lowest bucket and put it in order.

        What was found of one key was found in the order of revisions, and pieces of a large bucket keep that.
        """
        number = min(self._buckets)
        bucket = self._buckets[number]
        size = min(len(bucket), _SORT_RECORDS * REVISION_BYTES)
        self._doomed = sorted(_records(bytes(bucket[:size])), reverse=True)
        if size == len(bucket):
            del self._buckets[number]
        else:
            del bucket[:size]

    def _delete(self) -> None:
        """Delete some of the lowest revisions found."""
        if failpoint.enabled:
            failpoint.hit("backend_before_compact_slice")
        if not self._doomed:
            self._take()
        doomed = self._doomed[: -_DELETE_RECORDS - 1 : -1]
        del self._doomed[-_DELETE_RECORDS:]
        self._found -= len(doomed) * REVISION_BYTES
        store = self._store
        delete, db = store.backend.txn.delete, store.backend.key_db
        page = b""
        try:
            for packed in doomed:
                deleted = delete(packed, b"", db)
                assert deleted, "a revision of the index was not in the tree"
                if packed > page:
                    # A page holds about so many records; another one is touched.
                    page = after_main(main_of(packed) + _PAGE_RECORDS)
                    self._touched += 1
        except lmdb.Error as error:
            raise store.backend.fail("delete", error) from error
        count = len(doomed)
        store.compacted_revisions += count
        store.backend.note_changes(count, count * 8192)
        self._uncommitted += count
