"""Linearizable reads without a log entry: ReadIndex (thesis §6.4).

The leader notes its commit index, then makes sure that it still leads by hearing from a majority; whoever
asked may then read its own state machine, once that has applied the noted index. Requests are numbered in the
order they came; a heartbeat carries the number of the newest one, and its answer confirms that one and all
before it, so that any number of reads costs one round of heartbeats.

Clock-based leases are deliberately not here: a paused process would read stale data.
"""

from typing import Final, final

from kvorum.raft import quorum
from kvorum.raft.confchange import Configuration
from kvorum.raft.types import Message

_CONTEXT_BYTES: Final = 8


@final
class ReadState:
    """A read may proceed once ``index`` is applied; ``context`` is what the reader passed."""

    __slots__ = ("context", "index")

    def __init__(self, index: int, context: bytes) -> None:
        self.index = index
        self.context = context

    def __repr__(self) -> str:
        return f"ReadState({self.index}, {self.context!r})"


@final
class PendingReads:
    """The leader's reads that wait for a majority, oldest first, all of the current term.

    Invariants::

        request number n is pending ⇔ confirmed < n ≤ confirmed + |pending|
        every acks[v] ≤ confirmed + |pending|
        the commit index noted by a later request is never lower
    """

    __slots__ = ("_acks", "_confirmed", "_pending")

    def __init__(self) -> None:
        self._pending: list[tuple[int, Message]] = []
        self._confirmed = 0
        self._acks: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._pending)

    def add(self, committed: int, request: Message) -> None:
        """Number a request and note the index that answers it."""
        self._pending.append((committed, request))

    def context(self) -> bytes:
        """What the next heartbeat carries: the newest request's number, or nothing if none waits."""
        if not self._pending:
            return b""
        return (self._confirmed + len(self._pending)).to_bytes(_CONTEXT_BYTES, "little")

    def acknowledge(self, member: int, context: bytes) -> None:
        """``member`` answered a heartbeat of this term that carried ``context``."""
        if len(context) != _CONTEXT_BYTES:
            return
        number = int.from_bytes(context, "little")
        if self._acks.get(member, 0) < number <= self._confirmed + len(self._pending):
            self._acks[member] = number

    def take_confirmed(self, config: Configuration) -> list[tuple[int, Message]]:
        """Remove and return ``(index, request)`` of every read that a majority has confirmed."""
        if not self._pending:
            return []
        number = quorum.joint_committed_index(config.voters, config.voters_outgoing, self._acks)
        count = min(number - self._confirmed, len(self._pending))
        if count <= 0:
            return []
        confirmed = self._pending[:count]
        del self._pending[:count]
        self._confirmed += count
        return confirmed
