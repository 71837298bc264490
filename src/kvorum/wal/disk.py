"""The file system as the log and the .snap files need it; everything they do to a disk goes through here.

Passed in, so that a disk that tears writes, forgets what was not synced, fills up or fails can stand in
(``memdisk.py``). Methods raise OSError as the operating system does.

**Which calls make a batch durable.** ``write_durable`` is one system call where there is one: ``pwritev2``
with ``RWF_DSYNC``, which writes and returns when data, and the metadata needed to read it back, are on the
disk: what ``pwrite`` plus ``fdatasync`` do in two. Python gives up the interpreter's lock around each call
and has to get it back beside a busy event loop, so one call is one wait less. Measured, 320-byte writes into
a preallocated file on ext4, p50 of write plus sync: two calls 72-115 µs, ``RWF_DSYNC`` 91-117 µs, ``O_DSYNC``
72-101 µs (no difference beyond noise: the disk sets the pace); from the loop through a thread and back: two
calls 126-141 µs, one call 112-133 µs. ``O_DSYNC`` would cost the file handle its unsynced writes
(``--unsafe-no-fsync``).

**Preallocated by fallocate, not filled with zeros.** Zeros written beforehand spare the disk the conversion
of unwritten extents: at 320 bytes no difference could be measured, at 8 KiB 90-100 against 120-160 µs, at 32
KiB 105-118 against 166-250 µs. They also double what is written to the disk, and in bursts that hold up the
syncs beside them. Not worth it at the batch sizes where latency is felt; etcd preallocates as well.
"""

import errno
import fcntl
import os
import shutil
import struct
from typing import Final, Protocol, final

PRIVATE_FILE_MODE: Final = 0o600
PRIVATE_DIR_MODE: Final = 0o700

_RWF_DSYNC: Final[int] = getattr(os, "RWF_DSYNC", 0)
_OFD_SETLK: Final[int] = getattr(fcntl, "F_OFD_SETLK", -1)
_F_FULLFSYNC: Final[int] = getattr(fcntl, "F_FULLFSYNC", -1)
_FALLOCATE_UNSUPPORTED: Final = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)


class Disk(Protocol):
    """Files by handle, names by path. A handle is an int that ``open`` gave and ``close`` takes back."""

    def open(self, path: str, *, write: bool = False, create: bool = False) -> int:
        """Open a file, private to its user; never truncates."""
        ...

    def close(self, handle: int) -> None:
        """Give a handle back, and with it the lock held through it."""
        ...

    def try_lock(self, handle: int) -> bool:
        """Lock a file opened for writing until it is closed; False if another opening of it has the lock."""
        ...

    def size(self, handle: int) -> int:
        """Size of the file in bytes."""
        ...

    def pread(self, handle: int, size: int, offset: int) -> bytes:
        """Up to ``size`` bytes from ``offset``; fewer only at the end of the file."""
        ...

    def pwrite(self, handle: int, data: bytes, offset: int) -> None:
        """Write all of ``data`` at ``offset``, not durably."""
        ...

    def write_durable(self, handle: int, data: bytes, offset: int) -> None:
        """Write all of ``data`` at ``offset``; durable on return, whatever else of the file is not."""
        ...

    def fdatasync(self, handle: int) -> None:
        """Make everything written to the file durable."""
        ...

    def truncate(self, handle: int, size: int) -> None:
        """Set the size of the file."""
        ...

    def preallocate(self, handle: int, size: int) -> None:
        """Grow the file to ``size`` with zeros whose room is reserved where the file system can do that."""
        ...

    def exists(self, path: str) -> bool:
        """Whether a file or directory is there."""
        ...

    def list(self, path: str) -> list[str]:
        """Names in a directory, sorted."""
        ...

    def make_dirs(self, path: str) -> None:
        """Create a directory, private to its user, and those above it."""
        ...

    def rename(self, old: str, new: str) -> None:
        """Give a file or directory another name, replacing a file (or empty directory) that has it."""
        ...

    def unlink(self, path: str) -> None:
        """Remove a file."""
        ...

    def remove_tree(self, path: str) -> None:
        """Remove a directory and everything in it; nothing happens if there is none."""
        ...

    def sync_dir(self, path: str) -> None:
        """Make creations, renames and removals in a directory durable."""
        ...


@final
class OsDisk:
    """The machine's file system."""

    __slots__ = ()

    def open(self, path: str, *, write: bool = False, create: bool = False) -> int:
        """See :class:`Disk`."""
        flags = os.O_CLOEXEC | (os.O_RDWR if write else os.O_RDONLY) | (os.O_CREAT if create else 0)
        return os.open(path, flags, PRIVATE_FILE_MODE)

    def close(self, handle: int) -> None:
        """See :class:`Disk`."""
        os.close(handle)

    def try_lock(self, handle: int) -> bool:
        """See :class:`Disk`.

        The kind of lock that etcd takes (``fileutil/lock_linux.go``), so each keeps the other out.
        """
        try:
            if _OFD_SETLK >= 0:
                # struct flock: short type, short whence, off_t start, off_t len, pid_t pid
                fcntl.fcntl(handle, _OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
            else:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                return False
            raise
        return True

    def size(self, handle: int) -> int:
        """See :class:`Disk`."""
        return os.fstat(handle).st_size

    def pread(self, handle: int, size: int, offset: int) -> bytes:
        """See :class:`Disk`."""
        data = os.pread(handle, size, offset)
        if len(data) == size or not data:
            return data
        parts = [data]
        got = len(data)
        while got < size and data:
            data = os.pread(handle, size - got, offset + got)
            parts.append(data)
            got += len(data)
        return b"".join(parts)

    def pwrite(self, handle: int, data: bytes, offset: int) -> None:
        """See :class:`Disk`."""
        written = os.pwrite(handle, data, offset)
        while written < len(data):
            written += os.pwrite(handle, data[written:], offset + written)

    def write_durable(self, handle: int, data: bytes, offset: int) -> None:
        """See :class:`Disk`."""
        if not _RWF_DSYNC:
            self.pwrite(handle, data, offset)
            self.fdatasync(handle)
            return
        written = os.pwritev(handle, (data,), offset, _RWF_DSYNC)
        while written < len(data):
            written += os.pwritev(handle, (data[written:],), offset + written, _RWF_DSYNC)

    def fdatasync(self, handle: int) -> None:
        """See :class:`Disk`. On macOS only F_FULLFSYNC reaches the medium."""
        if _F_FULLFSYNC >= 0:
            fcntl.fcntl(handle, _F_FULLFSYNC)
        else:
            os.fdatasync(handle)

    def truncate(self, handle: int, size: int) -> None:
        """See :class:`Disk`."""
        os.ftruncate(handle, size)

    def preallocate(self, handle: int, size: int) -> None:
        """See :class:`Disk`. glibc writes zeros where the file system has no fallocate."""
        try:
            os.posix_fallocate(handle, 0, size)
        except OSError as error:
            if error.errno not in _FALLOCATE_UNSUPPORTED:
                raise
            if os.fstat(handle).st_size < size:
                os.ftruncate(handle, size)

    def exists(self, path: str) -> bool:
        """See :class:`Disk`."""
        return os.path.exists(path)

    def list(self, path: str) -> list[str]:
        """See :class:`Disk`."""
        return sorted(os.listdir(path))

    def make_dirs(self, path: str) -> None:
        """See :class:`Disk`."""
        os.makedirs(path, PRIVATE_DIR_MODE, exist_ok=True)

    def rename(self, old: str, new: str) -> None:
        """See :class:`Disk`."""
        os.rename(old, new)

    def unlink(self, path: str) -> None:
        """See :class:`Disk`."""
        os.unlink(path)

    def remove_tree(self, path: str) -> None:
        """See :class:`Disk`."""
        if os.path.lexists(path):
            shutil.rmtree(path)

    def sync_dir(self, path: str) -> None:
        """See :class:`Disk`."""
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
