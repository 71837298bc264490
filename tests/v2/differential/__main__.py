"""The long run: ``python -m tests.v2.differential``; see ``--help``."""

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from tests.support import process
from tests.support.process import Member, Program
from tests.v2.differential.programs import SURFACES, make
from tests.v2.differential.runner import Pair, Side, shrunk

STEPS: Final = 40
SEEDS: Final = "0-99"
SERVERS: Final[dict[str, Callable[[], Program]]] = {"etcd": process.etcd34, "kvorum": process.kvorum}
MISSING: Final = "Debian's etcd 3.4 is not installed, so the v2 API was compared with nothing (make peers)"


def is_installed() -> bool:
    """Whether the server to compare with is there."""
    return shutil.which("etcd") is not None


class Members:
    """Starts pairs of members below a folder; ``close`` ends them."""

    def __init__(self, folder: Path, names: tuple[str, str] = ("etcd", "kvorum")) -> None:
        self._folder: Final = folder
        self._names: Final = names
        self._stack = ExitStack()
        self._started = 0

    def __call__(self) -> tuple[Side, Side]:
        """Start a fresh pair; ends the one before."""
        self.close()
        members = []
        for name in self._names:
            self._started += 1
            member = Member(
                SERVERS[name](), self._folder / f"{name}-{self._started}.etcd", flags=("--enable-v2",)
            )
            self._stack.callback(member.close)
            members.append(member.start(wait=False))
        for member in members:
            member.wait_ready()
        first, second = (
            Side(name, member.client_port) for name, member in zip(self._names, members, strict=True)
        )
        return first, second

    def close(self) -> None:
        """End what runs."""
        self._stack.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the programs that the arguments name; returns the exit code: 1 if any was answered differently."""
    options = _options(arguments)
    if not is_installed():
        _say(MISSING)
        return 2
    failed = 0
    with tempfile.TemporaryDirectory(prefix="kvorum-v2-") as folder:
        members = Members(Path(folder), tuple(options.servers))
        pair = Pair(members)
        try:
            for surface in options.surface or SURFACES:
                failed += _surface(pair, surface, options.seeds, options.steps)
        finally:
            pair.close()
            members.close()
    return 1 if failed else 0


def _surface(pair: Pair, surface: str, seeds: range, steps: int) -> int:
    failed: list[int] = []
    began = time.monotonic()
    for seed in seeds:
        root, program = make(surface, seed, steps)
        difference = pair.run(root, program)
        if difference is None:
            continue
        failed.append(seed)
        short = shrunk(pair, root, program)
        _say(f"\n{surface}, seed {seed}:\n{pair.run(root, short) or difference}\n")
        _say(f"again: python -m tests.v2.differential --surface {surface} --seeds {seed} --steps {steps}\n")
    seconds = time.monotonic() - began
    _say(f"{surface}: {len(seeds)} programs of {steps} steps, {len(failed)} differ {failed}, {seconds:.0f} s")
    return len(failed)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.v2.differential", description="Random v2 programs against two servers."
    )
    parser.add_argument("--seeds", type=_seeds, default=_seeds(SEEDS), help=f"A-B, A..B or one ({SEEDS})")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"steps of a program ({STEPS})")
    parser.add_argument("--surface", action="append", choices=SURFACES, help="may be repeated (all)")
    parser.add_argument("--servers", nargs=2, choices=list(SERVERS), default=["etcd", "kvorum"])
    return parser.parse_args(arguments)


def _seeds(text: str) -> range:
    first, _, last = text.replace("..", "-").partition("-")
    return range(int(first), int(last or first) + 1)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
