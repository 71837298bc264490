"""How messages lie on a stream: two forms, each a sequence of length-framed pieces.

``message`` streams carry, for each message, eight bytes of length (big-endian) and the protobuf.

``msgapp`` streams carry MsgApp only and are made for replication, where almost everything about the next
message follows from the one before. Each piece begins with a byte that says what it is:

* 0, nothing else: the link's heartbeat.
* 1, entries alone: count, then for each entry its length and protobuf, then the sender's commit index (all
  numbers eight bytes). Term and position are those that the previous message ended with.
* 2, a whole message: its length and protobuf. It sets term and position for the pieces of kind 1 after it.

Both ends therefore keep ``(term, index)``: the term of the last whole message, and the index of the last
entry sent. Encoders take batches and give pieces to be joined; decoders take whatever bytes have come and
give the messages that are complete, and keep the rest. Nothing is set aside for a length that is merely
claimed. Source of behaviour: etcd ``rafthttp/msgappv2_codec.go``, ``rafthttp/msg_codec.go``.
"""

from collections.abc import Sequence
from struct import Struct
from typing import Final, Protocol, final

from kvorum import limits
from kvorum.raft.codec import CodecError, decode_entry, decode_message, encode_entry, encode_message
from kvorum.raft.types import MSG_APP, MSG_HEARTBEAT, NONE, Entry, Message

_LENGTH: Final = Struct(">Q")
_pack: Final = _LENGTH.pack
_unpack: Final = _LENGTH.unpack_from

_HEARTBEAT: Final = 0
_ENTRIES: Final = 1
_MESSAGE: Final = 2
_ENTRIES_TAG: Final = b"\x01"
_MESSAGE_TAG: Final = b"\x02"

_NOTHING: Final[list[Message]] = []


class StreamError(ValueError):
    """What came on a stream is not what may come there; the stream is of no more use."""


def link_heartbeat() -> Message:
    """Return the message that stands for the link's heartbeat: it has no sender, so Raft never sends it."""
    return Message(MSG_HEARTBEAT)


def is_link_heartbeat(message: Message) -> bool:
    """Whether a message is the link's heartbeat and not one of Raft's."""
    return message.type == MSG_HEARTBEAT and message.from_ == NONE and message.to == NONE


class Encoder(Protocol):
    """Turns messages into a stream's bytes, in order."""

    @property
    def heartbeat(self) -> bytes:
        """The link's heartbeat; may be sent between any two messages."""

    def encode(self, messages: Sequence[Message]) -> bytes:
        """Return the bytes of these messages."""


class Decoder(Protocol):
    """Turns a stream's bytes into messages, in order."""

    def feed(self, data: bytes) -> list[Message]:
        """Take bytes; returns the messages they complete, without link heartbeats. Raises StreamError."""


@final
class MessageEncoder:
    """The form that carries every kind of message."""

    __slots__ = ("heartbeat",)

    def __init__(self) -> None:
        self.heartbeat: Final = frame(link_heartbeat())

    def encode(self, messages: Sequence[Message]) -> bytes:
        """Return the bytes of these messages."""
        if len(messages) == 1:
            return frame(messages[0])
        return b"".join([frame(message) for message in messages])


def frame(message: Message) -> bytes:
    """Return a message as a ``message`` stream and the head of a snapshot's upload have it."""
    body = encode_message(message)
    return _pack(len(body)) + body


@final
class EntryFrames:
    """Entries as ``msgapp`` streams have them, encoded once for all followers.

    The leader sends the same entries to each of them, mostly within one turn. What is kept is found by the
    entry's identity, and let go when there is more than a few turns' worth of it.
    """

    __slots__ = ("_frames", "_size")

    def __init__(self) -> None:
        self._frames: dict[int, tuple[Entry, bytes]] = {}
        self._size = 0

    def of(self, entry: Entry) -> bytes:
        """Return length and protobuf of an entry."""
        found = self._frames.get(entry.index)
        if found is not None and found[0] is entry:
            return found[1]
        body = encode_entry(entry)
        framed = _pack(len(body)) + body
        if self._size > limits.PEER_ENTRY_FRAMES_BYTES:
            self._frames.clear()
            self._size = 0
        self._frames[entry.index] = (entry, framed)
        self._size += len(framed)
        return framed


@final
class MsgAppEncoder:
    """The form made for replication. ``(_term, _index)`` is where the receiver knows us to be."""

    __slots__ = ("_frames", "_index", "_term", "heartbeat")

    def __init__(self, frames: EntryFrames) -> None:
        self.heartbeat: Final = b"\x00"
        self._frames: Final = frames
        self._term = 0
        self._index = 0

    def encode(self, messages: Sequence[Message]) -> bytes:
        """Return the bytes of these messages, all of them MsgApp."""
        parts: list[bytes] = []
        for message in messages:
            term = message.term
            entries = message.entries
            if self._index == message.index and self._term == message.log_term == term:
                parts.append(_ENTRIES_TAG + _pack(len(entries)))
                parts.extend(map(self._frames.of, entries))
                parts.append(_pack(message.commit))
                self._index += len(entries)
            else:
                body = encode_message(message)
                parts += (_MESSAGE_TAG, _pack(len(body)), body)
                self._term = term
                self._index = entries[-1].index if entries else message.index
        return b"".join(parts)


@final
class _Held:
    """Bytes that are not enough yet, and how many would be."""

    __slots__ = ("_need", "_pieces", "_size")

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0
        self._need = 1

    def add(self, data: bytes) -> bytes:
        """Take what has come; returns all that is there once it is enough, nothing before."""
        pieces = self._pieces
        if not pieces and len(data) >= self._need:
            return data
        pieces.append(data)
        self._size += len(data)
        if self._size < self._need:
            return b""
        whole = b"".join(pieces)
        pieces.clear()
        self._size = 0
        return whole

    def keep(self, rest: bytes, need: int) -> None:
        """Hold what is left until at least ``need`` bytes are there. The held bytes have all been taken."""
        if rest:
            self._pieces.append(rest)
        self._size = len(rest)
        self._need = need


@final
class MessageDecoder:
    """Reads a ``message`` stream."""

    __slots__ = ("_held", "_limit")

    def __init__(self, limit_bytes: int = limits.PEER_MESSAGE_BYTES) -> None:
        self._held: Final = _Held()
        self._limit: Final = limit_bytes
        self._held.keep(b"", 8)

    def feed(self, data: bytes) -> list[Message]:
        """Take bytes; returns the messages they complete, without link heartbeats. Raises StreamError."""
        data = self._held.add(data)
        if not data:
            return _NOTHING
        messages: list[Message] = []
        at, end, need = 0, len(data), 8
        while at + 8 <= end:
            size: int = _unpack(data, at)[0]
            if size > self._limit:
                raise StreamError("rafthttp: error limit exceeded")
            if at + 8 + size > end:
                need = 8 + size
                break
            at += 8 + size
            message = _message(data[at - size : at])
            if not is_link_heartbeat(message):
                messages.append(message)
        self._held.keep(data[at:], need)
        return messages


def _message(data: bytes) -> Message:
    try:
        return decode_message(data)
    except CodecError as error:
        raise StreamError(str(error)) from error


@final
class MsgAppDecoder:
    """Reads a ``msgapp`` stream.

    ``_awaited`` is the number of entries still to come of a piece of kind 1, -1 between pieces; those that
    have come are in ``_entries``, so that a long piece is not read twice.
    """

    __slots__ = ("_awaited", "_commit_at", "_entries", "_held", "_index", "_limit", "_local", "_remote",
                 "_size", "_term")  # fmt: skip

    def __init__(self, local: int, remote: int, limit_bytes: int = limits.PEER_MESSAGE_BYTES) -> None:
        self._local: Final = local
        self._remote: Final = remote
        self._limit: Final = limit_bytes
        self._held: Final = _Held()
        self._term = 0
        self._index = 0
        self._awaited = -1
        self._entries: list[Entry] = []
        self._size = 0

    def feed(self, data: bytes) -> list[Message]:
        """Take bytes; returns the messages they complete, without link heartbeats. Raises StreamError."""
        data = self._held.add(data)
        if not data:
            return _NOTHING
        messages: list[Message] = []
        at, end, need = 0, len(data), 1
        while at < end or self._awaited == 0:
            if self._awaited >= 0:
                at, need = self._read_entries(data, at, messages)
                if need:
                    break
            elif data[at] == _HEARTBEAT:
                at += 1
            elif data[at] not in (_ENTRIES, _MESSAGE):
                raise StreamError(f"failed to parse type {data[at]} in msgappv2 stream")
            elif at + 9 > end:
                need = 9
                break
            elif data[at] == _ENTRIES:
                self._awaited = _unpack(data, at + 1)[0]
                self._size = 0
                at += 9
            else:
                size: int = _unpack(data, at + 1)[0]
                if size > self._limit:
                    raise StreamError("rafthttp: error limit exceeded")
                if at + 9 + size > end:
                    need = 9 + size
                    break
                at += 9 + size
                messages.append(self._whole(data[at - size : at]))
            need = 1
        self._held.keep(data[at:], max(need, 1))
        return messages

    def _read_entries(self, data: bytes, at: int, messages: list[Message]) -> tuple[int, int]:
        """Read on in a piece of kind 1; returns where, and how many bytes are needed to go on (0: done)."""
        end = len(data)
        entries = self._entries
        awaited = self._awaited
        start = at
        try:
            while awaited:
                if at + 8 > end:
                    return at, 8
                size: int = _unpack(data, at)[0]
                if self._size + at - start + size > self._limit:
                    raise StreamError("rafthttp: error limit exceeded")
                if at + 8 + size > end:
                    return at, 8 + size
                at += 8
                entries.append(decode_entry(data[at : at + size]))
                at += size
                awaited -= 1
        except CodecError as error:
            raise StreamError(str(error)) from error
        finally:
            self._awaited = awaited
            self._size += at - start
        if at + 8 > end:
            return at, 8
        commit: int = _unpack(data, at)[0]
        term, index = self._term, self._index
        self._index = index + len(entries)
        if entries and (entries[0].index != index + 1 or entries[-1].index != self._index):
            raise StreamError("entries do not follow the ones before them in msgappv2 stream")
        self._awaited = -1
        self._entries = []
        messages.append(
            Message(
                MSG_APP,
                to=self._local,
                from_=self._remote,
                term=term,
                log_term=term,
                index=index,
                entries=entries,
                commit=commit,
            )
        )
        return at + 8, 0

    def _whole(self, body: bytes) -> Message:
        message = _message(body)
        self._term = message.term
        entries = message.entries
        self._index = entries[-1].index if entries else message.index
        return message
