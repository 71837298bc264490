"""The hand-written KeyValue against protobuf."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvorum.mvcc import keyvalue
from kvorum.proto import kv_pb2

numbers = st.integers(0, 2**63 - 1) | st.sampled_from(
    [0, 1, 127, 128, 2047, 2048, 16383, 16384, 2**21, 2**28]
)
leases = numbers | st.integers(-(2**63), -1)
blobs = st.binary(max_size=300) | st.sampled_from([b"x" * 16383, b"x" * 16384, b"x" * (1 << 21)])


@given(blobs, numbers, numbers, numbers, blobs, leases)
def test_bytes_are_those_of_protobuf(
    key: bytes, create: int, mod: int, version: int, value: bytes, lease: int
) -> None:
    message = kv_pb2.KeyValue(
        key=key, create_revision=create, mod_revision=mod, version=version, value=value, lease=lease
    )
    kv = keyvalue.encode(key, create, mod, version, value, lease)
    assert kv == message.SerializeToString()

    view = keyvalue.parse(kv)
    assert view[:5] == (key, create, mod, version, lease)
    assert kv[view.value_start : view.value_end] == value
    assert keyvalue.key_of(kv) == key
    if key and create:
        assert keyvalue.create_revision_of(kv) == create

    message.ClearField("value")
    assert keyvalue.without_value(kv) == message.SerializeToString()


@given(st.binary(min_size=1, max_size=300), numbers)
def test_tombstones_are_told_from_puts(key: bytes, mod: int) -> None:
    stored = keyvalue.encode_key(key)
    assert stored == kv_pb2.KeyValue(key=key).SerializeToString()
    assert keyvalue.is_delete(stored)
    assert keyvalue.is_delete(keyvalue.encode(key, 0, mod, 0, b"", 0))
    assert not keyvalue.is_delete(keyvalue.encode(key, 1, mod, 1, b"", 0))
    assert keyvalue.key_end(stored) == len(stored)


def test_what_is_no_key_value_is_refused() -> None:
    kv = keyvalue.encode(b"key", 2, 3, 1, b"value", 0)
    with pytest.raises(ValueError, match="offset"):
        keyvalue.parse(kv + b"\x38\x01")
    with pytest.raises(ValueError, match="offset"):
        keyvalue.parse(kv[:-1])
