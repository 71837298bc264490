"""What is where in etcd's bbolt file and in Kvorum's database, and how the one becomes the other.

etcd 3.5.1's buckets (``server/mvcc/buckets/bucket.go``; ``membership/store.go`` and ``confstate.go``,
``cindex``, ``lease/lessor.go``, ``v3alarm/alarms.go``, ``auth/store.go``) are tables of the same names here.
Records are the same bytes, except:

- ``key``: the revision, 17 or 18 bytes in etcd's, 12 here (``mvcc/revision.py``)
- ``meta``/``confState``: JSON in etcd's, protobuf here

Other tables here are ours alone: the v2 tree, which in a snapshot of etcd's travels as JSON beside the
bbolt file. Other buckets in a file from elsewhere are left out, and named in what taking in says: no room
here knows what they mean, so nobody would keep them in step with the log.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from kvorum.mvcc.keyvalue import parse
from kvorum.mvcc.revision import etcd_key, from_etcd_key, is_tombstone, main_of
from kvorum.raft.codec import decode_conf_state, encode_conf_state
from kvorum.raft.types import ConfState

KEY: Final = b"key"
META: Final = b"meta"
BUCKETS: Final = (
    b"alarm",
    b"auth",
    b"authRoles",
    b"authUsers",
    b"cluster",
    KEY,
    b"lease",
    b"members",
    b"members_removed",
    META,
)
"""etcd's buckets, all of which it makes when it first starts."""

CONSISTENT_INDEX: Final = b"consistent_index"
TERM: Final = b"term"
CONF_STATE: Final = b"confState"


class SchemaError(Exception):
    """The file is sound, but what is in it is not etcd's."""


@dataclass(frozen=True)
class Position:
    """Where in the log a file stands. Term and configuration are empty in files of etcd before 3.5."""

    index: int
    term: int
    conf_state: ConfState


Get = Callable[[bytes], bytes | None]
"""A record of ``meta``."""


def own_position(get: Get) -> Position:
    """Where a database of ours stands."""
    return Position(
        _number(get(CONSISTENT_INDEX)), _number(get(TERM)), decode_conf_state(get(CONF_STATE) or b"")
    )


def etcds_position(get: Get) -> Position:
    """Where a file of etcd's stands.

    Raises:
        SchemaError: it does not say so as etcd does.
    """
    conf_state = get(CONF_STATE)
    state = ConfState() if conf_state is None else conf_state_from_json(conf_state)
    return Position(_number(get(CONSISTENT_INDEX)), _number(get(TERM)), state)


def _number(value: bytes | None) -> int:
    return int.from_bytes(value or b"", "big")


def to_etcd(bucket: bytes, records: Iterable[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
    """Records of a table of ours as etcd's bucket has them."""
    if bucket == KEY:
        return ((etcd_key(packed), kv) for packed, kv in records)
    if bucket == META:
        return (
            (key, conf_state_to_json(decode_conf_state(value)) if key == CONF_STATE else value)
            for key, value in records
        )
    return iter(records)


def from_etcd(bucket: bytes, records: Iterable[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
    """Records of a bucket of etcd's as our table has them; key-values are looked at from end to end.

    Raises:
        SchemaError: while iterating, where a record is not what its bucket holds.
    """
    if bucket == KEY:
        return map(_key_value, records)
    if bucket == META:
        return (
            (key, encode_conf_state(conf_state_from_json(value)) if key == CONF_STATE else value)
            for key, value in records
        )
    return iter(records)


def _key_value(record: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
    key, value = record
    try:
        packed = from_etcd_key(key)
        view = parse(value)
    except (ValueError, IndexError) as error:
        raise SchemaError(f"the record {key.hex()} of the bucket key is not etcd's: {error}") from error
    # A tombstone has its key alone; etcd writes nothing else, and readers here count on it.
    mod, create = (0, 0) if is_tombstone(packed) else (main_of(packed), 1)
    if not view.key or view.mod_revision != mod or (view.create_revision < create or create > view.version):
        raise SchemaError(f"the record {key.hex()} of the bucket key is not of its revision")
    return packed, value


def conf_state_to_json(state: ConfState) -> bytes:
    """A configuration as Go's JSON of ``raftpb.ConfState``: no empty lists, ``auto_leave`` always."""
    fields: dict[str, Any] = {
        name: list(members)
        for name, members in (
            ("voters", state.voters),
            ("learners", state.learners),
            ("voters_outgoing", state.voters_outgoing),
            ("learners_next", state.learners_next),
        )
        if members
    }
    fields["auto_leave"] = state.auto_leave
    return json.dumps(fields, separators=(",", ":")).encode()


def conf_state_from_json(data: bytes) -> ConfState:
    """The opposite.

    Raises:
        SchemaError: it is no such JSON.
    """
    try:
        fields = json.loads(data)
        return ConfState(
            voters=_members(fields.get("voters")),
            learners=_members(fields.get("learners")),
            voters_outgoing=_members(fields.get("voters_outgoing")),
            learners_next=_members(fields.get("learners_next")),
            auto_leave=bool(fields.get("auto_leave", False)),
        )
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise SchemaError(f"meta/confState is no configuration: {data[:100]!r}") from error


def _members(listed: Any) -> tuple[int, ...]:
    members = tuple(sorted(listed or ()))
    if not all(isinstance(member, int) and 0 < member < 1 << 64 for member in members):
        raise ValueError(f"no members: {listed!r}")
    return members
