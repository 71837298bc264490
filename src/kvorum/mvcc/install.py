"""Putting a snapshot in the place of the store's contents.

    1. prepare   another file is opened and its index built, on a thread, while the store goes on as before
    2. install   on the loop's thread, in a few milliseconds: the file gets the name of the store's, durably,
                 and the two exchange their insides (``Store.install``)
    3. dispose   what was there before is let go of, on a thread again

LMDB's lock file goes with its database. Each name changes in one step, the database's first: a crash between
the two, or before, leaves a whole database and a lock file that nobody holds, which LMDB makes anew.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, final

from kvorum import failpoint
from kvorum.mvcc.backend import Backend, BackendError, lock_path

if TYPE_CHECKING:
    from kvorum.mvcc.store import Store


@final
class Prepared:
    """A database aside; ``store`` is it, at rest: nothing may be asked of it but where it stands."""

    __slots__ = ("path", "store")

    def __init__(self, path: str, store: Store) -> None:
        self.path: Final = path
        self.store: Final = store

    def put_in_place_of(self, backend: Backend) -> None:
        """Give the file the name of the backend's, durably.

        Raises:
            BackendError: the disk failed; the backend is unusable.
        """
        target = backend.path
        try:
            if failpoint.enabled:
                failpoint.hit("install_before_rename")
            os.rename(self.path, target)
            if failpoint.enabled:
                failpoint.hit("install_between_renames")
            os.rename(lock_path(self.path), lock_path(target))
            sync_directory(os.path.dirname(target))
            if failpoint.enabled:
                failpoint.hit("install_after_rename")
        except OSError as error:
            raise backend.fail("put a snapshot in its place", error) from error

    def dispose(self) -> None:
        """Close what is held, in steps that keep no other thread waiting; on the thread of ``prepare`` or
        any other, once."""
        self.store.backend.abandon()
        self.store.index.dismantle()
        leases = self.store.restored_leases
        while leases:
            leases.popitem()


def prepare(open_aside: Callable[[str], Store], path: str) -> Prepared:
    """Open a database and load its index; on any thread.

    Raises:
        BackendError: it cannot be opened or contradicts itself.
    """
    try:
        store = open_aside(path)
    except (ValueError, IndexError) as error:
        raise BackendError(f"the database {path} has records that are none: {error}") from error
    store.backend.rest()
    return Prepared(path, store)


def sync_directory(path: str) -> None:
    """Make renames in a directory durable.

    Raises:
        OSError: the disk's.
    """
    handle = os.open(path or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
