"""``status``: where a member stands, in one look."""

from dataclasses import dataclass

from kvorum.proto.etcdserver_pb2 import Metadata
from kvorum.utl.datadir import DataDir
from kvorum.utl.scan import LogScan
from kvorum.wal.disk import OsDisk
from kvorum.wal.segments import list_segments


@dataclass(frozen=True)
class Status:
    """Database and log of a member. Indexes are Raft's; sizes are bytes."""

    member_id: str
    cluster_id: str
    hash: int
    """HashKV at the revision, equal to ``endpoint hashkv`` of any member with the same history."""
    revision: int
    compact_revision: int
    keys: int
    size: int
    size_in_use: int
    consistent_index: int
    """The last entry whose changes are in the database; the log has the rest."""
    raft_term: int
    raft_commit: int
    wal_first_index: int
    wal_last_index: int
    wal_segments: int
    snapshot: str
    """Name of the newest ``.snap`` file; empty if there is none."""


def read_status(data: DataDir) -> Status:
    """Read database and log.

    Raises:
        DataDirError, BackendError, WalError, OSError: They cannot be read.
    """
    with data.store() as store:
        statistics, digest = store.statistics(), store.hash_kv()
        applied, compacted = store.consistent_index, store.compact_revision
    scan = LogScan(data.wal)
    reader = scan.reader
    metadata = Metadata.FromString(reader.metadata or b"")
    segments = list_segments(OsDisk(), str(data.wal))
    return Status(
        member_id=f"{metadata.NodeID:x}",
        cluster_id=f"{metadata.ClusterID:x}",
        hash=digest.hash,
        revision=statistics.revision,
        compact_revision=compacted,
        keys=statistics.keys,
        size=statistics.size,
        size_in_use=statistics.size_in_use,
        consistent_index=applied,
        raft_term=reader.state.term,
        raft_commit=reader.state.commit,
        wal_first_index=segments[0].index,
        wal_last_index=scan.last_index,
        wal_segments=len(segments),
        snapshot=(data.snap_names() or [""])[-1],
    )
