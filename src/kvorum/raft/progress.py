"""What a leader knows of one other member, and how fast it may send to it (etcd ``raft/tracker``).

A member is in one of three states. In PROBE the leader does not know where the two logs agree, and sends
one message, then waits for its answer or for the next heartbeat's. In REPLICATE it does know, and sends
without waiting, up to a window of messages and bytes. In SNAPSHOT it has sent one and sends nothing until
it hears that it arrived or failed.
"""

from collections import deque
from typing import Final, final

PROBE: Final = 0
REPLICATE: Final = 1
SNAPSHOT: Final = 2
STATE_NAMES: Final = ("StateProbe", "StateReplicate", "StateSnapshot")


@final
class Inflights:
    """The appends sent and not yet answered: ``(last index, bytes)`` of each, in ascending order.

    ``count ≤ max_messages``; ``bytes`` may exceed ``max_bytes`` (0: no bound) by the last message only.
    """

    __slots__ = ("_bytes", "_max_bytes", "_max_messages", "_window")

    def __init__(self, max_messages: int, max_bytes: int) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._window: deque[tuple[int, int]] = deque()
        self._bytes = 0

    @property
    def count(self) -> int:
        """How many messages are under way."""
        return len(self._window)

    @property
    def size_bytes(self) -> int:
        """How many bytes of entries are under way."""
        return self._bytes

    def is_full(self) -> bool:
        """Whether nothing more may be sent."""
        return len(self._window) >= self._max_messages or 0 < self._max_bytes <= self._bytes

    def add(self, last: int, size_bytes: int) -> None:
        """A message that ends with entry ``last`` was sent."""
        assert not self.is_full()
        self._window.append((last, size_bytes))
        self._bytes += size_bytes

    def free_up_to(self, index: int) -> None:
        """Everything up to ``index`` was acknowledged."""
        window = self._window
        while window and window[0][0] <= index:
            self._bytes -= window.popleft()[1]

    def clear(self) -> None:
        """Forget everything under way."""
        self._window.clear()
        self._bytes = 0


@final
class Progress:
    """One member as its leader sees it.

    Invariants::

        match < next                        match: known to agree up to here; next: what to send next
        state = SNAPSHOT ⇔ pending_snapshot ≠ 0
        state ≠ REPLICATE ⇒ inflights is empty
    """

    __slots__ = (
        "inflights",
        "is_learner",
        "match",
        "next",
        "paused",
        "pending_snapshot",
        "recent_active",
        "sent_commit",
        "state",
    )

    def __init__(self, next_index: int, inflights: Inflights, is_learner: bool) -> None:
        self.match = 0
        self.next = next_index
        self.sent_commit = 0
        self.state = PROBE
        self.pending_snapshot = 0
        self.recent_active = False
        self.paused = False
        """The last append filled the window or was a probe; a heartbeat's answer lets one more through."""
        self.inflights = inflights
        self.is_learner = is_learner

    def is_paused(self) -> bool:
        """Whether entries must wait."""
        return self.paused or self.state == SNAPSHOT

    def become_probe(self) -> None:
        """Find out where the logs agree, from behind the snapshot if one was sent."""
        pending = self.pending_snapshot
        self._reset(PROBE)
        self.next = max(self.match, pending) + 1
        self.sent_commit = min(self.sent_commit, self.next - 1)

    def become_replicate(self) -> None:
        """The logs agree up to ``match``: send on without waiting."""
        self._reset(REPLICATE)
        self.next = self.match + 1

    def become_snapshot(self, index: int) -> None:
        """A snapshot at ``index`` is under way."""
        self._reset(SNAPSHOT)
        self.pending_snapshot = index
        self.next = index + 1
        self.sent_commit = index

    def _reset(self, state: int) -> None:
        self.state = state
        self.paused = False
        self.pending_snapshot = 0
        self.inflights.clear()

    def sent_entries(self, count: int, size_bytes: int) -> None:
        """An append with ``count`` entries left."""
        if self.state == REPLICATE:
            if count:
                self.next += count
                self.inflights.add(self.next - 1, size_bytes)
            self.paused = self.inflights.is_full()
        else:
            assert self.state == PROBE
            if count:
                self.paused = True

    def wants_commit(self, committed: int) -> bool:
        """Whether telling the member the commit index could move its own (it can't pass what it was sent)."""
        return self.sent_commit < committed and self.sent_commit < self.next - 1

    def maybe_update(self, index: int) -> bool:
        """The member has everything up to ``index``. False if that is no news."""
        if index <= self.match:
            return False
        self.match = index
        self.next = max(self.next, index + 1)
        self.paused = False
        return True

    def maybe_decrease(self, rejected: int, hint: int) -> bool:
        """The member refused what follows ``rejected``; the logs may agree at ``hint``. False if that is old.

        A rejection is old if it contradicts ``match``, or, while probing, is not about the one probe under
        way.
        """
        if self.state == REPLICATE:
            if rejected <= self.match:
                return False
            self.next = self.match + 1
        else:
            if self.next - 1 != rejected:
                return False
            self.next = max(min(rejected, hint + 1), self.match + 1)
            self.paused = False
        self.sent_commit = min(self.sent_commit, self.next - 1)
        return True

    def check_invariants(self) -> None:
        """Assert the formulas above."""
        assert 0 <= self.match < self.next, self
        assert (self.state == SNAPSHOT) == (self.pending_snapshot != 0), self
        assert self.state == REPLICATE or self.inflights.count == 0, self

    def __repr__(self) -> str:
        parts = [f"{STATE_NAMES[self.state]} match={self.match} next={self.next}"]
        if self.is_learner:
            parts.append("learner")
        if self.is_paused():
            parts.append("paused")
        if self.pending_snapshot:
            parts.append(f"pendingSnap={self.pending_snapshot}")
        if not self.recent_active:
            parts.append("inactive")
        if self.inflights.count:
            parts.append(f"inflight={self.inflights.count}{'[full]' if self.inflights.is_full() else ''}")
        return " ".join(parts)
