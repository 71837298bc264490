"""Logs to break: small ones, written the way a member writes them."""

from collections.abc import Sequence

from kvorum.raft.types import ConfState, Entry, HardState
from kvorum.wal.decoder import SegmentDecoder
from kvorum.wal.memdisk import MemoryDisk
from kvorum.wal.record import FRAME_BYTES, WalSnapshot
from kvorum.wal.recovery import Recovered, recover
from kvorum.wal.wal import Wal

WAL_DIR = "/data/member/wal"
METADATA = b"\x08\xe8\x9b\xd8\xe8\xbd\xbb\xe7\xb1\xe2\x01\x10\x87\xc6\xd7\xed\xd9\xa8\x93\xbf\xaf\x01"
CONF_STATE = ConfState(voters=(0x8E9E05C52164694D,))
VOTE = 0x8E9E05C52164694D


def create(disk: MemoryDisk, *, segment_bytes: int = 1 << 14) -> Wal:
    return Wal.create(WAL_DIR, METADATA, disk=disk, segment_bytes=segment_bytes)


def reopen(disk: MemoryDisk, start: WalSnapshot | None = None, *, segment_bytes: int = 1 << 14) -> Recovered:
    return recover(WAL_DIR, start or WalSnapshot(), disk=disk, segment_bytes=segment_bytes)


def save(wal: Wal, state: HardState | None, entries: Sequence[Entry]) -> None:
    """What the server does with a Ready."""
    batch = wal.prepare(state, entries)
    if batch.must_sync:
        wal.flush(batch)
    wal.check_invariants()


def entry(index: int, size: int = 40, term: int = 2) -> Entry:
    """An entry whose data is told by its index and has no zeros."""
    return Entry(term, index, 0, bytes((index * 7 + n) % 255 + 1 for n in range(size)))


def fill(wal: Wal, batches: int, *, each: int = 2, size: int = 40, first: int = 1) -> list[Entry]:
    """Write batches as one voter does: entries, committed by the batch after. Returns all entries."""
    entries: list[Entry] = []
    for _ in range(batches):
        fresh = [entry(first + len(entries) + n, size) for n in range(each)]
        save(wal, HardState(2, VOTE, first + len(entries) - 1), fresh)
        entries += fresh
    return entries


def last_path(disk: MemoryDisk) -> str:
    return WAL_DIR + "/" + [name for name in disk.list(WAL_DIR) if name.endswith(".wal")][-1]


def record_ends(segment: bytes) -> list[int]:
    """Where each record of a sound segment ends."""
    decoder = SegmentDecoder(segment, 0, chained=False, is_last=True)
    ends = []
    while decoder.advance():
        assert decoder.offset - decoder.start >= FRAME_BYTES
        ends.append(decoder.offset)
    return ends
