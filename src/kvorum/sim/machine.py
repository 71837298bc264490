"""What one member stands on: a clock that runs a little wrong, a disk that forgets, and a process that may
die.

The log and the ``.snap`` files are on ``wal/memdisk.py``'s disk, the worst that POSIX allows: after a power
cut each sector that was not synced is there or not. The database is a real LMDB file in a temporary
directory; LMDB promises that a crash leaves the last commit, and so it does here: a crash closes the file
without committing. A sync that is stalled or refused is therefore simulated for the log only, and what LMDB
committed is never taken back.

A process may end in two ways. Killed, it leaves what it wrote in the kernel's cache: the next one reads it,
although a power cut could still take it. With the power cut, only what was synced is sure.
"""

import errno
import os
import random
from collections.abc import Callable, Sequence
from typing import Any, Final, final

from kvorum.raft.types import Entry, HardState
from kvorum.sim.loop import SimulatedLoop
from kvorum.wal.batch import Batch
from kvorum.wal.memdisk import MemoryDisk
from kvorum.wal.record import WalSnapshot
from kvorum.wal.wal import Wal
from kvorum.wal.writer import Done

SEGMENT_BYTES: Final = 16 * 1024
"""Small, so that a run sees many cuts."""


STALL_LOOK_SECONDS: Final = 0.25


@final
class Process:
    """One run of a member's program. What it scheduled dies with it, and waits while it is paused.

    It is the member's ``Timers``. ``after`` is called when a callback has run: that is a step.
    """

    __slots__ = ("_after", "_backlog", "_loop", "_rate", "_started", "alive", "paused")

    def __init__(self, loop: SimulatedLoop, rate: float, after: Callable[[], None]) -> None:
        self._loop: Final = loop
        self._rate: Final = rate
        self._after: Final = after
        self._started: Final = loop.now
        self._backlog: list[Callable[[], None]] = []
        self.alive = True
        self.paused = False

    def time(self) -> float:
        """Seconds by this member's own clock, which starts anywhere and runs at its own rate."""
        return 1000.0 + (self._loop.now - self._started) * self._rate

    def call_later(self, delay: float, callback: Callable[[], None]) -> object:
        """Call back after ``delay`` seconds of this member's clock."""
        return self._loop.call_later(delay / self._rate, self.run, callback)

    def call_soon(self, callback: Callable[[], None]) -> object:
        """Call back in the next turn of the loop."""
        return self._loop.call_soon(self.run, callback)

    def run(self, callback: Callable[[], None]) -> None:
        """Do something inside the process now; later if it is paused, never if it is dead."""
        if self.paused:
            self._backlog.append(callback)
        elif self.alive:
            callback()
            if self.alive:
                self._after()

    def resume(self) -> None:
        """Go on, and do at once what came meanwhile."""
        self.paused = False
        backlog, self._backlog = self._backlog, []
        for callback in backlog:
            self._loop.call_soon(self.run, callback)

    def end(self) -> None:
        """Nothing of it runs any more."""
        self.alive = False
        self._backlog.clear()


@final
class Machine:
    """A member's disk, and how it behaves at the moment."""

    __slots__ = (
        "dice",
        "directory",
        "disk",
        "fail_next_install",
        "fail_next_sync",
        "loop",
        "stalled_until",
        "sync_seconds",
    )

    def __init__(self, loop: SimulatedLoop, directory: str, dice: random.Random) -> None:
        self.loop: Final = loop
        self.directory: Final = directory
        """Where its database is; nothing else of it is real."""
        self.dice: Final = dice
        self.disk = MemoryDisk()
        self.sync_seconds = 0.001
        """How long a sync takes on average."""
        self.stalled_until = 0.0
        self.fail_next_sync = False
        self.fail_next_install = False
        """The power fails when the log has a snapshot's marker and the database is not in its place yet."""

    def when_synced(self, process: "Process", synced: Callable[[], None]) -> None:
        """Call back when a sync that begins now is done, as long as the disk may stall meanwhile."""
        loop = self.loop

        def look() -> None:
            if self.stalled_until > loop.now:
                loop.call_later(min(self.stalled_until - loop.now, STALL_LOOK_SECONDS), process.run, look)
            else:
                synced()

        loop.call_later(self.sync_seconds * self.dice.expovariate(1.0) + 0.0001, process.run, look)

    def process_died(self) -> None:
        """The process is gone, the machine is not."""
        self._forgive()
        self.disk.kill()

    def power_cut(self) -> None:
        """The machine lost its power: whatever was not synced is there or not."""
        self._forgive()
        self.disk = self.disk.crash(self.dice)

    def _forgive(self) -> None:
        self.disk.fail_at = -1
        self.disk.fail_errno = errno.EIO
        self.disk.capacity_bytes = 1 << 40
        self.fail_next_sync = self.fail_next_install = False

    def fill(self) -> None:
        """Leave no room on the disk."""
        self.disk.fail_errno = errno.ENOSPC
        self.disk.capacity_bytes = 0


@final
class Written:
    """What one batch brings to the disk."""

    __slots__ = ("entries", "hard_state", "marker")

    def __init__(
        self, hard_state: HardState | None, entries: Sequence[Entry], marker: WalSnapshot | None
    ) -> None:
        self.hard_state: Final = hard_state
        self.entries: Final = entries
        self.marker: Final = marker


@final
class WatchedWal:
    """A ``Wal`` that keeps account of what was given to it, so that the judge knows what a sync makes
    durable.
    """

    def __init__(self, wal: Wal) -> None:
        self._wal: Final = wal
        self.prepared: list[Written] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._wal, name)

    def prepare(
        self, hard_state: HardState | None, entries: Sequence[Entry], received: WalSnapshot | None = None
    ) -> Batch:
        """See ``Wal``."""
        self.prepared.append(Written(hard_state, tuple(entries), received))
        return self._wal.prepare(hard_state, entries, received)

    def prepare_snapshot(self, marker: WalSnapshot) -> Batch:
        """See ``Wal``; the marker of a snapshot of one's own replaces nothing."""
        return self._wal.prepare_snapshot(marker)


@final
class SimulatedWriter:
    """Writes a batch at once and syncs it when the disk gets to it (``wal/writer.py`` with the kernel's
    sync).

    ``durable`` hears of what a finished sync brought to the disk, before anybody else does.
    """

    def __init__(
        self,
        log: WatchedWal,
        machine: Machine,
        process: Process,
        durable: Callable[[Sequence[Written]], None],
    ) -> None:
        self._log: Final = log
        self._machine: Final = machine
        self._process: Final = process
        self._durable: Final = durable
        self._done: Done | None = None
        self._submitted_at = 0.0

    @property
    def busy(self) -> bool:
        """Whether a batch is under way."""
        return self._done is not None

    def stalled_seconds(self) -> float:
        """For how long the batch under way has been so; 0.0 if there is none."""
        return self._process.time() - self._submitted_at if self._done is not None else 0.0

    def submit(self, batch: Batch, done: Done) -> None:
        """Make ``batch`` durable; ``done`` is called later."""
        assert self._done is None, "a batch is under way"
        self._done = done
        self._submitted_at = self._process.time()
        written, self._log.prepared = self._log.prepared, []
        handle = -1
        if not batch.next_head:
            try:
                handle = self._log.write_unsynced(batch)
            except OSError as error:
                refused = error
                self._process.call_soon(lambda: self._finish(refused, 0.0))
                return
        self._machine.when_synced(self._process, lambda: self._synced(batch, handle, written))

    def _synced(self, batch: Batch, handle: int, written: list[Written]) -> None:
        machine = self._machine
        failure: OSError | None = None
        try:
            if machine.fail_next_sync:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            if handle >= 0:
                machine.disk.fdatasync(handle)
            else:
                self._log.flush(batch)
        except OSError as error:
            failure = error
            self._log.fail(error)
        else:
            self._durable(written)
        self._finish(failure, self.stalled_seconds())

    def _finish(self, error: BaseException | None, took: float) -> None:
        done, self._done = self._done, None
        assert done is not None, "a sync that nobody waits for"
        done(error, took)
