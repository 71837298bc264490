"""Failpoints, and real processes killed at every one that the log passes."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvorum import failpoint
from kvorum.raft.types import Entry
from kvorum.wal.record import WalSnapshot
from kvorum.wal.recovery import recover
from kvorum.wal.segments import exists
from tests.support.process import clean_environment

WRITER = """
import sys
from kvorum.raft.types import ConfState, Entry, HardState, Snapshot, SnapshotMetadata
from kvorum.snapshot.snap_file import Snapshotter
from kvorum.wal.record import WalSnapshot
from kvorum.wal.recovery import recover, valid_snapshots
from kvorum.wal.segments import exists, purge
from kvorum.wal.wal import Wal

directory, count = sys.argv[1], int(sys.argv[2])
wal_dir = directory + "/wal"
size = 1 << 13
snapshotter = Snapshotter(directory)
if not exists(wal_dir):
    wal, last, at = Wal.create(wal_dir, b"meta", segment_bytes=size), 0, 0
else:
    newest = snapshotter.load_newest(valid_snapshots(wal_dir))
    start = WalSnapshot()
    if newest is not None:
        start = WalSnapshot(newest.metadata.index, newest.metadata.term)
    wal, _, state, entries = recover(wal_dir, start, segment_bytes=size)
    at = start.index
    last = entries[-1].index if entries else at
print("from", last, flush=True)
for index in range(last + 1, last + 1 + count):
    data = b"%d " % index * (index % 90)
    wal.flush(wal.prepare(HardState(1, 5, index - 1), [Entry(1, index, 0, data)]))
    print(index, flush=True)
    if index % 12 == 0:
        conf_state = ConfState((5,))
        snapshotter.save(Snapshot(b"", SnapshotMetadata(conf_state, index - 1, 1)))
        wal.save_snapshot(WalSnapshot(index - 1, 1, conf_state))
        wal.release_to(index - 1)
        purge(wal_dir, ".wal", 2)
        snapshotter.purge(2, WalSnapshot(index - 1, 1))
wal.close()
"""
PASSED = [
    name for name in failpoint.NAMES if name.startswith(("wal_", "snap_", "purge_")) and "repair" not in name
]


@pytest.fixture(autouse=True)
def _off() -> Iterator[None]:
    yield
    failpoint.configure("")


def run(directory: Path, count: int, failpoints: str, seed: int) -> tuple[int, list[str], str]:
    env = clean_environment({"KVORUM_FAILPOINTS": failpoints, "KVORUM_FAILPOINT_SEED": str(seed)})
    done = subprocess.run(
        [sys.executable, "-c", WRITER, str(directory), str(count)],
        capture_output=True,
        text=True,
        env=env,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout.splitlines(), done.stderr


@pytest.mark.parametrize("name", PASSED)
def test_a_process_killed_at_a_failpoint_has_what_it_said_it_had(tmp_path: Path, name: str) -> None:
    acknowledged = 0
    at = 1
    for seed in range(2):
        status, lines, errors = run(tmp_path, 150, f"{name}=kill@{at}", seed)
        assert status == -9, (name, seed, lines[-3:], errors)
        assert f"failpoint {name}: kill" in errors
        if lines:
            began = int(lines[0].split()[1])
            assert began >= acknowledged, (name, seed, lines[0], acknowledged)
            acknowledged = int(lines[-1].split()[-1])
        at = 1 if name.startswith(("wal_create", "wal_cut", "purge", "snap")) else 24
        if name.startswith("wal_create") and exists(str(tmp_path / "wal")):
            break  # renamed: it is not created a second time
    status, lines, errors = run(tmp_path, 40, "", 0)
    assert status == 0, errors
    assert int(lines[0].split()[1]) >= acknowledged


def test_a_failed_repair_is_done_again(tmp_path: Path) -> None:
    status, lines, _ = run(tmp_path, 5, "", 0)
    assert status == 0
    tail = next((tmp_path / "wal").glob("*.wal"))
    whole = tail.read_bytes().rstrip(b"\0")
    tail.write_bytes(whole[:-4])
    for name in ("wal_repair_before_truncate", "wal_repair_after_truncate"):
        status, lines, errors = run(tmp_path, 5, f"{name}=kill", 0)
        if status == 0:
            assert name == "wal_repair_after_truncate", errors
        else:
            assert (status, lines) == (-9, [])
    log = recover(str(tmp_path / "wal"), WalSnapshot(), segment_bytes=1 << 13)
    assert [entry.index for entry in log.entries] == list(range(1, len(log.entries) + 1))
    assert log.entries[0] == Entry(1, 1, 0, b"1 ")
    log.wal.close()


def test_a_disk_error_ends_the_writer_with_its_reason(tmp_path: Path) -> None:
    status, lines, errors = run(tmp_path, 10, "wal_after_fsync=enospc@4", 0)
    assert status == 1
    assert lines == ["from 0", "1", "2", "3"]
    assert f"[Errno {errno.ENOSPC}]" in errors


def is_enabled() -> bool:
    return failpoint.enabled


def test_off_unless_configured() -> None:
    assert not is_enabled()
    failpoint.hit("apply_before")
    assert failpoint.hit_partial("wal_after_partial_write", 10) == -1
    failpoint.configure("apply_before=panic")
    assert is_enabled()
    with pytest.raises(failpoint.FailpointPanicError, match="apply_before"):
        failpoint.hit("apply_before")
    failpoint.hit("backend_before_commit")
    failpoint.configure("")
    failpoint.hit("apply_before")


def test_counts_and_chances() -> None:
    def outcome(name: str, times: int) -> list[int]:
        numbers = []
        for _ in range(times):
            try:
                failpoint.hit(name)
                numbers.append(0)
            except OSError as error:
                numbers.append(error.errno or -1)
        return numbers

    failpoint.configure("wal_before_write=eio@3*2 ; wal_before_fsync=enospc%30", seed=4)
    assert outcome("wal_before_write", 7) == [0, 0, errno.EIO, errno.EIO, 0, 0, 0]
    first = outcome("wal_before_fsync", 200)
    assert 30 < first.count(errno.ENOSPC) < 90
    failpoint.configure("wal_before_fsync=enospc%30", seed=4)
    assert outcome("wal_before_fsync", 200) == first
    failpoint.configure("wal_before_fsync=sleep(0)")
    assert outcome("wal_before_fsync", 1) == [0]
    failpoint.configure("wal_after_partial_write=eio")
    cuts = [failpoint.hit_partial("wal_after_partial_write", 64) for _ in range(100)]
    assert all(0 <= cut < 64 for cut in cuts)
    assert len(set(cuts)) > 20
    with pytest.raises(OSError, match="failpoint wal_after_partial_write"):
        failpoint.act("wal_after_partial_write")


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("wal_before_write", "is not name="),
        ("wal_before_write=explode", "is not name="),
        ("no_such_place=kill", "no failpoint is named 'no_such_place'"),
    ],
)
def test_a_wrong_specification_is_told(spec: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        failpoint.configure(spec)


def test_a_seed_is_printed_when_none_is_given() -> None:
    code = "from kvorum import failpoint; import json; print(json.dumps(failpoint.enabled))"
    env = clean_environment({"KVORUM_FAILPOINTS": "apply_before=panic%1"})
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True)
    assert json.loads(done.stdout) is True
    assert done.stderr.startswith("KVORUM_FAILPOINT_SEED=")
    assert os.environ.get("KVORUM_FAILPOINTS") is None
