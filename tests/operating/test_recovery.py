"""The majority is lost; a backup is all there is; old data and other clusters' members come along.

What etcd does as well is asked of etcd 3.5.1 by the same words.
"""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from tests.conftest import StartMember
from tests.operating.support import ask, successor, v2_tree, wait_stored
from tests.support import process
from tests.support.client import Client
from tests.support.cluster import LOOSE, forming
from tests.support.etcdctl import Etcdctl
from tests.support.process import Member, Program, clean_environment
from tests.support.waiting import wait_until
from tests.support.workload import everything

FLAGS: Final = (*LOOSE, "--enable-v2", "--snapshot-count=50")
PROGRAMS: Final = [process.kvorum, process.etcd]
NAMES: Final = ["kvorum", "etcd"]


@pytest.mark.parametrize("program", PROGRAMS, ids=NAMES)
def test_one_goes_on_when_the_majority_is_lost(program: Callable[[], Program], tmp_path: Path) -> None:
    with forming(tmp_path, [program()] * 3, FLAGS) as cluster:
        everything(cluster, 81)
        ask(cluster.members[0], "/v2/keys/kept", b"value=x", "PUT")
        cluster.wait_level()
        last, *lost = cluster.members
        known, number = cluster.client(last).hash_kv(), cluster.id_of(last)
        tree = v2_tree(last)
        for more in range(3):  # what is known to be committed is written with what comes next
            cluster.client(last).put(b"after", b"%d" % more)
        cluster.kill_all()
        alone = successor(last, program(), ["--force-new-cluster"])
        cluster.members[:] = [alone]
        cluster.gone.extend([last, *lost])
        cluster.forget(alone)
        alone.start()
        client = cluster.client(alone)
        wait_until(lambda: len(client.member_list().members) == 1 or None, "the others are removed")
        (listed,) = client.member_list().members
        found = client.hash_kv(known.header.revision)
        assert (listed.ID, found.header.cluster_id) == (number, known.header.cluster_id)
        assert (found.hash, found.compact_revision) == (known.hash, known.compact_revision)
        wait_until(lambda: v2_tree(alone) == tree or None, "v2 clients see what they saw")
        client.put(b"alone", b"1")
        # the flag is for one start; a cluster grows from here
        again = Member(program(), alone.data_dir, flags=FLAGS, name=alone.name)
        again.peer_port, again.initial_cluster = alone.peer_port, alone.initial_cluster
        alone.stop()
        cluster.members[:] = [again]
        cluster.gone.append(alone)
        cluster.forget(again)
        again.start()
        cluster.wait_leader()
        cluster.join(process.kvorum())
        cluster.check_equal()
        # one that was given up comes back: it is not let in
        back = lost[0]
        back.start(wait=False)
        back.wait_exit()
        cluster.check_equal()


def backup(tool: list[str], member: Member, to: Path, variables: dict[str, str]) -> None:
    done = subprocess.run(
        [*tool, "backup", f"--data-dir={member.data_dir}", f"--backup-dir={to}"],
        env=clean_environment(variables),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def values(node: Any) -> dict[str, str | None]:
    """Return the values of a tree without its indexes: a backup leaves out what moved them for members."""
    inside = [values(inner) for inner in node["nodes"]]
    return {node.get("key", "/"): node.get("value")} | {k: v for one in inside for k, v in one.items()}


@pytest.mark.parametrize("snapshots", [50, 10_000], ids=["with a snapshot", "the log alone"])
def test_a_backup_of_the_v2_kind(snapshots: int, start_member: StartMember, tmp_path: Path) -> None:
    """``etcdctl backup`` makes a directory for --force-new-cluster; Kvorum and etcd make the same of it."""
    old = start_member(process.etcd34(), flags=["--enable-v2", f"--snapshot-count={snapshots}"])
    for number in range(70):
        ask(old, f"/v2/keys/dir/{number % 9}", b"value=%d" % number, "PUT")
    with Client(old.endpoint) as client:
        client.put(b"v3", b"not in a backup of the v2 kind")
    tree = v2_tree(old)
    made = tmp_path / "backup.etcd"
    backup(["etcdctl"], old, made, {"ETCDCTL_API": "2"})
    old.stop()
    trees, names = [], []
    for program in (process.etcd(), process.kvorum()):
        copy = tmp_path / f"{program.name}-restored.etcd"
        shutil.copytree(made, copy)
        new = successor(old, program, ["--force-new-cluster"], at=copy)
        with new:
            trees.append(v2_tree(new))
            names.append(Etcdctl(new.endpoint).run("member", "list").stdout.split(", ")[1:4])
            ask(new, "/v2/keys/new", b"value=1", "PUT")
            with Client(new.endpoint) as client:
                assert client.get(b"v3") is None
                client.put(b"v3", b"again")
    assert trees[0] == trees[1]
    assert values(trees[0]) == values(tree)
    assert names[0][:2] == names[1][:2] == ["started", "default"]


def test_a_directory_from_before_v3(start_member: StartMember, tmp_path: Path) -> None:
    """As etcd 2 left them: no database at all; etcd 3.5 refuses them."""
    old = start_member(process.etcd34(), flags=["--enable-v2", "--snapshot-count=50"])
    for number in range(70):
        ask(old, f"/v2/keys/dir/{number % 9}", b"value=%d" % number, "PUT")
    tree = v2_tree(old)
    old.stop()
    (old.data_dir / "member" / "snap" / "db").unlink()
    with successor(old, process.kvorum()) as new:
        assert v2_tree(new) == tree
        assert ask(new, "/v2/keys/dir/1", b"value=x", "PUT")["action"] == "set"


@pytest.mark.parametrize("program", PROGRAMS, ids=NAMES)
def test_an_old_copy_of_the_data_is_stopped(program: Callable[[], Program], tmp_path: Path) -> None:
    """A follower that has forgotten what it acknowledged to the leader ends before it votes or answers."""
    with forming(tmp_path, [program()] * 3, LOOSE) as cluster:
        everything(cluster, 82, rounds=3)
        cluster.wait_level()
        follower = cluster.followers()[0]
        follower.stop()
        shutil.copytree(follower.data_dir, tmp_path / "old.etcd")
        follower.start()
        everything(cluster, 83, rounds=3)
        cluster.wait_level()
        follower.kill()
        shutil.rmtree(follower.data_dir)
        shutil.copytree(tmp_path / "old.etcd", follower.data_dir)
        follower.start(wait=False)
        assert follower.wait_exit() != 0
        assert any("corrupted, truncated, or lost" in line.lower() for line in follower.log_lines)
        cluster.client(cluster.wait_leader()).put(b"the others", b"go on")


def made(directory: Path, name: str) -> Path:
    path = directory / name
    path.mkdir()
    return path


def test_a_member_of_another_cluster_is_kept_out(tmp_path: Path) -> None:
    """Its directory says which cluster it is of; those it is told to talk to are of another."""
    with (
        forming(made(tmp_path, "one"), [process.kvorum()] * 2) as cluster,
        forming(made(tmp_path, "two"), [process.kvorum()], ["--initial-cluster-token=two"]) as other,
    ):
        (stranger,) = other.members
        client = cluster.client(cluster.wait_leader())
        listed = [(m.ID, m.name) for m in client.member_list().members]
        other.client(stranger).member_add(cluster.members[0].peer_url)
        stranger.wait_log("cluster ID mismatch")
        cluster.members[0].wait_log("cluster ID mismatch")
        wait_stored(cluster.members[1], "absent", "")
        client.put(b"undisturbed", b"1")
        assert [(m.ID, m.name) for m in client.member_list().members] == listed
