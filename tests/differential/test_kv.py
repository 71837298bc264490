"""Random KV programs get etcd's answers from Kvorum: fields, error codes, texts, revisions and hashes."""

from collections.abc import Callable

import pytest

from tests.conftest import StartMember
from tests.differential.programs import Program
from tests.differential.runner import Pair
from tests.support import process
from tests.support.client import Client
from tests.support.process import Member

PROGRAMS = 60
STEPS = 40


@pytest.fixture
def pair(start_member: StartMember, connect: Callable[[Member], Client]) -> Pair:
    return Pair(connect(start_member(process.etcd())), connect(start_member(process.kvorum())))


def test_programs_get_the_same_answers(pair: Pair) -> None:
    for seed in range(PROGRAMS):
        steps = Program(seed, STEPS).steps
        difference = pair.run(steps)
        if difference is not None:
            shortest = pair.shrink(steps)
            pytest.fail(f"seed {seed}: {pair.run(shortest) or 'only with what ran before: ' + difference}")
