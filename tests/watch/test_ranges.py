"""The interval tree and the range index against a list of ranges."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvorum.watch.intervals import IntervalTree
from kvorum.watch.ranges import MAX_PREFIX_LENGTHS, RangeIndex, prefix_end

KEYS = st.binary(max_size=3) | st.sampled_from([b"a", b"ab", b"abc", b"b", b"\xff", b"a\xff", b"\xff\xff"])
Range = tuple[bytes, bytes | None]


def holds(span: Range, key: bytes) -> bool:
    start, end = span
    return start <= key and (end is None or key < end)


class Counted(bytes):
    """A key that counts how often it is compared."""

    comparisons = 0

    def __le__(self, other: bytes) -> bool:
        Counted.comparisons += 1
        return bytes.__le__(self, other)

    def __lt__(self, other: bytes) -> bool:
        Counted.comparisons += 1
        return bytes.__lt__(self, other)

    def __ge__(self, other: bytes) -> bool:
        Counted.comparisons += 1
        return bytes.__ge__(self, other)

    def __gt__(self, other: bytes) -> bool:
        Counted.comparisons += 1
        return bytes.__gt__(self, other)

    __hash__ = bytes.__hash__

    def __eq__(self, other: object) -> bool:
        return bytes.__eq__(self, other)


def ranges() -> st.SearchStrategy[Range]:
    spans = st.tuples(KEYS, KEYS).filter(lambda pair: pair[0] < pair[1])
    prefixes = KEYS.filter(bool).map(lambda key: (key, prefix_end(key)))
    froms = KEYS.map(lambda key: (key, None))
    return spans | prefixes | froms


@given(st.lists(st.tuples(st.booleans(), KEYS, KEYS), max_size=60), st.lists(KEYS, min_size=1, max_size=10))
def test_the_tree_finds_what_a_scan_finds(
    steps: list[tuple[bool, bytes, bytes]], points: list[bytes]
) -> None:
    tree: IntervalTree[tuple[bytes, bytes]] = IntervalTree()
    model: set[tuple[bytes, bytes]] = set()
    for add, start, end in steps:
        if add and start < end and (start, end) not in model:
            tree.add(start, end, (start, end))
            model.add((start, end))
        elif model and not add:
            victim = min(model, key=lambda span: (abs(len(span[0]) - len(start)), span))
            tree.remove(*victim)
            model.remove(victim)
        tree.check_invariants()
    assert len(tree) == len(model)
    for point in points:
        found: list[tuple[bytes, bytes]] = []
        tree.stab(point, found)
        assert sorted(found) == sorted(span for span in model if holds(span, point))


@given(
    st.lists(st.tuples(st.sampled_from("aaarp"), ranges()), max_size=50),
    st.lists(KEYS, min_size=1, max_size=8),
)
def test_the_index_finds_what_a_scan_finds(steps: list[tuple[str, Range]], keys: list[bytes]) -> None:
    index: RangeIndex[Range] = RangeIndex()
    model: list[Range] = []
    for step, span in steps:
        if step == "a" and span not in model:
            index.add(*span, span)
            model.append(span)
        elif step == "r" and model:
            victim = model.pop(len(span[0]) % len(model))
            index.remove(*victim)
        elif step == "p" and model:
            start, end, value = index.pop()
            assert value == (start, end)
            model.remove((start, end))
        index.check_invariants()
    assert len(index) == len(model)
    for key in keys:
        found: list[Range] = []
        index.stab(key, found)
        assert sorted(found, key=repr) == sorted((span for span in model if holds(span, key)), key=repr)
    assert all(index.get(*span) == span for span in model)


@given(KEYS, KEYS)
def test_a_prefix_ends_behind_its_keys(prefix: bytes, key: bytes) -> None:
    assert holds((prefix, prefix_end(prefix)), key) == key.startswith(prefix)


def test_prefixes_of_too_many_lengths_are_found_in_the_tree() -> None:
    index: RangeIndex[int] = RangeIndex()
    lengths = range(1, 2 * MAX_PREFIX_LENGTHS)
    for length in lengths:
        index.add(b"x" * length, prefix_end(b"x" * length), length)
    index.check_invariants()
    found: list[int] = []
    index.stab(b"x" * 40, found)
    assert sorted(found) == list(range(1, 41))
    for length in lengths:
        index.remove(b"x" * length, prefix_end(b"x" * length))
        index.check_invariants()
    assert len(index) == 0


def _prefixes(number: int) -> Range:
    return b"%06d/" % number, b"%06d0" % number


def _spans(number: int) -> Range:
    return b"%06d/b" % number, b"%06d/y" % number


@pytest.mark.parametrize("span", [_prefixes, _spans])
def test_a_hundred_thousand_ranges_elsewhere_cost_a_few_comparisons(span: Callable[[int], Range]) -> None:
    index: RangeIndex[int] = RangeIndex()
    for number in range(100_000):
        index.add(*span(number), number)
    Counted.comparisons = 0
    found: list[int] = []
    index.stab(Counted(b"054321/k"), found)
    assert found == [54321]
    assert Counted.comparisons <= 3 * 20


@settings(max_examples=20)
@given(st.permutations(range(64)))
def test_the_tree_stays_flat_whatever_the_order(order: list[int]) -> None:
    tree: IntervalTree[int] = IntervalTree()
    for number in order:
        tree.add(b"%02d" % number, b"%02d" % (number + 1), number)
        tree.check_invariants()
    for number in order[::2]:
        tree.remove(b"%02d" % number, b"%02d" % (number + 1))
        tree.check_invariants()
