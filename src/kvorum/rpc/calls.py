"""What a handler sees of a call: :class:`UnaryCall` and :class:`StreamCall`.

A call is the HTTP/2 stream it came on (one object, not two that point at each other). Its states:

    GATHERING -- whole message / task started --> RUNNING -- reply, fail, end of the coroutine --> ANSWERED
        |                                            |
        +------- reset, disconnect, deadline --------+--> CANCELLED

Only a RUNNING call can be answered, so an answer that comes twice or too late is nothing.
"""

import asyncio
import functools
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final, final

from kvorum import limits
from kvorum.errors import CANCELLED as CODE_CANCELLED
from kvorum.errors import DEADLINE_EXCEEDED, INTERNAL, OK, RESOURCE_EXHAUSTED, EtcdError
from kvorum.rpc.frames import DEFAULT_WINDOW, encode_fields
from kvorum.rpc.http2 import OPEN, Engine, Stream
from kvorum.rpc.messages import (
    PREFIX_BYTES,
    StatusError,
    check_prefix,
    decompress,
    encode_status_message,
    metadata_of,
)
from kvorum.rpc.observer import MethodCounters, RpcObserver
from kvorum.rpc.requests import Request

GATHERING: Final = 0
RUNNING: Final = 1
ANSWERED: Final = 2
CANCELLED: Final = 3

RESPONSE_HEADERS: Final = [(":status", "200"), ("content-type", "application/grpc")]
RESPONSE_HEADER_BLOCK: Final = encode_fields(RESPONSE_HEADERS)
OK_TRAILER_BLOCK: Final = encode_fields([("grpc-status", "0")])
NO_DEADLINE: Final = float("inf")
_MESSAGE_OVERHEAD: Final = 64
"""Counted for each queued message beyond its bytes, so that many empty ones are bounded as well."""

UnaryHandler = Callable[["UnaryCall", bytes], None]
StreamHandler = Callable[["StreamCall"], Coroutine[Any, Any, None]]


@functools.lru_cache(maxsize=256)
def status_block(code: int, message: str, with_headers: bool, http_status: int = 200) -> bytes:
    """Trailer block of a status; ``with_headers`` makes it a whole answer (gRPC's "Trailers-Only")."""
    fields = [(":status", str(http_status)), RESPONSE_HEADERS[1]] if with_headers else []
    fields.append(("grpc-status", str(code)))
    if message:
        fields.append(("grpc-message", encode_status_message(message)))
    return encode_fields(fields)


@final
class Plan:
    """What a request header section means here, worked out once for all calls that repeat it.

    ``timeout`` is in seconds, NO_DEADLINE without one. ``refusal`` is the whole answer of a call that
    reaches no handler, ``refusal_code`` its status.
    """

    __slots__ = (
        "counters",
        "encoding",
        "refusal",
        "refusal_code",
        "stream_handler",
        "timeout",
        "unary_handler",
    )

    def __init__(self) -> None:
        self.unary_handler: UnaryHandler | None = None
        self.stream_handler: StreamHandler | None = None
        self.counters: MethodCounters = _NOT_COUNTED
        self.timeout = NO_DEADLINE
        self.encoding = ""
        self.refusal = b""
        self.refusal_code = OK


_NOT_COUNTED: Final = MethodCounters("", "")


class Connection:
    """What a call needs of its connection. ``grpc.GrpcProtocol`` is the only one; this breaks the circle.

    ``held`` are the bytes of messages that are not complete or not read, ``granted`` those that clients of
    large messages were promised beyond their stream windows, ``grants`` the promises that have to wait.
    """

    __slots__ = (
        "engine",
        "flush_pending",
        "granted",
        "grants",
        "held",
        "max_message_bytes",
        "observer",
        "peer",
        "waiting",
        "writers",
    )

    engine: Engine
    observer: RpcObserver
    peer: str

    def __init__(self, observer: RpcObserver, max_message_bytes: int) -> None:
        self.observer = observer
        self.max_message_bytes = max_message_bytes
        self.peer = ""
        self.flush_pending = False
        self.held = 0
        self.granted = 0
        self.grants: deque[tuple[Stream, Assembly, int]] = deque()
        self.waiting: deque[tuple[UnaryCall, bytes]] = deque()
        self.writers: dict[StreamCall, None] = {}

    def flush_soon(self) -> None:
        """Something was sent: see that it leaves in this turn of the loop."""

    def broke(self, call: "UnaryCall | StreamCall", error: Exception) -> None:
        """A handler raised what it should not: log it."""

    def start(self, call: "StreamCall", coroutine: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Run a stream's handler."""
        raise AssertionError("a connection runs its handlers")

    def hold(self, size: int) -> bool:
        """Account for bytes kept; False: beyond the bound, and not accounted for."""
        if self.held + size > limits.MAX_UNFINISHED_BYTES + self.granted:
            return False
        self.held += size
        return True

    def release(self, size: int) -> None:
        """The bytes are no longer kept."""
        self.held -= size

    def ask_grant(self, stream: Stream, assembly: "Assembly", size: int) -> None:
        """Have ``size`` bytes of window opened on the stream, in the order of asking, within the bound."""
        self.grants.append((stream, assembly, size))
        self.give_grants()

    def give_grants(self) -> None:
        """Open what may be opened; one promise is always possible, however large the message."""
        while self.grants:
            stream, assembly, size = self.grants[0]
            if stream.state != OPEN:
                self.grants.popleft()
                continue
            if self.granted and self.granted + size > limits.MAX_UNFINISHED_BYTES:
                return
            self.grants.popleft()
            self.granted += size
            assembly.granted += size
            self.engine.grant(stream, size)

    def end_grant(self, assembly: "Assembly") -> None:
        """The message the window was opened for is complete or abandoned."""
        if assembly.granted:
            self.granted -= assembly.granted
            assembly.granted = 0
            self.give_grants()


@final
class Assembly:
    """A message that came, or comes, in several DATA frames.

    ``need`` is its size with prefix, -1 until the prefix is there.
    """

    __slots__ = ("body", "granted", "need")

    def __init__(self) -> None:
        self.body = bytearray()
        self.need = -1
        self.granted = 0

    def read_prefix(self, encoding: str, max_size: int) -> bool:
        """Whether the prefix is there; checks it.

        Raises:
            StatusError: from ``check_prefix``.
        """
        if self.need >= 0:
            return True
        if len(self.body) < PREFIX_BYTES:
            return False
        length = int.from_bytes(self.body[1:PREFIX_BYTES], "big")
        check_prefix(self.body[0], length, encoding, max_size)
        self.need = length + PREFIX_BYTES
        return True

    def take(self, max_size: int) -> bytes:
        """The whole message, decompressed; what came after it stays.

        Raises:
            StatusError: from ``decompress``.
        """
        content = bytes(memoryview(self.body)[PREFIX_BYTES : self.need])
        if self.body[0]:
            content = decompress(content, max_size)
        del self.body[: self.need]
        self.need = -1
        return content


@final
class UnaryCall(Stream):
    """A call with one request message and one answer.

    The handler is called synchronously with the whole, decompressed message and answers then or later,
    exactly once, with ``reply`` or ``fail``. ``deadline`` is in the loop's seconds, None without one. After
    ``cancelled`` became true (reset, disconnect, deadline) answers are no-ops; ``on_cancel`` is called when
    it does.
    """

    __slots__ = ("assembly", "connection", "deadline", "on_cancel", "phase")

    def __init__(self, stream_id: int, request: Request, send_window: int, connection: Connection) -> None:
        # Stream.__init__, written out: this constructor is a tenth of a call's time.
        self.id = stream_id
        self.request = request
        self.state = OPEN
        self.send_window = send_window
        self.incoming = None
        self.outgoing = None
        self.connection = connection
        self.deadline: float | None = None
        self.on_cancel: Callable[[], None] | None = None
        self.phase: int = GATHERING
        self.assembly: Assembly | None = None

    @property
    def method(self) -> str:
        """The path, "/service/method"."""
        return self.request.path

    @property
    def peer(self) -> str:
        """The client's address as text."""
        return self.connection.peer

    @property
    def cancelled(self) -> bool:
        """Whether an answer would reach nobody."""
        return self.phase == CANCELLED

    def metadata(self) -> Mapping[str, list[str]]:
        """The request's metadata by lower-case name; "-bin" values are base64 as on the wire."""
        return metadata_of(self.request.fields, self.request.authority)

    def reply(self, message: bytes) -> None:
        """Answer with a serialized message and status OK."""
        if self.phase != RUNNING:
            return
        self.phase = ANSWERED
        connection = self.connection
        self.request.plan.counters.handled[OK] += 1
        connection.observer.sent_bytes += len(message)
        connection.engine.respond(self, message)
        if not connection.flush_pending:
            connection.flush_soon()

    def fail(self, code: int, message: str) -> None:
        """Answer with a status other than OK."""
        if self.phase != RUNNING:
            return
        self.phase = ANSWERED
        self.request.plan.counters.handled[code] += 1
        self._send_status(code, message)

    # -- from the engine -----------------------------------------------------------------------------------

    def opened(self) -> None:
        """Only for requests that no handler gets."""
        plan = self.request.plan
        self.phase = ANSWERED
        self.connection.observer.failed[plan.refusal_code] += 1
        self.connection.engine.send_trailers(self, plan.refusal)
        self.connection.flush_soon()

    def data(self, buffer: bytes, start: int, stop: int, ended: bool) -> None:
        """Content: dispatch the message if it is whole."""
        if (
            ended
            and self.assembly is None
            and int.from_bytes(buffer[start : start + 5], "big") == stop - start - 5
        ):
            # One DATA frame, not compressed (the flag is the first of the five bytes), nothing before or
            # after.
            self.run(buffer[start + 5 : stop])
        elif self.phase == GATHERING:
            try:
                self._gather(buffer, start, stop, ended)
            except StatusError as error:
                self.refuse(error.code, error.message)

    def run(self, message: bytes) -> None:
        """Call the handler, or wait until answers can leave."""
        connection = self.connection
        if connection.engine.room <= 0:
            self.wait(message)
            return
        plan = self.request.plan
        self.phase = RUNNING
        plan.counters.started += 1
        connection.observer.received_bytes += len(message)
        try:
            plan.unary_handler(self, message)
        except EtcdError as error:
            self.fail(error.code, error.message)
            error.forget()
        except Exception as error:
            connection.broke(self, error)
            self.fail(INTERNAL, "internal error")

    def wait(self, message: bytes) -> None:
        """The client does not read its answers: keep the request for later."""
        if self.connection.hold(len(message) + _MESSAGE_OVERHEAD):
            self.connection.waiting.append((self, message))
        else:
            self.refuse(RESOURCE_EXHAUSTED, "grpc: too many requests waiting on this connection")

    def resume(self, message: bytes) -> None:
        """Undo ``wait``."""
        self.connection.release(len(message) + _MESSAGE_OVERHEAD)
        if self.phase == GATHERING:
            self.run(message)

    def aborted(self, code: int) -> None:
        """Reset by the client, an error, or the connection's end."""
        self._drop_assembly()
        if self.phase == RUNNING:
            self.request.plan.counters.handled[CODE_CANCELLED] += 1
        self.cancel()

    def expire(self) -> None:
        """The deadline has passed."""
        message = "context deadline exceeded"
        if self.phase == GATHERING:
            self.refuse(DEADLINE_EXCEEDED, message)
        elif self.phase == RUNNING:
            self.request.plan.counters.handled[DEADLINE_EXCEEDED] += 1
            self._send_status(DEADLINE_EXCEEDED, message)
        else:
            return
        self.phase = RUNNING
        self.cancel()

    def refuse(self, code: int, message: str) -> None:
        """Answer a call whose handler was not called."""
        self._drop_assembly()
        self.phase = ANSWERED
        self.connection.observer.failed[code] += 1
        self._send_status(code, message)

    def cancel(self) -> None:
        """Tell the handler's side that nobody waits for the answer."""
        if self.phase == ANSWERED:
            return
        self.phase = CANCELLED
        callback, self.on_cancel = self.on_cancel, None
        if callback is not None:
            try:
                callback()
            except Exception as error:
                self.connection.broke(self, error)

    def _send_status(self, code: int, message: str) -> None:
        connection = self.connection
        block = status_block(code, message, True)
        if len(block) + 128 > connection.engine.peer_header_list:
            block = status_block(code, "", True)
        connection.engine.send_trailers(self, block)
        if not connection.flush_pending:
            connection.flush_soon()

    def _gather(self, buffer: bytes, start: int, stop: int, ended: bool) -> None:
        """A message in pieces, compressed, or broken."""
        connection = self.connection
        assembly = self.assembly
        if assembly is None:
            assembly = self.assembly = Assembly()
        if not connection.hold(stop - start):
            raise StatusError(RESOURCE_EXHAUSTED, "grpc: too many unfinished requests on this connection")
        assembly.body += memoryview(buffer)[start:stop]
        known = assembly.need >= 0
        plan: Plan = self.request.plan
        if assembly.read_prefix(plan.encoding, connection.max_message_bytes):
            if len(assembly.body) > assembly.need:
                raise StatusError(
                    INTERNAL,
                    "cardinality violation: received multiple request messages for non-client-streaming RPC",
                )
            if not known and not ended and assembly.need > DEFAULT_WINDOW:
                connection.ask_grant(self, assembly, assembly.need - DEFAULT_WINDOW)
        if not ended:
            return
        if not assembly.body:
            raise StatusError(
                INTERNAL, "cardinality violation: received no request message from non-client-streaming RPC"
            )
        if len(assembly.body) != assembly.need:
            raise StatusError(INTERNAL, "unexpected EOF")
        size = len(assembly.body)
        message = assembly.take(connection.max_message_bytes)
        connection.release(size)
        connection.end_grant(assembly)
        self.assembly = None
        self.run(message)

    def _drop_assembly(self) -> None:
        assembly = self.assembly
        if assembly is not None:
            self.assembly = None
            self.connection.release(len(assembly.body))
            self.connection.end_grant(assembly)


@final
class StreamCall(Stream):
    """A call of the three streaming kinds; its handler is a coroutine with a task of its own.

    Returning from the coroutine ends the call with OK, or with what ``fail`` said. When the call is
    cancelled the task is too. ``read`` has one reader at a time; ``write`` may have several.
    """

    __slots__ = (
        "_done",
        "_ended",
        "_flaw",
        "_messages",
        "_reader",
        "_started",
        "_writers",
        "assembly",
        "connection",
        "deadline",
        "on_cancel",
        "phase",
        "task",
    )

    def __init__(self, stream_id: int, request: Request, send_window: int, connection: Connection) -> None:
        super().__init__(stream_id, request, send_window)
        self.connection = connection
        self.deadline: float | None = None
        self.on_cancel: Callable[[], None] | None = None
        self.phase: int = GATHERING
        self.assembly = Assembly()
        self.task: asyncio.Task[None] | None = None
        self._messages: deque[tuple[bytes, int]] = deque()
        self._ended = False
        self._flaw: StatusError | None = None
        self._started = False
        self._done = False
        self._reader: asyncio.Future[None] | None = None
        self._writers: list[asyncio.Future[None]] = []

    @property
    def method(self) -> str:
        """The path, "/service/method"."""
        return self.request.path

    @property
    def peer(self) -> str:
        """The client's address as text."""
        return self.connection.peer

    @property
    def cancelled(self) -> bool:
        """Whether what is written would reach nobody."""
        return self.phase == CANCELLED

    def metadata(self) -> Mapping[str, list[str]]:
        """The request's metadata by lower-case name; "-bin" values are base64 as on the wire."""
        return metadata_of(self.request.fields, self.request.authority)

    async def read(self) -> bytes | None:
        """The next message; None once the client has half-closed.

        Raises:
            StatusError: what follows is no message; the call has failed with it already.
        """
        while not self._messages:
            if self._flaw is not None:
                raise self._flaw
            if self._ended:
                return None
            assert self._reader is None, "two readers of one stream"
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        message, size = self._messages.popleft()
        self.connection.release(len(message) + _MESSAGE_OVERHEAD)
        self.connection.engine.consumed(self, size)
        if not self.connection.flush_pending:
            self.connection.flush_soon()
        return message

    async def write(self, message: bytes) -> None:
        """Send a message; waits while the client's window and our buffers are full."""
        while not self.write_nowait(message):
            await self.drained()

    def write_nowait(self, message: bytes) -> bool:
        """Send a message if there is place for it; False: nothing was queued.

        True for a call that has ended.
        """
        connection = self.connection
        engine = connection.engine
        if self.phase != RUNNING:
            return True
        if engine.room <= 0 or engine.unsent_of(self) >= limits.STREAM_SEND_BUFFER_BYTES:
            return False
        if not self._started:
            self._started = True
            engine.send_headers(self, RESPONSE_HEADER_BLOCK)
        self.request.plan.counters.sent += 1
        connection.observer.sent_bytes += len(message)
        engine.send_message(self, message)
        if not connection.flush_pending:
            connection.flush_soon()
        return True

    async def drained(self) -> None:
        """Wait until ``write_nowait`` is worth another try."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._writers.append(waiter)
        self.connection.writers[self] = None
        await waiter

    def send_headers(self) -> None:
        """Send the response headers before the first message, for clients that wait for them."""
        if self.phase == RUNNING and not self._started:
            self._started = True
            self.connection.engine.send_headers(self, RESPONSE_HEADER_BLOCK)
            if not self.connection.flush_pending:
                self.connection.flush_soon()

    def fail(self, code: int, message: str) -> None:
        """End the call with a status other than OK."""
        if self.phase == RUNNING:
            self.finish(code, message)

    # -- from the engine -----------------------------------------------------------------------------------

    def opened(self) -> None:
        """Start the handler."""
        plan: Plan = self.request.plan
        assert plan.stream_handler is not None
        self.phase = RUNNING
        plan.counters.started += 1
        self.task = self.connection.start(self, self._run(plan.stream_handler))

    def data(self, buffer: bytes, start: int, stop: int, ended: bool) -> None:
        """Content: queue the messages that are whole."""
        if self.phase != RUNNING or self._flaw is not None:
            return
        connection = self.connection
        self.assembly.body += memoryview(buffer)[start:stop]
        connection.held += stop - start
        try:
            self._messages_of(self.assembly)
            if connection.held > limits.MAX_UNFINISHED_BYTES + connection.granted:
                raise StatusError(RESOURCE_EXHAUSTED, "grpc: too many unread messages on this connection")
            if ended and self.assembly.body:
                raise StatusError(INTERNAL, "unexpected EOF")
        except StatusError as error:
            self._flaw = error
            self.finish(error.code, error.message)
        self._ended = ended
        if self._reader is not None and not self._reader.done() and (self._messages or ended or self._flaw):
            self._reader.set_result(None)

    def writable(self) -> None:
        """What waited has shrunk: let writers go on."""
        writers, self._writers = self._writers, []
        self.connection.writers.pop(self, None)
        for writer in writers:
            if not writer.done():
                writer.set_result(None)

    def aborted(self, code: int) -> None:
        """Reset by the client, an error, or the connection's end."""
        if self.phase == RUNNING:
            self.request.plan.counters.handled[CODE_CANCELLED] += 1
            self.phase = CANCELLED
        self._wind_up()

    def expire(self) -> None:
        """The deadline has passed."""
        if self.phase == RUNNING:
            self.finish(DEADLINE_EXCEEDED, "context deadline exceeded")
            self.phase = CANCELLED
            self._wind_up()

    def finish(self, code: int, message: str) -> None:
        """Send the status, which ends the call."""
        if self.phase != RUNNING:
            return
        self.phase = ANSWERED
        self.request.plan.counters.handled[code] += 1
        connection = self.connection
        block = status_block(code, message, not self._started)
        if len(block) + 128 > connection.engine.peer_header_list:
            block = status_block(code, "", not self._started)
        connection.engine.send_trailers(self, block)
        self._let_go()
        self.writable()
        if not connection.flush_pending:
            connection.flush_soon()

    # -- inside --------------------------------------------------------------------------------------------

    async def _run(self, handler: StreamHandler) -> None:
        try:
            await handler(self)
            self.finish(OK, "")
        except EtcdError as error:
            self.fail(error.code, error.message)
            error.forget()
        except StatusError as error:
            self.fail(error.code, error.message)
        except Exception as error:
            self.connection.broke(self, error)
            self.fail(INTERNAL, "internal error")
        finally:
            self._done = True
            self.finish(CODE_CANCELLED, "context canceled")

    def _messages_of(self, assembly: Assembly) -> None:
        connection = self.connection
        plan: Plan = self.request.plan
        limit = connection.max_message_bytes
        while True:
            known = assembly.need >= 0
            if not assembly.read_prefix(plan.encoding, limit):
                return
            missing = assembly.need - len(assembly.body)
            if missing > 0:
                if not known and assembly.need > DEFAULT_WINDOW:
                    connection.ask_grant(self, assembly, assembly.need - DEFAULT_WINDOW)
                connection.engine.expect(self, missing)
                return
            size = assembly.need
            granted = assembly.granted
            message = assembly.take(limit)
            connection.end_grant(assembly)
            connection.held += len(message) + _MESSAGE_OVERHEAD - size
            connection.observer.received_bytes += len(message)
            plan.counters.received += 1
            self._messages.append((message, size - granted))

    def _let_go(self) -> None:
        """Give back what unread messages hold."""
        connection = self.connection
        held = len(self.assembly.body)
        for message, _size in self._messages:
            held += len(message) + _MESSAGE_OVERHEAD
        connection.release(held)
        connection.end_grant(self.assembly)
        self._messages.clear()
        self.assembly.body.clear()

    def _wind_up(self) -> None:
        """The call was cancelled: nothing is read any more, the handler is told."""
        self._let_go()
        self.writable()
        callback, self.on_cancel = self.on_cancel, None
        if callback is not None:
            try:
                callback()
            except Exception as error:
                self.connection.broke(self, error)
        if self.task is not None and not self._done:
            self.task.cancel()
