"""The server's half of an HTTP/2 connection (RFC 9113), without a socket or a clock.

``receive`` takes bytes and the time; what they mean reaches streams as method calls, at once and in order.
Answers are calls on the engine; the bytes they become gather in ``out``, which the shell joins, writes and
clears once per turn of its loop, and then calls ``flushed``.

The two directions of flow:

* **In.** The connection's window is re-opened as bytes arrive, a stream's window as its owner says
  ``consumed`` or ``grant``. What a peer can make us hold is therefore the owner's decision, and it knows
  messages.
* **Out.** A DATA frame leaves if the stream's window, the connection's window and ``room`` allow it;
  otherwise its bytes wait in the stream's :class:`Outgoing`. ``room`` is what may still be taken before the
  transport must be asked again. At zero the connection is congested: owners then hold back further
  requests, and so a peer that does not read does not make us work, or remember.

Speed: the loop in ``_frames`` makes one pass over the buffer. A request whose header block was seen before
is one dictionary look-up and one object; no frame objects exist. ``respond`` sends headers, message and
trailers as one formatted piece. Everything unusual leaves these two for slower functions, and those check
everything.

Rules are from RFC 9113, sections cited where applied. A stream error resets the stream, a connection error
(:class:`ConnectionFailed` inside, ``terminated`` outside) sends GOAWAY.
"""

import struct
from collections import deque
from typing import Final, Protocol, final

from kvorum import limits
from kvorum.rpc import frames
from kvorum.rpc.floods import Credit, PingPolicy
from kvorum.rpc.frames import (
    CLIENT_PREFACE,
    DEFAULT_MAX_FRAME_SIZE,
    DEFAULT_WINDOW,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    HEADER_SIZE,
    MAX_WINDOW,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    STREAM_CLOSED,
    ConnectionFailed,
)
from kvorum.rpc.header_blocks import Field, HeaderDecoder
from kvorum.rpc.requests import NO_CONTENT_LENGTH, Malformed, Request, build_request, check_trailers

OPEN: Final = 0
HALF_CLOSED: Final = 1
"""Half-closed (remote): the client has sent END_STREAM."""
CLOSED: Final = 2

_DATA: Final = frames.DATA
_HEADERS: Final = frames.HEADERS
_CONTINUATION: Final = frames.CONTINUATION
_END_STREAM: Final = frames.END_STREAM
_END_HEADERS: Final = frames.END_HEADERS
_PADDED: Final = frames.PADDED
_PLAIN_HEADERS_MASK: Final = frames.END_HEADERS | frames.PADDED | frames.PRIORITY_FLAG
_UNPACK_HEADER: Final = frames.FRAME_HEADER.unpack_from
_GOAWAY_PING: Final = b"drained?"
"""Payload of the PING that follows a first GOAWAY: its answer shows that the client has seen the GOAWAY."""
_KEEPALIVE_PING: Final = b"alive???"
_MESSAGE_PREFIX: Final = 5
"""Bytes of a length-prefixed message before its content (gRPC over HTTP/2, "Length-Prefixed-Message")."""
_ROOM: Final = limits.SEND_BUFFER_BYTES


@final
class Incoming:
    """What a stream that sent more than one DATA frame has left of its receive window.

    ``unopened`` bytes were consumed and not yet given back with WINDOW_UPDATE; ``total`` is the content so
    far.
    """

    __slots__ = ("total", "unopened", "window")

    def __init__(self) -> None:
        self.window: int = DEFAULT_WINDOW
        self.unopened = 0
        self.total = 0


@final
class Outgoing:
    """What waits for windows or room on a stream. ``queued``: it stands in the engine's ``sendable``."""

    __slots__ = ("chunks", "queued", "size", "trailers")

    def __init__(self) -> None:
        self.chunks: deque[bytes | memoryview] = deque()
        self.size = 0
        self.trailers: bytes | None = None
        self.queued = False


class Stream:
    """A stream as the engine sees it; the layer above derives its calls from this and gets told here.

    ``send_window`` may be negative (RFC 9113 6.9.2). ``state`` is OPEN, HALF_CLOSED or CLOSED; a stream
    that has ended on our side is CLOSED at once, with RST_STREAM(NO_ERROR) if the client had not ended
    (8.1).
    """

    __slots__ = ("id", "incoming", "outgoing", "request", "send_window", "state")

    def __init__(self, stream_id: int, request: Request, send_window: int) -> None:
        self.id = stream_id
        self.request = request
        self.state: int = OPEN
        self.send_window = send_window
        self.incoming: Incoming | None = None
        self.outgoing: Outgoing | None = None

    def opened(self) -> None:
        """The request's header section arrived; called only if ``request.announce``."""

    def data(self, buffer: bytes, start: int, stop: int, ended: bool) -> None:
        """Content arrived at ``buffer[start:stop]``; ``ended``: the client is done, trailers or not."""

    def writable(self) -> None:
        """What waited on this stream fell below STREAM_SEND_BUFFER_BYTES."""

    def aborted(self, code: int) -> None:
        """RST_STREAM ended the stream, from either side (not ``Engine.reset``), or its connection did."""


class Receiver(Protocol):
    """Who makes streams."""

    def prepare(self, request: Request) -> None:
        """A header block was decoded: set ``plan`` and ``announce``. Once for all streams that repeat it."""

    def new_stream(self, stream_id: int, request: Request, send_window: int) -> Stream:
        """A request opened a stream."""


@final
class ResponseShape:
    """Header block and trailer block of a successful answer, fixed for a connection.

    Such an answer is HEADERS, one DATA frame with one length-prefixed message, and HEADERS with END_STREAM.
    ``overflow`` is the block of an answer without a message, sent when MAX_UNSENT_BYTES leaves no place for
    one.
    """

    __slots__ = ("head_start", "headers", "overflow", "pack_head", "pack_tail", "tail_start", "trailers")

    def __init__(self, headers: bytes, trailers: bytes, overflow: bytes) -> None:
        self.headers: Final = headers
        self.trailers: Final = trailers
        self.overflow: Final = overflow
        head = frames.frame(frames.HEADERS, _END_HEADERS, 0, headers)
        tail = frames.frame(frames.HEADERS, _END_HEADERS | _END_STREAM, 0, trailers)
        self.head_start: Final = head[:5]
        self.tail_start: Final = tail[:5]
        # frame header up to the id, id, block; then DATA: length << 8 | type, flags, id, message flag, its
        # length
        self.pack_head: Final = struct.Struct(f">5sI{len(headers)}sIBIBI").pack
        self.pack_tail: Final = struct.Struct(f">5sI{len(trailers)}s").pack


@final
class Engine:
    """One connection.

    Invariants, checked by ``check_invariants``: no closed stream in ``streams``; ``unsent`` is the sum of all
    ``outgoing.size``; every stream that could send stands in ``sendable``; at most ``max_streams`` streams.
    """

    __slots__ = (
        "answers",
        "block",
        "block_flags",
        "block_frames",
        "block_stream",
        "blocks",
        "blocks_version",
        "buffer",
        "decoder",
        "draining",
        "final_id",
        "gaps",
        "initial_send_window",
        "last_id",
        "max_streams",
        "needed",
        "now",
        "out",
        "paused",
        "peer_frame_size",
        "peer_header_list",
        "pings",
        "plain",
        "preface",
        "progress",
        "queued_control",
        "receive_window",
        "receiver",
        "requests",
        "reset_ids",
        "resets",
        "room",
        "seen_answers",
        "seen_settings",
        "seen_useful",
        "send_window",
        "sendable",
        "shape",
        "streams",
        "terminated",
        "unsent",
        "useless",
        "why",
    )

    def __init__(
        self,
        receiver: Receiver,
        shape: ResponseShape,
        max_streams: int,
        keepalive_min_seconds: float,
        now: float,
    ) -> None:
        self.receiver = receiver
        self.shape = shape
        self.max_streams = max_streams
        self.now = now
        # received bytes
        self.preface = True
        self.buffer = bytearray()
        self.needed = len(CLIENT_PREFACE)
        self.seen_settings = False
        self.progress = 0
        # header blocks
        self.decoder = HeaderDecoder(limits.MAX_HEADER_LIST_BYTES)
        self.blocks: dict[bytes, Request] = {}
        self.blocks_version = 0
        self.block: bytearray | None = None
        self.block_stream = 0
        self.block_flags = 0
        self.block_frames = 0
        # streams
        self.streams: dict[int, Stream] = {}
        self.last_id = 0
        self.gaps: deque[tuple[int, int]] = deque(maxlen=limits.REMEMBERED_GAPS)
        self.reset_ids: dict[int, None] = {}
        self.requests = 0
        self.answers = 0
        # flow control
        self.receive_window: int = limits.CONNECTION_RECEIVE_WINDOW
        self.send_window: int = DEFAULT_WINDOW
        self.initial_send_window: int = DEFAULT_WINDOW
        self.peer_frame_size: int = DEFAULT_MAX_FRAME_SIZE
        self.peer_header_list: int = MAX_WINDOW
        self.sendable: deque[Stream] = deque()
        self.unsent = 0
        self.room: int = _ROOM
        self.paused = False
        self.plain = True
        # output
        self.out: list[bytes | memoryview] = [
            frames.settings_frame(
                {
                    frames.SETTINGS_MAX_CONCURRENT_STREAMS: max_streams,
                    frames.SETTINGS_MAX_HEADER_LIST_SIZE: limits.MAX_HEADER_LIST_BYTES,
                }
            ),
            frames.window_update_frame(0, limits.CONNECTION_RECEIVE_WINDOW - DEFAULT_WINDOW),
        ]
        self.queued_control = 0
        # policy
        self.useless = Credit(limits.USELESS_FRAME_CREDIT, limits.USELESS_FRAMES_PER_SECOND, now)
        self.resets = Credit(limits.RESET_CREDIT, limits.RESETS_PER_SECOND, now)
        self.seen_useful = 0
        self.seen_answers = 0
        self.pings = PingPolicy(keepalive_min_seconds)
        # ending
        self.draining = False
        self.final_id: int = frames.MAX_STREAM_ID
        self.terminated = False
        self.why = ""

    # -- bytes in ------------------------------------------------------------------------------------------

    def receive(self, data: bytes, now: float) -> None:
        """Take what the transport read at ``now`` (seconds). Never raises for what a peer sent."""
        if self.terminated:
            return
        self.now = now
        buffer = self.buffer
        if buffer:
            buffer += data
            if len(buffer) < self.needed:
                return
            data = bytes(buffer)
            buffer.clear()
        try:
            pos = self._frames(data, self._preface(data) if self.preface else 0)
        except ConnectionFailed as error:
            self.terminate(error.code, error.reason)
            return
        if pos:
            self.progress += 1
        if pos < len(data):
            buffer += memoryview(data)[pos:]

    def _preface(self, data: bytes) -> int:
        """RFC 9113 3.4: the position after the client's preface, 0 while it is not whole."""
        got = data[: len(CLIENT_PREFACE)]
        if not CLIENT_PREFACE.startswith(got):
            raise ConnectionFailed(PROTOCOL_ERROR, "no HTTP/2 preface")
        if len(got) < len(CLIENT_PREFACE):
            return 0
        self.preface = False
        return len(got)

    def _frames(self, data: bytes, pos: int) -> int:
        """Handle every whole frame from ``pos`` on; the position where the next one starts."""
        if self.preface:
            self.needed = len(CLIENT_PREFACE)
            return pos
        end = len(data)
        streams = self.streams
        blocks = self.blocks
        limit = end - HEADER_SIZE
        needed = HEADER_SIZE
        while pos <= limit:
            word, flags, stream_id = _UNPACK_HEADER(data, pos)
            start = pos + HEADER_SIZE
            stop = start + (word >> 8)
            if word > 0x4000FF:  # DEFAULT_MAX_FRAME_SIZE << 8 | any type
                raise ConnectionFailed(FRAME_SIZE_ERROR, "frame larger than SETTINGS_MAX_FRAME_SIZE")
            if stop > end:
                needed = stop - pos
                break
            kind = word & 0xFF
            if self.block is not None or not self.seen_settings:
                self._in_order(kind, flags, stream_id)
            if kind == _DATA:
                stream = streams.get(stream_id)
                if (
                    stream is not None
                    and flags == _END_STREAM
                    and stream.state == OPEN
                    and stream.incoming is None
                    and stream.request.content_length < 0
                ):
                    # The usual request: its only DATA frame, which no stream window can be too small for.
                    self.receive_window -= stop - start
                    stream.state = HALF_CLOSED
                    stream.data(data, start, stop, True)
                else:
                    self._data(data, start, stop, flags, stream_id & 0x7FFFFFFF)
            elif kind == _HEADERS:
                request = (
                    blocks.get(data[start:stop]) if flags & _PLAIN_HEADERS_MASK == _END_HEADERS else None
                )
                if (
                    request is not None
                    and stream_id == self.last_id + 2
                    and len(streams) < self.max_streams
                    and not self.draining
                ):
                    self.last_id = stream_id
                    self.requests += 1
                    stream = self.receiver.new_stream(stream_id, request, self.initial_send_window)
                    streams[stream_id] = stream
                    if request.announce:
                        stream.opened()
                    if flags & _END_STREAM and stream.state == OPEN:
                        stream.state = HALF_CLOSED
                        if request.content_length > 0:
                            self._stream_error(stream_id, PROTOCOL_ERROR)
                        else:
                            stream.data(data, stop, stop, True)
                else:
                    self._headers(data, start, stop, flags, stream_id & 0x7FFFFFFF)
            else:
                self._other(kind, data, start, stop, flags, stream_id & 0x7FFFFFFF)
            pos = stop
        if self.receive_window < limits.CONNECTION_RECEIVE_WINDOW // 2:
            increment = limits.CONNECTION_RECEIVE_WINDOW - self.receive_window
            self.receive_window += increment
            self._control(frames.window_update_frame(0, increment))
        self.needed = needed
        return pos

    def _in_order(self, kind: int, flags: int, stream_id: int) -> None:
        """The two places where only one kind of frame may come next (RFC 9113 3.4 and 6.10)."""
        if not self.seen_settings:
            if kind != frames.SETTINGS or flags & frames.ACK:
                raise ConnectionFailed(PROTOCOL_ERROR, "the first frame must be SETTINGS")
            self.seen_settings = True
        elif kind != _CONTINUATION or stream_id & 0x7FFFFFFF != self.block_stream:
            raise ConnectionFailed(PROTOCOL_ERROR, "frame inside a header block")

    # -- DATA ----------------------------------------------------------------------------------------------

    def _data(self, data: bytes, start: int, stop: int, flags: int, stream_id: int) -> None:
        """Any DATA frame (RFC 9113 6.1)."""
        length = stop - start
        self.receive_window -= length
        if self.receive_window < 0:
            raise ConnectionFailed(FLOW_CONTROL_ERROR, "connection window exceeded")
        if stream_id == 0:
            raise ConnectionFailed(PROTOCOL_ERROR, "DATA on stream 0")
        if flags & _PADDED:
            start, stop = _unpad(data, start, stop)
        stream = self.streams.get(stream_id)
        if stream is None:
            self._late(stream_id, "DATA")
            return
        if stream.state != OPEN:
            self._stream_error(stream_id, STREAM_CLOSED)
            return
        ended = bool(flags & _END_STREAM)
        content = stop - start
        if not content and not ended:
            self._useless()
        incoming = stream.incoming
        if incoming is None:
            incoming = stream.incoming = Incoming()
        incoming.window -= length
        if incoming.window < 0:
            self._stream_error(stream_id, FLOW_CONTROL_ERROR)
            return
        incoming.total += content
        expected = stream.request.content_length
        if expected != NO_CONTENT_LENGTH and (
            incoming.total > expected or (ended and incoming.total != expected)
        ):
            self._stream_error(stream_id, PROTOCOL_ERROR)  # 8.1.1
            return
        if ended:
            stream.state = HALF_CLOSED
        elif length > content:
            self.consumed(stream, length - content)
        stream.data(data, start, stop, ended)

    def _late(self, stream_id: int, name: str) -> None:
        """A frame on a stream that is not open: idle, closed, or reset by us a moment ago (RFC 9113 5.1)."""
        if stream_id > self.last_id or not stream_id & 1:
            raise ConnectionFailed(PROTOCOL_ERROR, f"{name} on an idle stream")
        self._useless()
        if stream_id not in self.reset_ids and stream_id <= self.final_id:
            self._control(frames.rst_stream_frame(stream_id, STREAM_CLOSED))
            self._remember_reset(stream_id)

    # -- HEADERS -------------------------------------------------------------------------------------------

    def _headers(self, data: bytes, start: int, stop: int, flags: int, stream_id: int) -> None:
        """Any HEADERS frame (RFC 9113 6.2)."""
        if stream_id == 0:
            raise ConnectionFailed(PROTOCOL_ERROR, "HEADERS on stream 0")
        if flags & _PADDED:
            start, stop = _unpad(data, start, stop)
        if flags & frames.PRIORITY_FLAG:
            start += 5
            if start > stop:
                raise ConnectionFailed(FRAME_SIZE_ERROR, "HEADERS too short for its priority")
        if flags & _END_HEADERS:
            self._block(data[start:stop], flags, stream_id)
            return
        self.block = bytearray(data[start:stop])
        self.block_stream = stream_id
        self.block_flags = flags
        self.block_frames = 1

    def _continuation(self, data: bytes, start: int, stop: int, flags: int) -> None:
        """CONTINUATION (RFC 9113 6.10); ``_in_order`` has seen that it belongs here."""
        block = self.block
        if block is None:
            raise ConnectionFailed(PROTOCOL_ERROR, "CONTINUATION without HEADERS")
        self.block_frames += 1
        if (
            len(block) + stop - start > limits.MAX_HEADER_BLOCK_BYTES
            or self.block_frames > limits.MAX_CONTINUATION_FRAMES
        ):
            raise ConnectionFailed(ENHANCE_YOUR_CALM, "header block too large")
        block += memoryview(data)[start:stop]
        if flags & _END_HEADERS:
            self.block = None
            self._block(bytes(block), self.block_flags, self.block_stream)

    def _block(self, block: bytes, flags: int, stream_id: int) -> None:
        """A whole header block: decode it in any case, for the table's sake, then see whose it is."""
        request = self.blocks.get(block)
        fields: list[Field] | None = None
        if request is None:
            fields = self.decoder.decode(block)
            if self.blocks_version != self.decoder.changes:
                self.blocks_version = self.decoder.changes
                self.blocks.clear()
                cacheable = False
            else:
                cacheable = len(block) <= limits.HEADER_CACHE_BLOCK_BYTES
        ended = bool(flags & _END_STREAM)
        if stream_id <= self.last_id:
            self._trailers(stream_id, fields if request is None else [], ended, request is not None)
            return
        if not self._accept(stream_id):
            return
        if request is None:
            if fields is None:
                self._refuse(stream_id, ENHANCE_YOUR_CALM)
                return
            try:
                request = build_request(fields)
            except Malformed:
                self._refuse(stream_id, PROTOCOL_ERROR)
                return
            self.receiver.prepare(request)
            if cacheable:
                if len(self.blocks) >= limits.HEADER_CACHE_ENTRIES:
                    self.blocks.clear()
                self.blocks[block] = request
        self.requests += 1
        stream = self.receiver.new_stream(stream_id, request, self.initial_send_window)
        self.streams[stream_id] = stream
        if request.announce:
            stream.opened()
        if ended and stream.state == OPEN:
            stream.state = HALF_CLOSED
            if request.content_length > 0:
                self._stream_error(stream_id, PROTOCOL_ERROR)
            else:
                stream.data(b"", 0, 0, True)

    def _accept(self, stream_id: int) -> bool:
        """May this id open a stream (RFC 9113 5.1.1, 5.1.2, 6.8)? Answers and counts if not."""
        if not stream_id & 1:
            raise ConnectionFailed(PROTOCOL_ERROR, "even stream id")
        if stream_id > self.last_id + 2:
            self.gaps.append((self.last_id + 2 - (self.last_id == 0), stream_id - 2))
        self.last_id = stream_id
        if stream_id > self.final_id:
            return False
        if len(self.streams) >= self.max_streams:
            self._refuse(stream_id, REFUSED_STREAM)
            return False
        return True

    def _trailers(self, stream_id: int, fields: list[Field] | None, ended: bool, request: bool) -> None:
        """A header block on a stream that exists or existed; ``request``: it was one, seen before."""
        stream = self.streams.get(stream_id)
        if stream is None:
            if stream_id in self.reset_ids or stream_id > self.final_id:
                self._useless()
                return
            for low, high in self.gaps:
                if low <= stream_id <= high:
                    raise ConnectionFailed(PROTOCOL_ERROR, "stream id lower than before")
            if not stream_id & 1:
                raise ConnectionFailed(PROTOCOL_ERROR, "even stream id")
            raise ConnectionFailed(STREAM_CLOSED, "HEADERS on a closed stream")
        if stream.state != OPEN:
            self._stream_error(stream_id, STREAM_CLOSED)
            return
        if fields is None or request or not ended:
            self._stream_error(stream_id, PROTOCOL_ERROR if fields is not None else ENHANCE_YOUR_CALM)
            return
        try:
            check_trailers(fields)
        except Malformed:
            self._stream_error(stream_id, PROTOCOL_ERROR)
            return
        expected = stream.request.content_length
        total = stream.incoming.total if stream.incoming is not None else 0
        if expected not in (NO_CONTENT_LENGTH, total):
            self._stream_error(stream_id, PROTOCOL_ERROR)
            return
        stream.state = HALF_CLOSED
        stream.data(b"", 0, 0, True)

    # -- the other frames ----------------------------------------------------------------------------------

    def _other(self, kind: int, data: bytes, start: int, stop: int, flags: int, stream_id: int) -> None:
        length = stop - start
        if kind == frames.WINDOW_UPDATE:
            self._window_update(data, start, length, stream_id)
        elif kind == frames.RST_STREAM:
            self._rst_stream(data, start, length, stream_id)
        elif kind == _CONTINUATION:
            self._continuation(data, start, stop, flags)
        elif kind == frames.PING:
            self._ping(data[start:stop], flags, stream_id)
        elif kind == frames.SETTINGS:
            self._settings(data[start:stop], flags, stream_id)
        elif kind == frames.PUSH_PROMISE:
            raise ConnectionFailed(PROTOCOL_ERROR, "PUSH_PROMISE from a client")
        elif kind == frames.PRIORITY:
            self._priority(length, stream_id)
        elif kind == frames.GOAWAY:
            self._useless()
            if stream_id:
                raise ConnectionFailed(PROTOCOL_ERROR, "GOAWAY on a stream")
            if length < 8:
                raise ConnectionFailed(FRAME_SIZE_ERROR, "GOAWAY of wrong size")
        else:
            self._useless()  # 4.1: unknown types are ignored

    def _window_update(self, data: bytes, start: int, length: int, stream_id: int) -> None:
        """RFC 9113 6.9."""
        if length != 4:
            raise ConnectionFailed(FRAME_SIZE_ERROR, "WINDOW_UPDATE of wrong size")
        self._useless()
        increment = frames.U32.unpack_from(data, start)[0] & 0x7FFFFFFF
        if stream_id == 0:
            self.send_window += increment
            if not increment:
                raise ConnectionFailed(PROTOCOL_ERROR, "WINDOW_UPDATE by zero")
            if self.send_window > MAX_WINDOW:
                raise ConnectionFailed(FLOW_CONTROL_ERROR, "connection window too large")
            self._refresh_room()
            self._pump()
            return
        stream = self.streams.get(stream_id)
        if stream is None:
            if stream_id > self.last_id or not stream_id & 1:
                raise ConnectionFailed(PROTOCOL_ERROR, "WINDOW_UPDATE on an idle stream")
            return
        if not increment:
            self._stream_error(stream_id, PROTOCOL_ERROR)
            return
        stream.send_window += increment
        if stream.send_window > MAX_WINDOW:
            self._stream_error(stream_id, FLOW_CONTROL_ERROR)
            return
        if stream.outgoing is not None:
            self._enqueue(stream, stream.outgoing)
            self._pump()

    def _rst_stream(self, data: bytes, start: int, length: int, stream_id: int) -> None:
        """RFC 9113 6.4."""
        if length != 4:
            raise ConnectionFailed(FRAME_SIZE_ERROR, "RST_STREAM of wrong size")
        if stream_id == 0:
            raise ConnectionFailed(PROTOCOL_ERROR, "RST_STREAM on stream 0")
        stream = self.streams.get(stream_id)
        if stream is None:
            if stream_id > self.last_id or not stream_id & 1:
                raise ConnectionFailed(PROTOCOL_ERROR, "RST_STREAM on an idle stream")
            self._useless()
            return
        self._close(stream)
        stream.aborted(frames.U32.unpack_from(data, start)[0])
        self._spend_reset()

    def _priority(self, length: int, stream_id: int) -> None:
        """RFC 9113 6.3: checked for its size, otherwise without meaning."""
        self._useless()
        if stream_id == 0:
            raise ConnectionFailed(PROTOCOL_ERROR, "PRIORITY on stream 0")
        if length != 5:
            if stream_id not in self.streams:
                raise ConnectionFailed(FRAME_SIZE_ERROR, "PRIORITY of wrong size")
            self._stream_error(stream_id, FRAME_SIZE_ERROR)

    def _ping(self, payload: bytes, flags: int, stream_id: int) -> None:
        """RFC 9113 6.7, and the keepalive policy of gRPC."""
        if stream_id:
            raise ConnectionFailed(PROTOCOL_ERROR, "PING on a stream")
        if len(payload) != 8:
            raise ConnectionFailed(FRAME_SIZE_ERROR, "PING of wrong size")
        self._useless()
        if flags & frames.ACK:
            if payload == _GOAWAY_PING:
                self.goaway_final()
            return
        self._control(frames.frame(frames.PING, frames.ACK, 0, payload))
        if not self.pings.allows(len(self.streams), self.answers, self.now):
            raise ConnectionFailed(ENHANCE_YOUR_CALM, "too_many_pings")

    def _settings(self, payload: bytes, flags: int, stream_id: int) -> None:
        """RFC 9113 6.5."""
        if stream_id:
            raise ConnectionFailed(PROTOCOL_ERROR, "SETTINGS on a stream")
        if flags & frames.ACK:
            if payload:
                raise ConnectionFailed(FRAME_SIZE_ERROR, "SETTINGS ack with content")
            self._useless()
            return
        if len(payload) % 6:
            raise ConnectionFailed(FRAME_SIZE_ERROR, "SETTINGS of wrong size")
        self._useless(1 + len(payload) // 6)
        for key, value in frames.SETTING.iter_unpack(payload):
            self._setting(key, value)
        self._control(frames.frame(frames.SETTINGS, frames.ACK, 0))
        self._pump()

    def _setting(self, key: int, value: int) -> None:
        if key == frames.SETTINGS_INITIAL_WINDOW_SIZE:
            self._initial_window(value)
        elif key == frames.SETTINGS_MAX_FRAME_SIZE:
            if not DEFAULT_MAX_FRAME_SIZE <= value <= frames.LARGEST_MAX_FRAME_SIZE:
                raise ConnectionFailed(PROTOCOL_ERROR, "SETTINGS_MAX_FRAME_SIZE out of range")
            self.peer_frame_size = value
        elif key == frames.SETTINGS_ENABLE_PUSH:
            if value > 1:
                raise ConnectionFailed(PROTOCOL_ERROR, "SETTINGS_ENABLE_PUSH out of range")
        elif key == frames.SETTINGS_HEADER_TABLE_SIZE:
            if value < limits.HEADER_TABLE_SIZE:
                self.plain = (
                    False  # the next header block says that our (unused) table is empty, RFC 7541 4.2
                )
        elif key == frames.SETTINGS_MAX_HEADER_LIST_SIZE:
            self.peer_header_list = value

    def _initial_window(self, value: int) -> None:
        """RFC 9113 6.9.2: the difference applies to every open stream."""
        if value > MAX_WINDOW:
            raise ConnectionFailed(FLOW_CONTROL_ERROR, "SETTINGS_INITIAL_WINDOW_SIZE too large")
        difference = value - self.initial_send_window
        self.initial_send_window = value
        if not difference:
            return
        self._useless(len(self.streams) // 64)  # work in proportion to the open streams is paid for
        for stream in self.streams.values():
            stream.send_window += difference
            if stream.send_window > MAX_WINDOW:
                raise ConnectionFailed(FLOW_CONTROL_ERROR, "stream window too large")
            if stream.outgoing is not None:
                self._enqueue(stream, stream.outgoing)

    # -- answers -------------------------------------------------------------------------------------------

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
        prefix = b"\0" + frames.U32.pack(len(message))
        # A large message is not copied; a small one is one chunk with its prefix.
        if len(message) > DEFAULT_MAX_FRAME_SIZE:
            outgoing.chunks.append(prefix)
            outgoing.chunks.append(memoryview(message))
        else:
            outgoing.chunks.append(prefix + message)
        size = len(message) + _MESSAGE_PREFIX
        outgoing.size += size
        self.unsent += size
        self._enqueue(stream, outgoing)
        self._pump()
        if self.send_window <= 0:
            self._refresh_room()

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

    def consumed(self, stream: Stream, size: int) -> None:
        """``size`` bytes of content are no longer held: give them back to the stream's window, in batches."""
        incoming = stream.incoming
        if stream.state != OPEN or incoming is None:
            return
        incoming.unopened += size
        if incoming.unopened > DEFAULT_WINDOW // 2:
            self.grant(stream, incoming.unopened)
            incoming.unopened = 0

    def expect(self, stream: Stream, missing: int) -> None:
        """The owner needs ``missing`` bytes before it can consume any: leave none of the window unopened."""
        incoming = stream.incoming
        if incoming is not None and incoming.unopened and incoming.window < missing:
            self.grant(stream, incoming.unopened)
            incoming.unopened = 0

    def grant(self, stream: Stream, size: int) -> None:
        """Let the client send ``size`` more bytes on the stream."""
        incoming = stream.incoming
        if stream.state == OPEN and incoming is not None and size > 0:
            incoming.window += size
            self._control(frames.window_update_frame(stream.id, size))

    # -- what the shell asks and says ----------------------------------------------------------------------

    @property
    def congested(self) -> bool:
        """Whether further requests should wait, since their answers could not leave."""
        return self.room <= 0

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

    def keepalive_ping(self) -> None:
        """Ask whether the client is there; whatever it sends then is an answer."""
        self._control(frames.frame(frames.PING, 0, 0, _KEEPALIVE_PING))

    def goaway_begin(self) -> None:
        """First phase (RFC 9113 6.8): no new streams please. The client's PING answer starts the second."""
        if not self.draining and not self.terminated:
            self.draining = True
            self._control(frames.goaway_frame(frames.MAX_STREAM_ID, frames.NO_ERROR))
            self._control(frames.frame(frames.PING, 0, 0, _GOAWAY_PING))

    def goaway_final(self) -> None:
        """Second phase: names the last stream that is handled."""
        if self.draining and self.final_id == frames.MAX_STREAM_ID and not self.terminated:
            self.final_id = self.last_id
            self._control(frames.goaway_frame(self.last_id, frames.NO_ERROR))

    @property
    def drained(self) -> bool:
        """Whether the second phase is over: every stream that will be handled has been."""
        return self.final_id != frames.MAX_STREAM_ID and not self.streams

    def terminate(self, code: int, reason: str) -> None:
        """Connection error (RFC 9113 5.4.1): GOAWAY, after which the shell closes; every stream is told."""
        if self.terminated:
            return
        self.terminated = True
        self.why = reason
        self.buffer.clear()
        self.block = None
        self.out.append(frames.goaway_frame(self.last_id, code, reason.encode()))
        self.lost()

    def lost(self) -> None:
        """The transport is gone, or about to be: tell every stream."""
        self.terminated = True
        streams = list(self.streams.values())
        for stream in streams:
            self._close(stream)
        for stream in streams:
            stream.aborted(frames.CANCEL)

    def check_invariants(self) -> None:
        """Assert what the class promises; for tests."""
        self.decoder.check_invariants()
        assert len(self.streams) <= self.max_streams
        assert len(self.blocks) <= limits.HEADER_CACHE_ENTRIES
        assert len(self.reset_ids) <= limits.REMEMBERED_RESETS
        assert self.receive_window <= limits.CONNECTION_RECEIVE_WINDOW
        assert self.send_window >= 0
        unsent = 0
        for stream_id, stream in self.streams.items():
            assert stream.id == stream_id <= self.last_id
            assert stream.state != CLOSED
            outgoing = stream.outgoing
            if outgoing is not None:
                assert outgoing.size == sum(len(chunk) for chunk in outgoing.chunks)
                unsent += outgoing.size
                assert outgoing.queued == any(stream is other for other in self.sendable)
                assert outgoing.queued or not outgoing.size or stream.send_window <= 0
        assert unsent == self.unsent

    # -- inside --------------------------------------------------------------------------------------------

    def _control(self, data: bytes) -> None:
        self.out.append(data)
        self.queued_control += len(data)

    def _header_frame(self, stream_id: int, block: bytes, flags: int) -> None:
        if not self.plain:
            block = b"\x20" + block
            self.plain = True
        self.answers += 1
        self._control(frames.frame(_HEADERS, flags, stream_id, block))

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

    def _refuse(self, stream_id: int, code: int) -> None:
        """Reset a stream that never came to be."""
        self._control(frames.rst_stream_frame(stream_id, code))
        self._remember_reset(stream_id)
        self._spend_reset()

    def _stream_error(self, stream_id: int, code: int) -> None:
        """RFC 9113 5.4.2."""
        stream = self.streams[stream_id]
        self.reset(stream, code)
        stream.aborted(code)
        self._spend_reset()

    def _spend_reset(self) -> None:
        earned = self.answers - self.seen_answers
        self.seen_answers = self.answers
        if not self.resets.spend(1, earned, self.now):
            raise ConnectionFailed(ENHANCE_YOUR_CALM, "too many resets")

    def _useless(self, amount: int = 1) -> None:
        useful = self.answers + self.requests
        earned = (useful - self.seen_useful) * limits.USELESS_FRAMES_PER_USEFUL
        self.seen_useful = useful
        if not self.useless.spend(amount, earned, self.now):
            raise ConnectionFailed(ENHANCE_YOUR_CALM, "too many useless frames")


def _unpad(data: bytes, start: int, stop: int) -> tuple[int, int]:
    """Content without padding (RFC 9113 6.1)."""
    if start == stop:
        raise ConnectionFailed(FRAME_SIZE_ERROR, "no room for the pad length")
    padding = data[start]
    start += 1
    if padding > stop - start:
        raise ConnectionFailed(PROTOCOL_ERROR, "more padding than content")
    return start, stop - padding
