"""Clients that do not read, finish, answer, or tell the truth: bounded, ended, others served meanwhile."""

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any, Final, final

import pytest

from kvorum import limits
from kvorum.rpc import frames
from kvorum.rpc.frames import DEFAULT_WINDOW, ENHANCE_YOUR_CALM, MAX_WINDOW, PROTOCOL_ERROR, frame
from kvorum.rpc.grpc import GrpcOptions
from tests.rpc.engine_kit import Frame, block, parse_frames
from tests.rpc.grpc_kit import SECONDS, RawClient, Running, channel, prefixed, running

WIDE: Final = frames.settings_frame({frames.SETTINGS_INITIAL_WINDOW_SIZE: MAX_WINDOW})


@pytest.fixture(params=["asyncio", "uvloop"])
def server(request: pytest.FixtureRequest) -> Iterator[Running]:
    with running(request.param) as started:
        yield started


@final
class Bare:
    """A socket that sends frames and reads only when told."""

    def __init__(self, server: Running, settings: bytes = b"", *, greet: bool = True) -> None:
        self.server = server
        self.socket = socket.create_connection(("127.0.0.1", server.port), SECONDS)
        if greet:
            self.socket.sendall(frames.CLIENT_PREFACE + (settings or frames.settings_frame({})))

    def __enter__(self) -> "Bare":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def headers(self, stream_id: int, path: str, *, ended: bool = False) -> bytes:
        fields = [(":method", "POST"), (":scheme", "http"), (":path", path), ("te", "trailers")]
        whole = block([*fields, ("content-type", "application/grpc")])
        return frame(frames.HEADERS, frames.END_HEADERS | ended, stream_id, whole)

    def call(self, stream_id: int, path: str, message: bytes) -> bytes:
        return self.headers(stream_id, path) + frame(frames.DATA, 1, stream_id, prefixed(message))

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def until_closed(self) -> list[Frame]:
        """Everything the server says until it closes."""
        received = b""
        while True:
            try:
                piece = self.socket.recv(1 << 16)
            except ConnectionResetError:
                piece = b""
            if not piece:
                return parse_frames(received)
            received += piece

    def goaway(self) -> Frame:
        """The GOAWAY with which the server closes."""
        return [frame for frame in self.until_closed() if frame.kind == frames.GOAWAY][-1]

    def wait(self, condition: Callable[[Any], bool]) -> Any:
        """Wait until something is true of the server's end of this connection; returns that."""
        peer = f"127.0.0.1:{self.socket.getsockname()[1]}"
        table = self.server.server.connections

        async def poll() -> Any:
            deadline = time.monotonic() + SECONDS
            while True:
                found = [connection for connection in table if connection.peer == peer]
                if found and condition(found[0]):
                    return found[0]
                assert time.monotonic() < deadline
                await asyncio.sleep(0.005)  # the server has no event for a test to wait on

        return self.server.do(poll())


def held(connection: Any) -> int:
    """Bytes of answers that the server keeps for a client."""
    engine = connection.engine
    transport = connection._transport
    return int(sum(len(part) for part in engine.out) + engine.unsent + transport.get_write_buffer_size())


def others_are_served(server: Running) -> None:
    with channel(server) as client:
        assert client.unary_unary("/test.Svc/Echo")(b"hello", timeout=SECONDS) == b"hello"


def test_a_client_that_does_not_read_its_answers(server: Running) -> None:
    """300 answers of 1 MiB asked for, windows wide open, nothing read: a few are made, the rest wait."""
    with Bare(server, WIDE + frames.window_update_frame(0, MAX_WINDOW - DEFAULT_WINDOW)) as bare:
        large = 1 << 20
        for number in range(300):
            bare.send(bare.call(2 * number + 1, "/test.Svc/Large", str(large).encode()))
        connection = bare.wait(lambda c: c.engine.paused and len(c.waiting) > 200)
        assert server.ask(lambda: held(connection)) < 2 * large + 2 * limits.SEND_BUFFER_BYTES
        others_are_served(server)
        received = 0
        while received < 300 * large:  # and once it reads, it gets everything
            received += len(bare.socket.recv(1 << 20))
        bare.wait(lambda c: not c.waiting and c.held == 0 and not c.engine.streams)


def test_answers_that_become_possible_together_are_made_in_turn(server: Running) -> None:
    """100 answers of 1 MiB after one event, as after a ReadIndex."""
    large = 1 << 20
    with Bare(server, WIDE) as bare:
        for number in range(100):
            bare.send(bare.call(2 * number + 1, "/test.Svc/Together", str(large).encode()))
        connection = bare.wait(lambda c: len(c.waiting) > 90)
        assert server.ask(lambda: held(connection)) < 2 * large + limits.SEND_BUFFER_BYTES
        assert server.service.written < 10
        bare.send(frames.rst_stream_frame(199, frames.CANCEL))
        bare.send(frames.window_update_frame(0, MAX_WINDOW - DEFAULT_WINDOW))
        received = 0
        while received < 99 * large:
            received += len(bare.socket.recv(1 << 20))
        bare.wait(lambda c: not c.waiting and not c.engine.streams)
        assert server.service.written == 99


def test_a_stream_that_is_not_read_waits_for_its_reader(server: Running) -> None:
    with Bare(server, WIDE) as bare:
        bare.send(bare.call(1, "/test.Svc/Count", b"100000 10000"))
        connection = bare.wait(lambda c: c.engine.send_window == 0)
        others_are_served(server)
        written = server.service.written
        assert written * 10_000 < limits.SEND_BUFFER_BYTES + limits.STREAM_SEND_BUFFER_BYTES + DEFAULT_WINDOW
        bare.send(frames.window_update_frame(0, 10_000_000))
        bare.wait(lambda c: c.engine.paused or c.engine.send_window == 0)
        assert server.ask(lambda: held(connection)) < 2 * limits.SEND_BUFFER_BYTES + 2 * DEFAULT_WINDOW


def test_other_streams_of_the_same_client_go_on(server: Running) -> None:
    """A stream without window holds 64 KiB and does not stop its neighbours."""
    with Bare(server) as bare:
        bare.send(frames.window_update_frame(0, 10_000_000) + bare.call(1, "/test.Svc/Count", b"1000 10000"))
        connection = bare.wait(
            lambda c: c.engine.streams and c.engine.unsent >= limits.STREAM_SEND_BUFFER_BYTES
        )
        assert server.ask(lambda: connection.engine.unsent) < limits.STREAM_SEND_BUFFER_BYTES + 20_000
        bare.send(bare.call(3, "/test.Svc/Large", b"50000"))
        bare.wait(lambda c: c.engine.last_id == 3 and 3 not in c.engine.streams)


def test_messages_that_no_handler_reads_use_up_the_window_and_no_more(server: Running) -> None:
    with RawClient(server) as client:
        stream_id = client.request("/test.Svc/Slow", ended=False)
        assert server.service.started.wait(SECONDS)
        sent = 0
        message = prefixed(bytes(995))
        while client.h2.local_flow_control_window(stream_id) >= len(message):
            client.h2.send_data(stream_id, message)
            client.flush()
            sent += 1
        assert sent == DEFAULT_WINDOW // 1000
        server.ask(server.service.gate.set)
        for _ in range(1000):
            while client.h2.local_flow_control_window(stream_id) < len(message):
                client.pump()
            client.h2.send_data(stream_id, message)
            client.flush()
        client.h2.end_stream(stream_id)
        client.flush()
        assert client.finish(stream_id)["grpc-status"] == "0"
        assert server.service.read == sent + 1000
        assert all(connection.held == 0 for connection in server.server.connections)


def test_requests_that_never_finish_are_bounded_in_memory(server: Running) -> None:
    """64 KiB of each of 2,000 requests is 128 MiB: half of them are turned away."""
    with Bare(server) as bare:
        piece = bytes(16_000)
        for number in range(2000):
            stream_id = 2 * number + 1
            start = frame(frames.DATA, 0, stream_id, b"\0\0\0\xfe\0" + piece)
            bare.send(bare.headers(stream_id, "/test.Svc/Echo") + start)
            bare.send(frame(frames.DATA, 0, stream_id, piece) * 3)
        connection = bare.wait(lambda c: c.engine.last_id == 3999 and not c.engine.buffer)
        kept, refused = server.ask(lambda: (connection.held, server.server.observer.failed[8]))
        assert limits.MAX_UNFINISHED_BYTES - 70_000 < kept <= limits.MAX_UNFINISHED_BYTES
        assert 500 < refused < 1500
        others_are_served(server)


def test_windows_of_large_messages_are_granted_in_turn(server: Running) -> None:
    size = 2 * 1024 * 1024
    with Bare(server) as bare:
        for number in range(40):
            stream_id = 2 * number + 1
            announced = frame(frames.DATA, 0, stream_id, b"\0" + size.to_bytes(4, "big"))
            bare.send(bare.headers(stream_id, "/test.Svc/Echo") + announced)
        connection = bare.wait(lambda c: len(c.engine.streams) == 40)
        granted, waiting = server.ask(lambda: (connection.granted, len(connection.grants)))
        assert limits.MAX_UNFINISHED_BYTES - size < granted <= limits.MAX_UNFINISHED_BYTES
        assert waiting == 40 - granted // (size + 5 - DEFAULT_WINDOW)
        for number in range(20):
            bare.send(frames.rst_stream_frame(2 * number + 1, frames.CANCEL))
        bare.wait(lambda c: not c.grants)
        bare.send(b"".join(frames.rst_stream_frame(2 * number + 1, 8) for number in range(20, 40)))
        bare.wait(lambda c: c.granted == 0 and c.held == 0)


def test_half_open_connections_are_closed() -> None:
    with running(options=GrpcOptions(handshake_seconds=0.1)) as server:
        quiet = [Bare(server, greet=False) for _ in range(3)]
        quiet[1].send(frames.CLIENT_PREFACE[:10])
        quiet[2].send(frames.CLIENT_PREFACE)
        with channel(server) as client:
            for bare in quiet:
                assert all(sent.kind != frames.GOAWAY for sent in bare.until_closed())
            assert client.unary_unary("/test.Svc/Echo")(b"x", timeout=SECONDS) == b"x"
        for bare in quiet:
            bare.socket.close()


@pytest.mark.parametrize("unfinished", ["frame", "header block"])
def test_frames_that_never_finish_end_the_connection(unfinished: str) -> None:
    options = GrpcOptions(unfinished_request_seconds=0.1)
    with running(options=options) as server, Bare(server) as bare:
        whole = bare.headers(1, "/test.Svc/Echo")
        if unfinished == "frame":
            bare.send(whole[:-1])
        else:
            bare.send(whole[:4] + b"\0" + whole[5:])
        goaway = bare.goaway()
        assert (goaway.code, goaway.payload[8:]) == (PROTOCOL_ERROR, b"request never finished")
        others_are_served(server)


def test_requests_that_never_finish_are_answered() -> None:
    options = GrpcOptions(unfinished_request_seconds=0.1)
    with running(options=options) as server, RawClient(server) as client:
        unfinished = client.request("/test.Svc/Echo", b"\0\0", ended=False)
        pending = client.request("/test.Svc/Never", prefixed(b""))
        stream = client.request("/test.Svc/Bidi", ended=False)
        assert client.finish(unfinished)["grpc-status"] == "4"
        assert client.finish(unfinished)["grpc-message"] == "request never finished"
        assert not {pending, stream} & client.ended  # what waits for us, or may wait, is left alone


def test_too_many_pings_over_a_socket(server: Running) -> None:
    with Bare(server) as bare:
        bare.send(frame(frames.PING, 0, 0, bytes(8)) * 4)
        goaway = bare.goaway()
        assert (goaway.code, goaway.payload[8:]) == (ENHANCE_YOUR_CALM, b"too_many_pings")
    others_are_served(server)


def test_a_client_that_does_not_answer_keepalive_is_cut_off() -> None:
    options = GrpcOptions(keepalive_interval=0.1, keepalive_timeout=0.2)
    with running(options=options) as server, Bare(server) as bare, channel(server) as client:
        pending = client.unary_unary("/test.Svc/Never").future(b"")
        kinds = [sent.kind for sent in bare.until_closed()]
        assert kinds.count(frames.PING) == 1
        assert not pending.done()  # grpcio answers pings, so its call goes on
        pending.cancel()


def test_garbage_ends_its_connection_only(server: Running) -> None:
    for garbage in (b"GET / HTTP/1.1\r\n\r\n", bytes(100), frames.CLIENT_PREFACE + bytes(range(256)) * 2):
        with Bare(server, greet=False) as bare:
            bare.send(garbage)
            assert bare.goaway().code in (PROTOCOL_ERROR, frames.FRAME_SIZE_ERROR)
    others_are_served(server)
    assert not server.ask(lambda: any(len(engine.streams) for engine in server.engines_now()))


def test_a_flood_is_cut_off(server: Running) -> None:
    with Bare(server) as bare:
        flood = frames.settings_frame({frames.SETTINGS_ENABLE_PUSH: 0}) * 1000
        with pytest.raises(ConnectionError):
            keep_sending(bare, flood)
    others_are_served(server)


def keep_sending(bare: Bare, data: bytes) -> None:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        bare.send(data)
