"""Two fresh members to compare, each in a process of its own."""

from collections.abc import Callable
from pathlib import Path
from typing import Final, final

from tests.differential.runner import Sides
from tests.differential.side import Side
from tests.support import process
from tests.support.client import Client
from tests.support.process import Member, Program

PROGRAMS: Final[dict[str, Callable[[], Program]]] = {"etcd": process.etcd, "kvorum": process.kvorum}


@final
class Members:
    """Starts pairs of members under a folder; ends all of them with ``close``."""

    def __init__(self, folder: Path, names: tuple[str, str] = ("etcd", "kvorum")) -> None:
        self._folder: Final = folder
        self._names: Final = names
        self._running: Final[list[Member]] = []
        self._clients: Final[list[Client]] = []
        self._started = 0

    def __call__(self) -> Sides:
        """Start a fresh pair; ends the one before."""
        self.close()
        first, second = self._names
        members = [self._member(first), self._member(second)]
        for member in members:
            member.wait_ready()
        return self._side(first, members[0]), self._side(second, members[1])

    def close(self) -> None:
        """End the members that run."""
        while self._clients:
            self._clients.pop().close()
        while self._running:
            self._running.pop().close()

    def _member(self, name: str) -> Member:
        self._started += 1
        member = Member(PROGRAMS[name](), self._folder / f"{name}-{self._started}.etcd")
        self._running.append(member)
        return member.start(wait=False)

    def _side(self, name: str, member: Member) -> Side:
        self._clients.append(Client(member.endpoint))
        return Side(name, self._clients[-1], streams_ranges=name == "kvorum")
