"""A client's end of HTTP/2 by hand, as little work a frame as Python allows: what both generators share.

Every request is a HEADERS frame whose block never changes (every field is in the peer's table after the first
one). Header blocks of answers that leave the table as it was are decoded once and kept. Nothing here is
shared with the server's HTTP/2.

Invariant: the windows we grant are so large that they need no renewal while a row runs.
"""

import selectors
import socket
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Final, Self, final

import hpack

from bench.h2load import LoadError

DATA: Final = 0
HEADERS: Final = 1
END_STREAM: Final = 1
FIRST_WINDOW: Final = 65_535
FRAME_BYTES: Final = 16_384
STALL_SECONDS: Final = 60.0

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_RST_STREAM: Final = 3
_SETTINGS: Final = 4
_PING: Final = 6
_GOAWAY: Final = 7
_WINDOW_UPDATE: Final = 8
_ACK: Final = 1
_END_HEADERS: Final = 4
_PADDED_OR_PRIORITY: Final = 0x28
_ENABLE_PUSH: Final = 2
_INITIAL_WINDOW_SIZE: Final = 4
_WINDOW: Final = 2**31 - 1
_RECEIVE_BYTES: Final = 256 * 1024
_NOTHING: Final = b""


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return a frame."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


class Wire(ABC):
    """A connection on which every request goes to one path: its buffers, its windows, its header tables."""

    __slots__ = (
        "block",
        "buffer",
        "decoder",
        "first_block",
        "known",
        "out",
        "sock",
        "stream",
        "stream_window",
        "window",
    )

    def __init__(self, host: str, port: int, path: str) -> None:
        self.sock: Final = socket.create_connection((host, port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setblocking(False)
        fields = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", f"{host}:{port}"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ]
        encoder = hpack.Encoder()
        self.first_block: Final = encoder.encode(fields)  # fills the peer's table
        self.block: Final = encoder.encode(fields)  # from then on: indexes into it
        self.decoder: Final = hpack.Decoder()
        self.known: Final[dict[bytes, bytes]] = {}
        self.stream = 1
        self.window = FIRST_WINDOW
        self.stream_window = FIRST_WINDOW
        self.buffer = b""
        settings = _ENABLE_PUSH.to_bytes(2, "big") + (0).to_bytes(4, "big")
        settings += _INITIAL_WINDOW_SIZE.to_bytes(2, "big") + _WINDOW.to_bytes(4, "big")
        self.out = bytearray(_PREFACE + frame(_SETTINGS, 0, 0, settings))
        self.out += frame(_WINDOW_UPDATE, 0, 0, (_WINDOW - FIRST_WINDOW).to_bytes(4, "big"))

    def begin(self) -> int:
        """Start a request: queue its HEADERS; returns its stream."""
        stream = self.stream
        self.out += frame(HEADERS, _END_HEADERS, stream, self.block if stream > 1 else self.first_block)
        self.stream += 2
        return stream

    def flush(self) -> bool:
        """Send what can be sent; returns whether something is left."""
        if self.out:
            try:
                sent = self.sock.send(self.out)
            except BlockingIOError:
                return True
            del self.out[:sent]
        return bool(self.out)

    @abstractmethod
    def receive(self) -> None:
        """Take what has arrived. Raises LoadError for what should not have."""

    def arrived(self) -> bytes:
        """Return what was left of the last frame and what has arrived since, empty if nothing has.

        The caller keeps what it does not use in ``buffer``. Raises LoadError if the server has closed.
        """
        try:
            data = self.sock.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return _NOTHING
        if not data:
            raise LoadError("the server closed the connection")
        return self.buffer + data if self.buffer else data

    def status(self, flags: int, block: bytes) -> bytes:
        """Return the ``grpc-status`` of a header block, empty without one. Raises LoadError for a refusal."""
        known = self.known.get(block)
        return self._decode(flags, block) if known is None else known

    def _decode(self, flags: int, block: bytes) -> bytes:
        if flags & _PADDED_OR_PRIORITY or not flags & _END_HEADERS:
            raise LoadError(f"HEADERS with flags {flags:#x}")
        entries = self.decoder.header_table.dynamic_entries
        newest = entries[0] if entries else None
        fields = dict(self.decoder.decode(block, raw=True))
        if fields.get(b":status", b"200") != b"200" or fields.get(b"grpc-status", b"0") != b"0":
            raise LoadError(f"refused: {fields}")
        status: bytes = fields.get(b"grpc-status", b"")
        if (entries[0] if entries else None) is newest:
            self.known[block] = status
        else:
            self.known.clear()  # the table moved: the same bytes may mean something else now
        return status

    def control(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        """Take a frame that is neither DATA nor HEADERS. Raises LoadError for RST_STREAM and GOAWAY."""
        if kind == _WINDOW_UPDATE:
            self.widen(stream, int.from_bytes(payload, "big"))
        elif kind == _SETTINGS:
            if not flags & _ACK:
                self._settings(payload)
                self.out += frame(_SETTINGS, _ACK, 0)
        elif kind == _PING:
            if not flags & _ACK:
                self.out += frame(_PING, _ACK, 0, payload)
        elif kind in (_RST_STREAM, _GOAWAY):
            raise LoadError(f"the server sent frame type {kind}: {payload!r}")

    def widen(self, stream: int, by: int) -> None:
        """Take more room from the peer, for the connection (stream 0) or for a stream."""
        if stream == 0:
            self.window += by

    def _settings(self, payload: bytes) -> None:
        for at in range(0, len(payload), 6):
            if int.from_bytes(payload[at : at + 2], "big") == _INITIAL_WINDOW_SIZE:
                self.set_stream_window(int.from_bytes(payload[at + 2 : at + 6], "big"))

    def set_stream_window(self, size: int) -> None:
        """Take the room that the peer gives each stream."""
        self.stream_window = size

    def close(self) -> None:
        """Close the socket."""
        self.sock.close()


@final
class Loop:
    """Connections driven by whoever measures, a turn at a time; they are closed with it."""

    def __init__(self, wires: Iterable[Wire]) -> None:
        self.wires: Final = list(wires)
        self._selector: Final = selectors.DefaultSelector()
        for wire in self.wires:
            self._selector.register(wire.sock, selectors.EVENT_READ, wire)

    def turn(self, timeout_seconds: float = STALL_SECONDS) -> bool:
        """Send what is queued, wait for something to arrive and take it; returns whether something did."""
        for wire in self.wires:
            if wire.out:
                self._flush(wire)
        events = self._selector.select(timeout_seconds)
        for chosen, event in events:
            if event & selectors.EVENT_READ:
                chosen.data.receive()
        return bool(events)

    def progress(self) -> None:
        """Take a turn; raises LoadError if nothing happens for a minute."""
        if not self.turn():
            raise LoadError(f"no progress for {STALL_SECONDS:g} s")

    def _flush(self, wire: Wire) -> None:
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if wire.flush() else 0)
        if self._selector.get_key(wire.sock).events != wanted:
            self._selector.modify(wire.sock, wanted, wire)

    def release(self) -> None:
        """Let go of the connections without closing them."""
        self._selector.close()

    def __enter__(self) -> Self:
        """Return the loop itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections."""
        self.release()
        for wire in self.wires:
            wire.close()
