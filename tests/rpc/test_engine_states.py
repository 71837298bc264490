"""Every stream state against every frame (RFC 9113 5.1), and every connection rule with its error code."""

from collections.abc import Callable
from typing import Final

import pytest

from kvorum.rpc import frames
from kvorum.rpc.frames import (
    COMPRESSION_ERROR,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    STREAM_CLOSED,
)
from tests.rpc.engine_kit import (
    END_HEADERS,
    END_STREAM,
    REQUEST,
    REQUEST_BLOCK,
    TRAILER_BLOCK,
    Peer,
    block,
)

ID: Final = 5


def idle(peer: Peer) -> None:
    pass


def open_(peer: Peer) -> None:
    peer.open(ID)


def half_closed(peer: Peer) -> None:
    peer.open(ID, ended=True)


def closed_by_end(peer: Peer) -> None:
    peer.engine.respond(peer.open(ID, ended=True), b"answer")


def reset_by_client(peer: Peer) -> None:
    peer.open(ID)
    peer.frame(frames.RST_STREAM, 0, ID, bytes(4))


def reset_by_us(peer: Peer) -> None:
    peer.engine.reset(peer.open(ID), frames.CANCEL)


def skipped(peer: Peer) -> None:
    peer.open(ID + 2)


def even(peer: Peer) -> None:
    """No state: the same frames on a stream id that only a server could open."""


STATES: Final[dict[str, Callable[[Peer], None]]] = {
    "idle": idle,
    "open": open_,
    "half-closed": half_closed,
    "closed by END_STREAM": closed_by_end,
    "reset by client": reset_by_client,
    "reset by us": reset_by_us,
    "skipped id": skipped,
    "even id": even,
}
FRAMES: Final[dict[str, tuple[int, int, bytes]]] = {
    "DATA": (frames.DATA, 0, b"x"),
    "DATA end": (frames.DATA, END_STREAM, b"x"),
    "HEADERS": (frames.HEADERS, END_HEADERS, REQUEST_BLOCK),
    "trailers": (frames.HEADERS, END_HEADERS | END_STREAM, TRAILER_BLOCK),
    "PRIORITY": (frames.PRIORITY, 0, bytes(5)),
    "RST_STREAM": (frames.RST_STREAM, 0, bytes(4)),
    "WINDOW_UPDATE": (frames.WINDOW_UPDATE, 0, b"\0\0\0\1"),
    "CONTINUATION": (frames.CONTINUATION, END_HEADERS, TRAILER_BLOCK),
    "PUSH_PROMISE": (frames.PUSH_PROMISE, END_HEADERS, bytes(4) + REQUEST_BLOCK),
    "unknown": (0x7F, 0xFF, b"?"),
}
OK: Final = ""
C_PROTOCOL: Final = f"connection {PROTOCOL_ERROR}"
C_CLOSED: Final = f"connection {STREAM_CLOSED}"
S_PROTOCOL: Final = f"stream {PROTOCOL_ERROR}"
S_CLOSED: Final = f"stream {STREAM_CLOSED}"
# fmt: off
TABLE: Final = {
    # DATA, DATA end, HEADERS, trailers, PRIORITY, RST_STREAM, WINDOW_UPDATE
    "idle":                 (C_PROTOCOL, C_PROTOCOL, OK,   S_PROTOCOL, OK, C_PROTOCOL, C_PROTOCOL),
    "open":                 (OK,   OK,   S_PROTOCOL, OK,   OK, OK,   OK),
    "half-closed":          (S_CLOSED,   S_CLOSED,   S_CLOSED,   S_CLOSED,   OK, OK,   OK),
    "closed by END_STREAM": (S_CLOSED,   S_CLOSED,   C_CLOSED,   C_CLOSED,   OK, OK,   OK),
    "reset by client":      (S_CLOSED,   S_CLOSED,   C_CLOSED,   C_CLOSED,   OK, OK,   OK),
    "reset by us":          (OK,   OK,   OK,   OK,   OK, OK,   OK),
    "skipped id":           (S_CLOSED,   S_CLOSED,   C_PROTOCOL, C_PROTOCOL, OK, OK,   OK),
    "even id":              (C_PROTOCOL, C_PROTOCOL, C_PROTOCOL, C_PROTOCOL, OK, C_PROTOCOL, C_PROTOCOL),
}
# fmt: on
CASES: Final = [
    (state, frame, expected)
    for state, row in TABLE.items()
    for frame, expected in zip(FRAMES, (*row, C_PROTOCOL, C_PROTOCOL, OK), strict=True)
]


@pytest.mark.parametrize(("state", "frame", "expected"), CASES)
def test_state_and_frame(state: str, frame: str, expected: str) -> None:
    peer = Peer()
    STATES[state](peer)
    peer.received()
    kind, flags, payload = FRAMES[frame]
    peer.frame(kind, flags, ID + 1 if state == "even id" else ID, payload)
    assert peer.outcome() == expected
    if not expected.startswith("connection"):
        peer.open(ID + 4, ended=True)  # the connection goes on, its header table in order
        assert peer.outcome() == OK
        assert peer.recorder.events[-1] == ("data", ID + 4, b"", True)


def test_an_error_on_a_stream_tells_its_owner() -> None:
    peer = Peer()
    peer.open(1, ended=True)
    peer.recorder.take()
    peer.send(1, b"late")
    assert peer.recorder.take() == [("aborted", 1, STREAM_CLOSED)]
    assert not peer.engine.streams


@pytest.mark.parametrize(
    ("data", "code"),
    [
        # 4.2, 6.x: sizes
        (frames.frame(frames.DATA, 0, 1, bytes(16_385)), FRAME_SIZE_ERROR),
        (frames.frame(frames.PING, 0, 0, bytes(7)), FRAME_SIZE_ERROR),
        (frames.frame(frames.SETTINGS, 0, 0, bytes(5)), FRAME_SIZE_ERROR),
        (frames.frame(frames.SETTINGS, frames.ACK, 0, bytes(6)), FRAME_SIZE_ERROR),
        (frames.frame(frames.RST_STREAM, 0, 1, bytes(3)), FRAME_SIZE_ERROR),
        (frames.frame(frames.WINDOW_UPDATE, 0, 0, bytes(5)), FRAME_SIZE_ERROR),
        (frames.frame(frames.PRIORITY, 0, 9, bytes(4)), FRAME_SIZE_ERROR),
        (frames.frame(frames.GOAWAY, 0, 0, bytes(7)), FRAME_SIZE_ERROR),
        (frames.frame(frames.HEADERS, END_HEADERS | frames.PRIORITY_FLAG, 1, bytes(4)), FRAME_SIZE_ERROR),
        (frames.frame(frames.DATA, frames.PADDED, 1, b""), FRAME_SIZE_ERROR),
        # 6.x: stream ids
        (frames.frame(frames.DATA, 0, 0, b"x"), PROTOCOL_ERROR),
        (frames.frame(frames.HEADERS, END_HEADERS, 0, REQUEST_BLOCK), PROTOCOL_ERROR),
        (frames.frame(frames.PRIORITY, 0, 0, bytes(5)), PROTOCOL_ERROR),
        (frames.frame(frames.RST_STREAM, 0, 0, bytes(4)), PROTOCOL_ERROR),
        (frames.frame(frames.SETTINGS, 0, 1), PROTOCOL_ERROR),
        (frames.frame(frames.PING, 0, 1, bytes(8)), PROTOCOL_ERROR),
        (frames.frame(frames.GOAWAY, 0, 1, bytes(8)), PROTOCOL_ERROR),
        (frames.frame(frames.CONTINUATION, 0, 0), PROTOCOL_ERROR),
        # 6.1, 6.2: padding as long as its frame
        (frames.frame(frames.DATA, frames.PADDED, 1, b"\x05xxxx"), PROTOCOL_ERROR),
        (frames.frame(frames.HEADERS, frames.PADDED | END_HEADERS, 1, b"\x05xxxx"), PROTOCOL_ERROR),
        # 6.5.2: values
        (frames.settings_frame({frames.SETTINGS_ENABLE_PUSH: 2}), PROTOCOL_ERROR),
        (frames.settings_frame({frames.SETTINGS_INITIAL_WINDOW_SIZE: 2**31}), FLOW_CONTROL_ERROR),
        (frames.settings_frame({frames.SETTINGS_MAX_FRAME_SIZE: 16_383}), PROTOCOL_ERROR),
        (frames.settings_frame({frames.SETTINGS_MAX_FRAME_SIZE: 2**24}), PROTOCOL_ERROR),
        # 6.9: windows
        (frames.window_update_frame(0, 0), PROTOCOL_ERROR),
        (frames.window_update_frame(0, 2**31 - 1), FLOW_CONTROL_ERROR),
        # 6.10: nothing between the parts of a header block
        (frames.frame(frames.HEADERS, 0, 1) + frames.frame(frames.PING, 0, 0, bytes(8)), PROTOCOL_ERROR),
        (frames.frame(frames.HEADERS, 0, 1) + frames.frame(frames.CONTINUATION, 0, 3), PROTOCOL_ERROR),
        (frames.frame(frames.HEADERS, 0, 1) + frames.frame(0x7F, 0, 1), PROTOCOL_ERROR),
        # 4.3: header compression
        (frames.frame(frames.HEADERS, END_HEADERS, 1, b"\xff"), COMPRESSION_ERROR),
        (frames.frame(frames.HEADERS, END_HEADERS, 1, b"\x80"), COMPRESSION_ERROR),
        (frames.frame(frames.HEADERS, END_HEADERS, 1, b"\x3f\xff\xff\x7f"), COMPRESSION_ERROR),
        # 3.4: the preface is said once
        (frames.CLIENT_PREFACE, FRAME_SIZE_ERROR),
    ],
)
def test_connection_errors(data: bytes, code: int) -> None:
    peer = Peer()
    peer.raw(data)
    assert peer.outcome() == f"connection {code}"
    before = len(peer.recorder.events)
    peer.raw(frames.frame(frames.HEADERS, END_HEADERS, 1, REQUEST_BLOCK))
    assert peer.received() == []  # and nothing is heard or said after it
    assert len(peer.recorder.events) == before


@pytest.mark.parametrize("first", ["PRI * HTTP/1.1", "GET / HTTP/1.1\r\n\r\n", "\0"])
def test_another_preface(first: str) -> None:
    peer = Peer(settings=False)
    peer.raw(first.encode())
    assert peer.outcome() == C_PROTOCOL


@pytest.mark.parametrize("kind", [frames.HEADERS, frames.PING, 0x7F])
def test_settings_come_first(kind: int) -> None:
    peer = Peer(settings=False)
    peer.raw(frames.CLIENT_PREFACE + frames.frame(kind, END_HEADERS, 1, bytes(8)))
    assert peer.outcome() == C_PROTOCOL


def test_an_ack_is_no_first_settings() -> None:
    peer = Peer(settings=False)
    peer.raw(frames.CLIENT_PREFACE + frames.frame(frames.SETTINGS, frames.ACK, 0))
    assert peer.outcome() == C_PROTOCOL


@pytest.mark.parametrize(
    "fields",
    [
        [*REQUEST, ("Upper", "x")],
        [*REQUEST, ("sp ace", "x")],
        [*REQUEST, ("", "x")],
        [*REQUEST, ("a", "x\ny")],
        [*REQUEST, ("a", "x\0")],
        [*REQUEST, ("a", " x")],
        [*REQUEST, ("a", "x\t")],
        [*REQUEST, (":method", "POST")],
        [*REQUEST, ("connection", "close")],
        [*REQUEST, ("transfer-encoding", "chunked")],
        [*REQUEST, ("upgrade", "h3")],
        [*REQUEST, ("keep-alive", "1")],
        [*REQUEST, ("proxy-connection", "close")],
        [*REQUEST[:4], ("te", "gzip")],
        [*REQUEST, ("content-length", "+1")],
        [*REQUEST, ("content-length", "1"), ("content-length", "2")],
        [*REQUEST, (":late", "x")],
        [(":status", "200"), *REQUEST],
        [(":path", "/again"), *REQUEST],
        [(":method", ""), *REQUEST[1:]],
        REQUEST[1:],
        [REQUEST[0], *REQUEST[2:]],
        [*REQUEST[:2], *REQUEST[3:]],
        [*REQUEST[:2], (":path", ""), *REQUEST[3:]],
        [(":method", "CONNECT"), *REQUEST[1:]],
        [(":method", "CONNECT")],
    ],
)
def test_malformed_requests(fields: list[tuple[str, str]]) -> None:
    """RFC 9113 8.2, 8.3."""
    peer = Peer()
    peer.frame(frames.HEADERS, END_HEADERS, 1, block(fields))
    assert peer.outcome() == S_PROTOCOL
    assert not peer.recorder.made
    peer.open(3)
    assert peer.outcome() == OK


@pytest.mark.parametrize(
    "fields",
    [
        [*REQUEST, ("content-length", "5"), ("content-length", "5")],
        [*REQUEST, ("x-y.z_~!#$%&'*+^`|", "any\tthing \xff")],
        [(":method", "CONNECT"), (":authority", "a:1")],
        [*REQUEST[:3], *REQUEST[4:]],
    ],
)
def test_wellformed_requests(fields: list[tuple[str, str]]) -> None:
    peer = Peer()
    peer.frame(frames.HEADERS, END_HEADERS, 1, block(fields))
    assert peer.outcome() == OK
    assert 1 in peer.recorder.made


@pytest.mark.parametrize(
    ("fields", "flags"),
    [
        ([(":path", "/")], END_STREAM),
        ([("connection", "close")], END_STREAM),
        ([("Bad", "x")], END_STREAM),
        ([("fine", "x")], 0),
    ],
)
def test_malformed_trailers(fields: list[tuple[str, str]], flags: int) -> None:
    peer = Peer()
    peer.open(1)
    peer.frame(frames.HEADERS, END_HEADERS | flags, 1, block(fields))
    assert peer.outcome() == S_PROTOCOL


@pytest.mark.parametrize(("length", "chunks"), [(3, [b"ab"]), (3, [b"ab", b"cd"]), (0, [b"a"]), (3, [])])
def test_content_length_has_to_be_true(length: int, chunks: list[bytes]) -> None:
    """RFC 9113 8.1.1."""
    peer = Peer()
    peer.open(1, fields=[*REQUEST, ("content-length", str(length))], ended=not chunks)
    for number, chunk in enumerate(chunks, 1):
        if peer.recorder.made[1].state == 0:
            peer.send(1, chunk, ended=number == len(chunks))
    assert peer.outcome() == S_PROTOCOL


def test_content_length_that_is_true() -> None:
    peer = Peer()
    peer.open(1, fields=[*REQUEST, ("content-length", "3")])
    peer.send(1, b"ab")
    peer.send(1, b"c")
    peer.frame(frames.HEADERS, END_HEADERS | END_STREAM, 1, TRAILER_BLOCK)
    assert peer.outcome() == OK
    assert peer.recorder.events[-1] == ("data", 1, b"", True)


def test_streams_beyond_the_limit_are_refused() -> None:
    peer = Peer(max_streams=2)
    for stream_id in (1, 3, 5):
        peer.frame(frames.HEADERS, END_HEADERS, stream_id, REQUEST_BLOCK)
    assert peer.outcome() == f"stream {REFUSED_STREAM}"
    peer.engine.reset(peer.recorder.made[1], frames.CANCEL)
    peer.received()
    peer.open(7)
    assert peer.outcome() == OK


def test_a_large_header_list_costs_its_stream_and_no_more() -> None:
    peer = Peer()
    peer.raw(b"".join(_in_parts(1, block([*REQUEST, *((f"x-{n}", "y" * 1000) for n in range(70))]))))
    assert peer.outcome() == f"stream {ENHANCE_YOUR_CALM}"
    peer.open(3)
    assert peer.outcome() == OK


def _in_parts(stream_id: int, whole: bytes) -> list[bytes]:
    parts = [whole[at : at + 16_000] for at in range(0, len(whole), 16_000)]
    out = [frames.frame(frames.HEADERS, END_STREAM, stream_id, parts[0])]
    out += [frames.frame(frames.CONTINUATION, 0, stream_id, part) for part in parts[1:-1]]
    return [*out, frames.frame(frames.CONTINUATION, END_HEADERS, stream_id, parts[-1])]


def test_padding_priority_and_continuation() -> None:
    peer = Peer()
    middle = len(REQUEST_BLOCK) // 2
    head = b"\x03" + bytes(5) + REQUEST_BLOCK[:middle] + bytes(3)
    peer.frame(frames.HEADERS, frames.PADDED | frames.PRIORITY_FLAG, 1, head)
    peer.frame(frames.CONTINUATION, 0, 1)
    peer.frame(frames.CONTINUATION, END_HEADERS, 1, REQUEST_BLOCK[middle:])
    peer.frame(frames.DATA, frames.PADDED, 1, b"\x02abc" + bytes(2))
    peer.frame(frames.DATA, frames.PADDED | END_STREAM, 1, b"\x00")
    assert peer.outcome() == OK
    assert peer.recorder.take() == [
        ("opened", 1, "/svc/Method"),
        ("data", 1, b"abc", False),
        ("data", 1, b"", True),
    ]


def test_goaway_in_two_phases() -> None:
    peer = Peer()
    peer.open(1)
    peer.engine.goaway_begin()
    goaway, ping = peer.received()
    assert goaway.text == "GOAWAY 0 0"
    assert int.from_bytes(goaway.payload[:4], "big") == frames.MAX_STREAM_ID
    peer.open(3)  # was under way
    peer.frame(frames.PING, frames.ACK, 0, ping.payload)
    (final,) = peer.received()
    assert int.from_bytes(final.payload[:4], "big") == 3
    peer.frame(frames.HEADERS, END_HEADERS, 5, REQUEST_BLOCK)
    peer.send(5, b"x")
    peer.frame(frames.HEADERS, END_HEADERS | END_STREAM, 5, TRAILER_BLOCK)
    assert peer.received() == []
    assert 5 not in peer.recorder.made
    assert not peer.engine.drained
    for stream_id in (1, 3):
        peer.send(stream_id, ended=True)
        peer.engine.respond(peer.recorder.made[stream_id], b"")
    assert peer.engine.drained


def test_pings_are_answered() -> None:
    peer = Peer()
    peer.frame(frames.PING, 0, 0, b"12345678")
    (ack,) = peer.received()
    assert (ack.kind, ack.flags, ack.payload) == (frames.PING, frames.ACK, b"12345678")


def test_what_the_server_says_first() -> None:
    peer = Peer(settings=False, max_streams=7)
    settings, window = peer.received()
    values = dict(frames.SETTING.iter_unpack(settings.payload))
    assert values[frames.SETTINGS_MAX_CONCURRENT_STREAMS] == 7
    assert window.text == "WINDOW_UPDATE 0"
    peer.raw(frames.CLIENT_PREFACE + frames.settings_frame({}))
    (ack,) = peer.received()
    assert (ack.kind, ack.flags) == (frames.SETTINGS, frames.ACK)


def test_a_client_that_shrinks_our_header_table_is_told_that_it_is_empty() -> None:
    """RFC 7541 4.2: the next block starts with a size update, and only that one."""
    peer = Peer()
    peer.settings({frames.SETTINGS_HEADER_TABLE_SIZE: 0})
    peer.received()
    blocks = []
    for stream_id in (1, 3):
        peer.engine.respond(peer.open(stream_id, ended=True), b"")
        blocks.append(peer.received()[0].payload)
    assert blocks[0] == b"\x20" + blocks[1]
