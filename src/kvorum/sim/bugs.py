"""Deliberate mistakes: each is switched on by its name, and must be found by the right checker within so many
seeds.

A simulator that finds nothing proves nothing unless it finds these. Each mistake is a patch on a function of
the product (never a flag inside it), put in place for one run and taken away again. The profile of a mistake
asks for the faults under which it shows, and for a small run; the seeds are 1, 2, 3, ...
``tests/sim/test_bugs.py`` runs the whole table. ``python -m kvorum.sim --bug NAME --seed N`` shows one.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, final

from kvorum.mvcc.store import Store
from kvorum.raft.core import Raft
from kvorum.raft.log import RaftLog
from kvorum.raft.rawnode import RawNode
from kvorum.server import bootstrap
from kvorum.server.node import Node
from kvorum.server.reads import Reads
from kvorum.server.ready import ReadyLoop
from kvorum.server.snapshots import Snapshots
from kvorum.sim import mistakes, transfer
from kvorum.sim import profile as profiles
from kvorum.sim.mistakes import Function
from kvorum.sim.run import Verdict, run
from kvorum.wal.wal import Wal
from kvorum.watch import hub
from kvorum.watch.hub import WatchHub


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
    patches: tuple[tuple[object, str, Callable[[Function], Function]], ...]
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


_ELECTIONS: Final = {
    "members": 5, "seconds": 12.0, "clients": 2, "readers": 0, "leases": 0, "watchers": 0,
    "faults": ("kill", "isolate", "split", "transfer", "delay"), "fault_seconds": 0.4, "delay_seconds": 0.02,
}  # fmt: skip
_HASTY_ELECTIONS: Final = {**_ELECTIONS, "clients": 4, "think_seconds": 0.05, "patience_seconds": 0.5}
_CONTESTED: Final = {
    **_ELECTIONS, "delay_seconds": 0.1, "faults": ("kill", "isolate"), "fault_seconds": 1.0,
    "pre_vote": False, "leader_share": 0.8, "think_seconds": 0.2,
}  # fmt: skip
"""Elections that nobody is asked about before, on a network so slow that they overlap."""
_CRASHES: Final = {
    "seconds": 8.0, "leases": 0, "watchers": 0, "fault_seconds": 0.4, "sync_seconds": 0.02,
    "faults": ("kill", "power_cut", "blackout"),
}  # fmt: skip
_BUSY_CRASHES: Final = {**_CRASHES, "clients": 8, "readers": 0, "think_seconds": 0.02}
_CUT_OFF: Final = {
    "members": 3, "seconds": 20.0, "clients": 3, "keys": 2, "leases": 0, "watchers": 0,
    "faults": ("isolate",), "fault_seconds": 4.0, "think_seconds": 0.05, "compactions": False,
    "readers": 4, "fault_lasts": 2.0, "leader_share": 0.8,
}  # fmt: skip
"""Leaders that are cut off and do not know."""
_HANDOVERS: Final = {
    **_CUT_OFF, "seconds": 12.0, "fault_seconds": 0.8, "faults": ("kill", "transfer"), "sync_seconds": 0.05,
    "delay_seconds": 0.0005, "clients": 6, "readers": 6, "think_seconds": 0.02, "fault_lasts": 1.0,
}  # fmt: skip
"""Leaders that change while much is under way, on slow disks."""
_PARTITIONS: Final = {
    "members": 3, "seconds": 12.0, "clients": 8, "keys": 2, "leases": 0, "watchers": 0, "fault_seconds": 0.8,
    "faults": ("isolate", "split", "pause", "transfer"), "think_seconds": 0.05,
}  # fmt: skip
_CHANGES: Final = {
    "members": 5, "seconds": 15.0, "clients": 4, "leases": 0, "watchers": 0, "fault_seconds": 0.15,
    "faults": ("add", "remove", "joint", "joint"), "delay_seconds": 0.02, "think_seconds": 0.05,
}  # fmt: skip
_ADDITIONS: Final = {
    **_CHANGES, "members": 3, "faults": ("add",), "fault_seconds": 0.8, "delay_seconds": 0.005,
    "seconds": 10.0, "clients": 2, "readers": 0,
}  # fmt: skip
"""Learners that are added and promoted."""
_WATCHES: Final = {"seconds": 8.0, "watchers": 3, "leases": 0, "think_seconds": 0.04, "compactions": False}
_LEASES: Final = {
    "seconds": 25.0, "clients": 1, "readers": 0, "watchers": 0, "leases": 8, "think_seconds": 0.3,
    "fault_seconds": 5.0, "faults": ("pause",), "fault_lasts": 3.0, "leader_share": 1.0,
}  # fmt: skip

_LOSSES: Final = {
    **_CUT_OFF, "faults": (), "loss": 0.2, "clients": 6, "readers": 6, "think_seconds": 0.02, "seconds": 10.0,
    "client_delay_seconds": 0.0002, "patience_seconds": 0.2,
}  # fmt: skip
_HASTE: Final = {
    **_LOSSES, "faults": ("transfer",), "fault_seconds": 0.25, "leader_share": 0.0, "loss": 0.1,
    "sync_seconds": 0.01,
}  # fmt: skip
"""Leaders change all the time, and news of commits gets lost."""
_DISORDER: Final = {
    **_LOSSES, "faults": ("reorder",), "fault_seconds": 0.5, "fault_lasts": 5.0, "delay_seconds": 0.03,
    "loss": 0.0, "seconds": 6.0,
}  # fmt: skip

_TAILS: Final = {
    **_LOSSES, "loss": 0.0, "faults": ("isolate",), "fault_seconds": 2.0, "fault_lasts": 1.5, "seconds": 15.0,
    "readers": 0,
}  # fmt: skip
"""Leaders that are cut off with much that is not committed."""

BUGS: Final[dict[str, Bug]] = {
    "vote-twice": Bug(
        "a member votes for whoever asks, again in the same term",
        ((Raft, "_handle_vote", mistakes.vote_for_anybody),),
        ("election-safety",), 15, _CONTESTED,
    ),
    "vote-for-short-log": Bug(
        "a member votes without looking at whose log is newer",
        ((RaftLog, "is_up_to_date", mistakes.without_looking_at_the_log),),
        ("leader-completeness",), 30, {**_CONTESTED, "leader_share": 0.2, "think_seconds": 0.05},
    ),
    "ignore-term": Bug(
        "terms do not count: old messages are taken for new ones, and leaders do not hear of newer ones",
        ((Raft, "step", mistakes.all_terms_as_ones_own),),
        ("election-safety", "linearizability", "log-matching", "program", "state-machine-safety"),
        10, {**_CUT_OFF, "faults": ("transfer",), "fault_seconds": 1.0},
    ),
    "forget-hard-state": Bug(
        "a restart begins without term and vote",
        ((bootstrap, "recover", mistakes.without_hard_state),),
        ("recovery",), 5, _CRASHES,
    ),
    "commit-old-term": Bug(
        "entries of earlier terms are committed by counting copies (Raft, Figure 8)",
        ((Raft, "maybe_commit", mistakes.by_counting_alone),),
        ("commit-rule",), 15, _HANDOVERS,
    ),
    "no-log-matching": Bug(
        "logs are compared by index alone, and not by term",
        ((RaftLog, "matches", mistakes.by_index_alone),),
        ("commit-rule", "log-matching", "state-machine-safety"), 40, _HASTY_ELECTIONS,
    ),
    "keep-conflicting-tail": Bug(
        "a follower keeps what its leader replaces",
        ((RaftLog, "maybe_append", mistakes.keep_the_tail),),
        ("commit-rule", "log-matching", "program", "state-machine-safety"), 40, _HASTY_ELECTIONS,
    ),
    "reuse-index": Bug(
        "a leader gives an index to two entries",
        ((Raft, "propose_data", mistakes.at_the_last_index),),
        ("log-matching", "state-machine-safety"), 10, _PARTITIONS,
    ),
    "heartbeat-commits-all": Bug(
        "a heartbeat commits what the follower may not have",
        ((Raft, "_send", mistakes.all_that_is_committed),),
        ("program", "state-machine-safety"), 10, _ELECTIONS,
    ),
    "lose-log-tail": Bug(
        "a restart loses the last entry of the log",
        ((bootstrap, "recover", mistakes.without_the_last_entry),),
        ("recovery",), 5, _CRASHES,
    ),
    "skip-fsync": Bug(
        "the log counts as durable before it is synced",
        ((ReadyLoop, "_persist", mistakes.before_the_sync),),
        ("persist-before-send", "commit-rule"), 3, _CRASHES,
    ),
    "send-before-persist": Bug(
        "votes and acknowledgements leave before what they say is synced",
        ((ReadyLoop, "_carry_out", mistakes.everything_at_once),),
        ("persist-before-send",), 3, _CRASHES,
    ),
    "unsynced-restart": Bug(
        "what a killed process wrote and did not sync counts as durable after a restart",
        ((Wal, "_clear_tail", mistakes.as_if_it_were_synced),),
        ("persist-before-send", "commit-rule"), 10, {**_BUSY_CRASHES, "faults": ("kill",)},
    ),
    "forget-consistent-index": Bug(
        "the database does not know how far it is: a restart applies entries again",
        ((Store, "_write_consistent_index", mistakes.nothing),),
        ("recovery", "configuration", "final-state", "linearizability", "program", "state-machine-safety"),
        5, _CRASHES,
    ),
    "snapshot-before-commit": Bug(
        "the log forgets entries that the database has not committed",
        ((Snapshots, "_take", mistakes.before_the_database),),
        ("recovery",), 15, {**_BUSY_CRASHES, "snapshot_count": 15, "sync_seconds": 0.0005},
    ),
    "snapshot-index-too-high": Bug(
        "a snapshot says that it holds one entry more than it does",
        ((transfer, "position_of", mistakes.one_too_high),),
        ("serializability", "linearizability", "final-state", "hash-kv", "program", "watch", "membership"),
        20,
        {**_TAILS, "snapshot_count": 15, "catchup_entries": 1, "readers": 1, "clients": 3, "seconds": 10.0},
    ),
    "read-without-quorum": Bug(
        "a leader answers reads without asking whether it still leads",
        ((Raft, "_read_index", mistakes.without_a_quorum),),
        ("linearizability",), 15, {**_TAILS, "readers": 6, "think_seconds": 0.05},
    ),
    "read-before-term-commit": Bug(
        "a new leader answers reads before it has committed in its term (no entry opens the term)",
        ((Raft, "_read_index", mistakes.before_the_terms_first_commit),),
        ("linearizability",), 30, _HASTE,
    ),
    "read-before-applied": Bug(
        "a confirmed read is answered before its index is applied",
        ((Reads, "run", mistakes.before_it_is_applied),),
        ("linearizability",), 10, _LOSSES,
    ),
    "confirm-any-read": Bug(
        "a late answer confirms reads that came after it was asked for",
        ((Reads, "confirmed", mistakes.whatever_was_confirmed),),
        ("linearizability",), 15, _DISORDER,
    ),
    "answer-on-leader-change": Bug(
        "reads that wait when the leader changes are answered from what is there",
        ((Reads, "leader_changed", mistakes.answer_when_the_leader_goes),),
        ("linearizability",), 10, _PARTITIONS,
    ),
    "conf-change-twice": Bug(
        "a membership change is applied once more after the next one",
        ((RawNode, "apply_conf_change", mistakes.the_one_before_again),),
        ("configuration", "membership", "program"), 20, _ADDITIONS,
    ),
    "two-changes-at-once": Bug(
        "a leader logs a membership change while another is under way",
        ((Raft, "_refuses_conf_change", mistakes.never_refused),),
        ("configuration",), 20, {**_CHANGES, "delay_seconds": 0.1},
    ),
    "joint-by-new-majority": Bug(
        "in a joint configuration the new voters alone decide",
        ((Raft, "maybe_commit", mistakes.by_the_new_voters),),
        ("commit-rule",), 20, {**_CHANGES, "clients": 1, "readers": 0},
    ),
    "followers-expire-leases": Bug(
        "whoever once led goes on to end leases by its own clock",
        (
            (Node, "leader_changed", mistakes.by_everybodys_clock),
            (Node, "propose_as_leader", mistakes.through_whoever_leads),
        ),
        ("lease",), 10, _LEASES,
    ),
    "old-leader-revokes": Bug(
        "a deposed leader's revocations are passed on to the new one (etcd issue 15247)",
        ((Node, "propose_as_leader", mistakes.through_whoever_leads),),
        ("lease",), 15, _LEASES,
    ),
    "watch-gap": Bug(
        "a watcher that catches up misses an event",
        ((hub, "read_changes", mistakes.without_the_first),),
        ("watch",), 5, _WATCHES,
    ),
    "watch-repeat": Bug(
        "a watcher whose queue was full begins again too early",
        ((WatchHub, "_park", mistakes.once_more),),
        ("watch",), 10, _WATCHES,
    ),
    "watch-twice": Bug(
        "some events are delivered twice",
        ((WatchHub, "_deliver", mistakes.twice),),
        ("watch",), 5, _WATCHES,
    ),
}  # fmt: skip
"""All mistakes, by name."""
