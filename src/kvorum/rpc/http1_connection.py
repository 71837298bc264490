"""One HTTP/1.1 connection: requests in from its parser, answers out in order.

Three activities meet in few places:

* reading: ``http1_parser`` takes bytes; a request that is complete joins ``_queue``; * answering:
``_dispatch`` takes from the queue while nothing is being answered (``_current``) and the client reads; *
writing: answers gather in ``_out`` and leave in one write at the end of a turn.

``_closing`` means that the last answer has been written. Time is the server's coarse clock: ``_deadline``
is set where a wait begins, and ``sweep`` enforces it.
"""

import asyncio
from collections import deque
from collections.abc import Coroutine
from contextlib import aclosing
from math import inf
from typing import TYPE_CHECKING, Any, Final, cast, final

from kvorum import limits
from kvorum.rpc import http1_wire as wire
from kvorum.rpc.http1_parser import BodyReader, RequestParser
from kvorum.rpc.http1_router import Route
from kvorum.rpc.http1_types import HttpRequest, HttpResponse, error_response, format_peer

if TYPE_CHECKING:
    from kvorum.rpc.http1 import HttpServer


@final
class HttpConnection(asyncio.Protocol):
    """One connection: the queue of requests, and the one that is being answered."""

    __slots__ = (
        "_closing",
        "_current",
        "_deadline",
        "_dispatching",
        "_eof",
        "_feeding",
        "_loop",
        "_out",
        "_out_bytes",
        "_parser",
        "_queue",
        "_reading_paused",
        "_server",
        "_stall_bytes",
        "_stall_since",
        "_task",
        "_transport",
        "_writable",
        "_write_paused",
    )

    def __init__(self, server: "HttpServer", loop: asyncio.AbstractEventLoop) -> None:
        self._server: Final = server
        self._loop: Final = loop
        self._transport: asyncio.Transport | None = None
        # Reading.
        self._parser: Final = RequestParser(server, self)
        self._feeding = False
        self._reading_paused = False
        self._eof = False
        # Answering.
        self._queue: Final[deque[HttpRequest]] = deque()
        self._current: HttpRequest | None = None
        self._task: asyncio.Task[None] | None = None
        self._dispatching = False
        self._closing = False
        # Writing.
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
        self._cancel_pending()
        self._parser.close()
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._server.closed(self)

    def data_received(self, data: bytes) -> None:
        """Parse, answer what can be answered now, and write that in one piece."""
        if self._closing:
            return  # lingering: what comes is dropped until the client closes
        self._feeding = True
        try:
            self._parser.feed(data)
        finally:
            self._feeding = False
        if self._transport is None:
            return  # taken over
        self._dispatch()
        if self._parser.request is not None:
            self._server.has_unfinished(self)
        elif self._server.unfinished:
            self._server.unfinished.pop(self, None)
        self._balance_reading()

    def eof_received(self) -> bool:
        """Answer what was asked before the client closed its side; give up on long polls."""
        self._eof = True
        self._parser.close()
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
        if self._current is not None and self._current.on_writable is not None:
            self._current.on_writable()
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

    def forget_body(self) -> None:
        """Let go of what has been read of a request that will not be answered."""
        self._parser.close()

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

    # --- what the parser calls ----------------------------------------------------------------------------

    def expect_bytes(self) -> None:
        """Start the client's clock: for a request, or for the next piece of a streamed body."""
        self._deadline = self._server.now + self._server.request_seconds

    def expect_nothing(self) -> None:
        """Stop the client's clock: it waits for us now."""
        self._deadline = inf

    def enqueue(self, request: HttpRequest) -> None:
        """Answer a request when its turn comes, which may be now."""
        self._queue.append(request)
        if self._current is None:
            self._dispatch()

    def invite_body(self) -> bool:
        """Send 100 Continue, unless an earlier answer has to go first."""
        if self._queue or self._current is not None:
            return False
        self._write(wire.CONTINUE)
        return True

    def parser_failed(self, error: BaseException) -> None:
        """Give up on the connection after a mistake of ours."""
        self._server.logger.error("HTTP/1.1 connection failed", error=error, remote_addr=self._peer())
        self.abort()

    # --- what requests call -------------------------------------------------------------------------------

    def extra_info(self, name: str) -> Any:
        """What the transport knows."""
        return None if self._transport is None else self._transport.get_extra_info(name)

    async def read_body(self, request: HttpRequest) -> bytes:
        """Next piece of a streamed body; empty at its end. Raises ConnectionError if the client went away."""
        reader: BodyReader | None = request.reader
        if reader is None:
            return b""
        if request.expects_continue:
            request.expects_continue = False
            self._write(wire.CONTINUE)
            self._flush()
        piece = await reader.read()
        self._balance_reading()
        return piece

    def respond(self, request: HttpRequest, response: HttpResponse) -> None:
        """Write the answer to the request whose turn it is; dropped if nobody waits for it."""
        if request.cancelled or self._transport is None:
            return
        assert request is self._current, "answered twice"
        if request is self._parser.request:
            request.keep_alive = False  # the rest of a body that the handler did not want
        elif self._is_last():
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
            self._flush()
            self._task = self._loop.create_task(self._pump(request, response))

    def begin(self, request: HttpRequest, response: HttpResponse) -> None:
        """Send the head of a stream whose pieces come by `send`: one that costs no task."""
        if request.cancelled or self._transport is None:
            return
        assert request is self._current, "answered twice"
        request.waits = True
        if request.version == "1.0" or self._is_last():
            request.keep_alive = False
        self._write(wire.response_head(request, response, -1, self._server.date()))
        if not self._feeding and not self._dispatching:
            self._flush()

    def send(self, request: HttpRequest, piece: bytes) -> bool:
        """Send a piece of a stream; False if the client should read first what it has."""
        if not request.cancelled and self._transport is not None:
            assert request is self._current, "a stream that has not begun"
            self._write(wire.framed(request, piece))
            self._flush()
        return not self._write_paused

    def end(self, request: HttpRequest, piece: bytes = b"") -> None:
        """End a stream, after a last piece: both leave in one write."""
        if not request.cancelled and self._transport is not None:
            assert request is self._current, "a stream that has not begun"
            self._write(wire.framed(request, piece, last=True))
            self._completed(request)

    def take_over(self, request: HttpRequest, protocol: asyncio.Protocol) -> None:
        """Give the connection to another protocol and forget it."""
        transport, self._transport = self._transport, None
        assert transport is not None, "a handler was called for a connection that is lost"
        assert request is self._current, "answered already"
        if self._out:
            transport.write(b"".join(self._out))
        self._current = None
        self._queue.clear()
        self._closing = True
        self._server.closed(self)
        if self._reading_paused:
            transport.resume_reading()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)

    # --- answering ----------------------------------------------------------------------------------

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
        if not self._feeding:
            self._flush()

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
            result: Coroutine[Any, Any, HttpResponse | None] | HttpResponse | None
            try:
                result = route.handler(request)
            except Exception as error:
                result = self._failed(request, error)
            if isinstance(result, HttpResponse):
                self.respond(request, result)
            elif result is not None:
                self._task = self._loop.create_task(self._run(request, result))

    async def _run(self, request: HttpRequest, handling: Coroutine[Any, Any, HttpResponse | None]) -> None:
        try:
            response = await handling
        except ConnectionError:
            self.abort()
            return
        except Exception as error:
            response = self._failed(request, error)
        if self._task is asyncio.current_task():  # its answer may have been given, and the next begun
            self._task = None
        if response is not None:
            self.respond(request, response)

    async def _pump(self, request: HttpRequest, response: HttpResponse) -> None:
        """Send a stream piece by piece, no faster than the client reads."""
        stream = cast("Any", response.body)
        try:
            if request.method != "HEAD":
                async for piece in stream:
                    if piece:
                        self._write(wire.framed(request, piece))
                        self._flush()
                        await self._until_writable()
                self._write(wire.framed(request, b"", last=True))
        except Exception as error:
            self._failed(request, error)
            self.abort()
            return
        finally:
            if hasattr(stream, "aclose"):
                async with aclosing(stream):
                    pass
        self._task = None
        if not request.cancelled:
            self._completed(request)

    def _failed(self, request: HttpRequest, error: Exception) -> HttpResponse:
        self._server.logger.error(
            "HTTP handler failed",
            error=error,
            method=request.method,
            path=request.path,
            remote_addr=self._peer(),
        )
        return error_response(500, "Internal Server Error")

    def _completed(self, request: HttpRequest) -> None:
        """The answer is written: close, or turn to the next request."""
        self._current = None
        if not request.keep_alive or self._is_last():
            self._close(linger=self._parser.refused or self._parser.request is not None)
            return
        if not self._queue:
            if self._parser.request is None:
                self._deadline = self._server.now + self._server.idle_seconds
            else:
                self._parser.invite()
        if not self._feeding and not self._dispatching:
            self._dispatch()
            self._balance_reading()

    def _is_last(self) -> bool:
        """Whether nothing can follow what is being answered."""
        return (self._eof or self._server.closing) and not self._queue

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

    # --- writing ------------------------------------------------------------------------------------

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

    async def _until_writable(self) -> None:
        while self._write_paused and self._transport is not None:
            if self._writable is None or self._writable.done():
                self._writable = self._loop.create_future()
            await self._writable

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

    def _balance_reading(self) -> None:
        """Read on exactly while there is room for what would be read."""
        if self._transport is None or self._transport.is_closing():
            return
        full = not self._closing and (
            self._write_paused or len(self._queue) >= limits.HTTP1_PIPELINED_REQUESTS or self._parser.is_full
        )
        if full and not self._reading_paused:
            self._reading_paused = True
            self._transport.pause_reading()
        elif not full and self._reading_paused:
            self._reading_paused = False
            self._transport.resume_reading()

    def _unsent(self) -> int:
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def _peer(self) -> str:
        return format_peer(self.extra_info("peername"))


def _waits_for_events(request: HttpRequest) -> bool:
    """Whether a request's answer may take for ever."""
    return request.waits or (isinstance(request.route, Route) and request.route.long_poll)
