"""The heart: one member of a Raft cluster as a state machine.

Input is a message, a proposal or a tick; output gathers in the log, in ``messages`` (may leave at once),
``messages_after_persist`` (only once everything said so far is on disk) and ``read_states``. ``RawNode``
turns these into Readies.

What may leave at once, and what may not. Whatever *promises* something must not leave before it is durable:
an acknowledged append, a vote given, and also a request for votes, which tells where this log ends and by
which the member votes for itself. A leader's appends promise nothing of its own disk (thesis §10.2.1): its
own copy counts when ``persisted`` says so, like a follower's acknowledgement. So one majority of disks is
always behind a commit.

Where this differs from etcd's library, on purpose:

- a member votes for itself, and counts its own copy of an entry, when they are on disk, and not before; in
  etcd 3.5 a leader with enough followers waits for its own disk anyway, a single voter counts at once;
- only entries on this member's disk are handed out to be applied;
- a single voter, too, answers ReadIndex only once it has committed in its term: the commit index found at
  restart may be behind what was acknowledged;
- reads are confirmed by number, one round of heartbeats for all that came between two Readies;
- a peer's nonsense (an acknowledgement beyond the log, a response from a stranger) is ignored.

Sources: Raft (extended version) §5-§8, Ongaro's thesis §3, §4, §6.4, §9.6, §10.2; etcd ``raft/raft.go``.
"""

from collections.abc import Sequence
from typing import Final, final

from kvorum import limits
from kvorum.raft import confchange, quorum
from kvorum.raft.codec import decode_conf_change_v2, entries_size
from kvorum.raft.confchange import ConfChangeError, Configuration
from kvorum.raft.config import RaftConfig
from kvorum.raft.log import NO_TERM, NOT_MATCHING, RaftLog
from kvorum.raft.progress import PROBE, REPLICATE, SNAPSHOT, Inflights, Progress
from kvorum.raft.reads import PendingReads, ReadState
from kvorum.raft.types import (
    ENTRY_CONF_CHANGE_V2,
    ENTRY_NORMAL,
    MESSAGE_NAMES,
    MSG_APP,
    MSG_APP_RESP,
    MSG_HEARTBEAT,
    MSG_HEARTBEAT_RESP,
    MSG_PRE_VOTE,
    MSG_PRE_VOTE_RESP,
    MSG_PROP,
    MSG_READ_INDEX,
    MSG_READ_INDEX_RESP,
    MSG_SNAP,
    MSG_SNAP_STATUS,
    MSG_TIMEOUT_NOW,
    MSG_TRANSFER_LEADER,
    MSG_UNREACHABLE,
    MSG_VOTE,
    MSG_VOTE_RESP,
    NONE,
    ConfChangeV2,
    ConfState,
    Entry,
    HardState,
    Message,
)

FOLLOWER: Final = 0
CANDIDATE: Final = 1
LEADER: Final = 2
PRE_CANDIDATE: Final = 3
ROLE_NAMES: Final = ("StateFollower", "StateCandidate", "StateLeader", "StatePreCandidate")

CAMPAIGN_TRANSFER: Final = b"CampaignTransfer"
"""Context of a vote request whose sender was told to lead: leases don't hold it back (etcd ``raft.go``)."""

_ELECTION_MESSAGES: Final = (MSG_VOTE, MSG_VOTE_RESP, MSG_PRE_VOTE, MSG_PRE_VOTE_RESP)
_FROM_LEADER: Final = (MSG_APP, MSG_HEARTBEAT, MSG_SNAP)
_AFTER_PERSIST: Final = (MSG_APP_RESP, MSG_VOTE, MSG_VOTE_RESP, MSG_PRE_VOTE, MSG_PRE_VOTE_RESP)


class ProposalDropped(Exception):  # noqa: N818 - the contract's name, and etcd's
    """The proposal went nowhere: no leader, leadership is being handed over, or too much is uncommitted.

    Nothing of it is in the log, so it may be tried again.
    """


def _leaves_joint(kind: int, data: bytes) -> bool:
    return kind == ENTRY_CONF_CHANGE_V2 and decode_conf_change_v2(data).leaves_joint()


@final
class Raft:
    """One member.

    Invariants::

        role = LEADER    ⇒ lead = id
        role = CANDIDATE ⇒ lead = NONE ∧ vote = id
        role = PRE_CANDIDATE ⇒ lead = NONE
        log.last_term ≤ term
        role = LEADER    ⇒ progress[id].match = log.stable (unless it was removed)
        role = LEADER    ⇒ ∀p: progress[p].match ≤ log.last_index
        progress.keys() = config.members
    """

    __slots__ = (
        "_awaiting_commit",
        "_check_quorum",
        "_election_ticks",
        "_heartbeat_ticks",
        "_known_conf_index",
        "_limits",
        "_others",
        "_pre_vote",
        "_random",
        "_trace",
        "config",
        "election_elapsed",
        "heartbeat_elapsed",
        "id",
        "lead",
        "lead_transferee",
        "log",
        "max_committed_size_per_ready",
        "messages",
        "messages_after_persist",
        "pending_conf_index",
        "progress",
        "randomized_election_timeout",
        "read_states",
        "reads",
        "reads_unsent",
        "role",
        "self_votes",
        "term",
        "uncommitted_size",
        "vote",
        "votes",
    )

    def __init__(self, parameters: RaftConfig, log: RaftLog, hard_state: HardState, conf: ConfState) -> None:
        self.id = parameters.id
        self._limits = parameters
        self.max_committed_size_per_ready = parameters.max_committed_size_per_ready
        self._trace = parameters.trace
        self._random = parameters.random
        self._election_ticks = parameters.election_ticks
        self._heartbeat_ticks = parameters.heartbeat_ticks
        self._pre_vote = parameters.pre_vote
        self._check_quorum = parameters.check_quorum
        self.log = log
        # A crash may have torn the record of the term off the entries written with it. Nothing was answered
        # then, so in that term this member has given its vote to nobody.
        self.term = max(hard_state.term, log.last_term)
        self.vote = hard_state.vote if self.term == hard_state.term else NONE
        self.role = FOLLOWER
        self.lead = NONE
        self.lead_transferee = NONE
        self.config = Configuration()
        self.progress: dict[int, Progress] = {}
        self._others: list[int] = []
        self.votes: dict[int, bool] = {}
        self.self_votes: list[Message] = []
        self.messages: list[Message] = []
        self.messages_after_persist: list[Message] = []
        self.read_states: list[ReadState] = []
        self.reads = PendingReads()
        self.reads_unsent = False
        self._awaiting_commit: list[Message] = []
        self.pending_conf_index = 0
        self._known_conf_index = 0
        self.uncommitted_size = 0
        self.election_elapsed = 0
        self.heartbeat_elapsed = 0
        self.randomized_election_timeout = 0
        self._switch_to(confchange.restore(conf))
        self._become_follower(self.term, NONE)

    # --- time ---------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """One unit of time has passed."""
        if self.role == LEADER:
            self._tick_leader()
            return
        self.election_elapsed += 1
        if self.election_elapsed >= self.randomized_election_timeout and self._is_promotable():
            self.election_elapsed = 0
            self.hup()

    def _tick_leader(self) -> None:
        self.heartbeat_elapsed += 1
        self.election_elapsed += 1
        if self.election_elapsed >= self._election_ticks:
            self.election_elapsed = 0
            if self._check_quorum:
                self.check_quorum()
            # A transfer that took longer than an election is given up (thesis §3.10).
            self.lead_transferee = NONE
            if self.role != LEADER:
                return
        if self.heartbeat_elapsed >= self._heartbeat_ticks:
            self.heartbeat_elapsed = 0
            self._broadcast_heartbeat()

    def check_quorum(self) -> None:
        """Step down if no majority was heard of since the last check (thesis §6.2)."""
        active = {member: pr.recent_active for member, pr in self.progress.items() if not pr.is_learner}
        active[self.id] = True
        if self._vote_result(active) != quorum.VOTE_WON:
            self._trace(f"{self.id:x} stepped down to follower since quorum is not active")
            self._become_follower(self.term, NONE)
        for member, pr in self.progress.items():
            pr.recent_active = member == self.id

    def step_down(self) -> None:
        """Stop leading, within the term; somebody's election timeout does the rest."""
        if self.role == LEADER:
            self._become_follower(self.term, NONE)

    # --- roles --------------------------------------------------------------------------------------------

    def _reset(self, term: int) -> None:
        if self.term != term:
            self.term = term
            self.vote = NONE
        self.lead = NONE
        self.lead_transferee = NONE
        self.election_elapsed = 0
        self.heartbeat_elapsed = 0
        self.randomized_election_timeout = self._election_ticks + self._random(self._election_ticks)
        self.votes = {}
        next_index = self.log.last_index + 1
        for member, pr in self.progress.items():
            self.progress[member] = self._new_progress(next_index, pr.is_learner)
        self.pending_conf_index = 0
        self.uncommitted_size = 0
        self.reads = PendingReads()
        self.reads_unsent = False
        self._awaiting_commit = []

    def _new_progress(self, next_index: int, is_learner: bool) -> Progress:
        window = Inflights(self._limits.max_inflight_messages, self._limits.max_inflight_bytes)
        return Progress(next_index, window, is_learner)

    def _become_follower(self, term: int, lead: int) -> None:
        self._reset(term)
        self.lead = lead
        self.role = FOLLOWER
        self._trace(f"{self.id:x} became follower at term {self.term}")

    def _become_candidate(self) -> None:
        assert self.role != LEADER
        self._reset(self.term + 1)
        self.vote = self.id
        self.role = CANDIDATE
        self._trace(f"{self.id:x} became candidate at term {self.term}")

    def _become_pre_candidate(self) -> None:
        assert self.role != LEADER
        # Neither term nor vote changes: that is the point of asking first (thesis §9.6).
        self.votes = {}
        self.lead = NONE
        self.role = PRE_CANDIDATE
        self._trace(f"{self.id:x} became pre-candidate at term {self.term}")

    def _become_leader(self) -> None:
        assert self.role == CANDIDATE
        self._reset(self.term)
        self.lead = self.id
        self.role = LEADER
        # Some change may be in the tail inherited from earlier terms; rather than look, wait until it is
        # applied.
        self.pending_conf_index = self.log.last_index
        own = self.progress[self.id]
        own.match = self.log.stable
        own.become_replicate()
        own.recent_active = True
        self._trace(f"{self.id:x} became leader at term {self.term}")
        # The entry with which the term's commits begin (Raft §8).
        self.log.append((Entry(self.term, self.log.last_index + 1),))
        self._broadcast_append()

    # --- elections ----------------------------------------------------------------------------------------

    def hup(self, transfer: bool = False) -> None:
        """Start an election, unless leading already, not a voter, or unsure of the configuration."""
        if self.role == LEADER:
            return
        if not self._is_promotable():
            self._trace(f"{self.id:x} is unpromotable and can not campaign")
            return
        # A committed change that is not applied yet decides who may vote.
        start = max(self.log.applied, self._known_conf_index) + 1
        if start <= self.log.committed and self.log.has_conf_change(start, self.log.committed + 1):
            self._trace(
                f"{self.id:x} cannot campaign at term {self.term} since there are still pending "
                "configuration changes to apply"
            )
            return
        self._trace(f"{self.id:x} is starting a new election at term {self.term}")
        if self._pre_vote and not transfer:
            self._pre_campaign()
        else:
            self._campaign(CAMPAIGN_TRANSFER if transfer else b"")

    def _is_promotable(self) -> bool:
        pr = self.progress.get(self.id)
        return pr is not None and not pr.is_learner and not self.log.is_restoring()

    def _pre_campaign(self) -> None:
        self._become_pre_candidate()
        # Nothing is promised, so the own voice counts at once.
        if self._poll(self.id, MSG_PRE_VOTE_RESP, True) == quorum.VOTE_WON:
            self._campaign(b"")
            return
        self._request_votes(MSG_PRE_VOTE, self.term + 1, b"")

    def _campaign(self, context: bytes) -> None:
        self._become_candidate()
        # The own vote counts once it is on disk; see ``persisted``.
        self.self_votes.append(Message(MSG_VOTE_RESP, to=self.id, from_=self.id, term=self.term))
        self._request_votes(MSG_VOTE, self.term, context)

    def _request_votes(self, kind: int, term: int, context: bytes) -> None:
        last_index, last_term = self.log.last_index, self.log.last_term
        for member in sorted(self.config.all_voters):
            if member == self.id:
                continue
            self._trace(
                f"{self.id:x} [logterm: {last_term}, index: {last_index}] sent {MESSAGE_NAMES[kind]} "
                f"request to {member:x} at term {self.term}"
            )
            self._send(
                Message(kind, to=member, term=term, index=last_index, log_term=last_term, context=context)
            )

    def _poll(self, member: int, kind: int, granted: bool) -> int:
        outcome = "" if granted else " rejection"
        self._trace(
            f"{self.id:x} received {MESSAGE_NAMES[kind]}{outcome} from {member:x} at term {self.term}"
        )
        self.votes.setdefault(member, granted)
        return self._vote_result(self.votes)

    def _vote_result(self, votes: dict[int, bool]) -> int:
        return quorum.joint_vote_result(self.config.voters, self.config.voters_outgoing, votes)

    def _handle_vote(self, m: Message) -> None:
        """RequestVote's receiver (Raft Figure 2), and the question whether it would be worth asking.

        A learner votes too: it may have been promoted without knowing yet, and its vote be needed.
        """
        may_vote = (
            self.vote == m.from_
            or (self.vote == NONE and self.lead == NONE)
            or (m.type == MSG_PRE_VOTE and m.term > self.term)
        )
        answer = MSG_VOTE_RESP if m.type == MSG_VOTE else MSG_PRE_VOTE_RESP
        granted = may_vote and self.log.is_up_to_date(m.index, m.log_term)
        self._trace(
            f"{self.id:x} [logterm: {self.log.last_term}, index: {self.log.last_index}, vote: {self.vote:x}] "
            f"{'cast' if granted else 'rejected'} {MESSAGE_NAMES[m.type]} {'for' if granted else 'from'} "
            f"{m.from_:x} [logterm: {m.log_term}, index: {m.index}] at term {self.term}"
        )
        if not granted:
            self._send(Message(answer, to=m.from_, term=self.term, reject=True))
            return
        # The term asked for, not ours: a pre-candidate ahead of us would ignore ours as old.
        self._send(Message(answer, to=m.from_, term=m.term))
        if m.type == MSG_VOTE:
            self.election_elapsed = 0
            self.vote = m.from_

    # --- messages -----------------------------------------------------------------------------------------

    def _send(self, m: Message) -> None:
        kind = m.type
        if m.from_ == NONE:
            m.from_ = self.id
        if kind in _ELECTION_MESSAGES:
            assert m.term != 0, m
        elif kind != MSG_PROP and kind != MSG_READ_INDEX:
            # Those two are on their way to whoever leads, in whichever term.
            m.term = self.term
        if kind in _AFTER_PERSIST:
            self.messages_after_persist.append(m)
        else:
            self.messages.append(m)

    def step(self, m: Message) -> None:
        """Take in one message.

        Raises:
            ProposalDropped: it was a proposal and went nowhere.
            LogLostError: it shows that this member's log lost what it had promised to keep.
        """
        if m.term > self.term:
            if not self._enter_higher_term(m):
                return
        elif 0 < m.term < self.term:
            self._answer_lower_term(m)
            return
        kind = m.type
        if kind in (MSG_VOTE, MSG_PRE_VOTE):
            self._handle_vote(m)
        elif self.role == LEADER:
            self._step_leader(m)
        elif self.role == FOLLOWER:
            self._step_follower(m)
        else:
            self._step_candidate(m)

    def _enter_higher_term(self, m: Message) -> bool:
        """Follow to the message's term where it obliges to (Raft §5.1). False: ignore the message."""
        kind = m.type
        if kind in (MSG_VOTE, MSG_PRE_VOTE):
            in_lease = (
                self._check_quorum and self.lead != NONE and self.election_elapsed < self._election_ticks
            )
            if in_lease and m.context != CAMPAIGN_TRANSFER:
                # A leader was heard of lately; whoever asks is cut off or removed (thesis §4.2.3).
                self._trace(
                    f"{self.id:x} ignored {MESSAGE_NAMES[kind]} from {m.from_:x} at term {self.term}: "
                    f"lease is not expired (remaining ticks: {self._election_ticks - self.election_elapsed})"
                )
                return False
        if kind == MSG_PRE_VOTE or (kind == MSG_PRE_VOTE_RESP and not m.reject):
            # Both speak of a term that may never come.
            return True
        self._trace(
            f"{self.id:x} [term: {self.term}] received a {MESSAGE_NAMES[kind]} message with higher term "
            f"from {m.from_:x} [term: {m.term}]"
        )
        is_leader = kind in _FROM_LEADER
        self._become_follower(m.term, m.from_ if is_leader else NONE)
        return True

    def _answer_lower_term(self, m: Message) -> None:
        kind = m.type
        if kind in (MSG_HEARTBEAT, MSG_APP) and (self._check_quorum or self._pre_vote):
            # A leader that may not be told by a vote request, since leases and pre-votes hold those back.
            self._send(Message(MSG_APP_RESP, to=m.from_))
        elif kind == MSG_PRE_VOTE:
            # Else a candidate with a high term and a short log could wait for an answer for ever.
            self._send(Message(MSG_PRE_VOTE_RESP, to=m.from_, term=self.term, reject=True))

    # --- as a candidate -----------------------------------------------------------------------------------

    def _step_candidate(self, m: Message) -> None:
        kind = m.type
        if kind in _FROM_LEADER:
            # Somebody else won this term.
            self._become_follower(m.term, m.from_)
            self._step_follower(m)
        elif kind == (MSG_PRE_VOTE_RESP if self.role == PRE_CANDIDATE else MSG_VOTE_RESP):
            result = self._poll(m.from_, kind, not m.reject)
            if result == quorum.VOTE_WON:
                if self.role == PRE_CANDIDATE:
                    self._campaign(b"")
                else:
                    self._become_leader()
            elif result == quorum.VOTE_LOST:
                self._become_follower(self.term, NONE)
        elif kind == MSG_PROP:
            self._trace(f"{self.id:x} no leader at term {self.term}; dropping proposal")
            raise ProposalDropped("no leader")

    # --- as a follower ------------------------------------------------------------------------------------

    def _step_follower(self, m: Message) -> None:
        kind = m.type
        if kind == MSG_APP:
            self._heard_of_leader(m.from_)
            self._handle_append(m)
        elif kind == MSG_HEARTBEAT:
            self._heard_of_leader(m.from_)
            self.log.commit_to(m.commit)
            self._send(Message(MSG_HEARTBEAT_RESP, to=m.from_, context=m.context))
        elif kind == MSG_SNAP:
            self._heard_of_leader(m.from_)
            self._handle_snapshot(m)
        elif kind == MSG_PROP:
            if self.lead == NONE:
                self._trace(f"{self.id:x} no leader at term {self.term}; dropping proposal")
                raise ProposalDropped("no leader")
            self._forward(m)
        elif kind in (MSG_READ_INDEX, MSG_TRANSFER_LEADER):
            if self.lead != NONE:
                self._forward(m)
        elif kind == MSG_TIMEOUT_NOW:
            self._trace(
                f"{self.id:x} [term {self.term}] received MsgTimeoutNow from {m.from_:x} and starts "
                "an election to get leadership."
            )
            self.hup(transfer=True)
        elif kind == MSG_READ_INDEX_RESP and len(m.entries) == 1:
            self.read_states.append(ReadState(m.index, m.entries[0].data))

    def _heard_of_leader(self, lead: int) -> None:
        self.election_elapsed = 0
        self.lead = lead

    def _forward(self, m: Message) -> None:
        self._send(Message(m.type, to=self.lead, from_=m.from_, entries=m.entries, context=m.context))

    def _handle_append(self, m: Message) -> None:
        """AppendEntries' receiver (Raft Figure 2, §5.3)."""
        log = self.log
        if m.index < log.committed:
            # Everything committed is the leader's too; answering so also heals a lost acknowledgement.
            self._send(Message(MSG_APP_RESP, to=m.from_, index=log.committed))
            return
        count = len(m.entries)
        if count and (m.entries[0].index != m.index + 1 or m.entries[-1].index != m.index + count):
            return
        last_new = log.maybe_append(m.index, m.log_term, m.commit, m.entries)
        if last_new != NOT_MATCHING:
            self._send(Message(MSG_APP_RESP, to=m.from_, index=last_new))
            return
        # The leader's terms up to m.index are ≤ m.log_term: where ours are higher, the logs can't agree.
        hint = log.find_conflict_by_term(min(m.index, log.last_index), m.log_term)
        self._send(
            Message(
                MSG_APP_RESP,
                to=m.from_,
                index=m.index,
                reject=True,
                reject_hint=hint,
                log_term=max(log.term(hint), 0),
            )
        )

    def _handle_snapshot(self, m: Message) -> None:
        restored = self._restore(m)
        index = self.log.last_index if restored else self.log.committed
        self._trace(
            f"{self.id:x} [commit: {self.log.committed}] {'restored' if restored else 'ignored'} snapshot "
            f"[index: {m.snapshot.metadata.index}, term: {m.snapshot.metadata.term}]"
        )
        self._send(Message(MSG_APP_RESP, to=m.from_, index=index))

    def _restore(self, m: Message) -> bool:
        """InstallSnapshot's receiver (Raft §7). False if there is nothing new in it, or nothing for us."""
        metadata = m.snapshot.metadata
        if metadata.index <= self.log.committed:
            return False
        try:
            config = confchange.restore(metadata.conf_state)
        except ConfChangeError as error:
            self._trace(f"{self.id:x} refused a snapshot with an impossible configuration: {error}")
            return False
        if self.id not in config.members:
            return False
        if self.log.matches(metadata.index, metadata.term):
            # The log has it all: only the commit index was behind.
            self.log.commit_to(metadata.index)
            return False
        self.log.restore(m.snapshot)
        self._known_conf_index = metadata.index
        self.progress = {}
        self._switch_to(config)
        return True

    # --- as the leader: what others say -------------------------------------------------------------------

    def _step_leader(self, m: Message) -> None:
        kind = m.type
        if kind == MSG_PROP:
            self.propose(m.entries)
            return
        if kind == MSG_READ_INDEX:
            self._read_index(m)
            return
        pr = self.progress.get(m.from_)
        if pr is None:
            return
        if kind == MSG_APP_RESP:
            pr.recent_active = True
            if m.reject:
                self._handle_append_rejected(m, pr)
            elif m.index <= self.log.last_index:
                self._handle_append_accepted(m, pr)
        elif kind == MSG_HEARTBEAT_RESP:
            self._handle_heartbeat_resp(m, pr)
        elif kind == MSG_SNAP_STATUS:
            self._handle_snap_status(m, pr)
        elif kind == MSG_UNREACHABLE:
            # What was sent on trust is probably lost.
            if pr.state == REPLICATE:
                pr.become_probe()
        elif kind == MSG_TRANSFER_LEADER:
            self._handle_transfer(m.from_, pr)

    def _handle_append_rejected(self, m: Message, pr: Progress) -> None:
        probe = m.reject_hint
        if m.log_term > 0:
            # Where our terms are higher than the follower's at the hint, the logs can't agree either.
            probe = self.log.find_conflict_by_term(min(m.reject_hint, self.log.last_index), m.log_term)
        if pr.maybe_decrease(m.index, probe):
            if pr.state == REPLICATE:
                pr.become_probe()
            self._send_append(m.from_, pr)

    def _handle_append_accepted(self, m: Message, pr: Progress) -> None:
        # A probe that comes back with what was known already is still an answer: go on.
        if not pr.maybe_update(m.index) and not (pr.match == m.index and pr.state == PROBE):
            return
        if pr.state == PROBE:
            pr.become_replicate()
        elif pr.state == SNAPSHOT:
            # Any point that reconnects it to our log will do, also another snapshot's than the one sent.
            if pr.match + 1 >= self.log.first_index:
                pr.become_probe()
                pr.become_replicate()
        else:
            pr.inflights.free_up_to(m.index)
        if not self.maybe_commit() and pr.wants_commit(self.log.committed):
            self._send_append(m.from_, pr)
        # Room in the window may be enough for several messages.
        while self._maybe_send_append(m.from_, pr, send_if_empty=False):
            pass
        if m.from_ == self.lead_transferee and pr.match == self.log.last_index:
            self._send(Message(MSG_TIMEOUT_NOW, to=m.from_))

    def _handle_heartbeat_resp(self, m: Message, pr: Progress) -> None:
        pr.recent_active = True
        pr.paused = False
        if pr.match < self.log.last_index or pr.state == PROBE:
            self._send_append(m.from_, pr)
        if m.context:
            self.reads.acknowledge(m.from_, m.context)
            self._answer_confirmed_reads()

    def _handle_snap_status(self, m: Message, pr: Progress) -> None:
        if pr.state != SNAPSHOT:
            return
        if m.reject:
            # It has nothing of it: probe from where it was.
            pr.pending_snapshot = 0
        pr.become_probe()
        # Wait for its acknowledgement, or for the next heartbeat's answer, before sending again.
        pr.paused = True

    def _handle_transfer(self, transferee: int, pr: Progress) -> None:
        """Hand over (thesis §3.10): take no more proposals, bring it up to date, tell it to start."""
        if pr.is_learner or transferee == self.lead_transferee:
            return
        self.lead_transferee = NONE
        if transferee == self.id:
            return
        self._trace(f"{self.id:x} [term {self.term}] starts to transfer leadership to {transferee:x}")
        self.election_elapsed = 0
        self.lead_transferee = transferee
        if pr.match == self.log.last_index:
            self._send(Message(MSG_TIMEOUT_NOW, to=transferee))
        else:
            self._send_append(transferee, pr)

    # --- as the leader: replication -----------------------------------------------------------------------

    def _send_append(self, to: int, pr: Progress) -> None:
        self._maybe_send_append(to, pr, send_if_empty=True)

    def _maybe_send_append(self, to: int, pr: Progress, *, send_if_empty: bool) -> bool:
        """Send what ``to`` is missing, as the state of its progress allows. Whether anything was sent.

        A full window still lets an empty message through now and then (the answers to heartbeats unpause it):
        if all that was under way is lost, that one's answer shows it.
        """
        if pr.is_paused():
            return False
        log = self.log
        previous = pr.next - 1
        previous_term = log.term(previous)
        if previous_term == NO_TERM:
            return self._maybe_send_snapshot(to, pr)
        entries: list[Entry] = []
        if pr.state != REPLICATE or not pr.inflights.is_full():
            entries = log.page(pr.next, log.last_index + 1, self._limits.max_size_per_message)
        if not entries and not send_if_empty:
            return False
        self._send(
            Message(
                MSG_APP,
                to=to,
                index=previous,
                log_term=previous_term,
                entries=entries,
                commit=log.committed,
            )
        )
        pr.sent_entries(len(entries), entries_size(entries))
        pr.sent_commit = log.committed
        return True

    def _maybe_send_snapshot(self, to: int, pr: Progress) -> bool:
        snapshot = self.log.snapshot
        if not pr.recent_active or snapshot.is_empty():
            # Who does not answer heartbeats would not get it.
            return False
        pr.become_snapshot(snapshot.metadata.index)
        self._send(Message(MSG_SNAP, to=to, snapshot=snapshot))
        return True

    def _broadcast_append(self) -> None:
        for member in self._others:
            self._send_append(member, self.progress[member])

    def _broadcast_heartbeat(self) -> None:
        context = self.reads.context()
        self.reads_unsent = False
        for member in self._others:
            pr = self.progress[member]
            # Never more than is known to match: a heartbeat checks nothing.
            commit = min(pr.match, self.log.committed)
            self._send(Message(MSG_HEARTBEAT, to=member, commit=commit, context=context))
            pr.sent_commit = commit

    def maybe_commit(self) -> bool:
        """Commit what a majority has, if of this term (Raft §5.4.2, Figure 8). True if that was news."""
        matched = {member: pr.match for member, pr in self.progress.items()}
        index = quorum.joint_committed_index(self.config.voters, self.config.voters_outgoing, matched)
        if index <= self.log.committed or self.log.term(index) != self.term:
            return False
        self.log.commit_to(index)
        self._broadcast_append()
        waiting, self._awaiting_commit = self._awaiting_commit, []
        for request in waiting:
            self._read_index(request)
        return True

    # --- proposals ----------------------------------------------------------------------------------------

    def propose_data(self, data: Sequence[bytes]) -> None:
        """Propose ``data``, one entry each, all or none; forwarded if another member leads.

        Raises:
            ProposalDropped: none of it went anywhere.
        """
        if self.role == LEADER:
            term = self.term
            size = sum(map(len, data))
            self._check_may_append(size)
            index = self.log.last_index
            self._append([Entry(term, index := index + 1, ENTRY_NORMAL, item) for item in data], size)
        else:
            entries = [Entry(0, 0, ENTRY_NORMAL, item) for item in data]
            self.step(Message(MSG_PROP, from_=self.id, entries=entries))

    def propose(self, proposed: Sequence[Entry]) -> None:
        """Propose entries whose term and index are still to be given. Only as the leader."""
        index = self.log.last_index
        pending = self.pending_conf_index
        entries: list[Entry] = []
        for entry in proposed:
            index += 1
            kind, data = entry.type, entry.data
            if kind != ENTRY_NORMAL:
                refused = self._refuses_conf_change(kind, data, pending)
                if refused:
                    self._trace(f"{self.id:x} ignoring conf change at config {self.config}: {refused}")
                    kind, data = ENTRY_NORMAL, b""
                else:
                    pending = index
            entries.append(Entry(self.term, index, kind, data))
        # Counted as it will be handed out: a refused change has become an empty entry.
        size = entries_size(entries)
        self._check_may_append(size)
        self.pending_conf_index = pending
        self._append(entries, size)

    def _check_may_append(self, size: int) -> None:
        if self.id not in self.progress:
            raise ProposalDropped("removed from the cluster")
        if self.lead_transferee != NONE:
            raise ProposalDropped(f"leadership is being transferred to {self.lead_transferee:x}")
        # An empty tail takes a proposal of any size, or a large one could never be made; what has no size at
        # all (leaving a joint configuration) is always taken.
        total = self.uncommitted_size + size
        if self.uncommitted_size > 0 and size > 0 and total > self._limits.max_uncommitted_size:
            raise ProposalDropped(f"{self.uncommitted_size} bytes are uncommitted already")

    def _append(self, entries: Sequence[Entry], size: int) -> None:
        self.uncommitted_size += size
        self.log.append(entries)
        self._broadcast_append()

    def _refuses_conf_change(self, kind: int, data: bytes, pending: int) -> str:
        """Why the change can't be taken now, or nothing: one at a time, and joint ones are left first."""
        leaves_joint = _leaves_joint(kind, data)
        if pending > self.log.applied:
            return f"possible unapplied conf change at index {pending} (applied to {self.log.applied})"
        if self.config.is_joint and not leaves_joint:
            return "must transition out of joint config first"
        if not self.config.is_joint and leaves_joint:
            return "not in joint state; refusing empty conf change"
        return ""

    def committed_taken(self, size: int) -> None:
        """Entries of ``size`` bytes were handed out as committed. (An inherited tail was never counted.)"""
        self.uncommitted_size = max(0, self.uncommitted_size - size)

    # --- reads --------------------------------------------------------------------------------------------

    def _read_index(self, m: Message) -> None:
        if (
            len(m.entries) != 1
            or len(self.reads) + len(self._awaiting_commit) >= limits.RAFT_MAX_PENDING_READS
        ):
            return
        if self.log.term(self.log.committed) != self.term:
            # Only a commit of this term shows what earlier ones had committed (thesis §6.4, step 1).
            self._awaiting_commit.append(m)
            return
        self.reads.add(self.log.committed, m)
        self.reads.acknowledge(self.id, self.reads.context())
        self.reads_unsent = True
        self._answer_confirmed_reads()

    def _answer_confirmed_reads(self) -> None:
        for index, request in self.reads.take_confirmed(self.config):
            if request.from_ == NONE or request.from_ == self.id:
                self.read_states.append(ReadState(index, request.entries[0].data))
            else:
                self._send(
                    Message(MSG_READ_INDEX_RESP, to=request.from_, index=index, entries=request.entries)
                )
        if not self.reads:
            self.reads_unsent = False

    def send_reads(self) -> None:
        """Send the heartbeats that all reads since the last ones wait for."""
        if self.reads_unsent:
            self._broadcast_heartbeat()

    # --- what the shell reports ---------------------------------------------------------------------------

    def persisted(self, own_votes: Sequence[Message]) -> None:
        """The Ready under way is on disk: count the own copy of its entries, and the own vote it held."""
        self.log.saved()
        for vote in own_votes:
            self.step(vote)
        if self.role == LEADER:
            own = self.progress.get(self.id)
            if own is not None and own.maybe_update(self.log.stable):
                self.maybe_commit()

    def applied_to(self, index: int) -> None:
        """Everything up to ``index`` is in the state machine; leave a joint configuration if it is time."""
        self.log.applied_to(index)
        if self.role != LEADER or not self.config.auto_leave or self.log.applied < self.pending_conf_index:
            return
        if self.lead_transferee == NONE and self.id in self.progress:
            # Else the next applied entry, here or at the next leader, brings us here again.
            self.propose((Entry(0, 0, ENTRY_CONF_CHANGE_V2),))

    # --- membership ---------------------------------------------------------------------------------------

    def apply_conf_change(self, change: ConfChangeV2) -> ConfState:
        """Take a committed change into effect.

        Raises:
            ConfChangeError: it does not apply; nothing has changed.
        """
        self._switch_to(confchange.apply(self.config, change))
        return self.config.conf_state()

    def bootstrap(self, entries: Sequence[Entry], conf: ConfState) -> None:
        """Begin with ``entries`` as committed and in effect: how every member of a new cluster starts."""
        self._become_follower(1, NONE)
        self.log.append(entries)
        self.log.commit_to(entries[-1].index)
        self._known_conf_index = entries[-1].index
        self._switch_to(confchange.restore(conf))

    def _switch_to(self, config: Configuration) -> None:
        self.config = config
        last_index = self.log.last_index
        progress: dict[int, Progress] = {}
        for member in sorted(config.members):
            is_learner = member in config.learners
            pr = self.progress.get(member)
            if pr is None:
                pr = self._new_progress(max(last_index, 1), is_learner)
                # Else the next check of the quorum might come before it had a chance to speak.
                pr.recent_active = True
            pr.is_learner = is_learner
            progress[member] = pr
        self.progress = progress
        self._others = [member for member in progress if member != self.id]
        self._trace(f"{self.id:x} switched to configuration {config}")
        if self.role == LEADER:
            self._lead_new_config()

    def _lead_new_config(self) -> None:
        # A leader that removed itself leads on, as in etcd 3.5, until its shell stops it: changes count from
        # when they are applied here, and the others need its next messages to learn that this one is
        # committed. It takes no proposals and does not count itself in majorities (thesis §4.2.2).
        if not self.maybe_commit():
            # New members need not wait for the next heartbeat.
            for member in self._others:
                self._maybe_send_append(member, self.progress[member], send_if_empty=False)
        self._answer_confirmed_reads()
        if self.lead_transferee not in self.config.all_voters:
            self.lead_transferee = NONE

    # --- checks -------------------------------------------------------------------------------------------

    def check_invariants(self) -> None:
        """Assert the formulas of this member, its log and its progress. O(length of the log)."""
        self.log.check_invariants()
        self.config.check_invariants()
        assert self.log.last_term <= self.term, (self.log.last_term, self.term)
        assert self.progress.keys() == self.config.members, (self.progress.keys(), self.config)
        if self.role == LEADER:
            assert self.lead == self.id
            own = self.progress.get(self.id)
            assert own is None or own.match == self.log.stable, (own, self.log.stable)
            for pr in self.progress.values():
                pr.check_invariants()
                assert pr.match <= self.log.last_index, (pr, self.log.last_index)
        else:
            assert self.lead != self.id
        if self.role == CANDIDATE:
            assert self.lead == NONE
            assert self.vote == self.id
        if self.role == PRE_CANDIDATE:
            assert self.lead == NONE
