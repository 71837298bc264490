"""``snapshot status`` and ``snapshot restore``: what is in a backup, and a member's directory made of one.

A backup is what ``etcdctl snapshot save`` writes, of a Kvorum member or of etcd: a bbolt file and its SHA-256
behind it. A member's ``db`` file has no checksum. Restoring begins a new cluster, with its own ID: every
member is restored from the same file with the same flags, and starts with the keys, leases, users and alarms
of the backup and a log that knows the new members only. Source: etcd ``etcdutl/snapshot/v3_snapshot.go``.
"""

import hashlib
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from crc32c import crc32c

from kvorum.mvcc.backend import lock_path
from kvorum.mvcc.revision import from_etcd_key, main_of
from kvorum.mvcc.store import Store
from kvorum.proto.etcdserver_pb2 import Metadata
from kvorum.raft.codec import encode_conf_change, encode_conf_state
from kvorum.raft.types import (
    CONF_CHANGE_ADD_NODE,
    ENTRY_CONF_CHANGE,
    ConfChange,
    ConfState,
    Entry,
    HardState,
    Snapshot,
    SnapshotMetadata,
)
from kvorum.server import ids
from kvorum.server.changes import MemberInfo
from kvorum.server.joining import JoinError, configured
from kvorum.server.membership import Cluster
from kvorum.server.v2_members import V2Members
from kvorum.snapshot.bbolt_format import BboltError
from kvorum.snapshot.bbolt_reader import BboltReader
from kvorum.snapshot.intake import take_in
from kvorum.snapshot.schema import KEY, SchemaError
from kvorum.snapshot.snap_file import Snapshotter
from kvorum.urls import parse_cluster, parse_urls
from kvorum.utl.datadir import DataDir
from kvorum.v2store.store import Store as V2Store
from kvorum.wal.record import WalSnapshot
from kvorum.wal.wal import Wal

_SECTOR_BYTES: Final = 512
"""Databases are multiples of it, so a file that is 32 bytes longer has a SHA-256 behind it."""
_DIGEST_BYTES: Final = 32
_READ_BYTES: Final = 1 << 20
_TERM: Final = 1


class BackupError(Exception):
    """The file is no backup, or cannot be restored as asked; one line."""


@dataclass(frozen=True)
class BackupStatus:
    """What ``etcdutl snapshot status`` tells, under its names."""

    hash: int
    """CRC-32C over all buckets; of the file's content, not comparable with HashKV."""
    revision: int
    totalKey: int  # noqa: N815 - etcdutl's JSON
    """Records of all buckets."""
    totalSize: int  # noqa: N815 - etcdutl's JSON
    """Bytes of the database."""


def read_backup(path: Path) -> BackupStatus:
    """Read a backup from end to end.

    Raises:
        BackupError: it is not sound. OSError: it cannot be read.
    """
    digest, total, newest = 0, 0, b""
    try:
        with BboltReader(str(path)) as reader:
            for bucket in reader.buckets:
                digest = crc32c(bucket, digest)
                for key, value in reader.records(bucket):
                    digest = crc32c(value, crc32c(key, digest))
                    total += 1
                    if bucket == KEY:
                        newest = key
            return BackupStatus(
                digest, main_of(from_etcd_key(newest)) if newest else 0, total, reader.size_bytes
            )
    except (BboltError, ValueError) as error:
        raise BackupError(str(error)) from error


@dataclass(frozen=True)
class Restore:
    """A restoration: the flags of ``etcdutl snapshot restore``."""

    source: Path
    data_dir: Path
    wal_dir: str = ""
    name: str = "default"
    initial_cluster: str = "default=http://localhost:2380"
    initial_cluster_token: str = "etcd-cluster"  # noqa: S105 - a name
    peer_urls: str = "http://localhost:2380"
    skip_hash_check: bool = False

    def run(self) -> MemberInfo:
        """Make the directory; returns the member it is for.

        Raises:
            BackupError: the backup or the flags do not allow it; nothing is left of the directory then.
            BackendError, WalError, OSError: the disk's; likewise.
        """
        members, local = self._members()
        data = DataDir(self.data_dir, self.wal_dir)
        if self.data_dir.exists() and (not self.data_dir.is_dir() or any(self.data_dir.iterdir())):
            raise BackupError(f'data-dir "{self.data_dir}" not empty or could not be read')
        if self.wal_dir and data.wal.exists():
            raise BackupError(f'wal-dir "{data.wal}" exists')
        self._check_digest()
        try:
            data.snap.mkdir(mode=0o700, parents=True)
            self._make_database(data, members)
            _make_log(data, members, local)
        except BaseException as error:
            shutil.rmtree(data.member, ignore_errors=True)
            shutil.rmtree(data.wal, ignore_errors=True)
            if isinstance(error, BboltError | SchemaError):
                raise BackupError(str(error)) from error
            raise
        return local

    def _members(self) -> tuple[list[MemberInfo], MemberInfo]:
        """The new cluster's members in the order of their IDs, and which of them this directory is for."""
        try:
            members = configured(parse_cluster(self.initial_cluster), self.initial_cluster_token)
            advertised = sorted(map(str, parse_urls(self.peer_urls.split(","))))
        except (ValueError, JoinError) as error:
            raise BackupError(str(error)) from error
        local = next((member for member in members if member.name == self.name), None)
        if local is None:
            raise BackupError(f'couldn\'t find local name "{self.name}" in the initial cluster configuration')
        if list(local.peer_urls) != advertised:
            raise BackupError(
                f"--initial-cluster has {self.name}={','.join(local.peer_urls)} but"
                f" --initial-advertise-peer-urls={','.join(advertised)}"
            )
        return sorted(members, key=lambda member: member.id), local

    def _check_digest(self) -> None:
        """The SHA-256 behind the database must be there and right, unless nobody wants it."""
        if self.skip_hash_check:
            return
        with self.source.open("rb") as file:
            left = os.fstat(file.fileno()).st_size - _DIGEST_BYTES
            if left < 0 or left % _SECTOR_BYTES:
                raise BackupError("snapshot missing hash but --skip-hash-check=false")
            digest = hashlib.sha256()
            while left:
                piece = file.read(min(left, _READ_BYTES))
                digest.update(piece)
                left -= len(piece)
            expected = file.read()
        if digest.digest() != expected:
            raise BackupError(f"expected sha256 {expected.hex()}, got {digest.hexdigest()}")

    def _make_database(self, data: DataDir, members: Sequence[MemberInfo]) -> None:
        path = str(data.database)
        take_in(str(self.source), path, None, b"")
        store = Store.open(path, clock=time.monotonic)
        try:
            for name in (b"members", b"members_removed"):
                table = store.table(name)
                for key, _ in list(table.iterate()):
                    table.delete(key)
            cluster = Cluster(ids.cluster_id(member.id for member in members), 0, store)
            cluster.mirror = V2Members(V2Store(store, time.time_ns))
            for member in members:
                cluster.add(member)
            store.consistent_index, store.term = len(members), _TERM
            store.conf_state = encode_conf_state(_conf_state(members))
        finally:
            store.close()
        os.unlink(lock_path(path))


def _conf_state(members: Sequence[MemberInfo]) -> ConfState:
    return ConfState(tuple(member.id for member in members))


def _make_log(data: DataDir, members: Sequence[MemberInfo], local: MemberInfo) -> None:
    """A log whose first entries add the members, and the snapshot behind them."""
    cluster_id = ids.cluster_id(member.id for member in members)
    metadata = Metadata(NodeID=local.id, ClusterID=cluster_id)
    changes = [ConfChange(CONF_CHANGE_ADD_NODE, member.id, member.to_json()) for member in members]
    entries = [
        Entry(_TERM, index, ENTRY_CONF_CHANGE, encode_conf_change(change))
        for index, change in enumerate(changes, 1)
    ]
    last = len(entries)
    data.wal.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    wal = Wal.create(str(data.wal), metadata.SerializeToString())
    try:
        wal.flush(wal.prepare(HardState(_TERM, members[0].id, last), entries))
        state = _conf_state(members)
        Snapshotter(str(data.snap)).save(Snapshot(metadata=SnapshotMetadata(state, last, _TERM)))
        wal.save_snapshot(WalSnapshot(last, _TERM, state))
    finally:
        wal.close()
