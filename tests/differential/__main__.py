"""The long run: ``python -m tests.differential`` (``make differential``); see ``--help``."""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.differential.members import PROGRAMS, Members
from tests.differential.programs import SURFACES, make
from tests.differential.runner import Pair, shrunk

STEPS: Final = 40
SEEDS: Final = "0-399"  # of each surface: 2,400 programs
PROGRESS_SECONDS: Final = 10.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the programs that the arguments name; returns the exit code: 1 if any was answered differently."""
    options = _options(arguments)
    surfaces = options.surface or list(SURFACES)
    failed = 0
    with tempfile.TemporaryDirectory(prefix="kvorum-differential-") as folder:
        members = Members(Path(folder), tuple(options.servers))
        pair = Pair(members)
        try:
            for surface in surfaces:
                failed += _surface(pair, surface, options.seeds, options.steps)
        finally:
            pair.close()
            members.close()
    return 1 if failed else 0


def _surface(pair: Pair, surface: str, seeds: range, steps: int) -> int:
    """Run a surface's programs; returns how many were answered differently."""
    failed: list[int] = []
    began = told = time.monotonic()
    for done, seed in enumerate(seeds, 1):
        program = make(surface, seed, steps)
        difference = pair.run(program)
        if difference is not None:
            failed.append(seed)
            _say(f"\n{surface}, seed {seed}: {difference}\n\nshrinking ...")
            short = shrunk(pair, program)
            again = pair.run(short)
            _say(again or "differs only after the programs that ran before it")
            _say(f"again: python -m tests.differential --surface {surface} --seeds {seed} --steps {steps}\n")
        now = time.monotonic()
        if now - told > PROGRESS_SECONDS:
            told = now
            _say(f"{surface}: {done} of {len(seeds)}, {len(failed)} differ, {now - began:.0f} s")
    seconds = time.monotonic() - began
    _say(f"{surface}: {len(seeds)} programs of {steps} steps, {len(failed)} differ {failed}, {seconds:.0f} s")
    return len(failed)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.differential",
        description="Random programs against two servers; every answer is compared.",
    )
    parser.add_argument("--seeds", type=_seeds, default=_seeds(SEEDS), help=f"A-B or one ({SEEDS})")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"calls of a program ({STEPS})")
    parser.add_argument("--surface", action="append", choices=list(SURFACES), help="may be repeated (all)")
    parser.add_argument(
        "--servers", nargs=2, choices=list(PROGRAMS), default=["etcd", "kvorum"], help="(etcd kvorum)"
    )
    return parser.parse_args(arguments)


def _seeds(text: str) -> range:
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
