"""Long work on the store, a little at a time: hashes and compactions. The loop serves others in between."""

from collections.abc import Callable
from typing import Final, Protocol, TypeVar, final

from kvorum import limits
from kvorum.errors import ERR_COMPACTED, ERR_FUTURE_REV
from kvorum.mvcc.hash import HashKvResult as HashKvResult
from kvorum.mvcc.store import CompactedError, FutureRevisionError, Store
from kvorum.server.timers import Timers

R = TypeVar("R", covariant=True)


class SlicedJob(Protocol[R]):
    """Work on the store that is done in steps (``mvcc/hash.py``)."""

    @property
    def result(self) -> R:
        """What came out, once done."""

    def step(self) -> bool:
        """Do a little; True when done."""

    def close(self) -> None:
        """Let the store go."""


@final
class SlicedWork:
    """Drives what takes long. ``guard`` runs a part of the member's work and ends the member if it fails.

    Invariant: while there is something to compact, a slice is scheduled (``_compacting``), until ``stop``.
    """

    def __init__(
        self,
        store: Store,
        timers: Timers,
        guard: Callable[[Callable[[], None]], None],
        *,
        compaction_pause_seconds: float,
    ) -> None:
        self._store: Final = store
        self._timers: Final = timers
        self._guard: Final = guard
        self._compaction_pause_seconds: Final = compaction_pause_seconds
        self._compaction_waiters: list[Callable[[], None]] = []
        self._compacting = False
        self._stopped = False

    def stop(self) -> None:
        """Do nothing more: the store is about to be closed."""
        self._stopped = True

    # --- hashes -------------------------------------------------------------------------------------------

    def hash_kv(self, revision: int, done: Callable[[HashKvResult], None]) -> None:
        """Hash the key space up to ``revision`` (0: the newest) in slices; ``done`` gets what came out.

        Raises:
            EtcdError: ERR_COMPACTED, ERR_FUTURE_REV: there is nothing to hash at that revision.
        """
        try:
            job = self._store.hash_kv_job(revision)
        except CompactedError:
            raise ERR_COMPACTED from None
        except FutureRevisionError:
            raise ERR_FUTURE_REV from None
        self._in_slices(job, done)

    def hash_backend(self, done: Callable[[int], None]) -> None:
        """Hash the whole backend in slices."""
        self._in_slices(self._store.hash_job(), done)

    def _in_slices(self, job: SlicedJob[R], done: Callable[[R], None]) -> None:
        def step() -> None:
            if self._stopped:
                job.close()
            elif job.step():
                result = job.result
                job.close()
                done(result)
            else:
                self._timers.call_later(0, lambda: self._guard(step))

        step()

    # --- compaction ---------------------------------------------------------------------------------------

    def compact(self) -> None:
        """Remove compacted revisions, unless that is under way."""
        if not self._compacting:
            self._compacting = True
            self._timers.call_later(0, lambda: self._guard(self._compact))

    def when_compacted(self, callback: Callable[[], None]) -> None:
        """Call back once the compaction under way has removed its revisions, and that is durable."""
        if self._compacting:
            self._compaction_waiters.append(callback)
        else:
            callback()

    def _compact(self) -> None:
        if self._stopped:
            return
        if not self._store.compaction_step(limits.COMPACTION_SLICE_SECONDS, self._timers.time):
            self._timers.call_later(self._compaction_pause_seconds, lambda: self._guard(self._compact))
            return
        self._compacting = False
        self._store.commit()  # what was answered as gone must not come back after a crash
        waiters, self._compaction_waiters = self._compaction_waiters, []
        for callback in waiters:
            callback()
