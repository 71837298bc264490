"""A cluster on one thread: members with disks and state machines, a network, and a judge of safety.

Nothing happens by itself: a test says who ticks, whose Ready is taken or made durable, which message arrives.
``settle`` does all there is to do until nothing is left. Messages pass through the codec, as on a wire. The
judge looks after every step; its rules are those of Raft Figure 3.
"""

import hashlib
import random
from collections.abc import Callable, Sequence
from typing import Any, cast

from kvorum.raft import codec, quorum
from kvorum.raft.confchange import ConfChangeError
from kvorum.raft.config import RaftConfig
from kvorum.raft.core import LEADER
from kvorum.raft.rawnode import RawNode, Ready
from kvorum.raft.types import (
    EMPTY_SNAPSHOT,
    ENTRY_NORMAL,
    MSG_SNAP,
    ConfState,
    Entry,
    HardState,
    Message,
    Snapshot,
    SnapshotMetadata,
)


def timeouts(seed: int = 0) -> Callable[[int], int]:
    """A source of election timeouts that is the same every time."""
    return random.Random(seed).randrange


class Disk:
    """What survives a crash: like the WAL, appends replace what was at their indexes and behind."""

    def __init__(self) -> None:
        self.snapshot = EMPTY_SNAPSHOT
        self.hard_state = HardState()
        self.entries: list[Entry] = []

    def write(self, ready: Ready) -> None:
        if ready.snapshot is not EMPTY_SNAPSHOT:
            self.save_snapshot(ready.snapshot)
        if ready.entries:
            first = ready.entries[0].index
            self.entries = [entry for entry in self.entries if entry.index < first] + ready.entries
        if ready.hard_state is not None:
            self.hard_state = ready.hard_state

    def save_snapshot(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        at = snapshot.metadata.index
        follows = any(entry.index == at and entry.term == snapshot.metadata.term for entry in self.entries)
        self.entries = [entry for entry in self.entries if entry.index > at] if follows else []

    def holds(self, index: int, term: int) -> bool:
        if index <= self.snapshot.metadata.index:
            return True
        return any(entry.index == index and entry.term == term for entry in self.entries)


class Machine:
    """A state machine whose state is a digest of everything applied, with the past it may fall back to."""

    def __init__(self) -> None:
        self.index = 0
        self.digest = b""
        self.conf_state = ConfState()
        self.past: dict[int, tuple[bytes, ConfState]] = {0: (b"", ConfState())}
        self.data: list[bytes] = []

    def apply(self, entry: Entry) -> None:
        assert entry.index == self.index + 1, (entry, self.index)
        self.index = entry.index
        said = repr((self.digest, entry.term, entry.type, entry.data)).encode()
        self.digest = hashlib.blake2b(said, digest_size=8).digest()
        if entry.type == ENTRY_NORMAL and entry.data:
            self.data.append(entry.data)
        self.note()

    def note(self) -> None:
        self.past[self.index] = (self.digest, self.conf_state)

    def restore(self, snapshot: Snapshot) -> None:
        self.index = snapshot.metadata.index
        self.digest = snapshot.data
        self.conf_state = snapshot.metadata.conf_state
        self.past = {}
        self.note()

    def fall_back(self, index: int) -> None:
        self.index = index
        self.digest, self.conf_state = self.past[index]


class Member:
    """A node with its disk and state machine. ``node`` is None while it is down."""

    def __init__(self, config: RaftConfig, node: RawNode) -> None:
        self.id = config.id
        self.config = config
        self.node: RawNode | None = node
        self.disk = Disk()
        self.machine = Machine()
        self.ready: Ready | None = None
        self.reads: dict[bytes, int] = {}
        self.roles: list[int] = []

    @property
    def raft(self) -> RawNode:
        assert self.node is not None, f"{self.id} is down"
        return self.node

    def log(self) -> list[tuple[int, int]]:
        """``(term, index)`` of every entry in memory."""
        log = self.raft._raft.log
        return [(entry.term, entry.index) for entry in log.slice(log.first_index, log.last_index + 1)]

    def take(self) -> list[Message]:
        """Take a Ready and apply what it hands out; what may be sent at once."""
        ready = self.ready = self.raft.ready()
        if ready.soft_state is not None:
            self.roles.append(ready.soft_state.role)
        if ready.snapshot is not EMPTY_SNAPSHOT:
            assert not ready.committed_entries
        for entry in ready.committed_entries:
            assert self.disk.holds(entry.index, entry.term), "applied before it was durable"
            self._apply(entry)
        if ready.committed_entries:
            self.raft.applied_to(self.machine.index)
        for state in ready.read_states:
            self.reads[state.context] = state.index
        return ready.messages

    def persist(self) -> list[Message]:
        """Make the Ready under way durable; what may be sent only now."""
        ready, self.ready = self.ready, None
        assert ready is not None
        self.disk.write(ready)
        if ready.snapshot is not EMPTY_SNAPSHOT:
            self.machine.restore(ready.snapshot)
            self.raft.applied_to(self.machine.index)
        self.raft.advance()
        return ready.messages_after_persist

    def _apply(self, entry: Entry) -> None:
        if entry.type != ENTRY_NORMAL:
            try:
                self.machine.conf_state = self.raft.apply_conf_change(codec.conf_change_of(entry))
            except ConfChangeError:
                pass
        self.machine.apply(entry)

    def snapshot(self, keep: int = 0) -> None:
        """Save the state machine and forget the log before it but for ``keep`` entries."""
        machine = self.machine
        snapshot = self.raft.create_snapshot(machine.index, machine.conf_state, machine.digest)
        self.disk.save_snapshot(snapshot)
        self.raft.compact(machine.index - keep)

    def current(self) -> Snapshot:
        """The state machine as it is."""
        machine = self.machine
        term = self.raft._raft.log.term(machine.index)
        return Snapshot(machine.digest, SnapshotMetadata(machine.conf_state, machine.index, term))

    def crash(self, applied: int | None = None) -> None:
        """Lose everything that is not on disk; the state machine falls back to ``applied``."""
        self.node = None
        self.ready = None
        if applied is not None:
            self.machine.fall_back(applied)

    def restart(self) -> None:
        self.node = RawNode(
            self.config,
            snapshot=self.disk.snapshot,
            hard_state=self.disk.hard_state,
            entries=self.disk.entries,
            applied=self.machine.index,
            conf_state=self.machine.conf_state,
        )


class Judge:
    """Raft Figure 3, over everything that ever happened."""

    def __init__(self) -> None:
        self.leaders: dict[int, int] = {}
        self.entries: dict[tuple[int, int], tuple[int, bytes, int]] = {}
        self.committed: dict[int, int] = {}
        self.applied: dict[int, bytes] = {}
        self._commit_seen: dict[int, int] = {}

    def look(self, member: Member, members: dict[int, Member]) -> None:
        if member.node is None:
            return
        member.node.check_invariants()
        raft = member.node._raft
        self._log_matching(member)
        if raft.role == LEADER:
            self._election_safety(member)
        self._commits(member, members)
        self._state_machine_safety(member)

    def _election_safety(self, member: Member) -> None:
        """At most one leader in a term; and it has everything that was committed (Leader Completeness)."""
        raft = member.raft._raft
        first = self.leaders.setdefault(raft.term, member.id)
        assert first == member.id, f"term {raft.term} is led by {first} and by {member.id}"
        for index, term in self.committed.items():
            if index > raft.log.offset and term <= raft.term:
                assert raft.log.term(index) == term, f"leader {member.id} lacks committed {term}/{index}"

    def _log_matching(self, member: Member) -> None:
        """Two entries of the same term and index are the same, and so is all before them."""
        log = member.raft._raft.log
        previous = log.offset_term
        for entry in log.slice(log.first_index, log.last_index + 1):
            said = (entry.type, entry.data, previous)
            assert self.entries.setdefault((entry.term, entry.index), said) == said, entry
            previous = entry.term

    def _commits(self, member: Member, members: dict[int, Member]) -> None:
        raft = member.raft._raft
        seen = self._commit_seen.get(member.id, 0)
        for index in range(max(seen, raft.log.offset) + 1, raft.log.committed + 1):
            term = raft.log.term(index)
            if index not in self.committed and raft.role == LEADER:
                held = {other.id: int(other.disk.holds(index, term)) for other in members.values()}
                halves = (raft.config.voters, raft.config.voters_outgoing)
                assert quorum.joint_committed_index(*halves, held) >= 1, f"{index} is on no majority of disks"
            assert self.committed.setdefault(index, term) == term, f"two entries committed at {index}"
        self._commit_seen[member.id] = raft.log.committed

    def _state_machine_safety(self, member: Member) -> None:
        machine = member.machine
        for index, (digest, _) in machine.past.items():
            assert self.applied.setdefault(index, digest) == digest, (
                f"{member.id} applied another entry at {index}"
            )

    def forget(self, member: int) -> None:
        """The member crashed: its commit index may fall back."""
        self._commit_seen.pop(member, None)

    @property
    def last_applied(self) -> int:
        return max(self.applied, default=0)


class Cluster:
    """Members and what is under way between them."""

    def __init__(self, size: int, *, seed: int = 0, **options: int) -> None:
        self.options = options
        self.seed = seed
        peers = [(peer, b"") for peer in range(1, size + 1)]
        self.members: dict[int, Member] = {}
        self.wire: list[Message] = []
        self.cuts: set[tuple[int, int]] = set()
        self.lost: Callable[[Message], bool] = lambda message: False
        self.sent: list[Message] = []
        self.judge = Judge()
        for peer, _ in peers:
            config = self.config(peer)
            self.members[peer] = Member(config, RawNode.bootstrap(config, peers))
        self.settle()

    def config(self, member: int) -> RaftConfig:
        options = cast("dict[str, Any]", self.options)
        return RaftConfig(id=member, random=timeouts(self.seed * 100 + member), **options)

    def __getitem__(self, member: int) -> Member:
        return self.members[member]

    def join(self, member: int) -> Member:
        """Start a member that knows nothing yet; a membership change brings it in."""
        config = self.config(member)
        joined = self.members[member] = Member(config, RawNode(config))
        return joined

    # --- network ------------------------------------------------------------------------------------------

    def isolate(self, *apart: int) -> None:
        """Cut every link between the members named and the others."""
        for a in apart:
            for b in self.members:
                if b not in apart:
                    self.cuts |= {(a, b), (b, a)}

    def cut(self, sender: int, receiver: int) -> None:
        self.cuts.add((sender, receiver))

    def heal(self) -> None:
        self.cuts.clear()
        self.lost = lambda message: False

    def send(self, messages: Sequence[Message]) -> None:
        self.sent.extend(messages)
        for message in messages:
            if (
                (message.from_, message.to) in self.cuts
                or message.to not in self.members
                or self.lost(message)
            ):
                self.lose(message)
                continue
            if message.type == MSG_SNAP:
                # As etcd's shell does: what leaves is the state machine of now, not that of the last
                # snapshot, whose configuration may not know the receiver yet.
                message.snapshot = self.members[message.from_].current()
            self.wire.append(message)

    def lose(self, message: Message) -> None:
        """The message does not arrive; a shell that sends a snapshot notices that, and has to say so."""
        sender = self.members[message.from_]
        if message.type == MSG_SNAP and sender.node is not None:
            sender.raft.report_snapshot(message.to, False)

    def deliver(self, message: Message) -> None:
        """The message arrives, over the wire's bytes; whoever is down loses it."""
        receiver, sender = self.members[message.to], self.members[message.from_]
        if receiver.node is None:
            self.lose(message)
            return
        receiver.raft.step(codec.decode_message(codec.encode_message(message)))
        self.judge.look(receiver, self.members)
        if message.type == MSG_SNAP and sender.node is not None:
            sender.raft.report_snapshot(receiver.id, True)
            self.judge.look(sender, self.members)

    # --- steps --------------------------------------------------------------------------------------------

    def take(self, member: Member) -> None:
        self.send(member.take())
        self.judge.look(member, self.members)

    def persist(self, member: Member) -> None:
        self.send(member.persist())
        self.judge.look(member, self.members)

    def settle(self) -> None:
        """Do all there is to do until nothing is left."""
        busy = True
        while busy:
            busy = False
            for member in list(self.members.values()):
                if member.node is None:
                    continue
                if member.ready is not None:
                    self.persist(member)
                    busy = True
                while member.raft.has_ready():
                    self.take(member)
                    self.persist(member)
                    busy = True
            while self.wire:
                self.deliver(self.wire.pop(0))
                busy = True

    def campaign(self, member: int) -> None:
        """Let a member start an election, and everything follow from it."""
        self[member].raft.campaign()
        self.settle()

    def propose(self, member: int, *data: bytes) -> None:
        self[member].raft.propose(list(data))
        self.settle()

    def tick(self, times: int = 1, *, only: Sequence[int] = ()) -> None:
        for _ in range(times):
            for member in list(self.members.values()):
                if member.node is not None and (not only or member.id in only):
                    member.raft.tick()
                    self.judge.look(member, self.members)
            self.settle()

    def crash(self, member: int) -> None:
        self[member].crash()
        self.judge.forget(member)

    def restart(self, member: int) -> None:
        self[member].restart()
        self.settle()

    def leader(self) -> int:
        """The one member that leads in the highest term, NONE if nobody does."""
        leading = [m for m in self.members.values() if m.node is not None and m.raft.is_leader]
        return max(leading, key=lambda m: m.raft.term).id if leading else 0

    def agreed(self) -> list[bytes]:
        """What every member that is up has applied; asserts that it is the same."""
        states = {m.id: m.machine.data for m in self.members.values() if m.node is not None}
        first = next(iter(states.values()))
        assert all(state == first for state in states.values()), states
        return first
