"""The lessor against a dumb one, with a clock in the test's hand."""

from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from kvorum import errors
from kvorum.lease.deadlines import Deadlines
from kvorum.lease.lessor import Lessor
from kvorum.lease.terms import LeaseExpiringError, NotPrimaryError
from tests.lease.table import MemoryTable

IDS = st.integers(1, 8)
KEYS = st.sampled_from([b"a", b"b", b"c", b"d", b"e"])
MINIMUM = 3
RETRY = 4.0


@dataclass
class Plain:
    """A lease as one would write it down."""

    ttl: int
    remaining: int = 0
    expiry: float | None = None
    asked: float | None = None
    promised: float = 0.0
    keys: set[bytes] = field(default_factory=set)


class LessorMachine(RuleBasedStateMachine):
    """What apply and the leader may do, in any order."""

    @initialize(interval=st.sampled_from([None, 5.0]))
    def begin(self, interval: float | None) -> None:
        self.table = MemoryTable()
        self.interval = interval
        self.lessor = self.make()
        self.now = 0.0
        self.plain: dict[int, Plain] = {}
        self.in_log: list[tuple[int, int]] = []

    def make(self) -> Lessor:
        return Lessor(self.table, minimum_ttl=MINIMUM, checkpoint_interval=self.interval, retry_seconds=RETRY)

    @rule(lease_id=IDS, ttl=st.integers(-1, 30))
    def grant(self, lease_id: int, ttl: int) -> None:
        if lease_id in self.plain:
            with pytest.raises(errors.EtcdError, match="already exists"):
                self.lessor.grant(lease_id, ttl, self.now)
            return
        granted = self.lessor.grant(lease_id, ttl, self.now)
        assert granted == max(ttl, MINIMUM)
        lease = self.plain[lease_id] = Plain(granted)
        if self.lessor.primary:
            lease.expiry = lease.promised = self.now + granted

    @rule(lease_id=IDS)
    def revoke(self, lease_id: int) -> None:
        if lease_id not in self.plain:
            with pytest.raises(errors.EtcdError, match="not found"):
                self.lessor.revoke(lease_id)
            return
        assert self.lessor.revoke(lease_id) == sorted(self.plain.pop(lease_id).keys)

    @rule(key=KEYS, lease_id=IDS)
    def put(self, key: bytes, lease_id: int) -> None:
        for lease in self.plain.values():
            lease.keys.discard(key)
        if lease_id in self.plain:
            self.plain[lease_id].keys.add(key)
            self.lessor.attach(key, lease_id)
        else:
            self.lessor.detach(key)

    @rule(lease_id=IDS)
    def keep_alive(self, lease_id: int) -> None:
        lease = self.plain.get(lease_id)
        if not self.lessor.primary:
            with pytest.raises(NotPrimaryError):
                self.lessor.renew(lease_id, self.now)
        elif lease is None:
            with pytest.raises(errors.EtcdError, match="not found"):
                self.lessor.renew(lease_id, self.now)
        elif lease.expiry is not None and lease.expiry <= self.now:
            with pytest.raises(LeaseExpiringError):
                self.lessor.renew(lease_id, self.now)
        else:
            if self.lessor.needs_reset(lease_id):
                self.in_log.append((lease_id, 0))
                self.apply_checkpoints()
            assert self.lessor.renew(lease_id, self.now) == lease.ttl
            lease.expiry = lease.promised = self.now + lease.ttl

    @rule(seconds=st.sampled_from([0.25, 1.0, 3.0, 10.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def expire(self) -> None:
        due = {
            lease_id
            for lease_id, lease in self.plain.items()
            if lease.expiry is not None
            and lease.expiry <= self.now
            and (lease.asked is None or lease.asked + RETRY <= self.now)
        }
        found = self.lessor.expired(self.now)
        assert len(found) == len(set(found))
        assert set(found) <= due
        if self.lessor.next_expiry_at is not None and len(found) < len(due):
            assert self.lessor.next_expiry_at <= self.now, "an expired lease is forgotten"
        for lease_id in found:
            assert self.plain[lease_id].promised <= self.now, "a client was promised more"
            self.plain[lease_id].asked = self.now

    @rule()
    def propose_checkpoints(self) -> None:
        for lease_id, remaining in self.lessor.due_checkpoints(self.now):
            lease = self.plain[lease_id]
            assert lease.expiry is not None
            left = lease.expiry - self.now
            assert left <= remaining < left + 1
            assert remaining < lease.ttl
            self.in_log.append((lease_id, remaining))

    @rule()
    def apply_checkpoints(self) -> None:
        for lease_id, remaining in self.in_log:
            self.lessor.checkpoint(lease_id, remaining, self.now)
            if lease_id in self.plain:
                self.plain[lease_id].remaining = remaining
        self.in_log.clear()

    @rule(extend=st.sampled_from([0.0, 1.0]))
    def promote(self, extend: float) -> None:
        self.apply_checkpoints()
        self.lessor.promote(extend, self.now)
        for lease in self.plain.values():
            lease.expiry = self.now + extend + (lease.remaining or lease.ttl)
            lease.asked = None
            assert lease.expiry >= lease.promised, "a new leader shortened a lease"

    @rule()
    def demote(self) -> None:
        self.lessor.demote()
        for lease in self.plain.values():
            lease.expiry = lease.asked = None

    @rule()
    def restart(self) -> None:
        self.lessor = self.make()
        leases = {key: lease_id for lease_id, lease in self.plain.items() for key in lease.keys}
        assert self.lessor.reattach(leases) == []
        for lease in self.plain.values():
            lease.expiry = lease.asked = None

    @invariant()
    def agrees(self) -> None:
        self.lessor.check_invariants()
        assert sorted(self.lessor.leases()) == sorted(self.plain)
        for lease_id, lease in self.plain.items():
            assert self.lessor.keys(lease_id) == sorted(lease.keys)
            if lease.expiry is not None:
                told = self.lessor.time_to_live(lease_id, self.now)
                assert told == (int(lease.expiry - self.now), lease.ttl)
        if self.lessor.primary:
            order = [self.plain[lease_id].expiry or 0.0 for lease_id in self.lessor.leases()]
            assert order == sorted(order)


TestLessor = LessorMachine.TestCase
TestLessor.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)


class DeadlineMachine(RuleBasedStateMachine):
    """Deadlines against a dict."""

    @initialize()
    def begin(self) -> None:
        self.deadlines = Deadlines()
        self.plain: dict[int, float] = {}
        self.now = 0.0

    @rule(name=st.integers(0, 5), times=st.lists(st.integers(0, 20), min_size=1, max_size=40))
    def set(self, name: int, times: list[int]) -> None:
        for at in times:
            self.deadlines.set(name, self.now + at)
            self.plain[name] = self.now + at

    @rule(name=st.integers(0, 5))
    def remove(self, name: int) -> None:
        self.deadlines.remove(name)
        self.plain.pop(name, None)

    @rule()
    def clear(self) -> None:
        self.deadlines.clear()
        self.plain.clear()

    @rule(seconds=st.integers(0, 8))
    def pop(self, seconds: int) -> None:
        self.now += seconds
        due = sorted(at for at in self.plain.values() if at <= self.now)
        got = []
        for at, name in self.deadlines.take(self.now, 100):
            assert self.plain.pop(name) == at
            got.append(at)
        assert got == due

    @invariant()
    def agrees(self) -> None:
        self.deadlines.check_invariants()
        assert len(self.deadlines) == len(self.plain)
        assert all(self.deadlines.get(name) == at for name, at in self.plain.items())
        next_at = self.deadlines.next_at()
        assert next_at is None or not self.plain or next_at <= min(self.plain.values())


TestDeadlines = DeadlineMachine.TestCase
TestDeadlines.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
