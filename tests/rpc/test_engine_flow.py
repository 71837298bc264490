"""Flow control in both directions, and what an engine keeps of a client that does not read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvorum import limits
from kvorum.rpc import frames
from kvorum.rpc.frames import DEFAULT_WINDOW, FLOW_CONTROL_ERROR, MAX_WINDOW
from kvorum.rpc.streams import CLOSED, Stream
from tests.rpc.engine_kit import SHAPE, Frame, Peer


def content(received: list[Frame], stream_id: int) -> bytes:
    return b"".join(f.payload for f in received if f.kind == frames.DATA and f.stream_id == stream_id)


def message(body: bytes) -> bytes:
    return b"\0" + len(body).to_bytes(4, "big") + body


def ended(peer: Peer, stream_id: int) -> Stream:
    return peer.open(stream_id, ended=True)


def test_an_answer_is_three_frames() -> None:
    peer = Peer()
    peer.engine.respond(ended(peer, 1), b"answer")
    headers, data, trailers = peer.received()
    assert (headers.kind, headers.flags, headers.payload) == (
        frames.HEADERS,
        frames.END_HEADERS,
        SHAPE.headers,
    )
    assert (data.kind, data.flags, data.payload) == (frames.DATA, 0, message(b"answer"))
    assert (trailers.flags, trailers.payload) == (frames.END_HEADERS | frames.END_STREAM, SHAPE.trailers)
    assert not peer.engine.streams


def test_an_answer_before_the_request_ended_asks_for_no_more_of_it() -> None:
    """RFC 9113 8.1: RST_STREAM with NO_ERROR after a complete response."""
    peer = Peer()
    peer.engine.respond(peer.open(1), b"")
    assert peer.texts() == ["HEADERS 1", "DATA 1", "HEADERS 1", "RST_STREAM 1 0"]
    peer.send(1, b"still under way")
    assert peer.received() == []


def test_the_streams_window_holds_back_an_answer() -> None:
    peer = Peer()
    peer.settings({frames.SETTINGS_INITIAL_WINDOW_SIZE: 4})
    peer.received()
    stream = ended(peer, 1)
    peer.engine.respond(stream, b"abcdef")
    assert [f.text for f in peer.received()] == ["HEADERS 1", "DATA 1"]
    assert peer.engine.unsent_of(stream) == 7
    peer.window(1, 3)
    (data,) = peer.received()
    assert data.payload == message(b"abcdef")[4:7]
    peer.window(1, 100)
    assert peer.texts() == ["DATA 1", "HEADERS 1"]
    assert stream.state == CLOSED


def test_a_smaller_initial_window_makes_windows_negative() -> None:
    """RFC 9113 6.9.2."""
    peer = Peer()
    stream = peer.open(1)
    peer.engine.send_message(stream, bytes(50_000))
    peer.received()
    peer.settings({frames.SETTINGS_INITIAL_WINDOW_SIZE: 10})
    assert stream.send_window == DEFAULT_WINDOW - 50_005 - (DEFAULT_WINDOW - 10)
    peer.engine.send_message(stream, b"x")
    assert content(peer.received(), 1) == b""
    peer.window(1, -stream.send_window)
    assert content(peer.received(), 1) == b""
    peer.window(1, 6)
    assert content(peer.received(), 1) == message(b"x")


def test_a_larger_initial_window_lets_what_waits_go() -> None:
    peer = Peer()
    peer.settings({frames.SETTINGS_INITIAL_WINDOW_SIZE: 0})
    for stream_id in (1, 3):
        peer.engine.respond(ended(peer, stream_id), b"x")
    assert all(frame.kind != frames.DATA for frame in peer.received())
    peer.settings({frames.SETTINGS_INITIAL_WINDOW_SIZE: 100})
    received = peer.received()
    assert content(received, 1) == content(received, 3) == message(b"x")
    assert not peer.engine.streams


def test_windows_that_overflow() -> None:
    peer = Peer()
    peer.open(1)
    peer.window(1, MAX_WINDOW)
    assert peer.outcome() == f"stream {FLOW_CONTROL_ERROR}"
    peer.open(3)
    peer.window(3, MAX_WINDOW - DEFAULT_WINDOW)
    assert peer.outcome() == ""
    peer.settings({frames.SETTINGS_INITIAL_WINDOW_SIZE: DEFAULT_WINDOW + 1})
    assert peer.outcome() == f"connection {FLOW_CONTROL_ERROR}"


def test_a_window_update_by_zero_is_the_streams_error() -> None:
    peer = Peer()
    peer.open(1)
    peer.window(1, 0)
    assert peer.outcome() == f"stream {frames.PROTOCOL_ERROR}"


def test_the_connections_window_is_shared_fairly() -> None:
    peer = Peer()
    streams = [ended(peer, stream_id) for stream_id in (1, 3, 5)]
    for stream in streams:
        peer.engine.respond(stream, bytes(60_000))
    received = peer.received()
    assert sum(len(f.payload) for f in received if f.kind == frames.DATA) == DEFAULT_WINDOW
    peer.window(0, 49_152)
    sizes = {f.stream_id: 0 for f in received}
    for frame in peer.received():
        sizes[frame.stream_id] = sizes.get(frame.stream_id, 0) + len(frame.payload)
    assert sizes[3] > 16_000
    assert sizes[5] > 16_000


def test_frames_are_as_large_as_the_client_allows() -> None:
    peer = Peer()
    peer.settings({frames.SETTINGS_MAX_FRAME_SIZE: 40_000, frames.SETTINGS_INITIAL_WINDOW_SIZE: 1 << 20})
    peer.window(0, 1 << 20)
    peer.received()
    peer.engine.respond(ended(peer, 1), bytes(100_000))
    sizes = [len(frame.payload) for frame in peer.received() if frame.kind == frames.DATA]
    assert sizes == [40_000, 40_000, 20_005]


def test_a_client_that_sends_too_much_on_a_stream() -> None:
    peer = Peer()
    peer.open(1)
    for _ in range(3):
        peer.send(1, bytes(16_384))
    peer.send(1, bytes(16_383))
    assert peer.outcome() == ""
    peer.send(1, b"x")
    assert peer.outcome() == f"stream {FLOW_CONTROL_ERROR}"


def test_consumed_bytes_and_padding_come_back_in_batches() -> None:
    peer = Peer()
    stream = peer.open(1)
    peer.send(1, bytes(16_000))
    peer.engine.consumed(stream, 16_000)
    assert peer.received() == []
    peer.frame(frames.DATA, frames.PADDED, 1, b"\xff" + bytes(16_000) + bytes(255))
    peer.engine.consumed(stream, 16_000)
    assert peer.texts() == []
    peer.engine.expect(stream, 65_000)
    (update,) = peer.received()
    assert int.from_bytes(update.payload, "big") == 32_256
    assert stream.incoming is not None
    assert stream.incoming.window == DEFAULT_WINDOW


def test_the_connections_receive_window_never_runs_dry() -> None:
    """Twice the window through one connection, on streams that end and streams that break rules."""
    peer = Peer(max_streams=10_000)
    sent = 0
    for stream_id in range(1, 2 * limits.CONNECTION_RECEIVE_WINDOW // 16_384 * 2, 2):
        stream = peer.open(stream_id)
        peer.send(stream_id, bytes(16_384), ended=True)
        sent += 16_384
        peer.engine.reset(stream, frames.CANCEL)
        peer.received()
    assert sent >= 2 * limits.CONNECTION_RECEIVE_WINDOW - 16_384
    assert peer.outcome() == ""


def test_a_paused_transport_is_given_nothing_more() -> None:
    peer = Peer(max_streams=10_000)
    peer.settings({frames.SETTINGS_INITIAL_WINDOW_SIZE: MAX_WINDOW})
    peer.window(0, MAX_WINDOW - DEFAULT_WINDOW)
    peer.received()
    peer.engine.set_paused(True)
    assert peer.engine.congested
    stream = ended(peer, 1)
    peer.engine.respond(stream, bytes(1000))
    assert sum(len(part) for part in peer.engine.out) < 100
    peer.engine.set_paused(False)
    assert content(peer.received(), 1) == message(bytes(1000))


@pytest.mark.parametrize("window", [0, MAX_WINDOW - DEFAULT_WINDOW])
def test_congestion_shows_before_memory_grows(window: int) -> None:
    """However wide or narrow its windows, a client that does not read is noticed in time."""
    peer = Peer(max_streams=10_000)
    peer.settings({frames.SETTINGS_INITIAL_WINDOW_SIZE: MAX_WINDOW})
    if window:
        peer.window(0, window)
    peer.received()
    answered = 0
    while not peer.engine.congested:
        peer.engine.respond(ended(peer, 2 * answered + 1), bytes(10_000))
        answered += 1
    held = sum(len(part) for part in peer.engine.out) + peer.engine.unsent
    assert held < limits.SEND_BUFFER_BYTES + DEFAULT_WINDOW + 20_000


def test_answers_beyond_all_bounds_fail() -> None:
    """A client whose streams have no window gets MAX_UNSENT_BYTES of answers held, then errors."""
    peer = Peer(max_streams=100)
    peer.settings({frames.SETTINGS_INITIAL_WINDOW_SIZE: 0})
    peer.received()
    body = bytes(limits.MAX_UNSENT_BYTES // 4)
    for stream_id in range(1, 20, 2):
        peer.engine.respond(ended(peer, stream_id), body)
    received = peer.received()
    refused = [frame.stream_id for frame in received if frame.payload == SHAPE.overflow]
    assert refused == [9, 11, 13, 15, 17, 19]
    assert peer.engine.unsent == 4 * (len(body) + 5)


def test_answers_held_by_their_streams_windows_are_congestion_in_the_end() -> None:
    """But what has a window still leaves."""
    peer = Peer(max_streams=100)
    peer.settings({frames.SETTINGS_INITIAL_WINDOW_SIZE: 0})
    peer.received()
    stream_id = -1
    while not peer.engine.congested:
        assert peer.engine.unsent <= limits.CONGESTED_BYTES
        stream_id += 2
        peer.engine.respond(ended(peer, stream_id), bytes(4_000_000))
        peer.received()
    peer.window(1, 1000)
    assert len(content(peer.received(), 1)) == 1000
    peer.raw(frames.rst_stream_frame(1, frames.CANCEL))
    assert not peer.engine.congested


def test_writers_hear_when_their_stream_has_drained() -> None:
    peer = Peer()
    stream = peer.open(1)
    peer.engine.send_message(stream, bytes(limits.STREAM_SEND_BUFFER_BYTES + DEFAULT_WINDOW))
    peer.received()
    peer.recorder.take()
    peer.window(0, 1 << 20)
    peer.window(1, 4)
    assert peer.recorder.take() == []
    peer.window(1, 2)
    assert peer.recorder.take() == [("writable", 1)]


@given(
    st.lists(st.binary(max_size=300), min_size=1, max_size=5),
    st.lists(st.tuples(st.sampled_from([0, 1, 3]), st.integers(1, 200)), max_size=60),
    st.integers(0, 50),
)
def test_any_windows_deliver_every_byte_in_order(
    bodies: list[bytes], updates: list[tuple[int, int]], initial: int
) -> None:
    """And never more than they allow."""
    peer = Peer()
    peer.settings({frames.SETTINGS_INITIAL_WINDOW_SIZE: initial})
    allowed = {0: DEFAULT_WINDOW, 1: initial, 3: initial}
    streams = {stream_id: peer.open(stream_id, ended=True) for stream_id in (1, 3)}
    for stream in streams.values():
        peer.engine.send_headers(stream, SHAPE.headers)
        for body in bodies:
            peer.engine.send_message(stream, body)
        peer.engine.send_trailers(stream, SHAPE.trailers)
    whole = b"".join(message(body) for body in bodies)
    got = {1: b"", 3: b""}
    for stream_id, increment in [*updates, (1, 10_000), (3, 10_000)]:
        peer.window(stream_id, increment)
        allowed[stream_id] += increment
        for frame in peer.received():
            if frame.kind == frames.DATA:
                got[frame.stream_id] += frame.payload
        for other in (1, 3):
            assert len(got[other]) <= allowed[other]
            assert whole.startswith(got[other])
    assert got == {1: whole, 3: whole}
    assert not peer.engine.streams
