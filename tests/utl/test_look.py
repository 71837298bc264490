"""status, dump and hashkv of a sound directory, against what the member said while it ran."""

import base64
import json
from pathlib import Path

import pytest

from kvorum.raft.codec import encode_conf_change_v2
from kvorum.raft.types import ENTRY_CONF_CHANGE, ENTRY_CONF_CHANGE_V2, ConfChangeSingle, ConfChangeV2, Entry
from kvorum.utl.dump_wal import entry_line, entry_types
from tests.support import process
from tests.support.client import Client
from tests.support.process import Member
from tests.utl.conftest import Run, Stopped


def test_status(original: Stopped, kvorumutl: Run) -> None:
    done = kvorumutl("status", original.root, "-w", "json")
    assert done.status == 0
    shown = json.loads(done.stdout)
    assert shown["revision"] == original.revision
    assert shown["keys"] == original.keys
    assert shown["hash"] == original.hashes[0]
    assert shown["compact_revision"] == 12
    assert shown["raft_term"] == original.raft_term
    assert shown["member_id"] == f"{original.member_id:x}"
    assert shown["consistent_index"] <= shown["wal_last_index"]
    assert shown["raft_commit"] <= shown["wal_last_index"]
    assert (original.snap / shown["snapshot"]).is_file()


def test_status_as_a_table(original: Stopped, kvorumutl: Run) -> None:
    lines = kvorumutl("status", original.root).stdout.splitlines()
    (revision,) = [line for line in lines if " revision " in line and "compact" not in line]
    assert str(original.revision) in revision


def test_nothing_is_changed_by_looking(original: Stopped, kvorumutl: Run) -> None:
    before = {
        path: path.stat().st_mtime_ns for path in original.root.rglob("*.*") if path.suffix != ".lmdb-lock"
    }
    for words in (["status"], ["verify"], ["hashkv"], ["dump", "keys"], ["dump", "wal"]):
        assert kvorumutl(*words, original.root).status == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_running_member_is_refused(tmp_path: Path, kvorumutl: Run) -> None:
    with Member(process.kvorum(), tmp_path / "x.etcd") as member:
        done = kvorumutl("status", member.data_dir)
        assert done.status == 1
        assert f"held by another process (pid {member.pid})" in done.stderr


def test_no_directory(tmp_path: Path, kvorumutl: Run) -> None:
    for words in (["status"], ["verify"], ["hashkv"], ["dump", "keys"], ["dump", "wal"]):
        done = kvorumutl(*words, tmp_path)
        assert (done.status, done.stdout) == (1, "")
        assert done.stderr.startswith(f"Error: {tmp_path} is no data directory")
    assert not list(tmp_path.iterdir())


def test_hashkv(original: Stopped, kvorumutl: Run) -> None:
    done = kvorumutl("hashkv", original.root)
    assert done.stdout == f"{original.hashes[0]}, {original.revision}, 12\n"
    done = kvorumutl("hashkv", original.root, "--rev", "20", "-w", "json")
    assert json.loads(done.stdout) == {
        "hash": original.hashes[20],
        "hash_revision": 20,
        "compact_revision": 12,
    }
    assert (
        kvorumutl("hashkv", original.root, "--rev", "5").stderr == "Error: that revision has been compacted\n"
    )
    assert kvorumutl("hashkv", original.root, "--rev", "999").status == 1


def test_keys(original: Stopped, kvorumutl: Run) -> None:
    lines = kvorumutl("dump", "keys", original.root).stdout.splitlines()
    assert lines[0].split("\t") == ["create", "mod", "version", "lease", "key", "value"]
    assert len(lines) == 1 + original.keys
    assert lines[1] == '33\t33\t1\t0\t"bin\\xff\\x00"\t"\\x00\\xff"'
    assert lines[2] == '2\t22\t3\t0\t"key0"\t"value 20"'


def test_some_keys(original: Stopped, kvorumutl: Run) -> None:
    words = ["--prefix", "key", "--limit", "3", "--keys-only", "--rev", "31"]
    lines = kvorumutl("dump", "keys", original.root, *words).stdout.splitlines()
    assert [line.split("\t")[4] for line in lines] == ["key", '"key0"', '"key1"', '"key2"']
    assert kvorumutl("dump", "keys", original.root, "--rev", "3").status == 1


def test_keys_as_json(original: Stopped, kvorumutl: Run) -> None:
    done = kvorumutl("dump", "keys", original.root, "--prefix", "key9", "-w", "json")
    shown = json.loads(done.stdout)
    assert base64.b64decode(shown["key"]) == b"key9"
    assert base64.b64decode(shown["value"]) == b"value 29"
    assert (shown["create_revision"], shown["mod_revision"], shown["version"]) == (11, 31, 3)


def test_history(original: Stopped, kvorumutl: Run) -> None:
    lines = kvorumutl("dump", "keys", original.root, "--history", "--prefix", "key3").stdout.splitlines()
    assert lines[-1] == '32.0\tdelete\t"key3"'
    assert lines[-2] == '25.0\tput\t"key3"\t"value 23"'
    short = kvorumutl(
        "dump", "keys", original.root, "--history", "--limit=2", "--rev=20", "--keys-only"
    ).stdout
    assert len(short.splitlines()) == 2
    assert kvorumutl("dump", "keys", original.root, "--history", "-w", "json").status == 2


def test_wal(original: Stopped, kvorumutl: Run) -> None:
    lines = kvorumutl("dump", "wal", original.root).stdout.splitlines()
    assert lines[0].split() == ["term", "index", "type", "data"]
    indexes = [int(line.split("\t")[1]) for line in lines[1:]]
    assert indexes == list(range(1, len(indexes) + 1))
    assert "method=ConfChangeAddNode" in lines[1]
    assert any('put { key: "key0" value: "value 0" }' in line for line in lines)
    assert any("\tnorm\tempty" in line for line in lines)


def test_some_of_the_wal(original: Stopped, kvorumutl: Run) -> None:
    words = ["--start-index", "10", "--entry-type", "IRRDeleteRange,IRRCompaction"]
    lines = kvorumutl("dump", "wal", original.root, *words).stdout.splitlines()[1:]
    assert len(lines) == 2
    assert "delete_range" in lines[0]
    assert "compaction { revision: 12 physical: true }" in lines[1]
    done = kvorumutl("dump", "wal", original.root, "--entry-type", "x")
    assert done.status == 2
    assert "x is no entry type" in done.stderr


def test_all_records(original: Stopped, kvorumutl: Run) -> None:
    lines = kvorumutl("dump", "wal", original.root, "--records").stdout.splitlines()
    kinds = [line.split("\t")[1].strip() for line in lines]
    assert kinds[:3] == ["crc", "metadata", "snapshot"]
    assert kinds.count("snapshot") > 1
    assert lines[1].endswith(f"nodeID={original.member_id:x} clusterID={lines[1].rpartition('=')[2]}")


def test_the_log_of_etcd(tmp_path: Path, kvorumutl: Run) -> None:
    with Member(process.etcd(), tmp_path / "etcd.etcd") as member:
        client = Client(member.endpoint)
        client.put(b"k", b"v" * 5000)
        client.close()
        member.stop()
    lines = kvorumutl("dump", "wal", tmp_path / "etcd.etcd").stdout.splitlines()
    assert any('Method: "PUT" Path: "/0/members/' in line for line in lines)  # etcd's v2 requests
    (put,) = [line for line in lines if "put {" in line]
    assert put.endswith("bytes)")
    lines = kvorumutl(
        "dump", "wal", "--full", "--entry-type=IRRPut", tmp_path / "etcd.etcd"
    ).stdout.splitlines()
    assert len(lines) == 2
    assert "v" * 5000 in lines[1]


def test_entries_of_every_kind() -> None:
    joint = ConfChangeV2(changes=(ConfChangeSingle(3, 0xAB),))
    entry = Entry(2, 7, ENTRY_CONF_CHANGE_V2, encode_conf_change_v2(joint))
    assert entry_line(entry, full=False).endswith("conf\ttransition=0 changes=[ConfChangeAddLearnerNode(ab)]")
    assert entry_types(entry) == {"ConfigChange"}
    assert entry_line(Entry(2, 7, ENTRY_CONF_CHANGE, b"\xff"), full=False).endswith("conf\t???")
    assert entry_line(Entry(2, 7, 0, b"\xff"), full=False).endswith("norm\t???")


@pytest.mark.parametrize("words", [["--help"], ["dump", "--help"], ["status", "--help"]])
def test_help(words: list[str], kvorumutl: Run) -> None:
    done = kvorumutl(*words)
    assert done.status == 0
    assert done.stdout.startswith("Usage: kvorumutl")


def test_version(kvorumutl: Run) -> None:
    assert kvorumutl("version").stdout.startswith("etcdutl version: 3.5.1\n")
