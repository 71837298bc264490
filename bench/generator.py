"""A load generator for distinct bodies: requests on the frames of ``wire``.

It exists because h2load sends one body only. A request is a HEADERS frame and its DATA; of an answer only
frame headers are looked at and the trailers' ``grpc-status``.

Invariants: a request is sent whole or not at all (the connection window has room for it before it starts; a
body is smaller than the peer's stream window); ``len(out)`` is bounded by the requests in flight.
"""

import selectors
import time
from collections.abc import Iterator
from typing import Final, final

from bench.h2load import LoadError
from bench.wire import DATA, END_STREAM, FRAME_BYTES, HEADERS, STALL_SECONDS, Wire, frame


@final
class Connection(Wire):
    """One connection with up to ``in_flight`` requests under way, taken from a shared iterator of bodies.

    ``timed``: ``latencies`` has the seconds that each answer took.
    """

    __slots__ = ("drained", "in_flight", "latencies", "open", "started", "stashed", "timed")

    def __init__(self, host: str, port: int, path: str, in_flight: int, *, timed: bool = False) -> None:
        super().__init__(host, port, path)
        self.in_flight: Final = in_flight
        self.timed: Final = timed
        self.started: Final[dict[int, float]] = {}
        self.latencies: Final[list[float]] = []
        self.open = 0
        self.stashed: bytes | None = None
        self.drained = False

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
            self.start(body)

    def start(self, body: bytes) -> None:
        """Start a request; the window must have room for it."""
        stream = self.begin()
        for at in range(0, len(body), FRAME_BYTES):
            last = at + FRAME_BYTES >= len(body)
            self.out += frame(DATA, END_STREAM if last else 0, stream, body[at : at + FRAME_BYTES])
        self.window -= len(body)
        self.open += 1
        if self.timed:
            self.started[stream] = time.perf_counter()

    def receive(self) -> None:
        """Take what has arrived. Raises LoadError for anything but answers with status 0."""
        buffer = self.arrived()
        if not buffer:
            return
        at, end = 0, len(buffer)
        while end - at >= 9:
            after = at + 9 + (buffer[at] << 16 | buffer[at + 1] << 8 | buffer[at + 2])
            if after > end:
                break
            kind = buffer[at + 3]
            if kind == HEADERS:
                flags = buffer[at + 4]
                status = self.status(flags, buffer[at + 9 : after])
                if flags & END_STREAM:
                    self._answered(status, buffer[at + 5 : at + 9])
            elif kind != DATA:
                stream = int.from_bytes(buffer[at + 5 : at + 9], "big")
                self.control(kind, buffer[at + 4], stream, buffer[at + 9 : after])
            at = after
        self.buffer = buffer[at:]

    def _answered(self, status: bytes, stream: bytes) -> None:
        if status != b"0":
            raise LoadError(f"grpc-status {status!r}")
        self.open -= 1
        if self.timed:
            started = self.started.pop(int.from_bytes(stream, "big"))
            self.latencies.append(time.perf_counter() - started)


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
                connection.close()
    return time.perf_counter() - started


def _drive(selector: selectors.BaseSelector, bodies: Iterator[bytes], busy: int) -> None:
    while busy:
        events = selector.select(STALL_SECONDS)
        if not events:
            raise LoadError(f"no progress for {STALL_SECONDS:g} s")
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
