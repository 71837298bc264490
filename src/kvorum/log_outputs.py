"""Where log lines go: file descriptors, files, rotated files, the systemd journal.

One line is one ``write``. An output that fails (a closed stderr, a full disk, a pipe nobody reads that is set
non-blocking) loses the line and counts it in ``dropped``; it never raises and never ends the server.
``--log-outputs`` names them (etcd ``embed/config_logging.go``); rotation follows
``--log-rotation-config-json`` as the lumberjack package does it: the full file is renamed to
``name-<time>.ext`` and a new one begun.
"""

import gzip
import json
import os
import shutil
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, final

from kvorum.golang import quote
from kvorum.limits import JOURNAL_DATAGRAM_BYTES
from kvorum.logging import DEBUG, ERROR, INFO, WARN, Output

DEFAULT: Final = "default"
STDERR: Final = "stderr"
STDOUT: Final = "stdout"
JOURNAL: Final = "systemd/journal"
DISCARD: Final = "/dev/null"
JOURNAL_SOCKET: Final = "/run/systemd/journal/socket"

ROTATION_NEEDS_FILE: Final = (
    "--log-outputs requires a single file path when --log-rotate-config-json is defined"
)
_PRIORITIES: Final = {DEBUG: 7, INFO: 6, WARN: 4, ERROR: 3}  # syslog(3); panic and fatal are 2 (critical)


@final
class FdOutput:
    """Writes to an open file descriptor that somebody else owns (stderr, stdout, a test's pipe)."""

    def __init__(self, fd: int) -> None:
        self._fd: Final = fd
        self._torn = False
        self.dropped = 0

    def write(self, level: int, line: bytes) -> None:
        """Write the whole line or count it as dropped."""
        if self._torn:  # the last line got out in part: do not glue this one to it
            line = b"\n" + line
        try:
            written = os.write(self._fd, line)
            while written < len(line):
                self._torn = True
                written += os.write(self._fd, line[written:])
            self._torn = False
        except OSError:
            self.dropped += 1


@final
class FileOutput:
    """Appends to a file, made with mode 0644 when it is not there; raises OSError if it cannot be opened."""

    def __init__(self, path: str) -> None:
        self._output: Final = FdOutput(
            os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        )

    @property
    def dropped(self) -> int:
        """Lines that could not be written."""
        return self._output.dropped

    def write(self, level: int, line: bytes) -> None:
        """Append the line."""
        self._output.write(level, line)


@dataclass(frozen=True)
class RotationConfig:
    """``--log-rotation-config-json``; zero means no limit, but 100 MB for ``maxsize`` (as in lumberjack)."""

    maxsize: int = 100
    """Megabytes at which a file is rotated."""
    maxage: int = 0
    """Days after which a rotated file is removed."""
    maxbackups: int = 0
    """Rotated files that are kept."""
    localtime: bool = False
    """Name rotated files by local time instead of UTC."""
    compress: bool = False
    """Compress rotated files with gzip."""

    @classmethod
    def parse(cls, text: str) -> "RotationConfig":
        """Read the flag's JSON; raises ValueError saying what is wrong with it."""
        try:
            data = json.loads(text)
        except ValueError as error:
            raise ValueError(f"improperly formatted log rotation config: {error}") from None
        if not isinstance(data, dict):
            raise ValueError("invalid log rotation config: it must be a JSON object")
        kinds = {"maxsize": int, "maxage": int, "maxbackups": int, "localtime": bool, "compress": bool}
        values: dict[str, Any] = {}
        for key, value in data.items():
            kind = kinds.get(key.lower())
            if kind is None:
                continue  # etcd's JSON reader ignores what it does not know
            if type(value) is not kind:
                wanted = "a number" if kind is int else "true or false"
                raise ValueError(f"invalid log rotation config: {quote(key)} must be {wanted}")
            values[key.lower()] = value
        return replace(cls(), **values)


@final
class RotatingFileOutput:
    """A file that is renamed away when it would grow beyond ``maxsize`` megabytes.

    Invariant: ``_size`` is the length of the open file. Compression and removal of old files, the slow part,
    run in a thread of their own, one at a time.
    """

    def __init__(self, path: str, config: RotationConfig, *, clock: Callable[[], float] = time.time) -> None:
        self._path: Final = Path(path)
        self._config: Final = config
        self._limit_bytes: Final = (config.maxsize or 100) * 1024 * 1024
        self._clock: Final = clock
        self._lost = 0
        self._janitor: threading.Thread | None = None
        self._fd = -1
        self._size = 0
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._open()

    @property
    def dropped(self) -> int:
        """Lines that could not be written."""
        return self._lost

    def write(self, level: int, line: bytes) -> None:
        """Append the line, to a new file if this one is full."""
        try:
            if self._size + len(line) > self._limit_bytes and self._size:
                self._rotate()
            if self._fd < 0:
                self._open()
            self._size += os.write(self._fd, line)
        except OSError:
            self._lost += 1

    def wait_for_cleanup(self) -> None:
        """Wait until the files rotated so far are compressed and the superfluous ones removed."""
        if self._janitor is not None:
            self._janitor.join()

    def _open(self) -> None:
        self._fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._fd).st_size

    def _rotate(self) -> None:
        os.close(self._fd)
        self._fd = -1
        os.rename(self._path, self._backup_name())
        self._open()
        self.wait_for_cleanup()
        self._janitor = threading.Thread(target=self._clean_up, name="log-rotation", daemon=True)
        self._janitor.start()

    def _backup_name(self) -> Path:
        now = datetime.fromtimestamp(self._clock(), UTC)
        if self._config.localtime:
            now = now.astimezone()
        stamp = f"{now:%Y-%m-%dT%H-%M-%S}.{now.microsecond // 1000:03d}"
        return self._path.with_name(f"{self._path.stem}-{stamp}{self._path.suffix}")

    def _backups(self) -> list[Path]:
        """Rotated files, newest first; their names sort by time."""
        prefix, suffix = f"{self._path.stem}-", self._path.suffix
        found = [
            entry
            for entry in self._path.parent.iterdir()
            if entry.name.startswith(prefix) and entry.name.removesuffix(".gz").endswith(suffix)
        ]
        return sorted(found, key=lambda entry: entry.name, reverse=True)

    def _clean_up(self) -> None:
        config = self._config
        try:
            backups = self._backups()
            keep = backups[: config.maxbackups] if config.maxbackups else backups
            if config.maxage:
                oldest = self._clock() - config.maxage * 86400
                keep = [path for path in keep if path.stat().st_mtime >= oldest]
            for path in backups:
                if path not in keep:
                    path.unlink(missing_ok=True)
                elif config.compress and path.suffix != ".gz":
                    _compress(path)
        except OSError:
            self._lost += 1


def _compress(path: Path) -> None:
    packed = path.with_name(path.name + ".gz")
    with path.open("rb") as source, gzip.open(packed, "wb") as target:
        shutil.copyfileobj(source, target)
    path.unlink()


@final
class JournalOutput:
    """Sends lines to the systemd journal in its native protocol; what it refuses goes to ``fallback``.

    Raises OSError when there is no journal to talk to.
    """

    def __init__(self, fallback: Output, *, socket_path: str = JOURNAL_SOCKET, identifier: str = "") -> None:
        self._fallback: Final = fallback
        self._identifier: Final = identifier or Path(sys.argv[0]).name or "kvorum"
        self._socket: Final = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            self._socket.connect(socket_path)
        except OSError:
            self._socket.close()
            raise
        self._socket.setblocking(False)

    def write(self, level: int, line: bytes) -> None:
        """Send the line with its priority; the journal's own length form allows any bytes in it."""
        text = line.rstrip(b"\n")[:JOURNAL_DATAGRAM_BYTES]
        head = f"PRIORITY={_PRIORITIES.get(level, 2)}\nSYSLOG_IDENTIFIER={self._identifier}\n"
        message = b"MESSAGE\n" + len(text).to_bytes(8, "little") + text + b"\n"
        try:
            self._socket.send(head.encode() + message)
        except OSError:
            self._fallback.write(level, line)

    def close(self) -> None:
        """Close the socket to the journal."""
        self._socket.close()


def open_outputs(
    names: Sequence[str], rotation: RotationConfig | None = None, *, journal_socket: str = JOURNAL_SOCKET
) -> list[Output]:
    """Open what ``--log-outputs`` names.

    Args:
        names: ``default`` (stderr), ``stderr``, ``stdout``, ``systemd/journal`` or paths; twins count once.
        rotation: Set when ``--enable-log-rotation`` is; then exactly one of the names must be a path.
        journal_socket: Where systemd listens.

    Raises:
        ValueError: The names do not go together; in etcd's words.
        OSError: A file cannot be opened.
    """
    chosen = list(dict.fromkeys(names)) or [DEFAULT]
    _check_names(chosen, rotated=rotation is not None)
    if DISCARD in chosen:
        return []  # /dev/null among the outputs silences all of them (etcd MergeOutputPaths)
    outputs: list[Output] = []
    for name in chosen:
        if name in (DEFAULT, STDERR):
            outputs.append(FdOutput(2))
        elif name == STDOUT:
            outputs.append(FdOutput(1))
        elif name == JOURNAL:
            outputs.append(_open_journal(journal_socket))
        elif rotation is not None:
            outputs.append(RotatingFileOutput(name, rotation))
        else:
            outputs.append(FileOutput(name))
    return outputs


def _open_journal(path: str) -> Output:
    try:
        return JournalOutput(FdOutput(2), socket_path=path)
    except OSError as error:
        raise ValueError(f"can't find journal ({path}: {error.strerror})") from None


def _check_names(names: list[str], *, rotated: bool) -> None:
    if len(names) > 1 and DEFAULT in names:
        raise ValueError(f"multi logoutput for {quote(DEFAULT)} is not supported yet")
    if len(names) > 1 and JOURNAL in names:
        listed = " ".join(quote(name) for name in names)
        raise ValueError(
            f"running with systemd/journal but other '--log-outputs' values ([{listed}]) are configured with"
            " 'default'; override 'default' value with something else"
        )
    files = [name for name in names if name not in (DEFAULT, STDERR, STDOUT, JOURNAL)]
    if rotated and (len(files) > 1 or not files):
        raise ValueError(ROTATION_NEEDS_FILE)
