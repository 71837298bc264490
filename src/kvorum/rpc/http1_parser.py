"""From bytes to requests: one connection's reading half (RFC 9112 sections 2 to 7; parsed by ``httptools``).

`RequestParser` is told of bytes and tells its owner of requests, as soon as they are complete or, where a
route streams bodies, as soon as their headers are. What it finds wrong becomes a *refusal*: a last answer
in the queue, after which it takes nothing more. It owns every bound on what a client may send.
"""

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol, final

import httptools

from kvorum import limits
from kvorum.rpc import http1_wire as wire
from kvorum.rpc.http1_router import Route
from kvorum.rpc.http1_types import Exchange, HttpRequest, HttpResponse

if TYPE_CHECKING:
    from kvorum.rpc.http1 import HttpServer

_UPGRADE_HEADERS: Final = frozenset((b"upgrade", b"connection", b"http2-settings"))


class Owner(Exchange, Protocol):
    """The connection as its parser sees it."""

    def expect_bytes(self) -> None:
        """A request has begun, or a piece of a streamed body has come: the rest is due."""

    def expect_nothing(self) -> None:
        """The last byte of a request has come."""

    def enqueue(self, request: HttpRequest) -> None:
        """A request is to be answered in its turn."""

    def invite_body(self) -> bool:
        """Send 100 Continue, unless an earlier answer has to go first; returns whether it was sent."""

    def parser_failed(self, error: BaseException) -> None:
        """A mistake of ours, not the client's."""


class _RefusedError(Exception):
    """Raised inside a callback to stop ``httptools``; the refusal is already queued."""


@final
class RequestParser:
    """The state of reading: the request whose bytes are coming, if any.

    ``refused`` is final: what comes afterwards is dropped. ``request`` is None between requests.
    """

    __slots__ = (
        "_body_bytes",
        "_buffered",
        "_head_bytes",
        "_host_headers",
        "_in_head",
        "_owner",
        "_parser",
        "_reader",
        "_server",
        "_upgrading",
        "refused",
        "request",
    )

    def __init__(self, server: "HttpServer", owner: Owner) -> None:
        self._server: Final = server
        self._owner: Final = owner
        self._parser = httptools.HttpRequestParser(self)
        self.request: HttpRequest | None = None
        self.refused = False
        self._reader: BodyReader | None = None
        self._in_head = False
        self._head_bytes = 0
        self._host_headers = 0
        self._body_bytes = 0
        self._buffered = 0
        self._upgrading = False

    # --- what the connection calls ------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Take bytes from the client."""
        if self.refused:
            return
        started_in_head = self._in_head
        self._feed(data)
        if started_in_head and self._in_head:
            # The parser keeps an unfinished header to itself, so it has not been counted by name and value.
            self._head_bytes += len(data)
            if self._head_bytes > self._server.header_bytes:
                self._refuse(wire.HEADERS_TOO_LARGE)

    def close(self) -> None:
        """No more bytes will come: whoever reads a streamed body learns it, what was kept is let go."""
        self._release_buffered()
        if self._reader is not None:
            self._reader.fail()

    @property
    def is_full(self) -> bool:
        """Whether the handler of a streamed body is behind."""
        return self._reader is not None and self._reader.is_full

    def invite(self) -> None:
        """The turn has come to the request being read: ask for its body if the client waits for that."""
        request = self.request
        if request is not None and request.expects_continue and not self._in_head:
            request.expects_continue = not self._owner.invite_body()

    # --- what httptools calls -------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Note a request's first byte."""
        self.request = HttpRequest(self._owner)
        self._in_head = True
        self._head_bytes = self._host_headers = self._body_bytes = 0
        self._owner.expect_bytes()

    def on_url(self, piece: bytes) -> None:
        """Note a piece of the target."""
        self._current().target += piece
        self._count_head(len(piece))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note a header; trailers are dropped."""
        if self._in_head:
            name = name.lower()
            self._current().headers.append((name, value))
            if name == b"host":
                self._host_headers += 1
            self._count_head(len(name) + len(value) + 4)

    def on_headers_complete(self) -> None:
        """Choose the handler before the body comes."""
        request, parser = self._current(), self._parser
        self._in_head = False
        request.method = parser.get_method().decode()
        request.version = parser.get_http_version()
        request.keep_alive = parser.should_keep_alive()
        if self._host_headers != 1 and request.version == "1.1":
            self._stop(wire.TOO_MANY_HOSTS if self._host_headers else wire.NO_HOST)
        self._choose(request)
        declared = self._check_body_headers(request)
        if declared and parser.should_upgrade():
            self._upgrading = True  # httptools would take the body for another protocol's bytes
            return
        route = request.route
        if isinstance(route, Route) and route.stream_body:
            self._reader = request.reader = BodyReader()
            if not declared:
                self._reader.end()
            self._owner.enqueue(request)
        elif request.expects_continue and declared:
            self._expect_body(request)

    def on_body(self, piece: bytes) -> None:
        """Keep a piece of the body, or hand it on."""
        request = self._current()
        self._body_bytes += len(piece)
        route = request.route
        bound = route.max_body_bytes if isinstance(route, Route) else limits.HTTP1_BODY_BYTES
        if self._body_bytes > bound:
            self._stop(wire.BODY_TOO_LARGE)
        if self._reader is not None:
            self._owner.expect_bytes()
            self._reader.feed(piece)
        elif request.early is None:
            request.pieces.append(piece)
            self._buffered += len(piece)
            self._server.buffered_bytes += len(piece)

    def on_message_complete(self) -> None:
        """Hand on a complete request."""
        if self._upgrading:
            return
        request = self._current()
        self.request = None
        self._owner.expect_nothing()
        if request.pieces:
            request.body = b"".join(request.pieces)
            request.pieces = []
            self._release_buffered()
        if self._reader is not None:
            self._reader.end()
            self._reader = None
        else:
            self._owner.enqueue(request)

    # --- within ---------------------------------------------------------------------------------------------

    def _current(self) -> HttpRequest:
        assert self.request is not None
        return self.request

    def _feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._decline_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserCallbackError as error:
            cause = error.__context__ or error
            if not isinstance(cause, _RefusedError):
                self.refused = True
                self._owner.parser_failed(cause)
        except httptools.HttpParserError as error:
            self._refuse(wire.refusal_for(error))

    def _decline_upgrade(self, rest: bytes) -> None:
        """Go on in HTTP/1.1 after a request that offered another protocol (curl --http2 does), as Go does."""
        request, upgrading = self.request, self._upgrading
        self._upgrading = False
        self._parser = httptools.HttpRequestParser(self)
        if upgrading and request is not None:
            kept = [pair for pair in request.headers if pair[0] not in _UPGRADE_HEADERS]
            head = b"%b %b HTTP/1.1\r\n" % (request.method.encode(), request.target)
            rest = b"".join((head, *(b"%b: %b\r\n" % pair for pair in kept), b"\r\n", rest))
        if rest:
            self._feed(rest)

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > self._server.header_bytes:
            self._stop(wire.HEADERS_TOO_LARGE)

    def _choose(self, request: HttpRequest) -> None:
        try:
            chosen = self._server.router.resolve(request)
        except ValueError:
            self._stop(wire.BAD_REQUEST)
            return
        gate = self._server.gate
        answer = gate(request) if gate is not None else None
        if answer is not None:
            request.early = answer
        elif isinstance(chosen, HttpResponse):
            request.early = chosen
        else:
            request.route = chosen

    def _check_body_headers(self, request: HttpRequest) -> bool:
        """Look at the headers about the body; returns whether one is to come."""
        declared = False
        for name, value in request.headers:
            if name == b"content-length":
                declared = int(value) > 0
                route = request.route
                if isinstance(route, Route) and int(value) > route.max_body_bytes:
                    self._stop(wire.BODY_TOO_LARGE)
            elif name == b"transfer-encoding":
                declared = True
                if value.lower() != b"chunked":
                    self._stop(wire.UNSUPPORTED_ENCODING)
            elif name == b"expect" and request.version != "1.0":
                if value.lower() != b"100-continue":
                    self._stop(wire.EXPECTATION_FAILED)
                request.expects_continue = True
        return declared

    def _expect_body(self, request: HttpRequest) -> None:
        """Tell the client to send the body, or that the answer does not need it."""
        if request.early is None:
            self.invite()
            return
        request.keep_alive = False
        self.request = None
        self.refused = True
        self._owner.enqueue(request)
        raise _RefusedError

    def _stop(self, answer: bytes) -> None:
        """Refuse from inside a callback."""
        self._refuse(answer)
        raise _RefusedError

    def _refuse(self, answer: bytes) -> None:
        """Queue a last answer; nothing more is read from this client."""
        if self.refused:
            return
        self.refused = True
        request = self.request or HttpRequest(self._owner)
        self.request = None
        self._in_head = False
        self._release_buffered()
        request.early = answer
        request.keep_alive = False
        if self._reader is None:
            self._owner.enqueue(request)
        else:  # the request is in its queue or at its handler already
            self._reader.fail()
            self._reader = None

    def _release_buffered(self) -> None:
        self._server.buffered_bytes -= self._buffered
        self._buffered = 0


@final
class BodyReader:
    """A streamed request body between the parser and its handler."""

    __slots__ = ("_ended", "_failed", "_pieces", "_size", "_waiter")

    def __init__(self) -> None:
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._ended = False
        self._failed = False
        self._waiter: asyncio.Future[None] | None = None

    @property
    def is_full(self) -> bool:
        """Whether enough waits for the handler."""
        return self._size > limits.HTTP1_WRITE_BYTES

    def feed(self, piece: bytes) -> None:
        """Add a piece."""
        self._pieces.append(piece)
        self._size += len(piece)
        self._wake()

    def end(self) -> None:
        """The body is complete."""
        self._ended = True
        self._wake()

    def fail(self) -> None:
        """The rest will not come."""
        self._failed = not self._ended
        self._wake()

    async def read(self) -> bytes:
        """Next piece, empty at the end; raises ConnectionError if the rest will not come."""
        while not self._pieces and not self._ended:
            if self._failed:
                raise ConnectionError("the client went away within its request")
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        if not self._pieces:
            return b""
        piece = self._pieces.popleft()
        self._size -= len(piece)
        return piece

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
