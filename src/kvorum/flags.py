"""Command line flags in Go's syntax: ``-name value``, ``--name=value``, booleans without a value.

A flag knows its kind, and the kind knows how to read a text. etcd's flags are in ``flag_table.py``; what the
server does with them is in ``flag_support.py``; where values come from, and in which order, is in
``config.py``. Pure.
Source of behaviour: Go's ``flag`` package and etcd ``pkg/flags``, whose error texts these are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from kvorum.duration import Duration, parse_duration
from kvorum.golang import (
    MAX_UINT32,
    GoRangeError,
    GoSyntaxError,
    parse_bool,
    parse_int,
    parse_uint,
    quote,
)
from kvorum.urls import Url, parse_urls

BOOL: Final = "bool"
UINT: Final = "uint"
UINT32: Final = "uint32"
INT: Final = "int"
DURATION: Final = "duration"
STRING: Final = "string"
CHOICE: Final = "choice"  # one of `Flag.choices`
CHOICES: Final = "choices"  # several of `Flag.choices`, by comma
URLS: Final = "urls"  # member URLs by comma; an empty text leaves the default
ORIGINS: Final = "origins"  # URLs by comma, or "*"
NAMES: Final = "names"  # texts by comma, sorted, each once
LIST: Final = "list"  # texts by comma, in order
IGNORED: Final = "ignored"  # etcd 0.4's, taken and forgotten

Value = bool | int | Duration | str | tuple[str, ...] | tuple[Url, ...]


class FlagError(Exception):
    """The command line cannot be read: one line for the user, exit code 2."""


@dataclass(frozen=True)
class Flag:
    """One flag: its name, kind, default and the sentence that explains it."""

    name: str
    kind: str
    default: str
    help: str
    group: str = ""
    choices: tuple[str, ...] = ()
    shown_default: str = ""
    """What ``--help`` and the documentation show where the default depends on another flag."""

    @property
    def environment(self) -> str:
        """The environment variable that sets the flag, ``ETCD_`` and the name in capitals."""
        return "ETCD_" + self.name.upper().replace("-", "_")

    @property
    def default_value(self) -> Value:
        """The default, read as a value would be."""
        if not self.default:
            return () if self.kind in _LISTS else ""
        return self.parse(self.default)

    def parse(self, text: str) -> Value:
        """Return the value that ``text`` is for this flag.

        Raises:
            ValueError: The text is no such value; the message is the part behind the last colon of Go's.
        """
        kind = self.kind
        if kind in _NUMBERS:
            return self._number(text)
        if kind == DURATION:
            try:
                return parse_duration(text)
            except ValueError:
                raise ValueError("parse error") from None
        if kind in (URLS, ORIGINS):
            return self._urls(text)
        if kind == NAMES:
            return tuple(sorted(set(text.split(","))))
        if kind == LIST:
            return tuple(text.split(","))
        if kind == CHOICE and text not in self.choices:
            raise ValueError("invalid value")
        if kind == CHOICES:
            wrong = [part for part in text.split(",") if part not in self.choices]
            if wrong:
                raise ValueError(f"invalid value {quote(wrong[0])}")
        return text

    def _number(self, text: str) -> bool | int:
        try:
            if self.kind == BOOL:
                return parse_bool(text)
            if self.kind == INT:
                return parse_int(text)
            if self.kind == UINT32:
                return parse_uint(text, MAX_UINT32)
            return parse_uint(text)
        except GoSyntaxError:
            problem = "parse error", "invalid syntax"
        except GoRangeError:
            problem = "value out of range", "value out of range"
        if self.kind == UINT32:  # etcd's own kind passes strconv's error on
            raise ValueError(f"strconv.ParseUint: parsing {quote(text)}: {problem[1]}")
        raise ValueError(problem[0])

    def _urls(self, text: str) -> Value:
        if self.kind == ORIGINS:
            return ("*",) if text in ("*", "") else tuple(str(url) for url in parse_urls(text.split(",")))
        if not text:
            return self.default_value
        return parse_urls(text.split(","))


_NUMBERS: Final = frozenset((BOOL, UINT, UINT32, INT))
_LISTS: Final = frozenset((URLS, NAMES, LIST))


@dataclass(frozen=True)
class CommandLine:
    """What a command line said: values by flag name, what is left over, and whether help is asked for."""

    values: Mapping[str, Value]
    rest: tuple[str, ...] = ()
    help: bool = False


def parse_command_line(arguments: Sequence[str], table: Mapping[str, Flag]) -> CommandLine:
    """Read ``arguments`` (without the program's name); reading stops at the first word that is no flag.

    Raises:
        FlagError: In the words of Go's ``flag`` package.
    """
    values: dict[str, Value] = {}
    words = list(arguments)
    while words:
        word = words[0]
        if len(word) < 2 or word[0] != "-":
            break
        del words[0]
        if word == "--":
            break
        name, equals, text = _split(word)
        flag = table.get(name)
        if flag is None:
            if name in ("help", "h"):
                return CommandLine(values, help=True)
            raise FlagError(f"flag provided but not defined: -{name}")
        if not equals and flag.kind in (BOOL, IGNORED):
            text = "true"
        elif not equals:
            if not words:
                raise FlagError(f"flag needs an argument: -{name}")
            text = words.pop(0)
        values[name] = _parse(flag, text)
    return CommandLine(values, tuple(words))


def _split(word: str) -> tuple[str, bool, str]:
    body = word[2:] if word.startswith("--") else word[1:]
    if not body or body[0] in "-=":
        raise FlagError(f"bad flag syntax: {word}")
    name, equals, text = body.partition("=")
    return name, bool(equals), text


def _parse(flag: Flag, text: str) -> Value:
    try:
        return flag.parse(text)
    except ValueError as error:
        what = "boolean value" if flag.kind == BOOL else "value"
        where = f"for -{flag.name}" if flag.kind == BOOL else f"for flag -{flag.name}"
        raise FlagError(f"invalid {what} {quote(text)} {where}: {error}") from None
