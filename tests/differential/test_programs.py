"""Random programs get etcd's answers from Kvorum: fields, codes, texts, revisions, events, hashes.

A short run of what ``python -m tests.differential`` does at length.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.differential.members import Members
from tests.differential.programs import make
from tests.differential.runner import Pair, shrunk

STEPS: Final = 40
PROGRAMS: Final = {"kv": 60, "lease": 40, "watch": 8, "locks": 20, "chosen": 6, "bad": 20, "all": 12}


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    members = Members(tmp_path)
    running = Pair(members)
    yield running
    running.close()
    members.close()


@pytest.mark.parametrize("surface", PROGRAMS)
def test_programs_get_the_same_answers(pair: Pair, surface: str) -> None:
    for seed in range(PROGRAMS[surface]):
        steps = make(surface, seed, STEPS)
        difference = pair.run(steps)
        if difference is not None:
            again = pair.run(shrunk(pair, steps))
            pytest.fail(f"seed {seed}: {again or 'only after what ran before: ' + difference}")
