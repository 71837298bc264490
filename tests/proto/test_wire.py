"""Bytes made by hand equal those that protobuf makes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvorum.proto.rpc_pb2 import ResponseHeader
from kvorum.proto.wire import delimited, int64, read_varint, varint

INT64 = st.integers(min_value=-(1 << 63), max_value=(1 << 63) - 1)


@given(INT64.filter(bool))
def test_varint_is_protobufs(value: int) -> None:
    assert b"\x18" + varint(value) == ResponseHeader(revision=value).SerializeToString()


@given(INT64, st.binary(max_size=5), st.binary(max_size=5))
def test_varints_are_read_back_where_they_stand(value: int, before: bytes, after: bytes) -> None:
    data = before + varint(value) + after
    read, at = read_varint(data, len(before))
    assert (int64(read), data[at:]) == (value, after)


def test_a_varint_without_an_end_is_refused() -> None:
    with pytest.raises(IndexError):
        read_varint(b"\x80\x80", 0)
    with pytest.raises(IndexError, match="ten bytes"):
        read_varint(b"\x80" * 11, 0)


def test_delimited_fields_carry_their_length() -> None:
    assert delimited(b"\x0a", b"x" * 200) == b"\x0a\xc8\x01" + b"x" * 200
