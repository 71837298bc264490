"""The order of things: load, faults, peace, check; again until the time is up."""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final, TypeAlias

from tests.soak.faults import Faults
from tests.support.cluster import Cluster, forming
from tests.support.history import READ, WRITE, Operation
from tests.support.load import Load
from tests.support.process import Program

FLAGS: Final = ("--snapshot-count=1000",)
"""Snapshots and their purging are part of every episode."""
KVORUM_FLAGS: Final = (*FLAGS, "--snapshot-catchup-entries=200")
"""And members that were away long enough are sent one."""
PROGRESS: Final = 10
PROGRESS_SECONDS: Final = 30.0
"""After each fault, when all are well again, so many writes must be acknowledged in that time."""
REST_SECONDS: Final = 1.0

Say: TypeAlias = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run: ``episode_seconds`` of faults at a time, for ``seconds`` in all."""

    programs: Sequence[Program]
    seed: int
    seconds: float
    episode_seconds: float = 30.0
    clients: int = 6
    keys: int = 8


def soak(plan: Plan, directory: Path, say: Say) -> None:
    """Run; returns when the time is up. Raises AssertionError for what must not be."""
    ours = all(program.name == "kvorum" for program in plan.programs)
    with forming(directory, plan.programs, KVORUM_FLAGS if ours else FLAGS) as cluster:
        choose = random.Random(plan.seed)
        faults = Faults(cluster, choose)
        end = time.monotonic() + plan.seconds
        number = 0
        while time.monotonic() < end:
            number += 1
            until = min(end, time.monotonic() + plan.episode_seconds)
            load = Load(cluster, choose.randrange(1 << 32), plan.clients, plan.keys)
            _episode(load, faults, choose, until)
            cluster.wait_leader()
            load.check()
            say(f"episode {number}: {_told(load.operations)}; all is as it should be")
            _forget(cluster)
        say("; ".join(f"{name} {count}x" for name, count in sorted(faults.counts.items())))


def _episode(load: Load, faults: Faults, choose: random.Random, until: float) -> None:
    with load.running():
        while time.monotonic() < until:
            time.sleep(choose.random() * REST_SECONDS)
            struck = faults.strike()
            try:
                load.wait_acknowledged(PROGRESS, PROGRESS_SECONDS)
            except AssertionError as error:
                raise AssertionError(f"after {struck!r}: {error}") from None


def _forget(cluster: Cluster) -> None:
    """Compact, so that the next episode does not pay for this one."""
    client = cluster.client(cluster.wait_leader())
    client.compact(client.range(b"\0").header.revision)


def _told(operations: Sequence[Operation]) -> str:
    answered = [operation for operation in operations if operation.revision]
    ends = sorted(operation.ended for operation in answered if operation.kind == WRITE)
    longest = max((after - before for before, after in pairwise(ends)), default=0.0)
    return (
        f"{len(ends)} writes acknowledged, {len(operations) - len(answered)} not, "
        f"{sum(operation.kind == READ for operation in answered)} linearizable reads, "
        f"longest without a write {longest:.2f} s"
    )
