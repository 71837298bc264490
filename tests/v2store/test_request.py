"""Requests as they lie in the log: protobuf's bytes, and told apart as strictly as Go tells them apart."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvorum.proto.etcdserver_pb2 import Request
from kvorum.proto.raft_internal_pb2 import InternalRaftRequest
from kvorum.proto.rpc_pb2 import PutRequest
from kvorum.proto.wire import varint
from kvorum.server import requests
from kvorum.v2store.request import MalformedRequestError, V2Request, decode_raw

TEXT = st.text(max_size=20)
ODD_TEXT = st.binary(max_size=20).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
BOOL = st.booleans()
UINT64 = st.integers(0, (1 << 64) - 1)
INT64 = st.integers(-(1 << 63), (1 << 63) - 1)
METHODS = st.sampled_from(["POST", "PUT", "DELETE", "QGET", "SYNC"])

LOGGED = {
    "method": "Method",
    "path": "Path",
    "val": "Val",
    "dir": "Dir",
    "prev_value": "PrevValue",
    "prev_index": "PrevIndex",
    "prev_exist": "PrevExist",
    "expiration": "Expiration",
    "recursive": "Recursive",
    "sorted": "Sorted",
    "time": "Time",
    "refresh": "Refresh",
}
"""The slots that are written, and their names in protobuf."""


def made(text: st.SearchStrategy[str]) -> st.SearchStrategy[V2Request]:
    def fill(fields: dict[str, object]) -> V2Request:
        request = V2Request("")
        for name, value in fields.items():
            setattr(request, name, value)
        return request

    return st.fixed_dictionaries(
        {
            "method": METHODS,
            "path": text,
            "val": text,
            "dir": BOOL,
            "prev_value": text,
            "prev_index": UINT64,
            "prev_exist": st.none() | BOOL,
            "expiration": INT64,
            "recursive": BOOL,
            "sorted": BOOL,
            "time": INT64,
            "refresh": st.none() | BOOL,
        }
    ).map(fill)


def slots(request: V2Request) -> dict[str, object]:
    return {name: getattr(request, name) for name in V2Request.__slots__}


def as_go_writes_it(request: V2Request, request_id: int) -> bytes:
    """Go writes every field that is not a pointer, zero or not."""
    message = Request(ID=request_id)
    for slot, name in LOGGED.items():
        value = getattr(request, slot)
        if value is not None:
            setattr(message, name, value)
    for name in ("Wait", "Since", "Quorum", "Stream"):
        setattr(message, name, 0)
    return message.SerializeToString()


@given(made(TEXT))
def test_requests_are_written_as_protobuf_would(request: V2Request) -> None:
    message = Request.FromString(request.encode())
    for slot, name in LOGGED.items():
        value = getattr(request, slot)
        is_given = value is not None if slot in ("prev_exist", "refresh") else bool(value)
        assert message.HasField(name) == is_given
        assert getattr(message, name) == (value or type(getattr(message, name))())


@given(made(ODD_TEXT))
def test_what_was_written_is_read_again_even_if_it_is_no_text(request: V2Request) -> None:
    assert slots(V2Request.decode(request.encode())) == slots(request)


@given(made(TEXT), UINT64)
def test_a_raw_entry_of_another_member_is_known_for_one(request: V2Request, request_id: int) -> None:
    data = as_go_writes_it(request, request_id)
    opened = decode_raw(data)
    assert opened is not None
    assert opened.id == request_id
    opened.id = 0
    assert slots(opened) == slots(request)
    assert requests.decode(data) == (varint(request_id), requests.V2, data, b"")
    assert slots(V2Request.decode(requests.decode(data)[2])) == {**slots(request), "id": request_id}


@given(made(ODD_TEXT), st.integers(1, (1 << 64) - 1))
def test_an_entry_of_ours_is_opened_by_hand(request: V2Request, request_id: int) -> None:
    body = request.encode()
    data = requests.encode(requests.V2, body, varint(request_id))
    assert requests.decode(data) == (varint(request_id), requests.V2, body, b"")
    assert decode_raw(data) is None


@given(made(TEXT), st.integers(1, (1 << 64) - 1))
def test_an_internal_request_is_not_taken_for_a_raw_one(request: V2Request, request_id: int) -> None:
    with_v2 = InternalRaftRequest(ID=request_id, v2=Request.FromString(request.encode()))
    assert decode_raw(with_v2.SerializeToString()) is None
    assert requests.decode(with_v2.SerializeToString())[:2] == (varint(request_id), requests.V2)
    put = InternalRaftRequest(ID=request_id, put=PutRequest(key=b"POST", value=b"PUT"))
    assert decode_raw(put.SerializeToString()) is None


def test_protobufs_own_reader_would_take_a_raw_post_for_an_internal_request() -> None:
    """Which is why this one is by hand: P, O, S and T are a varint and an empty group to it."""
    raw = as_go_writes_it(V2Request("POST", ""), 7)[:8]
    assert raw == b"\x08\x07\x12\x04POST"
    assert InternalRaftRequest.FromString(raw).HasField("v2")
    opened = decode_raw(raw)
    assert opened is not None
    assert opened.method == "POST"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\x12\x04PU", "ends inside a field"),
        (b"\x12", "ends inside a number"),
        (b"\x08\xff", "ends inside a number"),
        (b"\x10\x01", "wrong wire type 0 of field 2"),
        (b"\x53\x54", "wrong wire type 3 of field 10"),
        (b"\xa3\x06\xa4\x06", "wire type 3"),
        (b"\xa1\x06\x00", "ends inside a field"),
    ],
)
def test_what_go_refuses_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(MalformedRequestError, match=why):
        V2Request.decode(data)


def test_fields_of_later_versions_are_passed_over() -> None:
    unknown = b"\xa0\x06\x01" + b"\xa2\x06\x02ab" + b"\xa1\x06" + b"8" * 8 + b"\xa5\x06" + b"4" * 4
    assert V2Request.decode(unknown + b"\x12\x03PUT").method == "PUT"


@given(st.binary(max_size=60))
def test_garbage_is_refused_or_read_but_nothing_else(data: bytes) -> None:
    decode_raw(data)
    decode_raw(b"\x08\x01\x12\x03PUT" + data)
