"""The log against a dumb list, under everything a member does to it."""

from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kvorum.raft.log import NO_TERM, NOT_MATCHING, LogLostError, RaftLog
from kvorum.raft.types import ConfState, Entry, HardState, Snapshot, SnapshotMetadata


@dataclass
class Dumb:
    """The same log as a dict, and its cursors as they are defined."""

    terms: dict[int, int] = field(default_factory=lambda: {0: 0})
    first: int = 1
    committed: int = 0
    applying: int = 0
    applied: int = 0
    stable: int = 0
    saving: int = 0

    @property
    def last(self) -> int:
        return max(self.terms)


class Twins(RuleBasedStateMachine):
    """A follower's log: appends with conflicts, commits, Readies, applies, compactions, snapshots."""

    def __init__(self) -> None:
        super().__init__()
        self.log = RaftLog()
        self.dumb = Dumb()
        self.term = 1
        self.restoring = False

    @rule(back=st.integers(0, 4), count=st.integers(0, 4), newer=st.booleans(), commit=st.integers(0, 5))
    def append(self, back: int, count: int, newer: bool, commit: int) -> None:
        dumb = self.dumb
        at = max(dumb.committed, dumb.last - back)
        self.term += newer
        entries = [Entry(self.term, at + 1 + n, data=b"x" * n) for n in range(count)]
        if not newer:
            # A late copy: what is there already, not longer than the log.
            entries = [Entry(dumb.terms.get(e.index, self.term), e.index, data=e.data) for e in entries]
        known = self.log.maybe_append(at, dumb.terms[at], at + commit, entries)
        assert known == at + count
        for entry in entries:
            if dumb.terms.get(entry.index) != entry.term:
                for index in range(entry.index, dumb.last + 1):
                    del dumb.terms[index]
                dumb.stable = min(dumb.stable, entry.index - 1)
                dumb.saving = min(dumb.saving, entry.index - 1)
            dumb.terms[entry.index] = entry.term
        dumb.committed = max(dumb.committed, min(at + commit, at + count))

    @rule(ahead=st.integers(1, 3))
    def append_beyond(self, ahead: int) -> None:
        assert self.log.maybe_append(self.dumb.last + ahead, self.term, 99, []) == NOT_MATCHING

    @rule()
    def append_conflicting(self) -> None:
        last = self.dumb.last
        assert (
            self.log.maybe_append(last, self.dumb.terms[last] + 1, 99, [Entry(99, last + 1)]) == NOT_MATCHING
        )

    @rule()
    def take(self) -> None:
        dumb = self.dumb
        taken = self.log.take_unsaved()
        assert [entry.index for entry in taken] == list(range(dumb.saving + 1, dumb.last + 1))
        dumb.saving = dumb.last

    @rule()
    def saved(self) -> None:
        self.log.saved()
        self.dumb.stable = self.dumb.saving

    @rule(size=st.sampled_from([1, 60, 1000]))
    def apply(self, size: int) -> None:
        dumb = self.dumb
        end = 0 if self.restoring else min(dumb.committed, dumb.stable)
        assert self.log.has_committed() == (dumb.applying < end)
        page = [entry.index for entry in self.log.take_committed(size)]
        assert page == list(range(dumb.applying + 1, dumb.applying + 1 + len(page)))
        assert bool(page) == (dumb.applying < end)
        if page:
            assert page[-1] <= end
            dumb.applying = page[-1]

    @rule(back=st.integers(0, 2))
    def applied(self, back: int) -> None:
        dumb = self.dumb
        index = max(dumb.applied, dumb.applying - back)
        if self.restoring and index < dumb.first - 1:
            return
        self.log.applied_to(index)
        dumb.applied = max(dumb.applied, index)
        self.restoring = False

    @precondition(lambda self: not self.restoring)
    @rule(keep=st.integers(0, 3))
    def compact(self, keep: int) -> None:
        dumb = self.dumb
        self.log.create_snapshot(dumb.applied, ConfState((1,)), b"s")
        self.log.compact(dumb.applied - keep)
        dumb.first = max(dumb.first, dumb.applied - keep + 1)

    @rule(ahead=st.integers(1, 6))
    def restore(self, ahead: int) -> None:
        dumb = self.dumb
        index = max(dumb.committed, dumb.last) + ahead
        snapshot = Snapshot(b"s", SnapshotMetadata(ConfState((1,)), index, self.term))
        self.log.restore(snapshot)
        assert self.log.take_snapshot() is snapshot
        self.log.saved()
        dumb.terms = {index: self.term}
        dumb.first = index + 1
        dumb.committed = dumb.applying = dumb.stable = dumb.saving = index
        self.restoring = True

    @invariant()
    def same(self) -> None:
        log, dumb = self.log, self.dumb
        log.check_invariants()
        assert (log.first_index, log.last_index) == (dumb.first, dumb.last)
        for index in range(dumb.last + 3):
            expected = dumb.terms[index] if dumb.first - 1 <= index <= dumb.last else NO_TERM
            assert log.term(index) == expected
        cursors = (log.committed, log.applying, log.applied, log.stable, log.saving)
        assert cursors == (dumb.committed, dumb.applying, dumb.applied, dumb.stable, dumb.saving)
        for index in range(dumb.first - 1, dumb.last + 1):
            for term in range(self.term + 1):
                found = log.find_conflict_by_term(index, term)
                below = [i for i in range(dumb.first - 1, index + 1) if dumb.terms[i] <= term]
                assert found == (below[-1] if below else dumb.first - 2)


TestTwins = Twins.TestCase
TestTwins.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


@pytest.mark.parametrize(
    ("size", "count"), [(0, 1), (24 + 10, 1), (2 * 34, 2), (2 * 34 + 33, 2), (5 * 34, 5), (10**6, 5)]
)
def test_pages(size: int, count: int) -> None:
    log = RaftLog(entries=[Entry(1, n, data=b"x" * 10) for n in range(1, 6)])
    assert [entry.index for entry in log.page(1, 6, size)] == list(range(1, count + 1))
    assert log.page(6, 6, size) == []


def test_restart_leaves_out_what_the_snapshot_covers() -> None:
    snapshot = Snapshot(b"", SnapshotMetadata(ConfState((1,)), 3, 2))
    log = RaftLog(snapshot, HardState(2, 1, 4), [Entry(1, 2), Entry(2, 3), Entry(2, 4), Entry(2, 5)])
    assert (log.first_index, log.last_index, log.committed, log.applied) == (4, 5, 4, 3)
    assert log.term(3) == 2
    log.check_invariants()


def test_restart_with_a_state_machine_ahead_of_the_commit_index() -> None:
    """The commit index is written without a sync: what was applied was committed."""
    log = RaftLog(hard_state=HardState(1, 1, 1), entries=[Entry(1, 1), Entry(1, 2), Entry(1, 3)], applied=2)
    assert (log.committed, log.applied) == (2, 2)


@pytest.mark.parametrize(
    ("hard_state", "entries", "applied", "says"),
    [
        (HardState(1, 1, 3), [Entry(1, 1), Entry(1, 2)], 0, "entry 3 was committed"),
        (HardState(1, 1, 1), [Entry(1, 1)], 2, "entry 2 was committed"),
        (HardState(1, 1, 1), [Entry(1, 1), Entry(1, 3)], 0, "from entry 1 to 3"),
        (HardState(1, 1, 0), [Entry(1, 2)], 0, "from entry 0 to 2"),
    ],
)
def test_restart_with_a_log_that_lost_something(
    hard_state: HardState, entries: list[Entry], applied: int, says: str
) -> None:
    with pytest.raises(LogLostError, match=says):
        RaftLog(hard_state=hard_state, entries=entries, applied=applied)


def test_compaction_stays_behind_the_snapshot_and_snapshots_behind_what_is_applied() -> None:
    log = RaftLog(hard_state=HardState(1, 1, 3), entries=[Entry(1, n) for n in (1, 2, 3)], applied=2)
    with pytest.raises(ValueError, match="cannot compact to 2"):
        log.compact(2)
    with pytest.raises(ValueError, match="not applied yet"):
        log.create_snapshot(3, ConfState((1,)), b"")
    log.create_snapshot(2, ConfState((1,)), b"")
    with pytest.raises(ValueError, match="older"):
        log.create_snapshot(1, ConfState((1,)), b"")
    log.compact(2)
    log.compact(1)
    assert (log.first_index, log.last_index) == (3, 3)


def test_up_to_date_is_a_total_order() -> None:
    """§5.4.1: of any two logs at least one is as up to date as the other."""
    logs = [
        RaftLog(entries=[Entry(t, i) for i, t in enumerate(ts, 1)]) for ts in ([], [1], [1, 1], [1, 2], [2])
    ]
    for a in logs:
        assert a.is_up_to_date(a.last_index, a.last_term)
        for b in logs:
            assert a.is_up_to_date(b.last_index, b.last_term) or b.is_up_to_date(a.last_index, a.last_term)
