"""Random programs by surface: a seed makes a list of steps, the same list every time.

Few keys, leases, streams and small revisions, so that steps meet; about one call in ten is wrong on purpose,
because refusals are answers that clients compare too.
"""

from collections.abc import Sequence
from typing import Final

from tests.differential.programs.bad_input import BadInput
from tests.differential.programs.draw import Draw, Surface
from tests.differential.programs.kv import Kv
from tests.differential.programs.lease import Lease
from tests.differential.programs.locks import BriefLocks, Locks
from tests.differential.programs.watch import Watch
from tests.differential.steps import Step

SURFACES: Final[dict[str, Sequence[tuple[type[Surface], int]]]] = {
    "kv": [(Kv, 1)],
    "lease": [(Lease, 3), (Kv, 2)],
    "watch": [(Watch, 4), (Kv, 6), (Lease, 1)],
    "locks": [(Locks, 6), (Lease, 1), (Kv, 1)],
    "chosen": [(BriefLocks, 1), (Lease, 2)],
    "bad": [(BadInput, 4), (Kv, 1), (Lease, 1)],
    "all": [(Kv, 6), (Lease, 3), (Watch, 4), (Locks, 3), (BadInput, 1)],
}
"""What a program of each surface is made of, with weights."""


def make(surface: str, seed: int, steps: int) -> list[Step]:
    """Return the program of a seed."""
    draw = Draw(seed)
    parts = [part(draw) for part, _ in SURFACES[surface]]
    weights = [weight for _, weight in SURFACES[surface]]
    opening = [step for part in parts for step in part.opening()]
    return opening + [draw.random.choices(parts, weights)[0].step() for _ in range(steps - len(opening))]
