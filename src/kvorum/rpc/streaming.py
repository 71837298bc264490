"""A call of the three streaming kinds: a coroutine that reads and writes messages.

Flow control reaches the handler: a message that was not read keeps its bytes of the client's window, a write
waits while the client does not read.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from typing import final

from kvorum import limits
from kvorum.errors import CANCELLED as CODE_CANCELLED
from kvorum.errors import DEADLINE_EXCEEDED, INTERNAL, OK, RESOURCE_EXHAUSTED, EtcdError
from kvorum.rpc.connection import (
    ANSWERED,
    CANCELLED,
    GATHERING,
    MESSAGE_OVERHEAD,
    RESPONSE_HEADER_BLOCK,
    RUNNING,
    Assembly,
    Connection,
    Plan,
    StreamHandler,
    status_block,
)
from kvorum.rpc.frames import DEFAULT_WINDOW
from kvorum.rpc.messages import StatusError, metadata_of
from kvorum.rpc.requests import Request
from kvorum.rpc.streams import Stream


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
        "_on_writable",
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
        self._on_writable: Callable[[], None] | None = None

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
        if not self._messages and not await self._arrived():
            return None
        message, size = self._messages.popleft()
        self.connection.release(len(message) + MESSAGE_OVERHEAD)
        self.connection.engine.consumed(self, size)
        if not self.connection.flush_pending:
            self.connection.flush_soon()
        return message

    async def read_all(self) -> list[bytes]:
        """The messages that are there, at least one; none once the client has half-closed.

        Raises:
            StatusError: as ``read``.
        """
        if not self._messages and not await self._arrived():
            return []
        messages = [message for message, _ in self._messages]
        self.connection.release(sum(map(len, messages)) + MESSAGE_OVERHEAD * len(messages))
        self.connection.engine.consumed(self, sum(size for _, size in self._messages))
        self._messages.clear()
        if not self.connection.flush_pending:
            self.connection.flush_soon()
        return messages

    async def _arrived(self) -> bool:
        """Wait for a message; False once the client has half-closed."""
        while not self._messages:
            if self._flaw is not None:
                raise self._flaw
            if self._ended:
                return False
            assert self._reader is None, "two readers of one stream"
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        return True

    async def write(self, message: bytes) -> None:
        """Send a message; waits while the client's window and our buffers are full."""
        while not self.write_nowait(message):
            await self.drained()

    def write_nowait(self, message: bytes) -> bool:
        """Send a message if there is place for it; False: nothing was queued.

        True for a call that has ended.
        """
        return self.write_batch([message])

    def write_batch(self, messages: list[bytes]) -> bool:
        """Send messages if there is place for one; False: nothing was queued. Small ones share a frame.

        What is sent beyond the place there is waits in memory, so the caller bounds it. True for a call that
        has ended.
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
        self.request.plan.counters.sent += len(messages)
        connection.observer.sent_bytes += sum(map(len, messages))
        engine.send_messages(self, messages)
        if not connection.flush_pending:
            connection.flush_soon()
        return True

    async def drained(self) -> None:
        """Wait until ``write_nowait`` is worth another try."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._writers.append(waiter)
        self.connection.writers[self] = None
        await waiter

    def when_writable(self, callback: Callable[[], None]) -> None:
        """Have ``callback`` called once, when ``write_nowait`` is worth another try or the call has ended.

        For writers without a task; there is one at a time. It is called in the middle of sending, so it
        should only schedule, or write.
        """
        assert self._on_writable is None, "two who wait to write to one stream"
        self._on_writable = callback
        self.connection.writers[self] = None

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

    def close(self, code: int, message: str) -> None:
        """End the call from outside its handler, with a status; the handler's task is cancelled."""
        if self.phase == RUNNING:
            self.finish(code, message)
            self._wind_up()

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
        callback, self._on_writable = self._on_writable, None
        if callback is not None:
            self._call(callback)

    def _call(self, callback: Callable[[], None]) -> None:
        try:
            callback()
        except Exception as error:
            self.connection.broke(self, error)
            self.fail(INTERNAL, "internal error")

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
            connection.held += len(message) + MESSAGE_OVERHEAD - size
            connection.observer.received_bytes += len(message)
            plan.counters.received += 1
            self._messages.append((message, size - granted))

    def _let_go(self) -> None:
        """Give back what unread messages hold."""
        connection = self.connection
        held = len(self.assembly.body)
        for message, _size in self._messages:
            held += len(message) + MESSAGE_OVERHEAD
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
