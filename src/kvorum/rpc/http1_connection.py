"""The protocol of one HTTP/1.1 connection: bytes in, answers out, in order.

Three states run side by side and meet in few places:

* reading: `httptools` calls back with pieces of ``_request``; complete, it joins ``_queue``;
* answering: ``_dispatch`` takes from the queue while nothing is being answered (``_current``) and the client
  reads;
* writing: answers gather in ``_out`` and leave in one write at the end of a turn.

``_refused`` means that nothing more is parsed (the last answer is queued), ``_closing`` that it has been
written. Time is the server's coarse clock: ``_deadline`` is set where a wait begins, and ``sweep`` enforces
it.
"""

import asyncio
from collections import deque
from collections.abc import Coroutine
from contextlib import aclosing
from math import inf
from typing import TYPE_CHECKING, Any, Final, cast, final

import httptools

from kvorum import limits
from kvorum.rpc import http1_wire as wire
from kvorum.rpc.http1_router import Route
from kvorum.rpc.http1_types import HttpRequest, HttpResponse, error_response

if TYPE_CHECKING:
    from kvorum.rpc.http1 import HttpServer

_UPGRADE_HEADERS: Final = frozenset((b"upgrade", b"connection", b"http2-settings"))


class _RefusedError(Exception):
    """Raised inside a parser callback to stop the parser; the answer is already queued."""


@final
class HttpConnection(asyncio.Protocol):
    """One connection: parser, queue of requests, and the one that is being answered."""

    __slots__ = (
        "_body_bytes",
        "_buffered",
        "_chunk_starts_in_head",
        "_closing",
        "_current",
        "_deadline",
        "_dispatching",
        "_eof",
        "_feeding",
        "_head_bytes",
        "_host_headers",
        "_in_head",
        "_loop",
        "_out",
        "_out_bytes",
        "_parser",
        "_queue",
        "_reader",
        "_reading_paused",
        "_refused",
        "_request",
        "_server",
        "_stall_bytes",
        "_stall_since",
        "_task",
        "_transport",
        "_upgrading",
        "_writable",
        "_write_paused",
    )

    def __init__(self, server: "HttpServer", loop: asyncio.AbstractEventLoop) -> None:
        self._server: Final = server
        self._loop: Final = loop
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        # Reading.
        self._request: HttpRequest | None = None
        self._in_head = False
        self._head_bytes = 0
        self._host_headers = 0
        self._body_bytes = 0
        self._buffered = 0
        self._upgrading = False
        self._refused = False
        self._reading_paused = False
        self._reader: _BodyReader | None = None
        self._eof = False
        # Answering.
        self._queue: deque[HttpRequest] = deque()
        self._current: HttpRequest | None = None
        self._task: asyncio.Task[None] | None = None
        self._dispatching = False
        self._feeding = False
        self._closing = False
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._write_paused = False
        self._writable: asyncio.Future[None] | None = None
        self._stall_since = inf
        self._stall_bytes = 0
        self._deadline = inf

    # --- what the transport calls -----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the clock for the first request."""
        self._transport = cast("asyncio.Transport", transport)
        self._server.opened(self, self._loop)
        self._deadline = self._server.now + self._server.request_seconds

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel everything that still waits for an answer."""
        self._closing = True
        self._transport = None
        self._release_buffered()
        self._cancel_pending()
        if self._reader is not None:
            self._reader.fail()
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._server.closed(self)

    def data_received(self, data: bytes) -> None:
        """Parse, answer what can be answered now, and write that in one piece."""
        if self._refused or self._closing:
            return  # lingering: what comes is dropped until the client closes
        started_in_head = self._in_head
        self._feeding = True
        try:
            self._feed(data)
            if started_in_head and self._in_head:
                self._head_bytes += len(data)  # a header's start that the parser keeps to itself
                if self._head_bytes > self._server.header_bytes:
                    self._refuse(wire.HEADERS_TOO_LARGE)
        finally:
            self._feeding = False
            self._dispatch()
            self._flush()
        if self._request is not None:
            self._note_unfinished()
        elif self._server.unfinished:
            self._server.unfinished.pop(self, None)
        self._balance_reading()

    def eof_received(self) -> bool:
        """Answer what was asked before the client closed its side; give up on long polls."""
        self._eof = True
        if self._reader is not None:
            self._reader.fail()
        current = self._current
        if self._closing or (current is None and not self._queue):
            return False
        if current is not None and _waits_for_events(current):
            return False
        # TLS knows no half-closed connection.
        return self.extra_info("sslcontext") is None

    def pause_writing(self) -> None:
        """Stop answering: the client does not read."""
        self._write_paused = True
        self._stall_since = self._server.now
        self._stall_bytes = self._unsent()
        self._balance_reading()

    def resume_writing(self) -> None:
        """Go on answering."""
        self._write_paused = False
        self._stall_since = inf
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._dispatch()
        self._balance_reading()

    # --- what the server calls ----------------------------------------------------------------------------

    def begin_shutdown(self) -> None:
        """Close now if nothing is being answered or only a long poll waits, else after the answer."""
        current = self._current
        if current is None or _waits_for_events(current):
            self._cancel_pending()
            self._close()

    def abort(self) -> None:
        """Drop the connection without another word."""
        if self._transport is not None:
            self._closing = True
            self._transport.abort()

    def sweep(self, now: float) -> None:
        """End the connection if it is past its time, or if its client has stopped reading."""
        if now > self._deadline:
            self.abort()
        elif self._stall_since != inf:
            unsent = self._unsent()
            if unsent != self._stall_bytes:
                self._stall_since, self._stall_bytes = now, unsent
            elif now - self._stall_since > self._server.stall_seconds:
                self.abort()

    def extra_info(self, name: str) -> Any:
        """What the transport knows."""
        return None if self._transport is None else self._transport.get_extra_info(name)

    # --- what the parser calls ----------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Note a request's first byte."""
        self._request = HttpRequest(self)
        self._in_head = True
        self._head_bytes = self._host_headers = self._body_bytes = 0
        self._deadline = self._server.now + self._server.request_seconds

    def on_url(self, piece: bytes) -> None:
        """Note a piece of the target."""
        request = self._parsing()
        request.target += piece
        self._count_head(len(piece))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note a header; trailers are dropped."""
        if self._in_head:
            name = name.lower()
            self._parsing().headers.append((name, value))
            if name == b"host":
                self._host_headers += 1
            self._count_head(len(name) + len(value) + 4)

    def on_headers_complete(self) -> None:
        """Choose the handler before the body comes."""
        request, parser = self._parsing(), self._parser
        self._in_head = False
        request.method = parser.get_method().decode()
        request.version = parser.get_http_version()
        request.keep_alive = parser.should_keep_alive()
        if self._host_headers != 1 and request.version == "1.1":
            self._refuse(wire.TOO_MANY_HOSTS if self._host_headers else wire.NO_HOST)
            raise _RefusedError
        self._choose(request)
        declared = self._check_body_headers(request)
        if parser.should_upgrade() and declared:
            self._upgrading = True  # the parser would take the body for another protocol's bytes
            return
        route = request.route
        if isinstance(route, Route) and route.stream_body:
            self._reader = request.reader = _BodyReader()
            if not declared:
                self._reader.end()
            self._enqueue(request)
        elif request.expects_continue and declared:
            self._invite(request)

    def on_body(self, piece: bytes) -> None:
        """Keep a piece of the body, or hand it on."""
        request = self._parsing()
        self._body_bytes += len(piece)
        route = request.route
        bound = route.max_body_bytes if isinstance(route, Route) else limits.HTTP1_BODY_BYTES
        if self._body_bytes > bound:
            self._refuse(wire.BODY_TOO_LARGE)
            raise _RefusedError
        if self._reader is not None:
            self._deadline = self._server.now + self._server.request_seconds
            self._reader.feed(piece)
        elif request.early is None:
            request.pieces.append(piece)
            self._buffered += len(piece)
            self._server.buffered_bytes += len(piece)

    def on_message_complete(self) -> None:
        """Queue the request and, its turn come, answer it."""
        if self._upgrading:
            return
        request = self._parsing()
        self._request = None
        self._deadline = inf
        if request.pieces:
            request.body = b"".join(request.pieces)
            request.pieces = []
            self._release_buffered()
        if self._reader is not None:
            self._reader.end()
            self._reader = None
        else:
            self._enqueue(request)

    # --- reading --------------------------------------------------------------------------------------------

    def _parsing(self) -> HttpRequest:
        assert self._request is not None
        return self._request

    def _feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._decline_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserCallbackError as error:
            cause = error.__context__
            if not isinstance(cause, _RefusedError):
                self._server.logger.error(
                    "HTTP/1.1 connection failed", error=cause or error, peer=self._peer()
                )
                self.abort()
        except httptools.HttpParserError as error:
            if not self._refused:
                self._refuse(wire.refusal_for(error))

    def _decline_upgrade(self, rest: bytes) -> None:
        """Go on in HTTP/1.1 after a request that offered another protocol (curl --http2 does), as Go does."""
        request, upgrading = self._request, self._upgrading
        self._upgrading = False
        self._parser = httptools.HttpRequestParser(self)
        if upgrading and request is not None:
            kept = [pair for pair in request.headers if pair[0] not in _UPGRADE_HEADERS]
            lines = b"".join(b"%b: %b\r\n" % pair for pair in kept)
            rest = b"%b %b HTTP/1.1\r\n%b\r\n" % (request.method.encode(), request.target, lines) + rest
        if rest:
            self._feed(rest)

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > self._server.header_bytes:
            self._refuse(wire.HEADERS_TOO_LARGE)
            raise _RefusedError

    def _choose(self, request: HttpRequest) -> None:
        try:
            chosen = self._server.router.resolve(request)
        except ValueError:
            self._refuse(wire.BAD_REQUEST)
            raise _RefusedError from None
        answer = self._server.gate(request) if self._server.gate is not None else None
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
                    self._refuse(wire.BODY_TOO_LARGE)
                    raise _RefusedError
            elif name == b"transfer-encoding":
                declared = True
                if value.lower() != b"chunked":
                    self._refuse(wire.UNSUPPORTED_ENCODING)
                    raise _RefusedError
            elif name == b"expect" and request.version != "1.0":
                if value.lower() != b"100-continue":
                    self._refuse(wire.EXPECTATION_FAILED)
                    raise _RefusedError
                request.expects_continue = True
        return declared

    def _invite(self, request: HttpRequest) -> None:
        """Tell the client to send the body, or that we have an answer without it."""
        if request.early is not None:
            request.keep_alive = False
            self._request = None
            self._enqueue(request)
            self._refused = True
            raise _RefusedError
        if self._current is None and not self._queue:
            request.expects_continue = False
            self._write(wire.CONTINUE)

    def _refuse(self, answer: bytes) -> None:
        """Queue a last answer; nothing more is read from this client."""
        if self._refused:
            return
        self._refused = True
        request = self._request or HttpRequest(self)
        self._request = None
        self._in_head = False
        self._release_buffered()
        if self._reader is not None:  # its handler is already at work: there is no answer but the end
            self._reader.fail()
            self._reader = None
        request.early = answer
        request.keep_alive = False
        if request is not self._current and request not in self._queue:
            self._queue.append(request)

    def _note_unfinished(self) -> None:
        server = self._server
        if self not in server.unfinished:
            server.unfinished[self] = None
        if (
            len(server.unfinished) > server.unfinished_bound
            or server.buffered_bytes > server.buffered_bytes_bound
        ):
            server.relieve()

    def _release_buffered(self) -> None:
        self._server.buffered_bytes -= self._buffered
        self._buffered = 0

    def _balance_reading(self) -> None:
        """Read on exactly while there is room for what would be read."""
        if self._transport is None or self._transport.is_closing():
            return
        full = (
            self._write_paused
            or len(self._queue) >= limits.HTTP1_PIPELINED_REQUESTS
            or (self._reader is not None and self._reader.is_full)
        )
        if full and not self._reading_paused:
            self._reading_paused = True
            self._transport.pause_reading()
        elif not full and self._reading_paused:
            self._reading_paused = False
            self._transport.resume_reading()

    async def read_body(self, request: HttpRequest) -> bytes:
        """Next piece of a streamed body; empty at its end. Raises ConnectionError if the client went away."""
        reader = cast("_BodyReader | None", request.reader)
        if reader is None:
            return b""
        if request.expects_continue:
            request.expects_continue = False
            self._write(wire.CONTINUE)
            self._flush()
        piece = await reader.read()
        self._balance_reading()
        return piece

    # --- answering
    # --------------------------------------------------------------------------------------------

    def _enqueue(self, request: HttpRequest) -> None:
        self._queue.append(request)
        if self._current is None:
            self._dispatch()

    def _dispatch(self) -> None:
        """Answer queued requests until one takes its time or the client does not read."""
        if self._dispatching:
            return
        self._dispatching = True
        try:
            while self._queue and self._current is None and not self._write_paused and not self._closing:
                self._start(self._queue.popleft())
        finally:
            self._dispatching = False

    def _start(self, request: HttpRequest) -> None:
        self._current = request
        early = request.early
        if isinstance(early, bytes):
            self._write(early)
            self._completed(request)
        elif early is not None:
            self.respond(request, early)
        else:
            route: Route = request.route
            try:
                result = route.handler(request)
            except Exception as error:
                result = self._failed(request, error)
            if isinstance(result, HttpResponse):
                self.respond(request, result)
            elif result is not None:
                self._task = self._loop.create_task(self._run(request, result))

    async def _run(self, request: HttpRequest, handling: Coroutine[Any, Any, HttpResponse]) -> None:
        try:
            response = await handling
        except ConnectionError:
            self.abort()
            return
        except Exception as error:
            response = self._failed(request, error)
        if self._task is asyncio.current_task():
            self._task = None
        self.respond(request, response)

    def _failed(self, request: HttpRequest, error: Exception) -> HttpResponse:
        self._server.logger.error(
            "HTTP handler failed", error=error, method=request.method, path=request.path, peer=self._peer()
        )
        return error_response(500, "Internal Server Error")

    def respond(self, request: HttpRequest, response: HttpResponse) -> None:
        """Write the answer to the request whose turn it is; dropped if nobody waits for it."""
        if request.cancelled or self._transport is None:
            return
        assert request is self._current, "answered twice"
        if request is self._request:
            request.keep_alive = False  # the rest of a body that the handler did not want
        elif (self._eof or self._server.closing) and not self._queue:
            request.keep_alive = False
        body = response.body
        if isinstance(body, bytes):
            self._write(wire.response_head(request, response, len(body), self._server.date()))
            if body and request.method != "HEAD":
                self._write(body)
            self._completed(request)
        else:
            if request.version == "1.0":
                request.keep_alive = False
            self._write(wire.response_head(request, response, -1, self._server.date()))
            self._task = self._loop.create_task(self._pump(request, response))

    async def _pump(self, request: HttpRequest, response: HttpResponse) -> None:
        """Send a stream piece by piece, no faster than the client reads."""
        chunked = request.version != "1.0"
        stream = cast("Any", response.body)
        try:
            if request.method != "HEAD":
                async for piece in stream:
                    if piece:
                        self._write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
                        self._flush()
                        await self._until_writable()
                if chunked:
                    self._write(b"0\r\n\r\n")
        except Exception as error:
            self._failed(request, error)
            self.abort()
            return
        finally:
            if hasattr(stream, "aclose"):
                async with aclosing(stream):
                    pass
        self._task = None
        self._completed(request)

    async def _until_writable(self) -> None:
        while self._write_paused and self._transport is not None:
            if self._writable is None or self._writable.done():
                self._writable = self._loop.create_future()
            await self._writable

    def _completed(self, request: HttpRequest) -> None:
        """The answer is written: close, or turn to the next request."""
        self._current = None
        if not request.keep_alive:
            self._close(linger=self._refused or self._request is not None)
            return
        if not self._queue:
            waiting = self._request
            if waiting is None:
                self._deadline = self._server.now + self._server.idle_seconds
            elif waiting.expects_continue and waiting.early is None and not self._in_head:
                waiting.expects_continue = False
                self._write(wire.CONTINUE)
        if not self._feeding:
            self._flush()
            self._dispatch()
            self._balance_reading()

    def _write(self, data: bytes) -> None:
        self._out.append(data)
        self._out_bytes += len(data)
        if self._out_bytes > limits.HTTP1_WRITE_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._out:
            out, self._out, self._out_bytes = self._out, [], 0
            if self._transport is not None:
                self._transport.write(b"".join(out) if len(out) > 1 else out[0])

    def _close(self, *, linger: bool = False) -> None:
        self._flush()
        self._closing = True
        transport = self._transport
        if transport is None:
            return
        if linger and not self._eof and transport.can_write_eof():
            transport.write_eof()
            self._deadline = self._server.now + self._server.linger_seconds
        else:
            self._deadline = self._server.now + self._server.stall_seconds
            transport.close()

    def _cancel_pending(self) -> None:
        """Tell the handler at work that nobody waits any more, and forget those that have not begun."""
        current, self._current = self._current, None
        self._queue.clear()
        if current is not None:
            current.cancelled = True
            if current.on_cancel is not None:
                current.on_cancel()
        task, self._task = self._task, None
        if task is not None and task is not asyncio.current_task():
            task.cancel()

    def _unsent(self) -> int:
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def _peer(self) -> str:
        return HttpRequest(self).peer


@final
class _BodyReader:
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
        """Whether the handler is behind."""
        return self._size > limits.HTTP1_WRITE_BYTES

    def feed(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._size += len(piece)
        self._wake()

    def end(self) -> None:
        self._ended = True
        self._wake()

    def fail(self) -> None:
        self._failed = not self._ended
        self._wake()

    async def read(self) -> bytes:
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


def _waits_for_events(request: HttpRequest) -> bool:
    """Whether a request's answer may take for ever."""
    return isinstance(request.route, Route) and request.route.long_poll
