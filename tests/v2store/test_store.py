"""The store against its dumb twin, and against itself after a restart and by way of its JSON."""

import json
from collections.abc import Callable
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from kvorum.v2store.dump import recover_json, save_json
from kvorum.v2store.errors import V2Error
from kvorum.v2store.event import Event
from kvorum.v2store.store import Store
from kvorum.v2store.times import parse_time
from tests.v2store.memory import Clock, MemoryTables
from tests.v2store.model import SECOND, Model, RefusedError

T = TypeVar("T")

NAMES = st.sampled_from(["a", "b", "_h", "ü<"])
PATHS = st.one_of(
    st.lists(NAMES, min_size=1, max_size=3).map(lambda names: "/1/" + "/".join(names)),
    st.sampled_from(["/1", "/", "/0", "/0/members/1"]),
)
VALUES = st.sampled_from(["", "x", "y", 'q"\\\n&\u2028', "\udcff"])
TTLS = st.one_of(st.none(), st.sampled_from([-40 * 365 * 86_400, -3, 0, 1, 5, 100]), st.floats(0, 9))
INDICES = st.integers(0, 12)
START = 1_700_000_000_000_000_000


def plain(event: Event) -> dict[str, Any]:
    """What a client reads, with times as numbers; text that is no UTF-8 is a client's own trouble."""
    fields: dict[str, Any] = json.loads(event.to_json())
    _plain_times(fields)
    return fields


def _plain_times(fields: dict[str, Any]) -> None:
    for name in ("node", "prevNode"):
        if name in fields:
            _plain_times(fields[name])
    for node in fields.get("nodes", ()):
        _plain_times(node)
    if "expiration" in fields:
        fields["expires"] = parse_time(fields.pop("expiration"))


def replaced(answer: Any) -> Any:
    """The model's answer, with what is no UTF-8 replaced as JSON does."""
    return json.loads(json.dumps(answer).replace("\\udcff", "\\ufffd"))


def outcome_of(call: Callable[[], T]) -> tuple[T | None, Exception | None]:
    try:
        return call(), None
    except (V2Error, RefusedError) as error:
        return None, error


class StoreAgainstModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock(START)
        self.tables = MemoryTables()
        self.store = Store(self.tables, self.clock)
        self.model = Model(START)

    def expiry(self, ttl: float | None) -> int:
        return 0 if ttl is None else self.clock.now + int(ttl * SECOND)

    def both(self, ours: Callable[[], Event], twins: Callable[[], Any]) -> None:
        expected, refusal = outcome_of(twins)
        event, error = outcome_of(ours)
        if error is None:
            assert event is not None
            assert refusal is None
            assert plain(event) == replaced(expected)
            assert event.etcd_index == self.model.index
        else:
            assert isinstance(error, V2Error)
            assert refusal is not None
            assert (error.code, error.cause) == refusal.args
            assert error.index == self.model.index

    @rule(path=PATHS, value=st.one_of(st.none(), VALUES), ttl=TTLS)
    def create(self, path: str, value: str | None, ttl: float | None) -> None:
        expires = self.expiry(ttl)
        kept = 0 if ttl is not None and ttl < -3 else expires
        self.both(
            lambda: self.store.create(path, value is None, value or "", False, expires),
            lambda: self.model.make("create", path, value, kept, False),
        )

    @rule(path=PATHS, value=VALUES)
    def create_in_order(self, path: str, value: str) -> None:
        unique = f"{path}/{self.model.index + 1:020}".replace("//", "/")
        self.both(
            lambda: self.store.create(path, False, value, True),
            lambda: self.model.make("create", unique, value, 0, False),
        )

    @rule(path=PATHS, value=st.one_of(st.none(), VALUES), ttl=TTLS, refresh=st.booleans())
    def set(self, path: str, value: str | None, ttl: float | None, refresh: bool) -> None:
        expires = self.expiry(ttl)
        kept = 0 if ttl is not None and ttl < -3 else expires
        if refresh and value is None:
            value = ""
        self.both(
            lambda: self.store.set(path, value is None, value or "", expires, refresh),
            lambda: self.model.set(path, value, kept, refresh),
        )

    @rule(path=PATHS, value=VALUES, ttl=TTLS, refresh=st.booleans())
    def update(self, path: str, value: str, ttl: float | None, refresh: bool) -> None:
        expires = self.expiry(ttl)
        self.both(
            lambda: self.store.update(path, value, expires, refresh),
            lambda: self.model.update(path, value, expires, refresh),
        )

    @rule(path=PATHS, prev=VALUES, index=INDICES, value=VALUES, ttl=TTLS, refresh=st.booleans())
    def swap(self, path: str, prev: str, index: int, value: str, ttl: float | None, refresh: bool) -> None:
        expires = self.expiry(ttl)
        self.both(
            lambda: self.store.compare_and_swap(path, prev, index, value, expires, refresh),
            lambda: self.model.swap(path, prev, index, value, expires, refresh),
        )

    @rule(path=PATHS, is_dir=st.booleans(), recursive=st.booleans())
    def delete(self, path: str, is_dir: bool, recursive: bool) -> None:
        self.both(
            lambda: self.store.delete(path, is_dir, recursive),
            lambda: self.model.delete(path, is_dir, recursive),
        )

    @rule(path=PATHS, prev=VALUES, index=INDICES)
    def compare_and_delete(self, path: str, prev: str, index: int) -> None:
        self.both(
            lambda: self.store.compare_and_delete(path, prev, index),
            lambda: self.model.compare_and_delete(path, prev, index),
        )

    @rule(path=PATHS, recursive=st.booleans())
    def get(self, path: str, recursive: bool) -> None:
        self.both(lambda: self.store.get(path, recursive, True), lambda: self.model.get(path, recursive))

    @rule(seconds=st.floats(0, 6))
    def time_passes(self, seconds: float) -> None:
        self.clock.now += int(seconds * SECOND)
        self.model.now = self.clock.now
        before = len(self.model.events)
        self.model.expire(self.clock.now)
        expired = self.store.delete_expired_keys(self.clock.now)
        assert expired == len(self.model.events) - before

    @rule()
    def restart(self) -> None:
        before = self.store
        self.store = Store(self.tables, self.clock)
        self.same_as(before)

    @rule()
    def travel_as_json(self) -> None:
        before = self.store
        self.tables, source = MemoryTables(), self.tables
        recover_json(save_json(source), self.tables)
        if b"\xff" in b"".join(source.table(b"v2_node").rows.values()) + b"".join(
            source.table(b"v2_event").rows.values()
        ):
            self.tables = source  # what is no UTF-8 does not come through JSON, as in etcd
        self.store = Store(self.tables, self.clock)
        self.same_as(before)
        assert save_json(self.tables) == save_json(source)

    def same_as(self, before: Store) -> None:
        assert plain(self.store.get("/", True, True)) == plain(before.get("/", True, True))
        assert self.store.index == before.index
        assert self.store.stats.counts[2:] == before.stats.counts[2:]
        assert self.store.next_expiry == before.next_expiry

    @invariant()
    def promises_hold(self) -> None:
        self.store.check_invariants()
        assert self.store.index == self.model.index
        assert self.store.has_ttl_keys == any(entry.expires for entry in self.model.entries.values())

    @invariant()
    def history_is_what_happened(self) -> None:
        def without_ttl(event: dict[str, Any]) -> Any:
            for name in ("node", "prevNode"):
                event.get(name, {}).pop("ttl", None)
            return event

        ours = [without_ttl(plain(event)) for event in self.store.hub.history.events]
        assert ours == [without_ttl(replaced(event)) for event in self.model.events]


TestStoreAgainstModel = StoreAgainstModel.TestCase
TestStoreAgainstModel.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


def test_counters_count_as_etcds_do() -> None:
    """Also where etcd takes a refusal for a success, or counts one twice."""
    store = Store(MemoryTables(), Clock())
    store.set("/1/k", value="x")
    store.create("/1/dir", True)
    store.get("/1", True)
    refused: list[Callable[[], Event]] = [
        lambda: store.get("/1/none"),
        lambda: store.get("/1/none", True),
        lambda: store.set("/1/dir"),
        lambda: store.set("/1"),
        lambda: store.create("/1/k"),
        lambda: store.create("/1/k/below"),
        lambda: store.update("/1"),
        lambda: store.update("/1/none"),
        lambda: store.update("/1/dir", "x"),
        lambda: store.compare_and_swap("/1", "x"),
        lambda: store.compare_and_swap("/1/dir", "x"),
        lambda: store.compare_and_swap("/1/k", "y"),
        lambda: store.delete("/1"),
        lambda: store.delete("/1/dir"),
        lambda: store.compare_and_delete("/1", "x"),
        lambda: store.compare_and_delete("/1/k", "y"),
        lambda: store.compare_and_delete("/1/none", "y"),
    ]
    for call in refused:
        assert outcome_of(call)[1] is not None
    counted = {name: count for name, count in json.loads(store.stats_json()).items() if count}
    assert counted == {
        "getsSuccess": 1,
        "getsFail": 2,
        "setsSuccess": 1,
        "setsFail": 3,  # one is of the create below a value
        "deleteSuccess": 1,
        "deleteFail": 1,
        "updateSuccess": 2,
        "updateFail": 1,
        "createSuccess": 1,
        "createFail": 2,
        "compareAndSwapSuccess": 1,
        "compareAndSwapFail": 2,
        "compareAndDeleteSuccess": 2,
        "compareAndDeleteFail": 1,
    }
    assert store.stats.reads() == {("get",): 1, ("getRecursive",): 2}
    assert store.stats.writes() == {
        ("set",): 4,
        ("delete",): 2,
        ("update",): 3,
        ("create",): 3,
        ("compareAndSwap",): 3,
        ("compareAndDelete",): 3,
    }
