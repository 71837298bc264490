"""JSON of any depth. Python's parser recurses and gives up where directories lie some hundred deep.

The usual parser is tried first; what it cannot hold is read here by hand, with a stack of its own.
"""

import json
import re
from typing import Any, Final

_WHITE: Final = re.compile(r"[ \t\n\r]*")
_SCALARS: Final = json.JSONDecoder()
"""Asked for strings, numbers and constants only, where it does not recurse."""


def parse(text: str) -> Any:
    """Return what the JSON text says.

    Raises:
        ValueError: it is no JSON.
    """
    try:
        return json.loads(text)
    except RecursionError:
        return parse_deep(text)


def parse_deep(text: str) -> Any:
    """As ``parse``, by hand."""
    result: list[Any] = []
    # A container that is open, and the name that its next value gets (None in lists).
    stack: list[tuple[Any, str | None]] = [(result, None)]
    at = 0
    while True:
        at = _skip(text, at)
        container, name = stack[-1]
        opened = text[at : at + 1]
        if opened in ("{", "["):
            value: Any = {} if opened == "{" else []
            at = _skip(text, at + 1)
            is_empty = text[at : at + 1] == ("}" if opened == "{" else "]")
        else:
            value, at = _SCALARS.raw_decode(text, at)
            opened, is_empty = "", False
        _put(container, name, value)
        if opened and not is_empty:
            name, at = _name(text, at) if opened == "{" else (None, at)
            stack.append((value, name))
            continue
        at = _skip(text, at + 1 if is_empty else at)
        while len(stack) > 1 and text[at : at + 1] == ("}" if isinstance(stack[-1][0], dict) else "]"):
            stack.pop()
            at = _skip(text, at + 1)
        if len(stack) == 1:
            if at < len(text):
                raise ValueError(f"JSON goes on behind its end at {at}")
            return result[0]
        if text[at : at + 1] != ",":
            raise ValueError(f"no comma in JSON at {at}")
        container = stack.pop()[0]
        name, at = _name(text, at + 1) if isinstance(container, dict) else (None, at + 1)
        stack.append((container, name))


def _put(container: Any, name: str | None, value: Any) -> None:
    if name is None:
        container.append(value)
    else:
        container[name] = value


def _skip(text: str, at: int) -> int:
    match = _WHITE.match(text, at)
    assert match is not None, "white space may be none"
    return match.end()


def _name(text: str, at: int) -> tuple[str, int]:
    """A name and its colon; returns it and where its value begins."""
    at = _skip(text, at)
    if text[at : at + 1] != '"':
        raise ValueError(f"no name in JSON at {at}")
    name, at = _SCALARS.raw_decode(text, at)
    at = _skip(text, at)
    if text[at : at + 1] != ":":
        raise ValueError(f"no colon in JSON at {at}")
    return str(name), at + 1
