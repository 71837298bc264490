"""Snapshots from one store to another: sent, cut off, broken, installed, and what a crash leaves of them."""

import asyncio
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import psutil
import pytest

from kvorum import failpoint, limits
from kvorum.log_outputs import FdOutput
from kvorum.logging import JSON, Logger
from kvorum.mvcc.backend import BackendError, lock_path
from kvorum.mvcc.store import Store
from kvorum.raft.codec import encode_conf_state
from kvorum.raft.types import MSG_SNAP, ConfState, Message, Snapshot, SnapshotMetadata
from kvorum.server.transfer import OutgoingSnapshot, SnapshotSink, SnapshotSource, TransferError
from kvorum.snapshot.bbolt_reader import BboltReader
from kvorum.snapshot.received import RecoverError, received_path, recover, sweep

open_store = partial(Store.open, clock=time.monotonic, map_bytes=1 << 28, headroom_bytes=1 << 24)
open_aside = partial(open_store, beside_loop=True)
CONF_STATE: Final = ConfState((1, 2, 3), (4,))
OWN: Final = "kvorum.lmdb"
ETCDS: Final = "0000000000000007.snap.db"


def received(index: int) -> list[str]:
    """The names of a database that has been received and waits."""
    name = os.path.basename(received_path("", index))
    return [name, lock_path(name)]


class Site:
    """A member as far as snapshots go: a snap directory, a store, a source and a sink."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.directory: Final = directory
        self.store: Final = open_store(str(directory / OWN))
        self.source: Final = SnapshotSource(self.store, str(directory))
        self.sink: Final = SnapshotSink(
            self.store, str(directory), open_aside, Logger([FdOutput(2)], format=JSON)
        )

    def fill(self, count: int, first_index: int = 10) -> None:
        for number in range(count):
            self.store.consistent_index, self.store.term = first_index + number, 3
            with self.store.write() as txn:
                txn.put(b"key-%d" % (number % 50), bytes(number % 3000))
        self.store.conf_state = encode_conf_state(CONF_STATE)

    def others(self) -> list[str]:
        """What is in the directory besides the database."""
        return sorted({path.name for path in self.directory.iterdir()} - {OWN, OWN + "-lock"})

    def close(self) -> None:
        self.sink.close()
        self.store.close()


@pytest.fixture
def sites(tmp_path: Path) -> Iterator[Callable[[], Site]]:
    made: list[Site] = []

    def make() -> Site:
        made.append(Site(tmp_path / f"site{len(made)}"))
        return made[-1]

    yield make
    for site in made:
        site.close()


def run(test: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await test

    asyncio.run(bounded())


def message_of(outgoing: OutgoingSnapshot) -> Message:
    return Message(MSG_SNAP, to=2, from_=1, term=3, snapshot=outgoing.snapshot)


async def content_of(outgoing: OutgoingSnapshot) -> bytes:
    return b"".join([piece async for piece in outgoing.pieces()])


async def pieces_of(content: bytes, size: int = 10_000, cut: bool = False) -> AsyncIterator[bytes]:
    for at in range(0, len(content), size):
        yield content[at : at + size]
        await asyncio.sleep(0)
    if cut:
        raise ConnectionError("the rest did not come")


async def sent(site: Site) -> tuple[Message, bytes]:
    outgoing = await site.source.open()
    content = await content_of(outgoing)
    outgoing.close()
    return message_of(outgoing), content


def test_a_snapshot_is_of_one_moment_and_leaves_nothing_behind(
    sites: Callable[[], Site], tmp_path: Path
) -> None:
    site = sites()
    site.fill(300)

    async def test() -> None:
        outgoing = await site.source.open()
        metadata = SnapshotMetadata(CONF_STATE, 309, 3)
        assert outgoing.snapshot.metadata == metadata
        site.fill(10, 310)
        content = await content_of(outgoing)
        assert len(content) == outgoing.size
        assert site.others() == []
        outgoing.close()
        outgoing.close()
        (tmp_path / "db").write_bytes(content)
        with BboltReader(str(tmp_path / "db")) as reader:
            assert sum(1 for _ in reader.records(b"key")) == 300
            assert reader.size_bytes == outgoing.size

    run(test())


def test_from_one_store_to_another(sites: Callable[[], Site]) -> None:
    leader, follower = sites(), sites()
    leader.fill(2000)
    follower.fill(5)
    table = follower.store.table(b"lease")

    async def test() -> None:
        message, content = await sent(leader)
        await follower.sink.receive(message, pieces_of(content))
        assert follower.others() == received(2009)
        # Only when Raft has taken it
        assert follower.store.revision == 6
        follower.sink.install(2009)
        assert follower.store.hash_kv() == leader.store.hash_kv()
        assert (follower.store.consistent_index, follower.store.term) == (2009, 3)
        assert follower.store.conf_state == leader.store.conf_state
        assert follower.others() == []
        assert list(table.iterate()) == []
        follower.fill(3, 2010)
        follower.store.commit()
        # and back again
        message, content = await sent(follower)
        await leader.sink.receive(message, pieces_of(content))
        leader.sink.install(2012)
        assert leader.store.hash_kv() == follower.store.hash_kv()
        leader.store.check_invariants()

    run(test())


def test_what_is_cut_off_or_broken_leaves_nothing(sites: Callable[[], Site]) -> None:
    leader, follower = sites(), sites()
    leader.fill(200)

    async def test() -> None:
        message, content = await sent(leader)
        with pytest.raises(ConnectionError):
            await follower.sink.receive(message, pieces_of(content[:100_000], cut=True))
        assert follower.others() == []
        for broken in (content[:-4096], b"", content.replace(b"\x0a\x05key-1", b"\xff\x05key-1")):
            assert broken != content
            with pytest.raises(TransferError, match="is not sound"):
                await follower.sink.receive(message, pieces_of(broken))
            assert follower.others() == []
        # It starts again, and is whole then.
        await follower.sink.receive(message, pieces_of(content))
        follower.sink.install(209)
        assert follower.store.hash_kv() == leader.store.hash_kv()

    run(test())


@pytest.mark.parametrize("step", ["received_before_rename", "received_after_rename"])
def test_a_disk_that_fails_leaves_nothing(
    sites: Callable[[], Site], request: pytest.FixtureRequest, step: str
) -> None:
    leader, follower = sites(), sites()
    leader.fill(20)
    request.addfinalizer(lambda: failpoint.configure(""))

    async def test() -> None:
        message, content = await sent(leader)
        failpoint.configure(f"{step}=enospc")
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            await follower.sink.receive(message, pieces_of(content))
        assert follower.others() == []
        failpoint.configure("")
        await follower.sink.receive(message, pieces_of(content))
        follower.sink.install(29)
        assert follower.store.hash_kv() == leader.store.hash_kv()

    run(test())


def test_a_database_ahead_of_its_message_is_refused(sites: Callable[[], Site]) -> None:
    leader, follower = sites(), sites()
    leader.fill(20)

    async def test() -> None:
        _, content = await sent(leader)
        message = Message(MSG_SNAP, snapshot=Snapshot(metadata=SnapshotMetadata(CONF_STATE, 28, 3)))
        with pytest.raises(TransferError, match="stands at index 29, its message at 28"):
            await follower.sink.receive(message, pieces_of(content))
        assert follower.others() == []

    run(test())


def test_one_at_a_time_per_index_and_few_at_all(sites: Callable[[], Site]) -> None:
    leader, follower = sites(), sites()
    leader.fill(20)

    async def test() -> None:
        message, content = await sent(leader)
        gate = asyncio.Event()

        async def held() -> AsyncIterator[bytes]:
            yield content[:1000]
            await gate.wait()
            yield content[1000:]

        first = asyncio.ensure_future(follower.sink.receive(message, held()))
        await asyncio.sleep(0)
        with pytest.raises(TransferError, match="at index 29 is being received already"):
            await follower.sink.receive(message, pieces_of(content))
        gate.set()
        await first
        await follower.sink.receive(message, pieces_of(content))  # is there; what comes is let pass
        leader.fill(1, 30)
        later, later_content = await sent(leader)
        await follower.sink.receive(later, pieces_of(later_content))
        leader.fill(1, 31)
        last, last_content = await sent(leader)
        with pytest.raises(TransferError, match="have not been installed yet"):
            await follower.sink.receive(last, pieces_of(last_content))
        # Installing the newer makes the older one useless.
        follower.sink.install(30)
        await follower.sink.receive(last, pieces_of(last_content))
        assert follower.others() == received(31)
        with pytest.raises(BackendError, match="no database was received for the snapshot at index 29"):
            follower.sink.install(29)
        follower.sink.install(31)
        assert follower.store.hash_kv() == leader.store.hash_kv()

    run(test())


def test_one_that_the_log_has_overtaken_is_let_go(
    sites: Callable[[], Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "PREPARED_SNAPSHOT_LOOK_SECONDS", 0.01)
    leader, follower = sites(), sites()
    leader.fill(20)

    async def test() -> None:
        message, content = await sent(leader)
        await follower.sink.receive(message, pieces_of(content))
        assert follower.others() == received(29)
        follower.store.consistent_index = 29  # came by the log after all
        waiting = follower.others()
        while waiting:
            await asyncio.sleep(0.01)
            waiting = follower.others()

    run(test())


def test_outgoing_snapshots_are_bounded(sites: Callable[[], Site]) -> None:
    site = sites()
    site.fill(3)

    async def test() -> None:
        several = [await site.source.open() for _ in range(limits.MAX_OUTGOING_SNAPSHOTS)]
        with pytest.raises(TransferError, match="too many snapshots are being sent"):
            await site.source.open()
        several.pop().close()
        several.append(await site.source.open())
        for outgoing in several:
            outgoing.close()

    run(test())


def test_one_that_is_given_up_leaves_no_process_and_no_reader(sites: Callable[[], Site]) -> None:
    site = sites()
    site.fill(1000)

    async def test() -> None:
        opening = asyncio.ensure_future(site.source.open())
        started = exports()
        while not started:
            await asyncio.sleep(0)
            started = exports()
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        assert not any(child.is_running() for child in started)
        (await site.source.open()).close()

    run(test())


def exports() -> list[psutil.Process]:
    """The exports that this process runs."""
    return [child for child in psutil.Process().children() if "kvorum.snapshot.export" in child.cmdline()]


CHILD: Final = """
import time
from kvorum.snapshot.process import accompany
accompany()
print("is there", flush=True)
time.sleep(600)
"""
MEMBER: Final = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(600)
"""


def test_an_export_ends_with_its_member(tmp_path: Path) -> None:
    """Killed outright, a member takes the process beside it along: the pipe between them ends."""
    member = subprocess.Popen([sys.executable, "-c", MEMBER, CHILD], stdout=subprocess.PIPE)
    assert member.stdout is not None
    child = psutil.Process(int(member.stdout.readline()))
    member.kill()
    member.wait()
    member.stdout.close()
    child.wait(timeout=20)


# --- crashes ------------------------------------------------------------------------------------------------


class Crashed:
    """What a crash left: a database at index 5, and a received one at index 29 as far as it had come."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.directory: Final = directory
        self.database: Final = directory / OWN
        self.received: Final = Path(received_path(str(directory), 29))
        self.make(self.database, 5)
        self.make(self.received, 29)

    def make(self, path: Path, index: int) -> None:
        store = open_store(str(path))
        store.consistent_index = index
        with store.write() as txn:
            txn.put(b"index", b"%d" % index)
        store.close()

    def recover(self, snapshot_index: int) -> bool:
        return recover(str(self.directory), str(self.database), snapshot_index)

    def index(self) -> int:
        store = open_store(str(self.database))
        try:
            store.check_invariants()
            return store.consistent_index
        finally:
            store.close()

    def names(self) -> list[str]:
        return sorted(os.listdir(self.directory))


@pytest.fixture
def crashed(tmp_path: Path) -> Crashed:
    return Crashed(tmp_path / "snap")


def test_before_the_log_names_the_snapshot_it_is_swept(crashed: Crashed) -> None:
    (crashed.directory / "tmpabc").mkdir()
    (crashed.directory / "tmpabc" / "db").write_bytes(b"half")
    (crashed.directory / "0000000000000003-000000000000001d.snap").write_bytes(b"")
    assert not crashed.recover(0)
    assert crashed.names() == ["0000000000000003-000000000000001d.snap", OWN]
    assert crashed.index() == 5


def test_between_the_marker_and_the_installation_it_is_put_in_place(crashed: Crashed) -> None:
    assert crashed.recover(29)
    assert crashed.names() == [OWN]
    assert crashed.index() == 29
    assert not crashed.recover(29)
    assert crashed.index() == 29


def test_between_the_two_renames(crashed: Crashed) -> None:
    os.rename(crashed.received, crashed.database)
    assert OWN + "-lock" in crashed.names()
    assert not crashed.recover(29)
    assert crashed.names() == [OWN]
    assert crashed.index() == 29


def test_a_member_without_a_database_takes_the_received_one(crashed: Crashed) -> None:
    crashed.database.unlink()
    assert crashed.recover(29)
    assert crashed.index() == 29


def test_without_the_received_one_it_is_said_what_to_do(crashed: Crashed) -> None:
    crashed.received.unlink()
    with pytest.raises(
        RecoverError, match=r"begins behind the snapshot at index 29.*\.snap\.lmdb is not there"
    ):
        crashed.recover(29)
    assert crashed.index() == 5


def test_a_received_one_that_is_another_is_refused(crashed: Crashed) -> None:
    os.rename(crashed.received, received_path(str(crashed.directory), 31))
    with pytest.raises(RecoverError, match="stands at index 29, not at 31"):
        crashed.recover(31)
    assert crashed.index() == 5


def test_nothing_of_other_rooms_is_swept(crashed: Crashed) -> None:
    kept = ["0000000000000003-000000000000001d.snap", "0000000000000003-000000000000001d.snap.broken", "db"]
    for name in kept:
        (crashed.directory / name).write_bytes(b"")
    (crashed.directory / ETCDS).write_bytes(b"etcd's")
    gone = sweep(str(crashed.directory))
    assert gone == [ETCDS, crashed.received.name, lock_path(crashed.received.name)]
    assert crashed.names() == [*kept, OWN, OWN + "-lock"]


STEPS: Final = ("install_before_rename", "install_between_renames", "install_after_rename")


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_each_step_of_the_installation(crashed: Crashed, step: str) -> None:
    program = (
        "import sys, time\n"
        "from kvorum.mvcc.install import prepare\n"
        "from kvorum.mvcc.store import Store\n"
        "open_store = lambda path: Store.open(path, clock=time.monotonic)\n"
        "store = open_store(sys.argv[1])\n"
        "store.install(prepare(open_store, sys.argv[2]))\n"
    )
    environment = {**os.environ, "KVORUM_FAILPOINTS": f"{step}=kill"}
    command = [sys.executable, "-c", program, str(crashed.database), str(crashed.received)]
    assert subprocess.run(command, env=environment, check=False).returncode == -signal.SIGKILL
    crashed.recover(29)
    assert crashed.names() == [OWN]
    assert crashed.index() == 29
