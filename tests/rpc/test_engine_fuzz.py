"""Any bytes at all: the engine answers or says GOAWAY, and never raises."""

import random
from typing import Final

from hypothesis import given, settings
from hypothesis import strategies as st

from kvorum.rpc import frames
from kvorum.rpc.streams import OPEN
from tests.rpc.engine_kit import REQUEST_BLOCK, Peer, RecordedStream, Recorder

IDS: Final = st.sampled_from([0, 1, 1, 1, 2, 3, 3, 5, 7, 2**31 - 1, 2**31 + 1])
PAYLOADS: Final = (
    st.binary(max_size=40)
    | st.just(REQUEST_BLOCK)
    | st.sampled_from([bytes(4), bytes(5), bytes(6), bytes(8), b"\0\0\0\1", b"\x7f\xff\xff\xff"])
)
FRAMES: Final = st.builds(
    frames.frame, st.integers(0, 11), st.sampled_from([0, 1, 4, 5, 5, 8, 9, 13, 0x2D, 0xFF]), IDS, PAYLOADS
)


class Answering(Recorder):
    """Answers when half of the streams end, resets others, leaves the rest."""

    peer: Peer

    def on_data(self, stream: RecordedStream, content: bytes, ended: bool) -> None:
        engine = self.peer.engine
        if ended and stream.id % 4 == 1:
            engine.respond(stream, content)
        elif stream.state == OPEN and len(content) == 5:
            engine.reset(stream, frames.CANCEL)
        else:
            engine.consumed(stream, len(content))


def answering(settings_sent: bool = True) -> Peer:
    recorder = Answering()
    peer = Peer(recorder, settings=False)
    recorder.peer = peer
    if settings_sent:
        peer.raw(frames.CLIENT_PREFACE + frames.settings_frame({}))
    return peer


def settle(peer: Peer) -> None:
    """Frames that leave are whole, and streams that ended were told so when the connection ends."""
    peer.received()
    peer.engine.lost()
    assert not peer.engine.streams
    assert peer.engine.unsent == 0
    assert all(stream.state != OPEN for stream in peer.recorder.made.values())


@settings(max_examples=300, deadline=None)
@given(st.lists(FRAMES, max_size=40), st.integers(1, 100))
def test_any_frames(sent: list[bytes], size: int) -> None:
    peer = answering()
    data = b"".join(sent)
    for at in range(0, len(data), size):
        peer.raw(data[at : at + size])
        peer.engine.check_invariants()
    settle(peer)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=100), max_size=10), st.booleans())
def test_any_bytes(pieces: list[bytes], greeted: bool) -> None:
    peer = answering(greeted)
    for piece in pieces:
        peer.raw(piece)
    settle(peer)


@settings(max_examples=100, deadline=None)
@given(st.lists(FRAMES, max_size=15), st.integers(0, 2**32))
def test_pieces_make_no_difference(sent: list[bytes], seed: int) -> None:
    data = b"".join(sent)
    whole, cut = answering(), answering()
    whole.raw(data)
    chance = random.Random(seed)
    at = 0
    while at < len(data):
        step = chance.randint(1, 50)
        cut.raw(data[at : at + step])
        at += step
    assert cut.recorder.events == whole.recorder.events
    assert b"".join(cut.engine.out) == b"".join(whole.engine.out)
    assert cut.engine.why == whole.engine.why


def test_a_mutated_conversation() -> None:
    """A good conversation with a few bytes changed, many times over."""
    good = b"".join(
        [
            frames.CLIENT_PREFACE,
            frames.settings_frame({frames.SETTINGS_INITIAL_WINDOW_SIZE: 100}),
            *(
                frames.frame(frames.HEADERS, 4, stream_id, REQUEST_BLOCK)
                + frames.frame(frames.DATA, 1, stream_id, b"content")
                + frames.window_update_frame(stream_id, 10)
                for stream_id in range(1, 20, 2)
            ),
        ]
    )
    chance = random.Random(20_240_229)
    for _ in range(1500):
        data = bytearray(good)
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        peer = answering(settings_sent=False)
        peer.raw(bytes(data))
        settle(peer)


def test_what_is_kept_of_garbage_is_bounded() -> None:
    """An endless header block and an endless frame keep at most one frame and one block."""
    peer = Peer()
    peer.frame(frames.HEADERS, 0, 1, bytes(16_000))
    for _ in range(10):
        peer.frame(frames.CONTINUATION, 0, 1, bytes(16_000))
    assert peer.engine.block is None
    assert not peer.engine.buffer
    assert peer.outcome() == f"connection {frames.ENHANCE_YOUR_CALM}"
    peer = Peer()
    peer.raw(frames.frame(frames.DATA, 0, 1, bytes(16_384))[:-1])
    assert len(peer.engine.buffer) <= frames.DEFAULT_MAX_FRAME_SIZE + frames.HEADER_SIZE
