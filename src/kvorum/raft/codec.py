"""Raft's nouns as bytes: ``raftpb`` as etcd writes it.

etcd's generated code (gogo-proto, etcd ``raft/raftpb/raft.pb.go``) writes every field that is not nullable,
zeros too, in the order of the field numbers, and a bytes field only if it is there. Protobuf's own encoder
would write the same only with every field set by hand, at several times the cost, so encoding is done here.
Decoding knows the one shape of an entry that this writer and etcd's produce, and leaves everything else to
the protobuf runtime.

Wire format: https://protobuf.dev/programming-guides/encoding/
"""

from collections.abc import Sequence
from typing import Final, TypeAlias, TypeVar

from google.protobuf.message import DecodeError as ProtobufDecodeError
from google.protobuf.message import Message as ProtobufMessage

from kvorum.proto import raft_pb2
from kvorum.proto.wire import SHORT_VARINTS, varint
from kvorum.raft.types import (
    EMPTY_SNAPSHOT,
    ENTRY_CONF_CHANGE,
    ENTRY_CONF_CHANGE_V2,
    ConfChange,
    ConfChangeSingle,
    ConfChangeV2,
    ConfState,
    Entry,
    HardState,
    Message,
    Snapshot,
    SnapshotMetadata,
)

Bytes: TypeAlias = bytes | bytearray | memoryview

_TYPE_HEADS: Final = (b"\x08\x00\x10", b"\x08\x01\x10", b"\x08\x02\x10")
_EMPTY_SNAPSHOT: Final = b"\x12\x08\x0a\x02\x28\x00\x10\x00\x18\x00"
_EMPTY_SNAPSHOT_FIELD: Final = b"\x4a\x0a" + _EMPTY_SNAPSHOT
"""Field 9 of a message without a snapshot: it is not nullable, so an empty one is written."""


class CodecError(ValueError):
    """The bytes are not the message they should be."""


# --- entries: the hot part ----------------------------------------------------------------------------------


def encode_entry(entry: Entry) -> bytes:
    """Encode an entry as etcd does: type, term and index always, data if there is any."""
    term = entry.term
    index = entry.index
    data = entry.data
    head = _TYPE_HEADS[entry.type] + (SHORT_VARINTS[term] if term < 0x4000 else varint(term))
    # The index is rarely below 2**14 and for long below 2**28; written out, as this runs once per put.
    if 0x4000 <= index < 0x200000:
        middle = bytes((0x18, index & 0x7F | 0x80, index >> 7 & 0x7F | 0x80, index >> 14))
    elif 0x200000 <= index < 0x10000000:
        middle = bytes(
            (0x18, index & 0x7F | 0x80, index >> 7 & 0x7F | 0x80, index >> 14 & 0x7F | 0x80, index >> 21)
        )
    else:
        middle = b"\x18" + varint(index)
    size = len(data)
    if size == 0:
        return head + middle
    if size < 0x80:
        return head + middle + bytes((0x22, size)) + data
    if size < 0x4000:
        return head + middle + bytes((0x22, size & 0x7F | 0x80, size >> 7)) + data
    return head + middle + b'"' + varint(size) + data


def decode_entry(data: Bytes) -> Entry:
    """Decode an entry.

    Raises:
        CodecError: the bytes are no entry.
    """
    end = len(data)
    # 08 <type> 10 <term> 18 <index> [22 <length> <data>], each varint minimal or not, nothing else.
    if end < 6 or data[0] != 0x08 or data[1] > 2 or data[2] != 0x10:
        return _decode_entry_slowly(data)
    try:
        term = data[3]
        at = 4
        if term > 0x7F:
            term, at = _varint(data, 3)
        if data[at] != 0x18:
            return _decode_entry_slowly(data)
        at += 1
        index = data[at]
        at += 1
        if index > 0x7F:
            index, at = _varint(data, at - 1)
        if at == end:
            return Entry(term, index, data[1], b"")
        if data[at] != 0x22:
            return _decode_entry_slowly(data)
        at += 1
        size = data[at]
        at += 1
        if size > 0x7F:
            size, at = _varint(data, at - 1)
    except IndexError:
        return _decode_entry_slowly(data)
    if at + size != end:
        return _decode_entry_slowly(data)
    return Entry(term, index, data[1], bytes(data[at:]))


def _varint(data: Bytes, at: int) -> tuple[int, int]:
    """Read the varint at ``at``: its value and where it ends. IndexError when cut short or too long."""
    byte = data[at]
    value = byte & 0x7F
    shift = 7
    while byte > 0x7F:
        at += 1
        byte = data[at]
        value |= (byte & 0x7F) << shift
        shift += 7
    if shift > 63:
        # Ten bytes and more: whether that is legal is protobuf's to say.
        raise IndexError
    return value, at + 1


def _decode_entry_slowly(data: Bytes) -> Entry:
    return _entry_of(_parse(raft_pb2.Entry(), data, "an entry"))


def _entry_of(message: raft_pb2.Entry) -> Entry:
    return Entry(message.Term, message.Index, int(message.Type), message.Data)


def entries_size(entries: Sequence[Entry]) -> int:
    """Bytes of the entries' data: what the bounds on uncommitted entries and on pages count."""
    size = 0
    for entry in entries:
        size += len(entry.data)
    return size


# --- what a member must remember ----------------------------------------------------------------------------


def encode_hard_state(state: HardState) -> bytes:
    """Encode term, vote and commit, zeros too."""
    return b"\x08%b\x10%b\x18%b" % (
        varint(state.term),
        varint(state.vote),
        varint(state.commit),
    )


def decode_hard_state(data: Bytes) -> HardState:
    """Decode a hard state.

    Raises:
        CodecError: the bytes are none.
    """
    message = _parse(raft_pb2.HardState(), data, "a hard state")
    return HardState(message.term, message.vote, message.commit)


def encode_conf_state(state: ConfState) -> bytes:
    """Encode a configuration: repeated fields unpacked (proto2), ``auto_leave`` always."""
    parts: list[bytes] = []
    _repeat(parts, b"\x08", state.voters)
    _repeat(parts, b"\x10", state.learners)
    _repeat(parts, b"\x18", state.voters_outgoing)
    _repeat(parts, b"\x20", state.learners_next)
    parts.append(b"\x28\x01" if state.auto_leave else b"\x28\x00")
    return b"".join(parts)


def decode_conf_state(data: Bytes) -> ConfState:
    """Decode a configuration.

    Raises:
        CodecError: the bytes are none.
    """
    return _conf_state_of(_parse(raft_pb2.ConfState(), data, "a configuration"))


def _repeat(parts: list[bytes], tag: bytes, values: tuple[int, ...]) -> None:
    for value in values:
        parts.append(tag)
        parts.append(varint(value))


def _conf_state_of(message: raft_pb2.ConfState) -> ConfState:
    return ConfState(
        tuple(message.voters),
        tuple(message.learners),
        tuple(message.voters_outgoing),
        tuple(message.learners_next),
        message.auto_leave,
    )


# --- snapshots ----------------------------------------------------------------------------------------------


def encode_snapshot_metadata(metadata: SnapshotMetadata) -> bytes:
    """Encode where a snapshot stands."""
    conf_state = encode_conf_state(metadata.conf_state)
    return b"\x0a%b%b\x10%b\x18%b" % (
        varint(len(conf_state)),
        conf_state,
        varint(metadata.index),
        varint(metadata.term),
    )


def encode_snapshot(snapshot: Snapshot) -> bytes:
    """Encode a snapshot: data if there is any, metadata always."""
    metadata = encode_snapshot_metadata(snapshot.metadata)
    tail = b"\x12%b%b" % (varint(len(metadata)), metadata)
    if not snapshot.data:
        return tail
    return b"\x0a%b%b%b" % (varint(len(snapshot.data)), snapshot.data, tail)


def decode_snapshot_metadata(data: Bytes) -> SnapshotMetadata:
    """Decode where a snapshot stands.

    Raises:
        CodecError: the bytes say nothing of the kind.
    """
    return _snapshot_metadata_of(_parse(raft_pb2.SnapshotMetadata(), data, "snapshot metadata"))


def decode_snapshot(data: Bytes) -> Snapshot:
    """Decode a snapshot.

    Raises:
        CodecError: the bytes are none.
    """
    return _snapshot_of(_parse(raft_pb2.Snapshot(), data, "a snapshot"))


def _snapshot_metadata_of(message: raft_pb2.SnapshotMetadata) -> SnapshotMetadata:
    return SnapshotMetadata(_conf_state_of(message.conf_state), message.index, message.term)


def _snapshot_of(message: raft_pb2.Snapshot) -> Snapshot:
    return Snapshot(message.data, _snapshot_metadata_of(message.metadata))


def _snapshot_in(message: raft_pb2.Snapshot) -> Snapshot:
    """The snapshot of a message, which nearly always is the empty one that etcd writes into each of them."""
    if message.SerializeToString() == _EMPTY_SNAPSHOT:
        return EMPTY_SNAPSHOT
    snapshot = _snapshot_of(message)
    return EMPTY_SNAPSHOT if snapshot == EMPTY_SNAPSHOT else snapshot


# --- membership changes -------------------------------------------------------------------------------------


def encode_conf_change(change: ConfChange) -> bytes:
    """Encode a ConfChange, the data of an entry of type ENTRY_CONF_CHANGE."""
    head = b"\x08%b\x10%b\x18%b" % (
        varint(change.id),
        varint(change.type),
        varint(change.node_id),
    )
    if not change.context:
        return head
    return b'%b"%b%b' % (head, varint(len(change.context)), change.context)


def encode_conf_change_v2(change: ConfChangeV2) -> bytes:
    """Encode a ConfChangeV2, the data of an entry of type ENTRY_CONF_CHANGE_V2."""
    parts = [b"\x08", varint(change.transition)]
    for single in change.changes:
        body = b"\x08%b\x10%b" % (varint(single.type), varint(single.node_id))
        parts += (b"\x12", varint(len(body)), body)
    if change.context:
        parts += (b"\x1a", varint(len(change.context)), change.context)
    return b"".join(parts)


def decode_conf_change(data: Bytes) -> ConfChange:
    """Decode a ConfChange.

    Raises:
        CodecError: the bytes are none.
    """
    message = _parse(raft_pb2.ConfChange(), data, "a membership change")
    return ConfChange(int(message.type), message.node_id, message.context, message.id)


def decode_conf_change_v2(data: Bytes) -> ConfChangeV2:
    """Decode a ConfChangeV2; no bytes at all are the one that leaves a joint configuration.

    Raises:
        CodecError: the bytes are none.
    """
    message = _parse(raft_pb2.ConfChangeV2(), data, "a membership change")
    changes = tuple(ConfChangeSingle(int(single.type), single.node_id) for single in message.changes)
    return ConfChangeV2(int(message.transition), changes, message.context)


def conf_change_of(entry: Entry) -> ConfChange | ConfChangeV2:
    """Decode the change that a committed ENTRY_CONF_CHANGE or ENTRY_CONF_CHANGE_V2 carries.

    Raises:
        CodecError: the entry's data is no change.
    """
    if entry.type == ENTRY_CONF_CHANGE:
        return decode_conf_change(entry.data)
    assert entry.type == ENTRY_CONF_CHANGE_V2, entry
    return decode_conf_change_v2(entry.data)


# --- messages -----------------------------------------------------------------------------------------------


def encode_message(message: Message) -> bytes:
    """Encode a message for a peer: every field but entries and context always, an empty snapshot too."""
    parts = [
        b"\x08%b\x10%b\x18%b\x20%b\x28%b\x30%b"
        % (
            varint(message.type),
            varint(message.to),
            varint(message.from_),
            varint(message.term),
            varint(message.log_term),
            varint(message.index),
        )
    ]
    for entry in message.entries:
        body = encode_entry(entry)
        parts += (b"\x3a", varint(len(body)), body)
    parts += (b"\x40", varint(message.commit))
    if message.snapshot is EMPTY_SNAPSHOT:
        parts.append(_EMPTY_SNAPSHOT_FIELD)
    else:
        snapshot = encode_snapshot(message.snapshot)
        parts += (b"\x4a", varint(len(snapshot)), snapshot)
    parts += (b"\x50\x01\x58" if message.reject else b"\x50\x00\x58", varint(message.reject_hint))
    if message.context:
        parts += (b"\x62", varint(len(message.context)), message.context)
    return b"".join(parts)


def decode_message(data: Bytes) -> Message:
    """Decode a message from a peer. Fields this release does not know are ignored, as etcd ignores them.

    Raises:
        CodecError: the bytes are none.
    """
    message = _parse(raft_pb2.Message(), data, "a Raft message")
    return Message(
        int(message.type),
        to=message.to,
        from_=getattr(message, "from"),
        term=message.term,
        log_term=message.logTerm,
        index=message.index,
        entries=[_entry_of(entry) for entry in message.entries],
        commit=message.commit,
        snapshot=_snapshot_in(message.snapshot),
        reject=message.reject,
        reject_hint=message.rejectHint,
        context=message.context,
    )


_M = TypeVar("_M", bound=ProtobufMessage)


def _parse(message: _M, data: Bytes, what: str) -> _M:
    try:
        message.ParseFromString(bytes(data))
    except ProtobufDecodeError as error:
        raise CodecError(f"not {what}: {error}") from error
    return message
