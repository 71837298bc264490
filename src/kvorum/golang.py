"""How Go reads and writes the small values that appear in etcd's flags and texts.

Scripts and tests compare etcd's messages, and those quote values as Go does (``%q``); its flags take booleans
as ``strconv.ParseBool`` does and numbers as ``strconv.ParseUint(s, 0, 64)`` does. Pure functions only.
Source of behaviour: Go's ``strconv`` and ``encoding/json`` packages.
"""

import json
import re
from typing import Any, Final

_ESCAPES: Final = {
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
    "\\": "\\\\",
    '"': '\\"',
}
_TRUE: Final = frozenset(("1", "t", "T", "TRUE", "true", "True"))
_FALSE: Final = frozenset(("0", "f", "F", "FALSE", "false", "False"))
_BASES: Final = {"0x": 16, "0b": 2, "0o": 8}

MAX_UINT32: Final = (1 << 32) - 1
MAX_UINT64: Final = (1 << 64) - 1
MAX_INT64: Final = (1 << 63) - 1
MIN_INT64: Final = -(1 << 63)


class GoSyntaxError(ValueError):
    """The text is not a value of the wanted kind (Go: ``strconv.ErrSyntax``)."""


class GoRangeError(ValueError):
    """The text is a number, but too large or too small for its kind (Go: ``strconv.ErrRange``)."""


def quote(text: str | bytes) -> str:
    """Return ``text`` as Go's ``%q`` prints it, a double-quoted literal.

    Args:
        text: A string, or bytes as Go holds them; a byte that is no UTF-8 becomes ``\\xNN``.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8", "surrogateescape")
    return '"' + "".join(_quoted(char) for char in text) + '"'


def _quoted(char: str) -> str:
    escape = _ESCAPES.get(char)
    if escape is not None:
        return escape
    if char.isprintable():
        return char
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # a lone byte, kept by surrogateescape
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def parse_bool(text: str) -> bool:
    """Return the boolean that ``text`` names; raises GoSyntaxError for anything but Go's twelve forms."""
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise GoSyntaxError(text)


def parse_uint(text: str, maximum: int = MAX_UINT64) -> int:
    """Return an unsigned number in Go's notation: decimal, or ``0x``, ``0b``, ``0o`` and ``0`` prefixed.

    Raises:
        GoSyntaxError: There is a sign, a character that is no digit, or nothing at all.
        GoRangeError: The number is above ``maximum``.
    """
    number = _magnitude(text)
    if number > maximum:
        raise GoRangeError(text)
    return number


def parse_int(text: str, minimum: int = MIN_INT64, maximum: int = MAX_INT64) -> int:
    """Return a signed number; see `parse_uint`."""
    negative = text[:1] == "-"
    number = _magnitude(text[1:] if text[:1] in ("+", "-") else text)
    number = -number if negative else number
    if not minimum <= number <= maximum:
        raise GoRangeError(text)
    return number


def _magnitude(text: str) -> int:
    if not text or not text.isascii() or not text[0].isdigit():
        raise GoSyntaxError(text)
    base = _BASES.get(text[:2].lower(), 10)
    if base == 10 and len(text) > 1 and text[0] == "0":
        text, base = "0o" + text[1:].removeprefix("_"), 8
    # Python's int() knows the same prefixes and underscores between digits, but also trims white space.
    if text[-1].isspace():
        raise GoSyntaxError(text)
    try:
        return int(text, base)
    except ValueError:
        raise GoSyntaxError(text) from None


_JSON_PLAIN: Final = re.compile('[^\x00-\x1f"\\\\<>&\u2028\u2029\ud800-\udfff]*')
_JSON_ESCAPES: Final = {
    **{code: f"\\u{code:04x}" for code in (*range(0x20), *b"<>&", 0x2028, 0x2029)},
    **{
        ord(char): "\\" + name
        for char, name in {"\n": "n", "\r": "r", "\t": "t", '"': '"', "\\": "\\"}.items()
    },
    **dict.fromkeys(range(0xD800, 0xE000), "\\ufffd"),
}


def json_string(text: str) -> str:
    """Return ``text`` as Go's ``encoding/json`` writes a string: quoted, ``<``, ``>``, ``&`` escaped too.

    A byte that is no UTF-8 (kept by surrogateescape) becomes the replacement character, as in Go.
    """
    if _JSON_PLAIN.fullmatch(text):
        return f'"{text}"'
    return f'"{text.translate(_JSON_ESCAPES)}"'


_SIMPLE_ESCAPES: Final = {escape[1]: char for char, escape in _ESCAPES.items()}
_DIGITS: Final = {"x": 2, "u": 4, "U": 8}


def unquote(text: str) -> tuple[str, int]:
    """Return the Go string literal at the start of ``text``, and the index behind it (``%q`` of ``Sscanf``).

    A byte given as an escape (``\\xff``) that is no UTF-8 comes back as Python's surrogateescape has it.

    Raises:
        GoSyntaxError: There is no whole literal.
    """
    if text[:1] == "`":
        end = text.find("`", 1)
        if end < 0:
            raise GoSyntaxError(text)
        return text[1:end], end + 1
    if text[:1] != '"':
        raise GoSyntaxError(text)
    data, index = bytearray(), 1
    while index < len(text):
        char = text[index]
        if char == '"':
            return data.decode("utf-8", "surrogateescape"), index + 1
        if char == "\n":
            break
        if char == "\\":
            piece, index = _unescape(text, index + 1)
            data += piece
        else:
            data += char.encode("utf-8", "surrogateescape")
            index += 1
    raise GoSyntaxError(text)


def _unescape(text: str, index: int) -> tuple[bytes, int]:
    kind = text[index : index + 1]
    if kind and kind in _SIMPLE_ESCAPES:
        return _SIMPLE_ESCAPES[kind].encode(), index + 1
    octal = "0" <= kind <= "7"
    length = 3 if octal else _DIGITS.get(kind, 0)
    start = index if octal else index + 1
    digits = text[start : start + length]
    try:
        code = int(digits, 8 if octal else 16)
        if len(digits) != length or "_" in digits:
            raise GoSyntaxError(text)
        raw = octal or kind == "x"
        return (bytes([code]) if raw else chr(code).encode()), start + length
    except (ValueError, OverflowError, UnicodeEncodeError):
        raise GoSyntaxError(text) from None


def json_text(value: Any) -> str:
    """Return compact JSON with Go's escapes for HTML and line separators."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text


_BYTE_UNITS: Final = ("B", "kB", "MB", "GB", "TB", "PB", "EB")


def human_bytes(size: int) -> str:
    """Return a size as go-humanize's ``Bytes`` does, in powers of 1000: ``20 kB``, ``1.5 MB``."""
    if size < 10:
        return f"{size} B"
    exponent = 0
    while size >= 1000 ** (exponent + 1) and exponent < len(_BYTE_UNITS) - 1:
        exponent += 1
    value = int(size / 1000**exponent * 10 + 0.5) / 10
    unit = _BYTE_UNITS[exponent]
    return f"{value:.1f} {unit}" if value < 10 else f"{value:.0f} {unit}"
