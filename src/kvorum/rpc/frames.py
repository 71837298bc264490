"""Numbers of HTTP/2 (RFC 9113) and the frames this server sends, as bytes.

Frames are not objects here. A received frame is a place in the read buffer, a sent one is bytes; the engine
is fast because nothing stands between the two.

What we send is compressed without the dynamic table (RFC 7541 6.2.2, literals without indexing), so that a
header block is a constant: it means the same on every connection at any time.
"""

import struct
from typing import Final, final

CLIENT_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

# Frame types, RFC 9113 section 6.
DATA: Final = 0x0
HEADERS: Final = 0x1
PRIORITY: Final = 0x2
RST_STREAM: Final = 0x3
SETTINGS: Final = 0x4
PUSH_PROMISE: Final = 0x5
PING: Final = 0x6
GOAWAY: Final = 0x7
WINDOW_UPDATE: Final = 0x8
CONTINUATION: Final = 0x9

FRAME_NAMES: Final = (
    "DATA",
    "HEADERS",
    "PRIORITY",
    "RST_STREAM",
    "SETTINGS",
    "PUSH_PROMISE",
    "PING",
    "GOAWAY",
    "WINDOW_UPDATE",
    "CONTINUATION",
)

# Flags.
END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
PRIORITY_FLAG: Final = 0x20

# Error codes, RFC 9113 section 7.
NO_ERROR: Final = 0x0
PROTOCOL_ERROR: Final = 0x1
INTERNAL_ERROR: Final = 0x2
FLOW_CONTROL_ERROR: Final = 0x3
SETTINGS_TIMEOUT: Final = 0x4
STREAM_CLOSED: Final = 0x5
FRAME_SIZE_ERROR: Final = 0x6
REFUSED_STREAM: Final = 0x7
CANCEL: Final = 0x8
COMPRESSION_ERROR: Final = 0x9
CONNECT_ERROR: Final = 0xA
ENHANCE_YOUR_CALM: Final = 0xB
INADEQUATE_SECURITY: Final = 0xC
HTTP_1_1_REQUIRED: Final = 0xD

# Settings, RFC 9113 section 6.5.2.
SETTINGS_HEADER_TABLE_SIZE: Final = 0x1
SETTINGS_ENABLE_PUSH: Final = 0x2
SETTINGS_MAX_CONCURRENT_STREAMS: Final = 0x3
SETTINGS_INITIAL_WINDOW_SIZE: Final = 0x4
SETTINGS_MAX_FRAME_SIZE: Final = 0x5
SETTINGS_MAX_HEADER_LIST_SIZE: Final = 0x6

DEFAULT_WINDOW: Final = 65_535
"""Bytes a stream and a connection may send before the first WINDOW_UPDATE (RFC 9113 6.9.2)."""
MAX_WINDOW: Final = 2**31 - 1
DEFAULT_MAX_FRAME_SIZE: Final = 16_384
LARGEST_MAX_FRAME_SIZE: Final = 2**24 - 1
MAX_STREAM_ID: Final = 2**31 - 1
HEADER_SIZE: Final = 9
"""Bytes of a frame's header."""

FRAME_HEADER: Final = struct.Struct(">IBI")
"""Length and type in one word (length << 8 | type), flags, stream id with its reserved bit."""
U32: Final = struct.Struct(">I")
SETTING: Final = struct.Struct(">HI")


@final
class ConnectionFailed(Exception):  # noqa: N818 - it names what happened to the connection
    """A connection error (RFC 9113 5.4.1): the peer broke a rule that all its streams depend on."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code: Final = code
        self.reason: Final = reason


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """One whole frame."""
    return FRAME_HEADER.pack(len(payload) << 8 | kind, flags, stream_id) + payload


def settings_frame(values: dict[int, int]) -> bytes:
    """A SETTINGS frame with these values."""
    return frame(SETTINGS, 0, 0, b"".join(SETTING.pack(key, value) for key, value in values.items()))


def rst_stream_frame(stream_id: int, code: int) -> bytes:
    """RST_STREAM with an error code."""
    return FRAME_HEADER.pack(4 << 8 | RST_STREAM, 0, stream_id) + U32.pack(code)


def window_update_frame(stream_id: int, increment: int) -> bytes:
    """WINDOW_UPDATE; stream 0 is the connection."""
    return FRAME_HEADER.pack(4 << 8 | WINDOW_UPDATE, 0, stream_id) + U32.pack(increment)


def goaway_frame(last_stream_id: int, code: int, debug: bytes = b"") -> bytes:
    """GOAWAY: streams above ``last_stream_id`` were not and will not be handled."""
    return frame(GOAWAY, 0, 0, U32.pack(last_stream_id) + U32.pack(code) + debug)


def encode_integer(value: int, prefix_bits: int, first: int) -> bytes:
    """An HPACK integer (RFC 7541 5.1) whose first byte carries ``first`` in its upper bits."""
    limit = (1 << prefix_bits) - 1
    if value < limit:
        return bytes((first | value,))
    out = bytearray((first | limit,))
    value -= limit
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


_INDEXED_STATUS: Final = {200: 8, 204: 9, 206: 10, 304: 11, 400: 12, 404: 13, 500: 14}
_STATUS_NAME: Final = 8
_CONTENT_TYPE_NAME: Final = 31


def encode_field(name: str, value: str) -> bytes:
    """A header field as HPACK literal without indexing; names and values are ASCII."""
    raw = value.encode("ascii")
    if name == ":status":
        index = _INDEXED_STATUS.get(int(value))
        if index is not None:
            return bytes((0x80 | index,))
        head = encode_integer(_STATUS_NAME, 4, 0)
    elif name == "content-type":
        head = encode_integer(_CONTENT_TYPE_NAME, 4, 0)
    else:
        head = b"\0" + encode_integer(len(name), 7, 0) + name.encode("ascii")
    return head + encode_integer(len(raw), 7, 0) + raw


def encode_fields(fields: list[tuple[str, str]]) -> bytes:
    """A header block of literals, valid on any connection."""
    return b"".join(encode_field(name, value) for name, value in fields)


def unpad(data: bytes, start: int, stop: int) -> tuple[int, int]:
    """Where the content of a PADDED frame is (RFC 9113 6.1).

    Raises:
        ConnectionFailed: there is more padding than frame.
    """
    if start == stop:
        raise ConnectionFailed(FRAME_SIZE_ERROR, "no room for the pad length")
    padding = data[start]
    start += 1
    if padding > stop - start:
        raise ConnectionFailed(PROTOCOL_ERROR, "more padding than content")
    return start, stop - padding
