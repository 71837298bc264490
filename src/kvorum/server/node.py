"""The node: one member's replicated state machine, without sockets.

It joins what the Ready loop drives (Raft, the log) to what it drives (the store, the membership) and offers
the API what it may ask: propose, read linearizably, look at the status. Time comes in as ``Timers``, so the
same node runs on a real loop or a simulated one.
"""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from typing import Final, final

from kvorum import failpoint, limits
from kvorum.apply.alarms import NOSPACE, Alarms
from kvorum.apply.applier import Applier, Result
from kvorum.errors import (
    ERR_STOPPED,
    ERR_TIMEOUT,
    ERR_TIMEOUT_DUE_TO_CONNECTION_LOST,
    ERR_TIMEOUT_DUE_TO_LEADER_FAIL,
    EtcdError,
)
from kvorum.lease.lessor import Lessor
from kvorum.logging import Logger
from kvorum.mvcc.hash import HashKvResult as HashKvResult
from kvorum.mvcc.store import ReadView, Store
from kvorum.proto.rpc_pb2 import AlarmRequest, AlarmType
from kvorum.raft.codec import encode_conf_state
from kvorum.raft.core import ProposalDropped
from kvorum.raft.rawnode import RawNode
from kvorum.raft.types import (
    ENTRY_NORMAL,
    Entry,
    Message,
    Snapshot,
)
from kvorum.server import requests
from kvorum.server.auth import Auth
from kvorum.server.header import Header
from kvorum.server.ids import RequestIdGenerator
from kvorum.server.leases import Leases
from kvorum.server.membership import Cluster
from kvorum.server.observers import Observers
from kvorum.server.options import NodeOptions as NodeOptions
from kvorum.server.propose import Done, Proposals
from kvorum.server.reads import Reads
from kvorum.server.ready import ReadyLoop
from kvorum.server.reconfigure import Reconfigure, Transport
from kvorum.server.slices import SlicedWork
from kvorum.server.snapshots import Snapshots
from kvorum.server.timers import Timers
from kvorum.server.v2 import V2
from kvorum.server.watches import Watches
from kvorum.watch.hub import WatchHub


def _ignore(_result: Result) -> None:
    """For proposals that nobody waits for."""


def _nothing() -> None:
    """Nobody wants to hear."""


@final
class Node:
    """One member: proposals in, entries applied, reads confirmed.

    Invariants: ``applied_index`` equals the store's consistent index after every batch; entries are applied
    once and in order; ``applied_index ≤ committed_index``.
    """

    def __init__(
        self,
        *,
        member_id: int,
        raft: RawNode,
        loop: ReadyLoop,
        store: Store,
        cluster: Cluster,
        snapshots: Snapshots,
        ids: RequestIdGenerator,
        timers: Timers,
        log: Logger,
        options: NodeOptions,
        transport: Transport,
        removed: Callable[[], None],
        wall_clock: Callable[[], int] = time.time_ns,
    ) -> None:
        """``removed`` is called when this member was removed from its cluster, and the others know."""
        self.member_id: Final = member_id
        self.store: Final = store
        self.cluster: Final = cluster
        self.term = raft.term
        self.leader = raft.lead
        self.applied_index = store.consistent_index
        self.leader_changes_total = 0
        self._raft: Final = raft
        self._loop: Final = loop
        self._snapshots: Final = snapshots
        self.timers: Final = timers
        self._log: Final = log
        self._options: Final = options
        self.lessor: Final = Lessor(store.table(b"lease"), minimum_ttl=options.minimum_lease_ttl_seconds)
        self.lessor.reattach(store.restored_leases)
        store.restored_leases.clear()
        self.header: Final = Header(cluster.id, member_id)
        self.watch_hub: Final = WatchHub(
            store,
            store.revision,
            lambda revision: self.header.encode(revision, self.term),
            random.random,
            max_response_bytes=options.max_request_bytes + limits.GRPC_OVERHEAD_BYTES,
            progress_interval_seconds=options.watch_progress_seconds,
        )
        self._watches: Final = Watches(self.watch_hub, timers, loop.guard)
        self.observers: Final = Observers()
        self.v2: Final = V2(self, store, cluster, wall_clock)
        self.auth: Final = Auth(self, store, self.lessor, timers, log, options)
        self._applier: Final = Applier(
            store, cluster, self.lessor, self.auth.applier, self._changed, timers.time, self.v2.applier
        )
        timeout = options.request_timeout_seconds
        self.proposals: Final = Proposals(
            ids,
            loop.kick,
            timeout_seconds=timeout,
            max_request_bytes=options.max_request_bytes,
            late=self.why_late,
        )
        self.reconfigure: Final = Reconfigure(
            raft,
            cluster,
            transport,
            self,
            timers,
            log,
            next_id=ids.next,
            unix_time=time.time,
            timeout_seconds=timeout,
            strict=options.strict_reconfig_check,
        )
        self.reads: Final = Reads(ids, loop.kick, timeout_seconds=timeout)
        self.leases: Final = Leases(self.lessor, self, timers, ids.next, timeout)
        self.slices: Final = SlicedWork(
            store, timers, loop.guard, compaction_pause_seconds=options.compaction_sleep_seconds
        )
        self._stopped = False
        self._told_of_slow_disk = False
        self._removed: Final = removed
        self.term_began: Callable[[], None] = _nothing
        """Called when this member leads and the first entry of its term is applied."""
        self._active_since: Final = transport.active_since
        self.leader_since = timers.time()
        loop.attach(self.proposals, self.reads, self)

    # --- what the API sees -----------------------------------------------------------------------------

    @property
    def revision(self) -> int:
        """The store's revision: that of the last applied write."""
        return self.store.revision

    @property
    def election_seconds(self) -> float:
        """The election timeout."""
        return self._options.election_seconds

    def view(self) -> ReadView:
        """The store as it stands now, for reads that may run; good until the next entry is applied."""
        return self.store.read()

    @property
    def db_size_bytes(self) -> int:
        """Size of the database file."""
        return self.store.backend.size

    @property
    def db_size_in_use_bytes(self) -> int:
        """Bytes of the database file that hold data."""
        return self.store.backend.size_in_use

    @property
    def committed_index(self) -> int:
        """The highest log index known to be committed."""
        return self._raft.commit

    @property
    def is_leader(self) -> bool:
        """Whether this member leads."""
        return self.leader == self.member_id

    @property
    def is_learner(self) -> bool:
        """Whether this member only follows, without a vote."""
        local = self.cluster.local
        return local is not None and local.is_learner

    @property
    def alarms(self) -> Alarms:
        """The alarms that are raised."""
        return self._applier.alarms

    def has_room_for(self, cost_bytes: int) -> bool:
        """Whether the backend may grow by so much (``--quota-backend-bytes``; etcd ``quota.go``).

        If not, the alarm is raised before anybody is told, as in etcd.
        """
        quota = self._options.quota_bytes
        if not quota or self.store.backend.size + cost_bytes < quota:
            return True
        if not self._applier.alarms.is_raised(NOSPACE):
            alarm = AlarmRequest(
                action=AlarmRequest.AlarmAction.ACTIVATE, memberID=self.member_id, alarm=AlarmType.NOSPACE
            )
            self.propose(requests.ALARM, alarm.SerializeToString(), _ignore)
            self._log.warn("alarm raised", alarm="NOSPACE", quota_size_bytes=quota)
        return False

    def propose(self, number: int, body: bytes, done: Done, parsed: object = None, who: bytes = b"") -> None:
        """Put a request into the log; ``done`` gets what applying it gave.

        ``parsed`` and ``who`` are as in ``Applier.apply``; what was parsed must not change any more.

        Raises:
            EtcdError: ERR_REQUEST_TOO_LARGE, ERR_REQUEST_TOO_MANY_REQUESTS, ERR_STOPPED.
        """
        if self._stopped:
            raise ERR_STOPPED
        self.proposals.propose(number, body, done, self._raft.commit - self.applied_index, parsed, who)

    def propose_as_leader(self, batch: Sequence[tuple[int, bytes, Done]]) -> None:
        """Put requests into this member's own log if it leads, at once: they must not reach another leader,
        who may know better by then. If it does not lead they are answered with ERR_NOT_LEADER.
        """
        data = [self.proposals.enter(*request, self.auth.root()) for request in batch]
        try:
            if not self._raft.is_leader:
                raise ProposalDropped("another member leads")
            self._raft.propose(data)
        except ProposalDropped:
            self.proposals.withdraw(data)
        else:
            self._loop.kick()

    def guard(self, work: Callable[[], None]) -> None:
        """Do a part of the member's work; whatever it raises ends the member."""
        self._loop.guard(work)

    async def linearizable_read(self) -> None:
        """Return once the store is known to be no older than this moment.

        Raises:
            EtcdError: ERR_TIMEOUT, ERR_LEADER_CHANGED, ERR_STOPPED.
        """
        waiting: asyncio.Future[EtcdError | None] = asyncio.get_running_loop().create_future()

        def answer(error: EtcdError | None) -> None:
            if not waiting.done():
                waiting.set_result(error)

        self.reads.wait(answer)
        error = await waiting
        if error is not None:
            raise error

    # --- what the other members say ----------------------------------------------------------------------

    def receive(self, message: Message) -> None:
        """Take in a message from another member."""
        if not self._stopped:
            self._raft.step(message)
            self._loop.kick()

    def unreachable(self, member_id: int) -> None:
        """The last message to a member could not be sent."""
        if not self._stopped:
            self._raft.report_unreachable(member_id)

    def snapshot_sent(self, member_id: int, ok: bool) -> None:
        """The snapshot on its way to a member arrived, or did not."""
        if not self._stopped:
            self._raft.report_snapshot(member_id, ok)
            self._loop.kick()

    # --- what the Ready loop drives --------------------------------------------------------------------

    def leader_changed(self, leader: int) -> None:
        """A leader was lost or found."""
        if leader == self.leader:
            return
        self.leader = leader
        self.leader_since = self.timers.time()
        self.leader_changes_total += 1
        self.reads.leader_changed()
        if not self.is_leader:
            self.lessor.demote()
        if leader:
            self._loop.kick()  # what waited for a leader goes to it

    def apply(self, entries: Sequence[Entry]) -> None:
        """Apply committed entries, in order; whoever waits for one is answered."""
        if failpoint.enabled:
            failpoint.hit("apply_before")
        self.term = self._raft.term
        store, applier, proposals = self.store, self._applier, self.proposals
        for entry in entries:
            assert entry.index == self.applied_index + 1, "the log is applied without gaps and repeats"
            self.applied_index = entry.index
            store.consistent_index, store.term = entry.index, entry.term
            if entry.type != ENTRY_NORMAL:
                self.reconfigure.apply(entry)
            elif not entry.data:
                self._begin_term()
            else:
                request_id, number, body, who = requests.decode(entry.data)
                result = applier.apply(number, body, proposals.parsed(request_id), who)
                proposals.applied(request_id, result)
        self._raft.applied_to(self.applied_index)
        store.commit_if_due(self.timers.time())
        if store.compacting:
            self.slices.compact()
        self._snapshots.after_apply(self.applied_index)
        if failpoint.enabled:
            failpoint.hit("apply_after")

    def save_snapshot(self, snapshot: Snapshot, done: Callable[[], None]) -> None:
        """Write the ``.snap`` file of a snapshot from the leader; ``done`` once it is durable."""
        self._snapshots.save_received(snapshot, done)

    def install_snapshot(self, snapshot: Snapshot) -> None:
        """Replace everything by the snapshot's database, which was received before Raft heard of it.

        Everyone who keeps something of the store is told. Source: etcd ``server.go`` (applySnapshot).
        """
        metadata = snapshot.metadata
        fields = {
            "current-snapshot-index": self.applied_index,
            "incoming-leader-snapshot-index": metadata.index,
        }
        self._log.info("applying snapshot", fields)
        store = self.store
        self._snapshots.install(snapshot)
        assert store.consistent_index <= metadata.index, "the database is of a later moment than its snapshot"
        store.consistent_index, store.term = metadata.index, metadata.term
        store.conf_state = encode_conf_state(metadata.conf_state)
        self.applied_index, self.term = metadata.index, self._raft.term
        self.cluster.recover(store)
        self.v2.reload(store)
        self._applier.alarms.restore()
        self.auth.reload()
        self.lessor.restore()
        self.lessor.reattach(store.restored_leases)
        store.restored_leases.clear()
        self.watch_hub.restore(store.revision)
        self.observers.restored()
        self.reconfigure.installed()
        self.proposals.overtaken()
        self._raft.applied_to(metadata.index)
        self._log.info("applied snapshot", fields)

    def _changed(self, revision: int, changes: Sequence[bytes]) -> None:
        """A transaction has made a revision: tell who watches, outside and inside."""
        self.watch_hub.notify(revision, changes)
        if self.observers.size:
            self.observers.notify(changes)

    def _begin_term(self) -> None:
        """A new leader's empty entry: all before it is applied, so leases can be timed from here on."""
        if self.is_leader:
            self.lessor.promote(self._options.election_seconds, self.timers.time())
            self.term_began()

    # --- what membership changes ask for (``reconfigure.Surroundings``) ------------------------------------

    def kick(self) -> None:
        """Raft may have something to do."""
        self._loop.kick()

    def set_conf_state(self, encoded: bytes) -> None:
        """Keep Raft's configuration with the data, in the transaction that is open."""
        self.store.conf_state = encoded

    def removed_self(self) -> None:
        """This member is none any more, and the others know: stop."""
        self._removed()

    # --- time ------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to tick; who is the only voter leads at once."""
        if self._raft.status().conf_state.voters == (self.member_id,):
            self._raft.campaign()
        self.timers.call_later(self._options.heartbeat_seconds, self._tick)
        self.reconfigure.start()
        self._loop.kick()

    def fast_forward(self, ticks: int) -> None:
        """Let so much time pass for Raft: a member that begins need not wait as if it had just heard of a
        leader (``--initial-election-tick-advance``).
        """
        if not self._stopped:
            for _ in range(ticks):
                self._raft.tick()
            self._loop.kick()

    def _tick(self) -> None:
        if not self._stopped:
            self._loop.guard(self._on_tick)
            self.timers.call_later(self._options.heartbeat_seconds, self._tick)

    def _on_tick(self) -> None:
        now = self.timers.time()
        self._raft.tick()
        if not self.leader and self._snapshots.is_alone():
            self._raft.campaign()  # nobody else can lead, so there is no election timeout to wait for
        self.leases.tend(now)
        self._watches.tick(now)
        self.proposals.expire(now)
        self.reads.expire(now)
        self.reconfigure.tick(now)
        self.v2.tick(now)
        self._watch_disk()
        self.store.commit_if_due(now)
        self._loop.kick()

    def _watch_disk(self) -> None:
        """Say once that the disk is slow while it is: the line that follows a sync that never ends is never
        written. A leader that cannot write for as long as an election takes leads nobody: it says so.
        """
        stalled_seconds = self._loop.stalled_seconds
        if stalled_seconds >= self._options.election_seconds and not self._snapshots.is_alone():
            self._give_up_leadership()
        if stalled_seconds < limits.SLOW_FSYNC_SECONDS:
            self._told_of_slow_disk = False
        elif not self._told_of_slow_disk:
            self._told_of_slow_disk = True
            self._log.warn(
                "waiting for a slow fdatasync of the log; nothing can be written meanwhile",
                {"waited": f"{stalled_seconds:.3f}s", "expected-duration": f"{limits.SLOW_FSYNC_SECONDS:g}s"},
            )

    def _give_up_leadership(self) -> None:
        """The log's disk stalls. Nothing leaves before the sync has ended, so the others elect a new leader
        by themselves; this one must not answer as leader meanwhile (etcd issue 13527).
        """
        if self._raft.is_leader:
            self._raft.step_down()
            self._log.warn("gave up leadership, because the log's disk stalls")
        self.leader_changed(self._raft.lead)

    def why_late(self, started: float) -> EtcdError:
        """The error of a proposal of that time that was never applied (etcd ``parseProposeCtxErr``)."""
        lost = self.leader_since - 2 * self._options.election_seconds
        if lost < started < self.leader_since:
            return ERR_TIMEOUT_DUE_TO_LEADER_FAIL
        if self.leader and not self._was_connected(started):
            return ERR_TIMEOUT_DUE_TO_CONNECTION_LOST
        return ERR_TIMEOUT

    def _was_connected(self, since: float) -> bool:
        """Whether this member has been connected all the time: to the leader, or as leader to a quorum."""

        def reaches(member_id: int) -> bool:
            active_since = self._active_since(member_id)
            return active_since is not None and active_since < since

        if not self.is_leader:
            return reaches(self.leader)
        others = [member_id for member_id in self.cluster.members if member_id != self.member_id]
        return 1 + sum(map(reaches, others)) > (len(others) + 1) // 2

    def stop(self) -> None:
        """Answer everyone who waits with "server stopped" and apply nothing more; the caller closes the
        files.
        """
        if self._stopped:
            return
        self._stopped = True
        self._watches.stop()
        self.slices.stop()
        self.proposals.fail_all(ERR_STOPPED)
        self.reads.fail_all(ERR_STOPPED)
        self.reconfigure.fail_all(ERR_STOPPED)
