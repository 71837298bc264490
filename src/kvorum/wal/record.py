"""The log's frames: etcd's WAL format (etcd ``server/wal/encoder.go``, ``decoder.go``), sans-IO.

A segment is a row of frames and ends at the first length field that is zero, or at the end of the file::

    length field  8 bytes, little endian: low 56 bits the record's size; if it is padded, top byte 0x80 | pad
    record        walpb.Record: type, crc, data
    padding       0..7 zero bytes, so that every length field is 8-byte aligned and cannot be torn

``crc`` is the CRC32C of the data of every record so far, through all segments; a record of type CRC carries
the value at which its segment starts. The first segment opens with (crc 0, metadata, empty snapshot), every
further one with (crc, metadata, hard state).

What is a torn tail and what is corruption: see ``decoder.py``.

The record's type is outside its CRC. Therefore frames must be exactly as the writer makes them, and
:class:`~kvorum.wal.reader.LogReader` holds contents against each other.
"""

from collections.abc import Sequence
from struct import Struct
from typing import Final, final

from crc32c import crc32c

from kvorum.proto.wire import read_varint, varint
from kvorum.raft.codec import CodecError, encode_conf_state, encode_entry, encode_hard_state
from kvorum.raft.types import ConfState, Entry, HardState

METADATA_TYPE: Final = 1
ENTRY_TYPE: Final = 2
STATE_TYPE: Final = 3
CRC_TYPE: Final = 4
SNAPSHOT_TYPE: Final = 5

FRAME_BYTES: Final = 8

LENGTH: Final = Struct("<Q")
_PADDING: Final = tuple(bytes(n) for n in range(8))
LENGTH_FLAGS: Final = (0, *(((0x80 | n) << 56) for n in range(1, 8)))
_BOTH_GROUPS: Final = tuple(bytes((n & 0x7F | 0x80, n >> 7 | 0x80)) for n in range(1 << 14))
"""Two groups of a varint that goes on: a CRC is, 15 times in 16, two of these and one byte."""
_LAST_GROUP: Final = tuple(bytes((n,)) for n in range(16))


def crc_varint(crc: int) -> bytes:
    """Encode a CRC, by table: there is one in every record."""
    if crc >= 1 << 28:
        return _BOTH_GROUPS[crc & 0x3FFF] + _BOTH_GROUPS[crc >> 14 & 0x3FFF] + _LAST_GROUP[crc >> 28]
    return varint(crc)


def encode_frame(record_type: int, crc: int, data: bytes | None) -> bytes:
    """Frame one record; ``crc`` already covers ``data``. None is a record without data."""
    if data is None:
        record = b"\x08%c\x10%b" % (record_type, crc_varint(crc))
    else:
        record = b"\x08%c\x10%b\x1a%b%b" % (record_type, crc_varint(crc), varint(len(data)), data)
    size = len(record)
    pad = -size & 7
    return LENGTH.pack(size | LENGTH_FLAGS[pad]) + record + _PADDING[pad]


def encode_head(metadata: bytes, crc: int, state: HardState | None) -> tuple[bytes, int]:
    """Encode what a segment opens with: its CRC, the metadata and the hard state if there is one.

    Returns the bytes and the CRC after them.
    """
    head = encode_frame(CRC_TYPE, crc, None)
    crc = crc32c(metadata, crc)
    head += encode_frame(METADATA_TYPE, crc, metadata)
    if state is not None and not state.is_empty():
        more, crc = encode_batch((), state, crc)
        head += more
    return head, crc


def encode_batch(entries: Sequence[Entry], state: HardState | None, crc: int) -> tuple[bytes, int]:
    """Encode entries, then the hard state if given: the order of etcd's ``Save``. The hot path.

    Returns the bytes and the CRC after them.
    """
    parts: list[bytes] = []
    add = parts.append
    pack = LENGTH.pack
    for entry in entries:
        data = encode_entry(entry)
        size = len(data)
        crc = crc32c(data, crc)
        if crc >= 1 << 28 and size < 1 << 14 and size > 0x7F:
            # 08 02 10 <5 bytes> 1a <2 bytes>: nearly every record of a busy log
            total = size + 11
            pad = -total & 7
            add(
                b"%b\x08\x02\x10%b%b%c\x1a%c%c%b%b"
                % (
                    pack(total | LENGTH_FLAGS[pad]),
                    _BOTH_GROUPS[crc & 0x3FFF],
                    _BOTH_GROUPS[crc >> 14 & 0x3FFF],
                    crc >> 28,
                    size & 0x7F | 0x80,
                    size >> 7,
                    data,
                    _PADDING[pad],
                )
            )
        else:
            add(encode_frame(ENTRY_TYPE, crc, data))
    if state is not None:
        data = encode_hard_state(state)
        crc = crc32c(data, crc)
        add(encode_frame(STATE_TYPE, crc, data))
    return b"".join(parts), crc


@final
class WalSnapshot:
    """The marker of a snapshot in the log: where a log may start to be read (etcd ``walpb.Snapshot``).

    ``conf_state`` is None in the empty marker at the head of the log and in logs of etcd before 3.5.
    """

    __slots__ = ("conf_state", "index", "term")

    def __init__(self, index: int = 0, term: int = 0, conf_state: ConfState | None = None) -> None:
        self.index: Final = index
        self.term: Final = term
        self.conf_state: Final = conf_state

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, WalSnapshot):
            return NotImplemented
        return (self.index, self.term) == (other.index, other.term)

    def __hash__(self) -> int:
        return hash((self.index, self.term))

    def __repr__(self) -> str:
        return f"WalSnapshot(index={self.index}, term={self.term}, conf_state={self.conf_state})"


def encode_marker(marker: WalSnapshot, crc: int) -> tuple[bytes, int]:
    """Encode a snapshot marker; returns the frame and the CRC after it."""
    data = b"\x08%b\x10%b" % (varint(marker.index), varint(marker.term))
    if marker.conf_state is not None:
        conf_state = encode_conf_state(marker.conf_state)
        data += b"\x1a%b%b" % (varint(len(conf_state)), conf_state)
    crc = crc32c(data, crc)
    return encode_frame(SNAPSHOT_TYPE, crc, data), crc


def decode_state(data: bytes) -> HardState:
    """Decode a hard state written as etcd writes it: all three fields, nothing else.

    Raises:
        CodecError: anything else, an entry above all.
    """
    try:
        term, at = _field(data, 0, 0x08)
        vote, at = _field(data, at, 0x10)
        commit, at = _field(data, at, 0x18)
    except IndexError:
        raise CodecError("not a hard state") from None
    if at != len(data):
        raise CodecError("not a hard state: something follows its three fields")
    return HardState(term, vote, commit)


def _field(data: bytes, at: int, tag: int) -> tuple[int, int]:
    if data[at] != tag:
        raise IndexError
    return read_varint(data, at + 1)
