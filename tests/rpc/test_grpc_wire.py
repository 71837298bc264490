"""Requests that no gRPC library sends, over real sockets: each answer is grpc-go's."""

import gzip
import socket
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvorum import limits
from kvorum.rpc import frames
from kvorum.rpc.messages import (
    StatusError,
    decompress,
    encode_status_message,
    metadata_of,
    parse_timeout,
    unknown_method,
    unreadable_message,
)
from tests.rpc.engine_kit import parse_frames
from tests.rpc.grpc_kit import SECONDS, RawClient, Running, prefixed, running


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running() as started:
        yield started


@pytest.fixture
def client(server: Running) -> Iterator[RawClient]:
    with RawClient(server) as opened:
        yield opened


ECHO = "/test.Svc/Echo"
NOT_GRPC = "invalid gRPC request content-type"
TIMEOUT = "malformed grpc-timeout: transport: timeout"


def test_the_answer_as_it_stands_on_the_wire(client: RawClient) -> None:
    headers = client.finish(client.request(ECHO, prefixed(b"hi")))
    assert headers == {":status": "200", "content-type": "application/grpc", "grpc-status": "0"}
    assert client.bodies[1] == prefixed(b"hi")


@pytest.mark.parametrize(
    ("fields", "status", "code", "text"),
    [
        ({"content-type": None}, "415", "3", f'{NOT_GRPC} ""'),
        ({"content-type": "text/plain"}, "415", "3", f'{NOT_GRPC} "text/plain"'),
        (
            {"content-type": "application/grpcx"},
            "415",
            "3",
            'invalid gRPC request content-type "application/grpcx"',
        ),
        ({":method": "GET"}, "405", "13", 'Received a HEADERS frame with :method "GET" which should be POST'),
        (
            {"grpc-timeout": "1"},
            "400",
            "13",
            f'{TIMEOUT} string is too short: "1"',
        ),
        (
            {"grpc-timeout": "1x"},
            "400",
            "13",
            f'{TIMEOUT} unit is not recognized: "1x"',
        ),
        (
            {"grpc-timeout": "123456789S"},
            "400",
            "13",
            f'{TIMEOUT} string is too long: "123456789S"',
        ),
        (
            {"x-bin": "!"},
            "400",
            "13",
            'malformed binary metadata "!" in header "x-bin": illegal base64 data',
        ),
        ({"grpc-timeout": "0n"}, "200", "4", "context deadline exceeded"),
        (
            {"grpc-encoding": "snappy"},
            "200",
            "12",
            'grpc: Decompressor is not installed for grpc-encoding "snappy"',
        ),
    ],
)
def test_requests_that_reach_no_method(
    client: RawClient, fields: dict[str, str | None], status: str, code: str, text: str
) -> None:
    headers = client.finish(client.request(ECHO, prefixed(b"x"), fields))
    assert (headers[":status"], headers["grpc-status"], headers["grpc-message"]) == (status, code, text)
    assert headers["content-type"] == "application/grpc"
    assert ("grpc-accept-encoding" in headers) is ("Decompressor" in text)
    assert client.status(ECHO, prefixed(b"next")) == (0, "")


@pytest.mark.parametrize(
    "content_type", ["application/grpc+proto", "application/grpc;v=1", "Application/gRPC"]
)
def test_content_types_that_are_grpc(client: RawClient, content_type: str) -> None:
    assert client.status(ECHO, prefixed(b"x"), {"content-type": content_type}) == (0, "")


GZIPPED = gzip.compress(b"abc", mtime=0)  # the time would make the test's name differ
MANY = "cardinality violation: received multiple request messages for non-client-streaming RPC"
NONE = "cardinality violation: received no request message from non-client-streaming RPC"


@pytest.mark.parametrize(
    ("body", "fields", "expected"),
    [
        (b"", {}, (13, NONE)),
        (b"\0\0\0", {}, (13, "unexpected EOF")),
        (prefixed(b"abc")[:-1], {}, (13, "unexpected EOF")),
        (prefixed(b"abc") + b"\0", {}, (13, MANY)),
        (prefixed(b"abc") * 2, {}, (13, MANY)),
        (prefixed(b"abc", 2), {}, (13, "grpc: received unexpected payload format 2")),
        (prefixed(b"abc", 1), {}, (13, "grpc: compressed flag set with identity or empty encoding")),
        (
            prefixed(b"abc", 1),
            {"grpc-encoding": "gzip"},
            (13, "grpc: failed to decompress the received message: gzip: invalid header"),
        ),
        (
            prefixed(GZIPPED[:-1], 1),
            {"grpc-encoding": "gzip"},
            (13, "grpc: failed to decompress the received message: unexpected EOF"),
        ),
        (
            prefixed(gzip.compress(b"ab", mtime=0) + gzip.compress(b"c", mtime=0), 1),
            {"grpc-encoding": "gzip"},
            (0, ""),
        ),
        (prefixed(b"abc"), {"grpc-encoding": "gzip"}, (0, "")),
        (prefixed(b"abc"), {"grpc-encoding": "identity"}, (0, "")),
        (
            b"\0\xff\xff\xff\xff",
            {},
            (8, "grpc: received message larger than max (4294967295 vs. 2097152)"),
        ),
    ],
)
def test_bodies(
    client: RawClient, body: bytes, fields: dict[str, str | None], expected: tuple[int, str]
) -> None:
    assert client.status(ECHO, body, fields) == expected


@pytest.mark.parametrize("body", [b"\0\0\0", prefixed(b"abc")[:-1], prefixed(b"abc", 3)])
def test_bodies_of_streams(client: RawClient, body: bytes) -> None:
    assert client.status("/test.Svc/Bidi", body)[0] == 13


def test_too_large_is_said_before_the_message_is_sent(client: RawClient) -> None:
    stream_id = client.request(ECHO, b"\0\x7f\xff\xff\xff" + bytes(1000), ended=False)
    assert client.finish(stream_id)["grpc-status"] == "8"


def test_the_end_may_come_apart_from_the_message(client: RawClient) -> None:
    stream_id = client.request(ECHO, prefixed(b"x"), ended=False)
    client.h2.end_stream(stream_id)
    client.flush()
    assert client.finish(stream_id)["grpc-status"] == "0"
    other = client.request(ECHO, prefixed(b"x"), ended=False)
    client.h2.send_headers(other, [("x-trailer", "1")], end_stream=True)
    client.flush()
    assert client.finish(other)["grpc-status"] == "0"


def test_the_server_keeps_deadlines_itself(server: Running, client: RawClient) -> None:
    for method in ("Never", "Hang"):
        server.service.cancelled.clear()
        for timeout in ("30m", "30000u"):
            status = client.status(f"/test.Svc/{method}", prefixed(b""), {"grpc-timeout": timeout})
            assert status == (4, "context deadline exceeded")
        assert server.service.cancelled.is_set()
    unfinished = client.request(ECHO, b"\0\0", {"grpc-timeout": "30m"}, ended=False)
    assert client.finish(unfinished)["grpc-status"] == "4"
    assert not any(engine.streams for engine in server.engines())


def test_a_message_larger_than_its_window_is_let_through(client: RawClient) -> None:
    """h2 sends only what it was given window for, so the window has to come."""
    message = bytes(2 * 1024 * 1024)
    for path in (ECHO, "/test.Svc/Bidi"):
        stream_id = client.request(path, ended=False)
        left = memoryview(prefixed(message))
        while left:
            room = min(client.h2.local_flow_control_window(stream_id), 16_384, len(left))
            if room:
                client.h2.send_data(stream_id, bytes(left[:room]), end_stream=room == len(left))
                left = left[room:]
                client.flush()
            else:
                client.pump()
        assert client.finish(stream_id)["grpc-status"] == "0"
        assert len(client.bodies[stream_id]) == len(message) + 5


def test_bytes_one_at_a_time(server: Running) -> None:
    with RawClient(server) as client:
        stream_id = client.h2.get_next_available_stream_id()
        client.h2.send_headers(
            stream_id,
            [
                (":method", "POST"),
                (":scheme", "http"),
                (":path", ECHO),
                ("content-type", "application/grpc"),
            ],
        )
        client.h2.send_data(stream_id, prefixed(b"slow"), end_stream=True)
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in client.h2.data_to_send():
            client.socket.sendall(bytes((byte,)))
        assert client.finish(stream_id)["grpc-status"] == "0"


def test_goaway_when_the_server_shuts_down() -> None:
    """Twice, with a PING between; h2 would take the first for the end, so this client is bare."""
    with running() as server, socket.create_connection(("127.0.0.1", server.port), SECONDS) as bare:
        ping_ack = frames.frame(frames.SETTINGS, frames.ACK, 0)
        bare.sendall(frames.CLIENT_PREFACE + frames.settings_frame({}))
        bare.recv(9)
        closing = threading.Thread(target=lambda: server.do(server.server.shutdown(SECONDS)))
        closing.start()
        received = b""
        while b"drained?" not in received:
            received += bare.recv(1 << 16)
        ping_ack += frames.frame(frames.PING, frames.ACK, 0, b"drained?")
        bare.sendall(ping_ack)
        last = bare.recv(1 << 16)
        assert bare.recv(1) == b""
        closing.join(SECONDS)
    assert [frame.text for frame in parse_frames(last)] == ["GOAWAY 0 0"]
    assert int.from_bytes(last[9:13], "big") == 0  # no stream was ever handled


@given(st.text(max_size=200))
def test_status_messages_are_printable_ascii_and_decode_to_themselves(text: str) -> None:
    encoded = encode_status_message(text)
    assert encoded.isascii()
    assert encoded.isprintable()
    out = bytearray()
    at = 0
    while at < len(encoded):
        if encoded[at] == "%":
            out.append(int(encoded[at + 1 : at + 3], 16))
            at += 3
        else:
            out.append(ord(encoded[at]))
            at += 1
    assert bytes(out) == text.encode("utf-8", "replace")


def test_status_messages_are_bounded() -> None:
    for text in ("x" * 100_000, "é" * 100_000):
        assert len(encode_status_message(text)) <= limits.MAX_STATUS_MESSAGE_BYTES


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1H", 3600),
        ("2M", 120),
        ("3S", 3),
        ("4m", 0.004),
        ("5u", 5e-6),
        ("6n", 6e-9),
        ("99999999H", 359999996400),
    ],
)
def test_timeouts(text: str, seconds: float) -> None:
    assert parse_timeout(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "S", "1", "1s", "-1S", "1.5S", "²S", "123456789S"])
def test_timeouts_that_are_none(text: str) -> None:
    with pytest.raises(StatusError) as failed:
        parse_timeout(text)
    assert failed.value.code == 13


def test_decompression_stops_at_its_bound() -> None:
    bomb = gzip.compress(bytes(100 * 1024 * 1024))
    with pytest.raises(StatusError) as failed:
        decompress(bomb, 1000)
    assert failed.value.code == 8
    assert decompress(gzip.compress(bytes(1000)), 1000) == bytes(1000)
    many = gzip.compress(b"") * 1000
    assert decompress(many, 1000) == b""


def test_metadata_hides_what_is_the_protocols() -> None:
    fields = [
        ("te", "trailers"),
        ("user-agent", "x"),
        ("host", "h"),
        ("a", "1"),
        ("a", "2"),
        ("grpc-timeout", "1S"),
    ]
    assert metadata_of(fields, None) == {"user-agent": ["x"], ":authority": ["h"], "a": ["1", "2"]}
    assert metadata_of(fields, "auth")[":authority"] == ["auth"]


def test_texts_of_refusals() -> None:
    services = {"a.B"}
    assert unknown_method("/a.B/C", services).message == "unknown method C for service a.B"
    assert unknown_method("/x/C", services).message == "unknown service x"
    assert unknown_method("x/C", services).message == 'malformed method name: "x/C"'
    assert unreadable_message().code == 13
