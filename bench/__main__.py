"""The command line of the benchmark."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from rich.console import Console

from bench import h2load, report
from bench.model import FULL, QUICK, Row
from bench.rows import PARTS, ROWS
from bench.run import SERVERS, run

OUT: Final = Path(__file__).parent / "out"
ROUNDS: Final = 3


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Kvorum and etcd 3.5.1 side by side."
    )
    parser.add_argument("--quick", action="store_true", help="fewer requests, 100,000 keys, one round")
    parser.add_argument(
        "--only",
        type=_names,
        default=[],
        help=f"parts: {', '.join(PARTS)}; or rows: {', '.join(row.name for row in ROWS)}",
    )
    parser.add_argument("--rounds", type=int, help=f"how often each row is measured (default {ROUNDS})")
    parser.add_argument("--keys", type=int, help="keys in the large store (default 1,000,000)")
    parser.add_argument("--servers", type=_names, default=list(SERVERS), help="etcd,kvorum, or one of them")
    arguments = parser.parse_args()
    known = {row.name for row in ROWS} | set(PARTS)
    unknown = {*arguments.only} - known | {*arguments.servers} - set(SERVERS)
    if unknown:
        parser.error(f"no such row or server: {', '.join(sorted(unknown))}")
    return arguments


def _chosen(names: Sequence[str]) -> list[Row]:
    """Return the rows named, by themselves or by their parts."""
    wanted = {row.name for name in names for row in PARTS.get(name, ())} | {*names}
    return [row for row in ROWS if not names or row.name in wanted]


def main() -> int:
    """Run, print the table and write the results; returns the exit status."""
    arguments = _arguments()
    if not h2load.available():
        print(h2load.MISSING, file=sys.stderr)
        return 1
    sizes = QUICK if arguments.quick else FULL
    if arguments.keys:
        sizes = replace(sizes, keys=arguments.keys)
    rounds = arguments.rounds or (1 if arguments.quick else ROUNDS)
    rows = _chosen(arguments.only)
    now = datetime.now(UTC)
    about = {
        "date": now.strftime("%Y-%m-%d %H:%M UTC"),
        "command": " ".join(["python -m bench", *sys.argv[1:]]),
        **report.machine(),
        "rounds": f"{rounds}, {sizes.keys:,} keys of 256 bytes in the large store",
    }
    console = Console()
    samples = run(
        rows, arguments.servers, rounds, sizes, OUT / "work", lambda text: print(text, file=sys.stderr)
    )
    lines = report.lines(rows, samples)
    console.print(report.table(lines))
    if "beware" in about:
        print(f"beware: {about['beware']}", file=sys.stderr)
    name = now.strftime("%Y%m%d-%H%M%S")
    (OUT / f"{name}.json").write_text(json.dumps(report.as_json(lines, samples, about), indent=1))
    (OUT / f"{name}.md").write_text(report.markdown(lines, about))
    print(f"written to bench/out/{name}.json and .md", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
