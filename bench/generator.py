"""A load generator for distinct bodies: HTTP/2 by hand, as little work a request as Python allows.

It exists because h2load sends one body only. It is a client of its own: it shares nothing with the server's
HTTP/2, and it serves both servers alike. A request is a HEADERS frame whose block never changes (every field
is in the peer's table after the first request) and its DATA; of an answer only frame headers are looked at
and the trailers' ``grpc-status``. Header blocks that leave the table as it was are decoded once and kept.

Invariants: a request is sent whole or not at all (the connection window has room for it before it starts; a
body is smaller than the peer's stream window); ``len(out)`` is bounded by the requests in flight.
"""

import selectors
import socket
import time
from collections.abc import Iterator
from typing import Final, final

import hpack

from bench.h2load import LoadError

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA: Final = 0
_HEADERS: Final = 1
_RST_STREAM: Final = 3
_SETTINGS: Final = 4
_PING: Final = 6
_GOAWAY: Final = 7
_WINDOW_UPDATE: Final = 8
_END_STREAM: Final = 1
_ACK: Final = 1
_END_HEADERS: Final = 4
_PADDED_OR_PRIORITY: Final = 0x28
_WINDOW: Final = 2**31 - 1
_FIRST_WINDOW: Final = 65_535
_FRAME_BYTES: Final = 16_384
_RECEIVE_BYTES: Final = 256 * 1024
_STALL_SECONDS: Final = 60.0


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


@final
class Connection:
    """One connection with up to ``in_flight`` requests under way, taken from a shared iterator of bodies."""

    __slots__ = (
        "block",
        "buffer",
        "decoder",
        "drained",
        "first_block",
        "in_flight",
        "known",
        "open",
        "out",
        "sock",
        "stashed",
        "stream",
        "window",
    )

    def __init__(self, host: str, port: int, path: str, in_flight: int) -> None:
        self.sock = socket.create_connection((host, port))
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
        self.first_block = encoder.encode(fields)  # fills the peer's table
        self.block = encoder.encode(fields)  # from then on: indexes into it
        self.decoder = hpack.Decoder()
        self.known: dict[bytes, bytes] = {}
        self.in_flight = in_flight
        self.open = 0
        self.stream = 1
        self.window = _FIRST_WINDOW
        self.stashed: bytes | None = None
        self.drained = False
        self.buffer = bytearray()
        settings = (2).to_bytes(2, "big") + (0).to_bytes(4, "big")  # ENABLE_PUSH
        settings += (4).to_bytes(2, "big") + _WINDOW.to_bytes(4, "big")  # INITIAL_WINDOW_SIZE
        self.out = bytearray(_PREFACE + _frame(_SETTINGS, 0, 0, settings))
        self.out += _frame(_WINDOW_UPDATE, 0, 0, (_WINDOW - _FIRST_WINDOW).to_bytes(4, "big"))

    @property
    def done(self) -> bool:
        """Whether every request has been answered and there are no more."""
        return self.drained and not self.open

    def refill(self, bodies: Iterator[bytes]) -> None:
        """Start requests until enough are in flight, the window is used up or the bodies end."""
        while self.open < self.in_flight and not self.drained:
            body = self.stashed if self.stashed is not None else next(bodies, None)
            if body is None:
                self.drained = True
                return
            if len(body) > self.window:
                self.stashed = body
                return
            self.stashed = None
            self._start(body)

    def _start(self, body: bytes) -> None:
        self.out += _frame(
            _HEADERS, _END_HEADERS, self.stream, self.block if self.stream > 1 else self.first_block
        )
        for at in range(0, len(body), _FRAME_BYTES):
            last = at + _FRAME_BYTES >= len(body)
            self.out += _frame(_DATA, _END_STREAM if last else 0, self.stream, body[at : at + _FRAME_BYTES])
        self.window -= len(body)
        self.open += 1
        self.stream += 2

    def flush(self) -> bool:
        """Send what can be sent; returns whether something is left."""
        if self.out:
            try:
                sent = self.sock.send(self.out)
            except BlockingIOError:
                return True
            del self.out[:sent]
        return bool(self.out)

    def receive(self) -> None:
        """Take what has arrived. Raises LoadError for anything but answers with status 0."""
        try:
            data = self.sock.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return
        if not data:
            raise LoadError("the server closed the connection")
        buffer = self.buffer + data if self.buffer else data
        at, end = 0, len(buffer)
        while end - at >= 9:
            after = at + 9 + (buffer[at] << 16 | buffer[at + 1] << 8 | buffer[at + 2])
            if after > end:
                break
            kind = buffer[at + 3]
            if kind == _HEADERS:
                self._headers(buffer[at + 4], bytes(buffer[at + 9 : after]))
            elif kind != _DATA:
                self._control(
                    kind, buffer[at + 4], bytes(buffer[at + 5 : at + 9]), bytes(buffer[at + 9 : after])
                )
            at = after
        self.buffer = bytearray(buffer[at:])

    def _headers(self, flags: int, block: bytes) -> None:
        status = self.known.get(block)
        if status is None:
            status = self._decode(flags, block)
        if flags & _END_STREAM:
            if status != b"0":
                raise LoadError(f"grpc-status {status!r}")
            self.open -= 1

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

    def _control(self, kind: int, flags: int, stream: bytes, payload: bytes) -> None:
        if kind == _WINDOW_UPDATE:
            if stream == b"\0\0\0\0":
                self.window += int.from_bytes(payload, "big")
        elif kind == _SETTINGS:
            if not flags & _ACK:
                self.out += _frame(_SETTINGS, _ACK, 0)
        elif kind == _PING:
            if not flags & _ACK:
                self.out += _frame(_PING, _ACK, 0, payload)
        elif kind in (_RST_STREAM, _GOAWAY):
            raise LoadError(f"the server sent frame type {kind}: {payload!r}")


def run(endpoint: str, path: str, bodies: Iterator[bytes], *, connections: int, in_flight: int) -> float:
    """Send every body, ``in_flight`` at a time on each connection; returns the seconds it took.

    Raises LoadError if an answer is not OK or the server stalls for a minute.
    """
    host, port = endpoint.rsplit(":", 1)
    open_connections = [Connection(host, int(port), path, in_flight) for _ in range(connections)]
    started = time.perf_counter()
    with selectors.DefaultSelector() as selector:
        for connection in open_connections:
            selector.register(connection.sock, selectors.EVENT_WRITE, connection)
        try:
            _drive(selector, bodies, len(open_connections))
        finally:
            for connection in open_connections:
                connection.sock.close()
    return time.perf_counter() - started


def _drive(selector: selectors.BaseSelector, bodies: Iterator[bytes], busy: int) -> None:
    while busy:
        events = selector.select(_STALL_SECONDS)
        if not events:
            raise LoadError(f"no progress for {_STALL_SECONDS:g} s")
        for chosen, event in events:
            connection: Connection = chosen.data
            if event & selectors.EVENT_READ:
                connection.receive()
            connection.refill(bodies)
            left = connection.flush()
            if connection.done:
                selector.unregister(connection.sock)
                busy -= 1
                continue
            wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if left else 0)
            if wanted != chosen.events:
                selector.modify(connection.sock, wanted, connection)
