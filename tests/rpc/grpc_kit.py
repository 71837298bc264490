"""A gRPC server in a thread of its own, and a raw client for what grpcio would never send."""

import asyncio
import functools
import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, final

import grpc
import h2.config
import h2.connection
import h2.events
import h2.exceptions
import uvloop

from kvorum.errors import ERR_LEASE_NOT_FOUND, OUT_OF_RANGE
from kvorum.rpc.grpc import GrpcOptions, GrpcServer, StreamCall, UnaryCall

SECONDS: Final = 20.0
Fields = Mapping[str, str | None]
_NO_FIELDS: Final[Fields] = {}
LOOPS: Final[dict[str, Callable[[], asyncio.AbstractEventLoop]]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


@final
class Service:
    """Methods of every kind, with what they went through."""

    def __init__(self, server: GrpcServer) -> None:
        self.cancelled = threading.Event()
        self.started = threading.Event()
        self.calls: list[UnaryCall | StreamCall] = []
        self.gate = asyncio.Event()
        self.written = 0
        self.read = 0
        server.unary("/test.Svc/Echo", lambda call, message: call.reply(message))
        server.unary("/test.Svc/Later", self.later)
        server.unary("/test.Svc/Never", self.never)
        server.unary("/test.Svc/Fail", lambda call, message: call.fail(OUT_OF_RANGE, message.decode()))
        server.unary("/test.Svc/Raise", self.raise_)
        server.unary("/test.Svc/Crash", self.crash)
        server.unary("/test.Svc/Twice", self.twice)
        server.unary("/test.Svc/Metadata", self.metadata)
        server.unary("/test.Svc/Large", lambda call, message: call.reply(bytes(int(message))))
        server.unary("/test.Svc/Together", self.together)
        server.stream("/test.Svc/Bidi", self.bidi)
        server.stream("/test.Svc/Batches", self.batches)
        server.stream("/test.Svc/Pushed", self.pushed)
        server.stream("/test.Svc/Sum", self.sum, "client_stream")
        server.stream("/test.Svc/Count", self.count, "server_stream")
        server.stream("/test.Svc/Hang", self.hang)
        server.stream("/test.Svc/RaiseLate", self.raise_late)
        server.stream("/test.Svc/Slow", self.slow)
        server.stream("/test.Svc/Nothing", self.nothing)

    def later(self, call: UnaryCall, message: bytes) -> None:
        asyncio.get_running_loop().call_later(0.01, call.reply, message)

    def never(self, call: UnaryCall, message: bytes) -> None:
        self.calls.append(call)
        call.on_cancel = self.cancelled.set
        self.started.set()

    def raise_(self, call: UnaryCall, message: bytes) -> None:
        raise ERR_LEASE_NOT_FOUND

    def crash(self, call: UnaryCall, message: bytes) -> None:
        raise ZeroDivisionError(message)

    def twice(self, call: UnaryCall, message: bytes) -> None:
        call.reply(message)
        call.reply(b"again")
        call.fail(OUT_OF_RANGE, "again")

    def together(self, call: UnaryCall, message: bytes) -> None:
        """Holds calls until 100 are there, then answers all with much."""
        self.calls.append(call)
        if len(self.calls) == 100:
            for each in self.calls:
                if isinstance(each, UnaryCall):
                    each.when_writable(functools.partial(self.much, each, int(message)))

    def much(self, call: UnaryCall, size: int) -> None:
        self.written += 1
        call.reply(bytes(size))

    def metadata(self, call: UnaryCall, message: bytes) -> None:
        shown = {"method": call.method, "peer": call.peer, **call.metadata()}
        call.reply(json.dumps(shown).encode())

    async def bidi(self, call: StreamCall) -> None:
        while (message := await call.read()) is not None:
            self.read += 1
            await call.write(message)
            self.written += 1

    async def sum(self, call: StreamCall) -> None:
        total = 0
        while (message := await call.read()) is not None:
            total += len(message)
        await call.write(str(total).encode())

    async def count(self, call: StreamCall) -> None:
        message = await call.read()
        assert message is not None
        number, size = map(int, message.split())
        self.calls.append(call)
        for _ in range(number):
            await call.write(bytes(size))
            self.written += 1

    async def hang(self, call: StreamCall) -> None:
        self.calls.append(call)
        call.on_cancel = self.cancelled.set
        call.send_headers()
        self.started.set()
        await asyncio.get_running_loop().create_future()

    async def raise_late(self, call: StreamCall) -> None:
        await call.write(b"first")
        raise ERR_LEASE_NOT_FOUND

    async def slow(self, call: StreamCall) -> None:
        """Does not read until it is let."""
        self.calls.append(call)
        self.started.set()
        await self.gate.wait()
        while await call.read() is not None:
            self.read += 1

    async def batches(self, call: StreamCall) -> None:
        """Echo whatever is there at once, as one batch."""
        while messages := await call.read_all():
            while not call.write_batch(messages):
                await call.drained()

    async def pushed(self, call: StreamCall) -> None:
        """As Count, written without a task: each time the call takes more."""
        first = await call.read()
        assert first is not None
        count, size = map(int, first.split())
        left = [bytes(size)] * count
        self.calls.append(call)

        def push() -> None:
            while left:
                if not call.write_nowait(left[-1]):
                    call.when_writable(push)
                    return
                left.pop()
                self.written += 1
            if not done.done():
                done.set_result(None)

        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        push()
        await done

    async def nothing(self, call: StreamCall) -> None:
        """Ends without a message."""


@final
class Running:
    """A server on a loopback port, its loop in a thread. ``do`` runs something on that loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, options: GrpcOptions) -> None:
        self.loop: Final = loop
        self.errors: list[dict[str, Any]] = []
        loop.set_exception_handler(lambda _, context: self.errors.append(context))
        logger = logging.getLogger("kvorum.test.rpc")
        logger.propagate = False
        logger.setLevel(logging.CRITICAL + 1)
        self.server: Final = GrpcServer(options, logger)
        self.service: Final = Service(self.server)
        self._thread = threading.Thread(target=loop.run_forever)
        self._thread.start()
        self._listener = self.do(loop.create_server(self.server.protocol, "127.0.0.1", 0))
        self.port: Final[int] = self._listener.sockets[0].getsockname()[1]
        self.address: Final = f"127.0.0.1:{self.port}"

    def do(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(SECONDS)

    def ask(self, question: Callable[[], Any]) -> Any:
        """Evaluate on the loop's thread."""

        async def answer() -> Any:
            return question()

        return self.do(answer())

    def engines(self) -> list[Any]:
        return list(self.ask(self.engines_now))

    def engines_now(self) -> list[Any]:
        """For use on the loop's thread."""
        return [connection.engine for connection in self.server.connections]

    def close(self) -> None:
        async def end() -> None:
            self._listener.close()
            await self.server.shutdown(0.0)
            await self._listener.wait_closed()
            await self.loop.shutdown_default_executor()

        self.do(end())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(SECONDS)
        self.loop.close()
        assert not self.errors, self.errors


@contextmanager
def running(loop: str = "uvloop", options: GrpcOptions | None = None) -> Iterator[Running]:
    """A server for the length of a block."""
    server = Running(LOOPS[loop](), options if options is not None else GrpcOptions())
    try:
        yield server
    finally:
        server.close()


@contextmanager
def channel(server: Running, **options: Any) -> Iterator[grpc.Channel]:
    """A grpcio channel with a connection of its own."""
    settings = {
        "grpc.enable_http_proxy": 0,
        "grpc.use_local_subchannel_pool": 1,
        "grpc.max_receive_message_length": -1,
        "grpc.max_send_message_length": -1,
        **{f"grpc.{name}": value for name, value in options.items()},
    }
    with grpc.insecure_channel(server.address, options=list(settings.items())) as opened:
        yield opened


def prefixed(message: bytes, flag: int = 0) -> bytes:
    """A length-prefixed message."""
    return bytes((flag,)) + len(message).to_bytes(4, "big") + message


@final
class RawClient:
    """h2 over a blocking socket, with requests as raw as the test wants them."""

    def __init__(self, server: "Running | int") -> None:
        """``server``: one of this kit, or the port of any other on this machine."""
        port = server if isinstance(server, int) else server.port
        self.socket = socket.create_connection(("127.0.0.1", port), SECONDS)
        config = h2.config.H2Configuration(
            client_side=True, validate_outbound_headers=False, normalize_outbound_headers=False
        )
        self.h2 = h2.connection.H2Connection(config)
        self.h2.initiate_connection()
        self.headers: dict[int, dict[str, str]] = {}
        self.bodies: dict[int, bytes] = {}
        self.ended: set[int] = set()
        self.goaway: h2.events.ConnectionTerminated | None = None
        self.closed = False
        self.flush()

    def __enter__(self) -> "RawClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def flush(self) -> None:
        self.socket.sendall(self.h2.data_to_send())

    def request(
        self, path: str, body: bytes = b"", fields: Fields = _NO_FIELDS, *, ended: bool = True
    ) -> int:
        """Send a request; ``fields`` replace the usual ones, None leaves one out."""
        usual: dict[str, str | None] = {
            ":method": "POST",
            ":scheme": "http",
            ":path": path,
            ":authority": "test",
            "te": "trailers",
            "content-type": "application/grpc",
            **fields,
        }
        stream_id = self.h2.get_next_available_stream_id()
        self.h2.send_headers(
            stream_id,
            [(name, value) for name, value in usual.items() if value is not None],
            end_stream=ended and not body,
        )
        if body:
            self.h2.send_data(stream_id, body, end_stream=ended)
        self.flush()
        return stream_id

    def pump(self) -> None:
        """Read once and note what came."""
        data = self.socket.recv(1 << 16)
        if not data:
            self.closed = True
            return
        for event in self.h2.receive_data(data):
            if isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
                known = self.headers.setdefault(event.stream_id, {})
                known.update({bytes(n).decode(): bytes(v).decode() for n, v in event.headers})
            elif isinstance(event, h2.events.DataReceived):
                self.bodies[event.stream_id] = self.bodies.get(event.stream_id, b"") + event.data
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded | h2.events.StreamReset):
                self.ended.add(event.stream_id)
            elif isinstance(event, h2.events.ConnectionTerminated):
                self.goaway = event
        if self.goaway is None:
            self.flush()

    def finish(self, stream_id: int) -> dict[str, str]:
        """Read until the stream has ended; headers and trailers as one."""
        while stream_id not in self.ended:
            self.pump()
            assert not self.closed, "the server closed the connection"
        return self.headers[stream_id]

    def status(self, path: str, body: bytes = b"", fields: Fields = _NO_FIELDS) -> tuple[int, str]:
        """Code and text of a call."""
        headers = self.finish(self.request(path, body, fields))
        return int(headers["grpc-status"]), headers.get("grpc-message", "")

    def wait_closed(self) -> h2.events.ConnectionTerminated | None:
        """Read until the server closes; the GOAWAY it sent."""
        while not self.closed:
            try:
                self.pump()
            except ConnectionResetError:
                break
        return self.goaway
