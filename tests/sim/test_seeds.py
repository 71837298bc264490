"""A handful of storms; ``make sim`` runs a thousand. And: a seed is a run, always the same."""

import os
import re
import subprocess
import sys

import pytest

from kvorum.sim import cli
from kvorum.sim.profile import Profile, adjusted, draw
from kvorum.sim.run import run


@pytest.mark.parametrize("seed", range(1, 13))
def test_a_storm(seed: int) -> None:
    verdict = run(seed)
    assert not verdict.checker, f"python -m kvorum.sim --seed {seed} --verbose\n{verdict.what}"
    assert verdict.operations
    assert verdict.entries


def test_everything_at_once() -> None:
    """All faults, everything asked for: it takes longest, and so much must have happened."""
    profile = adjusted(Profile(), {"members": 5, "faults": draw(3).faults, "snapshot_count": 15})
    verdict = run(1000, profile)
    assert not verdict.checker, verdict.what
    assert verdict.terms > 1
    assert verdict.starts > 5


def _trace_of(seed: int, hash_seed: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "kvorum.sim", "--seed", str(seed)],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )
    found = re.search(r"trace ([0-9a-f]{16})", done.stdout)
    assert found is not None, done.stdout
    return found[1]


def test_the_same_seed_gives_the_same_trace() -> None:
    """In this process, where others ran before, and in new ones with other orders of sets of bytes."""
    here = run(3).digest
    assert run(3).digest == here
    assert _trace_of(3, "1") == _trace_of(3, "2") == here
    assert run(12).digest != here


def test_a_failing_seed_tells_how_to_replay_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--seed", "1", "--bug", "skip-fsync", "--set", "members=3"]) == 1
    told = capsys.readouterr().out
    assert "persist-before-send" in told
    assert "replay: python -m kvorum.sim --seed 1 --bug skip-fsync --set members=3 --verbose" in told
    assert "started: term" in told


def test_many_seeds_are_summed_up(capsys: pytest.CaptureFixture[str]) -> None:
    calm = ["--set", "faults=", "--set", "seconds=1", "--set", "leases=0"]
    assert cli.main(["--seeds", "1..2", *calm]) == 0
    assert "2 seeds, 0 failed" in capsys.readouterr().out
    assert cli.main(["--seeds", "1..2", "--set", "colour=red"]) == 2
    assert "a profile has no colour" in capsys.readouterr().err
