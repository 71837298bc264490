"""The log's frames: etcd's WAL format (etcd ``server/wal/encoder.go``, ``decoder.go``), sans-IO.

A segment is a row of frames and ends at the first length field that is zero, or at the end of the file::

    length field  8 bytes, little endian: low 56 bits the record's size; if it is padded, top byte 0x80 | pad
    record        walpb.Record: type, crc, data
    padding       0..7 zero bytes, so that every length field is 8-byte aligned and cannot be torn

``crc`` is the CRC32C of the data of every record so far, through all segments; a record of type CRC carries
the value at which its segment starts. The first segment opens with (crc 0, metadata, empty snapshot), every
further one with (crc, metadata, hard state).

**Torn or corrupt.** Data is written in place over zeros, and a disk writes whole sectors. So after a power
cut the last records may be missing sector by sector, and after a write that stopped half-way there are zeros
from some byte on. A frame of which a whole sector is zero, from whose end on all is zero, or which runs past
the end of the file was torn, and may be cut off, since nobody was told that it is durable. Anything else is
corruption. etcd stops asking there (``isTornEntry``). Three things more are asked here, so that a flipped bit
in a length field or in a record full of zeros does not pass for a torn write and take acknowledged records
with it:

- a zero length field inside a sector that goes on with other bytes is no unwritten sector;
- a record that is whole but for its length field was not torn;
- if, beyond the damage, records follow that chain by CRC and that were written *after a sync* (something
  behind entries and their hard state, or behind a snapshot marker), the damaged record had been synced before
  them.

The record's type is outside its CRC. Therefore frames must be exactly as the writer makes them, and
:class:`~kvorum.wal.reader.LogReader` holds contents against each other.
"""

from collections.abc import Sequence
from struct import Struct
from typing import Final, final

from crc32c import crc32c

from kvorum.limits import MAX_WAL_RECORD_BYTES
from kvorum.raft.codec import CodecError, encode_conf_state, encode_entry, encode_hard_state, encode_varint
from kvorum.raft.types import ConfState, Entry, HardState

METADATA_TYPE: Final = 1
ENTRY_TYPE: Final = 2
STATE_TYPE: Final = 3
CRC_TYPE: Final = 4
SNAPSHOT_TYPE: Final = 5

FRAME_BYTES: Final = 8
SECTOR_BYTES: Final = 512
"""The smallest unit a disk writes whole (etcd ``minSectorSize``)."""

_LENGTH: Final = Struct("<Q")
_PADDING: Final = tuple(bytes(n) for n in range(8))
_LENGTH_FLAGS: Final = (0, *(((0x80 | n) << 56) for n in range(1, 8)))
_BOTH_GROUPS: Final = tuple(bytes((n & 0x7F | 0x80, n >> 7 | 0x80)) for n in range(1 << 14))
"""Two groups of a varint that goes on: a CRC is, 15 times in 16, two of these and one byte."""
_LAST_GROUP: Final = tuple(bytes((n,)) for n in range(16))


def _crc_varint(crc: int) -> bytes:
    if crc >= 1 << 28:
        return _BOTH_GROUPS[crc & 0x3FFF] + _BOTH_GROUPS[crc >> 14 & 0x3FFF] + _LAST_GROUP[crc >> 28]
    return encode_varint(crc)


def encode_frame(record_type: int, crc: int, data: bytes | None) -> bytes:
    """Frame one record; ``crc`` already covers ``data``. None is a record without data."""
    if data is None:
        record = b"\x08%c\x10%b" % (record_type, _crc_varint(crc))
    else:
        record = b"\x08%c\x10%b\x1a%b%b" % (record_type, _crc_varint(crc), encode_varint(len(data)), data)
    size = len(record)
    pad = -size & 7
    return _LENGTH.pack(size | _LENGTH_FLAGS[pad]) + record + _PADDING[pad]


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
    pack = _LENGTH.pack
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
                    pack(total | _LENGTH_FLAGS[pad]),
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
    data = b"\x08%b\x10%b" % (encode_varint(marker.index), encode_varint(marker.term))
    if marker.conf_state is not None:
        conf_state = encode_conf_state(marker.conf_state)
        data += b"\x1a%b%b" % (encode_varint(len(conf_state)), conf_state)
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
    return _varint(data, at + 1)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    byte = data[at]
    value = byte & 0x7F
    shift = 7
    while byte > 0x7F:
        at += 1
        byte = data[at]
        value |= (byte & 0x7F) << shift
        shift += 7
    if shift > 70:
        raise IndexError
    return value, at + 1


class DamagedRecordError(Exception):
    """The bytes at ``offset`` are not the next record; ``torn`` if an interrupted write explains that."""

    def __init__(self, offset: int, reason: str, torn: bool) -> None:
        super().__init__(reason)
        self.offset: Final = offset
        self.reason: Final = reason
        self.torn: Final = torn


@final
class SegmentDecoder:
    """Reads the records of one segment in order.

    ``offset`` is where the last good record ends, ``crc`` the rolling CRC there; ``type``, ``data`` and
    ``start`` (of its frame) are that record's. ``chained`` is false until a record fixed the CRC: the segment
    a log is read from starts with a CRC that there is nothing to hold against.
    """

    __slots__ = ("chained", "crc", "data", "is_last", "offset", "segment", "start", "type")

    def __init__(self, segment: bytes, crc: int, *, chained: bool, is_last: bool) -> None:
        self.segment: Final = segment
        self.crc = crc
        self.chained = chained
        self.is_last: Final = is_last
        self.offset = 0
        self.start = 0
        self.type = 0
        self.data = b""

    def advance(self) -> bool:
        """Read the next record; False at the end of the segment.

        Raises:
            DamagedRecordError: what follows is not a record.
        """
        segment = self.segment
        at = self.offset
        if at + 8 > len(segment):
            if at == len(segment):
                return False
            raise self._damaged("the file ends within a length field", len(segment) + 1)
        (field,) = _LENGTH.unpack_from(segment, at)
        if field == 0:
            self._check_end()
            return False
        size = field & 0xFFFFFFFFFFFFFF
        pad = -size & 7
        body = at + 8
        end = body + size
        if field >> 56 != (_LENGTH_FLAGS[pad] >> 56) or size >= MAX_WAL_RECORD_BYTES:
            raise self._damaged("an impossible length field", body)
        if end + pad > len(segment):
            raise self._damaged("the file ends within a record", end, pad)
        try:
            # 08 <type> 10 <crc> [1a <size> <data>]
            if segment[body] != 0x08 or segment[body + 2] != 0x10:
                raise IndexError
            record_type = segment[body + 1]
            crc, cursor = _varint(segment, body + 3)
            if cursor == end:
                data = None
            elif segment[cursor] == 0x1A:
                length, cursor = _varint(segment, cursor + 1)
                if cursor + length != end:
                    raise IndexError
                data = segment[cursor:end]
            else:
                raise IndexError
        except IndexError:
            raise self._damaged("not a record", end) from None
        if record_type == CRC_TYPE:
            if data is not None or (self.chained and crc != self.crc):
                raise self._damaged("crc mismatch between segments", end)
            self.chained = True
        else:
            if not self.chained:
                raise self._damaged("the segment does not start with its crc", end)
            if data is None:
                if record_type != METADATA_TYPE:
                    raise self._damaged("a record without data", end)
                data = b""
            if crc32c(data, self.crc) != crc:
                raise self._damaged("crc mismatch", end)
        self.crc = crc
        self.start = at
        self.type = record_type
        self.data = data or b""
        self.offset = end + pad
        return True

    def next_entry(self) -> bytes | None:
        """The next record's data if it is an entry of the commonest shape, else None and nothing is read.

        A shortcut for ``advance``, by which logs are mostly read: CRC of five bytes, data of 128 to 16383.
        """
        segment = self.segment
        at = self.offset
        body = at + 8
        if segment[body : body + 3] != b"\x08\x02\x10" or not self.chained:
            return None
        (field,) = _LENGTH.unpack_from(segment, at)
        size = field & 0xFFFFFFFFFFFFFF
        pad = -size & 7
        end = body + size
        if (
            field != size | _LENGTH_FLAGS[pad]
            or not 139 <= size < 16395
            or end + pad > len(segment)
            or segment[body + 8] != 0x1A
            or (segment[body + 9] & 0x7F | segment[body + 10] << 7) != size - 11
            or segment[body + 9] < 0x80
        ):
            return None
        data = segment[body + 11 : end]
        crc = crc32c(data, self.crc)
        if segment[body + 3 : body + 8] != _crc_varint(crc):
            return None
        self.crc = crc
        self.start = at
        self.type = ENTRY_TYPE
        self.data = data
        self.offset = end + pad
        return data

    def has_garbage(self) -> bool:
        """Whether something other than zeros follows the end of the log."""
        return _first_nonzero(self.segment, self.offset) >= 0

    def _check_end(self) -> None:
        """A zero length field ends the log, unless it was none before a bit flipped or a sector got lost."""
        if not self.is_last:
            return  # the next segment's CRC record tells whether anything is missing
        at = self.offset
        sector_end = (at // SECTOR_BYTES + 1) * SECTOR_BYTES
        if any(self.segment[at:sector_end]):
            raise DamagedRecordError(at, "a length field was lost", torn=False)
        if self.has_garbage() and synced_after(self.segment, at):
            raise DamagedRecordError(at, "records are missing", torn=False)

    def _damaged(self, reason: str, end: int, pad: int = 0) -> DamagedRecordError:
        """Judge what stands at ``offset`` and is no record; ``end`` is where its length field lets it end."""
        segment = self.segment
        torn = (
            self.is_last
            and (end + pad > len(segment) or _first_nonzero(segment, end - 1) < 0 or self._lost_sector(end))
            and not self._is_whole_but_for_its_length(end)
            and not synced_after(segment, self.offset)
        )
        return DamagedRecordError(self.offset, reason, torn)

    def _is_whole_but_for_its_length(self, end: int) -> bool:
        """Whether the record, which delimits itself, is intact and the length field says another ``end``."""
        segment = self.segment
        body = self.offset + FRAME_BYTES
        try:
            if segment[body] != 0x08 or segment[body + 2] != 0x10:
                return False
            crc, cursor = _varint(segment, body + 3)
            if segment[cursor] != 0x1A:
                return False
            length, cursor = _varint(segment, cursor + 1)
        except IndexError:
            return False
        data = segment[cursor : cursor + length]
        return cursor + length != end and len(data) == length and crc32c(data, self.crc) == crc

    def _lost_sector(self, end: int) -> bool:
        """Whether a whole sector of the frame that starts at ``offset`` was never written."""
        first = self.offset // SECTOR_BYTES * SECTOR_BYTES
        return any(
            not any(self.segment[at : at + SECTOR_BYTES])
            for at in range(first, min(end, len(self.segment)), SECTOR_BYTES)
        )


def synced_after(segment: bytes, offset: int) -> bool:
    """Whether records beyond ``offset`` prove that what stood at ``offset`` was synced before they were
    written.

    Every batch that holds entries or a snapshot marker is synced before the next one is written, and within a
    batch the hard state comes last. So in a chain of intact records either something follows a snapshot
    marker, or entries follow a hard state that follows entries.
    """
    at = (offset + 8) & ~7
    while True:
        at = _first_nonzero(segment, at) & ~7
        if at < 0:
            return False
        proof, end = _walk_chain(segment, at)
        if proof:
            return True
        at = max(end, at + 8)


def _walk_chain(segment: bytes, at: int) -> tuple[bool, int]:
    """Follow intact records from ``at``; whether they hold a proof of a sync, and where they end.

    The first one has nothing to be held against, so it is taken on trust and proves nothing by itself.
    """
    crc = -1
    stage = 0  # 1 entries, 2 their hard state, 3 a marker
    while True:
        frame = _parse_frame(segment, at)
        if frame is None:
            return False, at
        record_type, record_crc, data, end = frame
        if crc >= 0 and crc32c(data, crc) != record_crc:
            return False, at
        if crc >= 0:
            if stage == 3 or (stage == 2 and record_type in (ENTRY_TYPE, SNAPSHOT_TYPE)):
                return True, end
            if record_type == ENTRY_TYPE:
                stage = 1
            elif record_type == STATE_TYPE and stage == 1:
                stage = 2
            elif record_type == SNAPSHOT_TYPE:
                stage = 3
        crc = record_crc
        at = end


def _parse_frame(segment: bytes, at: int) -> tuple[int, int, bytes, int] | None:
    """Type, crc, data and end of what looks like a frame at ``at``; None if it does not."""
    if at + 16 > len(segment):
        return None
    (field,) = _LENGTH.unpack_from(segment, at)
    size = field & 0xFFFFFFFFFFFFFF
    pad = -size & 7
    body = at + 8
    end = body + size
    if (
        not 5 <= size < MAX_WAL_RECORD_BYTES
        or field >> 56 != _LENGTH_FLAGS[pad] >> 56
        or end + pad > len(segment)
    ):
        return None
    if (
        segment[body] != 0x08
        or not METADATA_TYPE <= segment[body + 1] <= SNAPSHOT_TYPE
        or segment[body + 2] != 0x10
    ):
        return None
    try:
        crc, cursor = _varint(segment, body + 3)
        if cursor == end:
            return segment[body + 1], crc, b"", end + pad
        length, data_at = _varint(segment, cursor + 1)
    except IndexError:
        return None
    if segment[cursor] != 0x1A or data_at + length != end:
        return None
    return segment[body + 1], crc, segment[data_at:end], end + pad


_ZEROS: Final = bytes(1 << 16)


def _first_nonzero(segment: bytes, at: int) -> int:
    """The first offset from ``at`` on that is not zero, -1 if there is none. By blocks: tails are long."""
    size = len(_ZEROS)
    for start in range(at, len(segment), size):
        block = segment[start : start + size]
        if block != _ZEROS and any(block):
            return start + len(block) - len(block.lstrip(b"\0"))
    return -1
