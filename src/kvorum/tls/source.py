"""Contexts as fresh as the files they are made of.

A file system may be slow, so files are looked at in a thread, and at most once a second however many connect:
whoever connects waits for a look that is due, unless it takes long: a file system that hangs must not shut
the door. Between two looks a handshake costs no system call. Where etcd
reads its files at every handshake and refuses everybody while a renewal is half done, the last files that
fitted together go on being used here; the log says so in etcd's words.
"""

import asyncio
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Generic, TypeVar, final

from kvorum import limits
from kvorum.tls.info import TlsError

T = TypeVar("T")


@final
class FileSource(Generic[T]):
    """Something made of files, made again when one of them has changed.

    Args:
        files: their paths; empty ones are left out.
        load: makes it; raises TlsError. Called in a thread, except the first time.
        failed: told once about files that do not fit together; called on the loop.

    Raises:
        TlsError: at once, if it cannot be made from what is there now.
    """

    def __init__(
        self, files: Sequence[str], load: Callable[[], T], failed: Callable[[TlsError], None]
    ) -> None:
        self._files: Final = tuple(filter(None, files))
        self._load: Final = load
        self._failed: Final = failed
        self._seen = _stamps(self._files)
        self._looked_at = float("-inf")
        self._looking: asyncio.Future[None] | None = None
        self._last_problem = ""
        self._thread: ThreadPoolExecutor | None = None
        self.latest: T = load()
        """The newest that could be made, as of the last look."""

    @property
    def is_due(self) -> bool:
        """Whether the files have to be looked at before `latest` may be used."""
        now = asyncio.get_running_loop().time()
        return bool(self._files) and now - self._looked_at >= limits.TLS_FILES_CHECK_SECONDS

    async def fresh(self) -> T:
        """Return the newest, no older than a second if the file system answers in time."""
        if self.is_due:
            if self._looking is None:
                self._looking = asyncio.get_running_loop().create_task(self._look())
            done, _ = await asyncio.wait((self._looking,), timeout=limits.TLS_FILES_WAIT_SECONDS)
            if not done:
                self._looked_at = asyncio.get_running_loop().time()  # not everybody shall wait so long
        return self.latest

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "kvorum-tls")
        try:
            changed = await loop.run_in_executor(self._thread, self._changed)
            if changed is not None:
                self._seen, self.latest = changed
            self._last_problem = ""
        except TlsError as error:
            if str(error) != self._last_problem:
                self._last_problem = str(error)
                self._failed(error)
        finally:
            self._looked_at = loop.time()
            self._looking = None

    def _changed(self) -> tuple[object, T] | None:
        stamps = _stamps(self._files)
        return None if stamps == self._seen else (stamps, self._load())


def _stamps(files: Sequence[str]) -> object:
    """What changes when a file is written or replaced."""
    found: list[tuple[int, ...] | None] = []
    for path in files:
        try:
            status = os.stat(path)
        except OSError:
            found.append(None)
        else:
            found.append((status.st_mtime_ns, status.st_ino, status.st_size, status.st_dev))
    return found
