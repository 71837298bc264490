"""A web server that answers what it is told to, in order, and an HTTP proxy; both note what they hear."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

PHRASE = {200: "OK", 201: "Created", 307: "Temporary Redirect", 404: "Not Found", 503: "Service Unavailable"}


@dataclass(frozen=True)
class Reply:
    """What is answered; ``status`` 0 closes the connection instead."""

    body: str = ""
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    chunked: bool = False

    def wire(self) -> bytes:
        lines = [f"HTTP/1.1 {self.status} {PHRASE.get(self.status, 'Error')}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        body = self.body.encode()
        if self.chunked:
            lines.append("Transfer-Encoding: chunked")
            body = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
        else:
            lines.append(f"Content-Length: {len(body)}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


@dataclass
class Asked:
    """One request."""

    line: str
    headers: dict[str, str]
    body: str


@dataclass
class Web:
    """What was asked, and where."""

    url: str
    asked: list[Asked] = field(default_factory=list)

    @property
    def lines(self) -> list[str]:
        return [item.line.removesuffix(" HTTP/1.1") for item in self.asked]


async def _request(reader: asyncio.StreamReader) -> Asked:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:-2])}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Asked(head[0], headers, body.decode())


@asynccontextmanager
async def serving(replies: Sequence[Reply], tls: ssl.SSLContext | None = None) -> AsyncIterator[Web]:
    """Answer one request per connection; fails if not all replies were wanted."""
    left = list(replies)
    web = Web("")

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        web.asked.append(await _request(reader))
        reply = left.pop(0)
        if reply.status:
            writer.write(reply.wire())
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=tls)
    web.url = f"{'http' if tls is None else 'https'}://localhost:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield web
    assert not left, left


@asynccontextmanager
async def proxying() -> AsyncIterator[Web]:
    """An HTTP proxy for whole URLs and tunnels."""
    web = Web("")
    pumps: set[asyncio.Task[None]] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await _request(reader)
        web.asked.append(asked)
        method, target, _ = asked.line.split()
        address = target if method == "CONNECT" else target.split("/")[2]
        host, _, port = address.partition(":")
        there, to_there = await asyncio.open_connection(host, int(port))
        if method == "CONNECT":
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            path = "/" + "/".join(target.split("/")[3:])
            to_there.write(f"{method} {path} HTTP/1.1\r\nHost: {asked.headers['host']}\r\n\r\n".encode())
        pumps.update(asyncio.create_task(part) for part in (pump(reader, to_there), pump(there, writer)))

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    web.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield web
        await asyncio.gather(*pumps, return_exceptions=True)
