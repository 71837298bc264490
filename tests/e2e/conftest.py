"""Two fresh members side by side, for tests that only ask whether they can be told apart."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import process
from tests.support.process import Member


@dataclass(frozen=True, slots=True)
class Both:
    """etcd 3.5.1 and Kvorum, each a cluster of its own, started with the same flags."""

    etcd: Member
    kvorum: Member

    def __iter__(self) -> Iterator[Member]:
        yield self.etcd
        yield self.kvorum


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    """Both servers with default flags, empty when the module begins."""
    folder: Path = tmp_path_factory.mktemp("both")
    pair = Both(
        Member(process.etcd(), folder / "etcd.etcd"), Member(process.kvorum(), folder / "kvorum.etcd")
    )
    try:
        for member in pair:
            member.start(wait=False)
        for member in pair:
            member.wait_ready()
        yield pair
    finally:
        for member in pair:
            member.close()
