"""Compaction in slices: cut short by crashes, waiting for hashes, and what a check of the file says."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import lmdb
import pytest

from kvorum.mvcc.check import check_database
from kvorum.mvcc.keyvalue import encode, encode_key
from kvorum.mvcc.revision import main_of, revision
from kvorum.mvcc.store import CompactedError, Store


def no_time() -> float:
    return 0.0


def open_store(path: Path) -> Store:
    return Store.open(str(path), clock=no_time)


def write_history(path: Path, seed: int, transactions: int) -> Store:
    """A history in which one key is overwritten all the time and others are deleted and made again."""
    random_ = random.Random(seed)
    store = open_store(path)
    for _ in range(transactions):
        with store.write() as txn:
            txn.put(b"often", b"%d" % random_.randrange(100))
            key = b"%d" % random_.randrange(300)
            if random_.random() < 0.3:
                txn.delete_range_count(key)
            else:
                txn.put(key, b"x" * random_.randrange(100))
            if random_.random() < 0.01:
                txn.delete_range_count(b"1", b"2")
    store.commit()
    return store


def contents(store: Store) -> list[tuple[bytes, bytes]]:
    return list(store.records(b"\0"))


def test_resumed_after_a_crash_at_each_slice(tmp_path: Path) -> None:
    store = write_history(tmp_path / "db", 1, 2500)
    store.compact(store.revision // 3)
    store.compact_now()
    at = store.revision - 50
    store.compact(at)
    store.commit()
    store.backend.abandon()
    shutil.copy(tmp_path / "db", tmp_path / "start")

    store = open_store(tmp_path / "db")
    assert store.compacting
    steps = 0
    while not store.compaction_step(0.0, no_time):
        steps += 1
    expected, expected_hash = contents(store), store.hash_kv()
    store.close()
    assert steps > 50

    for cut in range(0, steps + 1, 3):
        path = tmp_path / f"cut{cut}"
        shutil.copy(tmp_path / "start", path)
        store = open_store(path)
        for _ in range(cut):
            store.compaction_step(0.0, no_time)
        store.check_invariants()
        assert store.hash_kv() == expected_hash
        store.commit()
        store.backend.abandon()
        store = open_store(path)
        assert store.compact_revision == at
        store.check_invariants()
        assert store.hash_kv() == expected_hash
        with pytest.raises(CompactedError):
            store.range(b"often", revision=at - 1)
        store.compact_now()
        assert contents(store) == expected
        store.check_invariants()
        store.close()
        report = check_database(str(path))
        assert (report.problems, report.finished_compact_revision) == ((), at)
        path.unlink()


def test_compactions_queue_and_tell_when_they_are_done(tmp_path: Path) -> None:
    store = write_history(tmp_path / "db", 2, 300)
    done: list[int] = []

    def note(number: int) -> Callable[[], None]:
        return lambda: done.append(number)

    store.compact(100, note(100))
    store.compaction_step(0.0, no_time)
    store.compact(200, note(200))
    store.compact(store.revision, note(0))
    assert store.compact_revision == store.revision
    store.compact_now()
    assert done == [100, 200, 0]
    assert store.finished_compact_revision == store.revision
    assert len(contents(store)) == len(store.index)
    store.check_invariants()
    store.close()


def test_work_stops_when_the_budget_is_spent(tmp_path: Path) -> None:
    store = write_history(tmp_path / "db", 3, 3000)
    store.compact(store.revision)
    looks = 0

    def clock() -> float:
        nonlocal looks
        looks += 1
        return float(looks)

    # The first look sets the end, so a budget of 3 is three pieces of work: 64 records at most, or a commit.
    before = store.statistics().compacted_revisions
    while not store.compaction_step(3.0, clock):
        assert looks == 4
        looks = 0
        now = store.statistics().compacted_revisions
        assert now - before <= 3 * 64
        before = now
    assert store.statistics().commits > 3
    store.close()


def test_compaction_waits_for_a_hash(tmp_path: Path) -> None:
    store = write_history(tmp_path / "db", 4, 500)
    expected = store.hash_kv(400)
    job = store.hash_kv_job(400)
    job.step(10)
    store.compact(450)
    for _ in range(3):
        assert not store.compaction_step(1.0, no_time)
        with store.write() as txn:
            txn.put(b"often", b"more")
            txn.delete_range_count(b"2", b"3")
        store.commit()
        job.step(10)
    while not job.step(100):
        pass
    assert job.result == expected
    job.close()
    job.close()
    assert store.hash_jobs == 0
    store.compact_now()
    store.check_invariants()
    store.close()


def test_deleting_everything_and_compacting_keeps_the_revision(tmp_path: Path) -> None:
    store = write_history(tmp_path / "db", 5, 100)
    with store.write() as txn:
        txn.delete_range(b"\0", b"\0")
    last = store.revision
    store.compact(last)
    store.compact_now()
    assert contents(store) == []
    assert store.hash_kv().revision == last
    store.close()
    store = open_store(tmp_path / "db")
    assert (store.revision, store.compact_revision) == (last, last)
    with store.write() as txn:
        txn.put(b"new", b"life")
    assert store.revision == last + 1
    store.close()


def test_the_hash_of_the_database_is_that_of_its_contents(tmp_path: Path) -> None:
    one, other = write_history(tmp_path / "one", 6, 200), write_history(tmp_path / "other", 6, 200)
    one.consistent_index, one.term = 9, 3
    assert one.hash() == other.hash()
    one.table(b"lease").put(b"1", b"")
    assert one.hash() != other.hash()
    other.table(b"lease").put(b"1", b"")
    assert one.hash() == other.hash()
    with one.hash_job() as job:
        while not job.step(7):
            with one.write() as txn:
                txn.put(b"often", b"")
        assert job.result == other.hash()
    one.close()
    other.close()


@pytest.mark.parametrize(
    ("records", "problem"),
    [
        ([(revision(2, 0), encode(b"k", 2, 2, 1, b"", 0)), (revision(3, 0), b"\xff")], "no KeyValue"),
        ([(revision(2, 0), encode(b"k", 3, 3, 1, b"", 0))], "mod revision 3"),
        ([(revision(2, 1), encode(b"k", 2, 2, 1, b"", 0))], "expected sub 0"),
        ([(revision(2, 0), encode(b"k", 2, 2, 2, b"", 0))], "version 2"),
        (
            [
                (revision(2, 0), encode(b"k", 2, 2, 1, b"", 0)),
                (revision(3, 0), encode(b"k", 2, 3, 3, b"", 0)),
            ],
            "expected 2, 2",
        ),
        ([(revision(2, 0, True), encode_key(b"k"))], "did not exist"),
        ([(revision(2, 0, True), encode(b"k", 2, 2, 1, b"", 0))], "more than its key"),
        ([(b"short", b"")], "no revision"),
    ],
)
def test_a_check_finds_what_is_wrong(
    tmp_path: Path, records: list[tuple[bytes, bytes]], problem: str
) -> None:
    open_store(tmp_path / "db").close()
    with lmdb.open(str(tmp_path / "db"), subdir=False, max_dbs=32) as env, env.begin(write=True) as txn:
        for key, value in records:
            txn.put(key, value, db=env.open_db(b"key", txn))
    report = check_database(str(tmp_path / "db"))
    assert any(problem in text for text in report.problems), report


def test_a_check_finds_what_compaction_has_left(tmp_path: Path) -> None:
    store = write_history(tmp_path / "db", 7, 300)
    before = contents(store)
    store.compact(200)
    store.compact_now()
    kept = {packed for packed, _ in contents(store)}
    store.close()
    gone = [record for record in before if record[0] not in kept]
    assert all(main_of(packed) <= 200 for packed, _ in gone)
    assert check_database(str(tmp_path / "db")).problems == ()
    with lmdb.open(str(tmp_path / "db"), subdir=False, max_dbs=32) as env, env.begin(write=True) as txn:
        txn.put(*gone[-1], db=env.open_db(b"key", txn))
    assert check_database(str(tmp_path / "db")).problems
