"""``mvccpb.KeyValue`` written and read by hand.

A key-value is serialized once, when it is put, and is passed on as bytes from then on (DESIGN.md, rule 3).
The bytes are those of gogo and upb: fields in the order of their numbers, zero values left out.

    key = 1 (bytes) · create_revision = 2 · mod_revision = 3 · version = 4 · value = 5 (bytes) · lease = 6

A tombstone is stored as a KeyValue with its key alone; as the event of a watch it carries its mod_revision as
well.
"""

from typing import Final, NamedTuple

from kvorum.proto.wire import SHORT_VARINTS, read_varint
from kvorum.proto.wire import varint as varint

_KEY: Final = 0x0A
_CREATE: Final = 0x10
_MOD: Final = 0x18
_VERSION: Final = 0x20
_VALUE: Final = 0x2A
_LEASE: Final = 0x30


def revisions_field(create: int, mod: int, version: int) -> bytes:
    """The three fields between key and value."""
    return b"".join(
        (
            b"\x10" + varint(create) if create else b"",
            b"\x18" + varint(mod) if mod else b"",
            b"\x20" + varint(version) if version else b"",
        )
    )


def encode(key: bytes, create: int, mod: int, version: int, value: bytes, lease: int) -> bytes:
    """Serialize a KeyValue."""
    kv = encode_around(key, revisions_field(create, mod, version), value, lease)
    return kv if key else kv[2:]


def encode_around(key: bytes, revisions: bytes, value: bytes, lease: int) -> bytes:
    """Serialize a KeyValue, whose key is not empty, around a finished ``revisions_field``."""
    size = len(key)
    key_size = SHORT_VARINTS[size] if size < 0x4000 else varint(size)
    if not value:
        return b"".join((b"\n", key_size, key, revisions, b"\x30" + varint(lease) if lease else b""))
    size = len(value)
    value_size = SHORT_VARINTS[size] if size < 0x4000 else varint(size)
    if lease:
        return b"".join((b"\n", key_size, key, revisions, b"*", value_size, value, b"\x30", varint(lease)))
    return b"".join((b"\n", key_size, key, revisions, b"*", value_size, value))


def encode_key(key: bytes) -> bytes:
    """Serialize a KeyValue that has a key alone, the stored form of a tombstone."""
    return b"\x0a" + varint(len(key)) + key if key else b""


def key_of(kv: bytes) -> bytes:
    """The key of a serialized KeyValue."""
    if not kv or kv[0] != _KEY:
        return b""
    length = kv[1]
    if length < 0x80:
        return kv[2 : 2 + length]
    length, at = read_varint(kv, 1)
    return kv[at : at + length]


def key_end(kv: bytes) -> int:
    """The offset behind the key, of a KeyValue that has one."""
    length, at = read_varint(kv, 1)
    return at + length


def is_delete(change: bytes) -> bool:
    """Whether a change is a deletion: puts have a create revision, tombstones have none."""
    at = key_end(change)
    return at == len(change) or change[at] != _CREATE


def create_revision_of(kv: bytes) -> int:
    """The create revision of a put: sorting by it asks for nothing else, of thousands of keys at a time."""
    length = kv[1]
    if length < 0x80:
        at = length + 3
    else:
        length, at = read_varint(kv, 1)
        at += length + 1
    byte = kv[at]
    if byte < 0x80:
        return byte
    revision = byte & 0x7F
    shift = 7
    while True:
        at += 1
        byte = kv[at]
        revision |= (byte & 0x7F) << shift
        if byte < 0x80:
            return revision
        shift += 7


class KeyValueView(NamedTuple):
    """The fields of a serialized KeyValue. The value is ``kv[value_start:value_end]``, not copied."""

    key: bytes
    create_revision: int
    mod_revision: int
    version: int
    lease: int
    value_start: int
    value_end: int


def parse(kv: bytes) -> KeyValueView:
    """Read a KeyValue of our own making: known fields in order, so nothing is searched for."""
    at = 0
    end = len(kv)
    key = b""
    create = mod = version = lease = start = stop = 0
    if at < end and kv[at] == _KEY:
        length, at = read_varint(kv, at + 1)
        key = kv[at : at + length]
        at += length
    if at < end and kv[at] == _CREATE:
        create, at = read_varint(kv, at + 1)
    if at < end and kv[at] == _MOD:
        mod, at = read_varint(kv, at + 1)
    if at < end and kv[at] == _VERSION:
        version, at = read_varint(kv, at + 1)
    if at < end and kv[at] == _VALUE:
        length, start = read_varint(kv, at + 1)
        at = stop = start + length
    if at < end and kv[at] == _LEASE:
        lease, at = read_varint(kv, at + 1)
        if lease >> 63:
            lease -= 1 << 64
    if at != end:
        raise ValueError(f"not a KeyValue at offset {at} of {end}")
    return KeyValueView(key, create, mod, version, lease, start, stop)


def without_value(kv: bytes) -> bytes:
    """A KeyValue with its value left out (``keys_only``)."""
    at = 0
    end = len(kv)
    if at < end and kv[at] == _KEY:
        length, at = read_varint(kv, at + 1)
        at += length
    while at < end:
        tag = kv[at]
        if tag >= _VALUE:
            break
        at += 1
        while kv[at] > 0x7F:
            at += 1
        at += 1
    if at >= end or kv[at] != _VALUE:
        return kv
    length, start = read_varint(kv, at + 1)
    return kv[:at] + kv[start + length :]
