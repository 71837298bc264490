"""HPACK decoding (RFC 7541) of what clients send.

Go clients put every new value into the dynamic table, also a ``grpc-timeout`` that differs with each call,
so a block that changes the table is the rule and not the exception, and decoding one has to be cheap.
Entries therefore keep what is expensive to find out (validity of name and value, size), strings in Huffman
code are remembered, and the caller may keep the result of a block that did not change the table: such a
block means the same until the table changes (``HeaderDecoder.changes`` counts that).

Bounds: the table is at most ``HEADER_TABLE_SIZE``, one block yields at most ``max_list_size`` bytes (name +
value + 32 each, RFC 9113 6.5.2) and is abandoned, as a bomb, far above it.
"""

import re
from collections import deque
from typing import Final, NamedTuple, final

from hpack.exceptions import HPACKError
from hpack.huffman_table import decode_huffman

from kvorum import limits
from kvorum.rpc.frames import COMPRESSION_ERROR, ENHANCE_YOUR_CALM, ConnectionFailed

ENTRY_OVERHEAD: Final = 32
"""RFC 7541 4.1: what an entry counts beyond its bytes."""

_NAME: Final = re.compile(r":?[!#$%&'*+\-.^_`|~0-9a-z]+")
"""A token in lower case, as sent (RFC 9113 8.2.1), with the colon of a pseudo-header."""
_BAD_VALUE: Final = re.compile(r"[\0\r\n]|\A[ \t]|[ \t]\Z")
"""What RFC 9113 8.2.1 forbids in a value."""


class Field(NamedTuple):
    """One header field. ``valid`` is the verdict of RFC 9113 8.2.1; strings are Latin-1, that is, octets."""

    name: str
    value: str
    size: int
    valid: bool


def make_field(name: str, value: str) -> Field:
    """A field with its size and its verdict."""
    valid = _NAME.fullmatch(name) is not None and _BAD_VALUE.search(value) is None
    return Field(name, value, len(name) + len(value) + ENTRY_OVERHEAD, valid)


STATIC_TABLE: Final = tuple(
    make_field(name, value)
    for name, value in (
        (":authority", ""),
        (":method", "GET"),
        (":method", "POST"),
        (":path", "/"),
        (":path", "/index.html"),
        (":scheme", "http"),
        (":scheme", "https"),
        (":status", "200"),
        (":status", "204"),
        (":status", "206"),
        (":status", "304"),
        (":status", "400"),
        (":status", "404"),
        (":status", "500"),
        ("accept-charset", ""),
        ("accept-encoding", "gzip, deflate"),
        ("accept-language", ""),
        ("accept-ranges", ""),
        ("accept", ""),
        ("access-control-allow-origin", ""),
        ("age", ""),
        ("allow", ""),
        ("authorization", ""),
        ("cache-control", ""),
        ("content-disposition", ""),
        ("content-encoding", ""),
        ("content-language", ""),
        ("content-length", ""),
        ("content-location", ""),
        ("content-range", ""),
        ("content-type", ""),
        ("cookie", ""),
        ("date", ""),
        ("etag", ""),
        ("expect", ""),
        ("expires", ""),
        ("from", ""),
        ("host", ""),
        ("if-match", ""),
        ("if-modified-since", ""),
        ("if-none-match", ""),
        ("if-range", ""),
        ("if-unmodified-since", ""),
        ("last-modified", ""),
        ("link", ""),
        ("location", ""),
        ("max-forwards", ""),
        ("proxy-authenticate", ""),
        ("proxy-authorization", ""),
        ("range", ""),
        ("referer", ""),
        ("refresh", ""),
        ("retry-after", ""),
        ("server", ""),
        ("set-cookie", ""),
        ("strict-transport-security", ""),
        ("transfer-encoding", ""),
        ("user-agent", ""),
        ("vary", ""),
        ("via", ""),
        ("www-authenticate", ""),
    )
)
_STATIC: Final = (make_field("x", ""), *STATIC_TABLE)
"""By HPACK index, which starts at 1."""
_FIRST_DYNAMIC: Final = len(_STATIC)


@final
class HeaderDecoder:
    """The decoding half of one connection's HPACK state.

    Invariant: ``size`` is the sum of the sizes in ``table`` and at most ``capacity``, which is at most
    ``limits.HEADER_TABLE_SIZE``.
    """

    __slots__ = ("capacity", "changes", "max_list_size", "size", "strings", "table")

    def __init__(self, max_list_size: int) -> None:
        self.max_list_size = max_list_size
        self.table: deque[Field] = deque()
        self.size = 0
        self.capacity: int = limits.HEADER_TABLE_SIZE
        self.changes = 0
        self.strings: dict[bytes, str] = {}

    def decode(self, block: bytes) -> list[Field] | None:
        """The fields of a whole block; None if they are too many (the table is then in order all the same).

        Raises:
            ConnectionFailed: COMPRESSION_ERROR for what is no HPACK, ENHANCE_YOUR_CALM for a bomb.
        """
        fields: list[Field] = []
        room = self.max_list_size
        pos = 0
        end = len(block)
        while pos < end:
            byte = block[pos]
            if byte & 0x80:
                index = byte & 0x7F
                pos += 1
                if index < _FIRST_DYNAMIC and index:
                    field = _STATIC[index]
                else:
                    if index == 0x7F:
                        index, pos = _integer(block, pos, 0x7F)
                    field = self._entry(index)
            elif byte & 0x60 == 0x20:
                if fields or room < self.max_list_size:
                    raise ConnectionFailed(COMPRESSION_ERROR, "table size update inside a header block")
                pos = self._resize(block, pos)
                continue
            else:
                keep = byte & 0x40
                mask = 0x3F if keep else 0x0F
                index = byte & mask
                pos += 1
                if index == mask:
                    index, pos = _integer(block, pos, mask)
                if index:
                    name = self._entry(index).name
                else:
                    name, pos = self._string(block, pos)
                value, pos = self._string(block, pos)
                field = make_field(name, value)
                if keep:
                    self._insert(field)
            room -= field.size
            if room >= 0:
                fields.append(field)
            elif room < -limits.HEADER_BOMB_FACTOR * self.max_list_size:
                raise ConnectionFailed(ENHANCE_YOUR_CALM, "header list far too large")
        return fields if room >= 0 else None

    def check_invariants(self) -> None:
        """Assert what the class promises; for tests."""
        assert self.size == sum(field.size for field in self.table)
        assert self.size <= self.capacity <= limits.HEADER_TABLE_SIZE
        assert len(self.strings) <= limits.HUFFMAN_CACHE_ENTRIES

    def _entry(self, index: int) -> Field:
        if 0 < index < _FIRST_DYNAMIC:
            return _STATIC[index]
        index -= _FIRST_DYNAMIC
        if 0 <= index < len(self.table):
            return self.table[index]
        raise ConnectionFailed(COMPRESSION_ERROR, "header index outside the table")

    def _insert(self, field: Field) -> None:
        self.changes += 1
        self.size += field.size
        self.table.appendleft(field)
        self._evict()

    def _evict(self) -> None:
        while self.size > self.capacity:
            self.size -= self.table.pop().size

    def _resize(self, block: bytes, pos: int) -> int:
        capacity = block[pos] & 0x1F
        pos += 1
        if capacity == 0x1F:
            capacity, pos = _integer(block, pos, 0x1F)
        if capacity > limits.HEADER_TABLE_SIZE:
            raise ConnectionFailed(COMPRESSION_ERROR, "header table larger than allowed")
        self.changes += 1
        self.capacity = capacity
        self._evict()
        return pos

    def _string(self, block: bytes, pos: int) -> tuple[str, int]:
        if pos >= len(block):
            raise ConnectionFailed(COMPRESSION_ERROR, "truncated header block")
        byte = block[pos]
        length = byte & 0x7F
        pos += 1
        if length == 0x7F:
            length, pos = _integer(block, pos, 0x7F)
        stop = pos + length
        raw = block[pos:stop]
        if len(raw) != length:
            raise ConnectionFailed(COMPRESSION_ERROR, "truncated header block")
        if not byte & 0x80:
            return raw.decode("latin-1"), stop
        known = self.strings.get(raw)
        return (self._huffman(raw) if known is None else known), stop

    def _huffman(self, raw: bytes) -> str:
        try:
            text = decode_huffman(raw).decode("latin-1")
        except HPACKError:
            raise ConnectionFailed(COMPRESSION_ERROR, "bad Huffman code") from None
        if len(raw) <= limits.HUFFMAN_CACHE_STRING_BYTES:
            if len(self.strings) >= limits.HUFFMAN_CACHE_ENTRIES:
                self.strings.clear()
            self.strings[raw] = text
        return text


def _integer(block: bytes, pos: int, value: int) -> tuple[int, int]:
    """The rest of an integer whose prefix was all ones; at most 28 further bits, more is no honest number."""
    shift = 0
    end = len(block)
    while pos < end and shift < 28:
        byte = block[pos]
        pos += 1
        value += (byte & 0x7F) << shift
        if byte < 0x80:
            return value, pos
        shift += 7
    raise ConnectionFailed(COMPRESSION_ERROR, "bad integer in a header block")
