"""The multi-version store: one revision of the whole keyspace per transaction, reads at any of them.

A change is three steps, all on the loop's thread and none of them waiting: the index tells and records the
key's revisions, the KeyValue is serialized, its bytes are appended to the revision tree in the open LMDB
transaction. A read asks the index for revisions and fetches their bytes from the same transaction; nobody
parses them to pass them on. (etcd: ``server/mvcc/kvstore.go``, ``kvstore_txn.go``.)

Nothing here is made durable by a change itself: the Raft log is what keeps an acknowledged write, and
``commit_if_due`` lets the database follow. Set ``consistent_index`` (and ``term``) before the changes of its
entry, and commit only between entries: they are written by every commit into the same LMDB transaction as the
data.

A snapshot from another member replaces everything at once (``install.py``): the same ``Store``, its tables,
its index and its backend go on, with other contents.

Work that grows with the keyspace is done in slices that the caller drives between other things:
``compaction_step`` and the hash jobs (``compaction.py``, ``hash.py``).

Invariants (``check_invariants``): ``compact_revision`` <= ``revision``; every revision in the index is a
record of the tree and, compaction aside, the other way round; the index's own.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from itertools import chain, islice
from typing import Final, final

import lmdb

from kvorum.limits import (
    BACKEND_BATCH_INTERVAL_SECONDS,
    BACKEND_BATCH_LIMIT,
    INITIAL_MAP_BYTES,
    MAP_HEADROOM_BYTES,
    MIN_KEYS_TO_FREEZE,
)
from kvorum.mvcc.backend import META_TABLE, Backend, BackendError, Table
from kvorum.mvcc.compaction import Compaction
from kvorum.mvcc.hash import HashJob, HashKvJob, HashKvResult
from kvorum.mvcc.index import KeyIndex
from kvorum.mvcc.install import Prepared
from kvorum.mvcc.keyvalue import encode_around, encode_key, key_of, revisions_field, varint, without_value
from kvorum.mvcc.revision import after_main, etcd_key, from_etcd_key, main_of, pack_revision, revision
from kvorum.mvcc.view import RangeResult as RangeResult
from kvorum.mvcc.view import ReadView as ReadView
from kvorum.mvcc.view import Statistics as Statistics

# Names and forms of etcd's ``meta`` bucket (``server/mvcc/kvstore.go``, ``server/etcdserver/cindex``).
_CONSISTENT_INDEX: Final = b"consistent_index"
_TERM: Final = b"term"
_CONF_STATE: Final = b"confState"
_SCHEDULED_COMPACT: Final = b"scheduledCompactRev"
_FINISHED_COMPACT: Final = b"finishedCompactRev"

_CHANGES_WORTH_COUNTING: Final = 1000
"""A count at an old revision reads this many changes at least before it looks at each key of its range
instead."""
_NO_COMPACTION: Final = -1
RECORD_OVERHEAD_BYTES: Final = 64
"""Revision, node header and slack of a record in LMDB's pages."""


class CompactedError(Exception):
    """The revision asked for was removed by a compaction."""


class FutureRevisionError(Exception):
    """The revision asked for has not been made yet."""


@final
class Store:
    """The keyspace. Everything is called on one thread; see ``Backend.snapshot`` for readers on others."""

    __slots__ = (
        "_compactions",
        "_consistent_written",
        "_freeze_above",
        "_meta",
        "_writing",
        "backend",
        "compact_revision",
        "compacted_revisions",
        "conf_state",
        "consistent_index",
        "deletes",
        "finished_compact_revision",
        "generation",
        "hash_jobs",
        "index",
        "puts",
        "ranges",
        "restored_leases",
        "revision",
        "term",
        "txns",
    )

    def __init__(self, backend: Backend) -> None:
        """Load what the backend holds; ``Store.open`` makes both.

        Raises:
            BackendError: its tables contradict each other.
        """
        self.backend: Final = backend
        self.index: Final = KeyIndex()
        self._meta: Final = backend.table(META_TABLE)
        self.generation = 0
        """How often the contents have been replaced."""
        self.revision = 1
        """The current revision: that of the last transaction that changed something. An empty store is at
        1."""
        self.compact_revision = _NO_COMPACTION
        """The last revision asked to be compacted, -1 before the first; reads below it fail."""
        self.finished_compact_revision = _NO_COMPACTION
        """The last revision whose compaction has been carried out."""
        self.restored_leases: dict[bytes, int] = {}
        """Keys with leases that were found by opening, for the lessor to take over (and clear)."""
        self.puts = self.deletes = self.ranges = self.txns = self.compacted_revisions = 0
        self.hash_jobs = 0
        """HashKV jobs under way; compaction waits for them."""
        self._writing = False
        self._freeze_above = 0
        self._compactions: list[Compaction] = []
        self.consistent_index = 0
        """Index of the last Raft entry applied."""
        self.term = 0
        """Term of that entry."""
        self.conf_state = b""
        """The serialized Raft configuration, as the caller made it."""
        self._consistent_written = (0, 0, b"")
        records = backend.txn.cursor(backend.key_db).iternext()
        last = self.index.load(records, self.restored_leases)
        self.index.load_finished()
        self._take_position(main_of(last) if last else 0)

    @classmethod
    def open(
        cls,
        path: str,
        *,
        clock: Callable[[], float],
        batch_interval_seconds: float = BACKEND_BATCH_INTERVAL_SECONDS,
        batch_limit: int = BACKEND_BATCH_LIMIT,
        map_bytes: int = INITIAL_MAP_BYTES,
        headroom_bytes: int = MAP_HEADROOM_BYTES,
        on_commit: Callable[[float], None] | None = None,
        beside_loop: bool = False,
    ) -> Store:
        """Open or create the database file and build the index from it.

        The garbage collector is off meanwhile, and what was loaded is frozen: it would only be looked at in
        vain. Unless a loop goes on meanwhile, on another thread: then no step may take long, nor may the
        loop's own garbage be kept.

        Raises:
            BackendError: the file cannot be opened or contradicts itself.
        """
        backend = Backend(
            path,
            clock=clock,
            batch_interval_seconds=batch_interval_seconds,
            batch_limit=batch_limit,
            map_bytes=map_bytes,
            headroom_bytes=headroom_bytes,
            on_commit=on_commit,
        )
        collecting = gc.isenabled() and not beside_loop
        if collecting:
            gc.disable()
        try:
            store = cls(backend)
        except BaseException:
            backend.abandon()
            raise
        finally:
            if collecting:
                gc.enable()
        backend.before_commit = store._write_consistent_index
        backend.remap()
        store._freeze(0 if beside_loop else 1)
        return store

    def _take_position(self, newest_revision: int) -> None:
        """Read from the backend where it stands; ``newest_revision`` is that of its newest record."""
        get = self._meta.get
        self.consistent_index = int.from_bytes(get(_CONSISTENT_INDEX) or b"", "big")
        self.term = int.from_bytes(get(_TERM) or b"", "big")
        self.conf_state = get(_CONF_STATE) or b""
        self._consistent_written = (self.consistent_index, self.term, self.conf_state)
        self.finished_compact_revision = self._marker(_FINISHED_COMPACT)
        scheduled = self._marker(_SCHEDULED_COMPACT)
        self.compact_revision = max(self.finished_compact_revision, scheduled)
        # The newest records may all have been tombstones that a compaction removed.
        self.revision = max(1, self.compact_revision, newest_revision)
        if scheduled > self.finished_compact_revision:
            self._compactions.append(Compaction(self, scheduled, None))

    def install(self, prepared: Prepared) -> None:
        """Replace everything by a database that was prepared aside (``install.prepare``), durably.

        What was not committed here is lost: the snapshot stands for more. ``revision``, ``consistent_index``,
        ``term``, ``conf_state`` and ``restored_leases`` are the new contents'. Tables and the index in other
        hands stay good; read views do not; HashKV jobs begin again, compactions count as done. ``prepared``
        is left with what was here, for ``dispose``.

        Raises:
            BackendError: the disk failed. Either file may be in place then, and each is whole.
        """
        assert not self._writing, "a snapshot inside a transaction"
        aside = prepared.store
        prepared.put_in_place_of(self.backend)
        self.backend.trade(aside.backend)
        self.index.trade(aside.index)
        self.restored_leases, aside.restored_leases = aside.restored_leases, {}
        overtaken, self._compactions = self._compactions, []
        self._take_position(aside.revision)
        self.generation += 1
        self._freeze()
        for job in overtaken:
            if job.on_done is not None:
                job.on_done()

    def _marker(self, name: bytes) -> int:
        value = self._meta.get(name)
        if value is None:
            return _NO_COMPACTION
        try:
            return main_of(from_etcd_key(value))
        except ValueError as error:
            raise BackendError(f"meta/{name.decode()} is no revision: {value!r}") from error

    # --- durability ---------------------------------------------------------------------------------------

    def _write_consistent_index(self) -> None:
        now = (self.consistent_index, self.term, self.conf_state)
        if now == self._consistent_written:
            return
        self._meta.put(_CONSISTENT_INDEX, self.consistent_index.to_bytes(8, "big"))
        self._meta.put(_TERM, self.term.to_bytes(8, "big"))
        if self.conf_state != self._consistent_written[2]:
            self._meta.put(_CONF_STATE, self.conf_state)
        self._consistent_written = now

    @property
    def dirty(self) -> bool:
        """Whether something waits for a commit."""
        return self.backend.pending > 0 or self.consistent_index != self._consistent_written[0]

    def commit(self) -> None:
        """Make everything applied so far durable, together with the consistent index.

        Raises:
            BackendError: the disk failed; see ``backend.py``.
        """
        assert not self._writing, "a commit inside a transaction"
        self.backend.commit()
        if len(self.index) > self._freeze_above:
            self._freeze()

    def _freeze(self, generation: int = 1) -> None:
        """Spare the garbage collector the keys: it would look at each of them in vain."""
        gc.collect(generation)
        gc.freeze()
        self._freeze_above = len(self.index) + max(MIN_KEYS_TO_FREEZE, len(self.index) >> 3)

    def commit_if_due(self, now: float) -> bool:
        """Commit if something waits for it long enough; ``now`` is the clock's. To be called after each apply
        pass and, while ``dirty``, from a timer (``backend.due_in`` tells when)."""
        if self.dirty and self.backend.due_in(now) <= 0:
            self.commit()
            return True
        return False

    def close(self) -> None:
        """Commit and close.

        Raises:
            BackendError: that commit failed.
        """
        assert not self._writing, "closed inside a transaction"
        self.backend.close()

    def table(self, name: bytes) -> Table:
        """Another room's table, in the same transaction as the keys."""
        return self.backend.table(name)

    # --- transactions ---------------------------------------------------------------------------------------

    def write(self) -> WriteTxn:
        """Begin a transaction; the one before must have ended."""
        assert not self._writing, "two write transactions"
        self._writing = True
        return WriteTxn(self)

    def txn_ended(self, txn: WriteTxn) -> None:
        """Take a transaction's changes over as the current revision (called by WriteTxn.end)."""
        self._writing = False
        changes = txn.changes
        if changes:
            self.revision = txn.main
            backend = self.backend
            backend.pending += len(changes)
            backend.pending_bytes += txn.size_bytes
        self.puts += txn.puts
        self.deletes += txn.deletes
        self.ranges += txn.ranges
        if txn.puts + txn.deletes + txn.ranges > 1:
            self.txns += 1

    def read(self) -> ReadView:
        """A view of the current revision; good until the next write."""
        return ReadView(self)

    def get(self, key: bytes) -> bytes | None:
        """The serialized KeyValue of a key at the current revision, None if it does not exist."""
        found = self.index.get(key)
        if found is None:
            return None
        kv = self.backend.txn.get(found, None, self.backend.key_db)
        assert kv is not None, "the index names a record that is not there"
        return kv

    def range(
        self,
        key: bytes,
        range_end: bytes = b"",
        *,
        limit: int = 0,
        revision: int = 0,
        count_only: bool = False,
        keys_only: bool = False,
    ) -> RangeResult:
        """Find keys, at the current revision or an older one.

        Args:
            key: the key, or the first of a range.
            range_end: empty: only the key; one zero byte: from the key on; else: up to it, not included.
            limit: at most so many KeyValues, 0 for all. The count does not mind it.
            revision: 0 for the current one.
            count_only: no KeyValues.
            keys_only: KeyValues without values.

        Raises:
            CompactedError, FutureRevisionError: there is nothing to read at that revision.
        """
        self.ranges += 1
        if not (range_end or revision or count_only or keys_only):
            # By far the most frequent question.
            kv = self.get(key)
            return RangeResult([], 0, self.revision) if kv is None else RangeResult([kv], 1, self.revision)
        return self.range_in(self.revision, key, range_end, limit, revision, count_only, keys_only)

    def range_in(
        self,
        current: int,
        key: bytes,
        range_end: bytes,
        limit: int,
        revision: int,
        count_only: bool,
        keys_only: bool,
    ) -> RangeResult:
        """``range`` as seen from the revision ``current``, which inside a transaction is the one being
        made."""
        if revision > 0 and revision != current:
            if revision > current:
                raise FutureRevisionError
            if revision < self.compact_revision:
                raise CompactedError
            found, count = self._find_at(key, range_end, limit, revision, count_only, current)
        elif not range_end:
            one = self.index.get(key)
            found, count = ([], 0) if one is None else ([one], 1)
        else:
            index = self.index
            end = None if range_end == b"\0" else range_end
            if count_only:
                return RangeResult([], index.count(key, end), current)
            keys = index.keys(key, end, max(limit, 0))
            count = len(keys) if not 0 < limit <= len(keys) else index.count(key, end)
            found = index.revisions(keys)
        if count_only:
            return RangeResult([], count, current)
        kvs = self.fetch(found)
        return RangeResult([without_value(kv) for kv in kvs] if keys_only else kvs, count, current)

    def _find_at(
        self, key: bytes, range_end: bytes, limit: int, main: int, count_only: bool, current: int
    ) -> tuple[list[bytes], int]:
        index = self.index
        if not range_end:
            one = index.get_at(key, main)
            return ([], 0) if one is None else ([one], 1)
        end = None if range_end == b"\0" else range_end
        if not count_only and limit <= 0:
            return index.revisions_at(key, end, main, 0)
        changed = self._changed_keys(main, current, max(_CHANGES_WORTH_COUNTING, index.count(key, end) // 4))
        if changed is None:
            return index.revisions_at(key, end, main, limit)
        count = index.count_by_changes(key, end, main, changed)
        return ([] if count_only else index.page_at(key, end, main, limit)), count

    def _changed_keys(self, since: int, current: int, limit: int) -> set[bytes] | None:
        """The keys changed after a revision, None if more than ``limit`` changes were made."""
        if current - since > limit:
            return None
        records = list(islice(self.records(after_main(since)), limit + 1))
        return None if len(records) > limit else {key_of(kv) for _, kv in records}

    def records(self, start: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Records of the revision tree from a packed revision on: (packed revision, KeyValue bytes). For
        watchers that catch up; nothing may be written or committed while it is iterated."""
        cursor = self.backend.txn.cursor(self.backend.key_db)
        return cursor.iternext() if cursor.set_range(start) else iter(())

    def fetch(self, revisions: list[bytes]) -> list[bytes]:
        """The KeyValues of packed revisions that exist."""
        if len(revisions) < 2:
            txn, db = self.backend.txn, self.backend.key_db
            kvs = [kv for kv in (txn.get(found, None, db) for found in revisions) if kv is not None]
        else:
            kvs = [kv for _, kv in self.backend.txn.cursor(self.backend.key_db).getmulti(revisions)]
        assert len(kvs) == len(revisions), "the index names a record that is not there"
        return kvs

    # --- compaction and hashes ----------------------------------------------------------------------------

    def compact(self, revision: int, on_done: Callable[[], None] | None = None) -> None:
        """Forget what cannot be seen at or after a revision; ``compaction_step`` does the work.

        Reads below the revision fail from now on. ``on_done`` is called when the work is done.

        Raises:
            CompactedError: not above the last compaction's revision.
            FutureRevisionError: above the current revision.
        """
        if revision <= self.compact_revision:
            raise CompactedError
        if revision > self.revision:
            raise FutureRevisionError
        self.compact_revision = revision
        self._meta.put(_SCHEDULED_COMPACT, _marker_bytes(revision))
        self._compactions.append(Compaction(self, revision, on_done))

    @property
    def compacting(self) -> bool:
        """Whether ``compaction_step`` has something to do."""
        return bool(self._compactions)

    def compaction_step(self, budget_seconds: float, clock: Callable[[], float]) -> bool:
        """Work on compactions for about so long, in the order they were asked for; True when none is left.

        Commits by itself after each thousand deletions. Makes no progress while a HashKV job is under way.

        Raises:
            BackendError: the disk failed.
        """
        if not self._compactions:
            return True
        if self.hash_jobs:
            return False
        job = self._compactions[0]
        if job.step(clock() + budget_seconds, clock):
            self._meta.put(_FINISHED_COMPACT, _marker_bytes(job.revision))
            self.finished_compact_revision = job.revision
            del self._compactions[0]
            if job.on_done is not None:
                job.on_done()
        return not self._compactions

    def compact_now(self) -> None:
        """Carry out everything that is scheduled, however long it takes (tools and tests)."""
        while not self.compaction_step(1.0, _stopped_clock):
            assert not self.hash_jobs, "a HashKV job is under way"

    def hash_kv_job(self, revision: int = 0) -> HashKvJob:
        """Begin a HashKV at a revision, 0 for the current one; see ``hash.py``.

        Raises:
            CompactedError, FutureRevisionError: as for ranges, but the compact revision itself is refused
            too.
        """
        if 0 < revision <= self.compact_revision:
            raise CompactedError
        if revision > self.revision:
            raise FutureRevisionError
        return HashKvJob(self, revision or self.revision)

    def hash_kv(self, revision: int = 0) -> HashKvResult:
        """HashKV in one go (tools and tests)."""
        with self.hash_kv_job(revision) as job:
            while not job.step():
                pass
            return job.result

    def hash_job(self) -> HashJob:
        """Begin a hash over the whole database as committed now (commits)."""
        if self.dirty:
            self.commit()
        return HashJob(self.backend)

    def hash(self) -> int:
        """The hash over the whole database in one go (tools and tests)."""
        with self.hash_job() as job:
            while not job.step():
                pass
            return job.result

    # --- looking inside -----------------------------------------------------------------------------------

    def statistics(self) -> Statistics:
        """Figures for metrics and status."""
        backend = self.backend
        return Statistics(
            keys=len(self.index),
            revision=self.revision,
            compact_revision=self.compact_revision,
            size=backend.size,
            size_in_use=backend.size_in_use,
            map_bytes=backend.map_bytes,
            pending=backend.pending,
            commits=backend.commits,
            last_commit_seconds=backend.commit_seconds,
            puts=self.puts,
            deletes=self.deletes,
            ranges=self.ranges,
            txns=self.txns,
            compacted_revisions=self.compacted_revisions,
        )

    def check_invariants(self) -> None:
        """Assert what the module docstring promises; reads everything."""
        assert _NO_COMPACTION <= self.finished_compact_revision <= self.compact_revision <= self.revision
        self.index.check_invariants()
        indexed: dict[bytes, bytes] = {}
        for key, history in self.index.history():
            indexed.update((history[at : at + 12], key) for at in range(0, len(history), 12))
        doomed = set(chain.from_iterable(job.backlog() for job in self._compactions))
        for packed, kv in self.records(b"\0"):
            assert main_of(packed) <= self.revision, "a record above the current revision"
            if packed not in doomed:
                assert indexed.pop(packed, None) == key_of(kv), (
                    f"a record that is not in the index: {packed!r}"
                )
        assert not indexed, f"revisions without records: {indexed}"


def _marker_bytes(main: int) -> bytes:
    return etcd_key(revision(main, 0))


def _stopped_clock() -> float:
    return 0.0


@final
class WriteTxn:
    """Changes that become visible to others at once, as one revision, by ``end``. It sees its own changes.

    There is no undoing: what can be refused must be refused before. Between ``write`` and ``end`` nothing
    else may run.
    """

    __slots__ = (
        "_db",
        "_fresh",
        "_index",
        "_lmdb",
        "_store",
        "changes",
        "deletes",
        "main",
        "puts",
        "ranges",
        "size_bytes",
    )

    _lmdb: lmdb.Transaction[bytes]

    def __init__(self, store: Store) -> None:
        self._store = store
        self._index = store.index
        self._lmdb = store.backend.txn
        self._db = store.backend.key_db
        self.main: Final = store.revision + 1
        """The main revision of this transaction's changes."""
        self.changes: list[bytes] = []
        """KeyValues as events carry them, one per change, in the order of sub revisions: a put's as stored, a
        deletion's with key and mod revision only (``keyvalue.is_delete``)."""
        self._fresh = b""
        self.puts = self.deletes = self.ranges = 0
        self.size_bytes = 0
        """How much the open LMDB transaction has grown by this one, about."""

    @property
    def revision(self) -> int:
        """The revision that answers carry: this transaction's own once it has changed something."""
        return self.main if self.changes else self.main - 1

    def get(self, key: bytes) -> bytes | None:
        """The serialized KeyValue of a key as this transaction sees it: what a put's prev_kv is, if asked
        before."""
        return self._store.get(key)

    def put(self, key: bytes, value: bytes, lease: int = 0) -> bytes:
        """Set a key; returns its serialized KeyValue.

        Raises:
            BackendError: the database failed.
        """
        changes = self.changes
        main = self.main
        packed = pack_revision(main, len(changes) << 1)
        state = self._index.put(key, packed)
        if len(state) == 12:
            revisions = self._fresh
            if not revisions:
                number = varint(main)
                revisions = self._fresh = b"".join((b"\x10", number, b"\x18", number, b"\x20\x01"))
        else:
            revisions = revisions_field(
                int.from_bytes(state[12:20], "big"), main, int.from_bytes(state[20:], "big")
            )
        kv = encode_around(key, revisions, value, lease)
        self._append(packed, kv)
        changes.append(kv)
        self.puts += 1
        return kv

    def _append(self, packed: bytes, kv: bytes) -> None:
        try:
            appended = self._lmdb.put(packed, kv, True, True, True, self._db)
            assert appended, "a revision that is not the newest"
            self.size_bytes += len(kv) + RECORD_OVERHEAD_BYTES
        except lmdb.Error as error:
            raise self._store.backend.fail("write", error) from error

    def delete_range(self, key: bytes, range_end: bytes = b"") -> list[bytes]:
        """Delete keys; returns their serialized KeyValues as they were. Range ends as for ``Store.range``.

        Raises:
            BackendError: the database failed.
        """
        keys = self._keys(key, range_end)
        previous = self._store.fetch(self._index.revisions(keys))
        self._delete(keys)
        return previous

    def delete_range_count(self, key: bytes, range_end: bytes = b"") -> int:
        """``delete_range`` for who wants only the number of keys deleted; cheaper."""
        keys = self._keys(key, range_end)
        self._delete(keys)
        return len(keys)

    def _keys(self, key: bytes, range_end: bytes) -> list[bytes]:
        if not range_end:
            return [key] if self._index.get(key) is not None else []
        return self._index.keys(key, None if range_end == b"\0" else range_end)

    def _delete(self, keys: list[bytes]) -> None:
        self.deletes += 1
        changes = self.changes
        main = self.main
        mod = b"\x18" + varint(main)
        for key in keys:
            packed = pack_revision(main, len(changes) << 1 | 1)
            kv = encode_key(key)
            self._index.tombstone(key, packed)
            self._append(packed, kv)
            changes.append(kv + mod)

    def range(
        self,
        key: bytes,
        range_end: bytes = b"",
        *,
        limit: int = 0,
        revision: int = 0,
        count_only: bool = False,
        keys_only: bool = False,
    ) -> RangeResult:
        """``Store.range``, with this transaction's own changes."""
        self.ranges += 1
        return self._store.range_in(self.revision, key, range_end, limit, revision, count_only, keys_only)

    def end(self) -> int:
        """Make the changes current; returns the revision that is current now."""
        self._store.txn_ended(self)
        return self._store.revision

    def __enter__(self) -> WriteTxn:
        return self

    def __exit__(self, *exc: object) -> None:
        self.end()
