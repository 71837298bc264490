"""The store's corners, one by one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from kvorum.mvcc.keyvalue import parse
from kvorum.mvcc.store import CompactedError, FutureRevisionError, Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(str(tmp_path / "db"), clock=lambda: 0.0)
    yield store
    store.close()


def put(store: Store, *keys: bytes, lease: int = 0) -> int:
    with store.write() as txn:
        for key in keys:
            txn.put(key, b"v", lease)
    return store.revision


def keys_of(kvs: list[bytes]) -> list[bytes]:
    return [parse(kv).key for kv in kvs]


def test_an_empty_store_is_at_revision_one(store: Store) -> None:
    assert (store.revision, store.compact_revision, store.consistent_index, store.term) == (1, -1, 0, 0)
    assert store.range(b"\0", b"\0").count == 0
    with pytest.raises(FutureRevisionError):
        store.compact(2)
    store.compact(1)
    store.compact_now()
    assert store.finished_compact_revision == 1
    with pytest.raises(CompactedError):
        store.compact(1)


def test_a_transaction_that_changes_nothing_makes_no_revision(store: Store) -> None:
    with store.write() as txn:
        assert txn.delete_range(b"a", b"z") == []
        assert txn.revision == 1
    assert store.revision == 1
    assert not store.dirty


def test_subs_count_the_changes_of_a_transaction(store: Store) -> None:
    put(store, b"a", b"b")
    with store.write() as txn:
        txn.put(b"c", b"")
        txn.delete_range(b"a", b"c")
        txn.put(b"a", b"again")
    subs = [int.from_bytes(packed[8:], "big") for packed, _ in store.records(b"\0")]
    assert subs == [0, 2, 0, 3, 5, 6]
    view = parse(store.get(b"a") or b"")
    assert (view.create_revision, view.mod_revision, view.version) == (3, 3, 1)
    assert keys_of(store.range(b"\0", b"\0", revision=2).kvs) == [b"a", b"b"]


def test_range_ends_are_etcds(store: Store) -> None:
    put(store, b"a", b"a\0", b"ab", b"b", b"\xff")
    ranges = {
        (b"a", b""): [b"a"],
        (b"x", b""): [],
        (b"a", b"b"): [b"a", b"a\0", b"ab"],
        (b"a", b"a"): [],
        (b"b", b"a"): [],
        (b"ab", b"\0"): [b"ab", b"b", b"\xff"],
        (b"\0", b"\0"): [b"a", b"a\0", b"ab", b"b", b"\xff"],
    }
    for (key, end), expected in ranges.items():
        result = store.range(key, end)
        assert (keys_of(result.kvs), result.count) == (expected, len(expected))
        result = store.range(key, end, limit=2)
        assert (keys_of(result.kvs), result.count) == (expected[:2], len(expected))
        with store.write() as txn:
            assert keys_of(txn.range(key, end).kvs) == expected


def test_reads_at_old_revisions_when_little_and_when_much_has_changed(store: Store) -> None:
    names = [b"%03d" % number for number in range(500)]
    old = put(store, *names)
    put(store, b"000a", b"600")
    with store.write() as txn:
        txn.delete_range(b"010", b"020")

    def check() -> None:
        page = store.range(b"005", b"\0", limit=20, revision=old)
        assert (keys_of(page.kvs), page.count) == (names[5:25], 495)
        assert store.range(b"0", b"\0", revision=old, count_only=True).count == 500
        assert keys_of(store.range(b"\0", b"\0", revision=old).kvs) == names
        assert all(
            parse(kv).value_end == 0 for kv in store.range(b"0", b"1", revision=old, keys_only=True).kvs
        )

    check()
    # More changes than are worth reading to correct the count: each key of the range is asked instead.
    for number in range(1100):
        put(store, b"%03d" % (number % 7))
    check()
    with store.write() as txn:
        for number in range(1100):
            txn.put(b"x%04d" % number, b"")
        check_in_txn = txn.range(b"005", b"\0", limit=20, revision=old)
        assert (keys_of(check_in_txn.kvs), check_in_txn.count) == (names[5:25], 495)
        with pytest.raises(FutureRevisionError):
            txn.range(b"a", revision=txn.main + 1)
    check()
    store.compact(old)
    check()
    store.compact(old + 1)
    with pytest.raises(CompactedError):
        check()


def test_a_read_view_does_not_outlive_a_write(store: Store) -> None:
    put(store, b"a")
    view = store.read()
    assert view.get(b"a") == view.range(b"a").kvs[0] == store.get(b"a")
    assert (view.revision, view.compact_revision) == (2, -1)
    put(store, b"b")
    with pytest.raises(AssertionError):
        view.get(b"a")
    with pytest.raises(AssertionError):
        view.range(b"a")


def test_one_transaction_at_a_time_and_no_commit_inside(store: Store) -> None:
    txn = store.write()
    with pytest.raises(AssertionError):
        store.write()
    with pytest.raises(AssertionError):
        store.commit()
    txn.end()
    store.write().end()


def test_leases_are_found_again(store: Store, tmp_path: Path) -> None:
    put(store, b"a", b"b", b"c", b"d", lease=7)
    put(store, b"b")
    put(store, b"c", lease=9)
    with store.write() as txn:
        txn.delete_range(b"d")
    with store.write() as txn:
        txn.put(b"e", b"v" * 200, 11)
        txn.put(b"f", b"", 12)
    store.close()
    again = Store.open(str(tmp_path / "db"), clock=lambda: 0.0)
    assert again.restored_leases == {b"a": 7, b"c": 9, b"e": 11, b"f": 12}
    again.backend.abandon()


@pytest.mark.parametrize("size", [0, 1, 126, 127, 128, 129, 255, 256, 16383, 16384])
def test_states_are_loaded_as_they_were(store: Store, tmp_path: Path, size: int) -> None:
    # Revisions and lengths at which varints change their size or hold bytes that look like tags.
    names = [b"k" * max(size, 1), b"l", b"mm", b"\x18" * 24]
    while store.revision < 24:
        put(store, names[3])
    with store.write() as txn:
        txn.put(names[0], b"\x18" * size)
        txn.put(names[1], b"v" * size, 5)
        txn.put(names[2], b"\x20\x01")
    put(store, names[1])
    before = [parse(store.get(name) or b"") for name in names]
    history = dict(store.index.history())
    store.close()
    again = Store.open(str(tmp_path / "db"), clock=lambda: 0.0)
    assert dict(again.index.history()) == history
    with again.write() as txn:
        after = [parse(txn.put(name, b"")) for name in names]
    assert [(view.create_revision, view.version) for view in after] == [
        (view.create_revision, view.version + 1) for view in before
    ]
    again.close()


def test_statistics_count_operations(store: Store) -> None:
    put(store, b"a")
    put(store, b"b", b"c")
    with store.write() as txn:
        txn.range(b"a")
        txn.delete_range_count(b"b", b"d")
    store.range(b"a")
    store.read().range(b"a", b"z")
    found = store.statistics()
    assert (found.keys, found.revision, found.compact_revision, found.pending) == (1, 4, -1, 5)
    assert (found.puts, found.deletes, found.ranges, found.txns) == (3, 1, 3, 2)
    store.commit()
    found = store.statistics()
    assert (found.pending, found.commits) == (0, 1)
    assert found.size >= found.size_in_use > 0


def test_a_key_overwritten_many_times_compacts_to_one_record(store: Store) -> None:
    for _ in range(3000):
        put(store, b"k")
    assert parse(store.range(b"k", revision=1500).kvs[0]).version == 1499
    store.compact(store.revision)
    store.compact_now()
    assert len(list(store.records(b"\0"))) == 1
    assert parse(store.get(b"k") or b"").version == 3000
    store.check_invariants()
