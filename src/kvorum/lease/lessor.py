"""The owner of all leases.

What every member must agree on (which leases there are, their TTLs and checkpoints, whose keys are whose)
changes only by what ``apply`` calls, in log order. When a lease expires is known to the primary lessor
alone, the leader's, by its own clock: it renews, and proposes what has expired for revocation; a lease is
gone only once that is applied. Times are monotonic seconds and arguments.

A new primary does not know what the old one renewed, so it starts every lease anew: with its full TTL, or
with what a checkpoint in the log says is left of it, and some more for the election (``promote``). It may
so live longer than its client was told, never shorter. For the same reason a lease with a checkpoint is
not renewed before a checkpoint that takes it back is in the log (``needs_reset``).

State is kept by column, in dicts of numbers: a hundred thousand leases are nothing to the garbage
collector, and a renewal is one store into a dict (``deadlines.py``). Source of behaviour: etcd
``server/lease/lessor.go``.

Invariants (``check_invariants``): keys and leases agree about each other; only a primary has deadlines,
and then each lease has one; what is handed out as expired is a lease, and waited for are only such.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Final, final

from kvorum import errors
from kvorum.lease import record
from kvorum.lease.deadlines import Deadlines
from kvorum.lease.terms import NO_LEASE, LeaseExpiringError, NotPrimaryError, TimeToLive
from kvorum.limits import (
    LEASE_CHECKPOINT_INTERVAL_SECONDS,
    LEASE_EXPIRIES_PER_SECOND_AFTER_PROMOTION,
    LEASE_REVOKE_BURST,
    LEASE_REVOKE_RETRY_SECONDS,
    LEASE_REVOKES_PER_SECOND,
    MAX_LEASE_CHECKPOINTS_PER_ENTRY,
    MAX_LEASE_TTL_SECONDS,
)


def _nothing(_ttl: float) -> None:
    """Nobody wants to hear."""


@final
class Lessor:
    """Leases and their keys. It begins as no primary, with what the table holds.

    Args:
        table: the table ``lease``, in the same transaction as the keys.
        minimum_ttl: shorter TTLs are raised to it, in seconds.
        checkpoint_interval: seconds between checkpoints of a lease; None for no checkpoints.
        retry_seconds: an expired lease that is still there after so long is handed out again.
    """

    __slots__ = (
        "_checkpoint_interval",
        "_checkpoints",
        "_deadlines",
        "_expired",
        "_keys",
        "_lease_of",
        "_minimum_ttl",
        "_proposed",
        "_remaining",
        "_retry",
        "_revoke_allowance",
        "_revoked_at",
        "_table",
        "_ttl",
        "_waiting",
        "granted",
        "observe_ttl",
        "primary",
        "renewed",
        "revoked",
    )

    def __init__(
        self,
        table: record.Table,
        *,
        minimum_ttl: int,
        checkpoint_interval: float | None = LEASE_CHECKPOINT_INTERVAL_SECONDS,
        retry_seconds: float = LEASE_REVOKE_RETRY_SECONDS,
    ) -> None:
        self._table: Final = table
        self._minimum_ttl: Final = minimum_ttl
        self._checkpoint_interval: Final = checkpoint_interval
        self._retry: Final = retry_seconds
        self._ttl: dict[int, int] = {}
        self._remaining: dict[int, int] = {}
        """Remaining TTLs by the last checkpoint, where there is one that counts."""
        self._keys: dict[int, set[bytes]] = {}
        """Of leases that have any."""
        self._lease_of: dict[bytes, int] = {}
        self.primary = False
        self._deadlines: Final = Deadlines()
        """When leases expire; of an expired one, when it is handed out again."""
        self._expired: dict[int, float] = {}
        """When those that were handed out expired."""
        self._checkpoints: Final = Deadlines()
        self._proposed: set[int] = set()
        """Those whose checkpoint is on its way into the log."""
        self._revoke_allowance = 0.0
        self._revoked_at = 0.0
        self._waiting: dict[int, list[Callable[[bool], None]]] = {}
        self.granted = self.revoked = self.renewed = 0
        """How often, for the metrics."""
        self.observe_ttl: Callable[[float], None] = _nothing
        """Hears of each lease's TTL, in seconds, as it is granted."""
        self._load()

    def _load(self) -> None:
        for lease_id, ttl, remaining in record.load(self._table):
            self._ttl[lease_id] = max(ttl, self._minimum_ttl)
            if remaining > 0:
                self._remaining[lease_id] = remaining

    def restore(self) -> None:
        """The table was replaced by a snapshot's: begin again with what it holds, as no primary.

        The keys are the store's to tell (``reattach``). Source: etcd ``lessor.Recover``.
        """
        self.demote()
        for column in (self._ttl, self._remaining, self._keys, self._lease_of):
            column.clear()
        self._load()

    # --- by log entries -----------------------------------------------------------------------------------

    def grant(self, lease_id: int, ttl: int, now: float) -> int:
        """Make a lease; returns its TTL, which may be longer than asked for.

        Raises:
            EtcdError: ERR_LEASE_NOT_FOUND for the id 0, ERR_LEASE_TTL_TOO_LARGE, ERR_LEASE_EXIST.
        """
        if lease_id == NO_LEASE:
            raise errors.ERR_LEASE_NOT_FOUND
        if ttl > MAX_LEASE_TTL_SECONDS:
            raise errors.ERR_LEASE_TTL_TOO_LARGE
        if lease_id in self._ttl:
            raise errors.ERR_LEASE_EXIST
        ttl = self._ttl[lease_id] = max(ttl, self._minimum_ttl)
        self._table.put(record.key_of_id(lease_id), record.encode(lease_id, ttl, 0))
        self.granted += 1
        self.observe_ttl(ttl)
        if self.primary:
            self._deadlines.set(lease_id, now + ttl)
            self._schedule_checkpoint(lease_id, now)
        return ttl

    def revoke(self, lease_id: int) -> list[bytes]:
        """End a lease; returns its keys, in order, which the same transaction must delete.

        Raises:
            EtcdError: ERR_LEASE_NOT_FOUND.
        """
        if self._ttl.pop(lease_id, None) is None:
            raise errors.ERR_LEASE_NOT_FOUND
        self._table.delete(record.key_of_id(lease_id))
        self._remaining.pop(lease_id, None)
        self._expired.pop(lease_id, None)
        self._proposed.discard(lease_id)
        self._deadlines.remove(lease_id)
        self._checkpoints.remove(lease_id)
        keys = sorted(self._keys.pop(lease_id, ()))
        for key in keys:
            del self._lease_of[key]
        self.revoked += 1
        for callback in self._waiting.pop(lease_id, ()):
            callback(True)
        return keys

    def checkpoint(self, lease_id: int, remaining: int, now: float) -> None:
        """Keep what was left of a lease when the entry was made, 0 for all of it.

        Nothing if the lease is gone.
        """
        ttl = self._ttl.get(lease_id)
        if ttl is None:
            return
        self._proposed.discard(lease_id)
        if remaining > 0:
            self._remaining[lease_id] = remaining
        else:
            self._remaining.pop(lease_id, None)
        self._table.put(record.key_of_id(lease_id), record.encode(lease_id, ttl, max(remaining, 0)))
        if self.primary:
            self._schedule_checkpoint(lease_id, now)

    def attach(self, key: bytes, lease_id: int) -> None:
        """A key was put with a lease that exists; it leaves the one it may have had."""
        assert lease_id in self._ttl, "apply checks the lease first"
        before = self._lease_of.get(key)
        if before == lease_id:
            return
        if before is not None:
            self._drop(key, before)
        self._lease_of[key] = lease_id
        self._keys.setdefault(lease_id, set()).add(key)

    def detach(self, key: bytes) -> None:
        """A key was deleted, or put without a lease."""
        lease_id = self._lease_of.pop(key, None)
        if lease_id is not None:
            self._drop(key, lease_id)

    def _drop(self, key: bytes, lease_id: int) -> None:
        keys = self._keys[lease_id]
        keys.remove(key)
        if not keys:
            del self._keys[lease_id]

    def reattach(self, leases: Mapping[bytes, int]) -> list[bytes]:
        """Attach the keys that the store was opened with; returns those whose leases are not there."""
        lost = []
        for key, lease_id in leases.items():
            if lease_id in self._ttl:
                self.attach(key, lease_id)
            else:
                lost.append(key)
        return lost

    # --- what is there ------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._ttl)

    def __contains__(self, lease_id: int) -> bool:
        return lease_id in self._ttl

    def lease_of(self, key: bytes) -> int:
        """The lease a key is attached to, 0 for none."""
        return self._lease_of.get(key, NO_LEASE)

    def keys(self, lease_id: int) -> list[bytes]:
        """The keys attached to a lease, in order."""
        return sorted(self._keys.get(lease_id, ()))

    def leases(self) -> list[int]:
        """All ids; a primary lists those first that expire first."""
        if not self.primary:
            return sorted(self._ttl)
        return [lease_id for _, lease_id in sorted((self._expiry(name), name) for name in self._ttl)]

    def _expiry(self, lease_id: int) -> float:
        expired = self._expired.get(lease_id)
        if expired is not None:
            return expired
        at = self._deadlines.get(lease_id)
        assert at is not None, "a primary has a deadline for each lease"
        return at

    def time_to_live(self, lease_id: int, now: float) -> TimeToLive:
        """How long a lease has still to live.

        Raises:
            EtcdError: ERR_LEASE_NOT_FOUND.
            NotPrimaryError: only the leader's lessor knows.
        """
        if not self.primary:
            raise NotPrimaryError
        ttl = self._ttl.get(lease_id)
        if ttl is None:
            raise errors.ERR_LEASE_NOT_FOUND
        return TimeToLive(int(self._expiry(lease_id) - now), ttl)

    # --- by the leader ------------------------------------------------------------------------------------

    def needs_reset(self, lease_id: int) -> bool:
        """Whether ``checkpoint(lease_id, 0)`` must be applied before the lease may be renewed.

        Also while a checkpoint is on its way: applied after the renewal, it would take that back from a
        new leader.
        """
        return lease_id in self._remaining or lease_id in self._proposed

    def renew(self, lease_id: int, now: float) -> int:
        """Start a lease's TTL anew; returns it.

        Raises:
            EtcdError: ERR_LEASE_NOT_FOUND.
            NotPrimaryError: the leader's lessor must be asked.
            LeaseExpiringError: too late.
        """
        if not self.primary:
            raise NotPrimaryError
        ttl = self._ttl.get(lease_id)
        if ttl is None:
            raise errors.ERR_LEASE_NOT_FOUND
        if self._expiry(lease_id) <= now:
            raise LeaseExpiringError
        assert not self.needs_reset(lease_id), "a checkpoint is taken back before the lease is renewed"
        self._deadlines.set(lease_id, now + ttl)
        self.renewed += 1
        return ttl

    def when_ended(self, lease_id: int, callback: Callable[[bool], None]) -> None:
        """Call back once an expired lease is revoked (True), or this is no longer the primary (False)."""
        assert self.primary, "only a primary knows what has expired"
        assert lease_id in self._ttl, "the lease has ended already"
        self._waiting.setdefault(lease_id, []).append(callback)

    def forget(self, lease_id: int, callback: Callable[[bool], None]) -> None:
        """Do not call back any more; nothing if that has happened."""
        callbacks = self._waiting.get(lease_id)
        if callbacks is not None and callback in callbacks:
            callbacks.remove(callback)
            if not callbacks:
                del self._waiting[lease_id]

    def expired(self, now: float) -> list[int]:
        """Leases to revoke now, no more than LEASE_REVOKES_PER_SECOND; to be asked ten times a second."""
        if not self.primary:
            return []
        grown = self._revoke_allowance + (now - self._revoked_at) * LEASE_REVOKES_PER_SECOND
        self._revoke_allowance = min(grown, LEASE_REVOKE_BURST)
        self._revoked_at = now
        found: list[int] = []
        for at, lease_id in self._deadlines.take(now, int(self._revoke_allowance)):
            self._expired.setdefault(lease_id, at)
            self._deadlines.set(lease_id, now + self._retry)
            found.append(lease_id)
        self._revoke_allowance -= len(found)
        return found

    @property
    def next_expiry_at(self) -> float | None:
        """Nothing expires before this; None if nothing does at all."""
        return self._deadlines.next_at()

    def due_checkpoints(self, now: float) -> list[tuple[int, int]]:
        """Checkpoints (id, remaining TTL) that should enter the log now, at most one entry's."""
        found: list[tuple[int, int]] = []
        for _, lease_id in self._checkpoints.take(now, MAX_LEASE_CHECKPOINTS_PER_ENTRY):
            left = self._expiry(lease_id) - now
            if left <= 0:
                continue
            remaining = -int(-left // 1)
            if remaining < self._ttl[lease_id]:
                found.append((lease_id, remaining))
                self._proposed.add(lease_id)
            # Should the entry be lost, or the lease just have been renewed, the next one comes all the same.
            self._schedule_checkpoint(lease_id, now)
        return found

    def _schedule_checkpoint(self, lease_id: int, now: float) -> None:
        interval = self._checkpoint_interval
        if interval is None:
            return
        if self._remaining.get(lease_id, self._ttl[lease_id]) > interval:
            self._checkpoints.set(lease_id, now + interval)
        else:
            self._checkpoints.remove(lease_id)

    def promote(self, extend: float, now: float) -> None:
        """Become the primary: every lease lives for ``extend`` seconds more than it may have left.

        Where more than LEASE_EXPIRIES_PER_SECOND_AFTER_PROMOTION would expire within a second, the later
        ones are put off, so that they do not hold up the log all at once.
        """
        self._stop_watching()
        self.primary = True
        self._revoked_at = now
        expiries = sorted(
            (now + extend + self._remaining.get(lease_id, ttl), lease_id)
            for lease_id, ttl in self._ttl.items()
        )
        assigned: list[float] = []
        for expiry, lease_id in expiries:
            place = len(assigned) - LEASE_EXPIRIES_PER_SECOND_AFTER_PROMOTION
            at = expiry if place < 0 else max(expiry, assigned[place] + 1.0)
            assigned.append(at)
            self._deadlines.set(lease_id, at)
            self._schedule_checkpoint(lease_id, now)

    def demote(self) -> None:
        """Be no primary any more: leases expire by another one's clock."""
        self.primary = False
        self._stop_watching()

    def _stop_watching(self) -> None:
        """Forget everything that is the primary's alone; who waits has to ask the new one."""
        self._deadlines.clear()
        self._checkpoints.clear()
        self._expired.clear()
        self._proposed.clear()
        self._revoke_allowance = 0.0
        waiting, self._waiting = self._waiting, {}
        for callbacks in waiting.values():
            for callback in callbacks:
                callback(False)

    def check_invariants(self) -> None:
        """Assert what the module docstring promises; O(n)."""
        self._deadlines.check_invariants()
        self._checkpoints.check_invariants()
        attached = {key: lease_id for lease_id, keys in self._keys.items() for key in keys}
        assert attached == self._lease_of, "keys and leases differ"
        assert all(self._keys.values()), "a lease has no keys but a set of them"
        _only(self._keys, self._ttl)
        _only(self._remaining, self._ttl)
        _only(self._expired, self._ttl)
        _only(self._waiting, self._ttl)
        _only(self._proposed, self._ttl)
        assert self.primary or not (self._expired or self._waiting), "only a primary knows what has expired"
        timed = {lease_id for lease_id in self._ttl if self._deadlines.get(lease_id) is not None}
        assert len(timed) == len(self._deadlines), "a deadline of no lease"
        assert timed == (self._ttl.keys() if self.primary else set()), "a lease without a deadline"
        stored = {lease_id: remaining for lease_id, _, remaining in record.load(self._table)}
        kept = {lease_id: self._remaining.get(lease_id, 0) for lease_id in self._ttl}
        assert stored == kept, "the table holds other leases or checkpoints"


def _only(names: Iterable[int], leases: Mapping[int, int]) -> None:
    assert all(name in leases for name in names), "something is kept of a lease that is gone"
