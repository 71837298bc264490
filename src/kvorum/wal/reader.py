"""From records to what a member remembers: metadata, hard state, entries, markers. Sans-IO.

A record's type is not covered by its CRC, so what the records say is held against each other. A log is
refused when

- metadata is missing or changes;
- a hard state is none, or its term goes back, or it commits more than the log holds;
- an entry leaves a gap, has no term, or would replace one that is committed.

A later entry with an index that is there already replaces it and all after it: that is how an uncommitted
tail that another leader overruled is dropped (Raft Figure 7; etcd ``wal.ReadAll``).
"""

from collections.abc import Callable
from typing import Final, final

from kvorum.limits import MAX_PLAUSIBLE_TERM
from kvorum.proto import record_pb2
from kvorum.raft.codec import CodecError, decode_conf_state, decode_entry
from kvorum.raft.types import Entry, HardState
from kvorum.wal.decoder import DamagedRecordError, SegmentDecoder
from kvorum.wal.errors import CorruptWalError, SnapshotMismatchError, TornTailError
from kvorum.wal.record import (
    CRC_TYPE,
    ENTRY_TYPE,
    METADATA_TYPE,
    SNAPSHOT_TYPE,
    STATE_TYPE,
    WalSnapshot,
    decode_state,
)


def decode_marker(data: bytes) -> WalSnapshot:
    """Decode a snapshot marker.

    Raises:
        CodecError: the bytes are none.
    """
    if not data.startswith(b"\x08"):  # etcd always writes the index; an empty message is some other record
        raise CodecError("not a snapshot marker")
    message = record_pb2.Snapshot()
    try:
        message.ParseFromString(data)
    except Exception as error:  # protobuf's DecodeError has moved between its releases
        raise CodecError(f"not a snapshot marker: {error}") from error
    conf_state = None
    if message.HasField("conf_state"):
        conf_state = decode_conf_state(message.conf_state.SerializeToString())
    return WalSnapshot(message.index, message.term, conf_state)


@final
class LogReader:
    """Gathers what the segments of a log hold, from a snapshot on.

    Feed it the segments in order, then call ``finish``. ``entries[i].index == start.index + 1 + i`` always.
    Without a start, entries are checked but not decoded: a log may leave out what a snapshot from the
    leader stands for.
    """

    __slots__ = (
        "_chained",
        "_gathers",
        "_on_record",
        "crc",
        "entries",
        "last_index",
        "markers",
        "matched",
        "metadata",
        "offset",
        "start",
        "state",
        "tail_is_dirty",
    )

    def __init__(
        self, start: WalSnapshot | None, on_record: Callable[[str, int, int, bytes], None] | None = None
    ) -> None:
        """``on_record(path, offset, type, data)`` sees every good record, for tools that print a log."""
        self.start: Final = start or WalSnapshot()
        self._gathers: Final = start is not None
        self.metadata: bytes | None = None
        self.state = HardState()
        self.entries: list[Entry] = []
        self.markers: list[WalSnapshot] = []
        self.matched = False
        self.last_index = self.start.index
        """Index of the last entry or marker written (etcd ``enti``): the next segment is named after it."""
        self.crc = 0
        self.offset = 0
        """Where the last good record of the segment fed last ends."""
        self.tail_is_dirty = False
        """Whether something other than zeros follows there."""
        self._chained = False
        self._on_record: Final = on_record

    def feed(self, path: str, segment: bytes, *, is_last: bool) -> None:
        """Read one segment.

        Raises:
            TornTailError: the last write was interrupted (last segment only); what was gathered is sound.
            CorruptWalError: damage.
            SnapshotMismatchError: the start's index has another term here.
        """
        decoder = SegmentDecoder(segment, self.crc, chained=self._chained, is_last=is_last)
        try:
            while decoder.next_entry() is not None or decoder.advance():
                kind = decoder.type
                if kind == ENTRY_TYPE:
                    if self._gathers:
                        self._take_entry(decode_entry(decoder.data))
                elif kind == STATE_TYPE:
                    self._take_state(decode_state(decoder.data))
                elif kind == SNAPSHOT_TYPE:
                    self._take_marker(decode_marker(decoder.data))
                elif kind == METADATA_TYPE:
                    if self.metadata is not None and self.metadata != decoder.data:
                        raise CodecError("conflicting metadata")
                    self.metadata = decoder.data
                elif kind != CRC_TYPE:
                    raise CodecError(f"unexpected record type {kind}")
                if self._on_record is not None:
                    self._on_record(path, decoder.start, kind, decoder.data)
        except DamagedRecordError as error:
            self.offset = decoder.offset
            if error.torn:
                raise TornTailError(path, error.offset) from None
            raise CorruptWalError(path, error.offset, error.reason) from None
        except CodecError as error:
            raise CorruptWalError(path, decoder.start, str(error)) from None
        finally:
            self.crc = decoder.crc
            self._chained = decoder.chained
            self.offset = decoder.offset
        self.tail_is_dirty = is_last and decoder.has_garbage()

    def finish(self, path: str) -> None:
        """Check the log as a whole; ``path`` is its last segment, for the message.

        Raises:
            CorruptWalError: it has no metadata, or commits more than it holds.
        """
        if self.metadata is None:
            raise CorruptWalError(path, self.offset, "no metadata record")
        if not self._gathers:
            return
        held = self.entries[-1].index if self.entries else self.start.index
        if self.state.commit > max(held, self.start.index):
            raise CorruptWalError(
                path, self.offset, f"entries are missing (committed {self.state.commit}, last is {held})"
            )

    def _take_entry(self, entry: Entry) -> None:
        if not 0 < entry.term < MAX_PLAUSIBLE_TERM:
            raise CodecError(f"entry {entry.index} with an impossible term {entry.term}")
        position = entry.index - self.start.index - 1
        if position >= 0:
            entries = self.entries
            if position > len(entries):
                raise CodecError(f"entries are missing before index {entry.index}")
            if position < len(entries):
                if entry.index <= self.state.commit and entry.term != entries[position].term:
                    raise CodecError(f"committed entry {entry.index} is replaced")
                del entries[position:]
            entries.append(entry)
        self.last_index = entry.index

    def _take_state(self, state: HardState) -> None:
        if not self.state.term <= state.term < MAX_PLAUSIBLE_TERM or (
            state.term == 0 and not state.is_empty()
        ):
            raise CodecError(f"hard state with an impossible term {state.term}")
        self.state = state

    def _take_marker(self, marker: WalSnapshot) -> None:
        if marker.index == self.start.index and self._gathers:
            if marker.term != self.start.term:
                raise SnapshotMismatchError(
                    f"wal: snapshot at index {marker.index} has term {marker.term} in the log, "
                    f"not {self.start.term}"
                )
            self.matched = True
        self.markers.append(marker)
        self.last_index = max(self.last_index, marker.index)
