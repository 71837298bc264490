"""Members that are to discover their cluster."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, final

import pytest

from tests.support.client import Client
from tests.support.process import Member, Program
from tests.support.waiting import wait_until


@final
class Members:
    """Starts members that name no initial cluster; ends all."""

    def __init__(self, directory: Path) -> None:
        self._directory: Final = directory
        self._all: Final[list[Member]] = []

    def make(
        self,
        program: Program,
        name: str,
        *flags: str,
        initial_cluster: str | None = "",
        peer_scheme: str = "http",
    ) -> Member:
        """Return one that is not started; with ``initial_cluster=None`` it is alone, as a service is."""
        directory = self._directory / f"{name}-{program.name}.etcd"
        member = Member(program, directory, flags=flags, name=name, peer_scheme=peer_scheme)
        if initial_cluster is not None:
            member.initial_cluster = initial_cluster
        self._all.append(member)
        return member

    def start(self, program: Program, name: str, *flags: str) -> Member:
        """Start one that looks for its cluster."""
        return self.make(program, name, *flags).start(wait=False)

    def serve(self, program: Program, *flags: str) -> Member:
        """Start one that others find each other through."""
        return self.make(program, "service", *flags, initial_cluster=None).start()

    def close(self) -> None:
        for member in self._all:
            member.close()
            sys.stderr.write(f"--- log of {member.name} ({member.program.name})\n{member.log_tail()}\n")


@pytest.fixture
def members(tmp_path: Path) -> Iterator[Members]:
    started = Members(tmp_path)
    try:
        yield started
    finally:
        started.close()


def check_cluster(cluster: Sequence[Member]) -> None:
    """All serve, as members of one cluster that hold the same."""
    for member in cluster:
        member.wait_ready()
    names = {member.name for member in cluster}
    with Client(cluster[0].endpoint) as client:
        client.put(b"from", cluster[0].name.encode())
    for member in cluster:
        with Client(member.endpoint) as client:
            assert client.get(b"from") == cluster[0].name.encode()
            wait_until(
                lambda client=client: {item.name for item in client.member_list().members} == names,  # type: ignore[misc]
                f"{member.name} knows all members",
            )
