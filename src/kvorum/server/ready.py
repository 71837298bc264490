"""The Ready loop: persist, send, apply, in one place and in this order.

One round takes what has gathered (proposals, read requests) to Raft and carries out its next Ready:

1. Leadership changes are told to those who wait on a leader: a read confirmed by a deposed one could be
stale. 2. The leader's messages are sent. They may overtake step 3 (thesis §10.2.1): the leader counts its own
copy only
   once step 5 has reported it.
3. New entries, term and vote go to the log. One write and one fdatasync for everything that waited, in the
WAL's
   thread; while it runs the next batch gathers here. Were anything acknowledged before that, a crash could
   take back what a client or another member was told.
4. Entries committed by *earlier* rounds are applied, beside the fdatasync of step 3. They are durable here
   already: Raft hands out as committed only what was reported persisted, so the backend never runs ahead of
   the log.
5. When the log is durable: votes and acknowledgements are sent, Raft is told (``advance``), and the next
round
   begins. Sent before step 3 they would promise what a crash could break.

A snapshot from the leader takes the place of the log, so step 3 grows: first its ``.snap`` file becomes
durable, then its marker, the hard state and the entries behind it in one batch, because a marker promises the
file. Only then does it replace the state machine: a crash in between finds the marker, and the database that
was received beside the old one.

The loop never waits: it is called, does what can be done, and is called again. Source of the order: Raft
Figure 2, thesis §10.2.1, etcd ``server/etcdserver/raft.go``.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Protocol, final

from kvorum import failpoint
from kvorum.raft.core import ProposalDropped
from kvorum.raft.rawnode import RawNode, Ready
from kvorum.raft.types import EMPTY_SNAPSHOT, Entry, HardState, Message, Snapshot
from kvorum.server.propose import Proposals
from kvorum.server.reads import Reads
from kvorum.wal.batch import Batch
from kvorum.wal.record import WalSnapshot
from kvorum.wal.wal import Wal

Written = Callable[[BaseException | None, float], None]
"""What went wrong or None, and the seconds it took."""


class Writer(Protocol):
    """Makes batches durable, one at a time (``wal/writer.py``)."""

    @property
    def busy(self) -> bool:
        """Whether a batch is under way."""

    def submit(self, batch: Batch, done: Written) -> None:
        """Make ``batch`` durable; ``done`` is called on the loop, in a later turn."""

    def stalled_seconds(self) -> float:
        """For how long the batch under way has been so; 0.0 if there is none."""


class Transport(Protocol):
    """Carries messages to the other members; never blocks, may lose (Raft repeats itself)."""

    def send(self, messages: Sequence[Message]) -> None:
        """Send each message to the member it is addressed to."""


class StateMachine(Protocol):
    """What committed entries are applied to (``server/node.py``)."""

    applied_index: int

    def apply(self, entries: Sequence[Entry]) -> None:
        """Apply entries, in order, each exactly once."""

    def leader_changed(self, leader: int) -> None:
        """The leader is now ``leader``; 0 for none."""

    def save_snapshot(self, snapshot: Snapshot, done: Callable[[], None]) -> None:
        """Write the ``.snap`` file of a snapshot from the leader; ``done`` once it is durable."""

    def install_snapshot(self, snapshot: Snapshot) -> None:
        """Replace everything by a snapshot that the log knows of."""


@final
class ReadyLoop:
    """Drives Raft. Owns the order of everything; owns no state but where in a round it is.

    Invariant: at most one Ready is being persisted (``_persisting``), and ``advance`` has not been called for
    it.
    """

    def __init__(
        self,
        raft: RawNode,
        wal: Wal,
        writer: Writer,
        *,
        transport: Transport,
        clock: Callable[[], float],
        call_soon: Callable[[Callable[[], None]], object],
        fatal: Callable[[BaseException], None],
        observe_fsync: Callable[[float], None],
    ) -> None:
        self._raft: Final = raft
        self._wal: Final = wal
        self._writer: Final = writer
        self._transport: Final = transport
        self._clock: Final = clock
        self._call_soon: Final = call_soon
        self._fatal: Final = fatal
        self._observe_fsync: Final = observe_fsync
        self._proposals: Proposals
        self._reads: Reads
        self._machine: StateMachine
        self._scheduled = False
        self._stopped = False
        self._persisting: Ready | None = None
        self._unsaved: HardState | None = None
        self._idle: Callable[[], None] | None = None
        self._markers: Final[deque[tuple[WalSnapshot, Callable[[], None]]]] = deque()

    def attach(self, proposals: Proposals, reads: Reads, machine: StateMachine) -> None:
        """Name those who feed the loop and what it feeds; once, before the first ``kick``."""
        self._proposals = proposals
        self._reads = reads
        self._machine = machine

    def kick(self) -> None:
        """Run a round at the end of this loop turn; any number of kicks make one round."""
        if not self._scheduled and not self._stopped:
            self._scheduled = True
            self._call_soon(self._run)

    def write_marker(self, marker: WalSnapshot, done: Callable[[], None]) -> None:
        """Write a snapshot's marker to the log between two Readies; ``done`` is called when it is durable."""
        self._markers.append((marker, done))
        self.kick()

    def stop(self, idle: Callable[[], None]) -> None:
        """Do nothing more; ``idle`` is called once what is being synced is finished, at once if nothing
        is.
        """
        self._stopped = True
        if self._wal.failure is None:
            self._defer_hard_state()
        if self._writer.busy:
            self._idle = idle
        else:
            idle()

    @property
    def stalled_seconds(self) -> float:
        """For how long the log has been waiting for the disk; 0.0 if it is not."""
        return self._writer.stalled_seconds()

    def guard(self, work: Callable[[], None]) -> None:
        """Do a part of the member's work. Whatever it raises ends the member: going on could answer for what
        is not so.
        """
        try:
            work()
        except Exception as error:
            self._fail(error)

    def _run(self) -> None:
        self._scheduled = False
        if not self._stopped:
            self.guard(self._rounds)

    def _rounds(self) -> None:
        self._feed()
        while not self._writer.busy and self._persisting is None and not self._stopped:
            if self._markers:
                self._start_marker(*self._markers.popleft())
            elif self._raft.has_ready():
                self._carry_out(self._raft.ready())
            else:
                break

    def _feed(self) -> None:
        """Give Raft what has gathered since the last round."""
        batch = self._proposals.take()
        if batch:
            try:
                self._raft.propose(batch)
            except ProposalDropped:
                self._proposals.put_back(batch)
        context = self._reads.next_request(self._clock())
        if context is not None:
            self._raft.read_index(context)

    def _carry_out(self, ready: Ready) -> None:
        """One round; the numbers are those of the module's docstring."""
        # 1
        if ready.soft_state is not None:
            self._machine.leader_changed(ready.soft_state.lead)
        # 2
        if ready.messages:
            self._transport.send(ready.messages)
        # 3
        if ready.hard_state is not None:
            self._unsaved = ready.hard_state
        if ready.snapshot is not EMPTY_SNAPSHOT:
            self._persisting = ready
            self._machine.save_snapshot(ready.snapshot, lambda: self._go_on(lambda: self._persist(ready)))
        elif ready.must_sync:  # a new commit index alone is a hint, and goes with the next batch
            self._persist(ready)
        # 4
        for read_state in ready.read_states:
            self._reads.confirmed(read_state.context, read_state.index)
        if ready.committed_entries:
            self._machine.apply(ready.committed_entries)
        self._reads.run(self._machine.applied_index)
        # 5
        if self._persisting is None:
            self._finish(ready)

    def _persist(self, ready: Ready) -> None:
        self._persisting = ready
        marker = None
        if ready.snapshot is not EMPTY_SNAPSHOT:
            metadata = ready.snapshot.metadata
            marker = WalSnapshot(metadata.index, metadata.term, metadata.conf_state)
        batch = self._wal.prepare(self._unsaved, ready.entries, marker)
        self._unsaved = None
        self._writer.submit(batch, self._persisted)

    def _persisted(self, error: BaseException | None, fsync_seconds: float) -> None:
        """The WAL's thread is done with the batch; called on the loop."""
        ready, self._persisting = self._persisting, None
        assert ready is not None, "the WAL reported a batch that was not under way"
        if error is not None:
            # The kernel may have dropped what it could not write: nothing after this can be trusted to the
            # disk.
            self._fail(error)
            return
        self._observe_fsync(fsync_seconds)
        self._go_on(lambda: self._finish_durable(ready))

    def _start_marker(self, marker: WalSnapshot, done: Callable[[], None]) -> None:
        def written(error: BaseException | None, _fsync_seconds: float) -> None:
            if error is not None:
                self._fail(error)
            else:
                self._go_on(done)

        self._defer_hard_state()  # the commit index the marker lies under goes before it
        self._writer.submit(self._wal.prepare_snapshot(marker), written)

    def _defer_hard_state(self) -> None:
        """Give the log the newest commit index; it keeps it for the next batch, or for its end."""
        if self._unsaved is not None:
            self._wal.prepare(self._unsaved, ())
            self._unsaved = None

    def _go_on(self, finish: Callable[[], None]) -> None:
        """The log is durable: finish what waited for that, then the next round."""
        if self._stopped:
            self._say_idle()
            return
        self.guard(finish)
        self._run()

    def _fail(self, error: BaseException) -> None:
        self._stopped = True
        self._fatal(error)
        self._say_idle()

    def _say_idle(self) -> None:
        if self._idle is not None:
            self._idle()

    def _finish_durable(self, ready: Ready) -> None:
        if failpoint.enabled:
            failpoint.hit("ready_after_persist")
        if ready.snapshot is not EMPTY_SNAPSHOT:
            self._machine.install_snapshot(ready.snapshot)
        self._finish(ready)

    def _finish(self, ready: Ready) -> None:
        if ready.messages_after_persist:
            self._transport.send(ready.messages_after_persist)
        self._raft.advance()
