"""Peers that do not do what peers do: what they send costs a dial, a line in the log, and nothing else."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, TypeAlias

import pytest

from kvorum import limits
from kvorum.peer.codec import frame
from kvorum.raft.types import MSG_VOTE, Message
from tests.peer.station import Station
from tests.peer.test_transport import A, B, Run, run, vote

__all__ = ["run"]

Talk: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
STREAM: Final = b"HTTP/1.1 200 OK\r\nX-Server-Version: 3.5.1\r\nTransfer-Encoding: chunked\r\n\r\n"


@asynccontextmanager
async def peer_that(talk: Talk) -> AsyncIterator[tuple[str, list[str]]]:
    """A listener of its own making; gives its URL, and the request lines that came."""
    lines: list[str] = []
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            lines.append((await reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")[0].decode())
            await talk(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            tasks.discard(task)
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", lines
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def saying(answer: bytes) -> Talk:
    """Answer every request with these bytes and close."""

    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()

    return talk


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"", "EOF"),
        (b"garbage\r\n\r\n", "malformed HTTP response"),
        (b"HTTP/1.1 200 OK\r\n", "EOF"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "peer b failed to find local node a"),
        (b"HTTP/1.1 418 Teapot\r\nContent-Length: 0\r\n\r\n", "unhandled http status 418"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "unsupported stream type"),
        (STREAM.replace(b"3.5.1", b"x"), "x is not in dotted-tri format"),
        (STREAM.replace(b"200 OK", b"101 Switching Protocols\r\nUpgrade: x"), "malformed HTTP response"),
        (b"HTTP/1.1 412 Precondition Failed\r\nContent-Length: 4\r\n\r\nwhat", "unhandled error"),
        (b"HTTP/1.1 412 Precondition Failed\r\n\r\nincompatible version\n", "server version incompatibility"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000, "headers are too large"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 3, "EOF"),
        (STREAM + chunk(b"\x07"), "failed to parse type 7 in msgappv2 stream"),
        (STREAM + chunk(b"\x02" + b"\xff" * 8), "rafthttp: error limit exceeded"),
        (STREAM + chunk(b"\x02" + (3).to_bytes(8, "big") + b"\xff\xff\xff"), "not a Raft message"),
        (STREAM + b"zz\r\n", "malformed HTTP response"),
        (STREAM + chunk(b"\x00" * 100) + b"0\r\n\r\n", "EOF"),
    ],
)  # fmt: skip
def test_what_comes_instead_of_a_stream(run: Run, answer: bytes, told: str) -> None:
    async def talk() -> None:
        async with peer_that(saying(answer)) as (url, lines), Station(A) as a:
            a.transport.add_peer(B, [url])
            await a.until(lambda: bool(a.logged(told)))
            # and it is dialled again
            await a.until(lambda: sum("msgapp" in line for line in lines) > 1)
            assert not a.received
            assert not a.logged("peer task failed")

    run(talk())


def test_a_peer_that_never_answers(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PEER_READ_SECONDS", 0.05)

    async def wait(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async def talk() -> None:
        async with peer_that(wait) as (url, lines), Station(A) as a:
            a.transport.add_peer(B, [url])
            await a.until(lambda: bool(a.logged("on stream Message (i/o timeout)")))
            await a.until(lambda: sum("message" in line for line in lines) > 1)

    run(talk())


def test_messages_before_the_fault_count(run: Run) -> None:
    async def talk() -> None:
        good = frame(vote(A, B))
        answer = STREAM + chunk(good + good[:9]) + chunk(good[9:] + b"\xff" * 8)
        async with peer_that(saying(answer)) as (url, _), Station(A) as a:
            a.transport.add_peer(B, [url])
            await a.until(lambda: bool(a.logged("error limit exceeded")))
            # a stream's whole messages up to what was read at once with the fault are Raft's
            assert all(message == vote(A, B) for message in a.received)

    run(talk())


def test_a_flood_of_names_makes_few_labels(run: Run) -> None:
    async def talk() -> None:
        async with Station(A) as a, Station(B) as b:
            for sender in range(1, limits.PEER_LABELS + 20):
                body = frame(Message(MSG_VOTE, to=A, from_=sender, term=1))[8:]
                answer = await b.transport.client.post(
                    a.url, "/raft", body, headers=b.transport.identity.headers
                )
                assert answer.status == 204
            assert len(a.transport.figures.received_bytes) == limits.PEER_LABELS + 1

    run(talk())
