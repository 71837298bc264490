"""Protobuf bytes made by hand, for the paths where a message object per response costs too much.

Building and serializing a PutResponse as a message takes about 2 µs, as bytes 0.3 µs. Only what the hot
paths need is here: varints, and fields of wire type 0 (varint) and 2 (length-delimited).
Source: https://protobuf.dev/programming-guides/encoding/.
"""

from typing import Final

_ONE_BYTE: Final = tuple(bytes((n,)) for n in range(128))
_TWO_BYTES: Final = tuple(bytes((n & 0x7F | 0x80, n >> 7)) for n in range(1 << 14))
_MASK_64: Final = (1 << 64) - 1


def varint(value: int) -> bytes:
    """Encode ``value`` (int64 or uint64) as a varint; negative numbers take ten bytes, as protobuf has it."""
    if 0 <= value < 16384:
        return _ONE_BYTE[value] if value < 128 else _TWO_BYTES[value]
    value &= _MASK_64
    out = bytearray()
    while value > 127:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Decode the varint at ``at``; returns the unsigned value and where the next byte is.

    Raises:
        IndexError: the data ends inside the varint.
        ValueError: it is longer than ten bytes.
    """
    byte = data[at]
    if byte < 128:
        return byte, at + 1
    value = byte & 0x7F
    shift = 7
    while True:
        at += 1
        byte = data[at]
        value |= (byte & 0x7F) << shift
        if byte < 128:
            return value & _MASK_64, at + 1
        shift += 7
        if shift > 63:
            raise ValueError("varint is longer than ten bytes")


def int64(unsigned: int) -> int:
    """The signed reading of a decoded varint."""
    return unsigned - (1 << 64) if unsigned >> 63 else unsigned


def delimited(tag: bytes, payload: bytes) -> bytes:
    """A length-delimited field: ``tag`` is the encoded field number and wire type 2."""
    return tag + varint(len(payload)) + payload
