"""Cuts and flips: a torn tail loses only what was never acknowledged, damage is never read as data."""

import random

import pytest

from kvorum.raft.types import Entry, HardState
from kvorum.wal.decoder import SECTOR_BYTES
from kvorum.wal.errors import CorruptWalError, WalError
from kvorum.wal.memdisk import MemoryDisk
from kvorum.wal.record import WalSnapshot
from kvorum.wal.recovery import Recovered, read_log
from tests.wal.logs import (
    CONF_STATE,
    METADATA,
    VOTE,
    create,
    entry,
    fill,
    last_path,
    record_ends,
    reopen,
    save,
)


def entries_by_offset(disk: MemoryDisk) -> list[tuple[int, int]]:
    """For each record of the last segment: where it ends, and how many entries the log holds by then."""
    counts: list[tuple[int, int]] = []
    count = 0

    def on_record(path: str, offset: int, kind: int, data: bytes) -> None:
        nonlocal count
        count += kind == 2
        if path == last_path(disk):
            counts.append((offset, count))

    read_log("/data/member/wal", disk=disk, on_record=on_record)
    ends = record_ends(disk.content(last_path(disk)))
    return [(end, held) for end, (_, held) in zip(ends, counts, strict=True)]


def test_a_log_cut_at_every_byte_of_its_last_records_comes_back_as_a_prefix() -> None:
    disk = MemoryDisk()
    wal = create(disk)
    entries = fill(wal, 5, each=2, size=150)
    wal.close()
    path = last_path(disk)
    whole = disk.content(path)
    held_by = entries_by_offset(disk)
    end = held_by[-1][0]
    for cut in range(held_by[2][0], end + 1):
        torn = disk.copy()
        torn.set_content(path, whole[:cut])
        log = reopen(torn)
        expected = max(held for at, held in held_by if at <= cut)
        assert log.entries == entries[:expected], cut
        assert log.metadata == METADATA
        whole_record = any(at == cut for at, _ in held_by)
        assert torn.exists(path + ".broken") is not whole_record, cut
        if not whole_record:
            assert torn.content(path + ".broken") == whole[:cut]
        added = [entry(expected + 1), entry(expected + 2)]
        save(log.wal, HardState(2, VOTE, expected), added)
        log.wal.close()
        assert reopen(torn).entries == entries[:expected] + added, cut


def test_a_batch_of_which_sectors_are_missing_is_cut_off() -> None:
    for seed in range(60):
        chance = random.Random(seed)
        disk = MemoryDisk()
        wal = create(disk)
        entries = fill(wal, 2, each=2, size=300)
        before = record_ends(disk.content(last_path(disk)))[-1]
        unacknowledged = [entry(5 + n, 700) for n in range(4)]
        save(wal, HardState(2, VOTE, 4), unacknowledged)
        path = last_path(disk)
        segment = bytearray(disk.content(path))
        end = record_ends(bytes(segment))[-1]
        first = before // SECTOR_BYTES
        lost = [sector for sector in range(first, end // SECTOR_BYTES + 1) if chance.random() < 0.4]
        for sector in lost:
            start = max(before, sector * SECTOR_BYTES)  # what was synced before stays
            stop = (sector + 1) * SECTOR_BYTES
            segment[start:stop] = bytes(stop - start)
        torn = disk.copy()
        torn.set_content(path, bytes(segment))
        log = reopen(torn)
        assert log.entries[:4] == entries, seed
        assert log.entries == (entries + unacknowledged)[: len(log.entries)], seed
        assert lost == [] or len(log.entries) < 8 or log.state.commit < 4 or not any(segment[before:end]), (
            seed
        )
        more = [entry(len(log.entries) + 1, 900)]
        save(log.wal, HardState(3, VOTE, 4), more)
        log.wal.close()
        assert reopen(torn).entries == log.entries + more, seed


def flipped_logs(
    disk: MemoryDisk, path: str, chance: random.Random, count: int
) -> list[tuple[int, MemoryDisk]]:
    whole = disk.content(path)
    end = record_ends(whole)[-1] if path == last_path(disk) else len(whole.rstrip(b"\0"))
    within = range(min(end + 64, len(whole)) * 8)
    bits = range(end * 8) if count == 0 else sorted(chance.sample(within, count))
    logs = []
    for bit in bits:
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        copy = disk.copy()
        copy.set_content(path, bytes(damaged))
        logs.append((bit, copy))
    return logs


def attempt(disk: MemoryDisk) -> tuple[WalError | None, Recovered | None]:
    try:
        return None, reopen(disk)
    except WalError as error:
        return error, None


def check_flip(bit: int, disk: MemoryDisk, entries: list[Entry], state: HardState, durable: int) -> str:
    """Refused, unchanged, or cut at the tail, nothing else; ``durable`` entries are proven to be synced."""
    refusal, log = attempt(disk)
    if log is None:
        if isinstance(refusal, CorruptWalError):
            assert refusal.path in str(refusal)
            assert str(refusal.offset) in str(refusal)
            assert "from a backup" in str(refusal)
        return "refused"
    assert log.metadata == METADATA, bit
    assert log.entries == entries[: len(log.entries)], bit
    if len(log.entries) == len(entries) and log.state == state:
        return "unchanged"
    assert len(log.entries) >= durable, bit
    assert any(name.endswith(".broken") for name in disk.list("/data/member/wal")) or log.state != state, bit
    return "cut"


@pytest.mark.parametrize("size", [11, 90])
def test_every_single_bit_of_a_short_log(size: int) -> None:
    disk = MemoryDisk()
    wal = create(disk, segment_bytes=1 << 12)
    entries = fill(wal, 6, each=1, size=size)
    wal.close()
    state = HardState(2, VOTE, 5)
    outcomes = [
        check_flip(bit, damaged, entries, state, durable=4)
        for bit, damaged in flipped_logs(disk, last_path(disk), random.Random(0), 0)
    ]
    # what is left are bits of the padding, which mean nothing, and of the last records, which look torn
    assert outcomes.count("refused") > 0.8 * len(outcomes)


def test_flips_in_a_log_of_many_segments_with_values_full_of_zeros() -> None:
    disk = MemoryDisk()
    wal = create(disk, segment_bytes=1 << 13)
    entries: list[Entry] = []
    for n in range(1, 13):
        fresh = [
            Entry(2, n, 0, bytes(1500)),
        ]
        save(wal, HardState(2, VOTE, n - 1), fresh)
        entries += fresh
        if n == 4:
            wal.save_snapshot(WalSnapshot(3, 2, CONF_STATE))
    wal.close()
    state = HardState(2, VOTE, 11)
    names = [name for name in disk.list("/data/member/wal") if name.endswith(".wal")]
    assert len(names) > 1
    chance = random.Random(7)
    for name in names:
        for bit, damaged in flipped_logs(disk, "/data/member/wal/" + name, chance, 300):
            check_flip(bit, damaged, entries, state, durable=10)


def test_a_lost_sector_among_synced_records_is_refused_not_repaired() -> None:
    disk = MemoryDisk()
    wal = create(disk)
    fill(wal, 12, each=2, size=200)
    wal.close()
    path = last_path(disk)
    segment = bytearray(disk.content(path))
    segment[1024:1536] = bytes(512)
    disk.set_content(path, bytes(segment))
    with pytest.raises(CorruptWalError, match=r"byte offset \d+") as caught:
        reopen(disk)
    assert 512 < caught.value.offset < 1536
    assert not disk.exists(path + ".broken")


def test_damage_in_a_segment_that_is_not_the_last_is_refused_even_if_it_looks_torn() -> None:
    disk = MemoryDisk()
    wal = create(disk, segment_bytes=1 << 12)
    fill(wal, 12, each=2, size=300)
    wal.close()
    first = "/data/member/wal/0000000000000000-0000000000000000.wal"
    for cut in (1000, 1007, 2040):
        copy = disk.copy()
        copy.set_content(first, disk.content(first)[:cut])
        with pytest.raises(CorruptWalError):
            reopen(copy)


def test_a_reader_forgives_a_torn_tail_and_changes_nothing() -> None:
    disk = MemoryDisk()
    wal = create(disk)
    entries = fill(wal, 3)
    wal.close()
    path = last_path(disk)
    torn = disk.content(path)[: record_ends(disk.content(path))[-1] - 5]
    disk.set_content(path, torn)
    reader = read_log("/data/member/wal", start=WalSnapshot(), disk=disk)
    assert reader.entries == entries
    assert disk.content(path) == torn


def test_a_write_that_stopped_at_any_byte_leaves_a_prefix() -> None:
    disk = MemoryDisk()
    wal = create(disk)
    entries = fill(wal, 3, each=2, size=130)
    path = last_path(disk)
    before = record_ends(disk.content(path))[-1]
    save(wal, HardState(2, VOTE, 6), [entry(7, 200), entry(8, 200)])
    wal.close()
    whole = disk.content(path)
    for cut in range(before, record_ends(whole)[-1]):
        stopped = disk.copy()
        stopped.set_content(path, whole[:cut] + bytes(len(whole) - cut))
        log = reopen(stopped)
        assert log.entries[:6] == entries, cut
        assert log.entries == [*entries, entry(7, 200), entry(8, 200)][: len(log.entries)], cut
        save(log.wal, HardState(3, VOTE, 6), [entry(len(log.entries) + 1, 5, term=3)])
        log.wal.close()
        assert len(reopen(stopped).entries) == len(log.entries) + 1, cut
