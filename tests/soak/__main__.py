"""The command line of the long run."""

import argparse
import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.soak.episodes import Plan, soak
from tests.support import process

PROGRAMS = {"kvorum": process.kvorum, "etcd": process.etcd, "etcd-3.4": process.etcd34}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as the arguments say; returns 1 if anything was not as it should be, and leaves the data then."""
    options = _options(arguments)
    kinds = options.members.split(",")
    programs = [PROGRAMS[kind]() for kind in kinds]
    directory = Path(tempfile.mkdtemp(prefix="kvorum-soak-"))
    again = f"--minutes {options.minutes:g} --members {options.members} --seed {options.seed}"
    _say(f"{len(programs)} members; again: python -m tests.soak {again}")
    try:
        soak(Plan(programs, options.seed, options.minutes * 60), directory, _say)
    except AssertionError as error:
        _say(f"{error}\nseed {options.seed}; the data of all members is in {directory}")
        return 1
    _remove(directory)
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak",
        description="A cluster of real members, killed and stopped at random under load.",
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="(10)")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument(
        "--members",
        default="kvorum,kvorum,kvorum",
        help=f"of {', '.join(PROGRAMS)} (kvorum,kvorum,kvorum)",
    )
    return parser.parse_args(arguments)


def _remove(directory: Path) -> None:
    for path in sorted(directory.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    directory.rmdir()


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
