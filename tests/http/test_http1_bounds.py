"""What a hostile or broken client may cost: every wait and size ends, and others are served meanwhile."""

import asyncio
import http.client
import random
import socket
from collections.abc import AsyncIterator, Iterator

import pytest

from kvorum.rpc.http1 import HttpServer
from kvorum.rpc.http1_types import HttpRequest, HttpResponse
from tests.http.serving import HOST, Serving, read_all, serving

PAGE = b"p" * 100_000


class Handlers:
    """Routes whose progress a test can watch. Everything runs on the server's loop."""

    def __init__(self) -> None:
        self.started = 0
        self.cancelled = 0
        self.closed_streams = 0
        self.sent = 0

    async def forever(self, request: HttpRequest) -> HttpResponse:
        self.started += 1
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return HttpResponse()

    def never(self, request: HttpRequest) -> None:
        self.started += 1

        def on_cancel() -> None:
            self.cancelled += 1

        request.on_cancel = on_cancel

    def endless(self, request: HttpRequest) -> HttpResponse:
        async def stream() -> AsyncIterator[bytes]:
            try:
                while True:
                    self.sent += 1
                    yield PAGE
            finally:
                self.closed_streams += 1

        return HttpResponse(200, stream())

    def install(self, http: HttpServer) -> None:
        http.route("GET", "/ok", lambda request: HttpResponse(200, b"ok"))
        http.route("GET", "/page", lambda request: HttpResponse(200, PAGE))
        http.route("POST", "/body", lambda request: HttpResponse(200, b"%d" % len(request.body)))
        http.route("POST", "/small", lambda request: HttpResponse(), max_body_bytes=10)
        http.route("POST", "/pieces", self.forever, max_body_bytes=10, stream_body=True)
        http.route("GET", "/forever", self.forever)
        http.route("GET", "/poll", self.forever, long_poll=True)
        http.route("GET", "/never", self.never, long_poll=True)
        http.route("GET", "/endless", self.endless)


@pytest.fixture
def handlers() -> Handlers:
    return Handlers()


@pytest.fixture
def server(handlers: Handlers) -> Iterator[Serving]:
    with serving(
        handlers.install,
        header_bytes=4096,
        buffered_bytes=1_000_000,
        unfinished_requests=8,
        request_seconds=0.3,
        idle_seconds=0.3,
        stall_seconds=0.3,
        linger_seconds=0.2,
    ) as running:
        yield running


def assert_serves(server: Serving) -> None:
    client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    client.request("GET", "/ok")
    assert client.getresponse().read() == b"ok"
    client.close()


@pytest.mark.parametrize(
    "start",
    [
        b"G",
        b"GET /ok HTTP/1.1\r\n",
        b"GET /ok HTTP/1.1\r\nHost: x\r\nX: y",
        b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab",
        b"POST /pieces HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab",
        b"POST /body HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        b"\r\n\r\n",
    ],
)
def test_half_a_request_is_given_up(server: Serving, start: bytes) -> None:
    with server.connect() as client:
        client.sendall(start)
        assert_serves(server)
        assert read_all(client) == b""


def test_an_idle_connection_is_closed(server: Serving) -> None:
    with server.connect() as client:
        client.sendall(b"GET /ok HTTP/1.1\r\n" + HOST + b"\r\n")
        assert read_all(client).endswith(b"ok")


@pytest.mark.parametrize(
    "head",
    [
        b"GET /ok HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 200_000,
        b"GET /ok HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 2000,
        b"GET /" + b"a" * 200_000,
    ],
)
@pytest.mark.parametrize("piece", [1 << 20, 1000])
def test_a_head_that_is_too_large(server: Serving, head: bytes, piece: int) -> None:
    with server.connect() as client:
        try:
            for at in range(0, len(head), piece):
                client.sendall(head[at : at + piece])
        except (ConnectionResetError, BrokenPipeError):
            pass
        assert read_all(client).startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")
    assert_serves(server)


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"POST /small HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\n",
        b"POST /small HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nb\r\nabcdefghijk\r\n",
        b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n",
        b"POST /nope HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n" + b"x" * 5_000_000,
    ],
)
def test_a_body_that_is_too_large(server: Serving, request_bytes: bytes) -> None:
    with server.connect() as client:
        try:
            client.sendall(request_bytes)
        except (ConnectionResetError, BrokenPipeError):
            pass
        assert read_all(client).startswith(b"HTTP/1.1 413 ")
    assert_serves(server)


def test_a_streamed_body_that_is_too_large_ends_the_connection(server: Serving) -> None:
    with server.connect() as client:
        client.sendall(
            b"POST /pieces HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nb\r\nabcdefghijk\r\n"
        )
        assert b"200" not in read_all(client)
    assert_serves(server)


def test_unfinished_requests_are_bounded_and_the_oldest_pays(server: Serving) -> None:
    clients = [server.connect() for _ in range(8)]
    for number, client in enumerate(clients):
        client.sendall(b"GET /ok HTTP/1.1\r\nX: ")
        server.wait_until(lambda wanted=number + 1: len(server.http.unfinished) == wanted)  # type: ignore[misc]
    with server.connect() as one_more:
        one_more.sendall(b"GET /ok HTTP/1.1\r\nX: ")
        assert read_all(clients[0]) == b""
        clients[-1].sendall(b"y\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert read_all(clients[-1]).endswith(b"ok")
    for client in clients:
        client.close()


def test_unfinished_bodies_are_bounded_together(server: Serving) -> None:
    clients = [server.connect() for _ in range(4)]
    for client in clients:
        try:
            client.sendall(
                b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n\r\n" + b"x" * 400_000
            )
        except (ConnectionResetError, BrokenPipeError):
            pass
    assert read_all(clients[0]) == b""
    for client in clients:
        client.close()
    server.wait_until(lambda: not server.http.connections)
    assert server.http.buffered_bytes == 0


def test_garbage_of_every_kind(server: Serving) -> None:
    chance = random.Random(7)
    for _ in range(150):
        data = chance.randbytes(chance.randrange(1, 400))
        if chance.random() < 0.5:
            data = b"GET /ok HTTP/1.1\r\nHost: x\r\n" + data + b"\r\n\r\n"
        assert b" 500 " not in server.talk(data)
    assert_serves(server)
    assert "connection failed" not in server.log.text()


def test_a_client_that_does_not_read_stops_our_work(server: Serving) -> None:
    request = b"GET /page HTTP/1.1\r\n" + HOST + b"\r\n"
    with server.connect() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(5)
        try:
            client.sendall(request * 5000)  # half a gigabyte of answers
        except (TimeoutError, ConnectionResetError, BrokenPipeError):
            pass
        buffered = server.thread.call(lambda: max((c._unsent() for c in server.http.connections), default=0))
        assert buffered < 2_000_000
        assert_serves(server)
        server.wait_until(lambda: not server.http.connections)  # and it is given up in the end


def test_a_stream_goes_no_faster_than_its_reader(server: Serving, handlers: Handlers) -> None:
    with server.connect() as client:
        client.sendall(b"GET /endless HTTP/1.1\r\n" + HOST + b"\r\n")
        for _ in range(20):
            assert client.recv(65536)
        assert_serves(server)
    server.wait_until(lambda: handlers.closed_streams == 1)
    assert handlers.sent < 200


@pytest.mark.parametrize("path", [b"/forever", b"/poll", b"/never"])
def test_a_reset_cancels_the_handler(server: Serving, handlers: Handlers, path: bytes) -> None:
    client = server.connect()
    client.sendall(b"GET %b HTTP/1.1\r\n%b\r\n" % (path, HOST))
    server.wait_until(lambda: handlers.started == 1)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    client.close()
    server.wait_until(lambda: handlers.cancelled == 1)
    server.wait_until(lambda: not server.http.connections)


@pytest.mark.parametrize("path", [b"/poll", b"/never"])
def test_a_long_poll_ends_when_its_client_closes(server: Serving, handlers: Handlers, path: bytes) -> None:
    client = server.connect()
    client.sendall(b"GET %b HTTP/1.1\r\n%b\r\n" % (path, HOST))
    server.wait_until(lambda: handlers.started == 1)
    client.close()
    server.wait_until(lambda: handlers.cancelled == 1)


def test_a_long_poll_outlives_every_timeout(server: Serving, handlers: Handlers) -> None:
    with server.connect() as client:
        client.sendall(b"GET /poll HTTP/1.1\r\n" + HOST + b"\r\n")
        server.wait_until(lambda: handlers.started == 1)
        with server.connect() as idle:  # its own timeouts pass meanwhile, all of them
            idle.sendall(b"GET /ok HTTP/1.1\r\n" + HOST + b"\r\n")
            read_all(idle)
        assert handlers.cancelled == 0


def test_shutdown_lets_answers_finish_and_ends_long_polls(handlers: Handlers) -> None:
    release = asyncio.Event()

    async def held(request: HttpRequest) -> HttpResponse:
        handlers.started += 1
        await release.wait()
        return HttpResponse(200, b"held")

    def setup(http: HttpServer) -> None:
        handlers.install(http)
        http.route("GET", "/held", held)

    with (
        serving(setup) as server,
        server.connect() as working,
        server.connect() as polling,
        server.connect() as idle,
    ):
        idle.sendall(b"GET /ok HTTP/1.1\r\n" + HOST + b"\r\n")
        working.sendall(b"GET /held HTTP/1.1\r\n" + HOST + b"\r\n")
        polling.sendall(b"GET /poll HTTP/1.1\r\n" + HOST + b"\r\n")
        server.wait_until(lambda: handlers.started == 2 and len(server.http.connections) == 3)

        async def shut_down() -> None:
            stopping = asyncio.ensure_future(server.listener.shutdown(10))
            await asyncio.sleep(0)
            asyncio.get_running_loop().call_later(0.05, release.set)
            await stopping

        server.thread.run(shut_down())
        assert handlers.cancelled == 1
        assert read_all(polling) == b""
        assert read_all(idle).endswith(b"ok")
        answer = read_all(working)
        assert answer.endswith(b"held")
        assert b"Connection: close\r\n" in answer
        with pytest.raises(ConnectionRefusedError):
            server.connect()
