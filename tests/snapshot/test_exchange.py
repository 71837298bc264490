"""Databases go out as etcd's bbolt files and come in from them; etcd 3.5.1 is the other side."""

import asyncio
import json
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvorum.errors import ERR_NO_SPACE
from kvorum.mvcc.backend import BackendError
from kvorum.mvcc.check import check_database
from kvorum.mvcc.exchange import Committed, FileIdentity, MovedError
from kvorum.mvcc.keyvalue import encode
from kvorum.mvcc.revision import etcd_key, revision
from kvorum.mvcc.store import Store
from kvorum.proto import rpc_pb2 as pb
from kvorum.raft.codec import decode_conf_state, encode_conf_state
from kvorum.raft.types import ConfState
from kvorum.snapshot import process
from kvorum.snapshot.bbolt_writer import BboltWriter
from kvorum.snapshot.export import MOVED, Exported, export
from kvorum.snapshot.intake import take_in
from kvorum.snapshot.schema import Position, SchemaError, conf_state_from_json, conf_state_to_json
from tests.support.client import Client, op_put, refused_with
from tests.support.process import Member, distro_binary, etcd

MAP_BYTES = 1 << 30
JOINT = ConfState((1, 2, 1 << 63), (4,), (1, 5), (5,), True)


@contextmanager
def opened(path: Path) -> Iterator[Store]:
    store = Store.open(str(path), clock=time.monotonic, map_bytes=MAP_BYTES, headroom_bytes=1 << 28)
    try:
        yield store
    finally:
        store.close()


def export_to(database: Path, target: Path) -> Path:
    with Committed(str(database), MAP_BYTES, None) as view, target.open("wb") as file:
        size = export(view, file)
    assert size == target.stat().st_size
    return target


def fill(store: Store, seed: int) -> None:
    """A history with everything in it, and a compaction that has and one that has not been carried out."""
    random_ = random.Random(seed)
    names = [b"key-%03d" % number for number in range(60)]
    for step in range(400):
        store.consistent_index, store.term = 10 + step, 3
        with store.write() as txn:
            for _ in range(random_.choice([1, 1, 3])):
                if random_.random() < 0.2:
                    txn.delete_range_count(*sorted(random_.sample(names, 2)))
                else:
                    value = b"v" * random_.choice([0, 1, 300, 5000])
                    txn.put(random_.choice(names), value, random_.choice([0, 7]))
        if step == 200:
            store.compact(store.revision - 20)
            store.compact_now()
    store.conf_state = encode_conf_state(JOINT)
    for table, records in OTHERS.items():
        for key, value in records.items():
            store.table(table).put(key, value)
    store.table(b"v2nodes").put(b"ours", b"alone")
    store.compact(store.revision - 5)


OTHERS = {
    b"alarm": {b"\x08\x01\x10\x01": b""},
    b"auth": {b"authEnabled": b"\x00", b"authRevision": bytes(7) + b"\x01"},
    b"authRoles": {b"root": b"\x0a\x04root"},
    b"authUsers": {b"root": b"\x0a\x04root"},
    b"cluster": {b"clusterVersion": b"3.5.0"},
    b"lease": {bytes(7) + b"\x07": b"\x08\x07\x10\x3c"},
    b"members": {b"8e9e05c52164694d": b'{"id":10276657743932975437,"peerURLs":["http://localhost:2380"]}'},
    b"members_removed": {b"1f": b"removed"},
}


def records_of(store: Store, table: bytes) -> dict[bytes, bytes]:
    return dict(store.table(table).iterate())


@pytest.mark.parametrize("seed", [1, 2])
def test_a_round_trip_keeps_everything(tmp_path: Path, seed: int) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    with opened(first) as store:
        fill(store, seed)
    # Opening goes on with the compaction that was asked for, in memory; the file has it still to do.
    exported = export_to(first, tmp_path / "db")
    assert take_in(str(exported), str(second), None, b"").left_out == ()
    assert not check_database(str(second)).problems
    with opened(first) as before, opened(second) as after:
        assert after.hash_kv() == before.hash_kv()
        for revision in range(before.compact_revision + 1, before.revision, 37):
            assert after.hash_kv(revision) == before.hash_kv(revision)
        assert (after.revision, after.compact_revision) == (before.revision, before.compact_revision)
        assert after.finished_compact_revision == before.finished_compact_revision
        assert (after.consistent_index, after.term) == (409, 3)
        assert decode_conf_state(after.conf_state) == JOINT
        assert after.restored_leases == before.restored_leases != {}
        assert records_of(after, b"meta") == records_of(before, b"meta")
        for table, records in OTHERS.items():
            assert records_of(after, table) == records
        assert records_of(after, b"v2nodes") == {}  # goes in the message, as JSON
        after.compact_now()
        before.compact_now()
        assert after.hash_kv() == before.hash_kv()
        after.check_invariants()


def test_a_round_trip_through_files_is_the_same_file(tmp_path: Path) -> None:
    with opened(tmp_path / "first") as store:
        fill(store, 3)
    exported = export_to(tmp_path / "first", tmp_path / "db")
    take_in(str(exported), str(tmp_path / "second"), None, b"")
    again = export_to(tmp_path / "second", tmp_path / "db2")
    assert again.read_bytes() == exported.read_bytes()


def test_the_message_says_where_the_snapshot_stands(tmp_path: Path) -> None:
    with opened(tmp_path / "first") as store:
        fill(store, 4)
    exported = str(export_to(tmp_path / "first", tmp_path / "db"))
    told = Position(500, 9, ConfState((1, 2, 3)))
    take_in(exported, str(tmp_path / "second"), told, b"")
    with opened(tmp_path / "second") as store:
        assert (store.consistent_index, store.term) == (500, 9)
        assert decode_conf_state(store.conf_state) == told.conf_state
    with pytest.raises(SchemaError, match=r"stands at index 409, its message at 408"):
        take_in(exported, str(tmp_path / "third"), Position(408, 3, JOINT), b"")


def kv(key: bytes, create: int, mod: int, version: int) -> bytes:
    return encode(key, create, mod, version, b"value", 0)


REVISION = etcd_key(revision(5, 0))
TOMBSTONE = etcd_key(revision(5, 0, True))


@pytest.mark.parametrize(
    ("bucket", "key", "value", "text"),
    [
        (b"key", b"no revision", kv(b"a", 5, 5, 1), "is not etcd's"),
        (b"key", REVISION, b"", "is not of its revision"),
        (b"key", REVISION, b"\xff", "is not etcd's"),
        (b"key", REVISION, kv(b"a", 5, 5, 1)[:-1], "is not etcd's"),
        (b"key", REVISION, kv(b"a", 5, 6, 1), "is not of its revision"),
        (b"key", REVISION, kv(b"a", 5, 5, 0), "is not of its revision"),
        (b"key", REVISION, kv(b"a", 0, 5, 1), "is not of its revision"),
        (b"key", REVISION, kv(b"", 5, 5, 1), "is not of its revision"),
        (b"key", TOMBSTONE, kv(b"a", 5, 5, 1), "is not of its revision"),
        (b"meta", b"confState", b"no JSON", "no configuration"),
        (b"meta", b"confState", b'{"voters":["a"]}', "no configuration"),
        (b"meta", b"confState", b'{"voters":[-1]}', "no configuration"),
        (b"meta", b"confState", b"[]", "no configuration"),
        (b"meta", b"confState", b"[" * 100_000, "no configuration"),
    ],
)
def test_what_is_not_etcds_is_refused(
    tmp_path: Path, bucket: bytes, key: bytes, value: bytes, text: str
) -> None:
    with (tmp_path / "db").open("wb") as file:
        writer = BboltWriter(file)
        writer.bucket(bucket, [(key, value)])
        writer.finish()
    with pytest.raises(SchemaError, match=text):
        take_in(str(tmp_path / "db"), str(tmp_path / "made"), None, b"")


def test_a_key_that_lmdb_cannot_hold_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "db").open("wb") as file:
        writer = BboltWriter(file)
        writer.bucket(b"authUsers", [(b"u" * 512, b"")])
        writer.finish()
    with pytest.raises(BackendError, match="cannot write the database"):
        take_in(str(tmp_path / "db"), str(tmp_path / "made"), None, b"")


def test_unknown_buckets_are_left_out_and_named(tmp_path: Path) -> None:
    with (tmp_path / "db").open("wb") as file:
        writer = BboltWriter(file)
        writer.bucket(b"key", [(REVISION, kv(b"a", 5, 5, 1)), (etcd_key(revision(6, 0, True)), b"\n\x01a")])
        writer.bucket(b"test", [(b"a", b"b")])
        writer.finish()
    taken = take_in(str(tmp_path / "db"), str(tmp_path / "made"), None, b"")
    assert (taken.records, taken.left_out) == (2, (b"test",))


@given(
    st.builds(
        ConfState,
        *[st.sets(st.integers(1, (1 << 64) - 1)).map(lambda members: tuple(sorted(members)))] * 4,
        st.booleans(),
    )
)
def test_configurations_as_json(state: ConfState) -> None:
    assert conf_state_from_json(conf_state_to_json(state)) == state


def test_configurations_as_go_writes_them() -> None:
    assert conf_state_to_json(ConfState((1, 2))) == b'{"voters":[1,2],"auto_leave":false}'
    assert conf_state_to_json(JOINT) == (
        b'{"voters":[1,2,9223372036854775808],"learners":[4],"voters_outgoing":[1,5],'
        b'"learners_next":[5],"auto_leave":true}'
    )


# --- beside a writer --------------------------------------------------------------------------------------


def run_export(database: Path, identity: FileIdentity, target: Path) -> process.Outcome:
    with target.open("wb") as file:
        numbers = map(str, (MAP_BYTES, *identity, file.fileno()))
        return asyncio.run(process.run("kvorum.snapshot.export", [str(database), *numbers], [file.fileno()]))


def test_a_process_beside_the_writer_sees_one_moment(tmp_path: Path) -> None:
    with opened(tmp_path / "first") as store:
        fill(store, 6)
        store.commit()
        expected = store.hash_kv()
        identity = FileIdentity.of(str(tmp_path / "first"))
        store.consistent_index = 410
        with store.write() as txn:
            txn.put(b"not committed", b"")
        done = run_export(tmp_path / "first", identity, tmp_path / "db")
        assert done.code == 0, done.trouble
        exported = Exported.from_line(done.output.split(b"\n")[0] + b"\n")
        assert exported.position == Position(409, 3, JOINT)
        assert exported.size == (tmp_path / "db").stat().st_size
        take_in(str(tmp_path / "db"), str(tmp_path / "second"), exported.position, b"")
        with opened(tmp_path / "second") as copy:
            assert copy.hash_kv() == expected


def test_another_file_than_the_one_meant_is_refused(tmp_path: Path) -> None:
    for name in ("first", "second"):
        with opened(tmp_path / name):
            pass
    identity = FileIdentity.of(str(tmp_path / "first"))
    (tmp_path / "second").rename(tmp_path / "first")
    assert run_export(tmp_path / "first", identity, tmp_path / "db").code == MOVED
    with pytest.raises(MovedError):
        Committed(str(tmp_path / "first"), MAP_BYTES, identity)


def test_a_database_that_is_not_there(tmp_path: Path) -> None:
    done = run_export(tmp_path / "none", FileIdentity(1, 2), tmp_path / "db")
    assert done.code == 1
    assert "No such file" in done.trouble


# --- with etcd --------------------------------------------------------------------------------------------


def use(client: Client, seed: int) -> None:
    random_ = random.Random(seed)
    names = [b"key-%03d" % number for number in range(40)]
    client.grant(600, 77)
    for step in range(150):
        if random_.random() < 0.2:
            client.delete(*sorted(random_.sample(names, 2)))
        elif random_.random() < 0.3:
            client.txn(success=[op_put(key, b"txn") for key in random_.sample(names, 3)])
        else:
            value = b"v" * random_.choice([0, 1, 300, 5000, 100_000])
            client.put(random_.choice(names), value, lease=random_.choice([0, 77]))
        if step == 100:
            client.compact(client.status().header.revision - 10, physical=True)


def test_what_etcd_wrote_comes_in(etcd: Member, connect: Callable[[Member], Client], tmp_path: Path) -> None:
    client = connect(etcd)
    use(client, 5)
    theirs = client.hash_kv()
    raft_index = client.status().raftAppliedIndex
    member = client.member_list().members[0]
    etcd.stop()
    database = etcd.data_dir / "member" / "snap" / "db"
    taken = take_in(str(database), str(tmp_path / "ours"), None, b"")
    assert taken.records > 50
    assert taken.left_out == ()
    assert not check_database(str(tmp_path / "ours")).problems
    with opened(tmp_path / "ours") as store:
        assert store.hash_kv() == (theirs.hash, theirs.compact_revision, theirs.header.revision)
        assert store.consistent_index == raft_index
        assert store.term == 2
        assert decode_conf_state(store.conf_state) == ConfState((member.ID,))
        assert set(store.restored_leases.values()) == {77}
        assert list(records_of(store, b"lease")) == [bytes(7) + b"\x4d"]
        assert json.loads(records_of(store, b"members")[b"%x" % member.ID])["id"] == member.ID
        assert records_of(store, b"cluster")[b"clusterVersion"] == b"3.5.0"
        store.check_invariants()


def restore(snapshot: Path, member: Member, *flags: str) -> None:
    """Make a member's directory of a snapshot, by etcd's own tool."""
    command = [
        *(distro_binary("etcdutl"), "snapshot", "restore", str(snapshot)),
        f"--data-dir={member.data_dir}",
        f"--name={member.name}",
        f"--initial-cluster={member.initial_cluster}",
        f"--initial-advertise-peer-urls={member.peer_url}",
        *flags,
    ]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_etcd_restores_what_we_write(connect: Callable[[Member], Client], tmp_path: Path) -> None:
    with opened(tmp_path / "ours") as store:
        fill(store, 8)
        ours = store.hash_kv()
    member = Member(etcd(), tmp_path / "restored")
    try:
        restore(export_to(tmp_path / "ours", tmp_path / "db"), member, "--skip-hash-check")
        client = connect(member.start())
        theirs = client.hash_kv(ours.revision)
        assert (theirs.hash, theirs.compact_revision) == (ours.hash, ours.compact_revision)
        assert client.leases() == [7]
        assert client.time_to_live(7, keys=True).keys
        with refused_with(ERR_NO_SPACE):  # the alarm came with the rest
            client.put(b"goes", b"on")
        disarm = pb.AlarmRequest(action=pb.AlarmRequest.DEACTIVATE, memberID=1, alarm=pb.NOSPACE)
        client.call("etcdserverpb.Maintenance/Alarm", disarm, pb.AlarmResponse)
        assert client.put(b"goes", b"on").header.revision == ours.revision + 1
        # What etcd has written since is read again.
        client.compact(ours.revision, physical=True)
        after = client.hash_kv()
        member.stop()
        take_in(str(member.data_dir / "member" / "snap" / "db"), str(tmp_path / "back"), None, b"")
    finally:
        member.close()
    with opened(tmp_path / "back") as store:
        assert store.hash_kv() == (after.hash, after.compact_revision, after.header.revision)
