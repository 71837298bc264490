"""The sending half of a connection: answers, windows, and what waits for them (RFC 9113 5.2, 6.9).

A DATA frame leaves if the stream's window, the connection's window and ``room`` allow it; otherwise its bytes
wait in the stream's :class:`Outgoing`. ``room`` is what may still be taken before the transport must be asked
again. At zero the connection is congested: the layer above then holds back further requests, and so a peer
that does not read does not make us work, or remember.
"""

import struct
from collections import deque
from typing import Final

from kvorum import limits
from kvorum.rpc import frames
from kvorum.rpc.frames import DEFAULT_MAX_FRAME_SIZE, DEFAULT_WINDOW, MAX_WINDOW
from kvorum.rpc.streams import CLOSED, HALF_CLOSED, OPEN, Outgoing, ResponseShape, Stream

_MESSAGE_PREFIX: Final = 5
"""Bytes of a length-prefixed message before its content (gRPC over HTTP/2, "Length-Prefixed-Message")."""
_PACK_DATA: Final = struct.Struct(">IBIBI").pack
"""A DATA frame's header and a message's prefix."""
_PACK_FRAME: Final = struct.Struct(">IBI").pack
"""A DATA frame's header alone."""
_PREFIXES: Final = tuple(b"\0" + frames.U32.pack(size) for size in range(512))
_ROOM: Final = limits.SEND_BUFFER_BYTES
_END_HEADERS: Final = frames.END_HEADERS
_END_STREAM: Final = frames.END_STREAM


class Outbound:
    """What a connection has to send.

    Invariants, checked by ``check_sending``: no closed stream in ``streams``; ``unsent`` is the sum of all
    ``outgoing.size``; every stream that could send stands in ``sendable``.

    ``plain`` is False until a header block has told a client that wants a small table that ours is empty.
    ``answers`` counts frames of answers, ``queued_control`` the bytes other than DATA since the last flush.
    """

    __slots__ = (
        "answers", "initial_send_window", "out", "paused", "peer_frame_size", "peer_header_list", "plain",
        "queued_control", "reset_ids", "room", "send_window", "sendable", "shape", "streams", "unsent",
    )  # fmt: skip

    def __init__(self, shape: ResponseShape) -> None:
        self.shape: Final = shape
        self.streams: dict[int, Stream] = {}
        self.reset_ids: dict[int, None] = {}
        self.answers = 0
        self.send_window: int = DEFAULT_WINDOW
        self.initial_send_window: int = DEFAULT_WINDOW
        self.peer_frame_size: int = DEFAULT_MAX_FRAME_SIZE
        self.peer_header_list: int = MAX_WINDOW
        self.sendable: deque[Stream] = deque()
        self.unsent = 0
        self.room: int = _ROOM
        self.paused = False
        self.plain = True
        self.out: list[bytes | memoryview] = []
        self.queued_control = 0

    def respond(self, stream: Stream, message: bytes) -> None:
        """Answer with one message in the connection's ResponseShape, and close the stream."""
        length = len(message)
        size = length + _MESSAGE_PREFIX
        if (
            size <= stream.send_window
            and size <= self.send_window
            and size <= self.room
            and size <= self.peer_frame_size
            and self.plain
            and stream.state == HALF_CLOSED
        ):
            self.send_window -= size
            self.room -= size
            self.answers += 1
            stream_id = stream.id
            shape = self.shape
            self.out += (
                shape.pack_head(
                    shape.head_start, stream_id, shape.headers, size << 8, 0, stream_id, 0, length
                ),
                message,
                shape.pack_tail(shape.tail_start, stream_id, shape.trailers),
            )
            stream.state = CLOSED
            del self.streams[stream_id]
            return
        if stream.state == CLOSED:
            return
        if self.unsent >= limits.MAX_UNSENT_BYTES:
            self._finish(stream, self.shape.overflow)
            return
        self.send_headers(stream, self.shape.headers)
        self.send_message(stream, message)
        self.send_trailers(stream, self.shape.trailers)

    def send_headers(self, stream: Stream, block: bytes) -> None:
        """Response headers."""
        if stream.state != CLOSED:
            self._header_frame(stream.id, block, _END_HEADERS)

    def send_message(self, stream: Stream, message: bytes) -> None:
        """One length-prefixed, uncompressed message as DATA, now or when windows and room allow."""
        if stream.state == CLOSED:
            return
        outgoing = stream.outgoing
        if outgoing is None:
            outgoing = stream.outgoing = Outgoing()
        assert outgoing.trailers is None, "message after trailers"
        size = len(message) + _MESSAGE_PREFIX
        if (
            not outgoing.size
            and size <= stream.send_window
            and size <= self.send_window
            and size <= self.room
            and size <= self.peer_frame_size
        ):
            stream.send_window -= size
            self.send_window -= size
            self.room -= size
            self.answers += 1
            self.out += (_PACK_DATA(size << 8, 0, stream.id, 0, len(message)), message)
            return
        prefix = b"\0" + frames.U32.pack(len(message))
        # A large message is not copied; a small one is one chunk with its prefix.
        if len(message) > DEFAULT_MAX_FRAME_SIZE:
            outgoing.chunks.append(prefix)
            outgoing.chunks.append(memoryview(message))
        else:
            outgoing.chunks.append(prefix + message)
        outgoing.size += size
        self.unsent += size
        self._enqueue(stream, outgoing)
        self._pump()
        if self.send_window <= 0:
            self._refresh_room()

    def send_messages(self, stream: Stream, messages: list[bytes]) -> None:
        """Several messages at once: in one DATA frame, if they fit into it and nothing holds it up."""
        if len(messages) > 1 and stream.state != CLOSED:
            body = b"".join([part for message in messages for part in (_prefix(len(message)), message)])
            size = len(body)
            outgoing = stream.outgoing
            if (
                (outgoing is None or (not outgoing.size and outgoing.trailers is None))
                and size <= stream.send_window
                and size <= self.send_window
                and size <= self.room
                and size <= self.peer_frame_size
            ):
                stream.send_window -= size
                self.send_window -= size
                self.room -= size
                self.answers += 1
                self.out += (_PACK_FRAME(size << 8, 0, stream.id), body)
                return
        for message in messages:
            self.send_message(stream, message)

    def send_trailers(self, stream: Stream, block: bytes) -> None:
        """HEADERS with END_STREAM after what was sent before; closes the stream."""
        if stream.state == CLOSED:
            return
        outgoing = stream.outgoing
        if outgoing is not None and outgoing.size:
            assert outgoing.trailers is None, "trailers twice"
            outgoing.trailers = block
            return
        self._finish(stream, block)

    def reset(self, stream: Stream, code: int) -> None:
        """RST_STREAM from us; the stream is not told."""
        if stream.state == CLOSED:
            return
        self._control(frames.rst_stream_frame(stream.id, code))
        self._remember_reset(stream.id)
        self._close(stream)

    def unsent_of(self, stream: Stream) -> int:
        """Bytes of the stream that wait for windows or room."""
        return stream.outgoing.size if stream.outgoing is not None else 0

    @property
    def congested(self) -> bool:
        """Whether further requests should wait, since their answers could not leave."""
        return self.room <= 0 or self.unsent > limits.CONGESTED_BYTES

    @property
    def stop_reading(self) -> bool:
        """Whether the client makes us queue control frames and does not read them."""
        return self.paused and self.queued_control > limits.MAX_QUEUED_CONTROL_BYTES

    def flushed(self, paused: bool) -> None:
        """``out`` was handed to the transport; ``paused``: it takes no more for now."""
        self.paused = paused
        self.queued_control = 0
        self._refresh_room()
        if self.sendable:
            self._pump()

    def set_paused(self, paused: bool) -> None:
        """The transport's buffer went above its high-water mark, or came down again."""
        self.paused = paused
        self._refresh_room()
        if self.sendable:
            self._pump()

    def _control(self, data: bytes) -> None:
        self.out.append(data)
        self.queued_control += len(data)

    def _header_frame(self, stream_id: int, block: bytes, flags: int) -> None:
        if not self.plain:
            block = b"\x20" + block
            self.plain = True
        self.answers += 1
        self._control(frames.frame(frames.HEADERS, flags, stream_id, block))

    def _refresh_room(self) -> None:
        if self.paused:
            self.room = 0
        elif self.send_window <= 0:
            self.room = max(0, _ROOM - self.unsent)
        else:
            self.room = _ROOM

    def _enqueue(self, stream: Stream, outgoing: Outgoing) -> None:
        if not outgoing.queued and outgoing.size and stream.send_window > 0:
            outgoing.queued = True
            self.sendable.append(stream)

    def _pump(self) -> None:
        """Send what windows and room allow, one frame of each stream in turn."""
        sendable = self.sendable
        while sendable and self.room > 0 and self.send_window > 0:
            stream = sendable.popleft()
            outgoing = stream.outgoing
            if outgoing is None:
                continue  # closed meanwhile
            outgoing.queued = False
            if stream.send_window <= 0:
                continue
            self._data_frame(stream, outgoing)
            if outgoing.size:
                self._enqueue(stream, outgoing)
            elif outgoing.trailers is not None:
                self._finish(stream, outgoing.trailers)

    def _data_frame(self, stream: Stream, outgoing: Outgoing) -> None:
        """One DATA frame of what waits."""
        size = min(outgoing.size, stream.send_window, self.send_window, self.room, self.peer_frame_size)
        before = outgoing.size
        stream.send_window -= size
        self.send_window -= size
        self.room -= size
        self.unsent -= size
        outgoing.size -= size
        self.answers += 1
        self.out.append(frames.FRAME_HEADER.pack(size << 8, 0, stream.id))
        chunks = outgoing.chunks
        while size:
            chunk = chunks.popleft()
            if len(chunk) > size:
                self.out.append(memoryview(chunk)[:size])
                chunks.appendleft(memoryview(chunk)[size:])
                break
            self.out.append(chunk)
            size -= len(chunk)
        if outgoing.trailers is None and outgoing.size < limits.STREAM_SEND_BUFFER_BYTES <= before:
            stream.writable()

    def _finish(self, stream: Stream, trailers: bytes) -> None:
        self._header_frame(stream.id, trailers, _END_HEADERS | _END_STREAM)
        if stream.state == OPEN:
            self._control(frames.rst_stream_frame(stream.id, frames.NO_ERROR))
            self._remember_reset(stream.id)
        self._close(stream)

    def _close(self, stream: Stream) -> None:
        stream.state = CLOSED
        self.streams.pop(stream.id, None)
        if stream.outgoing is not None:
            self.unsent -= stream.outgoing.size
            stream.outgoing = None

    def _remember_reset(self, stream_id: int) -> None:
        self.reset_ids[stream_id] = None
        if len(self.reset_ids) > limits.REMEMBERED_RESETS:
            del self.reset_ids[next(iter(self.reset_ids))]

    def check_sending(self) -> None:
        """Assert what the class promises; for tests."""
        assert len(self.reset_ids) <= limits.REMEMBERED_RESETS
        assert self.send_window >= 0
        unsent = 0
        for stream_id, stream in self.streams.items():
            assert stream.id == stream_id
            assert stream.state != CLOSED
            outgoing = stream.outgoing
            if outgoing is not None:
                assert outgoing.size == sum(len(chunk) for chunk in outgoing.chunks)
                unsent += outgoing.size
                assert outgoing.queued == any(stream is other for other in self.sendable)
                assert outgoing.queued or not outgoing.size or stream.send_window <= 0
        assert unsent == self.unsent


def _prefix(size: int) -> bytes:
    """The prefix of an uncompressed message."""
    return _PREFIXES[size] if size < 512 else b"\0" + frames.U32.pack(size)
