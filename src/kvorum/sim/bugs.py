"""Deliberate mistakes."""

from collections.abc import Callable
from typing import Any

from kvorum.sim import profile as profiles
from kvorum.sim.run import Verdict, run

BUGS: dict[str, object] = {"none": None}


def run_with(bug: str, seed: int, changes: dict[str, Any], *, echo: Callable[[str], None] | None) -> Verdict:
    """Run."""
    return run(seed, profiles.adjusted(profiles.draw(seed), changes), echo=echo)
