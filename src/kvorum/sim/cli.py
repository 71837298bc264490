"""The command line: ``python -m kvorum.sim --seed N``, or many seeds."""

import argparse
import dataclasses
import multiprocessing
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, Final

from kvorum.sim import bugs
from kvorum.sim import profile as profiles
from kvorum.sim.run import Verdict, run

TAIL_SHOWN: Final = 60


def main(arguments: Sequence[str]) -> int:
    """Run; returns the exit code: 0 if all seeds held, 1 if one did not, 2 for a wrong call."""
    options = _parser().parse_args(arguments)
    try:
        changes = _changes(options.set)
        profiles.adjusted(profiles.Profile(), changes)
    except ValueError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    seeds = range(options.seed, options.seed + 1) if options.seeds is None else options.seeds
    if len(seeds) == 1:
        verdict = _run((seeds[0], options.bug, changes, options.verbose))
        _tell(verdict, options)
        return 1 if verdict.checker else 0
    return _run_many(seeds, options, changes)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m kvorum.sim", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the seed to run (default 1)")
    parser.add_argument("--seeds", type=_range, help="A..B: all seeds from A to B, both included")
    parser.add_argument("--bug", choices=sorted(bugs.BUGS), help="switch on a deliberate mistake")
    parser.add_argument("--processes", type=int, default=1, help="how many seeds to run at a time")
    parser.add_argument("--verbose", action="store_true", help="print the whole trace")
    parser.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", help="change a field of the profile"
    )
    return parser


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _range(text: str) -> range:
    first, _, last = text.partition("..")
    return range(int(first), int(last) + 1)


def _changes(settings: Iterable[str]) -> dict[str, Any]:
    defaults = profiles.Profile()
    types = {
        field.name: type(getattr(defaults, field.name)) for field in dataclasses.fields(profiles.Profile)
    }
    changes: dict[str, Any] = {}
    for setting in settings:
        name, _, text = setting.partition("=")
        kind = types.get(name, str)
        if kind is tuple:
            changes[name] = tuple(text.split(",")) if text else ()
        elif kind is bool:
            changes[name] = text.lower() in ("true", "1", "yes")
        else:
            changes[name] = kind(text)
    return changes


def _run(task: tuple[int, str | None, dict[str, Any], bool]) -> Verdict:
    seed, bug, changes, verbose = task
    echo = _say if verbose else None
    if bug is not None:
        return bugs.run_with(bug, seed, changes, echo=echo)
    return run(seed, profiles.adjusted(profiles.draw(seed), changes), echo=echo)


def _run_many(seeds: range, options: argparse.Namespace, changes: dict[str, Any]) -> int:
    started = time.perf_counter()
    tasks = [(seed, options.bug, changes, options.verbose) for seed in seeds]
    verdicts: list[Verdict] = []
    failed = 0
    if options.processes > 1:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(options.processes, mp_context=context) as pool:
            for verdict in pool.map(_run, tasks):
                failed += _one_of_many(verdict, options, verdicts)
    else:
        for task in tasks:
            failed += _one_of_many(_run(task), options, verdicts)
    took = time.perf_counter() - started
    _say(
        f"{len(verdicts)} seeds, {failed} failed; {sum(v.operations for v in verdicts)} operations,"
        f" {sum(v.entries for v in verdicts)} entries, {sum(v.terms for v in verdicts)} terms,"
        f" {sum(v.starts for v in verdicts)} starts, {sum(v.snapshots for v in verdicts)} snapshots,"
        f" {sum(v.messages for v in verdicts)} messages, {sum(v.steps for v in verdicts)} steps,"
        f" {sum(v.simulated_seconds for v in verdicts):.0f} s simulated in {took:.1f} s"
    )
    return 1 if failed else 0


def _one_of_many(verdict: Verdict, options: argparse.Namespace, verdicts: list[Verdict]) -> int:
    verdicts.append(verdict)
    if verdict.checker:
        _say(f"seed {verdict.seed}: {verdict.what}\n  replay: {_replay(verdict, options)}")
        return 1
    return 0


def _replay(verdict: Verdict, options: argparse.Namespace) -> str:
    parts = ["python -m kvorum.sim", f"--seed {verdict.seed}"]
    if options.bug:
        parts.append(f"--bug {options.bug}")
    parts += [f"--set {setting}" for setting in options.set]
    return " ".join(parts)


def _tell(verdict: Verdict, options: argparse.Namespace) -> None:
    if verdict.checker:
        if not options.verbose:
            _say("\n".join(verdict.tail[-TAIL_SHOWN:]))
        _say(f"\nseed {verdict.seed} FAILED  {verdict.what}\n  {verdict.profile}")
        _say(f"  replay: {_replay(verdict, options)} --verbose")
    _say(
        f"seed {verdict.seed} trace {verdict.digest}: {verdict.operations} operations,"
        f" {verdict.entries} entries, {verdict.terms} terms, {verdict.starts} starts,"
        f" {verdict.snapshots} snapshots, {verdict.messages} messages, {verdict.lines} lines,"
        f" {verdict.simulated_seconds:.1f} s simulated"
    )
