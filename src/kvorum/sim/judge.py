"""Raft's own promises, held across all members after every step (Raft Figure 3, and what makes them true).

| checker | promise | Raft |
|---|---|---|
| ``member-invariants`` | ``RawNode.check_invariants`` of whoever has done something, on a sample of steps | |
| ``election-safety`` | one leader in a term; one vote per member and term, also across crashes | §5.2 |
| ``log-matching`` | same term and index: same entry, same log before it | §5.3 |
| ``leader-completeness`` | a new leader has every entry that was committed | §5.4 |
| ``commit-rule`` | what a leader commits is synced on a majority of disks, and of its own term | §5.4.2 |
| ``persist-before-send`` | a vote or an acknowledgement leaves when what it says is synced | Fig. 2 |
| ``state-machine-safety`` | all members apply the same entry at an index, each once and in order | §5.4.3 |
| ``recovery`` | a restart finds all that was synced: term, vote and entries | Fig. 2 |
| ``configuration`` | one change at a time; every member that applied one has the same configuration | §6 |

"Synced" is what the simulated disk has been told to sync and has said it did (``machine.SimulatedWriter``),
not what the member believes.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, final

from kvorum.raft.confchange import Configuration
from kvorum.raft.core import LEADER, Raft
from kvorum.raft.types import (
    ENTRY_NORMAL,
    MSG_APP_RESP,
    MSG_VOTE,
    MSG_VOTE_RESP,
    NONE,
    ConfState,
    Entry,
    Message,
)
from kvorum.sim.machine import Written
from kvorum.sim.trace import Trace, ViolationError

if TYPE_CHECKING:
    from kvorum.sim.member import Member, Running


def _is_quorum(config: Configuration, members: set[int]) -> bool:
    """Whether these members can decide: a majority of the voters, and of the outgoing ones if any."""
    halves = (config.voters, config.voters_outgoing)
    return all(2 * len(members & half) > len(half) for half in halves if half)


SAMPLE: Final = 8
"""Every so many-th step of a member checks all of its own invariants."""


def raft_of(running: "Running") -> Raft:
    """The state machine inside a member."""
    return running.begun.raft._raft


@final
class Held:
    """What a member's disk has for certain."""

    __slots__ = ("base", "base_term", "term", "terms", "vote")

    def __init__(self) -> None:
        self.term = 0
        self.vote = NONE
        self.base = 0
        self.base_term = 0
        self.terms: list[int] = []
        """Terms of the entries behind ``base``."""

    @property
    def last(self) -> int:
        """Index of the last entry."""
        return self.base + len(self.terms)

    @property
    def last_term(self) -> int:
        """Term of the last entry."""
        return self.terms[-1] if self.terms else self.base_term

    def has(self, index: int, term: int) -> bool:
        """Whether the entry is on this disk, be it in a snapshot."""
        if index <= self.base:
            return True
        return index <= self.last and self.terms[index - self.base - 1] == term

    def take(self, written: Written) -> None:
        """A batch has been synced."""
        if written.marker is not None and written.marker.index > self.base:
            self.base, self.base_term, self.terms = written.marker.index, written.marker.term, []
        if written.entries:
            first = written.entries[0].index
            del self.terms[max(0, first - self.base - 1) :]
            self.terms += [entry.term for entry in written.entries if entry.index > self.base]
        if written.hard_state is not None:
            self.term, self.vote = written.hard_state.term, written.hard_state.vote


@final
class _Seen:
    """What the judge saw of a member at its last step."""

    __slots__ = ("applied", "committed", "config", "key", "steps", "terms")

    def __init__(self) -> None:
        self.key: tuple[int, ...] = ()
        self.committed = 0
        self.applied = 0
        self.config = Configuration()
        self.steps = 0
        self.terms: dict[int, int] = {}


@final
class Judge:
    """See the module."""

    def __init__(self, trace: Trace, members: dict[int, "Member"]) -> None:
        self._trace: Final = trace
        self._members: Final = members
        self.leaders: Final[dict[int, int]] = {}
        self.committed: Final[dict[int, int]] = {}
        self.last_committed = 0
        self.applied: Final[dict[int, tuple[int, int, bytes]]] = {}
        self._entries: Final[dict[tuple[int, int], tuple[int, bytes, int]]] = {}
        self._votes: Final[dict[tuple[int, int], int]] = {}
        self._configurations: Final[dict[int, ConfState]] = {}
        self.held: Final[dict[int, Held]] = {}
        self._seen: Final[dict[int, _Seen]] = {}
        self.steps = 0

    # --- a member has done something ------------------------------------------------------------------------

    def look(self, member: "Member") -> None:
        """After every step of a member."""
        running = member.running
        if running is None:
            return
        self.steps += 1
        seen = self._seen[member.id]
        raft = raft_of(running)
        log = raft.log
        key = (
            raft.term, raft.role, raft.vote, log.last_index, log.last_term, log.offset, log.committed,
            log.applied, log.stable,
        )  # fmt: skip
        if key == seen.key:
            return
        seen.key = key
        seen.steps += 1
        if seen.steps % SAMPLE == 0:
            self._own_invariants(member, running)
        self._log_matching(member, raft, seen)
        if raft.role == LEADER and raft.term not in self.leaders:
            self._new_leader(member, raft)
        elif raft.role == LEADER and self.leaders[raft.term] != member.id:
            other = self._members[self.leaders[raft.term]]
            raise ViolationError(
                "election-safety", f"term {raft.term} is led by {other.name} and by {member.name}"
            )
        if log.committed > seen.committed:
            self._commits(member, raft, seen)
        seen.config = raft.config

    def _own_invariants(self, member: "Member", running: "Running") -> None:
        try:
            running.begun.raft.check_invariants()
            running.begun.wal.check_invariants()
        except AssertionError as error:
            raise ViolationError("member-invariants", f"{member.name}: {error!r}") from error

    def _log_matching(self, member: "Member", raft: Raft, seen: _Seen) -> None:
        log = raft.log
        terms = seen.terms
        for index in range(log.last_index, log.offset, -1):
            term = log.term(index)
            if terms.get(index) == term:
                break
            terms[index] = term
            (entry,) = log.slice(index, index + 1)
            if entry.type != ENTRY_NORMAL and (term, index) not in self._entries:
                self._one_change_at_a_time(member, raft, index)
            said = (entry.type, entry.data, log.term(index - 1))
            if self._entries.setdefault((term, index), said) != said:
                raise ViolationError(
                    "log-matching", f"{member.name} has another entry {term}/{index}, or behind another one"
                )
        for index in range(log.last_index + 1, log.last_index + 1 + len(terms)):
            if terms.pop(index, None) is None:
                break

    def _one_change_at_a_time(self, member: "Member", raft: Raft, index: int) -> None:
        """A membership change enters the log only when the one before is committed (thesis §4.1)."""
        log = raft.log
        if raft.role != LEADER:
            return
        for before in range(max(self.last_committed, log.committed) + 1, index):
            if log.slice(before, before + 1)[0].type != ENTRY_NORMAL:
                raise ViolationError(
                    "configuration",
                    f"{member.name} logs a membership change at {index}, while {before} is not committed",
                )

    def _new_leader(self, member: "Member", raft: Raft) -> None:
        self.leaders[raft.term] = member.id
        self._trace.note(f"{member.name} leads term {raft.term}")
        log = raft.log
        for index in range(self.last_committed, 0, -1):
            if index <= log.offset:
                break
            term = self.committed[index]
            if term <= raft.term and log.term(index) != term:
                raise ViolationError(
                    "leader-completeness",
                    f"{member.name} leads term {raft.term} and lacks {term}/{index}, which is committed",
                )

    def _vote(self, term: int, voter: int, candidate: int) -> None:
        if candidate == NONE:
            return
        before = self._votes.setdefault((term, voter), candidate)
        if before != candidate:
            raise ViolationError(
                "election-safety", f"{voter:x} votes for {before:x} and for {candidate:x} in term {term}"
            )

    def _commits(self, member: "Member", raft: Raft, seen: _Seen) -> None:
        log = raft.log
        for index in range(max(seen.committed, log.offset) + 1, log.committed + 1):
            term = log.term(index)
            known = self.committed.get(index)
            if known is None:
                self.committed[index] = term
                self.last_committed = max(self.last_committed, index)
            elif known != term:
                raise ViolationError(
                    "state-machine-safety",
                    f"{member.name} commits {term}/{index}, where {known}/{index} was committed",
                )
        if raft.role == LEADER and log.committed > log.offset:
            self._on_majority(member, raft, log.committed, seen)
        seen.committed = log.committed

    def _on_majority(self, member: "Member", raft: Raft, index: int, seen: _Seen) -> None:
        term = raft.log.term(index)
        on_disk = {m for m, held in self.held.items() if held.has(index, term)}
        # Committed and applied in one step, the entry may be what changed the configuration.
        if not any(_is_quorum(config, on_disk) for config in (raft.config, seen.config)):
            raise ViolationError(
                "commit-rule", f"{member.name} commits {term}/{index}, which is on no majority of disks"
            )
        if term != raft.term:
            raise ViolationError(
                "commit-rule", f"{member.name} commits {term}/{index} by counting, in term {raft.term}"
            )

    # --- what leaves a member -----------------------------------------------------------------------------

    def sent(self, member: "Member", message: Message) -> None:
        """A member sends a message."""
        kind = message.type
        held = self.held[member.id]
        if kind == MSG_VOTE_RESP and not message.reject:
            self._vote(message.term, member.id, message.to)
            self._is_durable(member, held, message.term, message.to)
        elif kind == MSG_VOTE:
            self._vote(message.term, member.id, member.id)
            self._is_durable(member, held, message.term, member.id)
        elif kind == MSG_APP_RESP and not message.reject and message.index:
            self._is_held(member, held, message)

    def _is_held(self, member: "Member", held: Held, message: Message) -> None:
        if held.last < message.index or held.term < message.term:
            raise ViolationError(
                "persist-before-send",
                f"{member.name} acknowledges entry {message.index} in term {message.term}; synced are"
                f" {held.last} and {held.term}",
            )

    def _is_durable(self, member: "Member", held: Held, term: int, vote: int) -> None:
        if (held.term == term and held.vote != vote) or held.term < term:
            raise ViolationError(
                "persist-before-send",
                f"{member.name} sends its vote of term {term} for {vote:x}; synced is {held.vote:x} of"
                f" term {held.term}",
            )

    # --- the disk -----------------------------------------------------------------------------------------

    def durable(self, member: "Member", batches: Sequence[Written]) -> None:
        """A sync has ended."""
        held = self.held[member.id]
        for written in batches:
            held.take(written)

    def started(self, member: "Member", is_durable: bool) -> None:
        """A member has recovered. ``is_durable``: no power cut could take back what it has found."""
        running = member.running
        assert running is not None, "it has just started"
        raft = raft_of(running)
        log = raft.log
        on_disk = running.begun.raft._hard_state
        found = Held()
        found.term, found.vote = on_disk.term, on_disk.vote
        found.base, found.base_term = log.offset, log.offset_term
        found.terms = [log.term(index) for index in range(log.offset + 1, log.stable + 1)]
        before = self.held.get(member.id)
        if before is None:
            before = self.held[member.id] = Held()
        self._compare(member, before, found)
        if is_durable:
            self.held[member.id] = found
        seen = self._seen[member.id] = _Seen()
        seen.committed = log.offset
        seen.applied = running.begun.store.consistent_index
        self.look(member)
        self._still_committed(member)

    def _compare(self, member: "Member", before: Held, found: Held) -> None:
        """What was synced must have been found, or what a write that was under way replaced it by."""
        if found.term < before.term or (
            found.term == before.term and before.vote != NONE and found.vote != before.vote
        ):
            raise ViolationError(
                "recovery",
                f"{member.name} had synced its vote for {before.vote:x} in term {before.term}, and finds"
                f" {found.vote:x} in term {found.term}",
            )
        if (found.last_term, found.last) < (before.last_term, before.last):
            raise ViolationError(
                "recovery",
                f"{member.name} had synced its log to {before.last_term}/{before.last}, and finds"
                f" {found.last_term}/{found.last}",
            )

    def _still_committed(self, member: "Member") -> None:
        """Nobody can win an election without somebody whose disk has the newest committed entry."""
        index = self.last_committed
        if not index:
            return
        term = self.committed[index]
        without = {m for m, held in self.held.items() if not held.has(index, term)}
        for other in self._members.values():
            if other.running is None or other.running.node.applied_index < index:
                continue
            if _is_quorum(raft_of(other.running).config, without):
                raise ViolationError(
                    "commit-rule",
                    f"{term}/{index} was committed, and since {member.name} came back a majority of disks"
                    " lacks it",
                )
            return

    # --- the state machine --------------------------------------------------------------------------------

    def apply(self, member: "Member", entry: Entry) -> bool:
        """A member applies an entry; whether it is the first to do so."""
        running = member.running
        assert running is not None, "it applies"
        seen = self._seen[member.id]
        if entry.index != seen.applied + 1:
            raise ViolationError(
                "state-machine-safety",
                f"{member.name} applies {entry.index} after {seen.applied}: each entry once, and in order",
            )
        seen.applied = entry.index
        said = (entry.term, entry.type, entry.data)
        first = entry.index not in self.applied
        if self.applied.setdefault(entry.index, said) != said:
            raise ViolationError(
                "state-machine-safety",
                f"{member.name} applies {entry!r} where {self.applied[entry.index]} was applied",
            )
        if self.committed.get(entry.index, entry.term) != entry.term:
            raise ViolationError("state-machine-safety", f"{member.name} applies what is not committed")
        return first

    def installed(self, member: "Member", index: int) -> None:
        """A member has replaced its state by a snapshot."""
        self._seen[member.id].applied = index

    def configured(self, member: "Member", index: int) -> None:
        """A member has applied everything up to ``index``, membership changes among it."""
        running = member.running
        if running is None:
            return
        state = raft_of(running).config.conf_state()
        if self._configurations.setdefault(index, state) != state:
            raise ViolationError(
                "configuration",
                f"{member.name} has {state} at {index}, another {self._configurations[index]}",
            )
