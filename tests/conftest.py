"""Fixtures for tests against real members."""

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import pytest

from tests.support import process
from tests.support.client import Client
from tests.support.process import Member, Program


class StartMember(Protocol):
    """Starts a member that the test's end stops."""

    def __call__(
        self,
        program: Program,
        *,
        flags: Sequence[str] = (),
        name: str = "default",
        failpoints: str = "",
        wait: bool = True,
    ) -> Member:
        """Return the member, serving clients (unless ``wait`` is False)."""
        ...


def _close(member: Member) -> None:
    """End a member and leave its log where pytest shows it if the test failed."""
    member.close()
    sys.stderr.write(f"--- log of {member.program.name} ({member.data_dir})\n{member.log_tail()}\n")


@pytest.fixture
def start_member(tmp_path: Path) -> Iterator[StartMember]:
    """Start members with data under tmp_path; all are ended after the test."""
    members: list[Member] = []

    def start(
        program: Program,
        *,
        flags: Sequence[str] = (),
        name: str = "default",
        failpoints: str = "",
        wait: bool = True,
    ) -> Member:
        directory = tmp_path / f"{program.name}-{len(members)}.etcd"
        member = Member(program, directory, flags=flags, name=name)
        members.append(member)
        return member.start(failpoints=failpoints, wait=wait)

    yield start
    for member in members:
        _close(member)


@pytest.fixture
def kvorum(start_member: StartMember) -> Member:
    """Return a fresh Kvorum member."""
    return start_member(process.kvorum())


@pytest.fixture
def etcd(start_member: StartMember) -> Member:
    """Return a fresh etcd 3.5.1 member."""
    return start_member(process.etcd())


@pytest.fixture
def connect() -> Iterator[Callable[[Member], Client]]:
    """Return a function that gives a client of a member; clients are closed after the test."""
    clients: list[Client] = []

    def client_of(member: Member) -> Client:
        clients.append(Client(member.endpoint))
        return clients[-1]

    yield client_of
    for client in clients:
        client.close()
