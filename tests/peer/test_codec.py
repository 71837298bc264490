"""The streams' codecs against what was put in, for any messages and any way of cutting up the bytes."""

from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvorum import limits
from kvorum.peer.codec import (
    Decoder,
    Encoder,
    EntryFrames,
    MessageDecoder,
    MessageEncoder,
    MsgAppDecoder,
    MsgAppEncoder,
    StreamError,
    frame,
    is_link_heartbeat,
    link_heartbeat,
)
from kvorum.raft.codec import encode_entry
from kvorum.raft.types import MSG_APP, ConfState, Entry, Message, Snapshot, SnapshotMetadata

LOCAL, REMOTE = 0xB, 0xA

numbers = st.integers(0, 2**64 - 1)
small = st.integers(0, 300)
data = st.binary(max_size=300)
entries = st.lists(st.builds(Entry, numbers, numbers, st.integers(0, 2), data), max_size=4)
snapshots = st.builds(
    Snapshot, data, st.builds(SnapshotMetadata, st.builds(ConfState, st.just((1, 2))), numbers, numbers)
)
messages = st.builds(
    Message,
    st.integers(0, 18),
    to=numbers,
    from_=st.integers(1, 2**64 - 1),
    term=numbers,
    log_term=numbers,
    index=numbers,
    entries=entries,
    commit=numbers,
    snapshot=snapshots,
    reject=st.booleans(),
    reject_hint=numbers,
    context=data,
)


@st.composite
def replication(draw: st.DrawFn) -> list[Message]:
    """What a leader says to a follower: mostly what follows from the message before, with jumps."""
    said: list[Message] = []
    term, index = 1, 0
    for _ in range(draw(st.integers(1, 8))):
        log_term = term
        match draw(st.integers(0, 5)):
            case 0:  # probing elsewhere
                index, log_term = draw(small), draw(small)
            case 1:  # a new term
                term += draw(st.integers(1, 3))
        follow = [
            Entry(term, index + 1 + n, 0, bytes_) for n, bytes_ in enumerate(draw(st.lists(data, max_size=4)))
        ]
        said.append(Message(MSG_APP, to=LOCAL, from_=REMOTE, term=term, log_term=log_term, index=index,
                            entries=follow, commit=draw(small)))  # fmt: skip
        index += len(follow)
    return said


@st.composite
def cuts(draw: st.DrawFn) -> Callable[[bytes], Iterable[bytes]]:
    """A way of cutting bytes up."""
    sizes = draw(st.lists(st.integers(1, 400), min_size=1, max_size=6))

    def cut(whole: bytes) -> Iterable[bytes]:
        at = turn = 0
        while at < len(whole):
            size = sizes[turn % len(sizes)]
            yield whole[at : at + size]
            at += size
            turn += 1

    return cut


def decode(decoder: Decoder, pieces: Iterable[bytes]) -> list[Message]:
    return [message for piece in pieces for message in decoder.feed(piece)]


@given(st.lists(messages, max_size=6), cuts())
def test_messages_come_out_as_they_went_in(
    said: list[Message], cut: Callable[[bytes], Iterable[bytes]]
) -> None:
    encoder = MessageEncoder()
    whole = encoder.heartbeat + encoder.encode(said) + encoder.heartbeat
    assert whole == b"".join(map(frame, [link_heartbeat(), *said, link_heartbeat()]))
    assert decode(MessageDecoder(), cut(whole)) == said


@given(replication(), st.integers(0, 7), cuts())
def test_appends_come_out_as_they_went_in(
    said: list[Message], split: int, cut: Callable[[bytes], Iterable[bytes]]
) -> None:
    encoder = MsgAppEncoder(EntryFrames())
    whole = encoder.encode(said[:split]) + encoder.heartbeat + encoder.encode(said[split:])
    assert decode(MsgAppDecoder(LOCAL, REMOTE), cut(whole)) == said


@given(replication(), st.data())
def test_a_stream_that_breaks_off_gives_what_was_whole(said: list[Message], more: st.DataObject) -> None:
    encoder: Encoder
    for encoder, decoder in (
        (MsgAppEncoder(EntryFrames()), MsgAppDecoder(LOCAL, REMOTE)),
        (MessageEncoder(), MessageDecoder()),
    ):
        ends = []
        whole = b""
        for message in said:
            whole += encoder.encode([message])
            ends.append(len(whole))
        at = more.draw(st.integers(0, len(whole)))
        assert decoder.feed(whole[:at]) == said[: sum(end <= at for end in ends)]


@given(st.binary(max_size=200), cuts())
def test_any_bytes_are_messages_or_an_error(noise: bytes, cut: Callable[[bytes], Iterable[bytes]]) -> None:
    for decoder in (MessageDecoder(), MsgAppDecoder(LOCAL, REMOTE)):
        try:
            decode(decoder, cut(noise))
        except StreamError:
            pass


def test_the_form_made_for_replication() -> None:
    """The bytes by hand, from the description of the format (etcd ``msgappv2_codec.go``)."""
    first = Message(MSG_APP, to=LOCAL, from_=REMOTE, term=3, log_term=2, index=7, commit=5)
    entry = Entry(3, 8, 0, b"x")
    second = Message(MSG_APP, to=LOCAL, from_=REMOTE, term=3, log_term=3, index=7, entries=[entry], commit=6)
    body = encode_entry(entry)
    encoder = MsgAppEncoder(EntryFrames())
    assert encoder.heartbeat == b"\x00"
    assert encoder.encode([first]) == b"\x02" + frame(first)
    parts = (b"\x01", (1).to_bytes(8, "big"), len(body).to_bytes(8, "big"), body, (6).to_bytes(8, "big"))
    assert encoder.encode([second]) == b"".join(parts)


def test_entries_are_encoded_once_for_all_followers() -> None:
    frames = EntryFrames()
    entry = Entry(1, 5, 0, b"value")
    assert frames.of(entry) is frames.of(entry)
    assert frames.of(Entry(2, 5, 0, b"other")) == frames.of(Entry(2, 5, 0, b"other")) != frames.of(entry)


def test_what_is_kept_of_entries_is_bounded() -> None:
    frames = EntryFrames()
    block = bytes(limits.PEER_ENTRY_FRAMES_BYTES // 10)
    first = Entry(1, 1, 0, block)
    before = frames.of(first)
    for index in range(2, 14):
        frames.of(Entry(1, index, 0, block))
    assert frames.of(first) is not before


@pytest.mark.parametrize(
    "claim", [limits.PEER_MESSAGE_BYTES + 1, 1 << 40, (1 << 64) - 1], ids=["one more", "a tebibyte", "all"]
)
def test_a_length_above_the_bound_is_refused_at_once(claim: int) -> None:
    length = claim.to_bytes(8, "big")
    with pytest.raises(StreamError, match="limit exceeded"):
        MessageDecoder().feed(length)
    with pytest.raises(StreamError, match="limit exceeded"):
        MsgAppDecoder(LOCAL, REMOTE).feed(b"\x02" + length)
    with pytest.raises(StreamError, match="limit exceeded"):
        MsgAppDecoder(LOCAL, REMOTE).feed(b"\x01" + (1).to_bytes(8, "big") + length)


def test_many_entries_cannot_pass_the_bound_together() -> None:
    decoder = MsgAppDecoder(LOCAL, REMOTE, limit_bytes=1000)
    body = encode_entry(Entry(1, 1, 0, b"x" * 100))
    piece = len(body).to_bytes(8, "big") + body
    decoder.feed(b"\x01" + ((1 << 64) - 1).to_bytes(8, "big"))  # a count alone costs nothing
    with pytest.raises(StreamError, match="limit exceeded"):
        decode(decoder, [piece] * 10)


@pytest.mark.parametrize("kind", [3, 0x7F, 0xFF])
def test_a_piece_of_no_known_kind(kind: int) -> None:
    with pytest.raises(StreamError, match=f"failed to parse type {kind} in msgappv2 stream"):
        MsgAppDecoder(LOCAL, REMOTE).feed(bytes((0, 0, kind)))


@pytest.mark.parametrize("indexes", [[9], [8, 10], [8, 8], [7, 8]])
def test_entries_that_do_not_follow(indexes: list[int]) -> None:
    head = Message(MSG_APP, to=LOCAL, from_=REMOTE, term=3, log_term=2, index=7)
    encoder = MsgAppEncoder(EntryFrames())
    decoder = MsgAppDecoder(LOCAL, REMOTE)
    decoder.feed(encoder.encode([head]))
    follow = [Entry(3, index, 0, b"") for index in indexes]
    bad = Message(MSG_APP, to=LOCAL, from_=REMOTE, term=3, log_term=3, index=7, entries=follow)
    with pytest.raises(StreamError, match="do not follow"):
        decoder.feed(encoder.encode([bad]))


def test_the_links_heartbeat_is_none_of_rafts() -> None:
    assert is_link_heartbeat(link_heartbeat())
    assert not is_link_heartbeat(Message(link_heartbeat().type, to=1, from_=2))
    assert MessageDecoder().feed(MessageEncoder().heartbeat) == []
