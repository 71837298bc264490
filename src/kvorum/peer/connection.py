"""One HTTP/1.1 connection to a peer, the client's side of it (RFC 9112; responses parsed by ``httptools``).

It carries one request at a time: `send_head`, `send` and `end` write it, `head` waits for the status line and
headers, and the body goes piece by piece to a *sink*, from within ``data_received``: a stream's messages are
decoded in the turn of the loop in which their bytes come. A sink that has enough calls ``pause``.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias, cast, final

import httptools

from kvorum import limits

Headers: TypeAlias = Sequence[tuple[str, str]]
Sink: TypeAlias = Callable[[bytes], None]
"""Takes a piece of a body."""
Ended: TypeAlias = Callable[[BaseException | None], None]
"""Told once that a body is complete (None) or will not be (why)."""


class PeerConnectionError(ConnectionError):
    """A request that got no (whole) answer; the text says why in one line."""


@final
class ResponseHead:
    """Status and headers of an answer; names in lower case."""

    __slots__ = ("headers", "status")

    def __init__(self, status: int, headers: Sequence[tuple[str, str]]) -> None:
        self.status: Final = status
        self.headers: Final = headers

    def header(self, name: str) -> str:
        """The first value of a header, empty without one."""
        wanted = name.lower()
        return next((value for key, value in self.headers if key == wanted), "")


@final
class ClientConnection(asyncio.Protocol):
    """A connection and the exchange on it.

    Invariant: an exchange has ended exactly if ``_ended`` is None: then the connection is idle, and
    ``reusable`` says whether for the next one; ``failure`` is set once, when nothing more can come.
    """

    __slots__ = ("_ended", "_head", "_head_bytes", "_headers", "_informational", "_loop", "_lost", "_parser",
                 "_pieces", "_sink", "_transport", "_until_eof", "_writable", "_write_paused", "answered",
                 "failure", "received_at", "reusable", "spoiled")  # fmt: skip

    def __init__(self, loop: asyncio.AbstractEventLoop, lost: Callable[["ClientConnection"], None]) -> None:
        """``lost`` is told once the connection, if there was one, is gone."""
        self._loop: Final = loop
        self._lost: Final = lost
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._head: asyncio.Future[ResponseHead] | None = None
        self._headers: list[tuple[str, str]] = []
        self._head_bytes = 0
        self._informational = False
        self._until_eof = False
        self._pieces: list[bytes] = []
        self._sink: Sink | None = None
        self._ended: Ended | None = None
        self._write_paused = False
        self._writable: asyncio.Future[None] | None = None
        self.failure: BaseException | None = None
        self.reusable = False
        self.spoiled = False
        """Whether a request was not sent to its end, so that nothing can follow it."""
        self.answered = False
        """Whether any byte of an answer to the present exchange has come."""
        self.received_at = loop.time()
        """When bytes came last, by the loop's clock."""

    # --- what the transport calls -----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take note of the transport."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=limits.PEER_SNAPSHOT_PIECE_BYTES)

    def data_received(self, data: bytes) -> None:
        """Parse, and give the sink what of a body has come, in one piece."""
        self.received_at = self._loop.time()
        self.answered = True
        self._wake()
        if self._ended is None:
            self.fail(PeerConnectionError("unsolicited response from peer"))
            return
        try:
            self._parser.feed_data(data)
            if self._head is not None and not self._head.done():
                self._head_bytes += len(data)
                if self._head_bytes > limits.PEER_RESPONSE_HEADER_BYTES:
                    raise PeerConnectionError("response headers are too large")
            self._deliver()
        except httptools.HttpParserCallbackError as error:
            self.fail(error.__context__ or error)
        except httptools.HttpParserError as error:
            self.fail(PeerConnectionError(f"malformed HTTP response: {error}"))
        except Exception as error:
            self.fail(error)

    def eof_received(self) -> bool:
        """Nothing more comes: the end of a body that has no other, else a failure."""
        if self._until_eof and self._ended is not None:
            self._finish(None)
        self.fail(PeerConnectionError("EOF"))
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._lost(self)
        self.fail(exc or PeerConnectionError("EOF"))

    def pause_writing(self) -> None:
        """Have the sender of a body wait."""
        self._write_paused = True

    def resume_writing(self) -> None:
        """Let the sender of a body go on."""
        self._write_paused = False
        self._wake()

    # --- what httptools calls -------------------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note a header."""
        self._headers.append((name.lower().decode("latin-1"), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        """Wake whoever waits for the answer; a 1xx is none."""
        status = self._parser.get_status_code()
        self._informational = status < 200
        if self._informational:
            self._headers = []
            return
        self.reusable = self._parser.should_keep_alive()
        framed = any(name in ("content-length", "transfer-encoding") for name, _ in self._headers)
        self._until_eof = not framed and status not in (204, 304)
        if self._head is not None and not self._head.done():
            self._head.set_result(ResponseHead(status, self._headers))

    def on_body(self, piece: bytes) -> None:
        """Keep a piece until all that came at once is parsed."""
        self._pieces.append(piece)

    def on_message_complete(self) -> None:
        """The answer is whole."""
        if not self._informational:
            self._deliver()
            self._finish(None)

    # --- what the client calls ----------------------------------------------------------------------------

    def begin(self, sink: Sink, ended: Ended) -> None:
        """Start an exchange: bodies go to ``sink``, the end is told to ``ended``."""
        assert self._ended is None, "an exchange is under way"
        self._parser = httptools.HttpResponseParser(self)
        self._sink, self._ended = sink, ended
        self._headers, self._head_bytes, self._pieces = [], 0, []
        self.answered = self.reusable = self._until_eof = False
        self._head = self._loop.create_future()
        if self.failure is not None:
            self._ended = None
            self._head.set_exception(self.failure)

    async def head(self) -> ResponseHead:
        """Wait for status and headers; raises OSError if they do not come."""
        assert self._head is not None
        return await self._head

    def write(self, data: bytes) -> None:
        """Write bytes of a request."""
        if self._transport is not None and self.failure is None:
            self._transport.write(data)

    async def drain(self, stall_seconds: float) -> None:
        """Wait while the peer does not read, and has not answered before it was asked to the end.

        Raises:
            PeerConnectionError: it took not one byte for ``stall_seconds``, or the connection is lost.
        """
        while self._write_paused and self.failure is None and not self.answered:
            before = self.unsent
            self._writable = self._loop.create_future()
            try:
                await asyncio.wait_for(self._writable, stall_seconds)
            except TimeoutError:
                if self.unsent >= before:
                    raise PeerConnectionError("write: i/o timeout") from None
        if self.failure is not None and not self.answered:
            raise PeerConnectionError(str(self.failure))

    @property
    def unsent(self) -> int:
        """Bytes that the kernel has not taken."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    @property
    def usable(self) -> bool:
        """Whether another exchange may begin."""
        return self.reusable and not self.spoiled and self.failure is None and self._ended is None

    def pause(self) -> None:
        """Read no more for now."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def extra_info(self, name: str) -> Any:
        """What the transport knows."""
        return None if self._transport is None else self._transport.get_extra_info(name)

    def fail(self, error: BaseException) -> None:
        """Give up on the connection; the first reason is the one that is told."""
        if self.failure is None:
            self.failure = error
            self.reusable = False
            if self._transport is not None:
                self._transport.abort()
            self._wake()
            self._finish(error)

    # --- within -------------------------------------------------------------------------------------------

    def _deliver(self) -> None:
        if self._pieces:
            pieces, self._pieces = self._pieces, []
            if self._sink is not None:
                self._sink(pieces[0] if len(pieces) == 1 else b"".join(pieces))

    def _finish(self, error: BaseException | None) -> None:
        ended, self._ended, self._sink = self._ended, None, None
        head = self._head
        if head is not None and not head.done():
            head.set_exception(error or PeerConnectionError("no response"))
            head.exception()  # nobody may be left to ask
        if ended is not None:
            ended(error)

    def _wake(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
