"""Standing streams: reading, however the bytes are cut, and sending within the windows."""

import random
import socket
from collections.abc import Iterator
from typing import Final, TypeAlias

import hpack
import pytest
from bench.h2load import LoadError
from bench.streams import Streams
from bench.wire import DATA, END_STREAM, HEADERS, Loop, frame

MARK: Final = b"a/mark/"
_WINDOW_UPDATE: Final = 8
_SETTINGS: Final = 4
_END_HEADERS: Final = 4

Pair: TypeAlias = tuple[Streams, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Connect the streams to a plain socket that plays the server."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        streams = Streams("127.0.0.1", listener.getsockname()[1], "/a/b", mark=MARK)
        peer, _ = listener.accept()
        with peer:
            yield streams, peer
        streams.close()


def _messages(chance: random.Random) -> list[bytes]:
    """Return messages of some marks each, with pieces of a mark between them."""
    parts = (MARK, MARK[:3], MARK[3:], b"", b"x" * 40, b"\0\0\0\0")
    return [b"".join(chance.choices(parts, k=chance.randrange(6))) for _ in range(chance.randrange(30))]


def _frames(chance: random.Random, messages: list[bytes], stream: int) -> list[bytes]:
    """Return the messages in frames: one each, or cut wherever chance will have it."""
    framed = [b"\0" + len(message).to_bytes(4, "big") + message for message in messages]
    if chance.random() < 0.3:
        return [frame(DATA, 0, stream, one) for one in framed]
    whole, payloads, at = b"".join(framed), [], 0
    while at < len(whole):
        size = chance.choice((1, 3, 7, 20, 100))
        payloads.append(whole[at : at + size])
        at += size
    return [frame(DATA, 0, stream, payload) for payload in payloads]


def _shuffled(chance: random.Random, queues: list[list[bytes]]) -> Iterator[bytes]:
    """Yield the frames of all queues, each queue's in order."""
    while queues := [queue for queue in queues if queue]:
        yield chance.choice(queues).pop(0)


@pytest.mark.parametrize("seed", range(60))
def test_messages_and_marks_are_counted_however_they_are_cut(pair: Pair, seed: int) -> None:
    streams, peer = pair
    chance = random.Random(seed)
    sent = [_messages(chance) for _ in range(3)]
    queues = [_frames(chance, messages, 2 * number + 1) for number, messages in enumerate(sent)]
    wire = b"".join(_shuffled(chance, queues))
    streams.restart(sample_every=1)
    at = 0
    with Loop([streams]) as loop:
        while at < len(wire):
            size = chance.choice((1, 10, 1000))
            peer.sendall(wire[at : at + size])
            at += size
            loop.progress()
        while streams.bytes_received < len(wire):
            loop.progress()
    everything = [message for messages in sent for message in messages]
    assert streams.messages == len(everything)
    assert streams.marks == sum(message.count(MARK) for message in everything)
    assert sorted(message for _, _, message in streams.samples) == sorted(everything)
    assert [number for _, number, _ in streams.samples] == list(range(len(everything)))
    assert not streams.partial


def test_only_some_messages_are_kept(pair: Pair) -> None:
    streams, peer = pair
    streams.restart(sample_every=4)
    peer.sendall(b"".join(frame(DATA, 0, 1, b"\0\0\0\0\x01" + bytes([number])) for number in range(10)))
    with Loop([streams]) as loop:
        while streams.messages < 10:
            loop.progress()
    assert [(number, message) for _, number, message in streams.samples] == [
        (0, b"\0"),
        (4, b"\x04"),
        (8, b"\x08"),
    ]


def _data(peer: socket.socket, loop: Loop, size: int) -> bytes:
    """Return ``size`` bytes of DATA; the windows must let them pass."""
    raw, data = bytearray(), b""
    while len(data) < size:
        loop.turn(0)
        raw += peer.recv(65_536)
        while len(raw) >= 9 and len(raw) >= (end := 9 + int.from_bytes(raw[:3], "big")):
            if raw[3] == DATA:
                assert end - 9 <= 16_384
                data += raw[9:end]
            del raw[:end]
    assert len(data) == size
    return data


def test_what_is_sent_keeps_to_the_windows(pair: Pair) -> None:
    streams, peer = pair
    peer.settimeout(10)
    streams.flush()
    assert peer.recv(24, socket.MSG_WAITALL).startswith(b"PRI ")
    body = random.Random(1).randbytes(200_000)
    stream = streams.open()
    streams.send(stream, body)
    room = (65_536).to_bytes(4, "big")
    with Loop([streams]) as loop:
        got = _data(peer, loop, 65_535)
        assert (streams.window, streams.windows) == (0, {stream: 0})
        peer.sendall(frame(_WINDOW_UPDATE, 0, stream, room))
        loop.progress()
        assert not streams.out, "the connection has no room"
        peer.sendall(frame(_WINDOW_UPDATE, 0, 0, (1_000_000).to_bytes(4, "big")))
        loop.progress()
        got += _data(peer, loop, 65_536)
        peer.sendall(frame(_SETTINGS, 0, 0, b"\0\4" + (65_535 + 70_000).to_bytes(4, "big")))
        loop.progress()
        got += _data(peer, loop, 200_000 - len(got))
    assert got == body
    assert not streams.unsent


def test_a_stream_that_ends_is_an_error(pair: Pair) -> None:
    streams, peer = pair
    block = hpack.Encoder().encode([(":status", "200"), ("grpc-status", "0")])
    peer.sendall(frame(HEADERS, _END_HEADERS | END_STREAM, 1, block))
    with Loop([streams]) as loop, pytest.raises(LoadError, match="ended stream 1"):
        loop.progress()
