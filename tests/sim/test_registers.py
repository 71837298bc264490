"""The search for a linearization against the dumb way: try all orders."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvorum.sim.registers import Step, explain


def dumb(steps: list[Step]) -> bool:
    """Whether some order, with or without each step of unknown outcome, explains all of them."""
    certain = [step for step in steps if step.ended < math.inf]
    perhaps = [step for step in steps if step.ended == math.inf]
    for size in range(len(perhaps) + 1):
        for happened in itertools.combinations(perhaps, size):
            for order in itertools.permutations([*certain, *happened]):
                if _respects_time(order) and _explains(order):
                    return True
    return False


def _respects_time(order: tuple[Step, ...]) -> bool:
    return all(after.ended >= before.started for before, after in itertools.combinations(order, 2))


def _explains(order: tuple[Step, ...]) -> bool:
    value: bytes | None = None
    for step in order:
        possible, value = step.happens(value)
        if not possible:
            return False
    return True


values = st.sampled_from((None, b"a", b"b"))


@st.composite
def histories(draw: st.DrawFn) -> list[Step]:
    steps = []
    for number in range(draw(st.integers(1, 5))):
        started = draw(st.integers(0, 6))
        ended = draw(st.one_of(st.just(math.inf), st.integers(started + 1, 9)))
        steps.append(
            Step(
                f"s{number}",
                started + number / 100,
                ended + number / 100,
                looks=draw(st.booleans()),
                before=draw(values),
                writes=draw(st.booleans()),
                after=draw(values),
                may_miss=ended == math.inf,
            )
        )
    return steps


@given(histories())
def test_it_finds_what_trying_all_orders_finds(steps: list[Step]) -> None:
    assert (explain(steps) == "") == dumb(steps)


def put(name: str, value: bytes, started: float, ended: float) -> Step:
    return Step(name, started, ended, writes=True, after=value)


def get(name: str, value: bytes | None, started: float, ended: float) -> Step:
    return Step(name, started, ended, looks=True, before=value)


@pytest.mark.parametrize(
    ("steps", "ruled_out"),
    [
        pytest.param([put("p", b"a", 0, 1), get("g", b"a", 2, 3)], "", id="read what was written"),
        pytest.param([put("p", b"a", 0, 1), get("g", None, 2, 3)], "g", id="stale"),
        pytest.param([put("p", b"a", 0, 5), get("g", None, 2, 3)], "", id="not yet"),
        pytest.param(
            [put("p", b"a", 0, 9), get("g1", b"a", 1, 2), get("g2", None, 3, 4)], "g2", id="there and gone"
        ),
        pytest.param([put("p", b"a", 0, math.inf), get("g", b"a", 7, 8)], "", id="unknown, and late"),
        pytest.param(
            [put("p", b"a", 0, 1), put("q", b"b", 2, 3), get("g", b"a", 4, 5)], "g", id="lost write"
        ),
    ],
)
def test_by_hand(steps: list[Step], ruled_out: str) -> None:
    assert explain(steps) == ruled_out
