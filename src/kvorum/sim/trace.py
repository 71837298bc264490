"""What happened: a line each, a hash of all of them, and the last few for whoever has to read.

Two runs of a seed are the same run if and only if their hashes are equal; so nothing may go into a line that
is not the seed's doing: no address, no path, no time of day, no order of a set.
"""

import hashlib
from collections import deque
from collections.abc import Callable
from typing import Final, final

TAIL_LINES: Final = 400
"""Lines kept for telling a failure."""


class ViolationError(Exception):
    """Something that was promised did not hold. ``checker`` says which promise it was."""

    def __init__(self, checker: str, what: str) -> None:
        super().__init__(f"{checker}: {what}")
        self.checker: Final = checker


@final
class Trace:
    """The trace of one run; ``echo`` also gets each line at once."""

    __slots__ = ("_clock", "_echo", "_hash", "lines", "tail")

    def __init__(self, clock: Callable[[], float], echo: Callable[[str], None] | None = None) -> None:
        self._clock: Final = clock
        self._echo: Final = echo
        self._hash: Final = hashlib.blake2b(digest_size=8)
        self.lines = 0
        self.tail: Final[deque[str]] = deque(maxlen=TAIL_LINES)

    def note(self, text: str) -> None:
        """Write a line."""
        line = f"{self._clock():9.4f} {text}"
        self._hash.update(line.encode())
        self.lines += 1
        self.tail.append(line)
        if self._echo is not None:
            self._echo(line)

    @property
    def digest(self) -> str:
        """The hash of everything so far."""
        return self._hash.hexdigest()
