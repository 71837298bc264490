"""The log on a real file system: layout, locks, purging, closing, what is refused."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kvorum.limits import MAX_DEFERRED_WAL_BYTES, WAL_SEGMENT_BYTES
from kvorum.raft.types import HardState
from kvorum.wal.errors import (
    CorruptWalError,
    SnapshotMismatchError,
    SnapshotNotFoundError,
    WalExistsError,
    WalFailedError,
    WalLockedError,
    WalNotFoundError,
)
from kvorum.wal.memdisk import MemoryDisk
from kvorum.wal.record import WalSnapshot
from kvorum.wal.recovery import recover, verify
from kvorum.wal.segments import DirectoryLock, exists, parse_segment_name, purge, segment_name
from kvorum.wal.wal import Wal
from tests.wal.logs import CONF_STATE, METADATA, VOTE, WAL_DIR, create, entry, fill, reopen, save


def make(tmp_path: Path, segment_bytes: int = 4096) -> Wal:
    return Wal.create(str(tmp_path / "wal"), METADATA, segment_bytes=segment_bytes)


def names(wal: Wal) -> list[str]:
    return [os.path.basename(path) for path in wal.segment_paths()]


def test_the_first_segment_is_preallocated_and_private(tmp_path: Path) -> None:
    wal = Wal.create(str(tmp_path / "wal"), METADATA)
    (file,) = (tmp_path / "wal").iterdir()
    assert file.name == "0000000000000000-0000000000000000.wal"
    assert file.stat().st_size == WAL_SEGMENT_BYTES == 64_000_000
    assert file.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "wal").stat().st_mode & 0o777 == 0o700
    assert not (tmp_path / "wal.tmp").exists()
    wal.close()
    with pytest.raises(WalExistsError):
        make(tmp_path)


def test_what_a_crash_left_of_a_creation_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "wal.tmp").mkdir()
    (tmp_path / "wal.tmp" / "0000000000000000-0000000000000000.wal").write_bytes(b"half")
    (tmp_path / "wal").mkdir()
    make(tmp_path).close()
    assert not (tmp_path / "wal.tmp").exists()
    assert recover(str(tmp_path / "wal"), WalSnapshot()).metadata == METADATA


def test_segments_are_cut_named_after_their_first_entry_and_chained(tmp_path: Path) -> None:
    wal = make(tmp_path)
    entries = fill(wal, 40, each=1, size=500)
    cut = [parse_segment_name(name) for name in names(wal)]
    assert len(cut) > 4
    assert [parsed and parsed[0] for parsed in cut] == list(range(len(cut)))
    wal.close()
    assert sorted(os.listdir(tmp_path / "wal")) == [segment_name(*parsed) for parsed in cut if parsed]
    for name in names(wal)[:-1]:
        content = (tmp_path / "wal" / name).read_bytes()
        assert content == content.rstrip(b"\0") + bytes(len(content) - len(content.rstrip(b"\0")))
        assert len(content) - len(content.rstrip(b"\0")) < 8, "a full segment is cut to what it holds"
    log = recover(str(tmp_path / "wal"), WalSnapshot(), segment_bytes=4096)
    assert log.entries == entries
    assert log.state == HardState(2, VOTE, 39)
    log.wal.close()
    (tmp_path / "wal" / names(wal)[2]).unlink()
    with pytest.raises(WalNotFoundError, match="missing between"):
        recover(str(tmp_path / "wal"), WalSnapshot())


def test_a_commit_index_alone_waits_in_memory_and_leaves_with_what_follows_or_at_the_end() -> None:
    disk = MemoryDisk()
    wal = create(disk)
    save(wal, HardState(1, VOTE, 0), [entry(1, term=1), entry(2, term=1)])
    calls = disk.calls
    for commit in (1, 2):
        batch = wal.prepare(HardState(1, VOTE, commit), [])
        assert not batch.must_sync
        assert wal.flush(batch) == 0.0
    assert disk.calls == calls
    assert reopen(disk.copy()).state.commit == 0
    batch = wal.prepare(None, [entry(3, term=1)])
    assert batch.must_sync
    wal.flush(batch)
    assert disk.calls == calls + 1, "one write for everything"
    assert reopen(disk.copy()).state.commit == 2
    wal.prepare(HardState(1, VOTE, 3), [])
    wal.close()
    assert reopen(disk).state.commit == 3


def test_what_waits_in_memory_is_bounded() -> None:
    wal = create(MemoryDisk(), segment_bytes=1 << 20)
    save(wal, HardState(1, VOTE, 0), [entry(1, term=1)])
    due = [n for n in range(MAX_DEFERRED_WAL_BYTES // 16) if wal.prepare(HardState(1, VOTE, 1), []).must_sync]
    assert due
    assert due[0] * 32 <= MAX_DEFERRED_WAL_BYTES <= (due[0] + 1) * 40, (
        "a record is 32 or 40 bytes, by its CRC"
    )


def test_terms_and_votes_must_be_synced_and_nothing_need_not() -> None:
    wal = create(MemoryDisk())
    for state in (HardState(1, 0, 0), HardState(1, VOTE, 0), HardState(2, VOTE, 0)):
        assert wal.prepare(state, []).must_sync
    assert not wal.prepare(HardState(2, VOTE, 0), []).must_sync
    assert not wal.prepare(None, []).must_sync
    assert not wal.prepare(HardState(), []).must_sync
    assert wal.state == HardState(2, VOTE, 0)


def test_batches_may_be_prepared_ahead_across_a_cut(tmp_path: Path) -> None:
    wal = make(tmp_path)
    entries = [entry(n, 700) for n in range(1, 30)]
    batches = [wal.prepare(HardState(2, VOTE, one.index - 1), [one]) for one in entries]
    assert sum(bool(batch.next_head) for batch in batches) > 2
    for batch in batches:
        wal.flush(batch)
    wal.close()
    assert recover(str(tmp_path / "wal"), WalSnapshot()).entries == entries


def test_a_log_starts_at_a_marker_it_holds(tmp_path: Path) -> None:
    wal = make(tmp_path)
    entries = fill(wal, 20, each=1, size=500)
    wal.save_snapshot(WalSnapshot(10, 2, CONF_STATE))
    save(wal, HardState(2, VOTE, 20), [entry(21)])
    wal.close()
    directory = str(tmp_path / "wal")
    log = recover(directory, WalSnapshot(10, 2))
    assert log.entries == [*entries[10:], entry(21)]
    log.wal.close()
    assert verify(directory, WalSnapshot(10, 2)) == HardState(2, VOTE, 20)
    with pytest.raises(SnapshotNotFoundError, match="index 11, term 2"):
        recover(directory, WalSnapshot(11, 2))
    with pytest.raises(SnapshotMismatchError, match="has term 2 in the log, not 7"):
        recover(directory, WalSnapshot(10, 7))
    with pytest.raises(ValueError, match="without ConfState"):
        recover(directory, WalSnapshot()).wal.save_snapshot(WalSnapshot(21, 2))


def test_a_reader_takes_no_lock_and_cannot_write(tmp_path: Path) -> None:
    wal = make(tmp_path)
    entries = fill(wal, 3)
    beside = Wal.open_for_read(str(tmp_path / "wal"), WalSnapshot())
    assert beside.read_all() == (METADATA, HardState(2, VOTE, 4), entries)
    with pytest.raises(AssertionError):
        beside.prepare(None, [entry(7)])
    beside.close()
    fill(wal, 1, first=7)
    wal.close()
    with pytest.raises(WalFailedError, match="closed"):
        wal.prepare(None, [entry(9)])


@pytest.mark.parametrize(
    ("entries", "state", "reason"),
    [
        ([entry(1), entry(3)], HardState(2, VOTE, 1), "entries are missing before index 3"),
        ([entry(1)], HardState(2, VOTE, 2), "entries are missing .committed 2, last is 1"),
        ([entry(1), entry(2), entry(1, term=3)], HardState(3, VOTE, 0), ""),
    ],
)
def test_a_log_that_cannot_be_is_refused(entries: list[object], state: HardState, reason: str) -> None:
    disk = MemoryDisk()
    wal = create(disk)
    wal.flush(wal.prepare(state, entries))  # type: ignore[arg-type]
    wal.close()
    if not reason:
        assert reopen(disk).entries == [entry(1, term=3)]
        return
    with pytest.raises(CorruptWalError, match=reason):
        reopen(disk)


def test_one_process_per_data_directory(tmp_path: Path) -> None:
    wal = make(tmp_path)
    lock = DirectoryLock(str(tmp_path))
    second = (
        "import sys\n"
        "from kvorum.wal.record import WalSnapshot\n"
        "from kvorum.wal.segments import DirectoryLock\n"
        "from kvorum.wal.wal import Wal\n"
        "def lock(): DirectoryLock(sys.argv[1])\n"
        "def log(): Wal.open(sys.argv[1] + '/wal', WalSnapshot())\n"
        "for take in (lock, log):\n"
        "    try:\n"
        "        take()\n"
        "        print('taken')\n"
        "    except Exception as error:\n"
        "        print(type(error).__name__, error)\n"
    )

    def other() -> list[str]:
        command = [sys.executable, "-c", second, str(tmp_path)]
        return subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=60
        ).stdout.splitlines()

    held = f"cannot lock data directory {tmp_path}: it is held by another process (pid {os.getpid()})"
    assert other()[0] == f"WalLockedError {held}"
    assert other()[1].startswith("WalLockedError cannot lock")
    with pytest.raises(WalLockedError):
        DirectoryLock(str(tmp_path))
    lock.release()
    lock.release()
    wal.close()
    assert other() == ["taken", "taken"]


def test_purging_keeps_what_is_held_and_what_was_asked_for(tmp_path: Path) -> None:
    wal = make(tmp_path)
    fill(wal, 60, each=1, size=500)
    directory = str(tmp_path / "wal")
    before = names(wal)
    assert len(before) > 7
    assert purge(directory, ".wal", 5) == [], "all are held"
    wal.release_to(15)
    held = names(wal)
    parsed = [parse_segment_name(name) for name in held]
    assert parsed[0]
    assert parsed[1]
    assert parsed[0][1] < 15 <= parsed[1][1], "the newest that starts before 15 stays"
    purged = [os.path.basename(path) for path in purge(directory, ".wal", 5)]
    assert purged == before[: len(before) - len(held)], "and holds up everything after it"
    wal.release_to(60)
    assert purge(directory, ".wal", 0) == []
    purge(directory, ".wal", 5)
    assert len([name for name in os.listdir(directory) if name.endswith(".wal")]) == 5
    wal.release_to(10**9)
    assert len(wal.segment_paths()) >= 1
    save(wal, HardState(2, VOTE, 60), [entry(61)])
    wal.close()


def test_a_log_whose_beginning_was_purged_says_so() -> None:
    disk = MemoryDisk()
    wal = create(disk, segment_bytes=2048)
    fill(wal, 30, each=1, size=500)
    wal.save_snapshot(WalSnapshot(25, 2, CONF_STATE))
    wal.release_to(25)
    purge(WAL_DIR, ".wal", 1, disk)
    wal.close()
    with pytest.raises(WalNotFoundError, match=r"no segment .* reaches back to index 0"):
        reopen(disk)
    assert reopen(disk, WalSnapshot(25, 2)).entries[0] == entry(26, 500)


def test_exists(tmp_path: Path) -> None:
    assert not exists(str(tmp_path / "wal"))
    make(tmp_path).close()
    assert exists(str(tmp_path / "wal"))
    with pytest.raises(WalNotFoundError, match="no segment file"):
        Wal.open(str(tmp_path / "nowhere"), WalSnapshot())
