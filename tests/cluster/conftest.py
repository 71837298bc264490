"""Clusters for the scenarios: a shared one that stays whole, and fresh ones to break."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Protocol

import pytest

from tests.support import process
from tests.support.cluster import LOOSE, Cluster, forming
from tests.support.process import Program

KINDS: Final[dict[str, Callable[[], Program]]] = {
    "etcd": process.etcd,
    "etcd-3.4": process.etcd34,
    "kvorum": process.kvorum,
}


def programs(count: int) -> list[Program]:
    """Return what the scenarios run: Kvorum, or what KVORUM_TEST_CLUSTER says, in turn."""
    kinds = os.environ.get("KVORUM_TEST_CLUSTER", "kvorum").split(",")
    return [KINDS[kinds[at % len(kinds)]]() for at in range(count)]


class Form(Protocol):
    """Forms a cluster that the test's end takes down."""

    def __call__(
        self,
        members: int | Sequence[Program] = 3,
        flags: Sequence[str] = (),
        *,
        failpoints: dict[int, str] | None = None,
    ) -> Cluster:
        """Return a cluster with a leader, of so many members or of these."""
        ...


@pytest.fixture
def form(tmp_path: Path) -> Iterator[Form]:
    """Form clusters; their membership changes without the check of being connected for five seconds."""
    with ExitStack() as stack:

        def formed(
            members: int | Sequence[Program] = 3,
            flags: Sequence[str] = (),
            *,
            failpoints: dict[int, str] | None = None,
        ) -> Cluster:
            of = programs(members) if isinstance(members, int) else members
            return stack.enter_context(forming(tmp_path, of, (*LOOSE, *flags), failpoints=failpoints))

        yield formed


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Return three members for all tests of a module."""
    with forming(tmp_path_factory.mktemp("trio"), programs(3), LOOSE) as cluster:
        yield cluster


@pytest.fixture
def trio(shared: Cluster) -> Cluster:
    """Return the shared members, all of them up and level, whatever the test before did to them."""
    shared.heal()
    shared.wait_leader()
    shared.wait_level()
    return shared
