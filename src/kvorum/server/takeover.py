"""An etcd member's data directory becomes a Kvorum member's; the original is only read.

``member/wal`` and ``member/snap`` of a stopped etcd 3.4 or 3.5 are converted into ``member.kvorum`` beside
them (``layout.py``), which the member works on from then on. Member and cluster stay who they are: the log
goes on in a copy of its segments. The database is made of the bbolt file. The v2 tree, which etcd keeps in
its ``.snap`` only, stands further back in the log than the database does: the entries between are applied to
it here, and to nothing else. Then both stand at one index, and the member replays from there as ever.

A directory without ``db`` is one from before there was a v3 store, such as ``etcdctl backup`` made: all
there is comes from the ``.snap`` and the log.

What a crash leaves: a folder under a temporary name, which the next start removes and makes anew. The last
step is the rename of the folder. Locks keep etcd off the original meanwhile. What the original's log looked
like is kept (``origin.json``): if etcd has worked on it since, both would be one member with two memories,
and Kvorum does not start.

Source: etcd ``server/etcdserver/server.go`` (NewServer), ``backend.go`` (recoverSnapshotBackend),
``api/snap/snapshotter.go``, ``etcdutl/backup_command.go`` for backups of the v2 kind.
"""

import fcntl
import json
import os
import shutil
import struct
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, final

from kvorum import failpoint, layout
from kvorum.logging import Logger, hex_id
from kvorum.mvcc.backend import BackendError, lock_path
from kvorum.mvcc.exchange import BulkWriter
from kvorum.mvcc.install import sync_directory
from kvorum.mvcc.store import Store
from kvorum.proto.etcdserver_pb2 import Metadata
from kvorum.raft.types import EMPTY_SNAPSHOT, Entry, HardState, Snapshot
from kvorum.server.v2_replay import ReplayError, replay
from kvorum.snapshot.bbolt_format import BboltError
from kvorum.snapshot.bbolt_reader import BboltReader
from kvorum.snapshot.intake import IntakeError, take_in
from kvorum.snapshot.schema import META, SchemaError, etcds_position
from kvorum.snapshot.snap_file import SnapFileError, Snapshotter, read_snap_file
from kvorum.snapshot.v2 import load_v2
from kvorum.wal import segments
from kvorum.wal.disk import OsDisk
from kvorum.wal.record import WalSnapshot
from kvorum.wal.recovery import valid_snapshots
from kvorum.wal.segments import LOCK_NAME
from kvorum.wal.wal import Wal

ORIGIN_FILE: Final = "origin.json"
_TEMPORARY: Final = ".tmp"
_OFD_SETLK: Final[int] = getattr(fcntl, "F_OFD_SETLK", -1)


class TakeoverError(Exception):
    """The directory cannot be taken over, or not any more; one line says why and what to do."""


@final
@dataclass(frozen=True)
class Origin:
    """Where an original's log ended when it was converted."""

    term: int
    vote: int
    commit: int
    last_index: int


@final
@dataclass(frozen=True)
class Places:
    """The folders of a member: that of the log may be elsewhere."""

    member: Path
    wal: Path

    @property
    def snap(self) -> Path:
        """Snapshots and database."""
        return self.member / "snap"

    @property
    def etcd_database(self) -> Path:
        """etcd's bbolt file."""
        return self.snap / layout.ETCD_DATABASE_FILE

    @property
    def database(self) -> Path:
        """Our LMDB file."""
        return self.snap / layout.DATABASE_FILE


@final
@dataclass(frozen=True)
class Converted:
    """What was converted."""

    member_id: int
    cluster_id: int
    index: int
    """Up to where in the log the database stands."""
    revision: int
    records: int
    left_out: tuple[str, ...]
    """Buckets of which nothing is known here."""
    origin: Origin


def original_of(data_dir: str, wal_dir: str) -> Places:
    """The folders of the etcd member in a data directory."""
    member = layout.etcd_member_folder(Path(data_dir))
    return Places(member, Path(wal_dir) if wal_dir else member / "wal")


def is_etcds(original: Places) -> bool:
    """Whether a stopped etcd member is there, and no Kvorum has worked on it in place."""
    if original.database.exists() or not segments.exists(str(original.wal)):
        return False
    # Before there was a v3 store, etcd left nothing but a log; ours has always been under a lock.
    return original.etcd_database.exists() or not (original.member / LOCK_NAME).exists()


def before_start(data_dir: str, wal_dir: str, max_learners: int, log: Logger) -> None:
    """Take an etcd member over that is in the data directory, unless that is done; blocks for as long as it
    takes.

    Raises:
        TakeoverError: it cannot be. WalError: the original's log is damaged. BackendError, OSError: the
        disk's.
    """
    root = Path(data_dir)
    original = original_of(data_dir, wal_dir)
    target = layout.taken_over_folder(root)
    if target.is_dir():
        _check_unchanged(original, target)
        return
    if not is_etcds(original):
        return
    wal = layout.taken_over_wal_dir(wal_dir) if wal_dir else str(target / "wal")
    log.info("taking over the data directory of an etcd member", path=str(original.member), into=str(target))
    started = time.monotonic()
    done = convert(original, Places(target, Path(wal)), max_learners)
    for bucket in done.left_out:
        log.warn("left out a bucket that is unknown here", bucket=bucket)
    log.info(
        "took over the data directory of an etcd member; it is as it was",
        {
            "path": str(original.member),
            "into": str(target),
            "cluster-id": hex_id(done.cluster_id),
            "local-member-id": hex_id(done.member_id),
            "consistent-index": done.index,
            "current-rev": done.revision,
            "records": done.records,
            "took": f"{time.monotonic() - started:.3f}s",
        },
    )


def convert(original: Places, target: Places, max_learners: int = 1) -> Converted:
    """Make a Kvorum member's folders of an etcd member's, which must be stopped and is only read.

    Raises: as ``before_start``. Nothing is left of the target then, or of an earlier attempt.
    """
    temporary = Places(_temporary(target.member), _temporary(target.wal))
    if target.wal.is_relative_to(target.member):
        temporary = Places(temporary.member, temporary.member / target.wal.relative_to(target.member))
    for folder in (temporary.member, temporary.wal):
        shutil.rmtree(folder, ignore_errors=True)
    try:
        with ExitStack() as locks:
            locks.enter_context(_Hold(original))
            done = _Conversion(original, temporary, max_learners).run()
        _give_names(temporary, target)
    except BaseException:
        for folder in (temporary.member, temporary.wal):
            shutil.rmtree(folder, ignore_errors=True)
        raise
    return done


def _temporary(path: Path) -> Path:
    return path.with_name(path.name + _TEMPORARY)


def _give_names(temporary: Places, target: Places) -> None:
    """The log first, if it is elsewhere: the member's folder is what counts."""
    if failpoint.enabled:
        failpoint.hit("takeover_before_rename")
    if not temporary.wal.is_relative_to(temporary.member):
        shutil.rmtree(target.wal, ignore_errors=True)  # of an attempt that ended between the two
        temporary.wal.rename(target.wal)
        sync_directory(str(target.wal.parent))
    temporary.member.rename(target.member)
    sync_directory(str(target.member.parent))


def _check_unchanged(original: Places, target: Path) -> None:
    """Refuse to go on beside an etcd that has gone on."""
    try:
        known = Origin(**json.loads((target / ORIGIN_FILE).read_text()))
    except FileNotFoundError:
        return
    except (ValueError, TypeError) as error:
        raise TakeoverError(f"{target / ORIGIN_FILE} cannot be read: {error}") from None
    if not segments.exists(str(original.wal)):
        return  # the original has been cleared away
    _, state, entries, snapshot = _read_log(original)
    now = _origin(state, entries, snapshot)
    if now != known:
        raise TakeoverError(
            f"etcd has worked on {original.member} since {target} was made of it: one member must not have"
            f" two memories. Go on with etcd, or remove {target} to take over what etcd has written since"
        )


def _origin(state: HardState, entries: Sequence[Entry], snapshot: Snapshot) -> Origin:
    last = entries[-1].index if entries else snapshot.metadata.index
    return Origin(state.term, state.vote, state.commit, last)


def _read_log(places: Places) -> tuple[Metadata, HardState, list[Entry], Snapshot]:
    """Metadata, hard state and entries behind the newest snapshot that the log knows; changes nothing."""
    snapshot = _newest_snapshot(places)
    start = WalSnapshot(snapshot.metadata.index, snapshot.metadata.term)
    metadata, state, entries = Wal.open_for_read(str(places.wal), start).read_all()
    return Metadata.FromString(metadata), state, entries, snapshot


def _newest_snapshot(places: Places) -> Snapshot:
    markers = {(marker.term, marker.index) for marker in valid_snapshots(str(places.wal))}
    for path in sorted(places.snap.glob("*.snap"), reverse=True):
        try:
            snapshot = read_snap_file(str(path))
        except SnapFileError:
            continue  # etcd would put it aside; this directory is not ours
        if (snapshot.metadata.term, snapshot.metadata.index) in markers:
            return snapshot
    return EMPTY_SNAPSHOT


@final
class _Hold:
    """Keeps etcd off a directory, by shared locks on the files that it locks itself."""

    def __init__(self, original: Places) -> None:
        self._original: Final = original
        self._files: Final = ExitStack()

    def __enter__(self) -> None:
        try:
            for segment in segments.list_segments(OsDisk(), str(self._original.wal)):
                self._lock(segment.path, ofd=True)
            if self._original.etcd_database.exists():
                self._lock(str(self._original.etcd_database), ofd=False)
        except BaseException:
            self._files.close()
            raise

    def __exit__(self, *_: object) -> None:
        self._files.close()

    def _lock(self, path: str, *, ofd: bool) -> None:
        """etcd locks segments by open file descriptions, bbolt its file by ``flock``."""
        handle = self._files.enter_context(open(path, "rb"))  # noqa: SIM115 - closed with the others
        try:
            if ofd and _OFD_SETLK >= 0:
                # struct flock: short type, short whence, off_t start, off_t len, pid_t pid
                shared = struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0)
                fcntl.fcntl(handle, _OFD_SETLK, shared)
            else:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            raise TakeoverError(
                f"{path} is held by another process: stop the etcd member before its data is taken over"
            ) from None


@final
class _Conversion:
    """One conversion into folders that are not there yet."""

    def __init__(self, original: Places, target: Places, max_learners: int) -> None:
        self._original: Final = original
        self._target: Final = target
        self._max_learners: Final = max_learners

    def run(self) -> Converted:
        """Make everything, durably."""
        original, target = self._original, self._target
        metadata, state, entries, snapshot = _read_log(original)
        origin = _origin(state, entries, snapshot)
        target.snap.mkdir(mode=0o700, parents=True)
        target.wal.mkdir(mode=0o700, parents=True)
        records, left_out = self._make_database(snapshot)
        index, revision = self._bring_level(metadata, entries, snapshot)
        self._copy_log(snapshot)
        if not snapshot.is_empty():
            Snapshotter(str(target.snap)).save(Snapshot(metadata=snapshot.metadata))
        _write_durable(target.member / ORIGIN_FILE, json.dumps(asdict(origin)).encode() + b"\n")
        for folder in (target.snap, target.wal, target.member):
            sync_directory(str(folder))
        names = tuple(name.decode("utf-8", "backslashreplace") for name in left_out)
        return Converted(metadata.NodeID, metadata.ClusterID, index, revision, records, names, origin)

    def _make_database(self, snapshot: Snapshot) -> tuple[int, tuple[bytes, ...]]:
        """The database as etcd's bbolt file has it, with the v2 tree of the snapshot."""
        path = str(self._target.database)
        source = self._source(snapshot.metadata.index)
        try:
            if source is not None:
                taken = take_in(str(source), path, None, snapshot.data)
                return taken.records, taken.left_out
            if not snapshot.is_empty() and not snapshot.data:
                raise TakeoverError(
                    f"the log in {self._original.wal} begins behind the snapshot at index"
                    f" {snapshot.metadata.index}, and there is no database {self._original.etcd_database}:"
                    " restore the member's directory as a whole"
                )
            writer = BulkWriter(path, len(snapshot.data))
            try:
                load_v2(snapshot.data, writer)
                writer.finish()
            except BaseException:
                writer.abandon()
                raise
        except IntakeError as error:
            if isinstance(error, BackendError | OSError):
                raise
            raise TakeoverError(f"cannot convert {self._original.member}: {error}") from error
        return 0, ()

    def _source(self, snapshot_index: int) -> Path | None:
        """The bbolt file that is not older than the snapshot; None if there is none at all."""
        path = self._original.etcd_database
        if not path.exists():
            return None
        found = _index_of(path)
        received = self._original.snap / f"{snapshot_index:016x}.snap.db"
        if found >= snapshot_index:
            return path
        if received.exists():  # etcd ended before it had put the file that it received into place
            return received
        raise TakeoverError(
            f"{path} stands at log index {found}, but the log begins behind the snapshot at index"
            f" {snapshot_index}: start etcd once more, or restore the member's directory as a whole"
        )

    def _bring_level(
        self, metadata: Metadata, entries: Sequence[Entry], snapshot: Snapshot
    ) -> tuple[int, int]:
        """Bring v2 tree, members and configuration to where the database stands; index and revision."""
        path = str(self._target.database)
        store = Store.open(path, clock=time.monotonic)
        try:
            index = max(store.consistent_index, snapshot.metadata.index)
            last = entries[-1].index if entries else snapshot.metadata.index
            if index > last:
                raise TakeoverError(
                    f"{self._original.etcd_database} stands at log index {index}, but the log in"
                    f" {self._original.wal} ends at {last}: restore the member's directory as a whole"
                )
            store.consistent_index = index
            replay(
                store,
                snapshot,
                [entry for entry in entries if entry.index <= index],
                cluster_id=metadata.ClusterID,
                member_id=metadata.NodeID,
                max_learners=self._max_learners,
            )
            revision = store.revision
        except ReplayError as error:
            store.backend.abandon()
            raise TakeoverError(f"cannot convert {self._original.member}: {error}") from error
        except BaseException:
            store.backend.abandon()
            raise
        store.close()
        os.unlink(lock_path(path))
        return index, revision

    def _copy_log(self, snapshot: Snapshot) -> None:
        """Copy the segments from the one on that the snapshot is in."""
        chosen = segments.select_segments(OsDisk(), str(self._original.wal), snapshot.metadata.index)
        for segment in chosen:
            copy = self._target.wal / Path(segment.path).name
            shutil.copyfile(segment.path, copy)
            copy.chmod(0o600)
            with copy.open("rb") as file:
                os.fsync(file.fileno())


def _index_of(path: Path) -> int:
    try:
        with BboltReader(str(path)) as reader:
            return etcds_position(dict(reader.records(META)).get).index
    except (BboltError, SchemaError) as error:
        raise TakeoverError(f"cannot convert {path}: {error}") from error


def _write_durable(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
