"""The thread that makes batches durable while the loop goes on, one at a time.

``submit`` wakes the thread through a lock that it waits on, and the answer comes back by
``call_soon_threadsafe``. Measured with one 320-byte batch at a time on an idle uvloop, p50 from ``submit`` to
the callback: lock and ``call_soon_threadsafe`` 119-133 µs, ``SimpleQueue`` 126-145 µs, an eventfd each way
112-128 µs, of which the disk takes about 100; without any write the two hops are 55-67 µs because the cores
fall asleep in between. An eventfd would save some 5 µs and exists on Linux only.

Beside a busy loop the thread must win the interpreter's lock twice a batch (woken, and back from the write),
and CPython only forces the loop to hand it over after ``sys.getswitchinterval()`` of *uninterrupted* holding:
a loop that lets go briefly more often than that, as one full of socket calls does, can keep the thread
waiting for many times the interval. With the default of 5 ms waits of seconds were seen, with 0.5 ms none
beyond 15 ms: servers should set it so.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from typing import Final, TypeAlias, final

from kvorum.wal.wal import Batch, Wal

_LOGGER: Final = logging.getLogger(__name__)

Done: TypeAlias = Callable[[BaseException | None, float], None]
"""Called on the loop: what went wrong or None, and the seconds that write and sync took."""


@final
class WalWriter:
    """Owns the WAL thread. All methods are the loop's.

    ``submitted_at`` is the clock's reading when the batch now under way was submitted, 0.0 when there is
    none: the loop can see by it that a sync is stalled, without asking the thread.
    """

    __slots__ = (
        "_batch",
        "_clock",
        "_done",
        "_error",
        "_loop",
        "_thread",
        "_took",
        "_wake",
        "_wal",
        "submitted_at",
    )

    def __init__(
        self, wal: Wal, loop: asyncio.AbstractEventLoop, *, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        """Start the thread. ``clock`` should be the Wal's."""
        self.submitted_at = 0.0
        self._wal: Final = wal
        self._loop: Final = loop
        self._clock: Final = clock
        self._batch: Batch | None = None
        self._done: Done | None = None
        self._error: BaseException | None = None
        self._took = 0.0
        self._wake: Final = threading.Lock()
        self._wake.acquire()
        self._thread: Final = threading.Thread(target=self._run, name="kvorum-wal", daemon=True)
        self._thread.start()

    def submit(self, batch: Batch, done: Done) -> None:
        """Flush ``batch`` in the thread; ``done`` is called on the loop when it is durable, or failed.

        One at a time: the next one may be submitted from ``done`` on.
        """
        assert self._done is None, "a batch is under way"
        self._batch = batch
        self._done = done
        self.submitted_at = self._clock()
        self._wake.release()

    def stalled_seconds(self) -> float:
        """For how long the batch under way has been so; 0.0 if there is none."""
        return self._clock() - self.submitted_at if self._done is not None else 0.0

    @property
    def busy(self) -> bool:
        """Whether a batch is under way."""
        return self._done is not None

    def close(self) -> None:
        """End the thread and wait for it. No batch may be under way; the Wal stays open."""
        assert self._done is None, "a batch is under way"
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

    def _run(self) -> None:
        wal = self._wal
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
