"""JSON from clients as Go's ``encoding/json`` reads it into structs: names in any case, null for nothing.

Python's own parser does the parsing; where it takes more than Go's (NaN, lone surrogates) it is told not to,
or what comes of it looks the same in an answer. ``error_text`` finds Go's words for what is no JSON, for the
one place where etcd shows them. Source of behaviour: Go 1.19 ``encoding/json`` (decode.go, scanner.go).
"""

import json
import re
from collections.abc import Mapping
from typing import Any, Final, NoReturn

from kvorum.golang import quote

_SPACE: Final = " \t\r\n"
_BLANKS: Final = re.compile(r"[ \t\r\n]*")
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


_DECODER: Final = json.JSONDecoder(parse_constant=_no_constant)


def first_value(data: bytes) -> Any:
    """The first JSON value of some bytes, whatever follows it (Go: ``Decoder.Decode``). Raises ValueError."""
    text = data.decode("utf-8", "replace").lstrip(_SPACE)
    try:
        return _DECODER.raw_decode(text)[0]
    except RecursionError:
        raise ValueError("nested too deeply") from None


def field_of(value: object, name: str, kind: type) -> Any:
    """A field of an object: the last whose name is ``name`` in any case; None if it is not there or null.

    Raises:
        ValueError: the value is no object, or the field is something else than ``kind``.
    """
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise ValueError("no object")
    found = None
    for key, item in value.items():
        if item is not None and (key == name or key.lower() == name):
            found = item
    if found is not None and not isinstance(found, kind):
        raise ValueError(f"{name} is something else")
    return found


def text_of(value: object, name: str) -> str:
    """A field that is text; empty if it is not there. Raises ValueError."""
    return field_of(value, name, str) or ""


def strings_of(value: object, name: str) -> tuple[str, ...] | None:
    """A field that is a list of texts; None if it is not there. Raises ValueError."""
    items = field_of(value, name, list)
    if items is None:
        return None
    if not all(item is None or isinstance(item, str) for item in items):
        raise ValueError(f"{name} is no list of texts")
    return tuple(item or "" for item in items)


def kind_of(value: object) -> str:
    """Go's name for the kind of a JSON value, as its errors have it."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, str):
        return "string"
    if isinstance(value, list):
        return "array"
    return "object" if isinstance(value, Mapping) else "number"


def error_text(data: bytes) -> str:
    """What Go says about the first fault of bytes that should be one JSON value; empty if there is none."""
    return _Scanner(data.decode("latin-1")).fault()


class _FaultError(Exception):
    """The words are found."""


class _Scanner:
    """Finds the place where a text stops being JSON. Works on bytes, each of them a character."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def fault(self) -> str:
        try:
            self._value()
            self._skip_blanks()
            if self._at < len(self._text):
                self._wrong("after top-level value")
        except _FaultError as fault:
            return str(fault)
        return ""

    def _wrong(self, where: str) -> NoReturn:
        if self._at >= len(self._text):
            raise _FaultError("unexpected end of JSON input")
        char = self._text[self._at]
        shown = {"'": "'\\''", '"': "'\"'"}.get(char) or f"'{quote(char)[1:-1]}'"
        raise _FaultError(f"invalid character {shown} {where}")

    def _skip_blanks(self) -> None:
        match = _BLANKS.match(self._text, self._at)
        assert match is not None, "nothing is a blank, too"
        self._at = match.end()

    def _here(self) -> str:
        return self._text[self._at : self._at + 1]

    def _value(self) -> None:
        """One value, without recursion: a stack of what is open."""
        open_ones: list[str] = []
        while True:
            self._skip_blanks()
            char = self._here()
            if char and char in "{[":
                self._at += 1
                self._skip_blanks()
                if self._here() != {"{": "}", "[": "]"}[char]:
                    open_ones.append(char)
                    if char == "{":
                        self._name()
                    continue
                self._at += 1
            else:
                self._scalar(char)
            if not self._close(open_ones):
                return

    def _close(self, open_ones: list[str]) -> bool:
        """What follows a value; False when the outermost one is complete."""
        while open_ones:
            self._skip_blanks()
            char = self._here()
            in_object = open_ones[-1] == "{"
            if char == ",":
                self._at += 1
                if in_object:
                    self._skip_blanks()
                    self._name()
                return True
            if char != ("}" if in_object else "]"):
                self._wrong("after object key:value pair" if in_object else "after array element")
            self._at += 1
            open_ones.pop()
        return False

    def _name(self) -> None:
        if self._here() != '"':
            self._wrong("looking for beginning of object key string")
        self._string()
        self._skip_blanks()
        if self._here() != ":":
            self._wrong("after object key")
        self._at += 1

    def _scalar(self, char: str) -> None:
        if char == '"':
            self._string()
        elif char and char in "tfn":
            self._literal({"t": "true", "f": "false", "n": "null"}[char])
        elif char == "-" or char.isdigit():
            self._number()
        else:
            self._wrong("looking for beginning of value")

    def _literal(self, word: str) -> None:
        for done, char in enumerate(word):
            if self._here() != char:
                self._wrong(f"in literal {word} (expecting '{char}')")
            self._at += 1
            assert done < len(word)

    def _string(self) -> None:
        self._at += 1
        while (char := self._here()) != '"':
            if not char or char < " ":
                self._wrong("in string literal")
            self._at += 1
            if char == "\\":
                escape = self._here()
                if not escape or escape not in '"\\/bfnrtu':
                    self._wrong("in string escape code")
                self._at += 1
                for _ in range(4 if escape == "u" else 0):
                    if self._here() not in tuple("0123456789abcdefABCDEF"):
                        self._wrong("in \\u hexadecimal character escape")
                    self._at += 1
        self._at += 1

    def _number(self) -> None:
        match = _NUMBER.match(self._text, self._at)
        if match is None:  # a lone minus
            self._at += 1
            self._wrong("in numeric literal")
        self._at = match.end()
        rest = self._text[self._at : self._at + 3]
        if rest[:1] == "." and "." not in match[0] and "e" not in match[0].lower():
            self._at += 1
            self._wrong("after decimal point in numeric literal")
        if rest[:1] in ("e", "E") and "e" not in match[0].lower():
            self._at += 2 if rest[1:2] in ("+", "-") else 1
            self._wrong("in exponent of numeric literal")
