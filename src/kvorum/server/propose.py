"""Proposals: requests on their way into the log, and the calls that wait for what comes of them.

A request gets an ID, is encoded once, and waits in ``pending`` until its entry has been applied (or its time
is up: the entry may still be applied later, which is why the error says "timed out" and not "failed").
Proposals of one loop turn reach Raft as one batch. Source: etcd ``server/etcdserver/v3_server.go``
(processInternalRaftRequestOnce).
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, final

from kvorum import errors, limits
from kvorum.apply.applier import Result
from kvorum.server import requests
from kvorum.server.ids import RequestIdGenerator

Done = Callable[[Result], None]


@final
class Proposals:
    """The waiting calls by request ID, and the entries not yet given to Raft.

    Invariant: ``_pending`` is in the order of arrival, and each call knows its number in it; ``_marks`` says
    how many had arrived by which tick, so that a call's time needs no entry of its own.
    """

    __slots__ = (
        "_ids",
        "_kick",
        "_late",
        "_marks",
        "_max_request_bytes",
        "_pending",
        "_proposed",
        "_queue",
        "_queued_bytes",
        "_timeout_seconds",
        "failed_total",
    )

    def __init__(
        self,
        ids: RequestIdGenerator,
        kick: Callable[[], None],
        *,
        timeout_seconds: float,
        max_request_bytes: int = limits.MAX_REQUEST_BYTES,
        late: Callable[[float], errors.EtcdError] = lambda _started: errors.ERR_TIMEOUT,
    ) -> None:
        """``late`` says what to answer to a call of some time that was never applied."""
        self._ids: Final = ids
        self._kick: Final = kick
        self._timeout_seconds: Final = timeout_seconds
        self._max_request_bytes: Final = max_request_bytes
        self._late: Final = late
        self._pending: Final[dict[bytes, tuple[int, Done, object]]] = {}
        self._marks: Final[deque[tuple[float, int]]] = deque()
        self._proposed = 0
        self._queue: list[bytes] = []
        self._queued_bytes = 0
        self.failed_total = 0

    @property
    def pending(self) -> int:
        """How many calls wait."""
        return len(self._pending)

    def propose(
        self,
        number: int,
        body: bytes,
        done: Done,
        applied_gap: int = 0,
        parsed: object = None,
        who: bytes = b"",
    ) -> None:
        """Queue the request ``body`` of InternalRaftRequest's field ``number``; ``done`` gets the result,
        once.

        ``applied_gap`` is how many committed entries are not yet applied. ``parsed`` is what the caller made
        of ``body``, kept for applying so that it is not made twice. ``who`` asks is an encoded ``Identity``.

        Raises:
            EtcdError: ERR_REQUEST_TOO_LARGE, ERR_REQUEST_TOO_MANY_REQUESTS.
        """
        if (
            applied_gap > limits.MAX_GAP_BETWEEN_APPLY_AND_COMMIT
            or self._queued_bytes > limits.MAX_QUEUED_PROPOSAL_BYTES
        ):
            raise errors.ERR_REQUEST_TOO_MANY_REQUESTS
        request_id = self._ids.next_varint()
        data = requests.encode(number, body, request_id, who)
        if len(data) > self._max_request_bytes:
            raise errors.ERR_REQUEST_TOO_LARGE
        self._proposed += 1
        self._pending[request_id] = (self._proposed, done, parsed)
        self._queue.append(data)
        self._queued_bytes += len(data)
        if len(self._queue) == 1:
            self._kick()

    def enter(self, number: int, body: bytes, done: Done, who: bytes = b"") -> bytes:
        """Wait for a request that the caller itself gives to Raft; returns the entry's data."""
        request_id = self._ids.next_varint()
        self._proposed += 1
        self._pending[request_id] = (self._proposed, done, None)
        return requests.encode(number, body, request_id, who)

    def withdraw(self, batch: Sequence[bytes]) -> None:
        """Answer "not leader" to what was entered and Raft did not take."""
        for data in batch:
            self._fail(requests.decode(data)[0], errors.ERR_NOT_LEADER)

    def take(self) -> list[bytes]:
        """The entries queued since the last call, for one batch into Raft."""
        queue = self._queue
        self._queue = []
        self._queued_bytes = 0
        return queue

    def put_back(self, batch: list[bytes]) -> None:
        """Return a batch that Raft would not take now (no leader); it goes first the next time."""
        self._queue = batch + self._queue
        self._queued_bytes = sum(map(len, self._queue))

    def parsed(self, request_id: bytes) -> object:
        """What the call that waits for ``request_id`` made of its body; None if there is none."""
        waiting = self._pending.get(request_id)
        return None if waiting is None else waiting[2]

    def applied(self, request_id: bytes, result: Result) -> None:
        """Answer the call that waits for ``request_id``, if one does."""
        waiting = self._pending.pop(request_id, None)
        if waiting is not None:
            waiting[1](result)

    def expire(self, now: float) -> None:
        """Answer "request timed out" to calls whose time is up; called on every tick with the loop's time."""
        marks = self._marks
        marks.append((now + self._timeout_seconds, self._proposed))
        while marks[0][0] <= now:
            deadline, last = marks.popleft()
            late = []
            for request_id, (number, _, _) in self._pending.items():
                if number > last:
                    break
                late.append(request_id)
            if late:
                error = self._late(deadline - self._timeout_seconds)
                for request_id in late:
                    self._fail(request_id, error)
                self._forget_unsent()

    def _forget_unsent(self) -> None:
        """Drop what was queued, for want of a leader, by calls that have got their answer meanwhile: it would
        happen long after its callers were told that it had not.
        """
        pending = self._pending
        kept = [data for data in self._queue if requests.decode(data)[0] in pending]
        self._queue = kept
        self._queued_bytes = sum(map(len, kept))

    def overtaken(self) -> None:
        """A snapshot has replaced the log: what was proposed may be in it or may come to nothing. Nobody will
        say which, so the calls are told now what they would be told when their time is up.
        """
        queued = {requests.decode(data)[0] for data in self._queue}
        for request_id in [request_id for request_id in self._pending if request_id not in queued]:
            self._fail(request_id, errors.ERR_TIMEOUT)

    def fail_all(self, error: errors.EtcdError) -> None:
        """Answer ``error`` to every waiting call: the member stops."""
        for request_id in list(self._pending):
            self._fail(request_id, error)
        self._queue.clear()

    def _fail(self, request_id: bytes, error: errors.EtcdError) -> None:
        waiting = self._pending.pop(request_id, None)
        if waiting is not None:
            self.failed_total += 1
            waiting[1](Result(0, b"", error))
