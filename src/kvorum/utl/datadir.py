"""A stopped member's directory: where its files are, and the lock that keeps it stopped meanwhile.

Layout: ``<data-dir>/member/wal/`` (the log's segments), ``<data-dir>/member/snap/`` (``.snap`` files and the
LMDB database ``kvorum.lmdb``); ``member.kvorum`` beside an etcd member that was taken over (``layout.py``).
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kvorum import layout
from kvorum.mvcc.store import Store
from kvorum.wal.segments import LOCK_NAME, DirectoryLock


class DataDirError(Exception):
    """There is nothing to look at; one line for the user, with the path."""


@dataclass(frozen=True)
class DataDir:
    """The paths of one member's files."""

    root: Path
    wal_dir: str = ""
    """The folder of the log if it is not the usual one (the member's ``--wal-dir``)."""

    @property
    def member(self) -> Path:
        """The member's folder."""
        return layout.member_folder(self.root)

    @property
    def wal(self) -> Path:
        """Folder of the log."""
        return layout.wal_folder(self.root, self.wal_dir)

    @property
    def snap(self) -> Path:
        """Folder of the snapshots."""
        return self.member / "snap"

    @property
    def database(self) -> Path:
        """The database file."""
        return self.snap / layout.DATABASE_FILE

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep every member away from the directory.

        Raises:
            DataDirError: It is no data directory.
            WalLockedError: A member runs on it.
            OSError: The lock cannot be taken.
        """
        if not self.member.is_dir():
            raise DataDirError(f"{self.root} is no data directory: there is no {self.member}")
        fresh = not (self.member / LOCK_NAME).exists()
        lock = DirectoryLock(str(self.member))
        try:
            yield
        finally:
            lock.release()
            if fresh:
                (self.member / LOCK_NAME).unlink()

    @contextmanager
    def store(self) -> Iterator[Store]:
        """Open the database; nothing is written to it.

        Raises:
            DataDirError: There is none.
            BackendError: It cannot be opened or contradicts itself.
        """
        if not self.database.is_file():
            raise DataDirError(f"there is no database {self.database}")
        store = Store.open(str(self.database), clock=time.monotonic)
        try:
            yield store
        finally:
            store.backend.abandon()

    def snap_names(self) -> list[str]:
        """Return the names of the ``.snap`` files, oldest first."""
        return sorted(path.name for path in self.snap.glob("*.snap")) if self.snap.is_dir() else []
