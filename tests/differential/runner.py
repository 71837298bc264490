"""Runs a program on both servers, compares every answer, shrinks a program that makes them differ."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, final

from tests.differential.normal import without_ids
from tests.differential.side import Side
from tests.differential.steps import Step
from tests.differential.streams import StuckError
from tests.differential.telling import first_difference, in_one_line

__all__ = ["Pair", "Sides", "shrunk", "without_ids"]

Sides = tuple[Side, Side]


@final
class Pair:
    """Two servers that get the same programs; a server that got stuck is replaced before the next one."""

    def __init__(self, start: Callable[[], Sides]) -> None:
        self._start: Final = start
        self._sides = start()
        self._stuck = False
        self._threads: Final = ThreadPoolExecutor(2, "side")

    def run(self, steps: Sequence[Step]) -> str | None:
        """Run a program on emptied stores; returns what differed, or None."""
        if self._stuck:
            self._replace()
        self._begin()
        futures = [self._threads.submit(self._answers, side, steps) for side in self._sides]
        first, second = [future.result() for future in futures]
        names = [side.name for side in self._sides]
        for number, (one, other) in enumerate(zip(first, second, strict=False)):
            if one != other:
                return _told(steps, number, names, (one, other))
        if len(first) != len(second):
            return _told(steps, min(len(first), len(second)) - 1, names, (first[-1], second[-1]))
        return f"both: {first[-1]}" if self._stuck else None

    def close(self) -> None:
        """End what is open on both."""
        for side in self._sides:
            side.close()
        self._threads.shutdown()

    def _begin(self) -> None:
        """Both empty, at the same revision, with no history."""
        revision = max(side.clean() for side in self._sides) + 2
        for side in self._sides:
            side.begin(revision)

    def _answers(self, side: Side, steps: Sequence[Step]) -> list[object]:
        answers: list[object] = []
        try:
            side.run(steps, answers)
        except StuckError as stuck:
            answers.append(f"stuck: {stuck}")
            self._stuck = True
        return answers

    def _replace(self) -> None:
        for side in self._sides:
            side.close()
        self._sides = self._start()
        self._stuck = False


def shrunk(pair: Pair, steps: Sequence[Step]) -> list[Step]:
    """Leave out steps as long as the rest still makes them differ."""
    left = list(steps)
    size = len(left) // 2
    while size:
        at = 0
        while at < len(left):
            fewer = left[:at] + left[at + size :]
            if fewer and pair.run(fewer) is not None:
                left = fewer
            else:
                at += size
        size //= 2
    return left


def _told(steps: Sequence[Step], number: int, names: Sequence[str], answers: Sequence[object]) -> str:
    where = f"step {number}" if number < len(steps) else "what the watches delivered"
    done = "\n".join(f"  {at}: {in_one_line(step)}" for at, step in enumerate(steps[: number + 1]))
    path, *parts = first_difference(answers[0], answers[1])
    told = "\n".join(f"  {name}: {in_one_line(part)}" for name, part in zip(names, parts, strict=True))
    return f"{where} differs:\n{done}\nat {path or 'the answer'}\n{told}"
