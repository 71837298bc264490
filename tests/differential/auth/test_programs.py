"""Random users, roles and calls get etcd's answers from Kvorum; a short run of the long one."""

from pathlib import Path

import pytest

from tests.differential.auth.programs import make
from tests.differential.auth.runner import Runner


def test_programs_get_the_same_answers(tmp_path: Path) -> None:
    runner = Runner(tmp_path)
    try:
        for seed in range(12):
            difference = runner.run(make(seed, 50))
            if difference is not None:
                pytest.fail(f"python -m tests.differential.auth --seeds {seed} --steps 50: {difference}")
    finally:
        runner.close()
    assert runner.compared > 500
    assert runner.alone > 100
