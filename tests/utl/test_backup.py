"""Backups looked at and restored: as etcd's tool does it, into members that go on, also beside etcd's."""

import hashlib
import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from kvorum.snapshot.bbolt_reader import BboltReader
from tests.support.client import Client
from tests.support.etcdctl import Etcdctl
from tests.support.process import Member, Program, clean_environment, distro_binary, etcd, kvorum
from tests.utl.conftest import Run, write_history


@pytest.fixture(scope="module", params=["kvorum", "etcd"])
def backup(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """What ``etcdctl snapshot save`` wrote of a member, and the member's HashKV."""
    root = tmp_path_factory.mktemp("backup")
    with Member(kvorum() if request.param == "kvorum" else etcd(), root / "member.etcd") as member:
        with Client(member.endpoint) as client:
            write_history(client)
            client.grant(600, 77)
            client.put(b"leased", b"", lease=77)
            digest = client.hash_kv().hash
        Etcdctl(member.endpoint).run("snapshot", "save", str(root / "saved.db"))
    return root / "saved.db", digest


def etcdutl(*words: str) -> str:
    command = [distro_binary("etcdutl"), *words]
    return subprocess.run(command, env=clean_environment(), check=True, capture_output=True, text=True).stdout


def flags_of(member: Member) -> list[str]:
    return [
        f"--data-dir={member.data_dir}",
        f"--name={member.name}",
        f"--initial-cluster={member.initial_cluster}",
        f"--initial-advertise-peer-urls={member.peer_url}",
    ]


@contextmanager
def not_started(path: Path, *programs: Program) -> Iterator[list[Member]]:
    """Members of one cluster whose directories are still to be made."""
    with ExitStack() as stack:
        members = []
        for number, program in enumerate(programs):
            members.append(Member(program, path / f"{number}.etcd", name=f"m{number}"))
            stack.callback(members[-1].close)
        cluster = ",".join(f"{member.name}={member.peer_url}" for member in members)
        for member in members:
            member.initial_cluster = cluster
        yield members


@pytest.mark.parametrize("format_", ["simple", "json", "fields"])
def test_status_is_etcdutls(backup: tuple[Path, int], kvorumutl: Run, format_: str) -> None:
    done = kvorumutl("snapshot", "status", backup[0], "-w", format_)
    assert done.status == 0
    assert done.stdout == etcdutl("snapshot", "status", str(backup[0]), "-w", format_)


def test_status_as_a_table(backup: tuple[Path, int], kvorumutl: Run) -> None:
    shown = json.loads(kvorumutl("snapshot", "status", backup[0], "-w", "json").stdout)
    table = kvorumutl("snapshot", "status", backup[0], "-w", "table").stdout
    assert f"{shown['hash']:x}" in table
    assert "total keys" in table


def test_a_member_goes_on_from_a_backup(
    backup: tuple[Path, int], tmp_path: Path, kvorumutl: Run, connect: Callable[[Member], Client]
) -> None:
    with not_started(tmp_path, kvorum()) as (member,):
        done = kvorumutl("snapshot", "restore", backup[0], *flags_of(member))
        assert done.status == 0, done.stderr
        assert kvorumutl("verify", member.data_dir).status == 0
        client = connect(member.start())
        assert client.hash_kv().hash == backup[1]
        assert client.leases() == [77]
        assert client.time_to_live(77, keys=True).keys == [b"leased"]
        assert [listed.name for listed in client.member_list().members] == ["m0"]
        revision = client.put(b"goes", b"on").header.revision
        member.kill()
        client = connect(member.start())
        assert client.get(b"goes") == b"on"
        assert client.put(b"and", b"on").header.revision == revision + 1


def test_members_restored_by_either_tool_are_one_cluster(
    backup: tuple[Path, int], tmp_path: Path, kvorumutl: Run, connect: Callable[[Member], Client]
) -> None:
    with not_started(tmp_path, kvorum(), kvorum(), etcd()) as members:
        for member in members[:2]:
            done = kvorumutl("snapshot", "restore", backup[0], *flags_of(member))
            assert done.status == 0, done.stderr
        etcdutl("snapshot", "restore", str(backup[0]), *flags_of(members[2]))
        for member in members:
            member.start(wait=False)
        for member in members:
            member.wait_ready()
        clients = [connect(member) for member in members]
        revision = clients[0].put(b"goes", b"on").header.revision
        for client in clients:
            assert client.get(b"goes") == b"on"
        assert len({client.hash_kv(revision).hash for client in clients}) == 1
        assert len({client.member_list().header.cluster_id for client in clients}) == 1


def refused(kvorumutl: Run, backup: Path, target: Path, *flags: str) -> str:
    done = kvorumutl("snapshot", "restore", backup, f"--data-dir={target}", *flags)
    assert done.status == 1
    assert not (target / "member").exists()
    return done.stderr


def test_what_cannot_be_restored_is_said(backup: tuple[Path, int], tmp_path: Path, kvorumutl: Run) -> None:
    saved, target = backup[0], tmp_path / "new.etcd"
    content = saved.read_bytes()
    bare, changed, cut = (tmp_path / name for name in ("bare", "changed", "cut"))
    with BboltReader(str(saved)) as reader:
        bare.write_bytes(content[: reader.size_bytes])
    changed.write_bytes(content.replace(b"value 20", b"value 21"))
    cut.write_bytes(content[:8192])
    assert "missing hash but --skip-hash-check=false" in refused(kvorumutl, bare, target)
    assert "expected sha256" in refused(kvorumutl, changed, target)
    assert "it was cut short" in refused(kvorumutl, cut, target, "--skip-hash-check")
    assert "No such file" in refused(kvorumutl, tmp_path / "none", target)
    assert "couldn't find local name" in refused(kvorumutl, saved, target, "--name=other")
    assert "--initial-cluster has default=" in refused(
        kvorumutl, saved, target, "--initial-advertise-peer-urls=http://localhost:1"
    )
    assert kvorumutl("snapshot", "restore", bare, f"--data-dir={target}", "--skip-hash-check").status == 0
    done = kvorumutl("snapshot", "restore", saved, f"--data-dir={target}")
    assert "not empty or could not be read" in done.stderr
    assert kvorumutl("snapshot", "status", cut).status == 1


def test_the_checksum_is_of_the_database(backup: tuple[Path, int]) -> None:
    content = backup[0].read_bytes()
    assert hashlib.sha256(content[:-32]).digest() == content[-32:]


def test_the_log_goes_where_it_is_wanted(backup: tuple[Path, int], tmp_path: Path, kvorumutl: Run) -> None:
    flags = [f"--data-dir={tmp_path / 'new.etcd'}", f"--wal-dir={tmp_path / 'wal' / 'here'}"]
    assert kvorumutl("snapshot", "restore", backup[0], *flags).status == 0
    assert list((tmp_path / "wal" / "here").glob("*.wal"))
    assert not (tmp_path / "new.etcd" / "member" / "wal").exists()
    done = kvorumutl("snapshot", "restore", backup[0], f"--data-dir={tmp_path / 'other'}", flags[1])
    assert 'wal-dir "' in done.stderr
    verified = kvorumutl("verify", tmp_path / "new.etcd", flags[1])
    assert verified.status == 0, verified.stdout
