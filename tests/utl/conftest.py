"""A stopped member's directory with some history, copied for each test that breaks it."""

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from kvorum.utl.main import main
from tests.support import process
from tests.support.client import Client
from tests.support.process import Member


@dataclass(frozen=True)
class Stopped:
    """Where the files are, and what the member said of them while it ran."""

    root: Path
    revision: int
    keys: int
    hashes: dict[int, int]
    raft_term: int
    member_id: int

    @property
    def wal(self) -> Path:
        return self.root / "member" / "wal"

    @property
    def snap(self) -> Path:
        return self.root / "member" / "snap"

    @property
    def database(self) -> Path:
        return self.snap / "kvorum.lmdb"


def write_history(client: Client) -> None:
    for number in range(30):
        client.put(f"key{number % 10}".encode(), f"value {number}".encode())
    client.delete(b"key3")
    client.put(b"bin\xff\x00", b"\x00\xff")
    client.compact(12, physical=True)


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Stopped:
    """A member that ran, took snapshots, was compacted and stopped cleanly."""
    root = tmp_path_factory.mktemp("stopped") / "member.etcd"
    flags = ["--snapshot-count=10", "--snapshot-catchup-entries=5"]
    with Member(process.kvorum(), root, flags=flags) as member:
        client = Client(member.endpoint)
        write_history(client)
        status = client.status()
        current = status.header.revision
        hashes = {revision: client.hash_kv(revision).hash for revision in (0, 20, current)}
        client.close()
        member.stop()
    return Stopped(root, current, 10, hashes, status.raftTerm, status.header.member_id)


@pytest.fixture
def stopped(original: Stopped, tmp_path: Path) -> Stopped:
    """A copy to break."""
    copy = tmp_path / "copy.etcd"
    subprocess.run(["cp", "-r", "--sparse=always", str(original.root), str(copy)], check=True)
    return Stopped(
        copy, original.revision, original.keys, original.hashes, original.raft_term, original.member_id
    )


@dataclass(frozen=True)
class Done:
    """What kvorumutl printed."""

    status: int
    stdout: str
    stderr: str


Run = Callable[..., Done]


@pytest.fixture
def kvorumutl(capfd: pytest.CaptureFixture[str]) -> Run:
    """Run kvorumutl with these words."""

    def run(*words: str | Path) -> Done:
        capfd.readouterr()
        status = main([str(word) for word in words])
        captured = capfd.readouterr()
        return Done(status, captured.out, captured.err)

    return run
