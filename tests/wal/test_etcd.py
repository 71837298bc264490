"""etcd 3.5.1 wrote it, we read it; we wrote it, etcd reads it and goes on writing.

Independent of our own codec: the other side is etcd's binary.
"""

import shutil
import subprocess
from pathlib import Path

import pytest
from google.protobuf.message import DecodeError

from kvorum.proto import etcdserver_pb2, raft_internal_pb2
from kvorum.raft.codec import decode_entry
from kvorum.raft.types import Entry
from kvorum.snapshot.snap_file import Snapshotter, encode_snap_file, read_snap_file
from kvorum.wal.decoder import SegmentDecoder
from kvorum.wal.disk import OsDisk
from kvorum.wal.errors import WalLockedError
from kvorum.wal.reader import decode_marker
from kvorum.wal.record import (
    CRC_TYPE,
    ENTRY_TYPE,
    METADATA_TYPE,
    SNAPSHOT_TYPE,
    STATE_TYPE,
    WalSnapshot,
    decode_state,
    encode_batch,
    encode_frame,
)
from kvorum.wal.recovery import read_log, recover, valid_snapshots, verify
from kvorum.wal.segments import list_segments
from kvorum.wal.wal import Wal
from tests.support.etcdctl import Etcdctl
from tests.support.process import Member, clean_environment, distro_binary, etcd

KEYS = 30
BIG = "v" * 3000


def write_keys(member: Member, first: int, count: int) -> dict[str, str]:
    ctl = Etcdctl(member.endpoint)
    written = {f"key{n}": f"value{n}" + (BIG if n % 5 == 0 else "") for n in range(first, first + count)}
    for key, value in written.items():
        ctl.run("put", key, value)
    return written


def puts_in(entries: list[Entry]) -> dict[str, str]:
    """The keys that entries put, as etcd's own messages say."""
    put = {}
    for entry in entries:
        if entry.type == 0 and entry.data:
            request = raft_internal_pb2.InternalRaftRequest()
            try:
                request.ParseFromString(entry.data)
            except DecodeError:  # a bare v2 Request: the member publishing its name
                continue
            if request.HasField("put"):
                put[request.put.key.decode()] = request.put.value.decode()
    return put


def read_keys(member: Member) -> dict[str, str]:
    found = Etcdctl(member.endpoint).run("get", "--prefix", "key").stdout.splitlines()
    return dict(zip(found[::2], found[1::2], strict=True))


@pytest.fixture(scope="module")
def etcd_log(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A data directory that etcd wrote, with snapshots, and the keys in it."""
    data_dir = tmp_path_factory.mktemp("etcd") / "data"
    member = Member(etcd(), data_dir, flags=("--snapshot-count=20",))
    try:
        written = write_keys(member.start(), 0, KEYS)
        member.stop()
    finally:
        member.close()
    return data_dir, written


def test_we_read_what_etcd_wrote_record_by_record_and_would_write_the_same_bytes(
    etcd_log: tuple[Path, dict[str, str]],
) -> None:
    data_dir, written = etcd_log
    wal_dir = str(data_dir / "member" / "wal")
    reader = read_log(wal_dir, start=WalSnapshot())
    reader.finish(wal_dir)
    assert puts_in(reader.entries) == written
    assert [entry.index for entry in reader.entries] == list(range(1, len(reader.entries) + 1))
    metadata = etcdserver_pb2.Metadata()
    metadata.ParseFromString(reader.metadata or b"")
    assert metadata.NodeID
    assert metadata.ClusterID
    assert reader.state.commit == reader.entries[-1].index

    kinds = set()
    (segment,) = list_segments(OsDisk(), wal_dir)
    content = Path(segment.path).read_bytes()
    decoder = SegmentDecoder(content, 0, chained=False, is_last=True)
    crc = 0
    ours = b""
    while decoder.advance():
        kinds.add(decoder.type)
        if decoder.type == ENTRY_TYPE:
            frame, crc = encode_batch([decode_entry(decoder.data)], None, crc)
        elif decoder.type == STATE_TYPE:
            frame, crc = encode_batch([], decode_state(decoder.data), crc)
        else:
            crc = decoder.crc
            frame = encode_frame(decoder.type, crc, None if decoder.type == CRC_TYPE else decoder.data)
        ours += frame
    assert ours == content[: decoder.offset]
    assert not any(content[decoder.offset :])
    assert kinds == {METADATA_TYPE, ENTRY_TYPE, STATE_TYPE, CRC_TYPE, SNAPSHOT_TYPE}


def test_we_read_etcds_snapshots_and_would_write_the_same_bytes(
    etcd_log: tuple[Path, dict[str, str]],
) -> None:
    data_dir, _ = etcd_log
    wal_dir, snap_dir = str(data_dir / "member" / "wal"), data_dir / "member" / "snap"
    markers = valid_snapshots(wal_dir)
    newest = Snapshotter(str(snap_dir)).load_newest(markers)
    assert newest is not None
    assert newest.metadata.index > 20
    assert newest.metadata.conf_state.voters
    assert (markers[-1].index, markers[-1].term) == (newest.metadata.index, newest.metadata.term)
    assert markers[-1].conf_state == newest.metadata.conf_state
    files = sorted(snap_dir.glob("*.snap"))
    assert files
    for file in files:
        assert encode_snap_file(read_snap_file(str(file))) == file.read_bytes()
    at_newest = read_log(wal_dir, start=markers[-1])
    assert at_newest.matched
    assert verify(wal_dir, markers[-1]).commit == at_newest.entries[-1].index


def rewrite(source: str, target: str, *, markers: bool) -> Wal:
    """Write etcd's log anew through our own, in small segments; markers only if their snapshots stay."""
    seen: list[tuple[int, bytes]] = []
    reader = read_log(
        source, start=WalSnapshot(), on_record=lambda _path, _offset, kind, data: seen.append((kind, data))
    )
    wal = Wal.create(target, reader.metadata or b"", segment_bytes=1 << 12)
    for kind, data in seen:
        if kind == ENTRY_TYPE:
            wal.flush(wal.prepare(None, [decode_entry(data)]))
        elif kind == STATE_TYPE:
            wal.flush(wal.prepare(decode_state(data), []))
        elif kind == SNAPSHOT_TYPE and markers and decode_marker(data).index:
            wal.save_snapshot(decode_marker(data))
    return wal


@pytest.mark.parametrize("with_snapshots", [False, True])
def test_etcd_starts_on_our_log_repairs_its_tail_and_goes_on(
    etcd_log: tuple[Path, dict[str, str]], tmp_path: Path, with_snapshots: bool
) -> None:
    source, written = etcd_log
    data_dir = tmp_path / "data"
    wal_dir = data_dir / "member" / "wal"
    wal_dir.parent.mkdir(parents=True, mode=0o700)
    data_dir.chmod(0o700)
    if with_snapshots:
        # etcd's database and our copies of its .snap files
        (data_dir / "member" / "snap").mkdir(mode=0o700)
        shutil.copy(source / "member" / "snap" / "db", data_dir / "member" / "snap" / "db")
        for file in sorted((source / "member" / "snap").glob("*.snap")):
            Snapshotter(str(data_dir / "member" / "snap")).save(read_snap_file(str(file)))
    wal = rewrite(str(source / "member" / "wal"), str(wal_dir), markers=with_snapshots)
    assert len(wal.segment_paths()) > 2
    member = Member(etcd(), data_dir)
    try:
        # while we hold it, etcd must not touch it
        member.start(wait=False)
        member.wait_log("file already locked")
        assert member.wait_exit() != 0

        torn = wal.prepare(None, [Entry(wal.state.term, wal.last_index + 1, 0, b"never acknowledged" * 9)])
        tail = Path(wal.segment_paths()[-1])
        wal.close()
        with tail.open("r+b") as opened:
            opened.seek(torn.offset)
            opened.write(torn.data[:-20])
            opened.truncate()

        member.start()
        assert tail.with_name(tail.name + ".broken").exists()
        assert read_keys(member) == written
        more = write_keys(member, KEYS, 5)
        with pytest.raises(WalLockedError, match="held by another process"):
            Wal.open(str(wal_dir), WalSnapshot())
        member.kill()
        again = recover(str(wal_dir), WalSnapshot(), segment_bytes=1 << 14)
        assert puts_in(again.entries) == written | more
        again.wal.close()
        member.start()
        assert read_keys(member) == written | more
        member.stop()
    finally:
        member.close()


def test_etcdutl_backs_up_our_log(etcd_log: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    source, _ = etcd_log
    data_dir = tmp_path / "data"
    shutil.copytree(source, data_dir)
    shutil.rmtree(data_dir / "member" / "wal")
    rewrite(str(source / "member" / "wal"), str(data_dir / "member" / "wal"), markers=True).close()
    done = subprocess.run(
        [
            distro_binary("etcdutl"),
            "backup",
            f"--data-dir={data_dir}",
            f"--backup-dir={tmp_path / 'backup'}",
            "--with-v3",
        ],
        capture_output=True,
        text=True,
        env=clean_environment(),
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    backed_up = read_log(str(tmp_path / "backup" / "member" / "wal"))
    assert backed_up.state.commit == read_log(str(source / "member" / "wal")).state.commit
    assert backed_up.metadata
