"""The .snap files: atomic, checked, and only believed if the log names them."""

import errno
import os
import random
from pathlib import Path

import pytest
from crc32c import crc32c
from hypothesis import given
from hypothesis import strategies as st

from kvorum.proto import raft_pb2, snap_pb2
from kvorum.raft.types import ConfState, Snapshot, SnapshotMetadata
from kvorum.snapshot.snap_file import (
    SnapFileError,
    Snapshotter,
    decode_snap_file,
    encode_snap_file,
    read_snap_file,
    snap_name,
)
from kvorum.wal.memdisk import MemoryDisk
from kvorum.wal.record import WalSnapshot

SNAP_DIR = "/data/member/snap"


def snapshot(index: int, term: int = 2, data: bytes = b'{"Root":{}}') -> Snapshot:
    return Snapshot(data, SnapshotMetadata(ConfState(voters=(1,)), index, term))


def marker(index: int, term: int = 2) -> WalSnapshot:
    return WalSnapshot(index, term, ConfState(voters=(1,)))


@given(st.integers(1, 2**64 - 1), st.integers(1, 2**64 - 1), st.binary(max_size=100))
def test_a_file_is_what_protobuf_says_and_comes_back(index: int, term: int, data: bytes) -> None:
    content = encode_snap_file(snapshot(index, term, data))
    outer = snap_pb2.snapshot()
    outer.ParseFromString(content)
    assert outer.SerializeToString() == content
    assert outer.crc == crc32c(outer.data)
    inner = raft_pb2.Snapshot()
    inner.ParseFromString(outer.data)
    assert (inner.metadata.index, inner.metadata.term, inner.data) == (index, term, data)
    assert decode_snap_file(content, "x") == snapshot(index, term, data)


def attempt(content: bytes) -> Snapshot | None:
    try:
        return decode_snap_file(content, "x")
    except SnapFileError:
        return None


def test_every_flipped_bit_and_every_cut_is_refused_or_means_nothing() -> None:
    content = encode_snap_file(snapshot(7))
    for cut in range(len(content)):
        assert attempt(content[:cut]) is None
    for bit in range(len(content) * 8):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        assert attempt(bytes(damaged)) in (None, snapshot(7)), bit


def test_the_newest_that_the_log_names_is_loaded(tmp_path: Path) -> None:
    snapshotter = Snapshotter(str(tmp_path))
    assert snapshotter.load_newest() is None
    for index, term in ((10, 2), (20, 2), (15, 3)):
        durations = snapshotter.save(snapshot(index, term))
        assert durations.total_seconds >= durations.fsync_seconds > 0
    assert snapshotter.names() == [snap_name(3, 15), snap_name(2, 20), snap_name(2, 10)]
    assert snapshotter.load_newest() == snapshot(15, 3)
    assert snapshotter.load_newest([marker(0), marker(10), marker(20)]) == snapshot(20)
    assert snapshotter.load_newest([marker(15, 2)]) is None
    assert (tmp_path / snap_name(2, 20)).stat().st_mode & 0o777 == 0o600


def test_broken_files_are_put_aside_and_the_next_is_taken(tmp_path: Path) -> None:
    snapshotter = Snapshotter(str(tmp_path))
    for index in (10, 20, 30, 40):
        snapshotter.save(snapshot(index))
    (tmp_path / snap_name(2, 40)).write_bytes(b"")
    content = bytearray((tmp_path / snap_name(2, 30)).read_bytes())
    content[-3] ^= 1
    (tmp_path / snap_name(2, 30)).write_bytes(content)
    (tmp_path / snap_name(2, 20)).rename(tmp_path / snap_name(2, 25))
    (tmp_path / (snap_name(2, 50) + ".tmp")).write_bytes(b"half")
    (tmp_path / "db").write_bytes(b"not ours")
    assert snapshotter.load_newest() == snapshot(10)
    assert sorted(os.listdir(tmp_path)) == [
        snap_name(2, 10),
        snap_name(2, 25) + ".broken",
        snap_name(2, 30) + ".broken",
        snap_name(2, 40) + ".broken",
        "db",
    ]
    with pytest.raises(SnapFileError, match="crc mismatch"):
        read_snap_file(str(tmp_path / (snap_name(2, 30) + ".broken")))


def test_purging_keeps_the_newest_and_the_one_that_is_needed(tmp_path: Path) -> None:
    snapshotter = Snapshotter(str(tmp_path))
    for index in range(10, 100, 10):
        snapshotter.save(snapshot(index))
    assert snapshotter.purge(0, marker(90)) == []
    assert [os.path.basename(path) for path in snapshotter.purge(5, marker(90))] == [
        snap_name(2, index) for index in (10, 20, 30, 40)
    ]
    # the last markers never made it into the log: 60 is where a restart would begin
    assert [os.path.basename(path) for path in snapshotter.purge(1, marker(60))] == [snap_name(2, 50)]
    assert snapshotter.load_newest([marker(60)]) == snapshot(60)


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_a_disk_that_fails_or_loses_power_at_any_call_leaves_a_snapshot_or_none(number: int) -> None:
    probe = MemoryDisk()
    probe.make_dirs(SNAP_DIR)
    Snapshotter(SNAP_DIR, disk=probe).save(snapshot(10))
    before = probe.calls
    Snapshotter(SNAP_DIR, disk=probe).save(snapshot(20))
    for at in range(probe.calls - before + 1):
        for seed in range(8):
            disk = MemoryDisk()
            disk.make_dirs(SNAP_DIR)
            snapshotter = Snapshotter(SNAP_DIR, disk=disk)
            snapshotter.save(snapshot(10))
            disk.fail_at, disk.fail_errno = at, number
            saved = at >= probe.calls - before
            try:
                snapshotter.save(snapshot(20))
            except OSError as error:
                failed = error.errno
            else:
                failed = 0
            assert failed == (0 if saved else number)
            disk.fail_at = -1
            if not saved:
                assert snapshotter.load_newest() in (snapshot(10), snapshot(20))
            after = disk.crash(random.Random(seed))
            newest = Snapshotter(SNAP_DIR, disk=after).load_newest()
            assert newest == snapshot(20) or (newest == snapshot(10) and not saved), (at, seed)
            assert not any(name.endswith(".broken") for name in after.list(SNAP_DIR)), (at, seed)
