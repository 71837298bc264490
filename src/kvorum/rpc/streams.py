"""Streams as the engine and the layer above share them.

The layer above derives its calls from :class:`Stream`, so that a call and its stream are one object.
"""

import struct
from collections import deque
from typing import Final, Protocol, final

from kvorum.rpc import frames
from kvorum.rpc.frames import DEFAULT_WINDOW
from kvorum.rpc.requests import Request

OPEN: Final = 0
HALF_CLOSED: Final = 1
"""Half-closed (remote): the client has sent END_STREAM."""
CLOSED: Final = 2


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
        head = frames.frame(frames.HEADERS, frames.END_HEADERS, 0, headers)
        tail = frames.frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, 0, trailers)
        self.head_start: Final = head[:5]
        self.tail_start: Final = tail[:5]
        # frame header up to the id, id, block; then DATA: length << 8 | type, flags, id, message flag, its
        # length
        self.pack_head: Final = struct.Struct(f">5sI{len(headers)}sIBIBI").pack
        self.pack_tail: Final = struct.Struct(f">5sI{len(trailers)}s").pack
