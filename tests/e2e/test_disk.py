"""A disk that fails, fills up, stalls or lies, under a real member.

Whatever happens to the disk: what was not synced is not acknowledged, the process says in one line what
happened and ends with an exit code other than 0, and once the disk is well again everything that was
acknowledged is there.
"""

import json
import os
import signal
import sys
import threading
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, final

import grpc
import pytest

from kvorum.limits import WAL_SEGMENT_BYTES
from kvorum.proto import rpc_pb2 as pb
from tests.rpc.grpc_kit import RawClient, prefixed
from tests.support import process
from tests.support.client import Client, op_put
from tests.support.process import Member, Program

FLAGS = ("--snapshot-count=20", "--max-snapshots=1", "--max-wals=1")
SEED = {"KVORUM_FAILPOINT_SEED": "20161121"}
STOPPED = "the disk failed; stopping without acknowledging anything that may not be on it"
REFUSED = "failed to start etcd"
MEBIBYTE = 1 << 20


def limited(*limits: str) -> Program:
    """Kvorum with less than the machine has (``limited.py``)."""
    launcher = str(Path(__file__).with_name("limited.py"))
    return Program("kvorum", (sys.executable, launcher, *limits, "--", *process.kvorum().command))


def fatal_line(member: Member) -> dict[str, Any]:
    """The one line of the present run that says why the member ended."""
    (line,) = [record for record in member.log_records() if record["level"] == "fatal"]
    return line


def refusal(member: Member) -> str:
    """Start a member that cannot start; returns what it says."""
    member.start(wait=False)
    assert member.wait_exit() == 1, member.log_tail()
    line = fatal_line(member)
    assert line["msg"] == REFUSED
    return str(line["error"])


@final
class Acknowledged:
    """Writes until the member fails, and remembers what it was told."""

    def __init__(self) -> None:
        self.revisions: Final[dict[bytes, int]] = {}
        self.failure: grpc.RpcError | None = None

    def write(self, member: Member, count: int, *, filler: int = 0, prefix: bytes = b"k") -> None:
        """Put ``count`` keys; ``filler`` bytes go through the log each time and not into the database."""
        never = pb.Compare(key=b"never", version=1, target=pb.Compare.VERSION)
        with Client(member.endpoint, wait_for_ready=False) as client:
            for number in range(count):
                key = prefix + b"%d" % number
                try:
                    if filler:
                        done = client.txn([never], [op_put(b"never", bytes(filler))], [op_put(key, key)])
                        self.revisions[key] = done.header.revision
                    else:
                        self.revisions[key] = client.put(key, key).header.revision
                except grpc.RpcError as error:
                    self.failure = error
                    return

    def check(self, member: Member) -> None:
        """Everything acknowledged is there, at its revision."""
        with Client(member.endpoint) as client:
            held = {kv.key: kv.mod_revision for kv in client.range(b"\0", b"\0").kvs}
        assert self.revisions.items() <= held.items()


@pytest.fixture
def member(tmp_path: Path) -> Any:
    made = Member(process.kvorum(), tmp_path / "m.etcd", flags=FLAGS, env=SEED)
    yield made
    made.close()


# --- a disk that fails ------------------------------------------------------------------------------------

# Every one of them comes after the member has begun to serve, and within the next hundred puts.
STEPS = {
    "wal_before_write": "@20",
    "wal_after_partial_write": "@20",
    "wal_before_fsync": "@20",
    "wal_after_fsync": "@20",
    "ready_after_persist": "@20",
    "apply_before": "@20",
    "apply_after": "@20",
    "snap_before_write": "@2",
    "snap_before_rename": "@2",
    "snap_after_rename": "@2",
    "snap_before_wal_marker": "@2",
    "purge_before_unlink": "@1",
    "purge_after_unlink": "@1",
    "backend_before_commit": "@3",
    "backend_after_commit": "@3",
}
CASES = [*((step, "eio") for step in STEPS), ("wal_before_fsync", "enospc"), ("snap_before_rename", "enospc")]


@pytest.mark.parametrize(("step", "action"), CASES)
def test_a_disk_that_fails(member: Member, step: str, action: str) -> None:
    acknowledged = Acknowledged()
    member.start(failpoints=f"{step}={action}{STEPS[step]}")
    acknowledged.write(member, 100)
    assert acknowledged.failure is not None
    assert member.wait_exit() == 1
    line = fatal_line(member)
    assert line["msg"] == STOPPED
    assert f"(failpoint {step})" in line["error"]
    assert os.strerror({"eio": 5, "enospc": 28}[action]) in line["error"]
    member.start()
    acknowledged.check(member)


CUTS = ("wal_cut_before_rename", "wal_cut_after_rename", "wal_cut_after_dir_fsync")


@pytest.mark.parametrize("step", CUTS)
def test_a_disk_that_fails_between_segments(member: Member, step: str) -> None:
    acknowledged = Acknowledged()
    member.start(failpoints=f"{step}=enospc")
    acknowledged.write(member, 70, filler=MEBIBYTE)
    assert 50 < len(acknowledged.revisions) < 70
    assert member.wait_exit() == 1
    assert f"(failpoint {step})" in fatal_line(member)["error"]
    member.start()
    acknowledged.check(member)
    acknowledged.write(member, 5, prefix=b"after")
    acknowledged.check(member)


@pytest.mark.parametrize(
    "step",
    ["bootstrap_before_wal", "wal_create_before_rename", "wal_create_after_rename", "wal_before_fsync"],
)
def test_a_disk_that_fails_at_birth(member: Member, step: str) -> None:
    member.start(failpoints=f"{step}=eio", wait=False)
    assert member.wait_exit() == 1
    line = fatal_line(member)
    assert line["msg"] == REFUSED
    assert step in line["error"]
    member.start()
    acknowledged = Acknowledged()
    acknowledged.write(member, 5)
    acknowledged.check(member)


@pytest.mark.parametrize("step", ["backend_before_commit", "backend_before_compact_slice"])
def test_a_disk_that_fails_when_nobody_asks(tmp_path: Path, step: str) -> None:
    """What the member does by itself, from a timer, fails as loudly."""
    member = Member(process.kvorum(), tmp_path / "m.etcd", env=SEED)
    acknowledged = Acknowledged()
    try:
        member.start()
        for _ in range(2):
            acknowledged.write(member, 30)
        member.stop()
        member.start(failpoints=f"{step}=eio")
        with Client(member.endpoint, wait_for_ready=False) as client:
            client.compact(acknowledged.revisions[b"k20"])
            assert member.wait_exit() == 1
        assert fatal_line(member)["msg"] == STOPPED
        member.start()
        acknowledged.check(member)
    finally:
        member.close()


def test_a_disk_that_fails_while_the_member_stops(member: Member) -> None:
    acknowledged = Acknowledged()
    member.start()
    acknowledged.write(member, 3)
    member.stop()
    member.start(failpoints="wal_before_fsync=sleep(1)@8*1;wal_after_fsync=eio@8*1")
    writing = threading.Thread(target=acknowledged.write, args=(member, 50), kwargs={"prefix": b"late"})
    writing.start()
    member.wait_log("failpoint wal_before_fsync: sleep")
    member.signal(signal.SIGTERM)
    assert member.wait_exit() == 1
    writing.join()
    assert fatal_line(member)["msg"] == STOPPED
    member.start()
    acknowledged.check(member)


# --- a disk that is full ----------------------------------------------------------------------------------


def test_no_room_for_the_log(tmp_path: Path) -> None:
    said = refusal(Member(limited(f"--file-bytes={MEBIBYTE}"), tmp_path / "m.etcd"))
    assert "File too large" in said
    assert ".wal" in said


def test_no_room_for_the_end_of_a_segment(tmp_path: Path) -> None:
    """The write that would end the segment is refused by the operating system itself."""
    acknowledged = Acknowledged()
    member = Member(limited(f"--file-bytes={WAL_SEGMENT_BYTES}"), tmp_path / "m.etcd").start()
    acknowledged.write(member, 80, filler=MEBIBYTE)
    assert 50 < len(acknowledged.revisions) < 80
    assert member.wait_exit() == 1
    line = fatal_line(member)
    assert line["msg"] == STOPPED
    assert "File too large" in line["error"]
    assert f"{tmp_path}/m.etcd/member/wal/" in line["error"]
    with Member(process.kvorum(), tmp_path / "m.etcd") as again:
        acknowledged.check(again)


def test_no_room_for_the_database(tmp_path: Path) -> None:
    """Values that only few segments hold at a time: the database is what outgrows the limit."""
    acknowledged = Acknowledged()
    member = Member(limited(f"--file-bytes={WAL_SEGMENT_BYTES + 3 * MEBIBYTE}"), tmp_path / "m.etcd").start()
    with Client(member.endpoint, wait_for_ready=False) as client:
        for number in range(200):
            key = b"%d" % number
            try:
                acknowledged.revisions[key] = client.put(key, bytes(MEBIBYTE)).header.revision
            except grpc.RpcError:
                break
    assert 50 < len(acknowledged.revisions) < 200
    assert member.wait_exit() == 1
    assert "the database failed to commit" in fatal_line(member)["error"]
    with Member(process.kvorum(), tmp_path / "m.etcd") as again:
        acknowledged.check(again)


# --- a disk that stalls -----------------------------------------------------------------------------------


def health(member: Member, query: str) -> dict[str, str]:
    with urllib.request.urlopen(f"{member.url}/health{query}", timeout=10) as answer:
        return dict(json.loads(answer.read()))


def test_a_stalled_disk(member: Member) -> None:
    acknowledged = Acknowledged()
    member.start(failpoints="wal_before_fsync=sleep(2.5)@20*1")
    writing = threading.Thread(target=acknowledged.write, args=(member, 50))
    writing.start()
    member.wait_log("failpoint wal_before_fsync: sleep")
    waiting = len(acknowledged.revisions)
    with Client(member.endpoint) as client:
        assert client.get(b"k0", serializable=True) == b"k0"
        assert health(member, "?serializable=true")["health"] == "true"
        with RawClient(member.client_port) as raw:
            body = prefixed(pb.PutRequest(key=b"impatient").SerializeToString())
            code, _ = raw.status("/etcdserverpb.KV/Put", body, {"grpc-timeout": "100m"})
            assert code == 4
        member.wait_log("waiting for a slow fdatasync of the log")
        assert len(acknowledged.revisions) == waiting  # nothing is acknowledged before it is on the disk
    record = json.loads(member.wait_log('"slow fdatasync"'))
    assert record["level"] == "warn"
    assert record["took"].startswith("2.")
    writing.join()
    assert acknowledged.failure is None
    acknowledged.check(member)


def test_a_disk_that_stalls_for_longer_than_anybody_waits(member: Member) -> None:
    acknowledged = Acknowledged()
    member.start(failpoints="wal_before_fsync=sleep(8.5)@20*1")
    acknowledged.write(member, 50)
    refused = acknowledged.failure
    assert isinstance(refused, grpc.Call)
    assert (refused.code(), refused.details()) == (
        grpc.StatusCode.UNAVAILABLE,
        "etcdserver: request timed out",
    )
    acknowledged.write(member, 3, prefix=b"after")  # the disk is back: these wait for it and are acknowledged
    acknowledged.check(member)


# --- a disk that lies -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Member:
    """A member that has served and is stopped; tests work on copies of its directory."""
    original = Member(process.kvorum(), tmp_path_factory.mktemp("stopped") / "m.etcd")
    original.start()
    Acknowledged().write(original, 40)
    original.kill()  # so that the log ends in entries, and not in what a clean end writes
    return original


def segment_of(member: Member) -> Path:
    return max((member.data_dir / "member" / "wal").glob("*.wal"))


def end_of(log: bytes) -> int:
    """Where the log's last record ends (up to its padding)."""
    return len(log.rstrip(b"\0"))


Copy = Callable[[], Member]


@pytest.fixture
def copy(stopped: Member, tmp_path: Path) -> Any:
    """Makes members on copies of the stopped one's directory; they have its URLs, being the same member."""
    made: list[Member] = []

    def make() -> Member:
        directory = tmp_path / f"{len(made)}.etcd"
        copy_sparse(stopped.data_dir, directory)
        made.append(Member(process.kvorum(), directory))
        return made[-1]

    yield make
    for member in made:
        member.close()


def copy_sparse(source: Path, target: Path) -> None:
    """Copy a directory; what is zero at the end of a file is not written."""
    for path in sorted(source.rglob("*")):
        to = target / path.relative_to(source)
        if path.is_dir():
            to.mkdir(mode=0o700, parents=True)
        else:
            data = path.read_bytes()
            to.write_bytes(data.rstrip(b"\0"))
            os.truncate(to, len(data))


@pytest.mark.parametrize("lost_bytes", [1, 9, 30, 200])
def test_a_torn_tail_is_repaired(copy: Copy, lost_bytes: int) -> None:
    member = copy()
    segment = segment_of(member)
    data = segment.read_bytes()
    os.truncate(segment, end_of(data) - lost_bytes)
    member.start()
    repairs = [record for record in member.log_records() if record["msg"] == "repaired"]
    assert [record["path"] for record in repairs] == [str(segment)]
    assert Path(f"{segment}.broken").stat().st_size == end_of(data) - lost_bytes
    with Client(member.endpoint) as client:
        held = {kv.key for kv in client.range(b"k", b"l").kvs}
        # The database may hold what the log lost; of what follows the tear nothing else can be there.
        assert {b"k%d" % number for number in range(30)} <= held
        client.put(b"k", b"goes on")
    member.restart()
    assert not [record for record in member.log_records() if record["msg"] == "repaired"]


def test_a_repair_that_fails_is_done_the_next_time(copy: Copy) -> None:
    member = copy()
    segment = segment_of(member)
    os.truncate(segment, end_of(segment.read_bytes()) - 1)
    for step in ("wal_repair_before_truncate", "wal_repair_after_truncate"):
        member.start(failpoints=f"{step}=eio", wait=False)
        assert member.wait_exit() == 1
        assert step in fatal_line(member)["error"]
    member.start()


def test_a_byte_flipped_inside_the_log_is_refused(copy: Copy) -> None:
    member = copy()
    segment = segment_of(member)
    data = bytearray(segment.read_bytes())
    at = data.index(b"k20")  # in a record's data; a byte of the padding between two would harm nothing
    data[at] ^= 0x10
    segment.write_bytes(data)
    said = refusal(member)
    assert str(segment) in said
    offset = int(said.partition("byte offset ")[2].partition(";")[0])
    assert at - 200 < offset <= at
    assert "from a backup" in said
    assert segment.read_bytes() == data  # nothing is touched


def database_of(member: Member) -> Path:
    (path,) = (path for path in (member.data_dir / "member" / "snap").iterdir() if path.suffix == ".lmdb")
    return path


def test_a_missing_database_is_made_from_the_log(copy: Copy) -> None:
    member = copy()
    database_of(member).unlink()
    member.start()
    with Client(member.endpoint) as client:
        assert client.range(b"k", b"l").count == 40


def test_a_missing_database_behind_a_snapshot(tmp_path: Path) -> None:
    member = Member(process.kvorum(), tmp_path / "m.etcd", flags=FLAGS).start()
    Acknowledged().write(member, 60)
    member.stop()
    database = database_of(member)
    database.unlink()
    said = refusal(member)
    assert str(database) in said
    assert "the log begins behind the snapshot" in said
    assert "restore the member's directory as a whole" in said


def test_a_missing_log(copy: Copy) -> None:
    member = copy()
    segment_of(member).unlink()
    said = refusal(member)
    assert str(database_of(member)) in said
    assert "restore the member's directory as a whole" in said


def test_a_database_of_another_time(copy: Copy) -> None:
    older, newer = copy(), copy()
    newer.start()
    Acknowledged().write(newer, 30, prefix=b"new")
    newer.stop()
    ahead = database_of(newer).read_bytes()
    database_of(newer).write_bytes(database_of(older).read_bytes())
    newer.start()  # the log has everything that the older database lacks
    with Client(newer.endpoint) as client:
        assert client.range(b"new", b"new~").count == 30
    database_of(older).write_bytes(ahead)
    said = refusal(older)
    assert "stands at log index" in said
    assert "they are not of one member at one time" in said


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_database_that_was_cut_short(copy: Copy, share: float) -> None:
    member = copy()
    member.start()
    member.stop()
    database = database_of(member)
    os.truncate(database, 5000 + int(share * (database.stat().st_size - 5000)))
    said = refusal(member)
    assert f"the database {database} was cut short" in said


def test_a_file_that_is_no_database(copy: Copy) -> None:
    member = copy()
    database_of(member).write_bytes(b"\xff" * 8192)
    assert str(database_of(member)) in refusal(member)


# --- whose directory it is --------------------------------------------------------------------------------


def test_a_second_process(copy: Copy) -> None:
    member = copy().start()
    second = Member(process.kvorum(), member.data_dir)
    said = refusal(second)
    assert "it is held by another process" in said
    assert f"(pid {member.pid})" in said
    with Client(member.endpoint) as client:
        client.put(b"the first", b"goes on")


def test_directories_are_private(copy: Copy, tmp_path: Path) -> None:
    member = Member(process.kvorum(), tmp_path / "private.etcd", flags=FLAGS).start()
    Acknowledged().write(member, 45)
    member.stop()
    for path in (member.data_dir, *member.data_dir.rglob("*")):
        mode = path.stat().st_mode & 0o777
        assert mode == (0o700 if path.is_dir() else 0o600), path


@pytest.mark.parametrize("name", ["", "member", "member/snap"])
def test_a_directory_that_cannot_be_written(copy: Copy, name: str) -> None:
    member = copy()
    bound = Member(limited("--bound-root"), member.data_dir)
    place = member.data_dir / name
    place.chmod(0o500)
    said = refusal(bound)
    place.chmod(0o700)
    assert "Permission denied" in said
    assert str(place) in said


def test_a_data_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    said = refusal(Member(process.kvorum(), tmp_path / "file"))
    assert str(tmp_path / "file") in said
