"""Who hears of what: scripted conversations, each as etcd 3.4.23 holds it (or with the reason why not)."""

import pytest

from kvorum import limits
from kvorum.v2store.errors import EVENT_INDEX_CLEARED, V2Error
from kvorum.v2store.hub import Watcher
from kvorum.v2store.store import Store
from tests.v2store.memory import Clock, MemoryTables


@pytest.fixture
def store() -> Store:
    return Store(MemoryTables(), Clock())


def heard(watcher: Watcher) -> list[tuple[str, str, int]]:
    """What waits for the watcher, taken: (action, key, index)."""
    events = []
    while (event := watcher.take()) is not None:
        events.append((event.action, event.node.key, event.index))
    return events


def test_a_long_poll_hears_of_one_change_and_is_over(store: Store) -> None:
    watcher = store.watch("/1/k")
    woken: list[int] = []
    watcher.wake = lambda: woken.append(store.index)
    store.set("/1/other", value="x")
    assert not woken
    assert store.hub.count == 1
    store.set("/1/k", value="1")
    store.set("/1/k", value="2")
    assert woken == [2], "the store is where the event says"
    assert heard(watcher) == [("set", "/1/k", 2)]
    assert watcher.closed
    assert store.hub.count == 0


def test_only_recursive_watchers_hear_of_what_is_below(store: Store) -> None:
    plain, recursive, root = store.watch("/1/d"), store.watch("/1/d", True), store.watch("/", True)
    store.set("/1/d/x/y", value="1")
    assert heard(plain) == []
    assert heard(recursive) == heard(root) == [("set", "/1/d/x/y", 1)]


def test_hidden_keys_wake_only_who_watches_them(store: Store) -> None:
    above, beside = store.watch("/1/d", True, True), store.watch("/1/d/_h", stream=True)
    inside = store.watch("/1/d/_h", True, True)
    store.set("/1/d/_h", value="1")
    store.set("/1/d/_g/x", value="1")
    assert heard(above) == []
    assert heard(beside) == heard(inside) == [("set", "/1/d/_h", 1)]
    store.set("/1/_h/deep/er", value="1")
    assert heard(above) == []


def test_the_end_of_a_directory_is_told_to_whoever_watched_what_was_in_it(store: Store) -> None:
    store.set("/1/d/x", value="1")
    store.set("/1/d/_h/y", value="1")
    in_it = store.watch("/1/d/x"), store.watch("/1/d/_h/y"), store.watch("/1/d/_h", True)
    absent, other = store.watch("/1/d/absent"), store.watch("/1/dx")
    store.delete("/1/d", recursive=True)
    for watcher in in_it:
        assert heard(watcher) == [("delete", "/1/d", 3)]
    assert heard(absent) == heard(other) == [], "etcd tells only those whose key was there"


def test_a_stream_hears_twice_of_the_end_of_its_own_key(store: Store) -> None:
    """etcd notifies for what is removed and for what was asked to be removed, which are the same here."""
    stream, above = store.watch("/1/k", stream=True), store.watch("/", True, True)
    store.set("/1/k", value="1")
    store.delete("/1/k")
    assert heard(stream) == [("set", "/1/k", 1), ("delete", "/1/k", 2), ("delete", "/1/k", 2)]
    assert heard(above) == [("set", "/1/k", 1), ("delete", "/1/k", 2)]


def test_expiry_wakes_like_a_removal(store: Store) -> None:
    store.create("/1/d", True, expires=2_000_000_000_000_000_000)
    store.set("/1/d/x", value="1")
    watcher = store.watch("/1/d/x")
    assert store.delete_expired_keys(1_999_999_999_999_999_999) == 0
    assert store.delete_expired_keys(2_000_000_000_000_000_000) == 1
    assert heard(watcher) == [("expire", "/1/d", 3)]


def test_refreshes_wake_nobody_and_are_not_in_the_history_for_anybody(store: Store) -> None:
    store.set("/1/k", value="1")
    stream = store.watch("/1/k", stream=True)
    store.update("/1/k", expires=2_000_000_000_000_000_000, refresh=True)
    store.set("/1/k", expires=2_000_000_000_000_000_000, refresh=True)
    store.compare_and_swap("/1/k", "1", expires=2_000_000_000_000_000_000, refresh=True)
    assert heard(stream) == []
    assert heard(store.watch("/1/k", since=2)) == []
    assert store.get("/1/k").node.value == "1"
    store.set("/1/k", value="2")
    assert heard(store.watch("/1/k", since=2)) == [("set", "/1/k", 5)]


def test_a_watch_of_the_past_gets_the_first_event_from_its_index_on(store: Store) -> None:
    for value in "abc":
        store.set("/1/k", value=value)
        store.set("/1/other", value=value)
    assert heard(store.watch("/1/k", since=1)) == [("set", "/1/k", 1)]
    assert heard(store.watch("/1/k", since=2)) == [("set", "/1/k", 3)]
    assert store.watch("/1/k", since=2).start_index == 6
    assert heard(store.watch("/1", True, since=6)) == [("set", "/1/other", 6)]
    ahead = store.watch("/1/k", since=8)
    store.set("/1/k", value="d")
    assert heard(ahead) == [], "index 7 is before what it asked for"
    store.set("/1/k", value="e")
    assert heard(ahead) == [("set", "/1/k", 8)]


def test_the_history_shows_hidden_keys_and_directories_that_begin_alike(store: Store) -> None:
    """Two of etcd's rules for the past that differ from those for what comes."""
    store.set("/1/d/_h", value="1")
    assert heard(store.watch("/1", True, since=1)) == [("set", "/1/d/_h", 1)]
    store.delete("/1/d", recursive=True)
    assert heard(store.watch("/1/dx", since=2)) == [("delete", "/1/d", 2)]


def test_a_stream_from_the_past_gets_all_of_it_and_then_what_comes(store: Store) -> None:
    """etcd sends the first event and is silent for ever after: nobody can want that."""
    for value in "abc":
        store.set("/1/k", value=value)
    stream = store.watch("/1/k", stream=True, since=2)
    store.set("/1/k", value="d")
    assert heard(stream) == [("set", "/1/k", index) for index in (2, 3, 4)]


def test_what_fell_out_of_the_history_is_refused_with_the_index_to_resume_from(store: Store) -> None:
    for number in range(limits.V2_HISTORY_EVENTS + 5):
        store.set("/1/k", value=str(number))
    with pytest.raises(V2Error) as caught:
        store.watch("/1/k", since=5)
    assert (caught.value.code, caught.value.index) == (EVENT_INDEX_CLEARED, 1005)
    assert caught.value.cause == "the requested history has been cleared [6/5]"
    assert heard(store.watch("/1/k", since=6)) == [("set", "/1/k", 6)]
    assert len(heard(store.watch("/1/k", stream=True, since=6))) == limits.V2_HISTORY_EVENTS


def test_a_stream_that_does_not_keep_up_is_closed_after_what_it_could_hold(store: Store) -> None:
    stream, other = store.watch("/1/k", stream=True), store.watch("/1/never", stream=True)
    for number in range(limits.V2_WATCHER_QUEUE_EVENTS):
        store.set("/1/k", value=str(number))
    closed_before = stream.closed
    store.set("/1/k", value="too much")
    assert (closed_before, stream.closed) == (False, True)
    assert store.hub.count == 1
    assert heard(stream)[-1] == ("set", "/1/k", limits.V2_WATCHER_QUEUE_EVENTS)
    assert not other.closed


def test_who_goes_is_forgotten_even_while_others_are_told(store: Store) -> None:
    first, second = store.watch("/1/k", stream=True), store.watch("/1/k", stream=True)
    first.wake = second.remove
    store.set("/1/k", value="1")
    assert heard(second) == []
    assert store.hub.count == 1
    second.remove()
    first.remove()
    assert store.hub.count == 0


def test_a_watch_may_begin_while_others_are_told(store: Store) -> None:
    later: list[Watcher] = []
    watcher = store.watch("/1/k")
    watcher.wake = lambda: later.append(store.watch("/1/k"))
    store.set("/1/k", value="1")
    assert heard(later[0]) == []
    store.set("/1/k", value="2")
    assert heard(later[0]) == [("set", "/1/k", 2)]


def test_watchers_outlive_a_snapshot_that_takes_the_stores_place() -> None:
    """They get what they missed; those whose events the snapshot no longer has are closed."""
    ahead, tables = MemoryTables(), MemoryTables()
    leader, follower = Store(ahead, Clock()), Store(tables, Clock())
    for store in (leader, follower):
        store.set("/1/k", value="0")
    poll, stream = follower.watch("/1/k"), follower.watch("/1/k", stream=True)
    idle, future = follower.watch("/1/idle"), follower.watch("/1/k", since=5)
    leader.set("/1/k", value="1")
    leader.set("/1/k", value="2")
    follower.reload(ahead)
    follower.check_invariants()
    assert heard(poll) == [("set", "/1/k", 2)]
    assert heard(stream) == [("set", "/1/k", 2), ("set", "/1/k", 3)]
    assert heard(idle) == heard(future) == []
    assert [w.closed for w in (poll, stream, idle, future)] == [True, False, False, False]
    follower.set("/1/k", value="3")
    assert heard(stream) == [("set", "/1/k", 4)]
    late = MemoryTables()
    leader = Store(late, Clock())
    for number in range(limits.V2_HISTORY_EVENTS + 6):
        leader.set("/1/k", value=str(number))
    follower.reload(late)
    assert [w.closed for w in (stream, idle, future)] == [True, True, True]
    assert follower.hub.count == 0
