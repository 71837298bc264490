"""How a difference is told: where it is and what stands there on either side, in lines one can read."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf.message import Message

MOST_CHARACTERS = 700


def first_difference(one: object, other: object, path: str = "") -> tuple[str, object, object]:
    """Return where two answers begin to differ, and the two parts that stand there."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for key in [*one, *(key for key in other if key not in one)]:
            if one.get(key) != other.get(key):
                return first_difference(one.get(key), other.get(key), f"{path}[{key!r}]")
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        for at, pair in enumerate(_padded(one, other)):
            if pair[0] != pair[1]:
                if type(pair[0]) is not type(pair[1]) and at < min(len(one), len(other)):
                    return path, one, other  # a refusal beside an answer: only the whole says what it is
                return first_difference(*pair, f"{path}[{at}]")
    return path, one, other


def _padded(one: Sequence[object], other: Sequence[object]) -> list[tuple[Any, Any]]:
    length = max(len(one), len(other))
    rows = [[*each, *["nothing"] * (length - len(each))] for each in (one, other)]
    return list(zip(*rows, strict=True))


def in_one_line(thing: object) -> str:
    """Return a step or an answer in one line, long runs of bytes told by their length."""
    if isinstance(thing, Message):
        text = " ".join(str(thing).split())
    elif isinstance(thing, (list, tuple)):
        text = ", ".join(in_one_line(part) for part in thing)
    else:
        text = str(thing)
    text = re.sub(r"(.)\1{15,}", lambda run: f"{run[1]}<{len(run[0])} times>", text)
    text = re.sub(r"(?:\\{1,2}(?:[0-7]{3}|x[0-9a-f]{2})){8,}", "<bytes>", text)
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]} ..."
