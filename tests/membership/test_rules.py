"""The rules of changes as tables, and as a dumb model that random changes compare them with."""

from dataclasses import replace
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvorum import errors
from kvorum.errors import EtcdError
from kvorum.raft.types import (
    CONF_CHANGE_ADD_LEARNER_NODE,
    CONF_CHANGE_ADD_NODE,
    CONF_CHANGE_REMOVE_NODE,
    CONF_CHANGE_UPDATE_NODE,
    TRANSITION_JOINT_IMPLICIT,
    ConfChange,
    ConfChangeSingle,
    ConfChangeV2,
)
from kvorum.server import changes, strict
from kvorum.server.changes import BadContextError, Change, MemberInfo
from tests.membership.kit import LOCAL, Machine, member

# --- JSON, as etcd's members write it ---------------------------------------------------------------------

JSONS: Final = (
    (MemberInfo(1, ("http://a:1",)), b'{"id":1,"peerURLs":["http://a:1"]}'),
    (MemberInfo(1, ()), b'{"id":1,"peerURLs":null}'),
    (
        MemberInfo(2**64 - 1, ("http://a:1", "http://b:2"), "n", ("http://c:3",), is_learner=True),
        b'{"id":18446744073709551615,"peerURLs":["http://a:1","http://b:2"],"isLearner":true,'
        b'"name":"n","clientURLs":["http://c:3"]}',
    ),
    (MemberInfo(1, ("http://a&b:1",), "\u00e9<>"), '{"id":1,"peerURLs":["http://a\\u0026b:1"],"name":"é\\u003c\\u003e"}'.encode()),
)  # fmt: skip


@pytest.mark.parametrize(("info", "text"), JSONS)
def test_json(info: MemberInfo, text: bytes) -> None:
    assert info.to_json() == text
    assert MemberInfo.from_json(text) == info


@pytest.mark.parametrize("text", [b"", b"[]", b"1", b'{"id":"x"}', b'{"id":1,"peerURLs":1}', b"{"])
def test_json_that_is_no_member(text: bytes) -> None:
    with pytest.raises(ValueError):
        MemberInfo.from_json(text)


def test_contexts() -> None:
    assert changes.promoting(7).context == b'{"id":7,"peerURLs":null,"isPromote":true}'
    assert changes.removing(7).context == b""
    learner = member(7, learner=True)
    assert changes.adding(learner).context == learner.to_json()
    for change in (
        changes.adding(member(7)),
        changes.adding(learner),
        changes.updating(member(7)),
        changes.removing(7),
        changes.promoting(7),
    ):
        assert changes.opened(change.encoded(5)) == [change]


BAD_CONTEXTS: Final = (
    ConfChange(CONF_CHANGE_ADD_NODE, 7, b""),
    ConfChange(CONF_CHANGE_ADD_NODE, 7, b"[]"),
    ConfChange(CONF_CHANGE_UPDATE_NODE, 7, b"{"),
    ConfChange(CONF_CHANGE_ADD_NODE, 7, member(8).to_json()),
    ConfChangeV2(changes=(ConfChangeSingle(CONF_CHANGE_ADD_NODE, 7),) * 2, context=b"[{}]"),
    ConfChangeV2(changes=(ConfChangeSingle(CONF_CHANGE_ADD_NODE, 7),), context=b"7"),
)


@pytest.mark.parametrize("change", BAD_CONTEXTS, ids=str)
def test_bad_contexts(change: ConfChange | ConfChangeV2) -> None:
    with pytest.raises(BadContextError):
        changes.opened(change)


# --- readiness (etcd ``TestIsReadyTo...``) ----------------------------------------------------------------


def voters(text: str) -> list[MemberInfo]:
    """``+`` is a voter that has started, ``-`` one that has not."""
    return [member(at, name=None if one == "+" else "") for at, one in enumerate(text, 1)]


@pytest.mark.parametrize(
    ("present", "may"),
    [
        ("---", False), ("+-", False), ("+--", False), ("+", True), ("++-", False), ("+++", True),
        ("+++-", True), ("", False), ("++", True), ("-", False), ("++++-", True), ("+++--", False),
    ],
)  # fmt: skip
def test_may_add_voter(present: str, may: bool) -> None:
    assert strict.may_add_voter(voters(present)) == may


@pytest.mark.parametrize(
    ("present", "leaving", "may"),
    [
        ("+", 1, False), ("---", 1, False), ("+-", 2, True), ("++-", 2, False), ("+++", 3, True),
        ("+++-", 3, True), ("+++-", 4, True), ("+-", 1, False), ("++", 1, True), ("+", 9, True),
    ],
)  # fmt: skip
def test_may_remove_voter(present: str, leaving: int, may: bool) -> None:
    assert strict.may_remove_voter(voters(present), leaving) == may


@pytest.mark.parametrize(
    ("present", "may"),
    [("+", True), ("-", False), ("++", True), ("+-", True), ("+--", False), ("++-", True), ("++--", True)],
)
def test_may_promote(present: str, may: bool) -> None:
    assert strict.may_promote(voters(present)) == may


# --- the rules, against a dumb model ----------------------------------------------------------------------

KINDS: Final = {
    "add": CONF_CHANGE_ADD_NODE,
    "learn": CONF_CHANGE_ADD_LEARNER_NODE,
    "update": CONF_CHANGE_UPDATE_NODE,
}
URLS: Final = [f"http://10.0.0.{number}:2380" for number in range(1, 7)]

IDS = st.integers(1, 6)
STEPS = st.one_of(
    st.tuples(st.sampled_from(["add", "learn", "update"]), IDS, st.sets(st.sampled_from(URLS), max_size=2)),
    st.tuples(st.sampled_from(["remove", "promote"]), IDS, st.just(set[str]())),
)


class Model:
    """Members as plain dicts; every rule as its sentence."""

    def __init__(self, max_learners: int) -> None:
        self.urls: dict[int, set[str]] = {LOCAL: {URLS[0]}}
        self.learners: set[int] = set()
        self.removed: set[int] = set()
        self.max_learners = max_learners

    def refusal(self, kind: str, number: int, urls: set[str]) -> EtcdError | None:
        if number in self.removed:
            return changes.ERR_ID_REMOVED
        known = number in self.urls
        if kind in ("remove", "update", "promote") and not known:
            return errors.ERR_MEMBER_NOT_FOUND
        if kind == "promote" and number not in self.learners:
            return errors.ERR_MEMBER_NOT_LEARNER
        if kind in ("add", "learn") and known:
            return errors.ERR_MEMBER_EXIST
        if any(url in urls for other, theirs in self.urls.items() if other != number for url in theirs):
            return errors.ERR_PEER_URL_EXIST
        if kind == "learn" and len(self.learners) >= self.max_learners:
            return errors.ERR_TOO_MANY_LEARNERS
        if kind == "remove" and not set(self.urls) - self.learners - {number}:
            return errors.ERR_MEMBER_NOT_ENOUGH_STARTED
        return None

    def apply(self, kind: str, number: int, urls: set[str]) -> EtcdError | None:
        error = self.refusal(kind, number, urls)
        if error is not None:
            return error
        if kind == "remove":
            del self.urls[number]
            self.learners.discard(number)
            self.removed.add(number)
        elif kind == "promote":
            self.learners.remove(number)
        else:
            self.urls[number] = set(urls)
            if kind == "learn":
                self.learners.add(number)
        return None


def step(machine: Machine, kind: str, number: int, urls: set[str]) -> Change:
    if kind == "remove":
        return changes.removing(number)
    if kind == "promote":
        return changes.promoting(number)
    known = machine.cluster.member(number)
    is_learner = kind == "learn" or (kind == "update" and known is not None and known.is_learner)
    info = MemberInfo(number, tuple(sorted(urls)), is_learner=is_learner)
    return Change(KINDS[kind], number, info)


@settings(max_examples=150, deadline=None)
@given(st.lists(STEPS, max_size=25), st.integers(0, 2))
def test_changes_against_a_dumb_model(steps: list[tuple[str, int, set[str]]], max_learners: int) -> None:
    machine, model = Machine(max_learners=max_learners), Model(max_learners)
    for kind, number, urls in steps:
        error = machine.apply_steps(step(machine, kind, number, urls))
        assert error is model.apply(kind, number, urls)
        assert {m.id: {*m.peer_urls} for m in machine.cluster.listed()} == model.urls
        assert {m.id for m in machine.cluster.listed() if m.is_learner} == model.learners
        assert machine.cluster.removed == model.removed
        assert machine.cluster.is_learner == (LOCAL in model.learners)
        state = machine.raft.status().conf_state
        assert {*state.voters} == model.urls.keys() - model.learners
        assert {*state.learners} == model.learners


# --- several steps in one entry ---------------------------------------------------------------------------


def joint(*steps: Change) -> ConfChangeV2:
    context = b"[" + b",".join(one.context or b"null" for one in steps) + b"]"
    singles = tuple(ConfChangeSingle(one.kind, one.member_id) for one in steps)
    return ConfChangeV2(TRANSITION_JOINT_IMPLICIT, singles, context)


def test_two_members_take_the_place_of_one() -> None:
    machine = Machine()
    assert machine.apply_steps(changes.adding(member(2))) is None
    machine.apply(
        joint(changes.removing(2), changes.adding(member(3)), changes.adding(member(4, learner=True)))
    )
    state = machine.raft.status().conf_state
    assert (state.voters, state.voters_outgoing, state.learners) == ((1, 3), (1, 2), (4,))
    assert [one.id for one in machine.cluster.listed()] == [1, 3, 4]
    machine.apply(ConfChangeV2())  # Raft's own: leave
    assert machine.raft.status().conf_state.voters == (1, 3)
    assert machine.cluster.is_removed(2)


def test_one_bad_step_spoils_them_all() -> None:
    machine = Machine()
    before = machine.cluster.listed()
    machine.apply(
        joint(changes.adding(member(3)), changes.adding(replace(member(4), peer_urls=member(3).peer_urls)))
    )
    assert machine.cluster.listed() == before
    state = machine.raft.status().conf_state
    assert (state.voters, state.voters_outgoing) == ((1,), (1,)), "joint with itself, until it is left"
    machine.apply(ConfChangeV2())
    assert machine.raft.status().conf_state.voters == (1,)


def test_steps_are_checked_one_after_the_other() -> None:
    machine = Machine()
    machine.apply_steps(changes.adding(member(2)))
    taken_over = replace(member(3), peer_urls=member(2).peer_urls)
    machine.apply(joint(changes.removing(2), changes.adding(taken_over)))
    assert [one.id for one in machine.cluster.listed()] == [1, 3]
    machine.apply(ConfChangeV2())
    machine.apply(joint(changes.removing(3), changes.adding(member(3))))  # its ID is used up by then
    assert [one.id for one in machine.cluster.listed()] == [1, 3]


def test_kinds_have_etcds_names() -> None:
    assert changes.KIND_NAMES[CONF_CHANGE_REMOVE_NODE] == "ConfChangeRemoveNode"
    assert changes.KIND_NAMES[CONF_CHANGE_ADD_LEARNER_NODE] == "ConfChangeAddLearnerNode"
