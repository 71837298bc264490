"""The log: one line per event, with etcd's fields, written whole or not at all.

A line is ``{"level", "ts", ["logger",] "caller", "msg", fields...}`` as etcd 3.5 writes through zap, or with
``--log-format console`` the same things separated by tabs for people. Operators' pipelines and test suites
read these lines, so the field names, the time format and the way values are printed are etcd's:

* keyword arguments are fields, ``_`` standing for the ``-`` of etcd's names: ``log.info("x", data_dir=d)``
  writes ``"data-dir"``; a mapping in front of them is taken letter by letter;
* a `Duration` or ``timedelta`` prints as Go prints it, bytes as text, an exception as its message; the ids of
  members and clusters go through `hex_id`;
* at ``error`` and above an exception's traceback becomes the ``stacktrace`` field.

Equal lines are thinned out as zap does it (`Sampler`): a hundred in a second, then every hundredth. Outputs
are passed in (``log_outputs.py``); a broken output loses lines, never the server.
"""

import logging as standard_logging
import math
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from json.encoder import encode_basestring as _encode_string
from types import CodeType
from typing import Final, Protocol, final

from kvorum.duration import Duration, format_duration
from kvorum.golang import quote
from kvorum.limits import LOG_CALLERS_REMEMBERED, LOG_SAMPLE_FIRST, LOG_SAMPLE_THEREAFTER

DEBUG: Final = 0
INFO: Final = 1
WARN: Final = 2
ERROR: Final = 3
PANIC: Final = 4
FATAL: Final = 5
LEVEL_NAMES: Final = ("debug", "info", "warn", "error", "panic", "fatal")

JSON: Final = "json"
CONSOLE: Final = "console"

Fields = Mapping[str, object]


class Output(Protocol):
    """Where finished lines go. ``write`` must not raise and should not wait."""

    def write(self, level: int, line: bytes) -> None:
        """Take one line with its newline; ``level`` is for outputs that have priorities of their own."""


def parse_level(name: str) -> int:
    """Return the level called ``name``; raises ValueError as etcd words it."""
    try:
        return LEVEL_NAMES.index(name)
    except ValueError:
        raise ValueError(f"unrecognized level: {quote(name)}") from None


def parse_format(name: str) -> str:
    """Return ``json`` or ``console``; an empty name is the default; raises ValueError as etcd words it."""
    if name in (JSON, CONSOLE):
        return name
    if not name:
        return JSON
    raise ValueError(f"unknown log format: {name}, supported values json, console")


def hex_id(number: int) -> str:
    """Return the id of a member or cluster as etcd prints it: hexadecimal without leading zeros."""
    return f"{number:x}"


@final
class Sampler:
    """Thins out equal lines: the first 100 of a level and message in a second, then every 100th.

    Invariant: ``_counts`` holds only what was said in the second ``_second``.
    """

    __slots__ = ("_counts", "_second")

    def __init__(self) -> None:
        self._second = -1
        self._counts: dict[tuple[int, str], int] = {}

    def admit(self, now_seconds: float, level: int, message: str) -> bool:
        """Whether this line is one of those to write."""
        second = int(now_seconds)
        if second != self._second:
            self._second = second
            self._counts.clear()
        key = (level, message)
        count = self._counts.get(key, 0) + 1
        self._counts[key] = count
        if count <= LOG_SAMPLE_FIRST:
            return True
        return (count - LOG_SAMPLE_FIRST) % LOG_SAMPLE_THEREAFTER == 0


@final
class _Sink:
    """What a logger and all that derive from it share: level, form, outputs, clock."""

    __slots__ = ("callers", "clock", "format", "level", "outputs", "sampler", "second", "stamp", "zone")

    def __init__(
        self, outputs: Iterable[Output], level: int, form: str, clock: Callable[[], float], sample: bool
    ) -> None:
        self.outputs = tuple(outputs)
        self.level = level
        self.format = form
        self.clock = clock
        self.sampler = Sampler() if sample else None
        self.callers: dict[tuple[CodeType, int], str] = {}
        self.second = -1
        self.stamp = ""
        self.zone = "Z"

    def timestamp(self, now_seconds: float) -> str:
        """ISO 8601 with milliseconds in local time, ``Z`` for UTC (zap's ISO8601TimeEncoder)."""
        milliseconds = int(now_seconds * 1000)
        second, milliseconds = divmod(milliseconds, 1000)
        if second != self.second:
            local = time.localtime(second)
            self.stamp = time.strftime("%Y-%m-%dT%H:%M:%S", local)
            self.zone = time.strftime("%z", local) if local.tm_gmtoff else "Z"
            self.second = second
        return f"{self.stamp}.{milliseconds:03d}{self.zone}"

    def caller(self, code: CodeType, line: int) -> str:
        """``folder/file.py:line`` of the code that logs, remembered per place."""
        found = self.callers.get((code, line))
        if found is None:
            if len(self.callers) >= LOG_CALLERS_REMEMBERED:
                self.callers.clear()
            found = f"{'/'.join(code.co_filename.rsplit('/', 2)[-2:])}:{line}"
            self.callers[code, line] = found
        return found


@final
class Logger:
    """Writes log lines; passed to whoever has something to say.

    Cheap to derive from (`named`, `with_fields`); all that derive from one logger share its level and its
    outputs. Safe to call from several threads: a line is one write.
    """

    __slots__ = ("_fields", "_name", "_sink")

    def __init__(
        self,
        outputs: Iterable[Output],
        *,
        level: int = INFO,
        format: str = JSON,  # noqa: A002 - the flag's name
        clock: Callable[[], float] = time.time,
        sample: bool = True,
    ) -> None:
        self._sink = _Sink(outputs, level, format, clock, sample)
        self._name = ""
        self._fields: dict[str, object] = {}

    @property
    def level(self) -> int:
        """The lowest level that is written; may be set while running."""
        return self._sink.level

    @level.setter
    def level(self, level: int) -> None:
        self._sink.level = level

    def enabled(self, level: int) -> bool:
        """Whether a line of this level would be written; ask before preparing costly fields."""
        return level >= self._sink.level

    def named(self, name: str) -> "Logger":
        """Return a logger whose lines carry ``"logger": name`` (joined by dots, as etcd's ``raft``)."""
        child = self._derive()
        child._name = f"{self._name}.{name}" if self._name else name
        return child

    def with_fields(self, mapping: Fields | None = None, /, **fields: object) -> "Logger":
        """Return a logger that adds these fields to every line."""
        child = self._derive()
        child._fields = {**self._fields, **_named_fields(mapping, fields)}
        return child

    def debug(self, message: str, mapping: Fields | None = None, /, **fields: object) -> None:
        """Say something for whoever looks for a fault."""
        if self._sink.level <= DEBUG:
            self._write(DEBUG, message, mapping, fields)

    def info(self, message: str, mapping: Fields | None = None, /, **fields: object) -> None:
        """Say what the server did."""
        if self._sink.level <= INFO:
            self._write(INFO, message, mapping, fields)

    def warn(self, message: str, mapping: Fields | None = None, /, **fields: object) -> None:
        """Say what the operator should look at."""
        if self._sink.level <= WARN:
            self._write(WARN, message, mapping, fields)

    def error(self, message: str, mapping: Fields | None = None, /, **fields: object) -> None:
        """Say what failed."""
        if self._sink.level <= ERROR:
            self._write(ERROR, message, mapping, fields)

    def panic(self, message: str, mapping: Fields | None = None, /, **fields: object) -> None:
        """Say which of our own rules was broken. Only writes; the caller raises."""
        if self._sink.level <= PANIC:
            self._write(PANIC, message, mapping, fields)

    def fatal(self, message: str, mapping: Fields | None = None, /, **fields: object) -> None:
        """Say why the process ends. Only writes; the caller ends it with exit code 1."""
        self._write(FATAL, message, mapping, fields)

    def log(
        self,
        level: int,
        message: str,
        mapping: Fields | None = None,
        /,
        *,
        caller: str = "",
        **fields: object,
    ) -> None:
        """Write at a level found out at run time, optionally for code that is elsewhere (``caller``)."""
        if self._sink.level <= level:
            self._write(level, message, mapping, fields, caller)

    def _derive(self) -> "Logger":
        child = Logger.__new__(Logger)
        child._sink, child._name, child._fields = self._sink, self._name, self._fields
        return child

    def _write(
        self, level: int, message: str, mapping: Fields | None, fields: dict[str, object], caller: str = ""
    ) -> None:
        sink = self._sink
        now = sink.clock()
        if sink.sampler is not None and level < PANIC and not sink.sampler.admit(now, level, message):
            return
        if not caller:
            frame = sys._getframe(2)
            caller = sink.caller(frame.f_code, frame.f_lineno)
        named = _named_fields(mapping, fields)
        if self._fields:
            named = {**self._fields, **named}
        if level >= ERROR:
            _add_stacktrace(named)
        form = _console_line if sink.format == CONSOLE else _json_line
        line = form(LEVEL_NAMES[level], sink.timestamp(now), self._name, caller, message, named)
        data = line.encode("utf-8", "backslashreplace")  # a lone surrogate becomes JSON's own escape for it
        for output in sink.outputs:
            output.write(level, data)


def _named_fields(mapping: Fields | None, fields: dict[str, object]) -> dict[str, object]:
    named = dict(mapping) if mapping else {}
    for key, value in fields.items():
        named[key.replace("_", "-")] = value
    return named


def _add_stacktrace(fields: dict[str, object]) -> None:
    for value in fields.values():
        if isinstance(value, BaseException) and value.__traceback__ is not None:
            fields["stacktrace"] = "".join(traceback.format_exception(value)).rstrip("\n")
            return


def _json_line(level: str, stamp: str, name: str, caller: str, message: str, fields: Fields) -> str:
    logger = f'"logger":{_encode_string(name)},' if name else ""
    context = "".join(f",{_encode_string(key)}:{encode_value(value)}" for key, value in fields.items())
    return (
        f'{{"level":"{level}","ts":"{stamp}",{logger}"caller":{_encode_string(caller)},'
        f'"msg":{_encode_string(message)}{context}}}\n'
    )


def _console_line(level: str, stamp: str, name: str, caller: str, message: str, fields: Fields) -> str:
    # Message and stack trace are raw here, as zap's console form has them.
    parts = [stamp, level, name, caller, message] if name else [stamp, level, caller, message]
    shown = [
        f"{_encode_string(key)}: {encode_value(value, ', ')}"
        for key, value in fields.items()
        if key != "stacktrace"
    ]
    if shown:
        parts.append("{" + ", ".join(shown) + "}")
    tail = f"\n{fields['stacktrace']}" if "stacktrace" in fields else ""
    return "\t".join(parts) + tail + "\n"


def encode_value(value: object, comma: str = ",") -> str:
    """Return one field's value as JSON, printed the way zap prints the like of it."""
    if isinstance(value, str):
        return _encode_string(value)
    if value is None or isinstance(value, bool):
        return "null" if value is None else "true" if value else "false"
    if isinstance(value, Duration):
        return f'"{value}"'
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else f'"{value}"'
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _encode_string(bytes(value).decode("utf-8", "replace"))
    if isinstance(value, BaseException):
        return _encode_string(str(value) or type(value).__name__)
    if isinstance(value, timedelta):
        return f'"{format_duration(round(value.total_seconds() * 1e9))}"'
    if isinstance(value, Mapping):
        pairs = (f"{_encode_string(str(key))}:{encode_value(item, comma)}" for key, item in value.items())
        return "{" + comma.join(pairs) + "}"
    if isinstance(value, (list, tuple, set, frozenset)):
        return "[" + comma.join(encode_value(item, comma) for item in value) + "]"
    return _encode_string(str(value))


_OWN_ATTRIBUTES: Final = {*vars(standard_logging.makeLogRecord({})), "message", "asctime", "taskName"}
"""What every record has; anything else came with it as ``extra`` and is a field."""


@final
class _StandardHandler(standard_logging.Handler):
    """Hands records of Python's own logging (asyncio, libraries, warnings) to a `Logger`."""

    def __init__(self, log: Logger) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: standard_logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except Exception as error:  # a library's broken format string is not worth losing the record
            message = f"{record.msg} ({error})"
        fields = {name: value for name, value in vars(record).items() if name not in _OWN_ATTRIBUTES}
        if record.exc_info is not None and record.exc_info[1] is not None:
            fields["error"] = record.exc_info[1]
        caller = f"{'/'.join(record.pathname.rsplit('/', 2)[-2:])}:{record.lineno}"
        self._log.named(record.name).log(_standard_level(record.levelno), message, fields, caller=caller)


def _standard_level(number: int) -> int:
    if number >= standard_logging.ERROR:
        return ERROR
    if number >= standard_logging.WARNING:
        return WARN
    return INFO if number >= standard_logging.INFO else DEBUG


def capture_standard_logging(log: Logger) -> Callable[[], None]:
    """Send what Python's ``logging`` and ``warnings`` modules say to ``log`` from now on.

    Returns:
        A function that puts things back as they were.
    """
    root = standard_logging.getLogger()
    handler = _StandardHandler(log)
    before, level = list(root.handlers), root.level
    root.handlers = [handler]
    root.setLevel(standard_logging.DEBUG if log.enabled(DEBUG) else standard_logging.INFO)
    standard_logging.captureWarnings(True)

    def restore() -> None:
        standard_logging.captureWarnings(False)
        root.handlers = before
        root.setLevel(level)

    return restore
