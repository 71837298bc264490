"""Makes batches durable while the loop goes on, one at a time.

Two ways. **The kernel's own sync** (``kernel_sync.py``), where there is one: the loop writes the batch, which
only copies it to the page cache, hands the sync over and hears of its end through an eventfd. **The WAL
thread**: woken through a lock it waits on, one write and sync, back by ``call_soon_threadsafe``. The thread
also does what is rare and slow either way: it cuts segments and preallocates the next one.

Why not the thread alone: it must win the interpreter's lock twice a batch, when it is woken and when it comes
back from the write. CPython makes the loop hand it over only after ``sys.getswitchinterval()`` (5 ms) without
a switch, and a loop full of socket calls lets go and takes it back far more often than that, which starts the
wait anew each time. Measured on two shared cores, one 300-byte batch after another beside connections whose
requests keep the loop busy, batches per second, p50 and p99 from ``submit`` to ``done``:

| beside | kernel | thread |
|---|---|---|
| nothing | 7282/s, 0.13, 0.25 ms | 6760/s, 0.14, 0.24 ms |
| 64 connections, 10 µs a request | 373/s, 2.7, 11 ms | 298/s, 2.1, 4.7 ms |
| 16 connections, 50 µs a request | 296/s, 3.4, 6.4 ms | 184/s, 2.0, 63 ms (at 0.5 ms: 7/s, 120, 468 ms) |
| 8 connections, 1 ms a request | 65/s, 15, 16 ms | 11/s, 15, 1625 ms |

A shorter switch interval helps the thread in the last case only. Of ways to wake the thread and to be told by
it (idle loop, p50): lock and ``call_soon_threadsafe`` 119-133 µs, ``SimpleQueue`` 126-145 µs, eventfds
112-128 µs.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from typing import Final, TypeAlias, final

from kvorum import failpoint
from kvorum.limits import SLOW_FSYNC_SECONDS
from kvorum.wal.batch import Batch
from kvorum.wal.kernel_sync import KernelSync
from kvorum.wal.wal import Wal

_LOGGER: Final = logging.getLogger(__name__)

Done: TypeAlias = Callable[[BaseException | None, float], None]
"""Called on the loop: what went wrong or None, and the seconds that write and sync took."""


@final
class WalWriter:
    """Flushes the batches of one log. All methods are the loop's.

    ``submitted_at`` is the clock's reading when the batch now under way was submitted, 0.0 when there is
    none: the loop can see by it that a sync is stalled.
    """

    __slots__ = (
        "_batch",
        "_clock",
        "_done",
        "_error",
        "_kernel",
        "_loop",
        "_thread",
        "_took",
        "_wake",
        "_wal",
        "submitted_at",
    )

    def __init__(
        self,
        wal: Wal,
        loop: asyncio.AbstractEventLoop,
        *,
        clock: Callable[[], float] = time.perf_counter,
        kernel_sync: bool = True,
    ) -> None:
        """Start the thread.

        ``clock`` should be the Wal's; ``kernel_sync`` False leaves everything to the thread.
        """
        self.submitted_at = 0.0
        self._wal: Final = wal
        self._loop: Final = loop
        self._clock: Final = clock
        self._batch: Batch | None = None
        self._done: Done | None = None
        self._error: BaseException | None = None
        self._took = 0.0
        self._kernel: KernelSync | None = None
        if kernel_sync and wal.can_sync_outside:
            try:
                self._kernel = KernelSync(loop, self._synced)
            except OSError as error:
                _LOGGER.info("syncing the log in a thread", extra={"error": str(error)})
        self._wake: Final = threading.Lock()
        self._wake.acquire()
        self._thread: Final = threading.Thread(target=self._run, name="kvorum-wal", daemon=True)
        self._thread.start()

    def submit(self, batch: Batch, done: Done) -> None:
        """Make ``batch`` durable; ``done`` is called on the loop, later, when it is or when that failed.

        One at a time: the next one may be submitted from ``done`` on.
        """
        assert self._done is None, "a batch is under way"
        self._done = done
        self.submitted_at = self._clock()
        # a failpoint may sleep, and a cut takes several syncs: both are the thread's
        if self._kernel is None or batch.next_head or not batch.data or failpoint.enabled:
            self._batch = batch
            self._wake.release()
        else:
            self._submit_to_kernel(batch, self._kernel)

    def stalled_seconds(self) -> float:
        """For how long the batch under way has been so; 0.0 if there is none."""
        return self._clock() - self.submitted_at if self._done is not None else 0.0

    @property
    def busy(self) -> bool:
        """Whether a batch is under way."""
        return self._done is not None

    def close(self) -> None:
        """End the thread; twice does nothing. No batch may be under way; the Wal stays open."""
        assert self._done is None, "a batch is under way"
        if self._kernel is not None:
            self._kernel.close()
            self._kernel = None
        if self._thread.is_alive():
            self._batch = None
            self._wake.release()
            self._thread.join()

    def _finish(self) -> None:
        done = self._done
        assert done is not None
        self._done = None
        self.submitted_at = 0.0
        error, self._error = self._error, None
        done(error, self._took)

    # --- by the kernel --------------------------------------------------------------------------------------

    def _submit_to_kernel(self, batch: Batch, kernel: KernelSync) -> None:
        try:
            handle = self._wal.write_unsynced(batch)
        except Exception as error:
            self._error = error
            self._loop.call_soon(self._finish)
            return
        try:
            kernel.submit(handle)
        except OSError as error:
            _LOGGER.info("syncing the log in a thread", extra={"error": str(error)})
            kernel.close()
            self._kernel = None
            self._batch = batch  # writing the same bytes again does no harm
            self._wake.release()

    def _synced(self, error: OSError | None) -> None:
        self._took = took = self._clock() - self.submitted_at
        if error is not None:
            self._wal.fail(error)
            self._error = error
        elif took > SLOW_FSYNC_SECONDS:
            _LOGGER.warning(
                "slow fdatasync",
                extra={"took": f"{took:.3f}s", "expected-duration": f"{SLOW_FSYNC_SECONDS:g}s"},
            )
        self._finish()

    # --- by the thread --------------------------------------------------------------------------------------

    def _run(self) -> None:
        wal = self._wal
        self._preallocate()
        while True:
            self._wake.acquire()
            batch = self._batch
            if batch is None:
                return
            self._batch = None
            try:
                self._took = wal.flush(batch)
            except BaseException as error:  # whatever it is, the loop must hear of it
                self._error = error
            try:
                self._loop.call_soon_threadsafe(self._finish)
            except RuntimeError:
                return  # the loop is closed: nobody is left to tell
            self._preallocate()

    def _preallocate(self) -> None:
        """Make the next segment's file now that nobody waits; a failure counts when the segment is needed."""
        try:
            self._wal.make_next_segment()
        except OSError as error:
            _LOGGER.warning(
                "failed to preallocate space when creating a new WAL", extra={"error": str(error)}
            )
