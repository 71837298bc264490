"""A disk that fails, fills up or loses what was not synced: at every single call."""

import errno
import random

import pytest

from kvorum.raft.types import Entry, HardState
from kvorum.wal.errors import WalError, WalFailedError
from kvorum.wal.memdisk import MemoryDisk
from kvorum.wal.record import WalSnapshot
from kvorum.wal.segments import exists
from kvorum.wal.wal import Wal
from tests.wal.logs import CONF_STATE, METADATA, VOTE, WAL_DIR, create, entry, fill, reopen

SEGMENT_BYTES = 2048


class Member:
    """Writes until the disk fails; knows what was acknowledged."""

    def __init__(self, disk: MemoryDisk, seed: int) -> None:
        self.disk = disk
        self.chance = random.Random(seed)
        self.tried: list[Entry] = []
        self.acknowledged = 0
        self.marker = WalSnapshot()
        self.created = False
        self.wal: Wal | None = None

    def run(self, steps: int) -> None:
        self.wal = wal = create(self.disk, segment_bytes=SEGMENT_BYTES)
        self.created = True
        for _ in range(steps):
            if self.chance.random() < 0.2 and self.acknowledged > self.marker.index:
                marker = WalSnapshot(self.acknowledged, 2, CONF_STATE)
                wal.save_snapshot(marker)
                self.marker = marker
                continue
            if self.chance.random() < 0.3:
                wal.make_next_segment()
            state = HardState(2, VOTE, self.acknowledged)
            fresh = [
                entry(len(self.tried) + 1 + n, self.chance.randint(0, 900))
                for n in range(self.chance.randint(0, 3))
            ]
            self.tried += fresh
            batch = wal.prepare(state, fresh)
            if batch.must_sync:
                wal.flush(batch)
                self.acknowledged = len(self.tried)
        wal.close()


def check_after(member: Member, disk: MemoryDisk, why: object) -> None:
    """Every acknowledged entry is there, and no half of an unacknowledged one; writing goes on."""
    if not exists(WAL_DIR, disk):
        assert not member.created, why
        create(disk, segment_bytes=SEGMENT_BYTES).close()
        return
    log = reopen(disk, member.marker, segment_bytes=SEGMENT_BYTES)
    after = member.marker.index
    assert log.metadata == METADATA
    assert len(log.entries) >= member.acknowledged - after, why
    assert log.entries == member.tried[after : after + len(log.entries)], why
    fresh = [entry(after + len(log.entries) + 1 + n, 500) for n in range(5)]
    for one in fresh:
        log.wal.flush(log.wal.prepare(HardState(3, VOTE, log.state.commit), [one]))
    log.wal.close()
    again = reopen(disk, member.marker, segment_bytes=SEGMENT_BYTES)
    assert again.entries == log.entries + fresh, why
    again.wal.close()


def calls_of_a_run(seed: int, steps: int) -> int:
    disk = MemoryDisk()
    Member(disk, seed).run(steps)
    return disk.calls


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize("seed", range(3))
def test_a_failure_at_every_call_stops_the_log_for_good_and_loses_nothing(number: int, seed: int) -> None:
    for at in range(calls_of_a_run(seed, 25)):
        disk = MemoryDisk()
        disk.fail_errno = number
        disk.fail_at = at
        member = Member(disk, seed)
        with pytest.raises((OSError, WalFailedError)) as caught:
            member.run(25)
        if isinstance(caught.value, OSError):
            assert caught.value.errno == number
        disk.fail_at = -1
        wal = member.wal
        if wal is not None and wal.failure is not None and not isinstance(wal.failure, WalError):
            with pytest.raises(WalFailedError, match="earlier failure"):
                wal.prepare(HardState(9, VOTE, 0), [])
            with pytest.raises(WalFailedError):
                wal.save_snapshot(WalSnapshot(1, 2, CONF_STATE))
            wal.close()
            assert disk.open_handles() == 0
        check_after(member, disk.copy(), (at, "the process was started again"))
        check_after(member, disk.crash(random.Random(at)), (at, "and the power was gone"))


@pytest.mark.parametrize("seed", range(40))
def test_a_power_cut_at_any_call_loses_nothing_acknowledged(seed: int) -> None:
    chance = random.Random(seed)
    total = calls_of_a_run(seed, 30)
    for at in sorted(chance.sample(range(total), min(total, 20))):
        disk = MemoryDisk()
        disk.fail_at = at
        member = Member(disk, seed)
        with pytest.raises((OSError, WalFailedError)):
            member.run(30)
        check_after(member, disk.crash(chance), (seed, at))


def test_a_full_disk_ends_with_enospc_and_room_brings_the_log_back() -> None:
    disk = MemoryDisk(capacity_bytes=3 * SEGMENT_BYTES)
    member = Member(disk, 1)
    with pytest.raises(OSError, match="No space") as caught:
        member.run(200)
    assert caught.value.errno == errno.ENOSPC
    disk.capacity_bytes = 1 << 30
    check_after(member, disk.copy(), "room again")


def test_a_disk_that_syncs_nothing_is_told_from_one_that_does() -> None:
    """The simulated disk must be able to fail us: without syncs acknowledged entries do get lost."""
    lost = 0
    for seed in range(20):
        disk = MemoryDisk()
        wal = Wal.create(WAL_DIR, METADATA, disk=disk, segment_bytes=1 << 14, unsafe_no_fsync=True)
        for n in range(1, 9):
            wal.flush(wal.prepare(HardState(2, VOTE, n - 1), [entry(n, 900)]))
        try:
            lost += len(reopen(disk.crash(random.Random(seed))).entries) < 8
        except WalError:
            lost += 1
    assert lost > 10


@pytest.mark.parametrize("size", [40, 6000])
def test_what_a_killed_process_wrote_and_its_successor_read_is_durable(size: int) -> None:
    """The successor speaks of these entries as its own, so a power cut must not take them back."""
    disk = MemoryDisk()
    wal = create(disk)
    entries = fill(wal, 3, size=size)
    late = entry(len(entries) + 1)
    batch = wal.prepare(None, [late])
    assert not batch.next_head
    wal.write_unsynced(batch)
    disk.kill()
    found = reopen(disk).entries
    assert found == [*entries, late]
    for seed in range(20):
        after = disk.crash(random.Random(seed))
        assert reopen(after).entries == found
