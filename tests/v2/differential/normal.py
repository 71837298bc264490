"""What is compared of an answer: everything that may not differ, in a form in which equal means equal."""

import json
import re
from datetime import datetime
from typing import Any, Final, TypeAlias, final

from kvorum.golang import json_string
from tests.v2.differential.wire import Answer

TOLERANCE_SECONDS: Final = 3.0
_DROPPED: Final = frozenset(("date", "content-length", "transfer-encoding", "connection"))
_INDICES: Final = frozenset(("modifiedIndex", "createdIndex", "index"))
_READS: Final = frozenset(("getsSuccess", "getsFail"))
_IN_ORDER: Final = re.compile(r"/(\d{20})(?=/|$)")
_LOCAL: Final = re.compile(r"http://127\.0\.0\.1:\d+")
_ID: Final = re.compile("[0-9a-f]{13,16}")
_NUMBERS: Final = re.compile(r"\d+")

Plain: TypeAlias = Any


@final
class Near:
    """A number of seconds that two sides may see a little apart."""

    def __init__(self, seconds: float) -> None:
        self.seconds: Final = seconds

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Near) and abs(self.seconds - other.seconds) <= TOLERANCE_SECONDS

    def __hash__(self) -> int:
        raise TypeError("near is not transitive")

    def __repr__(self) -> str:
        return f"about {self.seconds:.3f} s"


def normal(answer: Answer, base: int, *, is_sorted: bool) -> tuple[object, ...]:
    """An answer whose indices count from ``base``."""
    headers = [
        (name, _header(name, value, base)) for name, value in answer.headers if name.lower() not in _DROPPED
    ]
    return answer.status, answer.reason, headers, normal_body(answer.body, base, is_sorted=is_sorted)


def normal_body(body: bytes, base: int, *, is_sorted: bool) -> object:
    """A body: JSON as ordered pairs, with what its text had besides; other bodies as they are."""
    text = body.decode("utf-8", "surrogateescape")
    try:
        parsed = json.loads(text, object_pairs_hook=Pairs)
    except ValueError:
        return _LOCAL.sub("<local>", text)
    if not isinstance(parsed, Pairs):
        return _LOCAL.sub("<local>", text)
    text = text.replace("\\ufffd", "\ufffd")  # what was no UTF-8
    written = _go_json(parsed)
    around = text.replace(written, "JSON", 1) if written in text else f"not as Go writes it: {text}"
    return around, _normal_value(parsed, base, is_sorted=is_sorted)


@final
class Pairs:
    """A JSON object in the order in which it was written."""

    def __init__(self, pairs: list[tuple[str, Plain]]) -> None:
        self.pairs: Final = pairs


def _go_json(value: Plain) -> str:
    if isinstance(value, Pairs):
        return "{" + ",".join(f"{json_string(name)}:{_go_json(inner)}" for name, inner in value.pairs) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_go_json, value)) + "]"
    return json_string(value) if isinstance(value, str) else json.dumps(value)


def _normal_value(value: Plain, base: int, *, is_sorted: bool, name: str = "") -> Plain:
    if isinstance(value, Pairs):
        return [
            (inner, _normal_value(item, base, is_sorted=is_sorted, name=inner)) for inner, item in value.pairs
        ]
    if isinstance(value, list):
        items = [_normal_value(item, base, is_sorted=is_sorted) for item in value]
        return sorted(items, key=lambda item: str(item[0])) if name == "nodes" and not is_sorted else items
    return _normal_leaf(value, base, name)


def _normal_leaf(value: Plain, base: int, name: str) -> Plain:
    if name in _INDICES:
        return value and value - base
    if name in _READS:
        return "a number"
    if name == "ttl":
        return Near(value)
    if name == "expiration":
        return _normal_time(value)
    if name == "key":
        return _IN_ORDER.sub(lambda match: f"/<{int(match[1]) - base}>", value)
    if name == "cause" and "[" in value:
        start = value.index("[")
        return value[:start] + _NUMBERS.sub(lambda match: f"<{int(match[0]) - base}>", value[start:])
    if name == "cause":
        return _IN_ORDER.sub(lambda match: f"/<{int(match[1]) - base}>", value)
    if name in ("id", "leader") and _ID.fullmatch(str(value)):
        return "an ID"
    return _LOCAL.sub("<local>", value) if isinstance(value, str) else value


def _normal_time(text: str) -> object:
    """RFC 3339 as Go writes it: up to nine digits of a second, none of them a needless zero."""
    match = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d{0,8}[1-9])?Z", text)
    if match is None:
        return text
    seconds = datetime.fromisoformat(match[1] + "+00:00").timestamp()
    return Near(seconds + float(match[2] or 0))


def _header(name: str, value: str, base: int) -> str:
    if name == "X-Etcd-Index":
        return value if value == "0" else f"<{int(value) - base}>"
    if name in ("X-Raft-Index", "X-Raft-Term"):
        return "a number" if value.isdigit() and value != "0" else value
    if name == "X-Etcd-Cluster-Id":
        return "an ID" if _ID.fullmatch(value) else value
    return value
