"""Checks of a database file at rest, for users (``kvorumutl``) and tests.

Reads the records one by one and believes nothing that the store derives from them:

- every record of the revision tree is a KeyValue of its revision; subs count up from 0 within a transaction
  that no
  compaction has touched
- a put after a put of the same key keeps its create revision and adds one to its version; any other begins at
  1
- a tombstone deletes a key that existed, unless a compaction cut short has already taken what it deleted
- nothing is left at or below the finished compaction that it had to remove
- the markers in ``meta`` are revisions, the finished compaction is not after the scheduled one
"""

from dataclasses import dataclass, field
from typing import Final, final

import lmdb

from kvorum.limits import MAX_BACKEND_TABLES
from kvorum.mvcc.backend import KEY_TABLE, META_TABLE, BackendError
from kvorum.mvcc.keyvalue import KeyValueView, parse
from kvorum.mvcc.revision import REVISION_BYTES, from_etcd_key, is_tombstone, main_of, sub_of

_MAX_PROBLEMS: Final = 100


@dataclass(frozen=True, slots=True)
class Report:
    """What a check found; ``problems`` is empty if all is well, and ends after a hundred."""

    records: int
    keys: int
    revision: int
    consistent_index: int
    scheduled_compact_revision: int
    finished_compact_revision: int
    problems: tuple[str, ...]


@dataclass(slots=True)
class _Key:
    """The newest record of a key so far."""

    main: int
    create: int
    version: int
    alive: bool


@final
@dataclass(slots=True)
class _Checker:
    scheduled: int
    finished: int
    problems: list[str] = field(default_factory=list)
    keys: dict[bytes, _Key] = field(default_factory=dict)
    records: int = 0
    main: int = 0
    next_sub: int = 0

    def problem(self, text: str) -> None:
        if len(self.problems) < _MAX_PROBLEMS:
            self.problems.append(text)

    def record(self, packed: bytes, kv: bytes) -> None:
        self.records += 1
        if len(packed) != REVISION_BYTES:
            self.problem(f"{packed!r} is no revision")
            return
        where = f"revision {main_of(packed)}.{sub_of(packed)}"
        try:
            view = parse(kv)
        except (ValueError, IndexError):
            self.problem(f"{where} is no KeyValue")
            return
        self.order(packed, where)
        before = self.keys.get(view.key)
        if before is not None and main_of(packed) <= self.finished:
            self.problem(f"{where} of {view.key!r} is newer than what compaction {self.finished} has left")
        if is_tombstone(packed):
            self.tombstone(packed, view, before, where)
        else:
            self.put(packed, view, before, where)

    def order(self, packed: bytes, where: str) -> None:
        main, sub = main_of(packed), sub_of(packed)
        if main != self.main:
            self.main, self.next_sub = main, 0
        if sub != self.next_sub and main > max(self.scheduled, self.finished):
            self.problem(f"{where}: expected sub {self.next_sub}")
        self.next_sub = sub + 1

    def tombstone(self, packed: bytes, view: KeyValueView, before: _Key | None, where: str) -> None:
        main = main_of(packed)
        if view.create_revision or view.mod_revision or view.version or view.value_end:
            self.problem(f"{where} is a tombstone with more than its key")
        if main <= self.finished:
            self.problem(f"{where} is a tombstone that compaction {self.finished} had to remove")
        if (before is None or not before.alive) and main > self.scheduled:
            self.problem(f"{where} deletes {view.key!r}, which did not exist")
        self.keys[view.key] = _Key(main, 0, 0, False)

    def put(self, packed: bytes, view: KeyValueView, before: _Key | None, where: str) -> None:
        main = main_of(packed)
        if view.mod_revision != main:
            self.problem(f"{where} says mod revision {view.mod_revision}")
        if before is None:
            # The put that created the key may have been compacted, and only then.
            compacted = view.create_revision <= max(self.scheduled, self.finished)
            fresh = view.version == 1 and view.create_revision == main
            if not fresh and not (compacted and view.version > 1 and view.create_revision <= main):
                self.problem(f"{where} has version {view.version}, create revision {view.create_revision}")
        else:
            create, version = (before.create, before.version + 1) if before.alive else (main, 1)
            if (view.create_revision, view.version) != (create, version):
                self.problem(
                    f"{where} has version {view.version}, create revision {view.create_revision}; "
                    f"expected {version}, {create}"
                )
        self.keys[view.key] = _Key(main, view.create_revision, view.version, True)


def check_database(path: str) -> Report:
    """Check a database file that no member has open.

    Raises:
        BackendError: the file cannot be opened or read.
    """
    try:
        env = lmdb.open(path, subdir=False, readonly=True, lock=False, max_dbs=MAX_BACKEND_TABLES)
    except lmdb.Error as error:
        raise BackendError(f"cannot open the database {path}: {error}") from error
    try:
        with env.begin() as txn:
            meta = env.open_db(META_TABLE, txn, create=False)
            key = env.open_db(KEY_TABLE, txn, create=False)
            scheduled = _marker(txn.get(b"scheduledCompactRev", None, meta))
            finished = _marker(txn.get(b"finishedCompactRev", None, meta))
            checker = _Checker(scheduled or -1, finished or -1)
            if scheduled is None or finished is None or finished > scheduled:
                checker.problem(f"compaction markers: scheduled {scheduled}, finished {finished}")
            for packed, kv in txn.cursor(key).iternext():
                checker.record(packed, kv)
            consistent_index = int.from_bytes(txn.get(b"consistent_index", b"", meta), "big")
    except lmdb.Error as error:
        raise BackendError(f"cannot read the database {path}: {error}") from error
    finally:
        env.close()
    return Report(
        records=checker.records,
        keys=sum(key.alive for key in checker.keys.values()),
        revision=max(1, checker.main, checker.scheduled, checker.finished),
        consistent_index=consistent_index,
        scheduled_compact_revision=checker.scheduled,
        finished_compact_revision=checker.finished,
        problems=tuple(checker.problems),
    )


def _marker(value: bytes | None) -> int | None:
    """The revision of a compaction marker, -1 if it was never set, None if it is none."""
    if value is None:
        return -1
    try:
        return main_of(from_etcd_key(value))
    except ValueError:
        return None
