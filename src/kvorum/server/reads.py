"""Linearizable reads: nothing is answered before a quorum has confirmed that this is still the newest state.

Reads that arrive together are one batch: one ReadIndex request to Raft gives the index they have to wait for
(thesis §6.4); once that much is applied they run, in the order they came. A batch that is never confirmed is
asked for again and in the end answered with an error. Source: etcd ``server/etcdserver/v3_server.go``
(linearizableReadLoop).
"""

from collections import deque
from collections.abc import Callable
from typing import Final, final

from kvorum import errors
from kvorum.server.ids import RequestIdGenerator

READ_INDEX_RETRY_SECONDS: Final = 0.5
"""After this long without an answer ReadIndex is requested again (etcd ``readIndexRetryTime``)."""

Read = Callable[[errors.EtcdError | None], None]


@final
class _Batch:
    __slots__ = ("asked_at", "context", "deadline", "index", "reads")

    def __init__(self, reads: list[Read], context: bytes, now: float, deadline: float) -> None:
        self.reads = reads
        self.context = context
        self.asked_at = now
        self.deadline = deadline
        self.index = -1


@final
class Reads:
    """Reads waiting to be confirmed: those not yet asked for, and one batch under way.

    Invariant: at most one batch has been asked for and is not confirmed, as in etcd; what comes meanwhile
    waits for the next one, because an index that was requested before a read arrived says nothing about it.
    """

    __slots__ = (
        "_asked",
        "_confirmed",
        "_ids",
        "_kick",
        "_timeout_seconds",
        "_waiting",
        "failed_total",
        "slow_total",
    )

    def __init__(self, ids: RequestIdGenerator, kick: Callable[[], None], *, timeout_seconds: float) -> None:
        self._ids: Final = ids
        self._kick: Final = kick
        self._timeout_seconds: Final = timeout_seconds
        self._waiting: list[Read] = []
        self._asked: _Batch | None = None
        self._confirmed: Final[deque[_Batch]] = deque()
        self.failed_total = 0
        self.slow_total = 0

    def wait(self, read: Read) -> None:
        """Call ``read(None)`` once the store is known to be no older than this moment, or with an error."""
        self._waiting.append(read)
        if len(self._waiting) == 1:
            self._kick()

    def next_request(self, now: float) -> bytes | None:
        """The context of a ReadIndex to give to Raft now, if one is due; ``now`` is the loop's time."""
        asked = self._asked
        if asked is not None:
            if now - asked.asked_at < READ_INDEX_RETRY_SECONDS:
                return None
            asked.asked_at = now
            self.slow_total += 1
            return asked.context
        if not self._waiting:
            return None
        context = self._ids.next().to_bytes(8, "big")
        self._asked = _Batch(self._waiting, context, now, now + self._timeout_seconds)
        self._waiting = []
        return context

    def confirmed(self, context: bytes, index: int) -> None:
        """Raft answered: the batch of ``context`` may run when ``index`` is applied. Late answers are passed
        over.
        """
        asked = self._asked
        if asked is None or asked.context != context:
            return
        asked.index = index
        self._asked = None
        self._confirmed.append(asked)
        if self._waiting:
            self._kick()

    def run(self, applied_index: int) -> None:
        """Run every read whose index has been applied."""
        confirmed = self._confirmed
        while confirmed and confirmed[0].index <= applied_index:
            for read in confirmed.popleft().reads:
                read(None)

    def leader_changed(self) -> None:
        """The leader that was asked is gone: its batch fails with an error that clients retry."""
        asked, self._asked = self._asked, None
        if asked is not None:
            self._fail(asked.reads, errors.ERR_LEADER_CHANGED)

    def expire(self, now: float) -> None:
        """Answer "request timed out" to a batch that was never confirmed; called on every tick."""
        asked = self._asked
        if asked is not None and asked.deadline <= now:
            self._asked = None
            self._fail(asked.reads, errors.ERR_TIMEOUT)

    def fail_all(self, error: errors.EtcdError) -> None:
        """Answer ``error`` to every waiting read: the member stops."""
        batches = [*self._confirmed, *([self._asked] if self._asked is not None else [])]
        self._confirmed.clear()
        self._asked = None
        waiting, self._waiting = self._waiting, []
        for batch in batches:
            self._fail(batch.reads, error)
        self._fail(waiting, error)

    def _fail(self, reads: list[Read], error: errors.EtcdError) -> None:
        self.failed_total += len(reads)
        for read in reads:
            read(error)
