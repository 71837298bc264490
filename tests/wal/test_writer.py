"""The WAL thread."""

import asyncio
import errno
import os
import threading
from pathlib import Path

import pytest
import uvloop

from kvorum import failpoint
from kvorum.raft.types import Entry, HardState
from kvorum.wal.errors import WalFailedError
from kvorum.wal.kernel_sync import KernelSync
from kvorum.wal.memdisk import MemoryDisk
from kvorum.wal.record import WalSnapshot
from kvorum.wal.recovery import recover
from kvorum.wal.wal import Wal
from kvorum.wal.writer import WalWriter
from tests.wal.logs import METADATA, VOTE, create, entry


def flush_in_thread(writer: WalWriter, wal: Wal, entries: list[Entry]) -> "asyncio.Future[float]":
    loop = asyncio.get_running_loop()
    future: asyncio.Future[float] = loop.create_future()

    def done(error: BaseException | None, fsync_seconds: float) -> None:
        assert threading.current_thread() is threading.main_thread()
        assert not writer.busy
        if error is None:
            future.set_result(fsync_seconds)
        else:
            future.set_exception(error)

    writer.submit(wal.prepare(HardState(2, VOTE, 0), entries), done)
    assert writer.busy
    return future


@pytest.mark.parametrize("kernel_sync", [True, False])
@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_batches_become_durable_one_after_another(tmp_path: Path, run: object, kernel_sync: bool) -> None:
    async def write() -> None:
        wal = Wal.create(str(tmp_path / "wal"), METADATA, segment_bytes=1 << 14)
        writer = WalWriter(wal, asyncio.get_running_loop(), kernel_sync=kernel_sync)
        for n in range(1, 101):
            assert 0.0 < await flush_in_thread(writer, wal, [entry(n, 400)]) < 60.0
        assert writer.stalled_seconds() == 0.0
        assert wal.bytes_written > 100 * 400
        writer.close()
        writer.close()
        wal.close()

    assert callable(run)
    run(write())
    assert recover(str(tmp_path / "wal"), WalSnapshot()).entries == [entry(n, 400) for n in range(1, 101)]


def test_a_stalled_sync_is_seen_by_the_loop_and_a_failed_one_is_told() -> None:
    class SlowDisk:
        """Holds syncs until told."""

        def __init__(self, disk: MemoryDisk) -> None:
            self.disk = disk
            self.go = threading.Event()
            self.reached = threading.Event()

        def __getattr__(self, name: str) -> object:
            return getattr(self.disk, name)

        def write_durable(self, handle: int, data: bytes, offset: int) -> None:
            self.reached.set()
            assert self.go.wait(60)
            self.disk.write_durable(handle, data, offset)

    async def write() -> None:
        now = 100.0
        memory = MemoryDisk()
        create(memory).close()
        disk = SlowDisk(memory)
        log = recover("/data/member/wal", WalSnapshot(), disk=disk, segment_bytes=1 << 14, clock=lambda: now)  # type: ignore[arg-type]
        writer = WalWriter(log.wal, asyncio.get_running_loop(), clock=lambda: now)
        pending = flush_in_thread(writer, log.wal, [entry(1)])
        await asyncio.to_thread(disk.reached.wait, 60)
        now = 107.0
        assert writer.submitted_at == 100.0
        assert writer.stalled_seconds() == 7.0
        disk.go.set()
        assert await pending == 7.0
        memory.fail_at = 0
        with pytest.raises(OSError, match="Input/output") as caught:
            await flush_in_thread(writer, log.wal, [entry(2)])
        assert caught.value.errno == errno.EIO
        memory.fail_at = -1
        with pytest.raises(WalFailedError):
            log.wal.prepare(None, [entry(3)])
        writer.close()
        log.wal.close()

    asyncio.run(write())


def test_a_failpoint_reaches_the_loop(tmp_path: Path) -> None:
    async def write() -> None:
        wal = Wal.create(str(tmp_path / "wal"), METADATA, segment_bytes=1 << 14)
        writer = WalWriter(wal, asyncio.get_running_loop())
        await flush_in_thread(writer, wal, [entry(1)])
        failpoint.configure("wal_before_fsync=eio")
        try:
            with pytest.raises(OSError, match="failpoint wal_before_fsync"):
                await flush_in_thread(writer, wal, [entry(2)])
        finally:
            failpoint.configure("")
        assert isinstance(wal.failure, OSError)
        writer.close()
        wal.close()

    asyncio.run(write())


@pytest.mark.parametrize("kernel_sync", [True, False])
def test_a_broken_file_is_told_and_ends_the_log(tmp_path: Path, kernel_sync: bool) -> None:
    async def write() -> None:
        wal = Wal.create(str(tmp_path / "wal"), METADATA, segment_bytes=1 << 14)
        writer = WalWriter(wal, asyncio.get_running_loop(), kernel_sync=kernel_sync)
        await flush_in_thread(writer, wal, [entry(1)])
        writer_end, reader_end = os.pipe()
        for descriptor in os.listdir("/proc/self/fd"):
            number = int(descriptor)
            try:
                target = os.readlink(f"/proc/self/fd/{number}")
            except FileNotFoundError:
                continue
            if target == wal.segment_paths()[-1]:
                os.dup2(writer_end, number)  # the read end of a pipe: it takes no pwrite
        with pytest.raises(OSError, match=r"Illegal seek|Bad file") as caught:
            await flush_in_thread(writer, wal, [entry(2)])
        assert wal.failure is caught.value
        with pytest.raises(WalFailedError):
            wal.prepare(None, [entry(3)])
        writer.close()
        wal.close()
        os.close(writer_end)
        os.close(reader_end)

    asyncio.run(write())


def test_the_kernel_syncs_and_refuses_what_is_no_file(tmp_path: Path) -> None:
    """Skips nothing: where the kernel cannot, the writer must have fallen back to its thread."""

    async def sync() -> None:
        loop = asyncio.get_running_loop()
        results: asyncio.Queue[OSError | None] = asyncio.Queue()
        try:
            kernel = KernelSync(loop, results.put_nowait)
        except OSError:
            kernel = None
        if kernel is None:
            wal = Wal.create(str(tmp_path / "wal"), METADATA, segment_bytes=2048)
            writer = WalWriter(wal, loop)
            assert await flush_in_thread(writer, wal, [entry(1)]) > 0.0
            writer.close()
            wal.close()
            return
        with (tmp_path / "file").open("wb") as file:
            for _ in range(3):
                file.write(b"x" * 5000)
                file.flush()
                kernel.submit(file.fileno())
                assert await results.get() is None
            handle = file.fileno()
        with pytest.raises(OSError, match="Bad file descriptor"):
            kernel.submit(handle)
        kernel.close()
        kernel.close()

    asyncio.run(sync())


def test_a_cut_on_the_way_is_done_by_the_thread(tmp_path: Path) -> None:
    async def write() -> None:
        wal = Wal.create(str(tmp_path / "wal"), METADATA, segment_bytes=2048)
        writer = WalWriter(wal, asyncio.get_running_loop())
        for n in range(1, 40):
            await flush_in_thread(writer, wal, [entry(n, 500)])
        assert len(wal.segment_paths()) > 5
        writer.close()
        wal.close()

    uvloop.run(write())
    assert len(recover(str(tmp_path / "wal"), WalSnapshot(), segment_bytes=2048).entries) == 39
