"""Frames: what protobuf makes of ours, and ours of protobuf's."""

from struct import unpack_from

import pytest
from crc32c import crc32c
from hypothesis import given
from hypothesis import strategies as st

from kvorum.proto import raft_pb2, record_pb2
from kvorum.raft.codec import CodecError, encode_entry, encode_hard_state
from kvorum.raft.types import ConfState, Entry, HardState
from kvorum.wal.decoder import DamagedRecordError, SegmentDecoder
from kvorum.wal.reader import decode_marker
from kvorum.wal.record import (
    CRC_TYPE,
    ENTRY_TYPE,
    METADATA_TYPE,
    SNAPSHOT_TYPE,
    STATE_TYPE,
    WalSnapshot,
    decode_state,
    encode_batch,
    encode_frame,
    encode_head,
    encode_marker,
)

UINT64 = st.integers(0, 2**64 - 1)
ENTRIES = st.lists(
    st.builds(Entry, st.integers(1, 2**40), UINT64, st.integers(0, 2), st.binary(max_size=300)), max_size=8
)


def frames_by_protobuf(log: bytes) -> list[record_pb2.Record]:
    """The dumb twin of the decoder: protobuf parses what the length fields delimit."""
    records = []
    at = 0
    while at < len(log):
        (field,) = unpack_from("<Q", log, at)
        size, pad = field & (1 << 56) - 1, (field >> 56 & 7 if field >> 63 else 0)
        assert (size + pad) % 8 == 0
        assert log[at + 8 + size : at + 8 + size + pad] == bytes(pad)
        record = record_pb2.Record()
        record.ParseFromString(log[at + 8 : at + 8 + size])
        assert record.SerializeToString() == log[at + 8 : at + 8 + size], "written as protobuf writes it"
        records.append(record)
        at += 8 + size + pad
    return records


@given(ENTRIES, st.one_of(st.none(), st.builds(HardState, UINT64, UINT64, UINT64)), st.integers(0, 2**32 - 1))
def test_a_batch_is_records_of_entries_then_state_with_a_rolling_crc(
    entries: list[Entry], state: HardState | None, crc: int
) -> None:
    log, last_crc = encode_batch(entries, state, crc)
    records = frames_by_protobuf(log)
    expected = [(ENTRY_TYPE, encode_entry(entry)) for entry in entries]
    if state is not None:
        expected.append((STATE_TYPE, encode_hard_state(state)))
    assert [(record.type, record.data) for record in records] == expected
    for record in records:
        crc = crc32c(record.data, crc)
        assert record.crc == crc
    assert last_crc == crc


@given(ENTRIES, st.binary(max_size=40), st.integers(0, 2**32 - 1))
def test_the_decoder_reads_what_protobuf_reads(entries: list[Entry], metadata: bytes, crc: int) -> None:
    head, rolled = encode_head(metadata, crc, HardState(3, 1, 2))
    more, rolled = encode_batch(entries, None, rolled)
    log = head + more
    decoder = SegmentDecoder(log + bytes(100), 0, chained=False, is_last=True)
    read = []
    while decoder.advance():
        read.append((decoder.type, decoder.data))
    assert read == [(record.type, record.data) for record in frames_by_protobuf(log)]
    assert (decoder.crc, decoder.offset) == (rolled, len(log))
    assert [kind for kind, _ in read[:3]] == [CRC_TYPE, METADATA_TYPE, STATE_TYPE]


def test_the_decoder_needs_the_crc_first_and_the_chain_unbroken() -> None:
    batch, _ = encode_batch([Entry(1, 1, 0, b"x")], None, 0)
    with pytest.raises(DamagedRecordError, match="does not start with its crc"):
        SegmentDecoder(batch, 0, chained=False, is_last=True).advance()
    with pytest.raises(DamagedRecordError, match="crc mismatch between segments"):
        SegmentDecoder(encode_frame(CRC_TYPE, 5, None), 6, chained=True, is_last=False).advance()


@given(UINT64, st.integers(0, 2**48), st.one_of(st.none(), st.just(ConfState((1, 2), (3,), (), (), True))))
def test_markers_come_back(index: int, term: int, conf_state: ConfState | None) -> None:
    frame, crc = encode_marker(WalSnapshot(index, term, conf_state), 7)
    (record,) = frames_by_protobuf(frame)
    assert (record.type, record.crc) == (SNAPSHOT_TYPE, crc)
    marker = decode_marker(record.data)
    assert (marker.index, marker.term, marker.conf_state) == (index, term, conf_state)


@given(st.builds(HardState, UINT64, UINT64, UINT64))
def test_hard_states_come_back(state: HardState) -> None:
    assert decode_state(encode_hard_state(state)) == state


@given(st.binary(max_size=24))
def test_only_what_etcd_writes_is_a_hard_state(data: bytes) -> None:
    try:
        state = decode_state(data)
    except CodecError:
        return
    message = raft_pb2.HardState()
    message.ParseFromString(data)
    assert (message.term, message.vote, message.commit) == (state.term, state.vote, state.commit)


def test_an_entry_is_not_a_hard_state() -> None:
    with pytest.raises(CodecError):
        decode_state(encode_entry(Entry(2, 9, 0, b"data")))


def read_through(segment: bytes, *, shortcut: bool) -> tuple[list[tuple[int, int, int, bytes]], str]:
    decoder = SegmentDecoder(segment, 0, chained=False, is_last=True)
    records = []
    try:
        while (shortcut and decoder.next_entry() is not None) or decoder.advance():
            records.append((decoder.start, decoder.offset, decoder.type, decoder.data))
    except DamagedRecordError as error:
        return records, f"{error.offset} {error.reason} {error.torn}"
    return records, f"{decoder.offset} {decoder.crc}"


@given(
    st.lists(st.sampled_from([0, 1, 100, 116, 117, 118, 127, 128, 300, 16370, 16383, 16384, 20000])),
    st.data(),
)
def test_the_shortcut_for_entries_reads_the_same(sizes: list[int], data: st.DataObject) -> None:
    head, crc = encode_head(b"m", 0, None)
    entries = [Entry(2, n + 1, 0, bytes([n % 250 + 1]) * size) for n, size in enumerate(sizes)]
    body, _ = encode_batch(entries, HardState(2, 1, 1), crc)
    log = bytearray(head + body + bytes(600))
    if data.draw(st.booleans()):
        bit = data.draw(st.integers(0, len(log) * 8 - 1))
        log[bit // 8] ^= 1 << bit % 8
    assert read_through(bytes(log), shortcut=True) == read_through(bytes(log), shortcut=False)
