"""The nouns of Raft: what is logged, what members say to each other, what must be remembered.

These are plain mirrors of ``raftpb`` (etcd ``raft/raftpb/raft.proto``); ``raft/codec.py`` turns them into
bytes and back. The hot ones (``Entry``, ``Message``, ``HardState``) are slotted classes, because a hundred
thousand of them a second pass through the log; the cold ones are frozen dataclasses. None of them is changed
after it was made, which is what allows the log, a Ready and a message on its way to share one object.

An absent bytes field and an empty one are the same thing here, ``b""``, and are written as absent: nothing in
etcd tells them apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

NONE: Final = 0
"""No member: the leader when there is none, the vote when none was cast (etcd ``raft.None``)."""

# EntryType
ENTRY_NORMAL: Final = 0
ENTRY_CONF_CHANGE: Final = 1
"""The data is a ConfChange."""
ENTRY_CONF_CHANGE_V2: Final = 2
"""The data is a ConfChangeV2; no data at all is the one that leaves a joint configuration."""

# MessageType
MSG_HUP: Final = 0
MSG_BEAT: Final = 1
MSG_PROP: Final = 2
MSG_APP: Final = 3
MSG_APP_RESP: Final = 4
MSG_VOTE: Final = 5
MSG_VOTE_RESP: Final = 6
MSG_SNAP: Final = 7
MSG_HEARTBEAT: Final = 8
MSG_HEARTBEAT_RESP: Final = 9
MSG_UNREACHABLE: Final = 10
MSG_SNAP_STATUS: Final = 11
MSG_CHECK_QUORUM: Final = 12
MSG_TRANSFER_LEADER: Final = 13
MSG_TIMEOUT_NOW: Final = 14
MSG_READ_INDEX: Final = 15
MSG_READ_INDEX_RESP: Final = 16
MSG_PRE_VOTE: Final = 17
MSG_PRE_VOTE_RESP: Final = 18

MESSAGE_NAMES: Final = (
    "MsgHup",
    "MsgBeat",
    "MsgProp",
    "MsgApp",
    "MsgAppResp",
    "MsgVote",
    "MsgVoteResp",
    "MsgSnap",
    "MsgHeartbeat",
    "MsgHeartbeatResp",
    "MsgUnreachable",
    "MsgSnapStatus",
    "MsgCheckQuorum",
    "MsgTransferLeader",
    "MsgTimeoutNow",
    "MsgReadIndex",
    "MsgReadIndexResp",
    "MsgPreVote",
    "MsgPreVoteResp",
)
"""etcd's names of the message types, by number."""

# ConfChangeType
CONF_CHANGE_ADD_NODE: Final = 0
CONF_CHANGE_REMOVE_NODE: Final = 1
CONF_CHANGE_UPDATE_NODE: Final = 2
"""Changes nothing for Raft; etcd threads a member's new addresses through it."""
CONF_CHANGE_ADD_LEARNER_NODE: Final = 3

# ConfChangeTransition
TRANSITION_AUTO: Final = 0
"""One step if one change, else joint with automatic leaving."""
TRANSITION_JOINT_IMPLICIT: Final = 1
"""Joint, left automatically."""
TRANSITION_JOINT_EXPLICIT: Final = 2
"""Joint until the application proposes an empty ConfChangeV2."""


@final
class Entry:
    """One position of the log: ``(term, index)`` names it in the whole cluster (Raft §5.3, Log Matching).

    ``data`` is empty in the entry a new leader opens its term with and in the one that leaves a joint
    configuration.
    """

    __slots__ = ("data", "index", "term", "type")

    def __init__(self, term: int, index: int, type: int = ENTRY_NORMAL, data: bytes = b"") -> None:  # noqa: A002
        self.term = term
        self.index = index
        self.type = type
        self.data = data

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Entry):
            return NotImplemented
        return (
            self.term == other.term
            and self.index == other.index
            and self.type == other.type
            and self.data == other.data
        )

    def __hash__(self) -> int:
        return hash((self.term, self.index))

    def __repr__(self) -> str:
        kind = ("", " ConfChange", " ConfChangeV2")[self.type]
        return f"<{self.term}/{self.index}{kind} {self.data!r}>"


@final
class HardState:
    """What a member must remember before it answers: term, vote, a hint of the commit index (Raft Figure 2).

    ``term = 0 ⇒ vote = 0 ∧ commit = 0``: a member that never heard of anything.
    """

    __slots__ = ("commit", "term", "vote")

    def __init__(self, term: int = 0, vote: int = NONE, commit: int = 0) -> None:
        self.term = term
        self.vote = vote
        self.commit = commit

    def is_empty(self) -> bool:
        """Whether nothing was ever remembered."""
        return self.term == 0 and self.vote == NONE and self.commit == 0

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, HardState):
            return NotImplemented
        return self.term == other.term and self.vote == other.vote and self.commit == other.commit

    def __hash__(self) -> int:
        return hash((self.term, self.vote, self.commit))

    def __repr__(self) -> str:
        return f"HardState(term={self.term}, vote={self.vote:x}, commit={self.commit})"


@final
@dataclass(frozen=True)
class ConfState:
    """Who votes. With ``voters_outgoing`` the configuration is joint and both majorities count (thesis §4.3).

    ``learners_next ⊆ voters_outgoing``: they become learners when the joint configuration is left.
    Each tuple is sorted.
    """

    voters: tuple[int, ...] = ()
    learners: tuple[int, ...] = ()
    voters_outgoing: tuple[int, ...] = ()
    learners_next: tuple[int, ...] = ()
    auto_leave: bool = False


@final
@dataclass(frozen=True)
class SnapshotMetadata:
    """The last entry a snapshot stands for, and the configuration in force there."""

    conf_state: ConfState = ConfState()
    index: int = 0
    term: int = 0


@final
@dataclass(frozen=True)
class Snapshot:
    """The state machine at ``metadata.index``; index 0 is no snapshot."""

    data: bytes = b""
    metadata: SnapshotMetadata = SnapshotMetadata()

    def is_empty(self) -> bool:
        """Whether this is no snapshot at all."""
        return self.metadata.index == 0


EMPTY_SNAPSHOT: Final = Snapshot()


@final
@dataclass(frozen=True)
class ConfChangeSingle:
    """One step of a membership change. ``node_id`` 0: the application decided against it, no effect."""

    type: int
    node_id: int


@final
@dataclass(frozen=True)
class ConfChangeV2:
    """Any number of changes at once; more than one goes through joint consensus.

    Without a transition and without changes (the context does not count) it leaves a joint configuration.
    """

    transition: int = TRANSITION_AUTO
    changes: tuple[ConfChangeSingle, ...] = ()
    context: bytes = b""

    def leaves_joint(self) -> bool:
        """Whether this is the change that drops the outgoing configuration."""
        return self.transition == TRANSITION_AUTO and not self.changes

    def enters_joint(self) -> bool:
        """Whether applying this makes the configuration joint."""
        return self.transition != TRANSITION_AUTO or len(self.changes) > 1

    def auto_leaves(self) -> bool:
        """Whether Raft itself leaves the joint configuration that this one enters."""
        return self.transition != TRANSITION_JOINT_EXPLICIT

    def as_v2(self) -> "ConfChangeV2":
        """The change itself."""
        return self


@final
@dataclass(frozen=True)
class ConfChange:
    """One change in one step. ``id`` and ``context`` are the application's (request ID, member JSON)."""

    type: int
    node_id: int
    context: bytes = b""
    id: int = 0

    def as_v2(self) -> ConfChangeV2:
        """The same change in the general form (the ``id`` has no place there)."""
        return ConfChangeV2(changes=(ConfChangeSingle(self.type, self.node_id),), context=self.context)


@final
class Message:
    """What one member says to another, or a shell to its own member (type and ``from_`` tell which).

    Fields and their meaning by type are raftpb's. Most of them are zero in most messages:

    - MsgApp: entries follow ``(index, log_term)``; ``commit`` is the sender's.
    - MsgAppResp: ``index`` is the last one known to match; when ``reject``, ``index`` is the refused one and
      ``(reject_hint, log_term)`` the last point where the two logs may agree.
    - MsgVote, MsgPreVote: ``(index, log_term)`` is the candidate's last entry; ``term`` the one it wants.
    - MsgReadIndex, MsgReadIndexResp: the only entry's data is the reader's context; ``index`` the answer.
    - MsgHeartbeat, MsgHeartbeatResp: ``context`` of the newest read waiting for acknowledgement.
    - MsgTransferLeader: ``from_`` is the member that shall lead.
    """

    __slots__ = (
        "commit",
        "context",
        "entries",
        "from_",
        "index",
        "log_term",
        "reject",
        "reject_hint",
        "snapshot",
        "term",
        "to",
        "type",
    )

    def __init__(
        self,
        type: int,  # noqa: A002
        to: int = NONE,
        from_: int = NONE,
        term: int = 0,
        log_term: int = 0,
        index: int = 0,
        entries: Sequence[Entry] = (),
        commit: int = 0,
        snapshot: Snapshot = EMPTY_SNAPSHOT,
        reject: bool = False,
        reject_hint: int = 0,
        context: bytes = b"",
    ) -> None:
        self.type = type
        self.to = to
        self.from_ = from_
        self.term = term
        self.log_term = log_term
        self.index = index
        self.entries = entries
        self.commit = commit
        self.snapshot = snapshot
        self.reject = reject
        self.reject_hint = reject_hint
        self.context = context

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Message):
            return NotImplemented
        return self._key() == other._key()

    def __hash__(self) -> int:
        return hash((self.type, self.to, self.from_, self.term, self.index))

    def _key(self) -> tuple[object, ...]:
        return (
            self.type,
            self.to,
            self.from_,
            self.term,
            self.log_term,
            self.index,
            list(self.entries),
            self.commit,
            self.snapshot,
            self.reject,
            self.reject_hint,
            self.context,
        )

    def __repr__(self) -> str:
        parts = [f"{MESSAGE_NAMES[self.type]} {self.from_:x}->{self.to:x} term={self.term}"]
        if self.log_term or self.index:
            parts.append(f"at={self.log_term}/{self.index}")
        if self.reject:
            parts.append(f"rejected hint={self.reject_hint}")
        if self.commit:
            parts.append(f"commit={self.commit}")
        if self.context:
            parts.append(f"context={self.context!r}")
        if not self.snapshot.is_empty():
            parts.append(f"snapshot={self.snapshot.metadata.term}/{self.snapshot.metadata.index}")
        if self.entries:
            parts.append(f"entries={list(self.entries)}")
        return f"<{' '.join(parts)}>"
