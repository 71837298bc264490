"""The long run: ``python -m tests.differential.auth``."""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.differential.auth.programs import make
from tests.differential.auth.runner import Runner


def main() -> int:
    """Run the programs of the seeds that are named; returns 1 if any was answered differently."""
    parser = argparse.ArgumentParser(prog="python -m tests.differential.auth")
    parser.add_argument("--seeds", default="0-299", help="A-B or one (0-299)")
    parser.add_argument("--steps", type=int, default=60)
    options = parser.parse_args()
    first, _, last = options.seeds.partition("-")
    failed = []
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="kvorum-differential-auth-") as folder:
        runner = Runner(Path(folder))
        try:
            for seed in range(int(first), int(last or first) + 1):
                difference = runner.run(make(seed, options.steps))
                if difference is not None:
                    failed.append(seed)
                    sys.stdout.write(f"\nseed {seed}: {difference}\n")
        finally:
            runner.close()
    seconds = time.monotonic() - began
    sys.stdout.write(
        f"{runner.compared} calls compared, {runner.alone} refused by design, {len(failed)} programs differ"
        f" {failed}, {seconds:.0f} s\n"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
