"""What a log entry holds: ``etcdserverpb.InternalRaftRequest``, made and opened without message objects.

A client's request is embedded as the bytes that came in (they were parsed once, for validation), followed by
the header with the request's ID, as etcd writes it. Entries made elsewhere are opened by protobuf.
"""

from typing import Final, final

from kvorum.proto.raft_internal_pb2 import InternalRaftRequest
from kvorum.proto.wire import read_varint, varint

# Field numbers of InternalRaftRequest (facts/wire.json), by the request they carry.
RANGE: Final = 3
PUT: Final = 4
DELETE_RANGE: Final = 5
TXN: Final = 6
COMPACTION: Final = 7
CLUSTER_VERSION_SET: Final = 1300
CLUSTER_MEMBER_ATTR_SET: Final = 1301

_TAGS: Final = {
    number: varint(number << 3 | 2)
    for number in (
        RANGE,
        PUT,
        DELETE_RANGE,
        TXN,
        COMPACTION,
        CLUSTER_VERSION_SET,
        CLUSTER_MEMBER_ATTR_SET,
    )
}
_HEADER_TAG: Final = varint(100 << 3 | 2)
_ID_TAG: Final = b"\x08"
_NUMBER_OF_FAST_TAG: Final = {
    _TAGS[number][0]: number for number in (RANGE, PUT, DELETE_RANGE, TXN, COMPACTION)
}
_ORDERED_BEFORE_HEADER: Final = 100


def encode(number: int, body: bytes, request_id: int) -> bytes:
    """The entry's data for the request ``body`` of field ``number``, to be answered under ``request_id``.

    Fields stand in the order of their numbers, as Go's generated code writes them.
    """
    identifier = _ID_TAG + varint(request_id)
    header = _HEADER_TAG + varint(len(identifier)) + identifier
    request = _TAGS[number] + varint(len(body)) + body
    return request + header if number < _ORDERED_BEFORE_HEADER else header + request


@final
class Opened:
    """An entry's request: its ID, the field it stands in, and its bytes (``message`` where it was not ours)."""

    __slots__ = ("body", "message", "number", "request_id")

    def __init__(
        self, request_id: int, number: int, body: bytes, message: InternalRaftRequest | None
    ) -> None:
        self.request_id = request_id
        self.number = number
        self.body = body
        self.message = message


def decode(data: bytes) -> Opened:
    """Open an entry's data.

    Raises:
        google.protobuf.message.DecodeError: it is no InternalRaftRequest.
    """
    number = _NUMBER_OF_FAST_TAG.get(data[0])
    if number is not None:
        try:
            length, at = read_varint(data, 1)
            end = at + length
            if data[end : end + 2] == _HEADER_TAG:
                size, start = read_varint(data, end + 2)
                if data[start] == 8 and start + size == len(data):
                    request_id, stop = read_varint(data, start + 1)
                    if stop == len(data):
                        return Opened(request_id, number, data[at:end], None)
        except (IndexError, ValueError):
            pass
    message = InternalRaftRequest.FromString(data)
    request_id = message.ID or message.header.ID
    for field, value in message.ListFields():
        if field.name not in ("ID", "header"):
            return Opened(request_id, field.number, value.SerializeToString(), message)
    return Opened(request_id, 0, b"", message)
