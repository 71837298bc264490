"""A call with one request message and one answer, the hot path.

A call is the HTTP/2 stream it came on (one object, not two that point at each other). Its states:

    GATHERING -- whole message / task started --> RUNNING -- reply, fail, end of the coroutine --> ANSWERED
        |                                            |
        +------- reset, disconnect, deadline --------+--> CANCELLED

Only a RUNNING call can be answered, so an answer that comes twice or too late is nothing.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Final, final

from kvorum import limits
from kvorum.errors import CANCELLED as CODE_CANCELLED
from kvorum.errors import DEADLINE_EXCEEDED, INTERNAL, OK, RESOURCE_EXHAUSTED, EtcdError
from kvorum.rpc.connection import (
    ANSWERED,
    CANCELLED,
    GATHERING,
    MESSAGE_OVERHEAD,
    RUNNING,
    Assembly,
    Connection,
    Plan,
    status_block,
)
from kvorum.rpc.frames import DEFAULT_WINDOW
from kvorum.rpc.messages import StatusError, metadata_of
from kvorum.rpc.requests import Request
from kvorum.rpc.streams import OPEN, Stream

_CONGESTED: Final = limits.CONGESTED_BYTES


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

    def when_writable(self, work: Callable[[], None]) -> None:
        """Do ``work``, which makes a large answer: now, or when the client has taken what was sent before.

        Many large answers that become possible together, as after one ReadIndex, would otherwise all be in
        memory at once. ``work`` is not done for a call that was cancelled meanwhile; its errors are answered.
        """
        if self.connection.engine.congested:
            self.connection.waiting.append(functools.partial(self.go_on, work))
        else:
            self.go_on(work)

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
        engine = connection.engine
        if engine.room <= 0 or engine.unsent > _CONGESTED:
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
        if self.connection.hold(len(message) + MESSAGE_OVERHEAD):
            self.connection.waiting.append(functools.partial(self.resume, message))
        else:
            self.refuse(RESOURCE_EXHAUSTED, "grpc: too many requests waiting on this connection")

    def resume(self, message: bytes) -> None:
        """Undo ``wait``."""
        self.connection.release(len(message) + MESSAGE_OVERHEAD)
        if self.phase == GATHERING:
            self.run(message)

    def go_on(self, work: Callable[[], None]) -> None:
        """Do what a handler left for later."""
        if self.phase != RUNNING:
            return
        try:
            work()
        except EtcdError as error:
            self.fail(error.code, error.message)
            error.forget()
        except Exception as error:
            self.connection.broke(self, error)
            self.fail(INTERNAL, "internal error")

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
