"""The check of histories: it accepts what one order explains and names what none does."""

from dataclasses import replace

import pytest

from tests.support.history import READ, STALE_READ, WRITE, Change, Operation, violations

K = b"k"
WROTE = Operation("a", WRITE, K, b"1", 0.0, 1.0, 2)
LOST = Operation("b", WRITE, K, b"2", 2.0, 3.0)
SWAPPED = Operation("a", WRITE, K, b"3", 4.0, 5.0, 4, 3)
SAW = Operation("c", READ, K, b"3", 6.0, 7.0, 4, 4)
EARLY = Operation("c", READ, K, b"", 0.0, 0.5, 1, 0)
STALE = Operation("d at m1", STALE_READ, K, b"2", 8.0, 9.0, 3, 3)
TRUTH = [Change(2, K, b"1"), Change(3, K, b"2"), Change(4, K, b"3")]
ALL = [WROTE, LOST, SWAPPED, SAW, EARLY, STALE]


def test_a_history_that_one_order_explains() -> None:
    assert violations(ALL, TRUTH) == []
    assert violations([WROTE, LOST], TRUTH[:1]) == [], "what was not answered need not have happened"


@pytest.mark.parametrize(
    ("operations", "truth", "named"),
    [
        ([WROTE], [], "lost"),
        ([WROTE], [Change(2, K, b"x")], "lost"),
        ([WROTE], [Change(3, K, b"1")], "lost"),
        ([LOST], [Change(2, K, b"2"), Change(3, K, b"2")], "phantom"),
        ([], [Change(2, K, b"9")], "phantom"),
        ([replace(WROTE, revision=4), LOST], [Change(3, K, b"2"), Change(4, K, b"1")], "phantom"),
        ([WROTE, replace(SAW, value=b"2")], TRUTH[:1], "wrong"),
        ([WROTE, replace(SAW, revision=1, value=b"", mod_revision=0)], TRUTH[:1], "order"),
        ([WROTE, replace(WROTE, value=b"5", started=2.0, ended=3.0)], TRUTH[:1], "order"),
        ([WROTE, LOST, replace(SWAPPED, mod_revision=2)], TRUTH, "unmet"),
        ([WROTE, LOST, replace(SWAPPED, revision=0, mod_revision=0)], TRUTH, "unmet"),
        (
            [*ALL, replace(STALE, started=9.5, ended=9.6, revision=2, value=b"1", mod_revision=2)],
            TRUTH,
            "back",
        ),
        ([*ALL, replace(STALE, value=b"1")], TRUTH, "wrong"),
    ],
)
def test_a_history_that_none_explains(operations: list[Operation], truth: list[Change], named: str) -> None:
    assert named in {text.split(":")[0] for text in violations(operations, truth)}


def test_a_serializable_read_may_be_old_and_another_members_older() -> None:
    older = replace(STALE, client="d at m2", started=9.5, ended=9.6, revision=2, value=b"1", mod_revision=2)
    assert violations([*ALL, older], TRUTH) == []
