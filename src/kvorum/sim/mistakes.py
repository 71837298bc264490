"""The mistakes themselves: each function takes a function of the product and returns one that is wrong.

What is wrong about it is said in ``bugs.py``, where they have their names.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

from kvorum.mvcc.store import Store
from kvorum.raft.core import LEADER, Raft
from kvorum.raft.log import NOT_MATCHING, RaftLog
from kvorum.raft.rawnode import RawNode
from kvorum.raft.reads import ReadState
from kvorum.raft.types import (
    MSG_HEARTBEAT,
    MSG_READ_INDEX_RESP,
    MSG_VOTE,
    NONE,
    Entry,
    HardState,
    Message,
)

Function: TypeAlias = Callable[..., Any]


# --- votes and terms --------------------------------------------------------------------------------------


def vote_for_anybody(original: Function) -> Function:
    """Forget for whom this member has voted, whenever it is asked."""

    def handle_vote(raft: Raft, m: Message) -> None:
        if m.type == MSG_VOTE and m.term == raft.term:
            raft.vote = NONE
            raft.lead = NONE
        original(raft, m)

    return handle_vote


def without_looking_at_the_log(_original: Function) -> Function:
    """Every log is as good as this one."""
    return lambda log, last_index, last_term: True


def all_terms_as_ones_own(original: Function) -> Function:
    """Messages of older terms are of this one; so are, to a leader, those of newer ones."""

    def step(raft: Raft, m: Message) -> None:
        if 0 < m.term < raft.term or (m.term > raft.term and raft.role == LEADER):
            m.term = raft.term
        original(raft, m)

    return step


def without_hard_state(original: Function) -> Function:
    """The recovered log has lost its term and vote."""

    def recover(*arguments: Any, **options: Any) -> Any:
        recovered = original(*arguments, **options)
        return recovered._replace(state=HardState(0, NONE, recovered.state.commit))

    return recover


# --- the log ----------------------------------------------------------------------------------------------


def by_counting_alone(_original: Function) -> Function:
    """Whatever a majority has is committed, of whichever term."""

    def maybe_commit(raft: Raft) -> bool:
        matched = sorted(pr.match for member, pr in raft.progress.items() if member in raft.config.voters)
        index = matched[(len(matched) - 1) // 2] if matched else 0
        if index <= raft.log.committed:
            return False
        raft.log.commit_to(index)
        raft._broadcast_append()
        return True

    return maybe_commit


def by_index_alone(_original: Function) -> Function:
    """Two logs match where both have something."""
    return lambda log, index, term: log.offset <= index <= log.last_index


def keep_the_tail(_original: Function) -> Function:
    """Only what goes beyond the log is appended."""

    def maybe_append(log: RaftLog, index: int, log_term: int, committed: int, entries: Any) -> int:
        if not log.matches(index, log_term):
            return NOT_MATCHING
        log.append([entry for entry in entries if entry.index > log.last_index])
        last_new = index + len(entries)
        log.commit_to(min(committed, last_new))
        return last_new

    return maybe_append


def at_the_last_index(original: Function) -> Function:
    """Put an entry where another one is that was not committed yet."""

    def propose_data(raft: Raft, data: Any) -> None:
        log = raft.log
        original(raft, data)
        if raft.id == raft.lead and len(data) == 1 and log.committed < log.last_index - 1:
            last = log.slice(log.last_index, log.last_index + 1)[0]
            log.append((Entry(last.term, last.index - 1, last.type, last.data),))

    return propose_data


def all_that_is_committed(original: Function) -> Function:
    """The leader's commit index goes to everybody."""

    def send(raft: Raft, m: Message) -> None:
        if m.type == MSG_HEARTBEAT:
            m.commit = raft.log.committed
        original(raft, m)

    return send


def without_the_last_entry(original: Function) -> Function:
    """The recovered log is one entry short."""

    def recover(*arguments: Any, **options: Any) -> Any:
        recovered = original(*arguments, **options)
        return recovered._replace(entries=recovered.entries[:-1])

    return recover


# --- the disk ---------------------------------------------------------------------------------------------


def before_the_sync(_original: Function) -> Function:
    """Say "persisted" as soon as the batch was handed over."""

    def persist(loop: Any, ready: Any) -> None:
        loop._persisting = ready
        batch = loop._wal.prepare(loop._unsaved, ready.entries)
        loop._unsaved = None
        loop._writer.submit(batch, lambda error, seconds: loop.kick())
        loop._call_soon(lambda: loop._persisted(None, 0.0))

    return persist


def everything_at_once(original: Function) -> Function:
    """Send before the Ready is persisted what has to wait for that."""

    def carry_out(loop: Any, ready: Any) -> None:
        ready.messages += ready.messages_after_persist
        ready.messages_after_persist = []
        original(loop, ready)

    return carry_out


def as_if_it_were_synced(_original: Function) -> Function:
    """Do not sync what a restart has read."""

    def clear_tail(wal: Any, tail: Any, size: int, is_dirty: bool) -> None:
        if is_dirty:
            wal._disk.truncate(tail.handle, wal._offset)
            wal._disk.preallocate(tail.handle, size)

    return clear_tail


def nothing(_original: Function) -> Function:
    """Do nothing."""
    return lambda *arguments: None


def before_the_database(original: Function) -> Function:
    """Take the snapshot without committing the database."""

    def take(snapshots: Any, index: int) -> None:
        commit = Store.commit
        setattr(Store, "commit", lambda store: None)  # noqa: B010 - a patch within the patch
        try:
            original(snapshots, index)
        finally:
            setattr(Store, "commit", commit)  # noqa: B010

    return take


def one_too_high(original: Function) -> Function:
    """The index after the one the copy stands at."""

    def position_of(store: Store) -> Any:
        metadata = original(store)
        return type(metadata)(metadata.conf_state, metadata.index + 1, metadata.term)

    return position_of


# --- reads ------------------------------------------------------------------------------------------------


def without_a_quorum(original: Function) -> Function:
    """Answer from the commit index as it is."""

    def read_index(raft: Raft, m: Message) -> None:
        if raft.log.term(raft.log.committed) != raft.term:
            original(raft, m)
        elif m.from_ in (NONE, raft.id):
            raft.read_states.append(ReadState(raft.log.committed, m.entries[0].data))
        else:
            raft._send(Message(MSG_READ_INDEX_RESP, to=m.from_, index=raft.log.committed, entries=m.entries))

    return read_index


def before_the_terms_first_commit(_original: Function) -> Function:
    """Do not wait for the term's first commit."""

    def read_index(raft: Raft, m: Message) -> None:
        raft.reads.add(raft.log.committed, m)
        raft.reads.acknowledge(raft.id, raft.reads.context())
        raft.reads_unsent = True
        raft._answer_confirmed_reads()

    return read_index


def before_it_is_applied(original: Function) -> Function:
    """Everything counts as applied."""
    return lambda reads, applied_index: original(reads, 1 << 60)


def whatever_was_confirmed(original: Function) -> Function:
    """Any answer is the answer to what was asked last."""

    def confirmed(reads: Any, context: bytes, index: int) -> None:
        asked = reads._asked
        original(reads, asked.context if asked is not None else context, index)

    return confirmed


def answer_when_the_leader_goes(_original: Function) -> Function:
    """Answer instead of refusing."""

    def leader_changed(reads: Any) -> None:
        asked, reads._asked = reads._asked, None
        if asked is not None:
            for read in asked.reads:
                read(None)

    return leader_changed


# --- membership -------------------------------------------------------------------------------------------


def the_one_before_again(original: Function) -> Function:
    """Apply the previous change once more."""
    last: dict[int, Any] = {}

    def apply_conf_change(node: RawNode, change: Any) -> Any:
        member = node._raft.id
        before = last.get(member)
        state = original(node, change)
        last[member] = change
        if before is not None and not before.as_v2().leaves_joint() and not node._raft.config.is_joint:
            state = original(node, before)
        return state

    return apply_conf_change


def never_refused(_original: Function) -> Function:
    """Take every change at any time."""
    return lambda raft, kind, data, pending: ""


def by_the_new_voters(_original: Function) -> Function:
    """Count the incoming voters only."""

    def maybe_commit(raft: Raft) -> bool:
        matched = sorted(pr.match for member, pr in raft.progress.items() if member in raft.config.voters)
        index = matched[(len(matched) - 1) // 2] if matched else 0
        if index <= raft.log.committed or raft.log.term(index) != raft.term:
            return False
        raft.log.commit_to(index)
        raft._broadcast_append()
        return True

    return maybe_commit


# --- leases and watches -----------------------------------------------------------------------------------


def by_everybodys_clock(original: Function) -> Function:
    """Stay the primary for leases when the leadership is gone."""

    def leader_changed(node: Any, leader: int) -> None:
        demote = node.lessor.__class__.demote
        node.lessor.__class__.demote = lambda lessor: None
        try:
            original(node, leader)
        finally:
            node.lessor.__class__.demote = demote

    return leader_changed


def through_whoever_leads(_original: Function) -> Function:
    """Queue for whoever leads then."""

    def propose_as_leader(node: Any, batch: Any) -> None:
        for number, body, done in batch:
            node.propose(number, body, done)

    return propose_as_leader


def without_the_first(original: Function) -> Function:
    """Leave out the first change that was read."""

    def read_changes(*arguments: Any) -> Any:
        changes, reached = original(*arguments)
        return changes[1:], reached

    return read_changes


def once_more(original: Function) -> Function:
    """Begin again one revision too early."""

    def park(watch_hub: Any, watchers: Any, revision: int) -> None:
        original(watch_hub, watchers, max(1, revision - 1))

    return park


def twice(original: Function) -> Function:
    """Deliver every sixteenth revision twice."""

    def deliver(watch_hub: Any, lot: Any, batch: Any, revision: int, bound: int) -> Any:
        if revision % 16 == 0:
            original(watch_hub, lot, batch, revision, bound)
        return original(watch_hub, lot, batch, revision, bound)

    return deliver
