"""What a log entry holds: ``etcdserverpb.InternalRaftRequest``, made and opened without message objects.

A client's request is embedded as the bytes that came in (they were parsed once, for validation), followed by
the header with the request's ID, as etcd writes it. Entries made elsewhere are opened by protobuf; those of
members up to 3.5 may be a v2 request and nothing else.
"""

from typing import Final

from kvorum.proto.raft_internal_pb2 import InternalRaftRequest
from kvorum.proto.wire import read_varint, varint
from kvorum.v2store.request import decode_raw

# Field numbers of InternalRaftRequest (facts/wire.json), by the request they carry.
V2: Final = 2
RANGE: Final = 3
PUT: Final = 4
DELETE_RANGE: Final = 5
TXN: Final = 6
COMPACTION: Final = 7
LEASE_GRANT: Final = 8
LEASE_REVOKE: Final = 9
ALARM: Final = 10
LEASE_CHECKPOINT: Final = 11
CLUSTER_VERSION_SET: Final = 1300
CLUSTER_MEMBER_ATTR_SET: Final = 1301
DOWNGRADE_INFO_SET: Final = 1302

_TAGS: Final = {
    number: varint(number << 3 | 2)
    for number in (
        V2,
        RANGE,
        PUT,
        DELETE_RANGE,
        TXN,
        COMPACTION,
        LEASE_GRANT,
        LEASE_REVOKE,
        ALARM,
        LEASE_CHECKPOINT,
        CLUSTER_VERSION_SET,
        CLUSTER_MEMBER_ATTR_SET,
        DOWNGRADE_INFO_SET,
    )
}
_HEADER_TAG: Final = varint(100 << 3 | 2)
_ID_TAG: Final = b"\x08"
_NUMBER_OF_FAST_TAG: Final = {
    _TAGS[number][0]: number for number in (V2, RANGE, PUT, DELETE_RANGE, TXN, COMPACTION)
}
_ORDERED_BEFORE_HEADER: Final = 100


def encode(number: int, body: bytes, request_id: bytes) -> bytes:
    """The entry's data for the request ``body`` of field ``number``, to be answered under ``request_id``.

    The ID is a varint and stands in the header. Fields stand in the order of their numbers, as Go's generated
    code writes them.
    """
    if number < _ORDERED_BEFORE_HEADER:
        return b"".join(
            (
                _TAGS[number],
                varint(len(body)),
                body,
                _HEADER_TAG,
                varint(len(request_id) + 1),
                _ID_TAG,
                request_id,
            )
        )
    header = _HEADER_TAG + varint(len(request_id) + 1) + _ID_TAG + request_id
    return header + _TAGS[number] + varint(len(body)) + body


def decode(data: bytes) -> tuple[bytes, int, bytes]:
    """Open an entry's data: (the request's ID as a varint, the field the request stands in, its bytes).

    Raises:
        google.protobuf.message.DecodeError: it is no InternalRaftRequest.
    """
    number = _NUMBER_OF_FAST_TAG.get(data[0])
    if number is not None:
        at = 2
        length = data[1] if len(data) > 1 else 0
        if length > 127:
            try:
                length, at = read_varint(data, 1)
            except IndexError:
                return _decode_slowly(data)
        end = at + length
        # Ours: the request, then a header of nothing but an ID, and the data ends with it.
        if data[end : end + 2] == _HEADER_TAG and data[end + 3 : end + 4] == _ID_TAG:
            start = end + 4
            if data[end + 2] == len(data) - start + 1 and data[-1] < 128:
                return data[start:], number, data[at:end]
    return _decode_slowly(data)


def _decode_slowly(data: bytes) -> tuple[bytes, int, bytes]:
    raw = decode_raw(data)
    if raw is not None:
        return varint(raw.id), V2, data
    message = InternalRaftRequest.FromString(data)
    request_id = varint(message.ID or message.header.ID)
    for field, value in message.ListFields():
        if field.name not in ("ID", "header"):
            return request_id, field.number, value.SerializeToString()
    return request_id, 0, b""
