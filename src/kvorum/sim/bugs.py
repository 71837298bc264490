"""Deliberate mistakes: each is switched on by its name, and must be found by the right checker within so many seeds.

A simulator that finds nothing proves nothing unless it finds these. Each mistake is a patch on a function of the
product (never a flag inside it), put in place for one run and taken away again. The profile of a mistake asks for the
faults under which it shows, and for a small run; the seeds are 1, 2, 3, ... ``tests/sim/test_bugs.py`` runs the whole
table. ``python -m kvorum.sim --bug NAME --seed N`` shows one.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, final

from kvorum.mvcc.store import Store
from kvorum.raft.core import Raft
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
from kvorum.server import bootstrap
from kvorum.server.node import Node
from kvorum.server.reads import Reads
from kvorum.server.ready import ReadyLoop
from kvorum.server.snapshots import Snapshots
from kvorum.sim import profile as profiles
from kvorum.sim import transfer
from kvorum.sim.run import Verdict, run
from kvorum.wal.wal import Wal
from kvorum.watch import hub
from kvorum.watch.hub import WatchHub

Make = Callable[[Any], Any]
"""From a function to the one that takes its place."""


@final
@dataclass(frozen=True)
class Bug:
    """One mistake.

    Args:
        what: the mistake, in words.
        patches: (owner, name, what to make of it).
        caught_by: checkers of which one must find it.
        within: seeds, counted from 1, among which one must find it.
        profile: what the runs are like.
    """

    what: str
    patches: tuple[tuple[object, str, Make], ...]
    caught_by: tuple[str, ...]
    within: int
    profile: dict[str, Any] = field(default_factory=dict)


@contextmanager
def switched_on(bug: Bug) -> Iterator[None]:
    """The mistake is in the program, for as long as the context lasts."""
    with ExitStack() as stack:
        for owner, name, make in bug.patches:
            original = getattr(owner, name)
            setattr(owner, name, make(original))
            stack.callback(setattr, owner, name, original)
        yield


def run_with(
    name: str, seed: int, changes: dict[str, Any], *, echo: Callable[[str], None] | None = None
) -> Verdict:
    """Run a seed with a mistake, in the mistake's profile."""
    bug = BUGS[name]
    profile = profiles.adjusted(profiles.Profile(), {**bug.profile, **changes})
    with switched_on(bug):
        return run(seed, profile, echo=echo)


# --- votes and terms ------------------------------------------------------------------------------------------


def _vote_for_anybody(original: Make) -> Make:
    def handle_vote(raft: Raft, m: Message) -> None:
        if m.type == MSG_VOTE and m.term == raft.term:
            raft.vote = NONE
            raft.lead = NONE
        original(raft, m)

    return handle_vote


def _without_looking_at_the_log(_original: Make) -> Make:
    return lambda log, last_index, last_term: True


def _old_terms_as_new_ones(original: Make) -> Make:
    def step(raft: Raft, m: Message) -> None:
        if 0 < m.term < raft.term:
            m.term = raft.term
        original(raft, m)

    return step


def _without_hard_state(original: Make) -> Make:
    def recover(*arguments: Any, **options: Any) -> Any:
        recovered = original(*arguments, **options)
        return recovered._replace(state=HardState(0, NONE, recovered.state.commit))

    return recover


# --- the log --------------------------------------------------------------------------------------------------


def _by_counting_alone(_original: Make) -> Make:
    def maybe_commit(raft: Raft) -> bool:
        matched = sorted(pr.match for member, pr in raft.progress.items() if member in raft.config.voters)
        index = matched[(len(matched) - 1) // 2] if matched else 0
        if index <= raft.log.committed:
            return False
        raft.log.commit_to(index)
        raft._broadcast_append()
        return True

    return maybe_commit


def _by_index_alone(_original: Make) -> Make:
    return lambda log, index, term: log.offset <= index <= log.last_index


def _keep_the_tail(_original: Make) -> Make:
    def maybe_append(log: RaftLog, index: int, log_term: int, committed: int, entries: Any) -> int:
        if not log.matches(index, log_term):
            return NOT_MATCHING
        log.append([entry for entry in entries if entry.index > log.last_index])
        last_new = index + len(entries)
        log.commit_to(min(committed, last_new))
        return last_new

    return maybe_append


def _at_the_last_index(original: Make) -> Make:
    def propose_data(raft: Raft, data: Any) -> None:
        log = raft.log
        original(raft, data)
        if raft.id == raft.lead and len(data) == 1 and log.committed < log.last_index - 1:
            last = log.slice(log.last_index, log.last_index + 1)[0]
            log.append((Entry(last.term, last.index - 1, last.type, last.data),))

    return propose_data


def _all_that_is_committed(original: Make) -> Make:
    def send(raft: Raft, m: Message) -> None:
        if m.type == MSG_HEARTBEAT:
            m.commit = raft.log.committed
        original(raft, m)

    return send


def _without_the_last_entry(original: Make) -> Make:
    def recover(*arguments: Any, **options: Any) -> Any:
        recovered = original(*arguments, **options)
        return recovered._replace(entries=recovered.entries[:-1])

    return recover


# --- the disk -------------------------------------------------------------------------------------------------


def _before_the_sync(_original: Make) -> Make:
    def persist(loop: Any, ready: Any) -> None:
        loop._persisting = ready
        batch = loop._wal.prepare(loop._unsaved, ready.entries)
        loop._unsaved = None
        loop._writer.submit(batch, lambda error, seconds: loop.kick())
        loop._call_soon(lambda: loop._persisted(None, 0.0))

    return persist


def _everything_at_once(original: Make) -> Make:
    def carry_out(loop: Any, ready: Any) -> None:
        ready.messages += ready.messages_after_persist
        ready.messages_after_persist = []
        original(loop, ready)

    return carry_out


def _as_if_it_were_synced(_original: Make) -> Make:
    def clear_tail(wal: Any, tail: Any, size: int, is_dirty: bool) -> None:
        if is_dirty:
            wal._disk.truncate(tail.handle, wal._offset)
            wal._disk.preallocate(tail.handle, size)

    return clear_tail


def _nothing(_original: Make) -> Make:
    return lambda *arguments: None


def _before_the_database(original: Make) -> Make:
    def take(snapshots: Any, index: int) -> None:
        commit = Store.commit
        setattr(Store, "commit", lambda store: None)  # noqa: B010 - a patch within the patch
        try:
            original(snapshots, index)
        finally:
            setattr(Store, "commit", commit)  # noqa: B010

    return take


def _one_too_high(original: Make) -> Make:
    def position_of(store: Store) -> Any:
        metadata = original(store)
        return type(metadata)(metadata.conf_state, metadata.index + 1, metadata.term)

    return position_of


# --- reads ----------------------------------------------------------------------------------------------------


def _without_a_quorum(original: Make) -> Make:
    def read_index(raft: Raft, m: Message) -> None:
        if raft.log.term(raft.log.committed) != raft.term:
            original(raft, m)
        elif m.from_ in (NONE, raft.id):
            raft.read_states.append(ReadState(raft.log.committed, m.entries[0].data))
        else:
            raft._send(
                Message(MSG_READ_INDEX_RESP, to=m.from_, index=raft.log.committed, entries=m.entries)
            )

    return read_index


def _before_the_terms_first_commit(_original: Make) -> Make:
    def read_index(raft: Raft, m: Message) -> None:
        raft.reads.add(raft.log.committed, m)
        raft.reads.acknowledge(raft.id, raft.reads.context())
        raft.reads_unsent = True
        raft._answer_confirmed_reads()

    return read_index


def _before_it_is_applied(original: Make) -> Make:
    return lambda reads, applied_index: original(reads, 1 << 60)


def _whatever_was_confirmed(original: Make) -> Make:
    def confirmed(reads: Any, context: bytes, index: int) -> None:
        asked = reads._asked
        original(reads, asked.context if asked is not None else context, index)

    return confirmed


def _answer_when_the_leader_goes(_original: Make) -> Make:
    def leader_changed(reads: Any) -> None:
        asked, reads._asked = reads._asked, None
        if asked is not None:
            for read in asked.reads:
                read(None)

    return leader_changed


# --- membership -----------------------------------------------------------------------------------------------


def _the_one_before_again(original: Make) -> Make:
    def apply_conf_change(node: Any, change: Any) -> Any:
        before = _LAST_CHANGE.get(id(node))
        state = original(node, change)
        _LAST_CHANGE[id(node)] = change
        if before is not None and not before.as_v2().leaves_joint() and not node._raft.config.is_joint:
            state = original(node, before)
        return state

    return apply_conf_change


_LAST_CHANGE: Final[dict[int, Any]] = {}


def _never_refused(_original: Make) -> Make:
    return lambda raft, kind, data, pending: ""


def _by_the_new_voters(_original: Make) -> Make:
    def maybe_commit(raft: Raft) -> bool:
        matched = sorted(pr.match for member, pr in raft.progress.items() if member in raft.config.voters)
        index = matched[(len(matched) - 1) // 2] if matched else 0
        if index <= raft.log.committed or raft.log.term(index) != raft.term:
            return False
        raft.log.commit_to(index)
        raft._broadcast_append()
        return True

    return maybe_commit


# --- leases and watches ---------------------------------------------------------------------------------------


def _by_everybodys_clock(original: Make) -> Make:
    def leader_changed(node: Any, leader: int) -> None:
        demote = node.lessor.__class__.demote
        node.lessor.__class__.demote = lambda lessor: None
        try:
            original(node, leader)
        finally:
            node.lessor.__class__.demote = demote

    return leader_changed


def _through_whoever_leads(_original: Make) -> Make:
    def propose_as_leader(node: Any, batch: Any) -> None:
        for number, body, done in batch:
            node.propose(number, body, done)

    return propose_as_leader


def _without_the_first(original: Make) -> Make:
    def read_changes(*arguments: Any) -> Any:
        changes, reached = original(*arguments)
        return changes[1:], reached

    return read_changes


def _once_more(original: Make) -> Make:
    def park(watch_hub: Any, watchers: Any, revision: int) -> None:
        original(watch_hub, watchers, max(1, revision - 1))

    return park


def _twice(original: Make) -> Make:
    def deliver(watch_hub: Any, lot: Any, batch: Any, revision: int, bound: int) -> Any:
        if revision % 16 == 0:
            original(watch_hub, lot, batch, revision, bound)
        return original(watch_hub, lot, batch, revision, bound)

    return deliver


_ELECTIONS: Final = {
    "members": 5, "seconds": 12.0, "clients": 2, "leases": 0, "watchers": 0, "fault_seconds": 0.4,
    "faults": ("kill", "isolate", "split", "transfer", "delay"), "delay_seconds": 0.02,
}  # fmt: skip
_CRASHES: Final = {
    "seconds": 8.0, "leases": 0, "watchers": 0, "fault_seconds": 0.4, "sync_seconds": 0.02,
    "faults": ("kill", "power_cut", "blackout"),
}  # fmt: skip
_CUT_OFF: Final = {
    "members": 3, "seconds": 20.0, "clients": 3, "keys": 2, "leases": 0, "watchers": 0, "fault_seconds": 4.0,
    "faults": ("isolate",), "think_seconds": 0.05, "compactions": False, "readers": 3, "fault_lasts": 2.0,
}  # fmt: skip
"""Leaders that are cut off and do not know."""
_HANDOVERS: Final = {
    **_CUT_OFF, "seconds": 12.0, "fault_seconds": 1.0, "faults": ("kill", "transfer"), "sync_seconds": 0.05,
    "delay_seconds": 0.0005, "clients": 8, "think_seconds": 0.02, "fault_lasts": 1.0,
}  # fmt: skip
"""Leaders that change while much is under way, on slow disks."""
_PARTITIONS: Final = {
    "members": 3, "seconds": 12.0, "clients": 8, "keys": 2, "leases": 0, "watchers": 0, "fault_seconds": 0.8,
    "faults": ("isolate", "split", "pause", "transfer"), "think_seconds": 0.05,
}  # fmt: skip
_CHANGES: Final = {
    "seconds": 12.0, "clients": 2, "leases": 0, "watchers": 0, "fault_seconds": 0.3,
    "faults": ("add", "remove", "joint", "delay", "transfer"),
}  # fmt: skip
_WATCHES: Final = {"seconds": 8.0, "watchers": 3, "leases": 0, "think_seconds": 0.04, "compactions": False}
_LEASES: Final = {
    "seconds": 20.0, "clients": 1, "watchers": 0, "leases": 4, "fault_seconds": 3.0, "faults": ("pause", "isolate"),
    "think_seconds": 0.3,
}  # fmt: skip

BUGS: Final[dict[str, Bug]] = {
    "vote-twice": Bug(
        "a member votes for whoever asks, again in the same term",
        ((Raft, "_handle_vote", _vote_for_anybody),),
        ("election-safety",), 10, _ELECTIONS,
    ),
    "vote-for-short-log": Bug(
        "a member votes without looking at whose log is newer",
        ((RaftLog, "is_up_to_date", _without_looking_at_the_log),),
        ("leader-completeness",), 10, _ELECTIONS,
    ),
    "ignore-term": Bug(
        "messages of old terms are taken for new ones",
        ((Raft, "step", _old_terms_as_new_ones),),
        ("election-safety", "log-matching", "program", "state-machine-safety"), 10, {**_ELECTIONS, "seconds": 40.0, "clients": 1, "delay_seconds": 0.3, "faults": ("kill",), "readers": 0, "pre_vote": False},
    ),
    "forget-hard-state": Bug(
        "a restart begins without term and vote",
        ((bootstrap, "recover", _without_hard_state),),
        ("recovery",), 5, _CRASHES,
    ),
    "commit-old-term": Bug(
        "entries of earlier terms are committed by counting copies (Raft, Figure 8)",
        ((Raft, "maybe_commit", _by_counting_alone),),
        ("commit-rule",), 10, _HANDOVERS,
    ),
    "no-log-matching": Bug(
        "logs are compared by index alone, and not by term",
        ((RaftLog, "matches", _by_index_alone),),
        ("log-matching", "state-machine-safety"), 10, _ELECTIONS,
    ),
    "keep-conflicting-tail": Bug(
        "a follower keeps what its leader replaces",
        ((RaftLog, "maybe_append", _keep_the_tail),),
        ("log-matching", "state-machine-safety", "program"), 10, _ELECTIONS,
    ),
    "reuse-index": Bug(
        "a leader gives an index to two entries",
        ((Raft, "propose_data", _at_the_last_index),),
        ("log-matching",), 5, _PARTITIONS,
    ),
    "heartbeat-commits-all": Bug(
        "a heartbeat commits what the follower may not have",
        ((Raft, "_send", _all_that_is_committed),),
        ("program", "state-machine-safety"), 10, _ELECTIONS,
    ),
    "lose-log-tail": Bug(
        "a restart loses the last entry of the log",
        ((bootstrap, "recover", _without_the_last_entry),),
        ("recovery",), 5, _CRASHES,
    ),
    "skip-fsync": Bug(
        "the log counts as durable before it is synced",
        ((ReadyLoop, "_persist", _before_the_sync),),
        ("persist-before-send", "commit-rule"), 3, _CRASHES,
    ),
    "send-before-persist": Bug(
        "votes and acknowledgements leave before what they say is synced",
        ((ReadyLoop, "_carry_out", _everything_at_once),),
        ("persist-before-send",), 3, _CRASHES,
    ),
    "unsynced-restart": Bug(
        "what a killed process wrote and did not sync counts as durable after a restart",
        ((Wal, "_clear_tail", _as_if_it_were_synced),),
        ("persist-before-send", "commit-rule"), 10, _CRASHES,
    ),
    "forget-consistent-index": Bug(
        "the database does not know how far it is: a restart applies entries again",
        ((Store, "_write_consistent_index", _nothing),),
        ("recovery", "configuration", "final-state", "linearizability", "program", "state-machine-safety"),
        5, _CRASHES,
    ),
    "snapshot-before-commit": Bug(
        "the log forgets entries that the database has not committed",
        ((Snapshots, "_take", _before_the_database),),
        ("recovery",), 10, {**_CRASHES, "snapshot_count": 15, "clients": 8, "think_seconds": 0.02, "sync_seconds": 0.0005},
    ),
    "snapshot-index-too-high": Bug(
        "a snapshot says that it holds one entry more than it does",
        ((transfer, "position_of", _one_too_high),),
        ("serializability", "linearizability", "final-state", "hash-kv", "program", "watch", "membership"),
        10, {**_PARTITIONS, "snapshot_count": 15, "catchup_entries": 1},
    ),
    "read-without-quorum": Bug(
        "a leader answers reads without asking whether it still leads",
        ((Raft, "_read_index", _without_a_quorum),),
        ("linearizability",), 10, _CUT_OFF,
    ),
    "read-before-term-commit": Bug(
        "a new leader answers reads before it has committed in its term (no entry opens the term)",
        ((Raft, "_read_index", _before_the_terms_first_commit),),
        ("linearizability",), 20, _HANDOVERS,
    ),
    "read-before-applied": Bug(
        "a confirmed read is answered before its index is applied",
        ((Reads, "run", _before_it_is_applied),),
        ("linearizability",), 5, {**_HANDOVERS, "faults": ("slow_disk",)},
    ),
    "confirm-any-read": Bug(
        "a late answer confirms reads that came after it was asked for",
        ((Reads, "confirmed", _whatever_was_confirmed),),
        ("linearizability",), 20, {**_CUT_OFF, "faults": ("delay", "reorder"), "fault_seconds": 0.7, "fault_lasts": 1.0},
    ),
    "answer-on-leader-change": Bug(
        "reads that wait when the leader changes are answered from what is there",
        ((Reads, "leader_changed", _answer_when_the_leader_goes),),
        ("linearizability",), 10, _PARTITIONS,
    ),
    "conf-change-twice": Bug(
        "a membership change is applied once more after the next one",
        ((RawNode, "apply_conf_change", _the_one_before_again),),
        ("configuration", "membership", "program"), 10, _CHANGES,
    ),
    "two-changes-at-once": Bug(
        "a leader logs a membership change while another is under way",
        ((Raft, "_refuses_conf_change", _never_refused),),
        ("configuration",), 10, _CHANGES,
    ),
    "joint-by-new-majority": Bug(
        "in a joint configuration the new voters alone decide",
        ((Raft, "maybe_commit", _by_the_new_voters),),
        ("commit-rule",), 20, _CHANGES,
    ),
    "followers-expire-leases": Bug(
        "whoever once led goes on to end leases by its own clock",
        ((Node, "leader_changed", _by_everybodys_clock), (Node, "propose_as_leader", _through_whoever_leads)),
        ("lease",), 10, _LEASES,
    ),
    "old-leader-revokes": Bug(
        "a deposed leader's revocations are passed on to the new one (etcd issue 15247)",
        ((Node, "propose_as_leader", _through_whoever_leads),),
        ("lease",), 20, {**_LEASES, "seconds": 30.0, "faults": ("pause",), "fault_seconds": 4.0, "fault_lasts": 4.0},
    ),
    "watch-gap": Bug(
        "a watcher that catches up misses an event",
        ((hub, "read_changes", _without_the_first),),
        ("watch",), 5, _WATCHES,
    ),
    "watch-repeat": Bug(
        "a watcher whose queue was full begins again too early",
        ((WatchHub, "_park", _once_more),),
        ("watch",), 10, _WATCHES,
    ),
    "watch-twice": Bug(
        "some events are delivered twice",
        ((WatchHub, "_deliver", _twice),),
        ("watch",), 5, _WATCHES,
    ),
}  # fmt: skip
"""All mistakes, by name."""
