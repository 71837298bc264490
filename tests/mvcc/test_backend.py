"""The database file: commits and their pace, crashes, failures of the disk, the growing map, long readers."""

import resource
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kvorum import failpoint
from kvorum.mvcc.backend import Backend, BackendError, SnapshotExpiredError
from kvorum.mvcc.store import Store


class Clock:
    def __init__(self) -> None:
        self.now = 100.0
        self.each_look = 0.0

    def __call__(self) -> float:
        self.now += self.each_look
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def failpoints() -> Iterator[Callable[[str], None]]:
    yield failpoint.configure
    failpoint.configure("")


def path_in(tmp_path: Path) -> str:
    return str(tmp_path / "db")


def put(store: Store, key: bytes, value: bytes = b"v") -> None:
    with store.write() as txn:
        txn.put(key, value)


def test_a_crash_shows_the_last_commit_with_its_consistent_index(tmp_path: Path, clock: Clock) -> None:
    store = Store.open(path_in(tmp_path), clock=clock)
    lease = store.table(b"lease")
    store.consistent_index, store.term, store.conf_state = 7, 2, b"conf"
    put(store, b"kept")
    lease.put(b"1", b"one")
    store.commit()
    store.consistent_index = 8
    put(store, b"lost")
    lease.delete(b"1")
    store.backend.abandon()

    store = Store.open(path_in(tmp_path), clock=clock)
    assert (store.consistent_index, store.term, store.conf_state) == (7, 2, b"conf")
    assert store.get(b"kept") is not None
    assert store.get(b"lost") is None
    assert list(store.table(b"lease").iterate()) == [(b"1", b"one")]
    store.close()


def test_an_entry_that_changes_no_key_still_moves_the_consistent_index(tmp_path: Path, clock: Clock) -> None:
    store = Store.open(path_in(tmp_path), clock=clock)
    assert not store.commit_if_due(clock.now + 100)
    store.consistent_index = 5
    assert not store.commit_if_due(clock.now)
    assert store.commit_if_due(clock.now + 0.1)
    store.backend.abandon()
    store = Store.open(path_in(tmp_path), clock=clock)
    assert store.consistent_index == 5
    store.close()


def test_commits_are_due_by_time_and_by_number(tmp_path: Path, clock: Clock) -> None:
    seconds: list[float] = []
    store = Store.open(path_in(tmp_path), clock=clock, batch_limit=10, on_commit=seconds.append)
    put(store, b"k")
    assert not store.commit_if_due(clock.now + 0.09)
    assert store.commit_if_due(clock.now + 0.11)
    for _ in range(9):
        put(store, b"k")
    assert not store.commit_if_due(clock.now)
    put(store, b"k")
    assert store.commit_if_due(clock.now)
    assert not store.dirty
    assert seconds == [0.0, 0.0]
    store.close()


def test_slow_commits_become_rarer_within_bounds(tmp_path: Path, clock: Clock) -> None:
    store = Store.open(path_in(tmp_path), clock=clock, batch_limit=10)
    clock.each_look = 0.05
    store.consistent_index = 1
    store.commit()
    clock.each_look = 0.0
    assert store.statistics().last_commit_seconds == pytest.approx(0.05)
    # Twenty times as long as the commit took, instead of a tenth of a second.
    for _ in range(10):
        put(store, b"k")
    assert not store.commit_if_due(clock.now + 0.99)
    assert store.backend.due_in(clock.now) == pytest.approx(1.0, abs=1e-3)
    # But not more than ten times the batch, and never longer than two seconds.
    for _ in range(90):
        put(store, b"k")
    assert store.commit_if_due(clock.now)
    clock.each_look = 3.0
    put(store, b"k")
    store.commit()
    clock.each_look = 0.0
    put(store, b"k")
    assert not store.commit_if_due(clock.now + 1.99)
    assert store.commit_if_due(clock.now + 2.01)
    store.close()


def test_large_values_are_committed_before_they_fill_the_memory(tmp_path: Path, clock: Clock) -> None:
    store = Store.open(path_in(tmp_path), clock=clock)
    for _ in range(64):
        put(store, b"k", bytes(1 << 20))
    assert store.commit_if_due(clock.now)
    store.close()


@pytest.mark.parametrize("action", ["eio", "enospc"])
def test_a_failed_commit_is_final(
    tmp_path: Path, clock: Clock, failpoints: Callable[[str], None], action: str
) -> None:
    store = Store.open(path_in(tmp_path), clock=clock)
    put(store, b"kept")
    store.commit()
    put(store, b"lost")
    failpoints(f"backend_before_commit={action}*1")
    with pytest.raises(BackendError, match="commit"):
        store.commit()
    for again in (store.commit, store.hash_job):
        with pytest.raises(BackendError):
            again()
    store.close()
    store = Store.open(path_in(tmp_path), clock=clock)
    assert store.get(b"kept") is not None
    assert store.get(b"lost") is None
    store.close()


def test_a_disk_that_takes_no_more_fails_the_commit(tmp_path: Path, clock: Clock) -> None:
    store = Store.open(path_in(tmp_path), clock=clock)
    put(store, b"kept")
    store.commit()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for _ in range(100):
        put(store, b"lost", bytes(50_000))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        with pytest.raises(BackendError, match="commit"):
            store.commit()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    with pytest.raises(BackendError):
        put(store, b"lost")
    store.close()
    store = Store.open(path_in(tmp_path), clock=clock)
    assert store.range(b"\0", b"\0", count_only=True).count == 1
    store.close()


def test_the_map_grows_before_it_is_full(tmp_path: Path, clock: Clock) -> None:
    store = Store.open(path_in(tmp_path), clock=clock, map_bytes=1 << 20, headroom_bytes=1 << 20)
    first = store.statistics().map_bytes
    for number in range(200):
        put(store, b"%d" % number, bytes(50_000))
        if number % 10 == 9:
            store.commit()
    grown = store.statistics()
    assert grown.map_bytes > 2 * grown.size > 20_000_000 > first
    assert store.range(b"\0", b"\0", count_only=True).count == 200
    store.close()
    store = Store.open(path_in(tmp_path), clock=clock, map_bytes=1 << 20, headroom_bytes=1 << 20)
    assert store.range(b"\0", b"\0").count == 200
    store.close()


def test_a_map_that_fills_up_inside_a_commit_is_an_error_and_loses_only_that_commit(
    tmp_path: Path, clock: Clock
) -> None:
    store = Store.open(path_in(tmp_path), clock=clock, map_bytes=1 << 20, headroom_bytes=1 << 18)
    put(store, b"kept")
    store.commit()

    def fill() -> None:
        while True:
            put(store, b"k", bytes(50_000))

    with pytest.raises(BackendError, match="MAP_FULL"):
        fill()
    with pytest.raises(BackendError):
        store.commit()
    store.backend.abandon()
    store = Store.open(path_in(tmp_path), clock=clock)
    assert [len(kv) for kv in store.range(b"\0", b"\0").kvs] == [len(store.get(b"kept") or b"")]
    store.close()


def test_size_in_use_falls_when_compaction_frees_pages(tmp_path: Path, clock: Clock) -> None:
    store = Store.open(path_in(tmp_path), clock=clock)
    for _ in range(2000):
        put(store, b"k", bytes(500))
    store.commit()
    before = store.statistics()
    assert before.size >= before.size_in_use > 1_000_000
    store.compact(store.revision)
    store.compact_now()
    store.commit()
    after = store.statistics()
    assert after.size >= before.size
    assert after.size_in_use < 100_000
    assert after.compacted_revisions == 1999
    store.close()


def test_a_snapshot_is_read_on_another_thread_while_writes_go_on(tmp_path: Path, clock: Clock) -> None:
    store = Store.open(path_in(tmp_path), clock=clock)
    for number in range(1000):
        put(store, b"%04d" % number)
    snapshot = store.backend.snapshot()
    put(store, b"later")
    store.table(b"later").put(b"k", b"v")
    store.commit()
    found: list[tuple[bytes, bytes]] = []

    def read() -> None:
        after = b""
        while chunk := snapshot.chunk(b"key", after, 64):
            found.extend(chunk)
            after = chunk[-1][0]

    thread = threading.Thread(target=read)
    thread.start()
    for _ in range(100):
        put(store, b"later")
        store.commit()
    thread.join()
    assert len(found) == 1000
    assert snapshot.tables == [b"key", b"meta"]
    snapshot.close()
    snapshot.close()
    with pytest.raises(SnapshotExpiredError):
        snapshot.chunk(b"key", b"", 1)
    with store.backend.snapshot() as later:
        assert later.tables == [b"key", b"later", b"meta"]
        assert len(later.chunk(b"key", b"", 10_000)) == 1101
        assert later.chunk(b"later", b"", 2) == [(b"k", b"v")]
        assert later.chunk(b"later", b"k", 2) == []
        assert later.chunk(b"later", b"z", 2) == []
    store.close()


def test_a_snapshot_delays_the_growing_map_and_is_expired_at_last(tmp_path: Path, clock: Clock) -> None:
    backend = Backend(path_in(tmp_path), clock=clock, map_bytes=1 << 22, headroom_bytes=1 << 20)
    table = backend.table(b"t")
    snapshot = backend.snapshot()
    first = backend.map_bytes
    number = 0
    while backend.map_bytes == first:
        assert not backend.snapshots or snapshot.chunk(b"meta", b"", 1) == []
        table.put(b"%d" % number, bytes(100_000))
        backend.commit()
        number += 1
    assert 2 * backend.size + (1 << 20) > first
    with pytest.raises(SnapshotExpiredError):
        snapshot.chunk(b"t", b"", 1)
    assert len(table) == number
    backend.close()


def test_tables_are_ordered_maps(tmp_path: Path, clock: Clock) -> None:
    backend = Backend(path_in(tmp_path), clock=clock)
    table = backend.table(b"lease")
    assert list(table.iterate()) == []
    for key in (b"b", b"a", b"c"):
        table.put(key, key * 2)
    assert table.get(b"a") == b"aa"
    assert table.get(b"x") is None
    assert list(table.iterate()) == [(b"a", b"aa"), (b"b", b"bb"), (b"c", b"cc")]
    assert [key for key, _ in table.iterate(b"b")] == [b"b", b"c"]
    assert [key for key, _ in table.iterate(b"aa", b"c")] == [b"b"]
    assert list(table.iterate(b"d")) == []
    assert table.delete(b"b")
    assert not table.delete(b"b")
    assert table.chunk(b"a", 5) == [(b"c", b"cc")]
    assert len(backend.table(b"lease")) == 2
    backend.close()


def test_a_file_that_is_no_database_is_refused(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "db").write_bytes(b"not a database" * 1000)
    with pytest.raises(BackendError, match="cannot open the database"):
        Store.open(path_in(tmp_path), clock=clock)
    with pytest.raises(BackendError, match="cannot open the database"):
        Store.open(str(tmp_path / "missing" / "db"), clock=clock)


def test_a_marker_that_is_no_revision_is_refused(tmp_path: Path, clock: Clock) -> None:
    backend = Backend(path_in(tmp_path), clock=clock)
    backend.table(b"meta").put(b"finishedCompactRev", b"nonsense")
    backend.close()
    with pytest.raises(BackendError, match="finishedCompactRev"):
        Store.open(path_in(tmp_path), clock=clock)
