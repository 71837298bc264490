"""Standing streams, for watches and keepalives: many messages each way, and a reading side that costs little.

Of what arrives only frame headers are looked at one by one: a DATA frame that holds one whole message is
counted, and a mark that every event bears (part of its key) is counted over everything that came at once.
Only frames that end amid a message, or hold several, are taken apart. Every ``sample_every``-th message is
kept, with the time it came, and looked into after the measurement.
"""

import time
from struct import Struct
from typing import Final, final

from bench.h2load import LoadError
from bench.wire import DATA, END_STREAM, FRAME_BYTES, HEADERS, Wire, frame

_LENGTH: Final = Struct(">I").unpack_from
_FRAME_HEADER: Final = 9
_MESSAGE_HEADER: Final = 5
_BEFORE_MESSAGE: Final = _FRAME_HEADER + _MESSAGE_HEADER


@final
class Streams(Wire):
    """A connection of standing streams.

    ``messages``: how many have arrived. ``marks``: how often ``mark`` was in them (an
    empty one is not looked for). ``samples``: when a message
    arrived, its number (from 0, on this connection) and itself, for one in ``sample_every``.

    Invariants: ``unsent`` has a stream exactly while it has something to send and no window for it;
    ``partial`` has it exactly while its last frame ended amid a message.
    """

    __slots__ = (
        "_next_sample",
        "bytes_received",
        "mark",
        "marks",
        "messages",
        "now",
        "partial",
        "sample_every",
        "samples",
        "unsent",
        "windows",
    )

    def __init__(self, host: str, port: int, path: str, *, mark: bytes = b"") -> None:
        super().__init__(host, port, path)
        self.mark: Final = mark
        self.marks = 0
        self.messages = 0
        self.bytes_received = 0
        self.now = 0.0
        self.samples: list[tuple[float, int, bytes]] = []
        self.sample_every = 1
        self._next_sample = 0
        self.windows: Final[dict[int, int]] = {}
        self.unsent: Final[dict[int, bytearray]] = {}
        self.partial: Final[dict[int, bytearray]] = {}

    def restart(self, sample_every: int) -> None:
        """Count from 0, with another distance between samples."""
        self.marks = self.messages = self.bytes_received = self._next_sample = 0
        self.sample_every = sample_every
        self.samples = []

    # --- sending ------------------------------------------------------------------------------------------

    def open(self) -> int:
        """Start a stream; returns its number."""
        stream = self.begin()
        self.windows[stream] = self.stream_window
        return stream

    def send(self, stream: int, bodies: bytes) -> None:
        """Send messages, each with its five bytes of header, as soon as the peer has room for them."""
        waiting = self.unsent.get(stream)
        if waiting is not None:
            waiting += bodies
        else:
            self.unsent[stream] = bytearray(bodies)
            self._pump(stream)

    def _pump(self, stream: int) -> None:
        waiting = self.unsent.get(stream)
        if waiting is None:
            return
        room = min(len(waiting), self.window, self.windows[stream])
        for at in range(0, room, FRAME_BYTES):
            self.out += frame(DATA, 0, stream, bytes(waiting[at : min(at + FRAME_BYTES, room)]))
        if room > 0:
            self.window -= room
            self.windows[stream] -= room
            del waiting[:room]
        if not waiting:
            del self.unsent[stream]

    def widen(self, stream: int, by: int) -> None:
        """Take more room, and send what waited for it."""
        if stream:
            self.windows[stream] += by
            self._pump(stream)
        else:
            self.window += by
            self._pump_all()

    def set_stream_window(self, size: int) -> None:
        """Take another initial window, which counts for streams that are open too (RFC 9113, 6.9.2)."""
        for stream in self.windows:
            self.windows[stream] += size - self.stream_window
        self.stream_window = size
        self._pump_all()

    def _pump_all(self) -> None:
        for stream in list(self.unsent):
            self._pump(stream)

    # --- receiving ----------------------------------------------------------------------------------------

    def receive(self) -> None:
        """Take what has arrived. Raises LoadError if the server refuses or ends a stream."""
        buffer = self.arrived()
        if not buffer:
            return
        self.now = time.perf_counter()
        partial = self.partial
        at, end = 0, len(buffer)
        while end - at >= _FRAME_HEADER:
            after = at + _FRAME_HEADER + (buffer[at] << 16 | buffer[at + 1] << 8 | buffer[at + 2])
            if after > end:
                break
            if buffer[at + 3]:
                self._other(buffer[at:after])
            elif (
                not partial
                and after - at > _BEFORE_MESSAGE
                and _LENGTH(buffer, at + 10)[0] == after - at - _BEFORE_MESSAGE
            ):
                if self.messages == self._next_sample:
                    self._keep(buffer[at + _BEFORE_MESSAGE : after])
                self.messages += 1
            else:
                self._uneven(_LENGTH(buffer, at + 5)[0], buffer[at + _FRAME_HEADER : after])
            at = after
        self.bytes_received += at
        if self.mark:
            self.marks += buffer.count(self.mark, 0, at)
        self.buffer = buffer[at:]

    def _keep(self, message: bytes) -> None:
        self.samples.append((self.now, self.messages, message))
        self._next_sample += self.sample_every

    def _uneven(self, stream: int, payload: bytes) -> None:
        """Take a frame that is not one message; count the marks that only its seam with the last one has."""
        body = self.partial.get(stream)
        if body is None:
            body = bytearray()
        elif self.mark:
            beside = len(self.mark) - 1
            self.marks += (body[-beside:] + payload[:beside]).count(self.mark)
        body += payload
        at = 0
        while len(body) - at >= _MESSAGE_HEADER:
            after = at + _MESSAGE_HEADER + _LENGTH(body, at + 1)[0]
            if after > len(body):
                break
            if self.messages == self._next_sample:
                self._keep(bytes(body[at + _MESSAGE_HEADER : after]))
            self.messages += 1
            at = after
        del body[:at]
        if body:
            self.partial[stream] = body
        else:
            self.partial.pop(stream, None)

    def _other(self, whole: bytes) -> None:
        kind, flags, stream = whole[3], whole[4], _LENGTH(whole, 5)[0]
        if kind == HEADERS:
            status = self.status(flags, whole[_FRAME_HEADER:])
            if flags & END_STREAM:
                raise LoadError(f"the server ended stream {stream} with grpc-status {status!r}")
        else:
            self.control(kind, flags, stream, whole[_FRAME_HEADER:])
