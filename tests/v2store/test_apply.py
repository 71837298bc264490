"""What requests become when their entries are applied, and that all members come to the same."""

from typing import Any, final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvorum.apply.v2 import UnknownMethodError, V2Applier
from kvorum.v2store.errors import KEY_NOT_FOUND, NODE_EXIST, TEST_FAILED, V2Error
from kvorum.v2store.event import Event
from kvorum.v2store.request import MalformedRequestError, V2Request
from kvorum.v2store.store import Store
from tests.v2store.memory import Clock, MemoryTables
from tests.v2store.test_request import made

FAR = 4_000_000_000_000_000_000


@final
class Members:
    """What the membership was told."""

    def __init__(self) -> None:
        self.puts: list[tuple[str, str]] = []

    def apply_v2_put(self, path: str, value: str) -> bool:
        if path != "/0/version":
            return False
        self.puts.append((path, value))
        return True


@final
class Side:
    """One member's v2 store, and what applies to it."""

    def __init__(self, now: int = 1_700_000_000_000_000_000) -> None:
        self.tables = MemoryTables()
        self.store = Store(self.tables, Clock(now))
        self.members = Members()
        self.applier = V2Applier(self.store, self.members)

    def apply(self, method: str, path: str = "", value: str = "", **slots: Any) -> str:
        """Apply a request from its bytes; returns the action, or the error's number."""
        request = V2Request(method, path, value)
        for name, given_value in slots.items():
            setattr(request, name, given_value)
        outcome = self.applier.apply(request.encode())
        if isinstance(outcome, V2Error):
            return str(outcome.code)
        return outcome.action if isinstance(outcome, Event) else "nothing"


def test_each_request_becomes_its_operation() -> None:
    side = Side()
    assert side.apply("PUT", "/1/k", "a") == "set"
    assert side.apply("PUT", "/1/k", "b", prev_exist=False) == str(NODE_EXIST)
    assert side.apply("PUT", "/1/k", "b", prev_exist=True) == "update"
    assert side.apply("PUT", "/1/none", "b", prev_exist=True) == str(KEY_NOT_FOUND)
    assert side.apply("PUT", "/1/k", "c", prev_value="b") == "compareAndSwap"
    assert side.apply("PUT", "/1/k", "c", prev_value="b", prev_exist=True) == str(TEST_FAILED)
    assert side.apply("PUT", "/1/k", "d", prev_index=3, prev_exist=True) == "compareAndSwap"
    assert side.apply("PUT", "/1/k", "e", prev_value="x", prev_exist=False) == str(NODE_EXIST)
    assert side.apply("QGET", "/1/k") == "get"
    assert side.apply("POST", "/1/queue", "job") == "create"
    assert side.apply("DELETE", "/1/k", prev_value="x") == str(TEST_FAILED)
    assert side.apply("DELETE", "/1/k", prev_index=4) == "compareAndDelete"
    assert side.apply("DELETE", "/1/queue", recursive=True) == "delete"
    assert side.apply("PUT", "/1/dir", dir=True) == "set"
    assert side.apply("DELETE", "/1/dir", dir=True) == "delete"
    side.store.check_invariants()


def test_refresh_changes_the_time_and_nothing_else() -> None:
    side = Side()
    side.apply("PUT", "/1/k", "a", expiration=FAR)
    assert side.apply("PUT", "/1/k", expiration=FAR + 1, refresh=True, prev_exist=True) == "update"
    node = side.store.get("/1/k").node
    assert (node.value, node.expiration) == ("a", FAR + 1)
    assert side.apply("PUT", "/1/k", "b", refresh=False) == "set"
    assert side.store.get("/1/k").node.expiration == 0


def test_sync_expires_by_the_time_in_the_entry_whatever_the_clock_says() -> None:
    side = Side(now=0)
    side.apply("PUT", "/1/a", "x", expiration=FAR)
    side.apply("PUT", "/1/b", "x", expiration=FAR + 1)
    assert side.apply("SYNC", time=FAR) == "nothing"
    assert [node.key for node in side.store.get("/1").node.nodes or ()] == ["/1/b"]
    assert [event.action for event in side.store.hub.history.events] == ["set", "set", "expire"]


def test_what_members_publish_is_the_memberships() -> None:
    side = Side()
    assert side.apply("PUT", "/0/version", "3.5.0") == "nothing"
    assert side.members.puts == [("/0/version", "3.5.0")]
    assert side.apply("PUT", "/0/other", "x") == "set"
    assert side.apply("PUT", "/0/version", "x", prev_exist=False) == "create", "as etcd has it"
    assert side.apply("PUT", "/1/0/version", "x") == "set"


def test_what_no_member_proposes_is_not_applied() -> None:
    side = Side()
    with pytest.raises(UnknownMethodError):
        side.apply("GET", "/1/k")
    with pytest.raises(MalformedRequestError):
        side.applier.apply(b"\x12\x09PUT")


@given(st.lists(made(st.sampled_from(["", "/1/a", "/1/a/b", "x", "/0/version"])), max_size=30))
def test_members_whose_clocks_differ_come_to_the_same_records(requests: list[V2Request]) -> None:
    """Also whether they proposed it or only read it in the log."""
    proposer, follower = Side(), Side(now=1)
    for request in requests:
        ours = proposer.applier.apply(request.encode(), request)
        theirs = follower.applier.apply(request.encode())
        assert type(ours) is type(theirs)
    assert {name: table.rows for name, table in proposer.tables.tables.items()} == {
        name: table.rows for name, table in follower.tables.tables.items()
    }
    proposer.store.check_invariants()
