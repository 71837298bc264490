"""The simulator must be able to fail: each deliberate mistake is found, by the right checker, in time."""

import pytest

from kvorum.sim.bugs import BUGS, run_with


@pytest.mark.parametrize("name", BUGS)
def test_a_mistake_is_found(name: str) -> None:
    bug = BUGS[name]
    found = []
    for seed in range(1, bug.within + 1):
        verdict = run_with(name, seed, {})
        if verdict.checker in bug.caught_by:
            return
        found.append(verdict.checker or "nothing")
    pytest.fail(f"{name} ({bug.what}): not found by {bug.caught_by} within {bug.within} seeds, but {found}")


def test_there_are_enough_of_them() -> None:
    assert len(BUGS) >= 20
    assert len({checker for bug in BUGS.values() for checker in bug.caught_by}) >= 10
