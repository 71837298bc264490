"""How a member begins: from nothing, or from what its data directory holds.

From nothing: IDs from the configuration, a log with this member's metadata, and a Raft that starts with one
AddNode entry, as in etcd. From a directory: the newest ``.snap`` that the log knows of, the log from there
on, and the backend; together they must make sense (``_check``), or the member does not start. Source: etcd
``server/etcdserver/bootstrap.go``, ``raft.go`` (startNode, restartNode).
"""

import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, final

from kvorum import failpoint
from kvorum.config import Config
from kvorum.limits import WAL_SEGMENT_BYTES
from kvorum.logging import Logger, hex_id
from kvorum.metrics import histogram
from kvorum.mvcc.store import Store
from kvorum.proto.etcdserver_pb2 import Metadata
from kvorum.raft.codec import decode_conf_state
from kvorum.raft.config import RaftConfig
from kvorum.raft.rawnode import RawNode
from kvorum.raft.types import EMPTY_SNAPSHOT, ConfState, Snapshot
from kvorum.server import ids, standalone
from kvorum.server.directories import make_private
from kvorum.server.membership import Cluster, MemberInfo
from kvorum.snapshot import received
from kvorum.snapshot.snap_file import Snapshotter
from kvorum.wal import segments
from kvorum.wal.disk import Disk, OsDisk
from kvorum.wal.errors import SnapshotNotFoundError
from kvorum.wal.record import WalSnapshot
from kvorum.wal.recovery import Recovered, recover, valid_snapshots
from kvorum.wal.segments import DirectoryLock
from kvorum.wal.wal import Wal


class BootstrapError(Exception):
    """The data directory or the configuration does not let the member start; one line says why and what to
    do.
    """


@final
class Figures:
    """Histograms that are filled where things happen and read by ``/metrics``."""

    __slots__ = ("commit_seconds", "fsync_seconds")

    def __init__(self) -> None:
        self.commit_seconds: Final = histogram("etcd_disk_backend_commit_duration_seconds")
        self.fsync_seconds: Final = histogram("etcd_disk_wal_fsync_duration_seconds")


@final
@dataclass(frozen=True)
class Joined:
    """A running cluster, as its members tell one that was added to it and starts for the first time."""

    cluster_id: int
    local: MemberInfo
    remotes: tuple[MemberInfo, ...]
    """The other members."""


@final
@dataclass(frozen=True)
class Begun:
    """Everything a member is made of, opened and consistent."""

    member_id: int
    cluster: Cluster
    raft: RawNode
    wal: Wal
    store: Store
    snapshotter: Snapshotter
    lock: DirectoryLock
    snapshot_index: int
    figures: "Figures"

    def close(self) -> None:
        """Give back the files; the WAL's thread must have ended."""
        self.store.close()
        self.wal.close()
        self.lock.release()


@final
@dataclass(frozen=True)
class Machine:
    """What a member stands on: the disk of its log and ``.snap`` files, and dice. A simulation brings its
    own; the database is always on the machine's file system.
    """

    disk: Disk = field(default_factory=OsDisk)
    segment_bytes: int = WAL_SEGMENT_BYTES
    random: Callable[[int], int] = random.SystemRandom().randrange


@final
class Bootstrap:
    """Opens a data directory. One use: ``begin``."""

    def __init__(
        self, config: Config, log: Logger, *, clock: Callable[[], float], machine: Machine | None = None
    ) -> None:
        self._config: Final = config
        self._log: Final = log
        self._clock: Final = clock
        self._machine: Final = machine or Machine()
        self._snapshotter: Final = Snapshotter(str(config.snap_path), disk=self._machine.disk)
        self._figures: Final = Figures()

    @property
    def has_data(self) -> bool:
        """Whether the member has started before, so that the flags about its first start mean nothing."""
        return segments.exists(str(self._config.wal_path), self._machine.disk)

    def begin(self, joined: Joined | None = None) -> Begun:
        """Open or create everything; ``joined`` is the cluster that a member without data is to be part of.

        Raises:
            BootstrapError, ConfigError, FlagError: it cannot start like this.
            WalError, BackendError, OSError: the files, or the disk.
        """
        config = self._config
        make_private(config.data_dir, self._log)
        make_private(str(config.member_path), self._log)
        lock = DirectoryLock(str(config.member_path))
        try:
            make_private(str(config.snap_path), self._log)
            if self.has_data:
                return self._restart(lock)
            return self._start_new(lock, joined)
        except BaseException:
            lock.release()
            raise

    def open_aside(self, path: str, beside_loop: bool = True) -> Store:
        """Open a database as the member's own is opened, and load the index from it."""
        config = self._config
        return Store.open(
            path,
            clock=self._clock,
            batch_interval_seconds=config.backend_batch_interval.seconds,
            batch_limit=config.backend_batch_limit,
            on_commit=self._figures.commit_seconds.observe,
            beside_loop=beside_loop,
        )

    def _open_store(self) -> Store:
        path = str(self._config.database_path)
        fresh = not os.path.exists(path)
        started = self._clock()
        store = self.open_aside(path, beside_loop=False)
        self._log.info("opened backend db", path=path, took=f"{self._clock() - started:.6f}s", created=fresh)
        self._log.info("kvstore restored", current_rev=store.revision)
        return store

    def _raft_config(self, member_id: int) -> RaftConfig:
        return RaftConfig(
            id=member_id,
            random=self._machine.random,
            election_ticks=self._config.election_ticks,
            pre_vote=self._config.pre_vote,
            trace=self._log.named("raft").info,
        )

    def _start_new(self, lock: DirectoryLock, joined: Joined | None) -> Begun:
        config = self._config
        if config.database_path.exists():
            raise BootstrapError(
                f"{config.database_path} is there but the log in {config.wal_path} is not: restore the"
                " member's directory as a whole, or start with an empty one"
            )
        members: list[MemberInfo] = []
        if joined is not None:
            cluster_id, local = joined.cluster_id, joined.local
        else:
            cluster_id, local, members = self._initial_members()
        if failpoint.enabled:
            failpoint.hit("bootstrap_before_wal")
        metadata = Metadata(NodeID=local.id, ClusterID=cluster_id)
        wal = Wal.create(
            str(config.wal_path),
            metadata.SerializeToString(),
            disk=self._machine.disk,
            segment_bytes=self._machine.segment_bytes,
            unsafe_no_fsync=config.unsafe_no_fsync,
        )
        begun = self._first_run(cluster_id, local, members, wal, self._open_store(), lock)
        if joined is not None:
            begun.cluster.assume((local, *joined.remotes))
        return begun

    def _initial_members(self) -> tuple[int, MemberInfo, list[MemberInfo]]:
        """The cluster's ID, this member, and all members, from the configuration."""
        config = self._config
        config.verify_bootstrap()
        members = [
            MemberInfo(
                id=ids.member_id([str(url) for url in urls], config.initial_cluster_token),
                peer_urls=tuple(sorted(str(url) for url in urls)),
                name=name,
            )
            for name, urls in config.initial_members().items()
        ]
        members.sort(key=lambda member: member.id)  # the log begins with them, everywhere alike
        local = next(member for member in members if member.name == config.name)
        return ids.cluster_id(member.id for member in members), local, members

    def _first_run(
        self,
        cluster_id: int,
        local: MemberInfo,
        members: list[MemberInfo],
        wal: Wal,
        store: Store,
        lock: DirectoryLock,
    ) -> Begun:
        self._say("starting local member", local.id, cluster_id)
        config = self._raft_config(local.id)
        if members:
            raft = RawNode.bootstrap(config, [(m.id, m.to_json()) for m in members])
        else:  # the cluster's log says who is in it
            raft = RawNode(config)
        cluster = self._cluster(cluster_id, local.id, store)
        cluster.assume(members)
        return Begun(local.id, cluster, raft, wal, store, self._snapshotter, lock, 0, self._figures)

    def _begin_again(self, metadata: Metadata, wal: Wal, store: Store, lock: DirectoryLock) -> Begun:
        if not self._config.initial_cluster:
            raise BootstrapError(
                "the first start ended before the discovered members were written to the log in"
                f" {self._config.wal_path}: remove {self._config.data_dir} and start with a new discovery"
                " token"
            )
        cluster_id, local, members = self._initial_members()
        if (metadata.NodeID, metadata.ClusterID) != (local.id, cluster_id):
            raise BootstrapError(
                f"the log in {self._config.wal_path} was made for member {hex_id(metadata.NodeID)} of"
                f" cluster {hex_id(metadata.ClusterID)}, the flags make {hex_id(local.id)} of"
                f" {hex_id(cluster_id)}: start as the first time, or with an empty directory"
            )
        return self._first_run(cluster_id, local, members, wal, store, lock)

    def _restart(self, lock: DirectoryLock) -> Begun:
        snapshot, recovered = self._recover_log()
        metadata = Metadata.FromString(recovered.metadata)
        try:
            self._finish_installation(snapshot)
            store = self._open_store()
        except BaseException:
            recovered.wal.close()
            raise
        try:
            self._check(snapshot, recovered, store)
            joins = self._config.initial_cluster_state == "existing"
            if recovered.state.is_empty() and snapshot is EMPTY_SNAPSHOT and not joins:
                # The process ended before the first entries and the hard state behind them were written:
                # nothing was ever acknowledged, so it begins once more.
                return self._begin_again(metadata, recovered.wal, store, lock)
            conf_state = decode_conf_state(store.conf_state) if store.conf_state else ConfState()
            cluster = self._cluster(metadata.ClusterID, metadata.NodeID, store)
            if self._config.force_new_cluster:
                local = MemberInfo(metadata.NodeID, tuple(map(str, self._config.advertise_peer_urls)))
                recovered = standalone.go_on_alone(
                    recovered, store.consistent_index, conf_state, cluster.members, local, self._log
                )
            raft = RawNode(
                self._raft_config(metadata.NodeID),
                snapshot=snapshot,
                hard_state=recovered.state,
                entries=recovered.entries,
                applied=store.consistent_index,
                conf_state=conf_state,
            )
        except BaseException:
            store.backend.abandon()
            recovered.wal.close()
            raise
        self._say("restarting local member", metadata.NodeID, metadata.ClusterID, commit_index=raft.commit)
        for member in cluster.listed():
            self._log.info(
                "recovered/added member from store",
                cluster_id=hex_id(cluster.id),
                local_member_id=hex_id(metadata.NodeID),
                recovered_remote_peer_id=hex_id(member.id),
                recovered_remote_peer_urls=list(member.peer_urls),
            )
        index = snapshot.metadata.index
        return Begun(
            metadata.NodeID,
            cluster,
            raft,
            recovered.wal,
            store,
            self._snapshotter,
            lock,
            index,
            self._figures,
        )

    def _finish_installation(self, snapshot: Snapshot) -> None:
        """Put a received database into its place, if a crash came between the log's marker and that."""
        config = self._config
        index = snapshot.metadata.index
        try:
            if received.recover(str(config.snap_path), str(config.database_path), index):
                self._log.info("recovered the database of a snapshot that was received", snapshot_index=index)
        except received.RecoverError as error:
            raise BootstrapError(str(error)) from None

    def _recover_log(self) -> tuple[Snapshot, Recovered]:
        """The newest snapshot that the log knows, and the log behind it.

        A ``.snap`` is passed over if its marker did not reach the log, or not the hard state that commits it:
        the crash came between them.
        """
        try:
            snapshot, recovered = self._recover_behind(self._snapshotter.load_newest() or EMPTY_SNAPSHOT)
        except SnapshotNotFoundError:
            pass
        else:
            if snapshot.metadata.index <= recovered.state.commit:
                return snapshot, recovered
            recovered.wal.close()
        markers = valid_snapshots(str(self._config.wal_path), disk=self._machine.disk)
        return self._recover_behind(self._snapshotter.load_newest(markers) or EMPTY_SNAPSHOT)

    def _recover_behind(self, snapshot: Snapshot) -> tuple[Snapshot, Recovered]:
        start = WalSnapshot(snapshot.metadata.index, snapshot.metadata.term)
        return snapshot, recover(
            str(self._config.wal_path),
            start,
            disk=self._machine.disk,
            segment_bytes=self._machine.segment_bytes,
            unsafe_no_fsync=self._config.unsafe_no_fsync,
        )

    def _check(self, snapshot: Snapshot, recovered: Recovered, store: Store) -> None:
        """The backend must lie between the snapshot and the end of the log."""
        first, last = snapshot.metadata.index, snapshot.metadata.index
        if recovered.entries:
            last = recovered.entries[-1].index
        applied = store.consistent_index
        if first <= applied <= last:
            return
        config = self._config
        raise BootstrapError(
            f"the database {config.database_path} stands at log index {applied}, but the log in"
            f" {config.wal_path} covers {first} to {last}: they are not of one member at one time;"
            " restore the member's directory as a whole, or from a snapshot"
        )

    def _cluster(self, cluster_id: int, member_id: int, store: Store) -> Cluster:
        return Cluster(cluster_id, member_id, store, log=self._log, max_learners=self._config.max_learners)

    def _say(self, message: str, member: int, cluster: int, **fields: object) -> None:
        self._log.info(message, {"cluster-id": hex_id(cluster), "local-member-id": hex_id(member)}, **fields)
