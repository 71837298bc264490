"""Backups of a running member by etcd's own client, restored by etcd's own tool into etcd itself."""

import hashlib
import threading
import urllib.request
from collections.abc import Callable
from pathlib import Path

from kvorum import limits
from kvorum.proto import rpc_pb2 as pb
from kvorum.snapshot.bbolt_reader import BboltReader
from tests.snapshot.test_bbolt import status
from tests.snapshot.test_exchange import restore, use
from tests.support.client import Client
from tests.support.etcdctl import Etcdctl
from tests.support.process import Member, etcd


def test_etcd_starts_on_what_etcdctl_saved(
    kvorum: Member, connect: Callable[[Member], Client], tmp_path: Path
) -> None:
    client = connect(kvorum)
    use(client, 21)
    ours = client.hash_kv()
    saved = tmp_path / "saved.db"
    Etcdctl(kvorum.endpoint).run("snapshot", "save", str(saved))
    assert status(saved)["revision"] == ours.header.revision
    member = Member(etcd(), tmp_path / "restored")
    try:
        restore(saved, member)  # checks the SHA-256
        theirs = connect(member.start())
        answer = theirs.hash_kv(ours.header.revision)
        assert (answer.hash, answer.compact_revision) == (ours.hash, ours.compact_revision)
        assert theirs.leases() == client.leases() == [77]
    finally:
        member.close()


def test_the_stream_is_etcds(kvorum: Member, connect: Callable[[Member], Client], tmp_path: Path) -> None:
    client = connect(kvorum)
    for number in range(30):
        client.put(b"key-%d" % number, bytes(10_000))
    answers = list(
        client.stream("etcdserverpb.Maintenance/Snapshot", pb.SnapshotRequest(), pb.SnapshotResponse)
    )
    *blobs, trailer = answers
    content = b"".join(answer.blob for answer in blobs)
    assert all(len(answer.blob) == limits.BLOB_BYTES for answer in blobs[:-1])
    sizes = [len(answer.blob) for answer in blobs]
    assert [answer.remaining_bytes for answer in blobs] == [
        len(content) - sum(sizes[: number + 1]) for number in range(len(sizes))
    ]
    assert (trailer.blob, trailer.remaining_bytes) == (hashlib.sha256(content).digest(), 0)
    (tmp_path / "db").write_bytes(content)
    with BboltReader(str(tmp_path / "db")) as reader:
        assert sum(1 for _ in reader.records(b"key")) == 30
    with urllib.request.urlopen(f"{kvorum.url}/metrics") as page:
        assert b"etcd_disk_backend_snapshot_duration_seconds_count 1\n" in page.read()


def test_a_backup_under_load_is_of_one_moment(
    kvorum: Member, connect: Callable[[Member], Client], tmp_path: Path
) -> None:
    """Each transaction puts the same number twice: no backup may hold only one of the two."""
    client, writer = connect(kvorum), connect(kvorum)
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            puts = [
                pb.RequestOp(request_put=pb.PutRequest(key=key, value=b"%d" % number)) for key in (b"a", b"b")
            ]
            writer.txn(success=puts)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for attempt in range(3):
            blobs = client.stream(
                "etcdserverpb.Maintenance/Snapshot", pb.SnapshotRequest(), pb.SnapshotResponse
            )
            path = tmp_path / f"db{attempt}"
            path.write_bytes(b"".join(answer.blob for answer in blobs))
            with BboltReader(str(path)) as reader:
                revisions = [key for key, _ in reader.records(b"key")]
            assert len(revisions) % 2 == 0
    finally:
        stop.set()
        thread.join()
    leftovers = [path.name for path in (kvorum.data_dir / "member" / "snap").iterdir()]
    assert [name for name in leftovers if name.startswith("tmp")] == []


def test_what_a_client_gives_up_is_let_go(kvorum: Member, connect: Callable[[Member], Client]) -> None:
    client = connect(kvorum)
    for number in range(40):
        client.put(b"key-%d" % number, bytes(100_000))
    for _ in range(limits.MAX_OUTGOING_SNAPSHOTS + 2):
        stub = client.channel.unary_stream(
            "/etcdserverpb.Maintenance/Snapshot", response_deserializer=pb.SnapshotResponse.FromString
        )
        call = stub(b"", timeout=20)
        assert next(iter(call)).blob
        call.cancel()
    assert client.status().dbSize > 0
