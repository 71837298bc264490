"""Kvorum on the data directory of a stopped etcd member: it goes on as that member, the original stays."""

import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from kvorum.utl.main import main
from tests.conftest import StartMember
from tests.operating.support import ask, fingerprints, successor, v2_tree
from tests.support import process
from tests.support.client import Client
from tests.support.cluster import Cluster, forming
from tests.support.etcdctl import Etcdctl
from tests.support.process import Member, Program
from tests.support.workload import everything, same_everywhere

pytestmark = pytest.mark.slow

SMALL: Final = ("--enable-v2", "--snapshot-count=30")
"""So that the snapshot lies behind the database, and there is a log between them."""


def history(member: Member) -> None:
    """A bit of everything that a data directory holds, snapshots taken on the way."""
    ctl = Etcdctl(member.endpoint)
    with Client(member.endpoint) as client:
        for number in range(60):
            client.put(b"key%d" % (number % 17), b"%d" % number)
        lease = client.grant(3600).ID
        client.put(b"leased", b"x", lease=lease)
        ctl.run("role", "add", "reader")
        ctl.run("role", "grant-permission", "reader", "read", "key", "--prefix")
        ctl.run("user", "add", "ann:secret")
        ctl.run("user", "grant-role", "ann", "reader")
        for number in range(25):
            ask(member, f"/v2/keys/dir/{number % 7}", b"value=%d" % number, "PUT")
        ask(member, "/v2/keys/expires?ttl=3000", b"value=x", "PUT")
        ask(member, "/v2/keys/dir/3", None, "DELETE")
        client.compact(40)
        client.delete(b"key3")
        for number in range(7):
            client.put(b"later%d" % number, b"%d" % number)


@dataclass(frozen=True)
class Seen:
    """What clients see of a member; equal before and after."""

    hash: tuple[int, int]
    revision: int
    member: tuple[int, str, tuple[str, ...]]
    cluster_id: int
    leases: dict[int, tuple[int, tuple[bytes, ...]]]
    users: tuple[str, str, str]
    v2: Any


def look(member: Member) -> Seen:
    ctl = Etcdctl(member.endpoint)
    with Client(member.endpoint) as client:
        hashed = client.hash_kv()
        (listed,) = client.member_list().members
        told = {lease: client.time_to_live(lease, keys=True) for lease in client.leases()}
        return Seen(
            (hashed.hash, hashed.compact_revision),
            hashed.header.revision,
            (listed.ID, listed.name, tuple(listed.peerURLs)),
            hashed.header.cluster_id,
            {lease: (answer.grantedTTL, tuple(answer.keys)) for lease, answer in told.items()},
            (
                ctl.run("user", "list").stdout,
                ctl.run("user", "get", "ann").stdout,
                ctl.run("role", "get", "reader").stdout,
            ),
            v2_tree(member),
        )


@pytest.fixture
def then() -> Iterator[Callable[[Member], Member]]:
    """Start a member that the test's end stops."""
    with ExitStack() as stack:

        def start(member: Member) -> Member:
            stack.callback(member.close)
            return member.start()

        yield start


@pytest.mark.parametrize(
    ("program", "end"),
    [(process.etcd, Member.stop), (process.etcd34, Member.kill)],
    ids=["3.5 stopped", "3.4 killed"],
)
def test_it_goes_on_as_the_same_member(
    program: Callable[[], Program],
    end: Callable[[Member], object],
    start_member: StartMember,
    then: Callable[[Member], Member],
) -> None:
    old = start_member(program(), flags=SMALL)
    history(old)
    before = look(old)
    end(old)
    files = fingerprints(old.data_dir / "member")

    new = then(successor(old, process.kvorum()))
    new.wait_log("took over the data directory of an etcd member")
    assert look(new) == before
    with Client(new.endpoint) as client:
        assert client.put(b"new", b"1").header.revision == before.revision + 1
    after = look(new)
    new.restart()
    assert look(new) == after
    new.stop()
    assert fingerprints(old.data_dir / "member") == files
    assert main(["verify", str(old.data_dir)]) == 0

    again = then(successor(old, program()))
    assert look(again) == before
    with Client(again.endpoint) as client:
        client.put(b"elsewhere", b"1")
    again.stop()
    new.start(wait=False)
    assert new.wait_exit() == 1
    assert "one member must not have two memories" in new.log_tail()


def test_what_was_interrupted_is_begun_again(
    start_member: StartMember, then: Callable[[Member], Member], tmp_path: Path
) -> None:
    wal = f"--wal-dir={tmp_path / 'log'}"
    old = start_member(process.etcd(), flags=(*SMALL, wal))
    history(old)
    before = look(old)
    old.stop()
    files = fingerprints(old.data_dir), fingerprints(tmp_path / "log")
    new = successor(old, process.kvorum())
    new.start(failpoints="takeover_before_rename=kill", wait=False)
    assert new.wait_exit() == -signal.SIGKILL
    assert (old.data_dir / "member.kvorum.tmp").is_dir()
    assert look(then(new)) == before
    new.stop()
    assert sorted(path.name for path in old.data_dir.iterdir()) == ["member", "member.kvorum"]
    shutil.rmtree(old.data_dir / "member.kvorum")
    assert (fingerprints(old.data_dir), fingerprints(tmp_path / "log")) == files
    assert (tmp_path / "log.kvorum").is_dir()


def test_by_command(
    start_member: StartMember,
    then: Callable[[Member], Member],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    old = start_member(process.etcd(), flags=SMALL)
    history(old)
    before = look(old)
    running = ["convert", "--data-dir", str(old.data_dir), "--out", str(tmp_path / "new.etcd")]
    assert main(running) == 1
    assert "is held by another process" in capsys.readouterr().err
    old.stop()
    files = fingerprints(old.data_dir)
    assert main(running) == 0
    assert f"revision {before.revision}" in capsys.readouterr().out
    assert fingerprints(old.data_dir) == files
    assert main(running) == 1
    assert "not empty" in capsys.readouterr().err
    new = then(successor(old, process.kvorum(), at=tmp_path / "new.etcd"))
    assert look(new) == before
    assert main(["convert", "--data-dir", str(tmp_path / "new.etcd"), "--out", str(tmp_path / "x")]) == 1
    assert "is no data directory of etcd" in capsys.readouterr().err


def take_over(cluster: Cluster, old: Member) -> None:
    """Stop a member and start Kvorum on its directory."""
    old.stop()
    new = successor(old, process.kvorum())
    cluster.members[cluster.members.index(old)] = new
    cluster.gone.append(old)
    cluster.forget(new)
    new.start()


def test_a_cluster_member_by_member(tmp_path: Path) -> None:
    with forming(tmp_path, [process.etcd()] * 3, SMALL) as cluster:
        for seed, old in enumerate(tuple(cluster.members), 71):
            everything(cluster, seed)
            for number in range(20):
                ask(cluster.members[0], f"/v2/keys/n{number % 6}", b"value=%d" % number, "PUT")
            take_over(cluster, old)
            same_everywhere(cluster)
        trees = [v2_tree(member) for member in cluster.members]
        assert trees[1:] == trees[:-1]
        assert {member.program.name for member in cluster.members} == {"kvorum"}
