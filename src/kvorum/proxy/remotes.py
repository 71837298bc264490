"""Where the gateway sends a connection: endpoints by priority and weight, without those that failed.

Only the best priority with a working endpoint counts. In it, endpoints with weights are drawn in proportion
to them (one in a hundred times one without), endpoints without take turns. Sans-IO; chance is an argument.
Source of behaviour: etcd ``server/proxy/tcpproxy/userspace.go``, after RFC 2782.
"""

from collections.abc import Callable, Sequence
from typing import Final, final

_RARELY: Final = 100
"""An endpoint of weight 0 beside weighted ones is taken once in so many times."""


@final
class Remote:
    """One endpoint."""

    __slots__ = ("active", "host", "port", "priority", "weight")

    def __init__(self, host: str, port: int, priority: int = 0, weight: int = 0) -> None:
        self.host: Final = host
        self.port: Final = port
        self.priority: Final = priority
        self.weight: Final = weight
        self.active = True

    @property
    def address(self) -> str:
        """``host:port``."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@final
class Remotes:
    """The endpoints, and whose turn it is.

    Args:
        remotes: at least one.
        below: returns a random number from 0 to below its argument.
    """

    def __init__(self, remotes: Sequence[Remote], below: Callable[[int], int]) -> None:
        self.all: Final = tuple(remotes)
        self._below: Final = below
        self._turn = 0

    def pick(self) -> Remote | None:
        """The endpoint for the next connection; None if all have failed."""
        active = [remote for remote in self.all if remote.active]
        if not active:
            return None
        best = min(remote.priority for remote in active)
        class_ = [remote for remote in active if remote.priority == best]
        weighted = [remote for remote in class_ if remote.weight > 0]
        others = [remote for remote in class_ if remote.weight == 0]
        if weighted and not (others and self._below(_RARELY) == 1):
            return self._drawn(weighted)
        self._turn += 1
        return others[(self._turn - 1) % len(others)]

    def _drawn(self, weighted: list[Remote]) -> Remote:
        chosen = self._below(sum(remote.weight for remote in weighted))
        for remote in weighted:
            chosen -= remote.weight
            if chosen < 0:
                return remote
        raise AssertionError("the number is below the sum of the weights")
