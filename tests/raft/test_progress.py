"""The leader's view of a member: windows against a dumb list, and the moves between the three states."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvorum.raft.progress import PROBE, REPLICATE, SNAPSHOT, Inflights, Progress


def progress(match: int = 0, next_index: int = 1, window: int = 256) -> Progress:
    pr = Progress(next_index, Inflights(window, 0), False)
    pr.match = match
    return pr


@given(
    st.integers(1, 4), st.integers(0, 50), st.lists(st.tuples(st.booleans(), st.integers(0, 20)), max_size=40)
)
def test_window(messages: int, size: int, steps: list[tuple[bool, int]]) -> None:
    """Acknowledging an index frees every message that ends there or before."""
    window = Inflights(messages, size)
    dumb: list[tuple[int, int]] = []
    last = 0
    for send, number in steps:
        full = len(dumb) == messages or (size > 0 and sum(b for _, b in dumb) >= size)
        assert window.is_full() == full
        if send:
            if not full:
                last += 1
                window.add(last, number)
                dumb.append((last, number))
        else:
            window.free_up_to(number)
            dumb = [(index, b) for index, b in dumb if index > number]
        assert window.count == len(dumb)
        assert window.size_bytes == sum(b for _, b in dumb)
    window.clear()
    assert (window.count, window.size_bytes) == (0, 0)


def test_full_window_takes_nothing() -> None:
    window = Inflights(1, 0)
    window.add(1, 1)
    with pytest.raises(AssertionError):
        window.add(2, 1)


@pytest.mark.parametrize(
    ("state", "match", "next_index", "rejected", "hint", "decreased", "then"),
    [
        # replicating: back to what is known, unless the rejection is about that
        (REPLICATE, 5, 10, 5, 5, False, 10),
        (REPLICATE, 5, 10, 4, 4, False, 10),
        (REPLICATE, 5, 10, 9, 9, True, 6),
        # probing: only the probe under way counts
        (PROBE, 0, 10, 4, 4, False, 10),
        (PROBE, 0, 10, 9, 9, True, 9),
        (PROBE, 0, 10, 9, 2, True, 3),
        (PROBE, 0, 1, 0, 0, True, 1),
        (PROBE, 4, 10, 9, 2, True, 5),
    ],
)
def test_rejection(
    state: int, match: int, next_index: int, rejected: int, hint: int, decreased: bool, then: int
) -> None:
    pr = progress(match, next_index)
    pr.state = state
    pr.sent_commit = 9
    assert pr.maybe_decrease(rejected, hint) == decreased
    assert pr.next == then
    # What was sent beyond is not there, so its commit index has to be told again.
    assert pr.sent_commit == min(9, then - 1)
    pr.check_invariants()


def test_states() -> None:
    pr = progress(match=3, next_index=8)
    assert (pr.state, pr.is_paused()) == (PROBE, False)
    pr.sent_entries(2, 10)
    assert (pr.next, pr.is_paused()) == (8, True)
    pr.become_replicate()
    assert (pr.next, pr.is_paused()) == (4, False)
    pr.sent_entries(2, 10)
    assert (pr.next, pr.inflights.count) == (6, 1)
    pr.become_snapshot(20)
    assert (pr.state, pr.next, pr.inflights.count, pr.is_paused()) == (SNAPSHOT, 21, 0, True)
    pr.check_invariants()
    pr.become_probe()
    assert (pr.next, pr.pending_snapshot) == (21, 0)
    assert "StateProbe match=3 next=21 inactive" in repr(pr)


def test_commit_index_is_told_once() -> None:
    pr = progress(match=3, next_index=6)
    assert pr.wants_commit(4)
    pr.sent_commit = 5
    assert not pr.wants_commit(9), "it can't pass what it was sent"
    pr.next = 8
    assert pr.wants_commit(6)
    assert not pr.wants_commit(5)
