"""Leases from grant to revocation: what etcd does, told step by step."""

import pytest

from kvorum import errors
from kvorum.lease.deadlines import Deadlines
from kvorum.lease.lessor import Lessor
from kvorum.lease.record import encode, key_of_id
from kvorum.lease.terms import LeaseExpiringError, NotPrimaryError, TimeToLive, choose_id, minimum_ttl
from kvorum.limits import (
    LEASE_LOOKS,
    LEASE_REVOKE_BURST,
    MAX_LEASE_CHECKPOINTS_PER_ENTRY,
    MAX_LEASE_TTL_SECONDS,
)
from kvorum.proto.lease_pb2 import Lease
from tests.lease.table import MemoryTable


def lessor(table: MemoryTable | None = None, interval: float | None = None, primary: bool = True) -> Lessor:
    made = Lessor(table or MemoryTable(), minimum_ttl=2, checkpoint_interval=interval)
    if primary:
        made.promote(0.0, 0.0)
    return made


@pytest.mark.parametrize(
    ("ticks", "tick_ms", "ttl"), [(10, 100, 2), (10, 1000, 15), (20, 100, 3), (5, 100, 1), (3, 300, 2)]
)
def test_the_shortest_ttl_outlives_an_election(ticks: int, tick_ms: int, ttl: int) -> None:
    assert minimum_ttl(ticks, tick_ms) == ttl


def test_ids_are_chosen_positive_and_free() -> None:
    numbers = iter([0, 1 << 63, 7, (1 << 64) - 1])
    assert choose_id(lambda: next(numbers), lambda lease_id: lease_id == 7) == (1 << 63) - 1


def test_grants() -> None:
    leases = lessor()
    assert leases.grant(1, 1, 0.0) == 2
    assert leases.grant(-5, 10, 0.0) == 10
    assert leases.grant(3, MAX_LEASE_TTL_SECONDS, 0.0) == MAX_LEASE_TTL_SECONDS
    for lease_id, ttl, error in [
        (0, 5, errors.ERR_LEASE_NOT_FOUND),
        (1, 5, errors.ERR_LEASE_EXIST),
        (1, MAX_LEASE_TTL_SECONDS + 1, errors.ERR_LEASE_TTL_TOO_LARGE),
    ]:
        with pytest.raises(errors.EtcdError) as raised:
            leases.grant(lease_id, ttl, 0.0)
        assert raised.value is error
    assert leases.leases() == [1, -5, 3]


def test_keys_follow_the_last_put() -> None:
    leases = lessor()
    leases.grant(1, 10, 0.0)
    leases.grant(2, 10, 0.0)
    for key in (b"b", b"c", b"a"):
        leases.attach(key, 1)
    leases.attach(b"c", 2)
    leases.detach(b"b")
    leases.detach(b"unknown")
    assert (leases.keys(1), leases.keys(2)) == ([b"a"], [b"c"])
    assert (leases.lease_of(b"c"), leases.lease_of(b"b")) == (2, 0)
    leases.attach(b"a", 1)
    leases.attach(b"B", 1)
    assert leases.revoke(1) == [b"B", b"a"]
    assert leases.lease_of(b"a") == 0
    assert 1 not in leases
    with pytest.raises(errors.EtcdError, match="requested lease not found"):
        leases.revoke(1)


def test_time_to_live_is_cut_to_seconds_and_goes_below_zero() -> None:
    leases = lessor()
    leases.grant(1, 10, 0.0)
    assert leases.time_to_live(1, 0.5) == TimeToLive(9, 10)
    assert leases.time_to_live(1, 10.5) == TimeToLive(0, 10)
    assert leases.expired(10.5) == [1]
    assert leases.time_to_live(1, 12.0) == TimeToLive(-2, 10)


def test_an_expired_lease_is_not_renewed_but_ends() -> None:
    leases = lessor()
    leases.grant(1, 10, 0.0)
    assert leases.renew(1, 9.0) == 10
    assert leases.expired(18.9) == []
    with pytest.raises(LeaseExpiringError):
        leases.renew(1, 19.0)
    ended: list[bool] = []
    leases.when_ended(1, ended.append)
    leases.when_ended(1, ended.extend)  # type: ignore[arg-type]
    leases.forget(1, ended.extend)  # type: ignore[arg-type]
    assert leases.expired(19.0) == [1]
    assert leases.expired(20.0) == []
    assert leases.expired(22.0) == [1], "handed out again, as its revocation seems lost"
    assert ended == []
    leases.revoke(1)
    assert ended == [True]
    with pytest.raises(errors.EtcdError, match="requested lease not found"):
        leases.renew(1, 19.0)


def test_only_a_primary_renews_and_knows() -> None:
    leases = lessor()
    leases.grant(1, 10, 0.0)
    ended: list[bool] = []
    leases.expired(10.0)
    leases.when_ended(1, ended.append)
    leases.demote()
    assert ended == [False]
    assert leases.expired(1000.0) == []
    assert leases.next_expiry_at is None
    with pytest.raises(NotPrimaryError):
        leases.renew(1, 0.0)
    with pytest.raises(NotPrimaryError):
        leases.time_to_live(1, 0.0)
    leases.grant(2, 5, 1.0)
    assert leases.leases() == [1, 2]
    leases.promote(1.5, 100.0)
    assert leases.time_to_live(1, 100.0) == TimeToLive(11, 10)
    assert leases.time_to_live(2, 100.0) == TimeToLive(6, 5)


def test_checkpoints_keep_what_is_left_over_a_restart() -> None:
    table = MemoryTable()
    leases = lessor(table, interval=300.0)
    leases.grant(1, 1000, 0.0)
    leases.grant(2, 300, 0.0)
    assert leases.due_checkpoints(299.0) == []
    assert leases.due_checkpoints(300.5) == [(1, 700)]
    leases.checkpoint(1, 700, 300.6)
    leases.checkpoint(99, 5, 300.6)
    restarted = lessor(table, interval=300.0, primary=False)
    restarted.promote(1.0, 10_000.0)
    assert restarted.time_to_live(1, 10_000.0) == TimeToLive(701, 1000)
    assert restarted.time_to_live(2, 10_000.0) == TimeToLive(301, 300)


def test_a_renewal_waits_until_the_log_has_taken_the_checkpoint_back() -> None:
    leases = lessor(interval=300.0)
    leases.grant(1, 1000, 0.0)
    assert not leases.needs_reset(1)
    assert leases.due_checkpoints(300.0) == [(1, 700)]
    assert leases.needs_reset(1), "the checkpoint is on its way and would come after the renewal"
    leases.checkpoint(1, 700, 300.1)
    assert leases.needs_reset(1)
    leases.checkpoint(1, 0, 300.2)
    assert not leases.needs_reset(1)
    assert leases.renew(1, 300.2) == 1000
    leases.demote()
    leases.promote(0.0, 300.3)
    assert leases.time_to_live(1, 300.3) == TimeToLive(1000, 1000)


def test_an_entry_holds_so_many_checkpoints() -> None:
    leases = lessor(interval=10.0)
    for lease_id in range(1, MAX_LEASE_CHECKPOINTS_PER_ENTRY + 8):
        leases.grant(lease_id, 100, 0.0)
    assert len(leases.due_checkpoints(10.0)) == MAX_LEASE_CHECKPOINTS_PER_ENTRY
    assert len(leases.due_checkpoints(10.0)) == 7
    assert leases.due_checkpoints(10.0) == []


def test_records_are_etcds() -> None:
    table = MemoryTable()
    leases = lessor(table, interval=5.0)
    leases.grant(0x123456789, 60, 0.0)
    leases.grant(-2, 60, 0.0)
    leases.checkpoint(-2, 20, 1.0)
    assert (
        table.records[bytes.fromhex("0000000123456789")] == Lease(ID=0x123456789, TTL=60).SerializeToString()
    )
    expected = Lease(ID=-2, TTL=60, RemainingTTL=20).SerializeToString()
    assert table.records[b"\xff" * 7 + b"\xfe"] == expected == encode(-2, 60, 20)
    leases.revoke(-2)
    assert list(table.records) == [key_of_id(0x123456789)]


def test_a_restart_finds_leases_and_their_keys() -> None:
    table = MemoryTable()
    before = lessor(table)
    before.grant(1, 10, 0.0)
    table.put(key_of_id(7), encode(7, 1, 0))
    after = lessor(table, primary=False)
    assert after.reattach({b"a": 1, b"b": 7, b"c": 99}) == [b"c"]
    assert (after.keys(1), after.keys(7), len(after)) == ([b"a"], [b"b"], 2)
    after.promote(0.0, 0.0)
    assert after.time_to_live(7, 0.0) == TimeToLive(2, 2), "shorter than this member's minimum"
    after.check_invariants()


def test_ten_thousand_that_expire_at_once_are_handed_out_at_the_rate() -> None:
    leases = lessor()
    for lease_id in range(1, 10_001):
        leases.grant(lease_id, 5, 0.0)
    seen: set[int] = set()
    now = 5.0
    while len(seen) < 10_000:
        batch = leases.expired(now)
        assert len(batch) <= LEASE_REVOKE_BURST
        for lease_id in batch:
            leases.revoke(lease_id)
        seen.update(batch)
        now += 0.1
    assert now == pytest.approx(15.0, abs=0.3)
    assert len(leases) == 0
    leases.check_invariants()


def test_a_new_leader_spreads_what_would_expire_at_once_and_shortens_nothing() -> None:
    leases = lessor(primary=False)
    for lease_id in range(1, 5001):
        leases.grant(lease_id, 60, 0.0)
    leases.promote(1.0, 100.0)
    at = sorted(leases.time_to_live(lease_id, 100.0).remaining for lease_id in range(1, 5001))
    assert at[0] == 61
    for second in range(61, at[-1] + 1):
        assert at.count(second) <= 750
    assert at[-1] == 61 + (5000 - 1) // 750


def test_renewals_do_not_touch_the_heap() -> None:
    deadlines = Deadlines()
    for name in range(1000):
        deadlines.set(name, 60.0)
    for second in range(1, 50):
        for name in range(1000):
            deadlines.set(name, 60.0 + second)
    assert deadlines.entries == 1000
    assert deadlines.take(60.0, 10) == []
    assert deadlines.next_at() == 109.0
    assert deadlines.entries == 1000


def test_a_hundred_thousand_renewals_are_not_followed_at_once() -> None:
    deadlines = Deadlines()
    for name in range(3 * LEASE_LOOKS):
        deadlines.set(name, 60.0)
    for name in range(3 * LEASE_LOOKS - 1):
        deadlines.set(name, 120.0)
    taken = [deadlines.take(60.0, 1) for _ in range(4)]
    assert [len(batch) for batch in taken] == [0, 0, 1, 0]
    assert taken[2] == [(60.0, 3 * LEASE_LOOKS - 1)]
    deadlines.check_invariants()
