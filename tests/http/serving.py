"""A listener on a loop in a thread of its own, and blocking sockets to talk to it."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar, final

import uvloop

from kvorum.logging import DEBUG, Logger
from kvorum.rpc.grpc import GrpcServer
from kvorum.rpc.http1 import HttpServer
from kvorum.rpc.http1_types import HttpRequest, HttpResponse
from kvorum.rpc.listener import Listener
from kvorum.urls import Url, parse_url

T = TypeVar("T")
WAIT_SECONDS: Final = 20.0
HOST: Final = b"Host: x\r\n"


@final
class Lines:
    """A log output that keeps what it is given."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []

    def write(self, level: int, line: bytes) -> None:
        self.lines.append(line)

    def text(self) -> str:
        return b"".join(self.lines).decode()


@final
class LoopThread:
    """An event loop in a thread; everything that touches the server runs there."""

    def __init__(self, *, plain: bool = False) -> None:
        self.loop: Final = asyncio.new_event_loop() if plain else uvloop.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(WAIT_SECONDS)

    def call(self, function: Callable[[], T]) -> T:
        async def once() -> T:
            return function()

        return self.run(once())

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(WAIT_SECONDS)
        assert not self._thread.is_alive()
        self.loop.close()


@dataclass
class Serving:
    """A running listener."""

    thread: LoopThread
    http: HttpServer
    grpc: GrpcServer
    listener: Listener
    urls: list[Url]
    log: Lines = field(default_factory=Lines)

    @property
    def port(self) -> int:
        return int(self.urls[0].port)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=WAIT_SECONDS)

    def talk(self, data: bytes) -> bytes:
        """Send bytes, close our side, and return everything until the server closes."""
        with self.connect() as client:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            return read_all(client)

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Let the loop turn until something holds of the server."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not self.thread.call(condition):
            assert time.monotonic() < deadline, "it never came to be"


def read_all(client: socket.socket) -> bytes:
    """Read until the server closes; a reset counts as the end."""
    out = b""
    while True:
        try:
            piece = client.recv(65536)
        except ConnectionResetError:
            return out
        if not piece:
            return out
        out += piece


def read_until(client: socket.socket, end: bytes) -> bytes:
    """Read until the bytes end so."""
    out = b""
    while not out.endswith(end):
        piece = client.recv(65536)
        assert piece, out
        out += piece
    return out


@contextmanager
def serving(
    setup: Callable[[HttpServer], None] = lambda http: None,
    *,
    url: str = "http://127.0.0.1:0",
    plain: bool = False,
    grpc: GrpcServer | None = None,
    gate: Callable[[HttpRequest], HttpResponse | None] | None = None,
    listener_options: dict[str, Any] | None = None,
    **http_options: Any,
) -> Iterator[Serving]:
    """Run a listener with the routes that ``setup`` registers."""
    log = Lines()
    logger = Logger([log], level=DEBUG)
    thread = LoopThread(plain=plain)
    try:
        http = HttpServer(logger, gate=gate, **http_options)
        setup(http)
        grpc_server = grpc or GrpcServer()
        listener = Listener(logger, http1=http, http2=grpc_server, **(listener_options or {}))

        def start() -> list[Url]:
            urls = listener.bind([parse_url(url)])
            listener.start()
            return urls

        urls = thread.call(start)
        try:
            yield Serving(thread, http, grpc_server, listener, urls, log)
        finally:
            thread.run(listener.shutdown(0.2))
    finally:
        thread.stop()
