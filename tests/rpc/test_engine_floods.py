"""Each known flood against the engine: it ends in GOAWAY(ENHANCE_YOUR_CALM), and honest clients don't."""

from collections.abc import Callable
from typing import Final

import pytest

from kvorum import limits
from kvorum.rpc import frames
from kvorum.rpc.frames import ENHANCE_YOUR_CALM, frame
from tests.rpc.engine_kit import END_HEADERS, END_STREAM, REQUEST_BLOCK, TRAILER_BLOCK, Peer, block

CALM: Final = f"connection {ENHANCE_YOUR_CALM}"
FLOODS: Final[dict[str, Callable[[int], bytes]]] = {
    "settings": lambda n: frames.settings_frame({frames.SETTINGS_ENABLE_PUSH: 0}),
    "settings acks": lambda n: frame(frames.SETTINGS, frames.ACK, 0),
    "ping acks": lambda n: frame(frames.PING, frames.ACK, 0, bytes(8)),
    "priority": lambda n: frame(frames.PRIORITY, 0, 2 * n + 1, bytes(5)),
    "window updates": lambda n: frames.window_update_frame(0, 1),
    "window updates of a stream": lambda n: frames.window_update_frame(1, 1),
    "window updates of closed streams": lambda n: frames.window_update_frame(3, 1),
    "empty DATA": lambda n: frame(frames.DATA, 0, 1),
    "padding only": lambda n: frame(frames.DATA, frames.PADDED, 1, b"\0"),
    "resets of closed streams": lambda n: frames.rst_stream_frame(3, 0),
    "goaway": lambda n: frames.goaway_frame(0, 0),
    "unknown frames": lambda n: frame(0x77, 0, 0),
    "DATA on closed streams": lambda n: frame(frames.DATA, 0, 3, b"x"),
}


@pytest.mark.parametrize("name", FLOODS)
def test_frames_that_carry_nothing(name: str) -> None:
    peer = Peer()
    peer.open(1)
    peer.engine.reset(peer.open(3), frames.CANCEL)
    peer.received()
    sent = 0
    largest = 0
    while not peer.engine.terminated:
        peer.raw(FLOODS[name](sent))
        largest = max(largest, sum(len(part) for part in peer.engine.out))
        if sent % 100 == 0 and not peer.engine.terminated:
            peer.received()
        sent += 1
        assert sent <= limits.USELESS_FRAME_CREDIT + 10
    assert peer.outcome() == CALM
    assert sent > limits.USELESS_FRAME_CREDIT // 4
    assert largest < 64 * 1024
    assert ("aborted", 1, frames.CANCEL) in peer.recorder.events


@pytest.mark.parametrize("name", ["priority", "unknown frames", "window updates"])
def test_the_same_frames_at_an_honest_pace(name: str) -> None:
    peer = Peer()
    for number in range(3 * limits.USELESS_FRAME_CREDIT):
        peer.now += 2 / limits.USELESS_FRAMES_PER_SECOND
        peer.raw(FLOODS[name](number))
    assert peer.outcome() == ""


def test_a_busy_clients_window_updates_are_paid_for_by_its_work() -> None:
    peer = Peer()
    for number in range(2 * limits.USELESS_FRAME_CREDIT):
        stream_id = 2 * number + 1
        stream = peer.open(stream_id)
        peer.send(stream_id, b"q", ended=True)
        peer.engine.respond(stream, b"answer")
        for _ in range(4):
            peer.window(0, 3)
        peer.engine.out.clear()
        peer.engine.flushed(False)
    assert peer.outcome() == ""


def test_rapid_reset() -> None:
    """CVE-2023-44487: open and reset, over and over."""
    peer = Peer()
    opened = 0
    while not peer.engine.terminated:
        stream_id = 2 * opened + 1
        peer.frame(frames.HEADERS, END_HEADERS | END_STREAM, stream_id, REQUEST_BLOCK)
        peer.raw(frames.rst_stream_frame(stream_id, frames.CANCEL))
        opened += 1
        assert len(peer.engine.streams) <= 1
        assert opened <= limits.RESET_CREDIT + 1
    assert peer.outcome() == CALM
    assert opened > limits.RESET_CREDIT // 2


@pytest.mark.parametrize(
    "breaking",
    [
        lambda sid: frames.window_update_frame(sid, 0),
        lambda sid: frame(frames.PRIORITY, 0, sid, bytes(4)),
        lambda sid: frame(frames.HEADERS, END_HEADERS, sid, TRAILER_BLOCK),
    ],
)
def test_made_to_reset(breaking: Callable[[int], bytes]) -> None:
    """CVE-2025-8671: the client breaks a rule, so that the server sends the reset."""
    peer = Peer()
    opened = 0
    while not peer.engine.terminated:
        stream_id = 2 * opened + 1
        peer.frame(frames.HEADERS, END_HEADERS, stream_id, REQUEST_BLOCK)
        peer.raw(breaking(stream_id))
        opened += 1
        assert opened <= limits.RESET_CREDIT + 1
    assert opened > limits.RESET_CREDIT // 2


def test_refused_and_malformed_streams_are_counted_too() -> None:
    for fields in (None, [(":path", "/")]):
        peer = Peer(max_streams=1)
        peer.open(1)
        stream_id = 1
        while not peer.engine.terminated:
            stream_id += 2
            peer.frame(
                frames.HEADERS, END_HEADERS, stream_id, REQUEST_BLOCK if fields is None else block(fields)
            )
            assert stream_id < 3 * limits.RESET_CREDIT


def test_cancelling_is_honest() -> None:
    """A client that gives up on many calls, but not on most, is served on."""
    peer = Peer()
    stream_id = -1
    for _ in range(3 * limits.RESET_CREDIT):
        stream_id += 2
        stream = peer.open(stream_id, ended=True)
        peer.engine.respond(stream, b"x")
        stream_id += 2
        peer.open(stream_id)
        peer.raw(frames.rst_stream_frame(stream_id, frames.CANCEL))
        peer.window(0, 6)
        peer.engine.out.clear()
    assert peer.outcome() == ""


def test_continuation_flood() -> None:
    """CVE-2024-27316: header blocks without end, of large, small and empty frames."""
    for payload in (bytes(10_000), b"", b"\x82"):
        peer = Peer()
        peer.frame(frames.HEADERS, 0, 1, REQUEST_BLOCK)
        sent = 0
        while not peer.engine.terminated:
            peer.frame(frames.CONTINUATION, 0, 1, payload)
            sent += 1
            assert sent <= limits.MAX_CONTINUATION_FRAMES
            assert len(peer.engine.block or b"") <= limits.MAX_HEADER_BLOCK_BYTES
        assert peer.outcome() == CALM


def test_too_many_pings() -> None:
    peer = Peer()
    peer.open(1)
    sent = 0
    while not peer.engine.terminated:
        peer.frame(frames.PING, 0, 0, bytes(8))
        peer.now += 1.0
        sent += 1
        assert sent <= limits.MAX_PING_STRIKES + 2
    goaway = peer.received()[-1]
    assert goaway.code == ENHANCE_YOUR_CALM
    assert goaway.payload[8:] == b"too_many_pings"


def test_pings_at_the_allowed_pace_or_among_answers() -> None:
    peer = Peer()
    peer.open(1)
    for _ in range(50):
        peer.now += 5.0
        peer.frame(frames.PING, 0, 0, bytes(8))
    for number in range(1, 500):
        peer.engine.respond(peer.open(2 * number + 1, ended=True), b"x")
        peer.frame(frames.PING, 0, 0, bytes(8))
        peer.received()
    assert peer.outcome() == ""


def test_hpack_bomb() -> None:
    peer = Peer()
    bomb = b"\x40\x01a\x7f" + b"\x9d\x1e" + b"v" * 3996
    peer.frame(frames.HEADERS, END_HEADERS, 1, bomb)
    peer.received()
    peer.frame(frames.HEADERS, END_HEADERS, 3, b"\xbe" * 16_000)
    assert peer.outcome() == CALM


def test_the_cache_of_header_blocks_is_bounded() -> None:
    peer = Peer(max_streams=10_000)
    for number in range(3 * limits.HEADER_CACHE_ENTRIES):
        fields = [(":method", "POST"), (":scheme", "http"), (":path", f"/{number}")]
        peer.open(2 * number + 1, fields=fields)
        peer.engine.check_invariants()
    assert 0 < len(peer.engine.blocks) <= limits.HEADER_CACHE_ENTRIES
    peer.open(20_001, fields=[*fields, ("x", "y" * limits.HEADER_CACHE_BLOCK_BYTES)])
    assert all(len(cached) <= limits.HEADER_CACHE_BLOCK_BYTES for cached in peer.engine.blocks)


def test_a_client_that_does_not_read_is_no_longer_read() -> None:
    """CVE-2019-9512, 9515: acks pile up behind a full transport."""
    peer = Peer()
    peer.engine.set_paused(True)
    while not peer.engine.stop_reading:
        peer.raw(frames.settings_frame({}) * 10)
        assert not peer.engine.terminated
        assert sum(map(len, peer.engine.out)) <= limits.MAX_QUEUED_CONTROL_BYTES + 100
    peer.engine.set_paused(False)
    peer.received()
    assert not peer.engine.stop_reading


def test_memory_of_resets_and_gaps_is_bounded() -> None:
    peer = Peer()
    for number in range(3 * limits.REMEMBERED_RESETS):
        peer.engine.reset(peer.open(4 * number + 1), frames.CANCEL)
        peer.engine.out.clear()
    assert len(peer.engine.reset_ids) == limits.REMEMBERED_RESETS
    assert len(peer.engine.gaps) == limits.REMEMBERED_GAPS
