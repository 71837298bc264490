"""The HTTP client for other members, against our server and against sockets that answer as they like."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from kvorum import limits
from kvorum.logging import Logger
from kvorum.peer.client import PeerClient
from kvorum.peer.connection import PeerConnectionError
from kvorum.rpc.grpc import GrpcOptions, GrpcServer
from kvorum.rpc.http1 import HttpServer
from kvorum.rpc.http1_types import HttpRequest, HttpResponse
from kvorum.rpc.listener import Listener
from kvorum.urls import Url, parse_url
from tests.peer.test_hostile import peer_that, saying
from tests.peer.test_transport import Run, run

__all__ = ["run"]


def echo(request: HttpRequest) -> HttpResponse:
    """What was asked, in few words."""
    said = f"{request.method} {request.target.decode()} {request.header('x-more')} ".encode()
    return HttpResponse(200, said + request.body)


async def endless() -> AsyncIterator[bytes]:
    while True:
        yield bytes(100_000)


async def counted(pieces: int) -> AsyncIterator[bytes]:
    for n in range(pieces):
        yield b"%d," % n


@asynccontextmanager
async def serving(url: str = "http://127.0.0.1:0") -> AsyncIterator[tuple[Url, HttpServer]]:
    """Our server, with a few routes."""
    log = Logger([])
    http = HttpServer(log)
    http.route(("GET", "POST"), "/echo", echo)
    http.route("GET", "/endless", lambda _: HttpResponse(200, endless()))
    http.route("GET", "/counted", lambda _: HttpResponse(200, counted(1000)))
    http.route("GET", "/never", lambda _: None)
    http.route(
        "POST", "/refused", lambda _: HttpResponse(403, b"no"), stream_body=True, max_body_bytes=1 << 40
    )
    listener = Listener(log, http1=http, http2=GrpcServer(GrpcOptions()))
    bound = listener.bind([parse_url(url)])[0]
    listener.start()
    try:
        yield bound, http
    finally:
        await listener.shutdown(0.1)


@asynccontextmanager
async def asking(**options: bool | float) -> AsyncIterator[PeerClient]:
    client = PeerClient(**options)  # type: ignore[arg-type]
    try:
        yield client
    finally:
        client.close()
        await client.wait_closed()


def test_requests_of_every_kind(run: Run) -> None:
    async def talk() -> None:
        async with serving() as (url, http), asking() as client:
            answer = await client.get(url, "/echo?a=1", headers=(("X-More", "m"),))
            assert (answer.status, answer.body) == (200, b"GET /echo?a=1 m ")
            assert answer.header("Content-Type") == "text/plain; charset=utf-8"
            assert answer.header("none") == ""
            answer = await client.post(str(url), "/echo", b"body")
            assert answer.body == b"POST /echo None body"
            answer = await client.post(url, "/echo", counted(3))
            assert answer.body == b"POST /echo None 0,1,2,"
            answer = await client.request("POST", url, "/echo", body=counted(3), size=6)
            assert answer.body == b"POST /echo None 0,1,2,"
            assert (await client.get(url, "/none")).status == 404
            assert len(http.connections) == 3  # one for all, and one for each body in pieces

    run(talk())


def test_without_keep_alive_each_request_has_its_connection(run: Run) -> None:
    async def talk() -> None:
        async with serving() as (url, http), asking(keep_alive=False) as client:
            await client.get(url, "/echo")
            await client.get(url, "/echo")
            assert not client._open
            del http

    run(talk())


def test_a_connection_that_the_peer_has_closed_is_replaced(run: Run) -> None:
    async def talk() -> None:
        async with serving() as (url, http), asking() as client:
            await client.get(url, "/echo")
            for connection in list(http.connections):
                connection.abort()
            assert (await client.get(url, "/echo")).status == 200
            await client.get(url, "/echo")
            for connection in list(http.connections):
                connection.abort()
            await asyncio.sleep(0)
            assert (await client.post(url, "/echo", b"x")).status == 200
            for connection in list(http.connections):
                connection.abort()
            assert (await client.post(url, "/echo", counted(2))).body == b"POST /echo None 0,1,"

    run(talk())


def test_idle_connections_are_few_and_expire(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PEER_IDLE_SECONDS", 0.05)

    async def talk() -> None:
        async with serving() as (url, http), asking() as client:
            await asyncio.gather(*(client.get(url, "/echo") for _ in range(20)))
            assert len(client._open) == limits.PEER_IDLE_CONNECTIONS
            async with asyncio.timeout(10):
                await http._empty.wait()
            assert not client._open

    run(talk())


def test_pieces_are_read_as_they_come(run: Run) -> None:
    async def talk() -> None:
        async with serving() as (url, _), asking() as client:
            async with await client.open("GET", url, "/counted") as response:
                whole = await response.read_all(1 << 20)
            assert whole == b"".join(b"%d," % n for n in range(1000))
            async with await client.open("GET", url, "/endless") as response:
                size = 0
                while size < 20_000_000:
                    size += len(await response.read())
                # an idle reader costs a bounded buffer
                await asyncio.sleep(0.05)
                assert response._size < limits.PEER_STREAM_BUFFER_BYTES + 1_000_000
            assert (await client.get(url, "/echo")).status == 200

    run(talk())


def test_an_answer_that_is_too_long(run: Run) -> None:
    async def talk() -> None:
        async with serving() as (url, _), asking() as client:
            with pytest.raises(OSError, match="longer than 1000 bytes"):
                await client.request("GET", url, "/counted", max_bytes=1000)

    run(talk())


def test_an_answer_that_does_not_come(run: Run) -> None:
    async def talk() -> None:
        async with serving() as (url, http), asking() as client:
            with pytest.raises(OSError, match="context deadline exceeded"):
                await client.get(url, "/never", timeout_seconds=0.05)
            assert not client._open
            del http

    run(talk())


def test_a_refusal_before_the_end_of_an_upload(run: Run) -> None:
    async def talk() -> None:
        async with serving() as (url, _), asking() as client:
            answer = await client.request("POST", url, "/refused", body=endless(), size=1 << 39)
            assert (answer.status, answer.body) == (403, b"no")
            assert not client._open

    run(talk())


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"", "EOF"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort", "EOF"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", "EOF"),
        (b"SSH-2.0\r\n\r\n", "malformed HTTP response"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n", "malformed HTTP response"),
    ],
)
def test_answers_that_are_none(run: Run, answer: bytes, told: str) -> None:
    async def talk() -> None:
        async with peer_that(saying(answer)) as (url, _), asking() as client:
            with pytest.raises(PeerConnectionError, match=told):
                await client.get(url, "/")

    run(talk())


def test_an_answer_that_ends_with_the_connection(run: Run) -> None:
    async def talk() -> None:
        async with peer_that(saying(b"HTTP/1.0 200 OK\r\n\r\nto the end")) as (url, _), asking() as client:
            assert (await client.get(url, "/")).body == b"to the end"

    run(talk())


def test_two_answers_to_one_request(run: Run) -> None:
    async def talk() -> None:
        two = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" * 2
        async with peer_that(saying(two)) as (url, _), asking() as client:
            assert (await client.get(url, "/")).body == b"ok"
            assert (await client.get(url, "/")).body == b"ok"  # not the one that nobody asked for

    run(talk())


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://127.0.0.1:1", "dial tcp 127.0.0.1:1: connect: connection refused"),
        ("https://127.0.0.1:1", "no TLS configuration"),
        ("http://127.0.0.1:99999", "dial tcp 127.0.0.1:99999"),
        ("http://no-such-host.invalid:1", "dial tcp no-such-host.invalid:1"),
    ],
)
def test_where_nobody_is(run: Run, url: str, told: str) -> None:
    async def talk() -> None:
        async with asking() as client:
            with pytest.raises(OSError, match=told):
                await client.get(url, "/")

    run(talk())


def test_unix_sockets(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    async def talk() -> None:
        async with serving("unix://sock:1") as (url, _), asking() as client:
            assert (await client.get(url, "/echo")).status == 200

    run(talk())


def test_a_line_end_in_a_header_is_our_mistake() -> None:
    async def talk() -> None:
        async with serving() as (url, _), asking() as client:
            with pytest.raises(AssertionError):
                await client.get(url, "/echo", headers=(("X", "a\r\nY: b"),))

    asyncio.run(talk())
