"""``dump keys`` and ``hashkv``: the keys of a stopped member, at any revision that it still has."""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass

from kvorum.golang import quote
from kvorum.mvcc.keyvalue import key_of, parse
from kvorum.mvcc.revision import is_tombstone, main_of, sub_of
from kvorum.mvcc.store import Store


@dataclass(frozen=True)
class Selection:
    """Which keys, and in which form."""

    prefix: bytes = b""
    revision: int = 0
    limit: int = 0
    keys_only: bool = False
    as_json: bool = False


def dump_keys(store: Store, chosen: Selection, write: Callable[[str], None]) -> None:
    """Print one key a line, in order.

    Raises:
        CompactedError, FutureRevisionError: That revision is not there.
    """
    key = chosen.prefix or b"\0"
    found = store.range(
        key,
        _prefix_end(chosen.prefix),
        limit=chosen.limit,
        revision=chosen.revision,
        keys_only=chosen.keys_only,
    )
    if not chosen.as_json:
        write("create\tmod\tversion\tlease\tkey" + ("\n" if chosen.keys_only else "\tvalue\n"))
    for kv in found.kvs:
        write(_json(kv, chosen) if chosen.as_json else _line(kv, chosen))


def dump_history(store: Store, chosen: Selection, write: Callable[[str], None]) -> None:
    """Print one record of the revision tree a line, in the order in which they were made."""
    shown = 0
    for packed, kv in store.records(b"\0"):
        if not key_of(kv).startswith(chosen.prefix):
            continue
        if chosen.revision and main_of(packed) > chosen.revision:
            break
        if chosen.limit and shown >= chosen.limit:
            break
        shown += 1
        what = "delete" if is_tombstone(packed) else "put"
        value = "" if chosen.keys_only or is_tombstone(packed) else f"\t{quote(_value(kv))}"
        write(f"{main_of(packed)}.{sub_of(packed)}\t{what}\t{quote(key_of(kv))}{value}\n")


def _line(kv: bytes, chosen: Selection) -> str:
    view = parse(kv)
    value = "" if chosen.keys_only else f"\t{quote(_value(kv))}"
    numbers = f"{view.create_revision}\t{view.mod_revision}\t{view.version}\t{view.lease:x}"
    return f"{numbers}\t{quote(view.key)}{value}\n"


def _json(kv: bytes, chosen: Selection) -> str:
    view = parse(kv)
    shown: dict[str, object] = {
        "key": base64.b64encode(view.key).decode(),
        "create_revision": view.create_revision,
        "mod_revision": view.mod_revision,
        "version": view.version,
    }
    if not chosen.keys_only:
        shown["value"] = base64.b64encode(_value(kv)).decode()
    if view.lease:
        shown["lease"] = view.lease
    return json.dumps(shown, separators=(",", ":")) + "\n"


def _value(kv: bytes) -> bytes:
    view = parse(kv)
    return kv[view.value_start : view.value_end]


def _prefix_end(prefix: bytes) -> bytes:
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1]) if stem else b"\0"
