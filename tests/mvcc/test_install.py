"""A store whose contents are replaced by a snapshot: the same objects go on with other contents."""

import errno
import os
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from kvorum import failpoint
from kvorum.mvcc.backend import BackendError, SnapshotExpiredError, lock_path
from kvorum.mvcc.check import check_database
from kvorum.mvcc.hash import HashKvResult
from kvorum.mvcc.install import Prepared, prepare
from kvorum.mvcc.keyset import KeySet
from kvorum.mvcc.keyvalue import key_of
from kvorum.mvcc.store import Store

open_store = partial(Store.open, clock=time.monotonic, map_bytes=1 << 28, headroom_bytes=1 << 24)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """The member's own store, with keys of its own."""
    store = open_store(str(tmp_path / "own"))
    put(store, b"own", 3)
    store.consistent_index, store.term = 3, 1
    store.commit()
    yield store
    if store.backend.path in open_files():
        store.close()


def open_files() -> set[str]:
    """Paths of the files that this process has open."""
    return {os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")}


def put(store: Store, prefix: bytes, count: int, lease: int = 0) -> None:
    for number in range(count):
        with store.write() as txn:
            txn.put(b"%b%d" % (prefix, number), b"value", lease)


def snapshot(path: Path) -> HashKvResult:
    """A database as it comes from another member."""
    store = open_store(str(path))
    put(store, b"theirs", 10, lease=7)
    with store.write() as txn:
        txn.delete_range_count(b"theirs3")
    store.consistent_index, store.term, store.conf_state = 20, 4, b"\x08\x01"
    store.table(b"lease").put(b"7", b"a lease")
    store.table(b"theirs alone").put(b"a", b"b")
    result = store.hash_kv()
    store.close()
    os.unlink(lock_path(str(path)))
    return result


def prepared_aside(path: Path) -> Prepared:
    """Prepare on another thread, as a member does: LMDB's write lock knows threads."""
    found: list[Prepared] = []
    thread = threading.Thread(target=lambda: found.append(prepare(open_store, str(path))))
    thread.start()
    thread.join()
    return found[0]


def keys(store: Store) -> list[bytes]:
    return [key_of(kv) for kv in store.range(b"\0", b"\0").kvs]


def test_everything_goes_on_with_the_new_contents(store: Store, tmp_path: Path) -> None:
    expected = snapshot(tmp_path / "snap")
    lease, own = store.table(b"lease"), store.table(b"own alone")
    lease.put(b"1", b"old")
    own.put(b"1", b"old")
    put(store, b"not committed", 2)
    backend, index = store.backend, store.index
    prepared = prepared_aside(tmp_path / "snap")
    put(store, b"meanwhile", 1)

    store.install(prepared)
    prepared.dispose()

    assert (store.backend, store.index) == (backend, index)
    assert store.hash_kv() == expected
    assert len(keys(store)) == 9
    assert (store.consistent_index, store.term, store.conf_state) == (20, 4, b"\x08\x01")
    assert store.restored_leases == {b"theirs%d" % number: 7 for number in range(10) if number != 3}
    assert list(lease.iterate()) == [(b"7", b"a lease")]
    assert list(own.iterate()) == []
    assert store.table(b"lease") is lease
    assert dict(store.table(b"theirs alone").iterate()) == {b"a": b"b"}
    store.check_invariants()
    assert sorted(os.listdir(tmp_path)) == ["own", "own-lock"]

    # It goes on: writes through all of them, commits, a reopening.
    own.put(b"2", b"new")
    lease.put(b"8", b"another")
    put(store, b"later", 2)
    store.consistent_index = 22
    store.commit()
    after = store.hash_kv()
    store.close()
    assert not check_database(str(tmp_path / "own")).problems
    again = open_store(str(tmp_path / "own"))
    assert again.hash_kv() == after
    assert again.consistent_index == 22
    assert dict(again.table(b"own alone").iterate()) == {b"2": b"new"}
    assert dict(again.table(b"lease").iterate()) == {b"7": b"a lease", b"8": b"another"}
    again.close()


def test_twice(store: Store, tmp_path: Path) -> None:
    for number in (1, 2):
        expected = snapshot(tmp_path / f"snap{number}")
        prepared = prepared_aside(tmp_path / f"snap{number}")
        store.install(prepared)
        prepared.dispose()
        assert store.hash_kv() == expected
        put(store, b"between", 5)
        store.commit()
        store.check_invariants()


def test_a_snapshot_that_is_not_installed_leaves_the_store_alone(store: Store, tmp_path: Path) -> None:
    snapshot(tmp_path / "snap")
    prepared = prepared_aside(tmp_path / "snap")
    prepared.dispose()
    put(store, b"more", 1)
    store.commit()
    assert keys(store) == [b"more0", b"own0", b"own1", b"own2"]
    store.check_invariants()


def test_no_file_stays_open(store: Store, tmp_path: Path) -> None:
    before = {path for path in open_files() if str(tmp_path) in path}
    snapshot(tmp_path / "snap")
    prepared = prepared_aside(tmp_path / "snap")
    store.install(prepared)
    prepared.dispose()
    assert {path for path in open_files() if str(tmp_path) in path} == before


def test_hash_jobs_begin_again(store: Store, tmp_path: Path) -> None:
    expected = snapshot(tmp_path / "snap")
    prepared = prepared_aside(tmp_path / "snap")
    at_3 = open_store_hash(tmp_path / "snap2", 3)
    with (
        store.hash_kv_job() as current,
        store.hash_kv_job(3) as old,
        store.hash_job() as whole,
    ):
        for job in (current, old):
            job.step(1)
        whole.step(1)
        store.install(prepared)
        prepared.dispose()
        for job in (current, old):
            while not job.step(1):
                pass
        while not whole.step(1):
            pass
        assert old.result.hash == at_3
        assert current.result == HashKvResult(store.hash_kv(4).hash, -1, expected.revision)
        assert whole.result == store.hash()


def open_store_hash(path: Path, revision: int) -> int:
    snapshot(path)
    store = open_store(str(path))
    try:
        return store.hash_kv(revision).hash
    finally:
        store.close()


def test_a_hash_at_a_revision_that_is_gone_is_one_at_the_current(store: Store, tmp_path: Path) -> None:
    theirs = open_store(str(tmp_path / "snap"))
    put(theirs, b"theirs", 10)
    theirs.compact(8)
    expected = theirs.hash_kv()
    theirs.close()
    prepared = prepared_aside(tmp_path / "snap")
    with store.hash_kv_job(3) as job:
        job.step(1)
        store.install(prepared)
        prepared.dispose()
        while not job.step():
            pass
        assert job.result == expected


def test_snapshots_of_the_old_contents_are_refused(store: Store, tmp_path: Path) -> None:
    snapshot(tmp_path / "snap")
    prepared = prepared_aside(tmp_path / "snap")
    with store.backend.snapshot() as before:
        store.install(prepared)
        with pytest.raises(SnapshotExpiredError):
            before.chunk(b"key", b"", 1)
    prepared.dispose()


def test_compactions(store: Store, tmp_path: Path) -> None:
    """Those of the old contents count as done; the one that the snapshot has still to do is gone on with."""
    theirs = open_store(str(tmp_path / "snap"))
    for _ in range(5):
        put(theirs, b"again", 1)
    theirs.compact(4)
    theirs.close()
    done: list[str] = []
    store.compact(3, lambda: done.append("done"))
    prepared = prepared_aside(tmp_path / "snap")
    store.install(prepared)
    prepared.dispose()
    assert done == ["done"]
    assert (store.compact_revision, store.finished_compact_revision) == (4, -1)
    assert store.compacting
    store.compact_now()
    assert store.finished_compact_revision == 4
    store.check_invariants()


@pytest.mark.parametrize(
    "place", ["install_before_rename", "install_between_renames", "install_after_rename"]
)
def test_a_disk_that_fails_leaves_one_database_or_the_other(
    store: Store, tmp_path: Path, place: str, request: pytest.FixtureRequest
) -> None:
    expected = {snapshot(tmp_path / "snap"), store.hash_kv()}
    prepared = prepared_aside(tmp_path / "snap")
    request.addfinalizer(lambda: failpoint.configure(""))
    failpoint.configure(f"{place}=eio")
    with pytest.raises(BackendError, match=os.strerror(errno.EIO)):
        store.install(prepared)
    failpoint.configure("")
    with pytest.raises(BackendError):
        store.commit()
    store.backend.abandon()
    prepared.dispose()
    again = open_store(str(tmp_path / "own"))
    assert again.hash_kv() in expected
    assert keys(again)[0] == (b"own0" if place == "install_before_rename" else b"theirs0")
    put(again, b"goes on", 1)
    again.close()
    assert not check_database(str(tmp_path / "own")).problems


def test_a_file_with_records_that_are_none_is_refused(tmp_path: Path) -> None:
    bad = open_store(str(tmp_path / "bad"))
    bad.backend.txn.put(bytes(11) + b"\2", b"\x0a\x05no", db=bad.backend.key_db)
    bad.commit()
    bad.close()
    with pytest.raises(BackendError, match="records that are none"):
        prepare(open_store, str(tmp_path / "bad"))


@pytest.mark.parametrize("count", [0, 1, 4096, 4097, 30_000])
def test_keys_are_put_in_order_in_steps(count: int) -> None:
    ascending = [b"%08d" % (number * 7919 % 100_003) for number in range(count)]
    expected = sorted(ascending)
    for keys_ in (ascending, expected, expected[::-1]):
        found = KeySet.of(dict.fromkeys(keys_))
        assert list(found) == expected
        found.check_invariants()
