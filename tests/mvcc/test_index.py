"""The key set and the key index against sorted lists."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from kvorum.mvcc.index import KeyIndex
from kvorum.mvcc.keyset import LOAD, KeySet
from kvorum.mvcc.keyvalue import encode, encode_key
from kvorum.mvcc.revision import (
    after_main,
    etcd_key,
    from_etcd_key,
    is_tombstone,
    main_of,
    revision,
    sub_of,
)


def compare_keys(keys: KeySet, twin: list[bytes], start: bytes, end: bytes | None, limit: int) -> None:
    expected = [key for key in twin if key >= start and (end is None or key < end)]
    assert keys.count(start, end) == len(expected)
    assert keys.page(start, end) == expected
    assert keys.page(start, end, limit) == (expected[:limit] if limit else expected)
    assert list(keys.iterate(start, end)) == expected
    assert (start in keys) == (start in twin)
    assert keys.rank(start) == sum(key < start for key in twin)


def test_key_set_over_many_blocks() -> None:
    random_ = random.Random(7)
    keys = KeySet()
    twin: set[bytes] = set()
    # More groups than one, blocks cut at random places and, for keys in order, at their ends.
    names = [b"%07d" % number for number in random_.sample(range(10**6), 30 * LOAD)]
    for name in names + [b"9%07d" % number for number in range(60 * LOAD)]:
        keys.add(name)
        twin.add(name)
    keys.check_invariants()
    assert len(keys) == len(twin)
    everything = sorted(twin)
    for _ in range(40):
        start, end = sorted(random_.sample(everything, 2))
        compare_keys(
            keys, everything, start, random_.choice([end, end + b"\0", None]), random_.choice([0, 1, 2000])
        )
    compare_keys(keys, everything, end, start, 0)
    # Thin out until blocks are joined and dropped.
    for step, name in enumerate(random_.sample(everything, len(everything))):
        keys.remove(name)
        twin.discard(name)
        if step % 8000 == 0:
            keys.check_invariants()
            compare_keys(keys, sorted(twin), names[0], names[1], 10)
    keys.check_invariants()
    assert (len(keys), list(keys), keys.count(b"", None), keys.page(b"", None)) == (0, [], 0, [])
    keys.add(b"again")
    compare_keys(keys, [b"again"], b"", None, 0)


def test_deleting_and_adding_ranges_keeps_blocks_sane() -> None:
    keys = KeySet.of([b"%06d" % number for number in range(20 * LOAD)])
    for number in range(3 * LOAD, 15 * LOAD):
        keys.remove(b"%06d" % number)
    keys.check_invariants()
    for number in range(14 * LOAD, 3 * LOAD, -1):
        keys.add(b"%06d" % number)
    keys.check_invariants()
    assert keys.count(b"", None) == 19 * LOAD


names = st.sampled_from([b"a", b"b", b"ba", b"c", b"d"])


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(names, st.booleans(), st.booleans()), max_size=60), st.data())
def test_index_against_whole_histories(history: list[tuple[bytes, bool, bool]], data: st.DataObject) -> None:
    index = KeyIndex()
    twin: dict[bytes, list[bytes]] = {}
    main, sub = 2, 0
    records: list[tuple[bytes, bytes]] = []
    version: dict[bytes, tuple[int, int]] = {}
    for key, delete, same in history:
        if not same:
            main, sub = main + 1, 0
        if delete and key not in version:
            continue
        packed = revision(main, sub, delete)
        sub += 1
        twin.setdefault(key, []).append(packed)
        if delete:
            index.tombstone(key, packed)
            del version[key]
            records.append((packed, encode_key(key)))
        else:
            create, number = version.get(key, (main, 0))
            version[key] = (create, number + 1)
            state = index.put(key, packed)
            expected = b"" if number == 0 else create.to_bytes(8, "big") + (number + 1).to_bytes(8, "big")
            assert state == packed + expected
            records.append((packed, encode(key, create, main, number + 1, b"v", 0)))
    index.check_invariants()
    assert dict(index.history()) == {key: b"".join(all_) for key, all_ in twin.items()}

    loaded = KeyIndex()
    last = loaded.load(records, {})
    loaded.load_finished()
    loaded.check_invariants()
    assert dict(loaded.history()) == dict(index.history())
    assert last == (records[-1][0] if records else b"")

    def at(key: bytes, when: int) -> bytes | None:
        before = [packed for packed in twin.get(key, []) if main_of(packed) <= when]
        return before[-1] if before and not is_tombstone(before[-1]) else None

    when = data.draw(st.integers(1, main))
    start, end = data.draw(names), data.draw(names | st.none())
    found = [at(key, when) for key in sorted(twin) if key >= start and (end is None or key < end)]
    expected_revisions = [packed for packed in found if packed is not None]
    for some in (index, loaded):
        assert some.get_at(start, when) == at(start, when)
        assert some.revisions_at(start, end, when, 0) == (expected_revisions, len(expected_revisions))
        assert some.revisions_at(start, end, when, 1) == (expected_revisions[:1], len(expected_revisions))
        assert some.page_at(start, end, when, 2) == expected_revisions[:2]
        changed = {key for key, all_ in twin.items() if all_[-1] >= after_main(when)}
        assert some.count_by_changes(start, end, when, changed) == len(expected_revisions)

    gone = dict.fromkeys(twin, b"")
    for key in twin:
        while part := index.prune(key, after_main(when), 3):
            gone[key] += part
    index.check_invariants()
    for key, all_ in twin.items():
        kept = [p for p in all_ if main_of(p) > when or p == at(key, when)]
        assert gone[key] == b"".join(p for p in all_ if p not in kept)
        assert dict(index.history()).get(key, b"") == b"".join(kept)


def test_a_key_overwritten_many_times() -> None:
    index = KeyIndex()
    index.put(b"k", revision(2, 0))
    for main in range(3, 5003):
        index.put(b"k", revision(main, 0))
    assert index.get_at(b"k", 2500) == revision(2500, 0)
    gone = b""
    while part := index.prune(b"k", after_main(5001), 1000):
        index.check_invariants()
        gone += part
    assert gone == b"".join(revision(main, 0) for main in range(2, 5001))
    assert dict(index.history()) == {b"k": revision(5001, 0) + revision(5002, 0)}
    assert index.put(b"k", revision(5003, 0))[12:] == (2).to_bytes(8, "big") + (5002).to_bytes(8, "big")


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**31 - 1), st.booleans())
def test_revisions_are_etcds_in_twelve_bytes(main: int, sub: int, tombstone: bool) -> None:
    packed = revision(main, sub, tombstone)
    assert (len(packed), main_of(packed), sub_of(packed), is_tombstone(packed)) == (12, main, sub, tombstone)
    assert etcd_key(packed) == main.to_bytes(8, "big") + b"_" + sub.to_bytes(8, "big") + b"t" * tombstone
    assert from_etcd_key(etcd_key(packed)) == packed


def test_what_is_no_revision_is_refused() -> None:
    good = etcd_key(revision(1, 2))
    for bad in (
        b"",
        good[:-1],
        good + b"x",
        good + b"tt",
        b"x".join(good.split(b"_")),
        good[:9] + b"\xff" * 8,
    ):
        try:
            from_etcd_key(bad)
        except ValueError:
            continue
        raise AssertionError(f"{bad!r} was taken")
