"""Observers against a list of everyone who wants to know."""

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from kvorum.mvcc.keyvalue import encode, encode_key
from kvorum.server.observers import Observer, Observers

KEYS = st.sampled_from([b"a/", b"a/1", b"a/2", b"a/1/x", b"ab/1", b"a", b"\xff/1"])
PREFIXES = st.sampled_from([b"a/", b"a", b"ab/", b"\xff/", b"\xff"])
Change = tuple[bytes, bytes | None]


@dataclass
class Plain:
    """An observer as one would write it down."""

    key: bytes
    is_prefix: bool
    observer: Observer
    heard: list[Change]
    wanted: list[Change]

    def wants(self, key: bytes) -> bool:
        return key.startswith(self.key) if self.is_prefix else key == self.key


def change_of(key: bytes, deleted: bool, revision: int) -> tuple[bytes, bytes | None]:
    """A change as apply makes it, and as it is told."""
    if deleted:
        return encode_key(key), None
    kv = encode(key, revision, revision, 1, b"v", 0)
    return kv, kv


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("key"), KEYS),
        st.tuples(st.just("prefix"), PREFIXES),
        st.tuples(st.just("remove"), st.integers(0, 30)),
        st.tuples(st.just("change"), st.lists(st.tuples(KEYS, st.booleans()), min_size=1, max_size=3)),
    ),
    max_size=30,
)


@settings(max_examples=200, deadline=None)
@given(STEPS)
def test_everyone_hears_what_concerns_them(steps: list[tuple[str, object]]) -> None:
    observers = Observers()
    plain: list[Plain] = []
    gone: list[Plain] = []
    for revision, (kind, argument) in enumerate(steps, 2):
        if kind in ("key", "prefix"):
            assert isinstance(argument, bytes)
            heard: list[Change] = []
            add = observers.observe_key if kind == "key" else observers.observe_prefix
            observer = add(argument, lambda key, kv, heard=heard: heard.append((key, kv)))  # type: ignore[misc]
            plain.append(Plain(argument, kind == "prefix", observer, heard, []))
        elif kind == "remove" and plain:
            assert isinstance(argument, int)
            leaving = plain.pop(argument % len(plain))
            observers.remove(leaving.observer)
            observers.remove(leaving.observer)
            gone.append(leaving)
        elif kind == "change":
            assert isinstance(argument, list)
            changes = []
            for key, deleted in argument:
                change, told = change_of(key, deleted, revision)
                changes.append(change)
                for one in plain:
                    if one.wants(key):
                        one.wanted.append((key, told))
            observers.notify(changes)
        observers.check_invariants()
    assert observers.size == len(plain)
    assert all(one.heard == one.wanted for one in (*plain, *gone))


def test_who_is_told_may_come_and_go() -> None:
    observers = Observers()
    told: list[str] = []

    def first(_key: bytes, _kv: bytes | None) -> None:
        told.append("first")
        observers.remove(leaving)
        observers.observe_key(b"k", lambda _key, _kv: told.append("late"))

    leaving = observers.observe_key(b"k", first)
    observers.observe_key(b"k", lambda _key, _kv: told.append("second"))
    observers.notify([change_of(b"k", True, 2)[0]])
    assert told == ["first", "second"]
    observers.notify([change_of(b"k", True, 3)[0]])
    assert told == ["first", "second", "second", "late"]
    observers.check_invariants()
