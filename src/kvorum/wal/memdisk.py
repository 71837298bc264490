"""A disk in memory that forgets what was not synced, tears writes, fills up and fails on command.

It is the worst disk that POSIX allows, within the sector promise: until a file is synced, each 512-byte
sector of what was written since may be on it or not, independently; until a directory is synced, the
creations, renames and removals in it may have happened only up to some point (they are journaled in order).
Room that was preallocated reads as zeros.

Directories are no more than prefixes of paths. Locks belong to the opening, as open file description locks
do. Not for more than one thread.
"""

import errno
import os
import random
from collections.abc import Callable
from typing import TypeAlias, final

from kvorum.wal.decoder import SECTOR_BYTES

_Names: TypeAlias = "dict[str, _File]"


@final
class _File:
    """Content as programs see it, and as the medium has it."""

    __slots__ = ("content", "dirty", "durable", "locked_by")

    def __init__(self, durable: bytes = b"") -> None:
        self.content = bytearray(durable)
        self.durable = bytearray(durable)
        self.dirty: set[int] = set()
        self.locked_by = -1

    def resize(self, size: int) -> None:
        """Cut, or grow with zeros."""
        before = len(self.content)
        del self.content[size:]
        self.content.extend(bytes(size - len(self.content)))
        self.touch(min(before, size), max(before, size))

    def touch(self, start: int, end: int) -> None:
        """Remember that these bytes may or may not be on the medium."""
        self.dirty.update(range(start // SECTOR_BYTES, (end + SECTOR_BYTES - 1) // SECTOR_BYTES))

    def sync(self) -> None:
        """Bring everything to the medium."""
        self.durable = bytearray(self.content)
        self.dirty.clear()

    def sync_range(self, start: int, end: int) -> None:
        """Bring some bytes, in whole sectors, and the size they need to the medium."""
        first = start // SECTOR_BYTES * SECTOR_BYTES
        last = min((end + SECTOR_BYTES - 1) // SECTOR_BYTES * SECTOR_BYTES, len(self.content))
        self.durable.extend(bytes(max(0, last - len(self.durable))))
        self.durable[first:last] = self.content[first:last]
        self.dirty.difference_update(range(first // SECTOR_BYTES, (last + SECTOR_BYTES - 1) // SECTOR_BYTES))

    def settle(self, chance: random.Random) -> bytes:
        """What a power cut leaves: of what is not synced, any sectors and either size."""
        size = chance.choice((len(self.durable), len(self.content)))
        left = self.durable[:size]
        left.extend(bytes(size - len(left)))
        for sector in sorted(self.dirty):
            at = sector * SECTOR_BYTES
            if chance.random() < 0.5:
                piece = self.content[at : min(at + SECTOR_BYTES, size)]
                left[at : at + len(piece)] = piece
        return bytes(left[:size])


@final
class MemoryDisk:
    """See the module. Implements :class:`kvorum.wal.disk.Disk`.

    ``fail_at`` is the number of calls that still succeed before one raises ``fail_errno`` (a write then
    leaves its first half); -1 is never. ``capacity_bytes`` bounds the sum of all sizes; beyond it there is
    ENOSPC.
    """

    __slots__ = (
        "_directories",
        "_durable_names",
        "_handles",
        "_journal",
        "_names",
        "_next_handle",
        "calls",
        "capacity_bytes",
        "fail_at",
        "fail_errno",
    )

    def __init__(self, *, capacity_bytes: int = 1 << 40) -> None:
        self.calls = 0
        self.capacity_bytes = capacity_bytes
        self.fail_at = -1
        self.fail_errno: int = errno.EIO
        self._names: _Names = {}
        self._durable_names: _Names = {}
        self._journal: list[tuple[set[str], Callable[[_Names], None]]] = []
        self._directories: set[str] = set()
        self._handles: dict[int, _File] = {}
        self._next_handle = 3

    # --- what a test does to it -----------------------------------------------------------------------------

    def crash(self, chance: random.Random) -> "MemoryDisk":
        """The disk as the next boot finds it: what was not synced is there or not, by ``chance``."""
        after = MemoryDisk(capacity_bytes=self.capacity_bytes)
        after._directories = set(self._directories)
        names = dict(self._durable_names)
        for _, change in self._journal[: chance.randint(0, len(self._journal))]:
            change(names)
        after._names = {path: _File(file.settle(chance)) for path, file in names.items()}
        after._durable_names = dict(after._names)
        return after

    def kill(self) -> None:
        """End the process that has files open: its handles and locks are gone, what it wrote is not, and is
        no more durable than it was.
        """
        for handle in list(self._handles):
            self.close(handle)

    def is_dirty(self, path: str) -> bool:
        """Whether a power cut could take back something of a file."""
        file = self._names[path]
        return self._durable_names.get(path) is not file or bool(file.dirty)

    def content(self, path: str) -> bytes:
        """What a program would read from a file."""
        return bytes(self._names[path].content)

    def set_content(self, path: str, content: bytes) -> None:
        """Put a file there, durably, as something outside would."""
        self._names[path] = self._durable_names[path] = _File(content)

    def copy(self) -> "MemoryDisk":
        """The same disk, everything on it durable, nothing open."""
        other = MemoryDisk(capacity_bytes=self.capacity_bytes)
        other._directories = set(self._directories)
        for path, file in self._names.items():
            other.set_content(path, bytes(file.content))
        return other

    def open_handles(self) -> int:
        """How many files are open."""
        return len(self._handles)

    def _call(self) -> None:
        self.calls += 1
        if self.fail_at == 0:
            raise OSError(self.fail_errno, os.strerror(self.fail_errno))
        if self.fail_at > 0:
            self.fail_at -= 1

    def _room_for(self, growth: int) -> None:
        if (
            growth > 0
            and sum(len(file.content) for file in self._names.values()) + growth > self.capacity_bytes
        ):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _change(self, paths: set[str], change: Callable[[_Names], None]) -> None:
        self._journal.append(({os.path.dirname(path) for path in paths}, change))
        change(self._names)

    # --- what a program does with it ------------------------------------------------------------------------

    def open(self, path: str, *, write: bool = False, create: bool = False) -> int:
        """See :class:`~kvorum.wal.disk.Disk`."""
        self._call()
        file = self._names.get(path)
        if file is None:
            if not create:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            file = _File()
            fresh = file

            def appear(names: _Names) -> None:
                names[path] = fresh

            self._change({path}, appear)
        handle = self._next_handle
        self._next_handle += 1
        self._handles[handle] = file
        return handle

    def close(self, handle: int) -> None:
        """See :class:`~kvorum.wal.disk.Disk`."""
        file = self._handles.pop(handle)
        if file.locked_by == handle:
            file.locked_by = -1

    def try_lock(self, handle: int) -> bool:
        """See :class:`~kvorum.wal.disk.Disk`."""
        file = self._handles[handle]
        if file.locked_by not in (-1, handle):
            return False
        file.locked_by = handle
        return True

    def size(self, handle: int) -> int:
        """See :class:`~kvorum.wal.disk.Disk`."""
        return len(self._handles[handle].content)

    def pread(self, handle: int, size: int, offset: int) -> bytes:
        """See :class:`~kvorum.wal.disk.Disk`."""
        self._call()
        return bytes(self._handles[handle].content[offset : offset + size])

    def pwrite(self, handle: int, data: bytes, offset: int) -> None:
        """See :class:`~kvorum.wal.disk.Disk`."""
        file = self._handles[handle]
        self._room_for(offset + len(data) - len(file.content))
        failure: OSError | None = None
        try:
            self._call()
        except OSError as error:
            failure = error
            data = data[: len(data) // 2]
        if len(file.content) < offset:
            file.resize(offset)
        file.content[offset : offset + len(data)] = data
        file.touch(offset, offset + len(data))
        if failure is not None:
            raise failure

    def write_durable(self, handle: int, data: bytes, offset: int) -> None:
        """See :class:`~kvorum.wal.disk.Disk`."""
        self.pwrite(handle, data, offset)
        self._handles[handle].sync_range(offset, offset + len(data))

    def fdatasync(self, handle: int) -> None:
        """See :class:`~kvorum.wal.disk.Disk`."""
        self._call()
        self._handles[handle].sync()

    def truncate(self, handle: int, size: int) -> None:
        """See :class:`~kvorum.wal.disk.Disk`."""
        self._call()
        self._handles[handle].resize(size)

    def preallocate(self, handle: int, size: int) -> None:
        """See :class:`~kvorum.wal.disk.Disk`."""
        self._call()
        file = self._handles[handle]
        self._room_for(size - len(file.content))
        if len(file.content) < size:
            file.resize(size)

    def exists(self, path: str) -> bool:
        """See :class:`~kvorum.wal.disk.Disk`."""
        return (
            path in self._names
            or path in self._directories
            or any(name.startswith(path + "/") for name in self._names)
        )

    def list(self, path: str) -> list[str]:
        """See :class:`~kvorum.wal.disk.Disk`."""
        self._call()
        return sorted(name[len(path) + 1 :] for name in self._names if os.path.dirname(name) == path)

    def make_dirs(self, path: str) -> None:
        """See :class:`~kvorum.wal.disk.Disk`."""
        self._call()
        self._directories.add(path)

    def rename(self, old: str, new: str) -> None:
        """See :class:`~kvorum.wal.disk.Disk`."""
        self._call()
        if old not in self._names and old not in self._directories:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), old)

        def move(names: _Names) -> None:
            for path in list(names):
                if path == old or path.startswith(old + "/"):
                    names[new + path[len(old) :]] = names.pop(path)

        self._change({old, new}, move)
        if old in self._directories:
            self._directories.discard(old)
            self._directories.add(new)

    def unlink(self, path: str) -> None:
        """See :class:`~kvorum.wal.disk.Disk`."""
        self._call()
        if path not in self._names:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        self._change({path}, lambda names: _drop(names, path))

    def remove_tree(self, path: str) -> None:
        """See :class:`~kvorum.wal.disk.Disk`."""
        self._call()
        for name in [name for name in self._names if name.startswith(path + "/")]:
            self.unlink(name)
        self._directories.discard(path)

    def sync_dir(self, path: str) -> None:
        """See :class:`~kvorum.wal.disk.Disk`."""
        self._call()
        left: list[tuple[set[str], Callable[[_Names], None]]] = []
        for directories, change in self._journal:
            if path in directories:
                change(self._durable_names)
            else:
                left.append((directories, change))
        self._journal = left


def _drop(names: _Names, path: str) -> None:
    names.pop(path, None)
