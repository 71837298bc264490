"""From a segment's bytes to its records, and what to make of bytes that are none: sans-IO.

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
"""

from typing import Final, final

from crc32c import crc32c

from kvorum.limits import MAX_WAL_RECORD_BYTES
from kvorum.proto.wire import read_varint
from kvorum.wal.record import (
    CRC_TYPE,
    ENTRY_TYPE,
    FRAME_BYTES,
    LENGTH,
    LENGTH_FLAGS,
    METADATA_TYPE,
    SNAPSHOT_TYPE,
    STATE_TYPE,
    crc_varint,
)

SECTOR_BYTES: Final = 512
"""The smallest unit a disk writes whole (etcd ``minSectorSize``)."""


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
        (field,) = LENGTH.unpack_from(segment, at)
        if field == 0:
            self._check_end()
            return False
        size = field & 0xFFFFFFFFFFFFFF
        pad = -size & 7
        body = at + 8
        end = body + size
        if field >> 56 != (LENGTH_FLAGS[pad] >> 56) or size >= MAX_WAL_RECORD_BYTES:
            raise self._damaged("an impossible length field", body)
        if end + pad > len(segment):
            raise self._damaged("the file ends within a record", end, pad)
        try:
            # 08 <type> 10 <crc> [1a <size> <data>]
            if segment[body] != 0x08 or segment[body + 2] != 0x10:
                raise IndexError
            record_type = segment[body + 1]
            crc, cursor = read_varint(segment, body + 3)
            if cursor == end:
                data = None
            elif segment[cursor] == 0x1A:
                length, cursor = read_varint(segment, cursor + 1)
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
        (field,) = LENGTH.unpack_from(segment, at)
        size = field & 0xFFFFFFFFFFFFFF
        pad = -size & 7
        end = body + size
        if (
            field != size | LENGTH_FLAGS[pad]
            or not 139 <= size < 16395
            or end + pad > len(segment)
            or segment[body + 8] != 0x1A
            or (segment[body + 9] & 0x7F | segment[body + 10] << 7) != size - 11
            or segment[body + 9] < 0x80
        ):
            return None
        data = segment[body + 11 : end]
        crc = crc32c(data, self.crc)
        if segment[body + 3 : body + 8] != crc_varint(crc):
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
            crc, cursor = read_varint(segment, body + 3)
            if segment[cursor] != 0x1A:
                return False
            length, cursor = read_varint(segment, cursor + 1)
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
    (field,) = LENGTH.unpack_from(segment, at)
    size = field & 0xFFFFFFFFFFFFFF
    pad = -size & 7
    body = at + 8
    end = body + size
    if (
        not 5 <= size < MAX_WAL_RECORD_BYTES
        or field >> 56 != LENGTH_FLAGS[pad] >> 56
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
        crc, cursor = read_varint(segment, body + 3)
        if cursor == end:
            return segment[body + 1], crc, b"", end + pad
        length, data_at = read_varint(segment, cursor + 1)
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
