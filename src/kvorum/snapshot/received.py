"""The database of a snapshot that another member sent, from its last byte to the place of this member's own.

| file in the snap directory | what |
|---|---|
| ``tmp…/`` | on its way; nobody will look at it again after a crash |
| ``<index>.snap.lmdb`` | whole, checked and durable, before Raft hears of the snapshot |
| ``kvorum.lmdb`` | the member's database, which it replaces |

What a crash leaves, by the step it comes before: (1) the file is whole: ``tmp…/``, swept; (2) the snapshot's
marker is in the log: a whole file that nothing names, swept, and the leader sends another; (3) the file is in
its place: the log begins behind a database that is not there yet, which ``recover`` puts right; (4) LMDB's
lock file has followed it: that one is made anew at every start.

Source: etcd ``server/etcdserver/backend.go`` (recoverSnapshotBackend), ``api/snap/db.go``, where the files
are ``<index>.snap.db``.
"""

import os
import re
import shutil
from typing import Final

from kvorum.limits import INITIAL_MAP_BYTES
from kvorum.mvcc.backend import BackendError, lock_path
from kvorum.mvcc.exchange import Committed
from kvorum.mvcc.install import sync_directory
from kvorum.snapshot.schema import CONSISTENT_INDEX, META

TEMPORARY_PREFIX: Final = "tmp"
_ORPHAN: Final = re.compile(r"tmp.*|[0-9a-f]{16}\.snap\.(db|lmdb|lmdb-lock)")


class RecoverError(Exception):
    """The database is older than the log's beginning, and the snapshot's is not there; one line."""


def received_path(directory: str, index: int) -> str:
    """The file of the snapshot at ``index``."""
    return os.path.join(directory, f"{index:016x}.snap.lmdb")


def recover(directory: str, database: str, snapshot_index: int) -> bool:
    """Finish what a crash interrupted, before the database is opened; whether there was something.

    Args:
        directory: the snap directory; what is of no use in it is removed. database: the member's own file.
        snapshot_index: of the snapshot that the log begins behind, 0 for none.

    Raises:
        RecoverError: the database is behind the snapshot, and there is no other. BackendError: it cannot be
        read. OSError: the disk's.
    """
    # Whoever may still hold the old one (an export that outlived its member) must not be asked.
    _remove(lock_path(database))
    interrupted = _index_of(database) < snapshot_index
    if interrupted:
        path = received_path(directory, snapshot_index)
        if not os.path.exists(path):
            raise RecoverError(
                f"the log begins behind the snapshot at index {snapshot_index}, the database {database} is"
                f" older and {path} is not there: restore the member's directory as a whole, or from a"
                " snapshot"
            )
        found = _index_of(path)
        if found != snapshot_index:
            raise RecoverError(f"{path} stands at index {found}, not at {snapshot_index} as its name says")
        os.rename(path, database)
        sync_directory(directory)
    sweep(directory)
    return interrupted


def _index_of(path: str) -> int:
    """The consistent index of a database that nobody has open; 0 without one."""
    if not os.path.exists(path):
        return 0
    try:
        with Committed(path, INITIAL_MAP_BYTES, None) as view:
            return int.from_bytes(view.get(META, CONSISTENT_INDEX) or b"", "big")
    except BackendError:
        if os.path.getsize(path) == 0:
            return 0
        raise


def sweep(directory: str) -> list[str]:
    """Remove what was received and will not be used; returns the names. Not while anything is received.

    Raises:
        OSError: the disk's.
    """
    gone = [name for name in sorted(os.listdir(directory)) if _ORPHAN.fullmatch(name)]
    for name in gone:
        path = os.path.join(directory, name)
        if os.path.isdir(path):
            shutil.rmtree(path)
        else:
            _remove(path)
    return gone


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
