"""`PeerClient`: HTTP/1.1 requests to other members, whole or as streams.

``request`` waits for the whole answer, bounded in time and size; ``open`` gives the answer as soon as its
headers are there; its body is read piece by piece (`Response.read`) or goes to a sink as it comes
(`Response.into`, for streams of messages). A request's body is bytes, or pieces with or without a known
size. With ``keep_alive`` a connection that is done waits for the next request to the same address; should the
peer have closed it meanwhile, the request is sent once more on a new one, which is safe as none of the peers'
requests does harm when repeated.
"""

import asyncio
import errno
import os
import ssl
from collections import deque
from collections.abc import AsyncIterator
from typing import Final, TypeAlias, final

from kvorum import limits
from kvorum.peer.connection import (
    ClientConnection,
    Headers,
    PeerConnectionError,
    ResponseHead,
    Sink,
)
from kvorum.tls.dial import ClientTls, Dialling, HandshakeError
from kvorum.urls import Url, parse_url

Body: TypeAlias = bytes | AsyncIterator[bytes]


@final
class ClientResponse:
    """A whole answer."""

    __slots__ = ("body", "head")

    def __init__(self, head: ResponseHead, body: bytes) -> None:
        self.head: Final = head
        self.body: Final = body

    @property
    def status(self) -> int:
        """The status code."""
        return self.head.status

    def header(self, name: str) -> str:
        """The first value of a header, empty without one."""
        return self.head.header(name)


@final
class Response:
    """An answer whose body is still coming. Must be closed (``async with`` does)."""

    def __init__(self, client: "PeerClient", key: Url, connection: ClientConnection) -> None:
        self._client: Final = client
        self._key: Final = key
        self.connection: Final = connection
        self.head = ResponseHead(0, ())
        self.ended: Final[asyncio.Future[BaseException | None]] = asyncio.get_running_loop().create_future()
        """Resolved when the body is complete (None) or will not be (why)."""
        self._pieces: Final[deque[bytes]] = deque()
        self._size = 0
        self._sink: Sink | None = None
        self._arrived: asyncio.Future[None] | None = None

    async def __aenter__(self) -> "Response":
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    @property
    def status(self) -> int:
        """The status code."""
        return self.head.status

    def header(self, name: str) -> str:
        """The first value of a header, empty without one."""
        return self.head.header(name)

    async def read(self) -> bytes:
        """Next piece of the body, empty at its end. Raises OSError if the rest does not come."""
        while not self._pieces:
            if self.ended.done():
                error = self.ended.result()
                if error is not None:
                    raise PeerConnectionError(str(error)) from error
                return b""
            self._arrived = asyncio.get_running_loop().create_future()
            await self._arrived
        piece = self._pieces.popleft()
        if self._size > limits.PEER_STREAM_BUFFER_BYTES >= self._size - len(piece):
            self.connection.resume()
        self._size -= len(piece)
        return piece

    async def read_all(self, max_bytes: int) -> bytes:
        """The rest of the body. Raises OSError if it does not come or is longer than ``max_bytes``."""
        pieces: list[bytes] = []
        size = 0
        while piece := await self.read():
            size += len(piece)
            if size > max_bytes:
                raise PeerConnectionError(f"response body is longer than {max_bytes} bytes")
            pieces.append(piece)
        return b"".join(pieces)

    def into(self, sink: Sink) -> None:
        """Give what has come of the body to ``sink``, and what comes from now on, within the loop's callback.

        If the sink raises, the connection is dropped and the error told by ``ended``.
        """
        self._sink = sink
        if self._size > limits.PEER_STREAM_BUFFER_BYTES:
            self.connection.resume()
        while self._pieces:
            try:
                sink(self._pieces.popleft())
            except Exception as error:
                self.connection.fail(error)

    def close(self) -> None:
        """Keep the connection for the next request if it is clean, drop it if not."""
        self._client.release(self._key, self.connection)

    def take(self, piece: bytes) -> None:
        """Take a piece from the connection."""
        if self._sink is not None:
            self._sink(piece)
            return
        self._pieces.append(piece)
        before = self._size
        self._size += len(piece)
        if self._size > limits.PEER_STREAM_BUFFER_BYTES >= before:
            self.connection.pause()
        self._wake()

    def end(self, error: BaseException | None) -> None:
        """The body is complete, or lost."""
        if not self.ended.done():
            self.ended.set_result(error)
        self._wake()

    def _wake(self) -> None:
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(None)


@final
class PeerClient:
    """Connections to other members.

    Args:
        tls: for ``https`` and ``unixs`` URLs.
        keep_alive: whether connections wait for the next request.
        connect_seconds: longest wait for a connection, TLS included.
    """

    def __init__(
        self,
        *,
        tls: ClientTls | ssl.SSLContext | None = None,
        keep_alive: bool = True,
        connect_seconds: float = limits.PEER_CONNECT_SECONDS,
    ) -> None:
        self._tls: Final = ClientTls.of(tls) if isinstance(tls, ssl.SSLContext) else tls
        self._keep_alive: Final = keep_alive
        self._connect_seconds: Final = connect_seconds
        self._idle: Final[dict[Url, list[tuple[ClientConnection, asyncio.TimerHandle]]]] = {}
        self._open: Final[set[ClientConnection]] = set()
        """Connections whose exchange is under way, or that wait for the next one."""
        self._closing: Final[set[ClientConnection]] = set()
        """Connections that were given up and whose transports are not closed yet."""
        self._closed: Final = asyncio.Event()

    async def get(
        self, url: Url | str, path: str, *, headers: Headers = (), timeout_seconds: float = 5.0
    ) -> ClientResponse:
        """GET ``path`` at a member's URL; see `request`."""
        return await self.request("GET", url, path, headers=headers, timeout_seconds=timeout_seconds)

    async def post(
        self,
        url: Url | str,
        path: str,
        body: Body = b"",
        *,
        headers: Headers = (),
        timeout_seconds: float = 5.0,
    ) -> ClientResponse:
        """POST ``body`` to ``path`` at a member's URL; see `request`."""
        return await self.request(
            "POST", url, path, headers=headers, body=body, timeout_seconds=timeout_seconds
        )

    async def request(
        self,
        method: str,
        url: Url | str,
        path: str,
        *,
        headers: Headers = (),
        body: Body = b"",
        size: int | None = None,
        timeout_seconds: float = 5.0,
        max_bytes: int = limits.PEER_RESPONSE_BYTES,
    ) -> ClientResponse:
        """Send a request and wait for the whole answer.

        Args:
            method: the method.
            url: the member's URL: scheme and address.
            path: the path and query, escaped.
            headers: besides Host, Content-Length or Transfer-Encoding, and Connection.
            body: what to send.
            size: the bytes that pieces add up to; without it they are sent chunked.
            timeout_seconds: from now to the answer's end.
            max_bytes: longest answer taken.

        Raises:
            OSError: no connection, none in time, or no whole answer; the text is one line.
        """
        try:
            async with asyncio.timeout(timeout_seconds):
                async with await self.open(
                    method, url, path, headers=headers, body=body, size=size
                ) as response:
                    whole = await response.read_all(max_bytes)
                    return ClientResponse(response.head, whole)
        except TimeoutError as error:
            raise PeerConnectionError(f"{method} {url}{path}: context deadline exceeded") from error

    async def open(
        self,
        method: str,
        url: Url | str,
        path: str,
        *,
        headers: Headers = (),
        body: Body = b"",
        size: int | None = None,
        stall_seconds: float = limits.PEER_SNAPSHOT_STALL_SECONDS,
        answer_seconds: float | None = None,
    ) -> Response:
        """Send a request and wait for the answer's headers; the body follows.

        Args:
            method, url, path, headers, body, size: as for `request`.
            stall_seconds: longest wait for the peer to take more of a body.
            answer_seconds: longest wait from a body's last byte to the answer's headers; None leaves that to
                the caller.

        Raises:
            OSError: as for `request`.
        """
        key = parse_url(url) if isinstance(url, str) else url
        while True:
            connection, is_fresh = await self._connection(key, reuse=isinstance(body, bytes))
            response = Response(self, key, connection)
            connection.begin(response.take, response.end)
            try:
                connection.write(_request_head(method, key, path, headers, body, size))
                await _send(connection, body, size, stall_seconds)
                async with asyncio.timeout(answer_seconds):
                    response.head = await connection.head()
            except OSError:
                self._drop(connection)
                if is_fresh or connection.answered:
                    raise
            except BaseException:
                self._drop(connection)
                raise
            else:
                return response

    def release(self, key: Url, connection: ClientConnection) -> None:
        """Take back a connection whose exchange is over, or is not wanted any more."""
        idle = self._idle.setdefault(key, [])
        if self._keep_alive and connection.usable and len(idle) < limits.PEER_IDLE_CONNECTIONS:
            loop = asyncio.get_running_loop()
            timer = loop.call_later(limits.PEER_IDLE_SECONDS, self._expire, key, connection)
            idle.append((connection, timer))
        else:
            self._drop(connection)

    def close(self) -> None:
        """Drop every connection; exchanges under way fail."""
        for waiting in self._idle.values():
            for _, timer in waiting:
                timer.cancel()
        self._idle.clear()
        for connection in list(self._open):
            self._drop(connection)

    async def wait_closed(self) -> None:
        """Wait, after ``close``, until the transports are closed as well."""
        try:
            async with asyncio.timeout(limits.PEER_CLOSE_SECONDS):
                while self._closing:
                    self._closed.clear()
                    await self._closed.wait()
        except TimeoutError:
            pass  # what is aborted closes in the next turn; should a transport not, nobody waits for it

    # --- within -------------------------------------------------------------------------------------------

    async def _connection(self, key: Url, *, reuse: bool) -> tuple[ClientConnection, bool]:
        """An idle connection, or a new one; and whether it is new. Pieces can be sent only once, so they get
        a new one.
        """
        idle = self._idle.get(key) if reuse else None
        while idle:
            connection, timer = idle.pop()
            timer.cancel()
            if connection.usable:
                return connection, False
            self._drop(connection)
        return await self._connect(key), True

    async def _connect(self, key: Url) -> ClientConnection:
        try:
            async with asyncio.timeout(self._connect_seconds):
                connection = await self._dial(key)
        except TimeoutError as error:
            raise PeerConnectionError(f"dial tcp {key.address}: i/o timeout") from error
        except (
            ValueError,
            OverflowError,
        ) as error:  # a host name that no resolver takes, a port out of range
            raise PeerConnectionError(f"dial tcp {key.address}: {error}") from error
        except HandshakeError as error:
            raise PeerConnectionError(str(error)) from error
        except OSError as error:
            raise PeerConnectionError(f"dial tcp {key.address}: {_reason(error)}") from error
        if connection.failure is None:
            self._open.add(connection)
        return connection

    async def _dial(self, key: Url) -> ClientConnection:
        """Connect, with a handshake where the scheme asks for one."""
        loop = asyncio.get_running_loop()
        host = key.host or "localhost"
        connection = ClientConnection(loop, self._lost)
        dialling: Dialling | None = None
        if key.secure:
            if self._tls is None:
                raise HandshakeError(f"dial {key}: no TLS configuration")
            dialling = await self._tls.dialling(host)
        first: asyncio.Protocol = dialling or connection
        if key.is_unix:
            await loop.create_unix_connection(lambda: first, key.address)
        else:
            await loop.create_connection(lambda: first, host, int(key.port or 80))
        if dialling is not None:
            await dialling.secured(connection)
        return connection

    def _expire(self, key: Url, connection: ClientConnection) -> None:
        waiting = self._idle.get(key, [])
        self._idle[key] = [pair for pair in waiting if pair[0] is not connection]
        self._drop(connection)

    def _drop(self, connection: ClientConnection) -> None:
        if connection in self._open:
            self._open.discard(connection)
            self._closing.add(connection)
        connection.fail(PeerConnectionError("connection closed"))

    def _lost(self, connection: ClientConnection) -> None:
        self._open.discard(connection)
        self._closing.discard(connection)
        self._closed.set()


def _request_head(method: str, url: Url, path: str, headers: Headers, body: Body, size: int | None) -> bytes:
    host = "localhost" if url.is_unix else url.address
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}"]
    lines += [f"{name}: {value}" for name, value in headers]
    if not isinstance(body, bytes) and size is None:
        lines.append("Transfer-Encoding: chunked")
    elif not isinstance(body, bytes) or body or method != "GET":
        lines.append(f"Content-Length: {len(body) if isinstance(body, bytes) else size}")
    assert not any("\r" in line or "\n" in line for line in lines), "a header is one line"
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _reason(error: OSError) -> str:
    """Why a connection could not be had, as Go says it where the kernel refused."""
    if error.errno is not None and error.errno in errno.errorcode:
        return f"connect: {os.strerror(error.errno).lower()}"
    return error.strerror or str(error)


async def _send(connection: ClientConnection, body: Body, size: int | None, stall_seconds: float) -> None:
    """Send a body, no faster than the peer reads. Raises OSError."""
    if isinstance(body, bytes):
        connection.write(body)
        return
    sent = 0
    async for piece in body:
        if connection.answered:
            connection.spoiled = True
            return  # refused before it was whole: what the answer says counts
        sent += len(piece)
        if piece:
            connection.write(piece if size is not None else b"%x\r\n%b\r\n" % (len(piece), piece))
            await connection.drain(stall_seconds)
    if size is None:
        connection.write(b"0\r\n\r\n")
    elif sent != size:
        raise PeerConnectionError(f"http: ContentLength={size} with Body length {sent}")
