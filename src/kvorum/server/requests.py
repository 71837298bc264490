"""What a log entry holds: ``etcdserverpb.InternalRaftRequest``, made and opened without message objects.

A client's request is embedded as the bytes that came in (they were parsed once, for validation), followed by
the header with the request's ID, and with who asked while permissions are checked, as etcd writes it. Entries
made elsewhere are opened by protobuf; those of members up to 3.5 may be a v2 request and nothing else.
"""

from typing import Final

from kvorum.apply.auth import (
    AUTH_DISABLE as AUTH_DISABLE,
)
from kvorum.apply.auth import (
    AUTH_ENABLE as AUTH_ENABLE,
)
from kvorum.apply.auth import (
    AUTH_ROLE_ADD as AUTH_ROLE_ADD,
)
from kvorum.apply.auth import (
    AUTH_ROLE_DELETE as AUTH_ROLE_DELETE,
)
from kvorum.apply.auth import (
    AUTH_ROLE_GET as AUTH_ROLE_GET,
)
from kvorum.apply.auth import (
    AUTH_ROLE_GRANT_PERMISSION as AUTH_ROLE_GRANT_PERMISSION,
)
from kvorum.apply.auth import (
    AUTH_ROLE_LIST as AUTH_ROLE_LIST,
)
from kvorum.apply.auth import (
    AUTH_ROLE_REVOKE_PERMISSION as AUTH_ROLE_REVOKE_PERMISSION,
)
from kvorum.apply.auth import (
    AUTH_STATUS as AUTH_STATUS,
)
from kvorum.apply.auth import (
    AUTH_USER_ADD as AUTH_USER_ADD,
)
from kvorum.apply.auth import (
    AUTH_USER_CHANGE_PASSWORD as AUTH_USER_CHANGE_PASSWORD,
)
from kvorum.apply.auth import (
    AUTH_USER_DELETE as AUTH_USER_DELETE,
)
from kvorum.apply.auth import (
    AUTH_USER_GET as AUTH_USER_GET,
)
from kvorum.apply.auth import (
    AUTH_USER_GRANT_ROLE as AUTH_USER_GRANT_ROLE,
)
from kvorum.apply.auth import (
    AUTH_USER_LIST as AUTH_USER_LIST,
)
from kvorum.apply.auth import (
    AUTH_USER_REVOKE_ROLE as AUTH_USER_REVOKE_ROLE,
)
from kvorum.apply.auth import (
    AUTHENTICATE as AUTHENTICATE,
)
from kvorum.auth import identity
from kvorum.auth.identity import Identity
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
        *range(V2, LEASE_CHECKPOINT + 1),
        AUTH_ENABLE,
        *range(AUTH_DISABLE, AUTH_STATUS + 1),
        *range(AUTH_USER_ADD, AUTH_ROLE_LIST + 1),
        *range(AUTH_ROLE_ADD, AUTH_ROLE_REVOKE_PERMISSION + 1),
        *range(CLUSTER_VERSION_SET, DOWNGRADE_INFO_SET + 1),
    )
}
_HEADER_TAG: Final = varint(100 << 3 | 2)
_ID_TAG: Final = b"\x08"
_MORE_TO_COME: Final = tuple(int.from_bytes(b"\x80" * length + b"\0", "big") for length in range(10))
"""By length less one: the bits that say of each byte of a varint but the last that another follows."""
_NUMBER_OF_FAST_TAG: Final = {
    _TAGS[number][0]: number for number in (V2, RANGE, PUT, DELETE_RANGE, TXN, COMPACTION)
}
_ORDERED_BEFORE_HEADER: Final = 100


def encode(number: int, body: bytes, request_id: bytes, who: bytes = b"") -> bytes:
    """The entry's data for the request ``body`` of field ``number``, to be answered under ``request_id``.

    The ID is a varint and stands in the header, before who asked (``Identity.encode``). Fields stand
    in the order of their numbers, as Go's generated code writes them.
    """
    if number < _ORDERED_BEFORE_HEADER:
        return b"".join(
            (
                _TAGS[number],
                varint(len(body)),
                body,
                _HEADER_TAG,
                varint(len(request_id) + len(who) + 1),
                _ID_TAG,
                request_id,
                who,
            )
        )
    header = _HEADER_TAG + varint(len(request_id) + len(who) + 1) + _ID_TAG + request_id + who
    return header + _TAGS[number] + varint(len(body)) + body


def decode(data: bytes) -> tuple[bytes, int, bytes, bytes]:
    """Open an entry's data: (the request's ID as a varint, the field the request stands in, its bytes, who
    asked as an encoded ``Identity``).

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
        # Ours: the request, then a header of an ID and who asked, and the data ends with it.
        if data[end : end + 2] == _HEADER_TAG and data[end + 3 : end + 4] == _ID_TAG:
            start = end + 4
            length = len(data) - start
            if data[end + 2] == length + 1 and data[-1] < 128:
                header = data[start:]
                if 0 < length <= 10:
                    more = _MORE_TO_COME[length - 1]
                    if int.from_bytes(header, "big") & more == more:
                        return header, number, data[at:end], b""
                return _decode_who(header, number, data[at:end]) or _decode_slowly(data)
    return _decode_slowly(data)


def _decode_who(header: bytes, number: int, body: bytes) -> tuple[bytes, int, bytes, bytes] | None:
    """Take an ID and who asked apart; None if there is anything else."""
    end = next((at for at, byte in enumerate(header) if byte < 128), -1) + 1
    if not end:
        return None
    try:
        identity.decode(header[end:])
    except (ValueError, IndexError):
        return None
    return header[:end], number, body, header[end:]


def _decode_slowly(data: bytes) -> tuple[bytes, int, bytes, bytes]:
    raw = decode_raw(data)
    if raw is not None:
        return varint(raw.id), V2, data, b""
    message = InternalRaftRequest.FromString(data)
    header = message.header
    request_id = varint(message.ID or header.ID)
    who = Identity(header.username, header.auth_revision).encode()
    for field, value in message.ListFields():
        if field.name not in ("ID", "header"):
            return request_id, field.number, value.SerializeToString(), who
    return request_id, 0, b"", who
