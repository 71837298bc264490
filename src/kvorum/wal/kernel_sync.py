"""fdatasync without a thread: the kernel does it aside and rings an eventfd when it is done.

Linux's native asynchronous I/O (``io_submit``, man 2) knows since 4.18 a data sync of a file and can signal
its end on an eventfd, which the event loop watches like any socket. For the interpreter that means no second
thread, so nothing that waits for its lock: see ``writer.py`` for what that is worth. Reached through ctypes;
one call to hand the sync over, two to take its result, none of which blocks. ``PyDLL`` keeps the
interpreter's lock in them: a loop that lets go of it only to get it back would be the next to wait.

Where there is no such thing (another system, another processor, a sandbox without these calls)
:class:`KernelSync` cannot be made, and the WAL thread does it all.
"""

import asyncio
import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Callable
from typing import Final, final

_CALLS: Final = {
    "x86_64": (206, 207, 208, 209),
    "aarch64": (0, 1, 4, 2),
}
"""Numbers of io_setup, io_destroy, io_getevents, io_submit (the kernel's ``unistd.h``)."""
_IOCB: Final = struct.Struct("<QIIHhIQQqQII")
"""``struct iocb``: data, key, rw_flags, opcode, priority, file, buf, nbytes, offset, -, flags, resfd."""
_IO_EVENT: Final = struct.Struct("<QQqq")
"""``struct io_event``: data, object, result, second result."""
_IOCB_CMD_FDSYNC: Final = 3
_IOCB_FLAG_RESFD: Final = 1


@final
class KernelSync:
    """One data sync at a time, on the loop that made it.

    ``on_done(error)`` is called on the loop with None or the OSError that the sync ended with.
    """

    __slots__ = (
        "_block",
        "_blocks",
        "_context",
        "_event",
        "_events",
        "_libc",
        "_loop",
        "_numbers",
        "_on_done",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, on_done: Callable[[OSError | None], None]) -> None:
        """Set it up.

        Raises:
            OSError: there is no such thing here.
        """
        numbers = _CALLS.get(platform.machine())
        if sys.platform != "linux" or numbers is None or struct.calcsize("P") != 8:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        self._numbers: Final = numbers
        self._loop: Final = loop
        self._on_done: Final = on_done
        self._libc: Final = ctypes.PyDLL(None, use_errno=True)
        self._context: Final = ctypes.c_ulong(0)
        self._block: Final = ctypes.create_string_buffer(_IOCB.size)
        self._blocks: Final = (ctypes.c_void_p * 1)(ctypes.addressof(self._block))
        self._events: Final = ctypes.create_string_buffer(_IO_EVENT.size)
        if self._libc.syscall(numbers[0], 1, ctypes.byref(self._context)) != 0:
            raise self._error()
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        loop.add_reader(self._event, self._take_result)

    def submit(self, handle: int) -> None:
        """Start a data sync of the file.

        Raises:
            OSError: the kernel did not take it; nothing was started.
        """
        _IOCB.pack_into(
            self._block, 0, 0, 0, 0, _IOCB_CMD_FDSYNC, 0, handle, 0, 0, 0, 0, _IOCB_FLAG_RESFD, self._event
        )
        if self._libc.syscall(self._numbers[3], self._context, 1, self._blocks) != 1:
            raise self._error()

    def close(self) -> None:
        """Give the kernel's context and the eventfd back; waits for a sync under way. Twice does nothing."""
        if self._event >= 0:
            self._loop.remove_reader(self._event)
            self._libc.syscall(self._numbers[1], self._context)
            os.close(self._event)
            self._event = -1

    def _take_result(self) -> None:
        try:
            os.eventfd_read(self._event)
        except BlockingIOError:
            return
        taken = self._libc.syscall(
            self._numbers[2], self._context, ctypes.c_long(1), ctypes.c_long(1), self._events, None
        )
        if taken != 1:
            self._on_done(self._error())
            return
        result = _IO_EVENT.unpack(self._events.raw)[2]
        self._on_done(None if result == 0 else OSError(-result, os.strerror(-result)))

    def _error(self) -> OSError:
        number = ctypes.get_errno()
        return OSError(number, os.strerror(number))
