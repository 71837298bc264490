"""HTTP/1.1 for small requests in large numbers, and for long polls (RFC 9112; behaves as Go's net/http).

`HttpServer` holds the routes and watches over its connections; ``http1_connection`` is one of them. A
connection answers its requests one at a time and in order; those that were pipelined wait in a queue. A
handler may answer

* at once (a plain function that returns the response: no task, no future),
* later (a plain function that returns None and calls ``request.respond`` in another turn),
* as a coroutine, which gets a task of its own; it returns the response, or None to answer later, or
* as a stream, by ``request.begin``, ``send`` and ``end`` in any turn.

What keeps a hostile or broken client from costing others anything: every size in ``limits.py``; one sweep a
second that ends what takes too long (a request's bytes, an idle connection, a response nobody reads); queue,
buffers and a slow reader that stop our reading. The rest of a refused request is read and dropped for a
moment, so that a TCP reset does not overtake the answer.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from email.utils import formatdate
from typing import Final, TypeAlias, final

from kvorum import limits
from kvorum.logging import Logger
from kvorum.rpc.http1_connection import HttpConnection
from kvorum.rpc.http1_router import Handler, Router
from kvorum.rpc.http1_types import HttpRequest, HttpResponse

Gate: TypeAlias = Callable[[HttpRequest], HttpResponse | None]

_SWEEP_SECONDS: Final = 1.0


@final
class HttpServer:
    """Routes, bounds and the connections that are open.

    ``gate``, if given, sees every routed request first: it may answer itself, and may set
    ``request.extra_head`` (whole header lines) that the answer will carry.
    """

    def __init__(
        self,
        logger: Logger,
        *,
        gate: Gate | None = None,
        clock: Callable[[], float] = time.time,
        header_bytes: int = limits.HTTP1_HEADER_BYTES,
        buffered_bytes: int = limits.HTTP1_BUFFERED_BYTES,
        unfinished_requests: int = limits.HTTP1_UNFINISHED_REQUESTS,
        request_seconds: float = limits.HTTP1_REQUEST_SECONDS,
        idle_seconds: float = limits.HTTP1_IDLE_SECONDS,
        stall_seconds: float = limits.HTTP1_STALL_SECONDS,
        linger_seconds: float = limits.HTTP1_LINGER_SECONDS,
    ) -> None:
        self.logger: Final = logger
        self.gate: Final = gate
        self.header_bytes: Final = header_bytes
        self.buffered_bytes_bound: Final = buffered_bytes
        self.unfinished_bound: Final = unfinished_requests
        self.request_seconds: Final = request_seconds
        self.idle_seconds: Final = idle_seconds
        self.stall_seconds: Final = stall_seconds
        self.linger_seconds: Final = linger_seconds
        self.router: Final = Router()
        self.connections: Final[set[HttpConnection]] = set()
        self.unfinished: Final[dict[HttpConnection, None]] = {}
        self.buffered_bytes = 0
        self.closing = False
        self.now = 0.0
        self._clock = clock
        self._date = b""
        self._date_second = -1
        self._sweeper: asyncio.TimerHandle | None = None
        self._sweep_seconds = min(_SWEEP_SECONDS, request_seconds, idle_seconds, stall_seconds)
        self._empty = asyncio.Event()
        self._empty.set()

    def route(
        self,
        methods: str | Iterable[str],
        path: str,
        handler: Handler,
        *,
        max_body_bytes: int = limits.HTTP1_BODY_BYTES,
        long_poll: bool = False,
        stream_body: bool = False,
    ) -> None:
        """Register a handler.

        Args:
            methods: one method or several; ``"*"`` for all that are not named elsewhere for the path.
            path: exact, or with a slash at its end everything below.
            handler: see the module's docstring.
            max_body_bytes: a larger body gets 413.
            long_poll: the answer may take as long as it likes; it is cancelled as soon as the client closes
            its
                side, and at shutdown. Other handlers may finish after a client closed its sending side only.
            stream_body: call the handler once the headers are there; it fetches the body with
            ``request.read()``.
        """
        self.router.add(
            methods,
            path,
            handler,
            max_body_bytes=max_body_bytes,
            long_poll=long_poll,
            stream_body=stream_body,
        )

    def protocol(self) -> HttpConnection:
        """Return the protocol object of a new connection (a factory for asyncio)."""
        return HttpConnection(self, asyncio.get_running_loop())

    def date(self) -> bytes:
        """Return the Date header's line, made anew once a second."""
        second = int(self._clock())
        if second != self._date_second:
            self._date_second = second
            self._date = f"Date: {formatdate(second, usegmt=True)}\r\n".encode()
        return self._date

    async def shutdown(self, grace_seconds: float) -> None:
        """Close idle connections and long polls, let the others answer; after the grace close all."""
        self.closing = True
        for connection in list(self.connections):
            connection.begin_shutdown()
        try:
            await asyncio.wait_for(self._empty.wait(), grace_seconds)
        except TimeoutError:
            for connection in list(self.connections):
                connection.abort()
            await self._empty.wait()

    def opened(self, connection: HttpConnection, loop: asyncio.AbstractEventLoop) -> None:
        """Take note of a connection; the first one starts the sweep."""
        self.connections.add(connection)
        self._empty.clear()
        if self._sweeper is None:
            self.now = loop.time()
            self._sweeper = loop.call_later(self._sweep_seconds, self._sweep, loop)

    def closed(self, connection: HttpConnection) -> None:
        """Forget a connection."""
        self.connections.discard(connection)
        self.unfinished.pop(connection, None)
        if not self.connections:
            self._empty.set()
            if self._sweeper is not None:
                self._sweeper.cancel()
                self._sweeper = None

    def has_unfinished(self, connection: HttpConnection) -> None:
        """Note a request that is under way; the oldest ones pay if they or their bodies are too many."""
        unfinished = self.unfinished
        unfinished.setdefault(connection)
        while unfinished and (
            len(unfinished) > self.unfinished_bound or self.buffered_bytes > self.buffered_bytes_bound
        ):
            oldest = next(iter(unfinished))
            del unfinished[oldest]
            oldest.abort()
            oldest.forget_body()

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        self.now = loop.time()
        self._sweeper = loop.call_later(self._sweep_seconds, self._sweep, loop)
        for connection in list(self.connections):
            connection.sweep(self.now)
