"""A few seconds of the long run, and that it finds what it looks for."""

import os
from pathlib import Path

import pytest

from tests.cluster.conftest import programs
from tests.soak.episodes import Plan, soak
from tests.support import load

SEED = int(os.environ.get("KVORUM_TEST_SEED", "20161121"))


def test_a_short_run(tmp_path: Path) -> None:
    said: list[str] = []
    soak(Plan(programs(3), SEED, seconds=8.0, episode_seconds=4.0), tmp_path, said.append)
    assert sum(line.startswith("episode") for line in said) >= 2, said


def test_a_lost_write_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each member forgets one change, in what the check is told of it."""
    whole = load.truth
    monkeypatch.setattr(load, "truth", lambda *arguments: whole(*arguments)[:-1])
    with pytest.raises(AssertionError, match="lost: "):
        soak(Plan(programs(1), SEED, seconds=1.0), tmp_path, lambda _: None)
