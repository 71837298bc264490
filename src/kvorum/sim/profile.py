"""What a seed means: how large the cluster is, how much is asked of it, and which faults it gets.

Each seed draws some of the faults and leaves out others (swarm testing): faults that always come together
hide what one of them alone would show.
"""

import random
from dataclasses import dataclass, fields, replace
from typing import Any, Final, final

FAULTS: Final = (
    "kill", "power_cut", "blackout", "pause", "isolate", "split", "one_way", "bridge", "loss", "delay",
    "reorder", "stall", "slow_disk", "sync_error", "disk_full", "cut_between_calls", "install_error",
    "transfer", "add", "remove", "joint",
)  # fmt: skip
"""Everything that ``nemesis.py`` can do."""


@final
@dataclass(frozen=True)
class Profile:
    """The parameters of one run; times in seconds of simulated time."""

    members: int = 3
    seconds: float = 20.0
    """How long the storm lasts; healing comes after it."""
    clients: int = 4
    readers: int = 1
    """Clients that only read, linearizably, each time at another member."""
    keys: int = 5
    think_seconds: float = 0.08
    """A client's pause between two operations, on average."""
    watchers: int = 2
    leases: int = 2
    faults: tuple[str, ...] = ()
    fault_seconds: float = 1.2
    """Time between two faults, on average."""
    fault_lasts: float = 1.0
    """How much longer than usual faults last."""
    leader_share: float = 0.4
    """How often a fault is the leader's, whoever else might have been chosen."""
    snapshot_count: int = 60
    catchup_entries: int = 20
    compactions: bool = True
    clock_drift: float = 0.01
    election_ms: int = 1000
    pre_vote: bool = True
    sync_seconds: float = 0.001
    delay_seconds: float = 0.001
    client_delay_seconds: float = 0.001
    patience_seconds: float = 8.0
    """For how long a client waits; a member answers everything within seven."""
    loss: float = 0.0
    """Share of the messages between members that are lost even in calm weather."""
    watch_queue_bytes: int = 3000
    """What a watch stream may queue: little, so that watchers fall behind."""


def draw(seed: int) -> Profile:
    """The profile of a seed."""
    dice = random.Random(seed)
    chosen = tuple(fault for fault in FAULTS if dice.random() < 0.45)
    return Profile(
        members=dice.choice((1, 3, 3, 3, 3, 5, 5)),
        seconds=dice.choice((10.0, 20.0, 20.0, 30.0)),
        clients=dice.choice((2, 4, 4, 8)),
        readers=dice.choice((0, 1, 3)),
        keys=dice.choice((2, 5, 12)),
        think_seconds=dice.choice((0.03, 0.08, 0.2)),
        watchers=dice.choice((0, 1, 3)),
        leases=dice.choice((0, 0, 2, 4)),
        faults=chosen,
        fault_seconds=dice.choice((0.4, 1.0, 2.5)),
        snapshot_count=dice.choice((15, 60, 1000)),
        catchup_entries=dice.choice((1, 5, 40)),
        compactions=dice.random() < 0.6,
        clock_drift=dice.choice((0.0, 0.01, 0.05)),
        client_delay_seconds=dice.choice((0.0002, 0.002, 0.02)),
        patience_seconds=dice.choice((8.0, 8.0, 0.5)),
        loss=dice.choice((0.0, 0.0, 0.01)),
        pre_vote=dice.random() < 0.8,
        sync_seconds=dice.choice((0.0002, 0.002, 0.02)),
        delay_seconds=dice.choice((0.0005, 0.002, 0.02)),
    )


def adjusted(profile: Profile, changes: dict[str, Any]) -> Profile:
    """A profile with some fields changed. Raises ValueError for one that there is not."""
    unknown = changes.keys() - {field.name for field in fields(Profile)}
    if unknown:
        raise ValueError(f"a profile has no {', '.join(sorted(unknown))}")
    return replace(profile, **changes)
