"""verify finds what is broken, names the file and says what to do."""

import json
import os
import shutil
from pathlib import Path

import lmdb

from kvorum.mvcc.revision import revision
from tests.utl.conftest import Done, Run, Stopped


def findings(done: Done) -> list[dict[str, str]]:
    assert done.status == 1, done
    return list(json.loads(done.stdout)["findings"])


def newest_segment(stopped: Stopped) -> Path:
    return sorted(stopped.wal.glob("*.wal"))[-1]


def test_a_sound_directory(original: Stopped, kvorumutl: Run) -> None:
    done = kvorumutl("verify", original.root)
    assert (done.status, done.stderr) == (0, "")
    assert done.stdout.startswith("all is well: ")
    verdict = json.loads(kvorumutl("verify", original.root, "-w", "json").stdout)
    assert (verdict["keys"], verdict["revision"]) == (original.keys, original.revision)
    assert verdict["findings"] == []


def test_a_flipped_bit_in_the_log(stopped: Stopped, kvorumutl: Run) -> None:
    path = newest_segment(stopped)
    data = path.read_bytes()
    at = data.index(b"value 15")
    with path.open("r+b") as file:
        file.seek(at)
        file.write(bytes([data[at] ^ 1]))
    (found,) = findings(kvorumutl("verify", stopped.root, "-w", "json"))
    assert found["file"] == str(path)
    assert "at byte offset" in found["problem"]
    assert "restore the member" in found["remedy"]
    shown = kvorumutl("verify", stopped.root).stdout
    assert str(path) in shown
    assert "what to do: " in shown


def test_a_torn_tail_is_no_damage(stopped: Stopped, kvorumutl: Run) -> None:
    path = newest_segment(stopped)
    end = len(path.read_bytes().rstrip(b"\0"))
    os.truncate(path, end - 3)
    done = kvorumutl("verify", stopped.root)
    assert done.status == 0
    assert "the log ends in a torn record" in done.stderr


def test_no_log(stopped: Stopped, kvorumutl: Run) -> None:
    shutil.rmtree(stopped.wal)
    (found,) = findings(kvorumutl("verify", stopped.root, "-w", "json"))
    assert found["file"] == str(stopped.wal)


def test_a_changed_record_in_the_database(stopped: Stopped, kvorumutl: Run) -> None:
    with lmdb.open(str(stopped.database), subdir=False, max_dbs=32) as env:
        table = env.open_db(b"key", create=False)
        with env.begin(write=True) as txn:
            assert txn.delete(revision(17, 0), db=table)
    found = findings(kvorumutl("verify", stopped.root, "-w", "json"))
    assert {item["file"] for item in found} == {str(stopped.database)}
    assert "restore the member" in found[0]["remedy"]


def test_no_database(stopped: Stopped, kvorumutl: Run) -> None:
    stopped.database.unlink()
    done = kvorumutl("verify", stopped.root)
    assert done.status == 1
    assert f"there is no database {stopped.database}" in done.stderr


def test_a_file_that_is_no_database(stopped: Stopped, kvorumutl: Run) -> None:
    stopped.database.write_bytes(b"x" * 65536)
    found = findings(kvorumutl("verify", stopped.root, "-w", "json"))
    assert found[0]["file"] == str(stopped.database)


def test_a_broken_snapshot(stopped: Stopped, kvorumutl: Run) -> None:
    path = sorted(stopped.snap.glob("*.snap"))[-1]
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    (found,) = findings(kvorumutl("verify", stopped.root, "-w", "json"))
    assert found["file"] == str(path)
    assert "crc mismatch" in found["problem"]


def test_a_snapshot_under_another_name(stopped: Stopped, kvorumutl: Run) -> None:
    path = sorted(stopped.snap.glob("*.snap"))[-1]
    shutil.copy(path, path.with_name("00000000000000ff-00000000000000ff.snap"))
    (found,) = findings(kvorumutl("verify", stopped.root, "-w", "json"))
    assert "another snapshot than its name says" in found["problem"]


def test_a_snapshot_that_the_log_names_is_missing(stopped: Stopped, kvorumutl: Run) -> None:
    sorted(stopped.snap.glob("*.snap"))[-1].unlink()
    (found,) = findings(kvorumutl("verify", stopped.root, "-w", "json"))
    assert "which the log names" in found["problem"]


def test_a_database_of_another_moment(stopped: Stopped, kvorumutl: Run) -> None:
    with lmdb.open(str(stopped.database), subdir=False, max_dbs=32) as env:
        table = env.open_db(b"meta", create=False)
        with env.begin(write=True) as txn:
            txn.put(b"consistent_index", (10_000).to_bytes(8, "big"), db=table)
    (found,) = findings(kvorumutl("verify", stopped.root, "-w", "json"))
    assert found["file"] == str(stopped.database)
    assert "it stands at log index 10000" in found["problem"]
