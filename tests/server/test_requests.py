"""Entries made by hand are those that protobuf makes, and every entry can be opened."""

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from kvorum.auth import identity
from kvorum.auth.identity import Identity
from kvorum.proto.membership_pb2 import ClusterVersionSetRequest
from kvorum.proto.raft_internal_pb2 import InternalRaftRequest
from kvorum.proto.rpc_pb2 import LeaseGrantRequest, PutRequest
from kvorum.proto.wire import varint
from kvorum.server import requests

IDS = st.integers(min_value=1, max_value=(1 << 64) - 1)


@given(IDS, st.binary(min_size=1, max_size=300), st.binary(max_size=300))
def test_a_put_is_encoded_as_protobuf_would_and_opened_again(
    request_id: int, key: bytes, value: bytes
) -> None:
    put = PutRequest(key=key, value=value)
    message = InternalRaftRequest(put=put)
    message.header.ID = request_id
    data = requests.encode(requests.PUT, put.SerializeToString(), varint(request_id))
    assert data == message.SerializeToString()
    assert requests.decode(data) == (varint(request_id), requests.PUT, put.SerializeToString(), b"")


@given(IDS, st.text(max_size=200), st.integers(0, 1 << 63), st.binary(max_size=200))
def test_who_asked_goes_along_as_protobuf_would_have_it(
    request_id: int, name: str, revision: int, value: bytes
) -> None:
    put = PutRequest(key=b"k", value=value)
    message = InternalRaftRequest(put=put)
    message.header.ID = request_id
    message.header.username = name
    message.header.auth_revision = revision
    who = Identity(name, revision)
    data = requests.encode(requests.PUT, put.SerializeToString(), varint(request_id), who.encode())
    assert data == message.SerializeToString()
    opened = (varint(request_id), requests.PUT, put.SerializeToString(), who.encode())
    assert requests.decode(data) == opened
    assert requests.decode(message.SerializeToString()) == opened
    assert identity.decode(opened[3]) == who


def test_what_a_later_version_puts_into_the_header_is_passed_over() -> None:
    data = requests.encode(requests.PUT, b"", b"\x05", b"\x12\x01a\x18\x03\x20\x01")
    assert requests.decode(data) == (b"\x05", requests.PUT, b"", Identity("a", 3).encode())


def test_fields_stand_in_the_order_of_their_numbers() -> None:
    version = ClusterVersionSetRequest(ver="3.5.0")
    message = InternalRaftRequest(cluster_version_set=version)
    message.header.ID = 7
    data = requests.encode(requests.CLUSTER_VERSION_SET, version.SerializeToString(), b"\x07")
    assert data == message.SerializeToString()
    assert requests.decode(data)[2] == version.SerializeToString()


def test_an_entry_that_another_kind_of_member_made_is_opened_by_protobuf() -> None:
    message = InternalRaftRequest(ID=9, lease_grant=LeaseGrantRequest(TTL=5, ID=3))
    request_id, number, body, _ = requests.decode(message.SerializeToString())
    assert (request_id, number) == (b"\x09", 8)
    assert LeaseGrantRequest.FromString(body).TTL == 5


@given(st.binary(min_size=1, max_size=80))
def test_garbage_is_refused_or_opened_but_never_anything_else(data: bytes) -> None:
    try:
        request_id, number, body, _ = requests.decode(data)
    except DecodeError:
        return
    if number in (0, requests.PUT):
        message = InternalRaftRequest.FromString(data)
        assert varint(message.ID or message.header.ID) == request_id
        assert not number or PutRequest.FromString(body) == message.put


@given(IDS, st.binary(min_size=1, max_size=40), st.binary(max_size=40))
def test_a_body_that_looks_like_a_header_does_not_confuse(request_id: int, key: bytes, value: bytes) -> None:
    body = PutRequest(
        key=key + b"\xa2\x06\x02\x08\x01", value=value + b"\xa2\x06\x02\x08\x01"
    ).SerializeToString()
    assert requests.decode(requests.encode(requests.PUT, body, varint(request_id))) == (
        varint(request_id),
        requests.PUT,
        body,
        b"",
    )


def test_an_empty_request_is_known_by_its_id() -> None:
    assert requests.decode(InternalRaftRequest(ID=5).SerializeToString()) == (b"\x05", 0, b"", b"")


def test_a_header_without_an_id_is_refused() -> None:
    with pytest.raises(DecodeError):
        requests.decode(b"\x22\x00\xa2\x06\x01\x08")


@given(IDS, st.text(max_size=3), st.integers(0, 300))
def test_short_ids_and_names_are_told_apart(request_id: int, name: str, revision: int) -> None:
    request_id %= 1 << 20
    who = Identity(name, revision).encode()
    data = requests.encode(requests.PUT, b"", varint(request_id), who)
    assert requests.decode(data) == (varint(request_id), requests.PUT, b"", who)


def test_truncated_entries_are_refused() -> None:
    data = requests.encode(requests.PUT, PutRequest(key=b"k", value=b"v" * 50).SerializeToString(), b"\x4d")
    with pytest.raises(DecodeError):
        requests.decode(data[:-30])
