"""What all surfaces draw from: keys, values, revisions, leases."""

import random
from collections.abc import Sequence
from typing import Final

from tests.differential.side import GIVEN_LEASES
from tests.differential.steps import Step

KEYS: Final = (b"a", b"aa", b"ab", b"b", b"ba", b"c", b"c\x00", b"\x00", b"\xff", b"z" * 40)
ENDS: Final = (b"", b"\x00", b"ab", b"b", b"bb", b"c", b"d", b"\xff\xff", b"a")
VALUES: Final = (b"", b"1", b"2", b"x" * 300, bytes(range(256)))


class Draw:
    """A program's random source, and how far the store may have come."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.revision = 1  # an upper bound of the store's revision is enough to draw from

    def rarely(self) -> bool:
        return self.random.random() < 0.08

    def often(self) -> bool:
        return self.random.random() < 0.5

    def key(self) -> bytes:
        return b"" if self.random.random() < 0.03 else self.random.choice(KEYS)

    def lease(self) -> int:
        return self.random.choice(GIVEN_LEASES[:4] if self.random.random() < 0.8 else GIVEN_LEASES)

    def any_revision(self) -> int:
        """Draw a revision that was, may come, or can't be."""
        pick = self.random.random()
        if pick < 0.1:
            return self.revision + self.random.randint(1, 50)
        if pick < 0.15:
            return -1
        return self.random.randint(0, self.revision)


class Surface:
    """Draws steps of one service."""

    def __init__(self, draw: Draw) -> None:
        self.draw = draw
        self.random = draw.random

    def opening(self) -> Sequence[Step]:
        """Return what its programs begin with."""
        return ()

    def step(self) -> Step:
        """Return the next step."""
        raise AssertionError("every surface has steps")
