"""A member as it runs here: the parts of ``server/member.py`` without sockets, opened by the real bootstrap.

What stands between the parts is simulated (``machine.py``, ``network.py``); the parts are the product's. A
start goes through ``server/bootstrap.py`` as a real one does, whatever the crash before left on the disk.
"""

import errno
import math
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast, final

from kvorum.config import Config
from kvorum.logging import FATAL, Logger
from kvorum.mvcc.backend import BackendError
from kvorum.proto.membership_pb2 import Attributes, ClusterMemberAttrSetRequest
from kvorum.raft.log import LogLostError
from kvorum.raft.types import ENTRY_NORMAL, Entry, Message, Snapshot
from kvorum.server import requests
from kvorum.server.bootstrap import Begun, Bootstrap, BootstrapError, Joined
from kvorum.server.bootstrap import Machine as Ground
from kvorum.server.ids import RequestIdGenerator
from kvorum.server.node import Node, NodeOptions
from kvorum.server.ready import ReadyLoop, StateMachine
from kvorum.server.snapshots import SnapshotOptions, Snapshots
from kvorum.sim.machine import SEGMENT_BYTES, Machine, Process, SimulatedWriter, WatchedWal
from kvorum.sim.trace import Trace, ViolationError
from kvorum.sim.transfer import Received
from kvorum.snapshot.snap_file import Snapshotter
from kvorum.wal import segments
from kvorum.wal.errors import WalError
from kvorum.wal.record import WalSnapshot
from kvorum.wal.wal import Wal
from kvorum.watch.stream import WatchStream

if TYPE_CHECKING:
    from kvorum.sim.cluster import Cluster
    from kvorum.sim.watching import Watcher

DISK_ERRORS: Final = (OSError, BackendError, WalError)


@final
class Silence:
    """Where a member's log lines go."""

    def write(self, level: int, line: bytes) -> None:
        """Forget it."""


def silent_log() -> Logger:
    """A logger that writes nothing and costs nothing."""
    return Logger((Silence(),), level=FATAL + 1)


@final
class SimulatedFiles:
    """The log's and the snapshots' files on the simulated disk (``member.MemberFiles``)."""

    def __init__(
        self, config: Config, machine: Machine, wal: Wal, snapshotter: Snapshotter, received: Received
    ) -> None:
        self._received: Final = received
        self._config: Final = config
        self._machine: Final = machine
        self._wal: Final = wal
        self._snapshotter: Final = snapshotter

    def save(self, snapshot: Snapshot) -> None:
        """Write the ``.snap`` file, durably."""
        self._snapshotter.save(snapshot)

    def release_to(self, index: int) -> None:
        """Let go of segments that a replay from ``index`` does not need."""
        self._wal.release_to(index)

    def purge(self, newest: WalSnapshot) -> None:
        """Remove the oldest segments and snapshots."""
        segments.purge(str(self._config.wal_path), ".wal", self._config.max_wals, self._machine.disk)
        self._snapshotter.purge(self._config.max_snapshots, newest)

    def install(self, index: int) -> None:
        """Put the database that was received for the snapshot at ``index`` in the place of this one."""
        if self._machine.fail_next_install:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self._received.install(index)


@final
class Observed:
    """The node as the Ready loop drives it, with somebody looking on."""

    def __init__(
        self,
        node: StateMachine,
        applied: Callable[[Entry], None],
        installed: Callable[[Snapshot], None],
        configured: Callable[[int], None],
    ) -> None:
        self._configured: Final = configured
        self._node: Final = node
        self._applied: Final = applied
        self._installed: Final = installed
        self.leader_changed: Final = node.leader_changed
        self.save_snapshot: Final = node.save_snapshot

    @property
    def applied_index(self) -> int:
        """The node's."""
        return self._node.applied_index

    @applied_index.setter
    def applied_index(self, index: int) -> None:
        self._node.applied_index = index

    def apply(self, entries: Sequence[Entry]) -> None:
        """Apply entries, after the judge has seen them: clients hear of them while they are applied."""
        for entry in entries:
            self._applied(entry)
        self._node.apply(entries)
        if any(entry.type != ENTRY_NORMAL for entry in entries):
            self._configured(entries[-1].index)

    def install_snapshot(self, snapshot: Snapshot) -> None:
        """Replace everything, and tell the judge."""
        self._node.install_snapshot(snapshot)
        self._installed(snapshot)


@final
@dataclass(frozen=True)
class Running:
    """A member that runs."""

    process: Process
    begun: Begun
    wal: WatchedWal
    writer: SimulatedWriter
    ready: ReadyLoop
    node: Node
    received: Received


@final
class Member:
    """One member over all its starts. ``running`` is None while it is down."""

    def __init__(self, cluster: "Cluster", name: str, config: Config, machine: Machine) -> None:
        self.name: Final = name
        self.config: Final = config
        self.machine: Final = machine
        self.id = 0
        """Known since the first start."""
        self.running: Running | None = None
        self.starts = 0
        self.joined: Joined | None = None
        """What it is told of the cluster before its first start; None for those that make the cluster."""
        self.removed = False
        """It was removed from the cluster and never comes back."""
        self.calls: Final[dict[object, Callable[[], None]]] = {}
        """Clients' calls that wait for this member, with what happens to them when it dies."""
        self.streams: Final[dict[WatchStream, Watcher]] = {}
        self._cluster: Final = cluster
        self._trace: Final[Trace] = cluster.trace

    def require(self) -> Running:
        """The run it is in."""
        assert self.running is not None, f"{self.name} is down"
        return self.running

    # --- starting -----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Open what is there and run. A disk that fails meanwhile ends it again; anything else is a
        violation.
        """
        assert self.running is None, "started twice"
        cluster = self._cluster
        self.starts += 1
        rate = 1.0 + cluster.dice.uniform(-1, 1) * cluster.profile.clock_drift
        process = Process(cluster.loop, rate, lambda: cluster.judge.look(self))
        ground = Ground(self.machine.disk, SEGMENT_BYTES, cluster.dice.randrange)
        try:
            begun = Bootstrap(self.config, silent_log(), clock=process.time, machine=ground).begin(
                self.joined
            )
        except DISK_ERRORS as error:
            self._could_not_start(error)
            return
        except (LogLostError, BootstrapError) as error:
            raise ViolationError("recovery", f"{self.name} cannot start: {error}") from error
        self.id = begun.member_id
        self.running = self._assemble(process, begun)
        self._trace.note(
            f"{self.name} started: term {begun.raft.term} last {begun.raft.status().last_index}"
            f" commit {begun.raft.commit} applied {begun.store.consistent_index}"
        )
        newest = begun.wal.segment_paths()[-1]
        cluster.judge.started(self, not self.machine.disk.is_dirty(newest))
        hub = self.running.node.watch_hub
        hub.on_ready = self._streams_ready
        object.__setattr__(hub, "queue_bytes", cluster.profile.watch_queue_bytes)
        self.running.node.start()
        self.publish()

    def _streams_ready(self) -> None:
        running = self.require()
        running.process.call_soon(lambda: self._tell_readers(running))

    def _tell_readers(self, running: Running) -> None:
        for stream in running.node.watch_hub.take_ready():
            watcher = self.streams.get(stream)
            if watcher is not None and not stream.closed:
                watcher.readable()

    def _could_not_start(self, error: Exception) -> None:
        if self.machine.disk.fail_at == 0 or self.machine.disk.capacity_bytes == 0:
            self._trace.note(f"{self.name} could not start: {type(error).__name__}")
            self._cluster.crashed(self, power=True)
            return
        raise ViolationError("recovery", f"{self.name} cannot start: {error}") from error

    def _assemble(self, process: Process, begun: Begun) -> Running:
        """What ``server/member.py`` does in ``_open``."""
        cluster, config = self._cluster, self.config
        wal = WatchedWal(begun.wal)
        received = Received(begun.store, str(config.snap_path), process.time)
        writer = SimulatedWriter(
            wal, self.machine, process, lambda written: cluster.judge.durable(self, written)
        )
        ready = ReadyLoop(
            begun.raft,
            cast("Wal", wal),
            writer,
            transport=self,
            clock=process.time,
            call_soon=process.call_soon,
            fatal=self._fatal,
            observe_fsync=_ignore_seconds,
        )
        snapshots = Snapshots(
            begun.raft,
            begun.store,
            SimulatedFiles(config, self.machine, begun.wal, begun.snapshotter, received),
            last_index=begun.snapshot_index,
            in_background=self._in_background,
            write_marker=ready.write_marker,
            options=SnapshotOptions(config.snapshot_count, config.snapshot_catchup_entries),
            log=silent_log(),
        )
        node = Node(
            member_id=begun.member_id,
            raft=begun.raft,
            loop=ready,
            store=begun.store,
            cluster=begun.cluster,
            snapshots=snapshots,
            ids=RequestIdGenerator(begun.member_id, 1.6e9 + cluster.loop.now),
            timers=process,
            log=silent_log(),
            options=NodeOptions(
                heartbeat_seconds=config.heartbeat_interval_ms / 1000,
                election_seconds=config.election_timeout_ms / 1000,
                strict_reconfig_check=False,
            ),
            transport=self,
            removed=self._removed,
            wall_clock=lambda: int((1.6e9 + cluster.loop.now) * 1e9),
        )
        observed = Observed(
            node,
            lambda entry: cluster.applied(self, entry),
            lambda snapshot: cluster.installed(self, snapshot),
            lambda index: cluster.judge.configured(self, index),
        )
        ready.attach(node.proposals, node.reads, observed)
        return Running(process, begun, wal, writer, ready, node, received)

    # --- what the parts ask of their surroundings ---------------------------------------------------------

    def send(self, messages: Sequence[Message]) -> None:
        """The transport: hand messages to the network."""
        cluster = self._cluster
        for message in messages:
            cluster.judge.sent(self, message)
        cluster.network.send(messages)

    def receive_snapshot(self, message: Message, path: str) -> None:
        """A snapshot came, with its database."""
        running = self.require()
        running.received.take(message.snapshot.metadata.index, path)
        running.node.receive(message)

    def active_since(self, member_id: int) -> float | None:
        """Since when there has been a connection: here there always is one."""
        return -math.inf

    def add_peer(self, member_id: int, urls: Sequence[str]) -> None:
        """Connect to a member: here everybody is connected."""

    def update_peer(self, member_id: int, urls: Sequence[str]) -> None:
        """A member has other addresses: here there are none."""

    def remove_peer(self, member_id: int) -> None:
        """Drop the connection to a member."""

    def remove_all(self) -> None:
        """Drop all connections."""

    def _removed(self) -> None:
        """The node says that it is no member any more."""
        running = self.running
        if running is not None and running.process.alive:
            running.process.end()
            self._cluster.loop.call_soon(self._cluster.left, self)

    def _fatal(self, error: BaseException) -> None:
        """The member cannot go on. Its disk's fault is a crash; its own is a violation."""
        if not isinstance(error, DISK_ERRORS):
            if isinstance(error, ViolationError):
                raise error
            raise ViolationError("program", f"{self.name} contradicts itself: {error!r}") from error
        self._trace.note(f"{self.name} failed: {type(error).__name__}")
        running = self.running
        if running is not None:
            running.process.end()
            self._cluster.loop.call_soon(self._after_failure, running)

    def _after_failure(self, running: Running) -> None:
        if self.running is running:
            self._cluster.crashed(
                self, power=self.machine.disk.fail_at == 0 or self.machine.fail_next_install
            )

    def _in_background(self, work: Callable[[], None], done: Callable[[], None]) -> None:
        running = self.running
        assert running is not None, "a member works in the background only while it runs"
        process = running.process

        def run() -> None:
            try:
                work()
            except DISK_ERRORS as error:
                self._fatal(error)
            else:
                process.call_soon(done)

        self.machine.when_synced(process, run)

    def describe(self) -> str:
        """Where it stands, for people."""
        if self.running is None:
            return "removed" if self.removed else "down"
        status = self.running.begun.raft.status()
        return (
            f"{status.role_name} of {status.lead:x} in term {status.term}, log to {status.last_index}, commit"
            f" {status.commit}, applied {self.running.node.applied_index}"
        )

    # --- ending -------------------------------------------------------------------------------------------

    def crash(self, *, power: bool) -> None:
        """End without a word; with the power cut, or only the process."""
        running, self.running = self.running, None
        if running is not None:
            running.process.end()
            self._hang_up()
            running.received.close()
            running.begun.store.backend.abandon()
            running.begun.lock.release()
        if power:
            self.machine.power_cut()
        else:
            self.machine.process_died()

    def _hang_up(self) -> None:
        """Whoever was connected notices."""
        calls = list(self.calls.values())
        self.calls.clear()
        watchers = list(self.streams.values())
        self.streams.clear()
        for broken in calls:
            broken()
        for watcher in watchers:
            watcher.lost()

    def erase(self) -> None:
        """Remove the database's directory: the run is over."""
        if self.running is not None:
            self.crash(power=False)
        shutil.rmtree(self.machine.directory, ignore_errors=True)

    def publish(self) -> None:
        """Tell the cluster this member's name, as each does once it has started."""
        running = self.running
        if running is not None:
            request = ClusterMemberAttrSetRequest(
                member_ID=self.id,
                member_attributes=Attributes(name=self.name, client_urls=[f"http://{self.name}:2379"]),
            )
            running.node.propose(
                requests.CLUSTER_MEMBER_ATTR_SET, request.SerializeToString(), lambda _result: None
            )

    @property
    def database_path(self) -> str:
        """Where its LMDB file is."""
        return os.path.join(self.machine.directory, "member", "snap")


def _ignore_seconds(_seconds: float) -> None:
    """Nobody measures."""
