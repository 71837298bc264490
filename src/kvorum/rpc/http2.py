"""The server's half of an HTTP/2 connection (RFC 9113), without a socket or a clock.

``receive`` takes bytes and the time; what they mean reaches streams as method calls, at once and in order.
Answers are calls on the engine; the bytes they become gather in ``out``, which the shell joins, writes and
clears once per turn of its loop, and then calls ``flushed``.

The two directions of flow:

* **In.** The connection's window is re-opened as bytes arrive, a stream's window as its owner says
  ``consumed`` or ``grant``. What a peer can make us hold is therefore the owner's decision, and it knows
  messages.
* **Out.** ``outbound.py``: what windows and transport do not take waits, and congestion holds back requests.

Speed: the loop in ``_frames`` makes one pass over the buffer. A request whose header block was seen before
is one dictionary look-up and one object; no frame objects exist. ``respond`` sends headers, message and
trailers as one formatted piece. Everything unusual leaves these two for slower functions, and those check
everything.

Rules are from RFC 9113, sections cited where applied. A stream error resets the stream, a connection error
(:class:`ConnectionFailed` inside, ``terminated`` outside) sends GOAWAY.
"""

from typing import Final, final

from kvorum import limits
from kvorum.rpc import frames
from kvorum.rpc.control import Control
from kvorum.rpc.frames import (
    CLIENT_PREFACE,
    DEFAULT_WINDOW,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    HEADER_SIZE,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    STREAM_CLOSED,
    ConnectionFailed,
)
from kvorum.rpc.header_blocks import Field, HeaderDecoder
from kvorum.rpc.requests import NO_CONTENT_LENGTH, Malformed, Request, build_request, check_trailers
from kvorum.rpc.streams import HALF_CLOSED, OPEN, Incoming, Receiver, ResponseShape, Stream

_DATA: Final = frames.DATA
_HEADERS: Final = frames.HEADERS
_CONTINUATION: Final = frames.CONTINUATION
_END_STREAM: Final = frames.END_STREAM
_END_HEADERS: Final = frames.END_HEADERS
_PADDED: Final = frames.PADDED
_PLAIN_HEADERS_MASK: Final = frames.END_HEADERS | frames.PADDED | frames.PRIORITY_FLAG
_UNPACK_HEADER: Final = frames.FRAME_HEADER.unpack_from


@final
class Engine(Control):
    """One connection: what comes in. What goes out and what steers it are the base classes.

    Invariants (``check_invariants``): at most ``max_streams`` streams, the newest ``last_id``; caches within
    their bounds.
    """

    __slots__ = (
        "block", "block_flags", "block_frames", "block_stream", "blocks", "blocks_version", "buffer",
        "decoder", "max_streams", "needed", "preface", "progress", "receive_window", "receiver",
        "seen_settings",
    )  # fmt: skip

    def __init__(
        self,
        receiver: Receiver,
        shape: ResponseShape,
        max_streams: int,
        keepalive_min_seconds: float,
        now: float,
    ) -> None:
        super().__init__(shape, keepalive_min_seconds, now)
        self.receiver: Final = receiver
        self.max_streams: Final = max_streams
        # received bytes
        self.preface = True
        self.buffer: Final = bytearray()
        self.needed = len(CLIENT_PREFACE)
        self.seen_settings = False
        self.progress = 0
        self.receive_window: int = limits.CONNECTION_RECEIVE_WINDOW
        # header blocks
        self.decoder: Final = HeaderDecoder(limits.MAX_HEADER_LIST_BYTES)
        self.blocks: Final[dict[bytes, Request]] = {}
        self.blocks_version = 0
        self.block: bytearray | None = None
        self.block_stream = 0
        self.block_flags = 0
        self.block_frames = 0
        self._greet()

    def _greet(self) -> None:
        """The server's preface (RFC 9113 3.4)."""
        settings = {
            frames.SETTINGS_MAX_CONCURRENT_STREAMS: self.max_streams,
            frames.SETTINGS_MAX_HEADER_LIST_SIZE: limits.MAX_HEADER_LIST_BYTES,
        }
        self.out.append(frames.settings_frame(settings))
        self.out.append(frames.window_update_frame(0, limits.CONNECTION_RECEIVE_WINDOW - DEFAULT_WINDOW))

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
            pos = self._preface(data) if self.preface else 0
            if not self.preface:
                pos = self._frames(data, pos)
        except ConnectionFailed as error:
            self.block = None
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
                    and stream.request.content_length in (NO_CONTENT_LENGTH, stop - start)
                ):  # the usual request: its only DATA frame, which no stream window can be too small for
                    self.receive_window -= stop - start
                    stream.state = HALF_CLOSED
                    stream.data(data, start, stop, True)
                else:
                    self._data(data, start, stop, flags, stream_id & 0x7FFFFFFF)
            elif kind == _HEADERS:
                request = blocks.get(data[start:stop])
                if (
                    request is not None
                    and flags & _PLAIN_HEADERS_MASK == _END_HEADERS
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
                        self._ended_at_once(stream)
                else:
                    self._headers(data, start, stop, flags, stream_id & 0x7FFFFFFF)
            elif kind == _CONTINUATION:
                self._continuation(data, start, stop, flags)
            else:
                self._steer(kind, data, start, stop, flags, stream_id & 0x7FFFFFFF)
            pos = stop
        if self.receive_window < limits.CONNECTION_RECEIVE_WINDOW // 2:
            self._reopen()
        self.needed = needed
        return pos

    def _reopen(self) -> None:
        """Give back the connection's window, in one piece."""
        increment = limits.CONNECTION_RECEIVE_WINDOW - self.receive_window
        self.receive_window += increment
        self._control(frames.window_update_frame(0, increment))

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
            start, stop = frames.unpad(data, start, stop)
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

    # -- HEADERS -------------------------------------------------------------------------------------------

    def _headers(self, data: bytes, start: int, stop: int, flags: int, stream_id: int) -> None:
        """Any HEADERS frame (RFC 9113 6.2)."""
        if stream_id == 0:
            raise ConnectionFailed(PROTOCOL_ERROR, "HEADERS on stream 0")
        if flags & _PADDED:
            start, stop = frames.unpad(data, start, stop)
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
            self._ended_at_once(stream)

    def _ended_at_once(self, stream: Stream) -> None:
        """A request without content."""
        stream.state = HALF_CLOSED
        if stream.request.content_length > 0:
            self._stream_error(stream.id, PROTOCOL_ERROR)
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
            self._late_headers(stream_id)
            return
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

    def check_invariants(self) -> None:
        """Assert what the classes promise; for tests."""
        self.check_sending()
        self.decoder.check_invariants()
        assert len(self.streams) <= self.max_streams
        assert len(self.blocks) <= limits.HEADER_CACHE_ENTRIES
        assert self.receive_window <= limits.CONNECTION_RECEIVE_WINDOW
        assert all(stream_id <= self.last_id for stream_id in self.streams)
