"""The shell around the engine: a transport and one timer per connection.

It holds no protocol knowledge of HTTP/2; what it adds is time and sockets. Bytes read go to the engine, which
calls the calls; what they answer gathers in the engine and leaves in one write at the end of the turn.

    data_received -> Engine.receive -> UnaryCall.run -> handler -> reply -> Engine.out
                                                                        flush -> transport.write

A connection whose client does not read is "congested" (``http2.py``): its requests then wait in
``waiting``, its streams' writers in ``writers``, and ``flush`` lets both go on.
"""

import asyncio
import socket
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final, cast, final

from kvorum import limits
from kvorum.errors import DEADLINE_EXCEEDED
from kvorum.rpc import frames
from kvorum.rpc.calls import UnaryCall
from kvorum.rpc.connection import (
    GATHERING,
    NO_DEADLINE,
    OK_TRAILER_BLOCK,
    RESPONSE_HEADER_BLOCK,
    Connection,
    Plan,
    status_block,
)
from kvorum.rpc.http2 import Engine
from kvorum.rpc.methods import GrpcOptions
from kvorum.rpc.requests import Request
from kvorum.rpc.streaming import StreamCall
from kvorum.rpc.streams import OPEN, ResponseShape, Stream

if TYPE_CHECKING:
    from kvorum.rpc.grpc import GrpcServer

_OVERFLOW_BLOCK: Final = status_block(8, "grpc: too many unread answers on this connection", True)
_SHAPE: Final = ResponseShape(RESPONSE_HEADER_BLOCK, OK_TRAILER_BLOCK, _OVERFLOW_BLOCK)
_TIMER_GRAIN_SECONDS: Final = 0.002
"""Deadlines closer together than this share one look at the open calls."""
_CLOSE_SECONDS: Final = 1.0
"""How long a client may take to see a GOAWAY before its connection is cut (grpc-go waits as long)."""


@final
class GrpcProtocol(Connection, asyncio.Protocol):
    """One client connection.

    Another protocol may hand over its transport: ``connection_made(transport)``, then ``data_received`` with
    what was read so far.
    """

    __slots__ = (
        "_close_at",
        "_goaway_at",
        "_last_read",
        "_loop",
        "_made_at",
        "_next_deadline",
        "_ping_at",
        "_reading",
        "_server",
        "_sweep_at",
        "_sweep_id",
        "_sweep_progress",
        "_timer",
        "_timer_at",
        "_transport",
    )

    def __init__(self, server: "GrpcServer") -> None:
        super().__init__(server.observer, server.options.max_message_bytes)
        self._server = server
        self._transport: asyncio.Transport | None = None
        self._reading = True
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = NO_DEADLINE
        self._next_deadline = NO_DEADLINE
        self._ping_at = NO_DEADLINE
        self._goaway_at = NO_DEADLINE
        self._close_at = NO_DEADLINE
        self._sweep_id = 0
        self._sweep_progress = -1

    # -- asyncio.Protocol ----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take over a transport, new or not."""
        self._transport = cast("asyncio.Transport", transport)
        self._loop = asyncio.get_running_loop()
        options = self._server.options
        now = self._loop.time()
        self._made_at = self._last_read = now
        self._sweep_at = now + options.unfinished_request_seconds
        self.peer = _address(transport.get_extra_info("peername"))
        self._transport.set_write_buffer_limits(high=limits.SEND_BUFFER_BYTES)
        _set_user_timeout(transport.get_extra_info("socket"), options)
        self.engine = Engine(
            self,
            _SHAPE,
            min(options.max_concurrent_streams, limits.MAX_CONCURRENT_STREAMS),
            options.keepalive_min_time,
            now,
        )
        self.flush_soon()
        first_ping = options.keepalive_interval if options.keepalive_interval > 0 else NO_DEADLINE
        self._arm(now + min(options.handshake_seconds, options.unfinished_request_seconds, first_ping))
        if not self._server.opened(self):
            self.drain()

    def data_received(self, data: bytes) -> None:
        """Bytes from the client: handle them, then send what they gave rise to."""
        self.flush_pending = True
        self._last_read = now = self._loop.time()
        self.engine.receive(data, now)
        self.flush()

    def eof_received(self) -> bool | None:
        """The client will send no more: no gRPC client half-closes its connection, so it is gone."""
        return None

    def pause_writing(self) -> None:
        """The transport holds SEND_BUFFER_BYTES."""
        self.engine.set_paused(True)

    def resume_writing(self) -> None:
        """The transport's buffer has drained."""
        self.engine.set_paused(False)
        if not self.flush_pending:
            self.flush_soon()

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport is closed: whoever still works for this client is told."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._transport = None
        self.engine.lost()
        self.engine.out.clear()
        self.waiting.clear()
        self.grants.clear()
        self._server.closed(self)

    # -- Receiver ------------------------------------------------------------------------------------------

    def prepare(self, request: Request) -> None:
        """Work out what a header section means, once for all requests that repeat it."""
        plan = self._server.methods.plan(request)
        request.plan = plan
        request.announce = plan.unary_handler is None

    def new_stream(self, stream_id: int, request: Request, send_window: int) -> Stream:
        """A call begins."""
        plan: Plan = request.plan
        call: UnaryCall | StreamCall
        if plan.stream_handler is None:
            call = UnaryCall(stream_id, request, send_window, self)
        else:
            call = StreamCall(stream_id, request, send_window, self)
        if plan.timeout < NO_DEADLINE:
            call.deadline = deadline = self.engine.now + plan.timeout
            if deadline < self._next_deadline:
                self._next_deadline = deadline
                self._arm(deadline)
        return call

    # -- Connection ----------------------------------------------------------------------------------------

    def extra_info(self, name: str) -> Any:
        """What the transport knows (``peercert``, ``ssl_object``...); None otherwise."""
        return None if self._transport is None else self._transport.get_extra_info(name)

    def flush_soon(self) -> None:
        """See that what was sent leaves at the end of this turn of the loop."""
        if not self.flush_pending:
            self.flush_pending = True
            self._loop.call_soon(self.flush)

    def start(self, call: StreamCall, coroutine: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Run a stream's handler."""
        return self._loop.create_task(coroutine)

    def broke(self, call: UnaryCall | StreamCall, error: Exception) -> None:
        """A handler raised what it should not."""
        self._server.logger.error("handler failed", exc_info=error, extra={"method": call.method})

    # -- sending -------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Write everything in one piece; then let go on who waited for place."""
        self.flush_pending = False
        transport = self._transport
        if transport is None:
            return
        engine = self.engine
        out = engine.out
        if out and (not engine.paused or engine.terminated):
            data = b"".join(out)
            out.clear()
            transport.write(data)
            engine.flushed(engine.paused)
        if engine.terminated or engine.draining:
            self._wind_up(transport)
        if (self.waiting or self.writers) and engine.room > 0:
            self._go_on()
        if engine.paused or not self._reading:
            self._steer_reading(transport)
        if out and not engine.paused:
            self.flush_soon()

    def _go_on(self) -> None:
        """There is room again: first the streams' writers, then requests that waited."""
        engine = self.engine
        for call in list(self.writers):
            if engine.unsent_of(call) < limits.STREAM_SEND_BUFFER_BYTES:
                call.writable()
        waiting = self.waiting
        while waiting and not engine.congested:
            waiting.popleft()()

    def _steer_reading(self, transport: asyncio.Transport) -> None:
        """Stop reading from a client that makes us answer and does not read; go on when it does."""
        stop = self.engine.stop_reading
        if stop == self._reading and not transport.is_closing():
            self._reading = not stop
            if stop:
                transport.pause_reading()
            else:
                transport.resume_reading()

    # -- ending --------------------------------------------------------------------------------------------

    def drain(self) -> None:
        """Ask the client to go elsewhere; close when its calls have ended."""
        self.engine.goaway_begin()
        self._goaway_at = self._loop.time() + limits.GOAWAY_SECONDS
        self._arm(self._goaway_at)
        self.flush_soon()

    def abort(self) -> None:
        """Cut the connection."""
        if self._transport is not None:
            self._transport.abort()

    def _wind_up(self, transport: asyncio.Transport) -> None:
        """After GOAWAY: close when nothing is left to do."""
        if self._close_at < NO_DEADLINE:
            return
        if self.engine.terminated:
            # Reading on for a moment keeps unread bytes from turning the close into a reset, which could
            # overtake the GOAWAY.
            if transport.can_write_eof():
                transport.write_eof()
        elif self.engine.drained and not self.engine.out:
            transport.close()
        else:
            return
        self._close_at = self._loop.time() + _CLOSE_SECONDS
        self._arm(self._close_at)

    # -- time ----------------------------------------------------------------------------------------------

    def _arm(self, when: float) -> None:
        """Have ``_tick`` called at ``when`` at the latest."""
        if when < self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = when
            self._timer = self._loop.call_at(when, self._tick)

    def _tick(self) -> None:
        """The one timer: whatever is due, and when it has to be looked at again."""
        self._timer = None
        self._timer_at = NO_DEADLINE
        now = self._loop.time()
        if now >= self._close_at or not self._alive(now):
            self.abort()
            return
        if now >= self._goaway_at:
            self._goaway_at = NO_DEADLINE
            self.engine.goaway_final()
        if now >= self._next_deadline:
            self._expire(now)
        if now >= self._sweep_at:
            self._sweep(now)
        when = min(self._close_at, self._goaway_at, self._next_deadline, self._sweep_at, self._alive_at())
        self._arm(max(when, now + _TIMER_GRAIN_SECONDS))
        self.flush_soon()

    def _expire(self, now: float) -> None:
        """End the calls whose deadline has passed; find the next one."""
        following = NO_DEADLINE
        for stream in list(self.engine.streams.values()):
            call = cast("UnaryCall | StreamCall", stream)
            deadline = call.deadline
            if deadline is None:
                continue
            if deadline <= now:
                call.expire()
            elif deadline < following:
                following = deadline
        self._next_deadline = following

    def _alive(self, now: float) -> bool:
        """Keepalive as grpc-go's server does it; also the handshake's time limit."""
        options = self._server.options
        if not self.engine.seen_settings:
            return now < self._made_at + options.handshake_seconds
        if options.keepalive_interval <= 0 or options.keepalive_timeout <= 0:
            return True
        if self._last_read >= self._ping_at or self._ping_at == NO_DEADLINE:
            self._ping_at = NO_DEADLINE
            if now >= self._last_read + options.keepalive_interval:
                self._ping_at = now
                self.engine.keepalive_ping()
            return True
        return now < self._ping_at + options.keepalive_timeout

    def _alive_at(self) -> float:
        """When ``_alive`` has to look again."""
        options = self._server.options
        if not self.engine.seen_settings:
            return self._made_at + options.handshake_seconds
        if options.keepalive_interval <= 0 or options.keepalive_timeout <= 0:
            return NO_DEADLINE
        if self._ping_at < NO_DEADLINE:
            return self._ping_at + options.keepalive_timeout
        return self._last_read + options.keepalive_interval

    def _sweep(self, now: float) -> None:
        """End what began before the last sweep and is still not complete."""
        engine = self.engine
        if (engine.buffer or engine.block is not None) and engine.progress == self._sweep_progress:
            engine.terminate(frames.PROTOCOL_ERROR, "request never finished")
            return
        for stream in list(engine.streams.values()):
            if stream.id > self._sweep_id:
                break
            if isinstance(stream, UnaryCall) and stream.phase == GATHERING and stream.state == OPEN:
                stream.refuse(DEADLINE_EXCEEDED, "request never finished")
        self._sweep_id = engine.last_id
        self._sweep_progress = engine.progress
        self._sweep_at = now + self._server.options.unfinished_request_seconds


def _address(name: Any) -> str:
    """A peer name as Go prints it."""
    if isinstance(name, tuple) and len(name) >= 2:
        host, port = name[0], name[1]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return str(name) if name else ""


def _set_user_timeout(sock: socket.socket | None, options: GrpcOptions) -> None:
    """TCP_USER_TIMEOUT, as grpc-go sets it with keepalive: a peer that acknowledges nothing is cut off."""
    option = getattr(socket, "TCP_USER_TIMEOUT", None)
    if sock is None or option is None or options.keepalive_timeout <= 0 or options.keepalive_interval <= 0:
        return
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.IPPROTO_TCP, option, int(options.keepalive_timeout * 1000))
