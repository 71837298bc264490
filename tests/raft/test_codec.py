"""Bytes as etcd writes them: every non-nullable field, zeros too, in the order of the field numbers.

With every field set explicitly, protobuf's own runtime writes the same; that is the oracle. The constants
were written down from the field numbers by hand (etcd ``raft/raftpb/raft.pb.go`` v3.5.1).
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvorum.proto import raft_pb2
from kvorum.raft import codec, types
from kvorum.raft.types import (
    EMPTY_SNAPSHOT,
    ConfChange,
    ConfChangeSingle,
    ConfChangeV2,
    ConfState,
    Entry,
    HardState,
    Message,
    Snapshot,
    SnapshotMetadata,
)

UINT64 = st.one_of(
    st.integers(0, 300),
    st.integers(0, 2**64 - 1),
    st.builds(lambda n, d: max(0, 2**n + d), st.integers(0, 63), st.integers(-1, 1)),
)
DATA = st.one_of(st.binary(max_size=40), st.sampled_from([b"x" * n for n in (127, 128, 16383, 16384, 70000)]))
ENTRIES = st.builds(Entry, UINT64, UINT64, st.integers(0, 2), DATA)
IDS = st.lists(UINT64, max_size=4).map(tuple)
CONF_STATES = st.builds(ConfState, IDS, IDS, IDS, IDS, st.booleans())
METADATA = st.builds(SnapshotMetadata, CONF_STATES, UINT64, UINT64)
SNAPSHOTS = st.builds(Snapshot, DATA, METADATA)
HARD_STATES = st.builds(HardState, UINT64, UINT64, UINT64)
CONF_CHANGES = st.builds(ConfChange, st.integers(0, 3), UINT64, DATA, UINT64)
SINGLES = st.lists(st.builds(ConfChangeSingle, st.integers(0, 3), UINT64), max_size=4).map(tuple)
CONF_CHANGES_V2 = st.builds(ConfChangeV2, st.integers(0, 2), SINGLES, DATA)
MESSAGES = st.builds(
    Message,
    st.integers(0, 18),
    to=UINT64,
    from_=UINT64,
    term=UINT64,
    log_term=UINT64,
    index=UINT64,
    entries=st.lists(ENTRIES, max_size=3),
    commit=UINT64,
    snapshot=st.one_of(st.just(EMPTY_SNAPSHOT), SNAPSHOTS),
    reject=st.booleans(),
    reject_hint=UINT64,
    context=DATA,
)


def pb_entry(e: Entry) -> raft_pb2.Entry:
    message = raft_pb2.Entry(Term=e.term, Index=e.index, Type=raft_pb2.EntryType.Name(e.type))
    if e.data:
        message.Data = e.data
    return message


def pb_conf_state(c: ConfState) -> raft_pb2.ConfState:
    return raft_pb2.ConfState(
        voters=c.voters,
        learners=c.learners,
        voters_outgoing=c.voters_outgoing,
        learners_next=c.learners_next,
        auto_leave=c.auto_leave,
    )


def pb_metadata(m: SnapshotMetadata) -> raft_pb2.SnapshotMetadata:
    return raft_pb2.SnapshotMetadata(conf_state=pb_conf_state(m.conf_state), index=m.index, term=m.term)


def pb_snapshot(s: Snapshot) -> raft_pb2.Snapshot:
    message = raft_pb2.Snapshot(metadata=pb_metadata(s.metadata))
    if s.data:
        message.data = s.data
    return message


def pb_message(m: Message) -> raft_pb2.Message:
    message = raft_pb2.Message(
        type=raft_pb2.MessageType.Name(m.type),
        to=m.to,
        term=m.term,
        logTerm=m.log_term,
        index=m.index,
        entries=[pb_entry(entry) for entry in m.entries],
        commit=m.commit,
        snapshot=pb_snapshot(m.snapshot),
        reject=m.reject,
        rejectHint=m.reject_hint,
    )
    setattr(message, "from", m.from_)
    if m.context:
        message.context = m.context
    return message


@given(ENTRIES)
def test_entry(entry: Entry) -> None:
    data = codec.encode_entry(entry)
    assert data == pb_entry(entry).SerializeToString()
    assert codec.decode_entry(data) == entry
    assert codec.decode_entry(memoryview(data)) == entry
    assert type(codec.decode_entry(memoryview(data)).data) is bytes


@given(HARD_STATES)
def test_hard_state(state: HardState) -> None:
    data = codec.encode_hard_state(state)
    assert (
        data == raft_pb2.HardState(term=state.term, vote=state.vote, commit=state.commit).SerializeToString()
    )
    assert codec.decode_hard_state(data) == state


@given(CONF_STATES)
def test_conf_state(state: ConfState) -> None:
    data = codec.encode_conf_state(state)
    assert data == pb_conf_state(state).SerializeToString()
    assert codec.decode_conf_state(data) == state


@given(SNAPSHOTS)
def test_snapshot(snapshot: Snapshot) -> None:
    data = codec.encode_snapshot(snapshot)
    assert data == pb_snapshot(snapshot).SerializeToString()
    assert codec.decode_snapshot(data) == snapshot
    metadata = codec.encode_snapshot_metadata(snapshot.metadata)
    assert codec.decode_snapshot_metadata(metadata) == snapshot.metadata


@given(CONF_CHANGES)
def test_conf_change(change: ConfChange) -> None:
    data = codec.encode_conf_change(change)
    message = raft_pb2.ConfChange(
        id=change.id, type=raft_pb2.ConfChangeType.Name(change.type), node_id=change.node_id
    )
    if change.context:
        message.context = change.context
    assert data == message.SerializeToString()
    assert codec.decode_conf_change(data) == change
    assert codec.conf_change_of(Entry(1, 1, types.ENTRY_CONF_CHANGE, data)) == change


@given(CONF_CHANGES_V2)
def test_conf_change_v2(change: ConfChangeV2) -> None:
    data = codec.encode_conf_change_v2(change)
    message = raft_pb2.ConfChangeV2(
        transition=raft_pb2.ConfChangeTransition.Name(change.transition),
        changes=[
            raft_pb2.ConfChangeSingle(type=raft_pb2.ConfChangeType.Name(single.type), node_id=single.node_id)
            for single in change.changes
        ],
    )
    if change.context:
        message.context = change.context
    assert data == message.SerializeToString()
    assert codec.decode_conf_change_v2(data) == change
    assert codec.conf_change_of(Entry(1, 1, types.ENTRY_CONF_CHANGE_V2, data)) == change


@given(MESSAGES)
def test_message(message: Message) -> None:
    data = codec.encode_message(message)
    assert data == pb_message(message).SerializeToString()
    assert codec.decode_message(data) == message


@pytest.mark.parametrize(
    ("encoded", "expected"),
    [
        (codec.encode_entry(Entry(0, 0)), "08 00 10 00 18 00"),
        (codec.encode_entry(Entry(1, 300, 1, b"hi")), "08 01 10 01 18 ac 02 22 02 68 69"),
        (codec.encode_hard_state(HardState()), "08 00 10 00 18 00"),
        (codec.encode_hard_state(HardState(2, 128, 1)), "08 02 10 80 01 18 01"),
        (codec.encode_conf_state(ConfState()), "28 00"),
        (
            codec.encode_conf_state(ConfState((1, 2), (3,), (4,), (5,), True)),
            "08 01 08 02 10 03 18 04 20 05 28 01",
        ),
        (codec.encode_snapshot_metadata(SnapshotMetadata()), "0a 02 28 00 10 00 18 00"),
        (codec.encode_snapshot(EMPTY_SNAPSHOT), "12 08 0a 02 28 00 10 00 18 00"),
        (codec.encode_conf_change(ConfChange(0, 0)), "08 00 10 00 18 00"),
        (codec.encode_conf_change(ConfChange(1, 2, b"c", 3)), "08 03 10 01 18 02 22 01 63"),
        (codec.encode_conf_change_v2(ConfChangeV2()), "08 00"),
        (
            codec.encode_conf_change_v2(ConfChangeV2(1, (ConfChangeSingle(0, 0),), b"c")),
            "08 01 12 04 08 00 10 00 1a 01 63",
        ),
        (
            codec.encode_message(Message(types.MSG_HEARTBEAT)),
            "08 08 10 00 18 00 20 00 28 00 30 00 40 00 4a 0a 12 08 0a 02 28 00 10 00 18 00 50 00 58 00",
        ),
        (
            codec.encode_message(
                Message(types.MSG_APP_RESP, 1, 2, 3, 4, 5, [Entry(6, 7)], 8, EMPTY_SNAPSHOT, True, 9, b"c")
            ),
            "08 04 10 01 18 02 20 03 28 04 30 05 3a 06 08 00 10 06 18 07 40 08"
            " 4a 0a 12 08 0a 02 28 00 10 00 18 00 50 01 58 09 62 01 63",
        ),
    ],
)
def test_zeros_are_written(encoded: bytes, expected: str) -> None:
    assert encoded.hex(" ") == expected


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("", Entry(0, 0)),
        ("18 07 10 02 08 01", Entry(2, 7, 1)),
        ("22 01 61 08 00 10 02 18 07", Entry(2, 7, 0, b"a")),
        ("08 00 10 02 18 07 22 00", Entry(2, 7)),
        ("08 00 10 82 00 18 07", Entry(2, 7)),
        ("08 00 10 02 18 07 28 05", Entry(2, 7)),
        ("08 00 10 01 10 02 18 07", Entry(2, 7)),
        ("08 00 10 ff ff ff ff ff ff ff ff ff 01 18 07", Entry(2**64 - 1, 7)),
    ],
)
def test_other_encodings_of_an_entry(data: str, expected: Entry) -> None:
    """Any order, long varints, unknown fields, repeated ones: legal protobuf, left to its runtime."""
    assert codec.decode_entry(bytes.fromhex(data)) == expected


@pytest.mark.parametrize(
    "data", ["08", "08 00 10", "08 00 10 01 18 01 22 05 61", "ff", "08 00 10 01 18 01 22 ff"]
)
def test_torn_entries_are_refused(data: str) -> None:
    with pytest.raises(codec.CodecError, match="not an entry"):
        codec.decode_entry(bytes.fromhex(data))


@given(st.binary(max_size=60))
def test_any_bytes_are_an_entry_or_refused(data: bytes) -> None:
    """The quick path agrees with protobuf on everything that is not an entry of ours."""
    oracle = raft_pb2.Entry()
    try:
        oracle.ParseFromString(data)
    except Exception:
        with pytest.raises(codec.CodecError):
            codec.decode_entry(data)
        return
    assert codec.decode_entry(data) == Entry(oracle.Term, oracle.Index, int(oracle.Type), oracle.Data)


@pytest.mark.parametrize(
    "decode",
    [
        codec.decode_hard_state,
        codec.decode_conf_state,
        codec.decode_snapshot,
        codec.decode_snapshot_metadata,
        codec.decode_conf_change,
        codec.decode_conf_change_v2,
        codec.decode_message,
    ],
)
def test_garbage_is_refused(decode: object) -> None:
    assert callable(decode)
    with pytest.raises(codec.CodecError):
        decode(b"\xff\xff\xff")


def test_names_are_those_of_the_protocol() -> None:
    for number, name in enumerate(types.MESSAGE_NAMES):
        assert raft_pb2.MessageType.Value(name) == number
    for name, number in raft_pb2.EntryType.items():
        assert name == ("EntryNormal", "EntryConfChange", "EntryConfChangeV2")[number]
