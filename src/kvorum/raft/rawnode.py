"""A member and the protocol of its Readies (shape of etcd ``raft/rawnode.go``).

The shell's loop, for one Ready after the other::

    if node.has_ready():
        ready = node.ready()
        send ready.messages                                   # at once
        start writing ready.snapshot, ready.entries, ready.hard_state, synced if ready.must_sync
        apply ready.snapshot or ready.committed_entries       # meanwhile; on disk since an earlier Ready
            for each membership change: node.apply_conf_change(codec.conf_change_of(entry))
        node.applied_to(index of the last one applied)
        ... written:
        send ready.messages_after_persist
        node.advance()

A MsgSnap among the messages names the last snapshot created. The shell sends the state machine of that
moment or of a later one instead, with its index, term and configuration (etcd
``createMergedSnapshotMessage``): the last one created may be from before the receiver became a member, who
would then refuse it. What became of it has to be told by ``report_snapshot``, or the receiver is sent nothing
any more.

Between ``ready`` and ``advance`` everything else may be called: ``propose``, ``step``, ``tick``,
``read_index``, ``applied_to``, ``apply_conf_change``. What they bring goes into the next Ready. Only
``ready`` itself has to wait for ``advance``.

``applied_to`` is a call of its own and not part of ``advance``, because applying and writing end at
different times. It must follow the order of the log; a snapshot counts as applied to its index, and until
it is reported no committed entries are handed out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

from kvorum.raft import codec
from kvorum.raft.config import RaftConfig
from kvorum.raft.core import ROLE_NAMES, ProposalDropped, Raft
from kvorum.raft.log import RaftLog
from kvorum.raft.progress import STATE_NAMES
from kvorum.raft.reads import ReadState
from kvorum.raft.types import (
    CONF_CHANGE_ADD_NODE,
    EMPTY_SNAPSHOT,
    ENTRY_CONF_CHANGE,
    ENTRY_CONF_CHANGE_V2,
    MSG_APP_RESP,
    MSG_BEAT,
    MSG_CHECK_QUORUM,
    MSG_HEARTBEAT_RESP,
    MSG_HUP,
    MSG_PRE_VOTE_RESP,
    MSG_PROP,
    MSG_READ_INDEX,
    MSG_SNAP_STATUS,
    MSG_TRANSFER_LEADER,
    MSG_UNREACHABLE,
    MSG_VOTE_RESP,
    ConfChange,
    ConfChangeV2,
    ConfState,
    Entry,
    HardState,
    Message,
    Snapshot,
)

_LOCAL_MESSAGES = frozenset((MSG_HUP, MSG_BEAT, MSG_UNREACHABLE, MSG_SNAP_STATUS, MSG_CHECK_QUORUM))
_RESPONSES = frozenset((MSG_APP_RESP, MSG_VOTE_RESP, MSG_HEARTBEAT_RESP, MSG_PRE_VOTE_RESP))


@final
class SoftState:
    """What need not be remembered: who leads, and this member's role (FOLLOWER, CANDIDATE, ...)."""

    __slots__ = ("lead", "role")

    def __init__(self, lead: int, role: int) -> None:
        self.lead = lead
        self.role = role

    def __repr__(self) -> str:
        return f"SoftState(lead={self.lead:x}, {ROLE_NAMES[self.role]})"


@final
class Ready:
    """What has to be done now; not changed after it was made.

    - ``soft_state``, ``hard_state``: None if as before.
    - ``snapshot``: from the leader; replaces the state machine and the whole log. Empty if there is none.
    - ``entries``: to be written, before ``hard_state``; they replace whatever the log on disk has at their
      indexes and behind.
    - ``must_sync``: whether anything in here has to survive a power cut before the later messages leave.
      If not, ``hard_state`` has only moved its commit index, and may be written at leisure.
    - ``committed_entries``: to be applied, in order; on this member's disk since an earlier Ready.
    - ``messages`` may leave at once, ``messages_after_persist`` once this Ready is durable.
    - ``read_states``: reads that may be answered once their index is applied.
    """

    __slots__ = (
        "committed_entries",
        "entries",
        "hard_state",
        "messages",
        "messages_after_persist",
        "must_sync",
        "read_states",
        "snapshot",
        "soft_state",
    )

    def __init__(
        self,
        soft_state: SoftState | None,
        hard_state: HardState | None,
        snapshot: Snapshot,
        entries: list[Entry],
        must_sync: bool,
        committed_entries: list[Entry],
        messages: list[Message],
        messages_after_persist: list[Message],
        read_states: list[ReadState],
    ) -> None:
        self.soft_state = soft_state
        self.hard_state = hard_state
        self.snapshot = snapshot
        self.entries = entries
        self.must_sync = must_sync
        self.committed_entries = committed_entries
        self.messages = messages
        self.messages_after_persist = messages_after_persist
        self.read_states = read_states


@final
@dataclass(frozen=True)
class ProgressStatus:
    """One member as its leader sees it."""

    match: int
    next: int
    state: str
    is_learner: bool
    is_paused: bool
    recent_active: bool
    pending_snapshot: int
    inflight_messages: int
    inflight_bytes: int


@final
@dataclass(frozen=True)
class Status:
    """A look inside. ``progress`` is filled at the leader only."""

    id: int
    term: int
    vote: int
    commit: int
    applied: int
    lead: int
    role: int
    lead_transferee: int
    first_index: int
    last_index: int
    stable_index: int
    uncommitted_size: int
    pending_reads: int
    conf_state: ConfState
    progress: Mapping[int, ProgressStatus]

    @property
    def role_name(self) -> str:
        """etcd's name of the role, such as ``StateLeader``."""
        return ROLE_NAMES[self.role]


@final
class RawNode:
    """One member, driven by its shell as the module says.

    Args:
        config: how to take part.
        snapshot: the newest one on disk; its data is only needed if it is what lagging members are sent.
        hard_state: the last one on disk.
        entries: the log on disk after the snapshot; older ones are left out.
        applied: up to where the state machine already is; 0: up to the snapshot.
        conf_state: the configuration in force at ``applied``; None: the snapshot's.

    Raises:
        LogLostError: these don't fit together; the disk lost what this member had promised to keep.
        ConfChangeError: the configuration is impossible.
    """

    __slots__ = ("_hard_state", "_lead", "_raft", "_role", "_under_way", "_votes_under_way")

    def __init__(
        self,
        config: RaftConfig,
        *,
        snapshot: Snapshot = EMPTY_SNAPSHOT,
        hard_state: HardState | None = None,
        entries: Sequence[Entry] = (),
        applied: int = 0,
        conf_state: ConfState | None = None,
    ) -> None:
        hard_state = hard_state or HardState()
        log = RaftLog(snapshot, hard_state, entries, applied)
        conf = snapshot.metadata.conf_state if conf_state is None else conf_state
        self._raft = Raft(config, log, hard_state, conf)
        self._hard_state = hard_state
        self._lead = self._raft.lead
        self._role = self._raft.role
        self._under_way = False
        self._votes_under_way: list[Message] = []

    @classmethod
    def bootstrap(cls, config: RaftConfig, peers: Sequence[tuple[int, bytes]]) -> "RawNode":
        """A member of a new cluster: one committed AddNode entry for each ``(id, context)``, at term 1.

        Every member begins with the same log, so ``peers`` has to be the same everywhere, in order. The
        configuration is in force at once, so that a single voter may ``campaign`` before the first Ready; the
        entries are handed out to be applied all the same (etcd ``raft/bootstrap.go``).
        """
        if not peers:
            raise ValueError("must provide at least one peer to Bootstrap")
        node = cls(config)
        entries = [
            Entry(
                1,
                index,
                ENTRY_CONF_CHANGE,
                codec.encode_conf_change(ConfChange(CONF_CHANGE_ADD_NODE, peer, context)),
            )
            for index, (peer, context) in enumerate(peers, 1)
        ]
        voters = tuple(sorted({peer for peer, _ in peers}))
        node._raft.bootstrap(entries, ConfState(voters))
        return node

    # --- input --------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """One unit of time has passed (etcd: ``--heartbeat-interval``)."""
        self._raft.tick()

    def campaign(self) -> None:
        """Start an election now, if a voter that has applied every committed membership change."""
        self._raft.hup()

    def step(self, message: Message) -> None:
        """Take in a message from another member.

        Messages that only a shell may send, responses from members that are none, and proposals that can't be
        taken are ignored: whoever sent them can't be told, and tries again.

        Raises:
            LogLostError: it shows that this member lost what it had promised to keep; stop.
        """
        kind = message.type
        if kind in _LOCAL_MESSAGES or (kind in _RESPONSES and message.from_ not in self._raft.progress):
            return
        try:
            self._raft.step(message)
        except ProposalDropped:
            pass

    def propose(self, data: Sequence[bytes]) -> None:
        """Propose, all or nothing, one entry for each of ``data``; passed on if another member leads.

        Raises:
            ProposalDropped: no leader, or it hands over, or has too much uncommitted; try again later.
        """
        if data:
            self._raft.propose_data(data)

    def propose_conf_change(self, change: ConfChange | ConfChangeV2) -> None:
        """Propose a membership change; passed on if another member leads.

        A leader that still has one under way, or would have to leave a joint configuration first, logs an
        empty entry instead: the change never commits.

        Raises:
            ProposalDropped: as ``propose``.
        """
        if isinstance(change, ConfChange):
            entry = Entry(0, 0, ENTRY_CONF_CHANGE, codec.encode_conf_change(change))
        else:
            entry = Entry(0, 0, ENTRY_CONF_CHANGE_V2, codec.encode_conf_change_v2(change))
        self._raft.step(Message(MSG_PROP, from_=self._raft.id, entries=(entry,)))

    def read_index(self, context: bytes) -> None:
        """Ask for a linearizable read; the answer is a read state with this context, or never comes.

        It never comes if there is no leader, leadership changes, or a message is lost: ask again.
        """
        self._raft.step(Message(MSG_READ_INDEX, entries=(Entry(0, 0, data=context),)))

    def transfer_leadership(self, transferee: int) -> None:
        """Hand leadership to ``transferee``; proposals are dropped until then, or an election timeout."""
        self._raft.step(Message(MSG_TRANSFER_LEADER, from_=transferee))

    def report_unreachable(self, member: int) -> None:
        """The last message to ``member`` could not be sent."""
        self._raft.step(Message(MSG_UNREACHABLE, from_=member))

    def report_snapshot(self, member: int, ok: bool) -> None:
        """The snapshot sent to ``member`` arrived, or did not."""
        self._raft.step(Message(MSG_SNAP_STATUS, from_=member, reject=not ok))

    def step_down(self) -> None:
        """Stop leading, if leading: for a member whose disk no longer keeps up. No term is used up."""
        self._raft.step_down()

    # --- output -------------------------------------------------------------------------------------------

    def has_ready(self) -> bool:
        """Whether ``ready`` may be called and has anything to say."""
        raft = self._raft
        log = raft.log
        if self._under_way:
            return False
        return bool(
            raft.messages
            or raft.messages_after_persist
            or raft.read_states
            or raft.reads_unsent
            or raft.self_votes
            or log.has_unsaved()
            or log.has_committed()
            or log.has_untaken_snapshot()
            or raft.lead != self._lead
            or raft.role != self._role
            or self._hard_state_changed()
        )

    def ready(self) -> Ready:
        """Everything there is to do now; the next one only after ``advance``."""
        assert not self._under_way, "ready() before advance()"
        self._under_way = True
        raft = self._raft
        log = raft.log
        raft.send_reads()
        soft_state = None
        if raft.lead != self._lead or raft.role != self._role:
            self._lead, self._role = raft.lead, raft.role
            soft_state = SoftState(raft.lead, raft.role)
        entries = log.take_unsaved()
        snapshot = log.take_snapshot()
        must_sync = bool(entries) or snapshot is not EMPTY_SNAPSHOT
        hard_state = None
        if self._hard_state_changed():
            before, hard_state = self._hard_state, HardState(raft.term, raft.vote, log.committed)
            must_sync = must_sync or before.term != hard_state.term or before.vote != hard_state.vote
            self._hard_state = hard_state
        committed = log.take_committed(raft.max_committed_size_per_ready)
        if committed and raft.uncommitted_size:
            raft.committed_taken(codec.entries_size(committed))
        messages, raft.messages = raft.messages, []
        after, raft.messages_after_persist = raft.messages_after_persist, []
        reads, raft.read_states = raft.read_states, []
        self._votes_under_way, raft.self_votes = raft.self_votes, []
        return Ready(soft_state, hard_state, snapshot, entries, must_sync, committed, messages, after, reads)

    def advance(self) -> None:
        """The last Ready is durable."""
        assert self._under_way, "advance() without ready()"
        self._under_way = False
        votes, self._votes_under_way = self._votes_under_way, []
        self._raft.persisted(votes)

    def applied_to(self, index: int) -> None:
        """The state machine has taken in everything up to ``index`` (entries, or a snapshot at it)."""
        self._raft.applied_to(index)

    def apply_conf_change(self, change: ConfChange | ConfChangeV2) -> ConfState:
        """A committed change is applied; returns the configuration now in force, to be stored with the data.

        An application that decides against a change applies it with ``node_id`` 0.

        Raises:
            ConfChangeError: the change does not apply; nothing has changed, here or at any other member.
        """
        return self._raft.apply_conf_change(change.as_v2())

    def _hard_state_changed(self) -> bool:
        raft, before = self._raft, self._hard_state
        return raft.log.committed != before.commit or raft.term != before.term or raft.vote != before.vote

    # --- the log in memory --------------------------------------------------------------------------------

    def create_snapshot(self, index: int, conf_state: ConfState, data: bytes = b"") -> Snapshot:
        """The state machine at ``index`` was saved: members that lag too far behind are sent this snapshot.

        Raises:
            ValueError: ``index`` is not applied yet, or before the last snapshot.
        """
        return self._raft.log.create_snapshot(index, conf_state, data)

    def compact(self, index: int) -> None:
        """Forget the entries up to ``index``; nothing happens if they are gone already.

        Raises:
            ValueError: ``index`` is behind the last snapshot.
        """
        self._raft.log.compact(index)

    # --- looking inside -----------------------------------------------------------------------------------

    @property
    def is_leader(self) -> bool:
        """Whether this member leads, as far as it knows."""
        return self._raft.lead == self._raft.id

    @property
    def conf_change_under_way(self) -> bool:
        """Whether this leader would log an empty entry instead of a membership change now."""
        raft = self._raft
        return self.is_leader and (raft.pending_conf_index > raft.log.applied or raft.config.is_joint)

    @property
    def lead(self) -> int:
        """The leader's id as far as this member knows, NONE if it knows of none."""
        return self._raft.lead

    @property
    def term(self) -> int:
        """The current term."""
        return self._raft.term

    @property
    def commit(self) -> int:
        """The commit index."""
        return self._raft.log.committed

    @property
    def first_index(self) -> int:
        """The lowest index whose entry is in memory; behind a snapshot that has been received, its next."""
        return self._raft.log.first_index

    def status(self) -> Status:
        """A copy of what is going on."""
        raft, log = self._raft, self._raft.log
        progress: dict[int, ProgressStatus] = {}
        if self.is_leader:
            for member, pr in raft.progress.items():
                progress[member] = ProgressStatus(
                    pr.match,
                    pr.next,
                    STATE_NAMES[pr.state],
                    pr.is_learner,
                    pr.is_paused(),
                    pr.recent_active,
                    pr.pending_snapshot,
                    pr.inflights.count,
                    pr.inflights.size_bytes,
                )
        return Status(
            raft.id,
            raft.term,
            raft.vote,
            log.committed,
            log.applied,
            raft.lead,
            raft.role,
            raft.lead_transferee,
            log.first_index,
            log.last_index,
            log.stable,
            raft.uncommitted_size,
            len(raft.reads),
            raft.config.conf_state(),
            progress,
        )

    def check_invariants(self) -> None:
        """Assert what has to hold after every step. O(length of the log)."""
        self._raft.check_invariants()
