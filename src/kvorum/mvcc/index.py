"""The key index: key -> revisions, in memory, sans-IO.

What etcd keeps in a tree of objects (``server/mvcc/index.go``, ``key_index.go``) is four structures here:

- ``_head``: key -> state, for keys that exist now. The state of a key put once is its packed revision, 12
  bytes; of a
  key put again its revision, create revision and version, 28 bytes.
- ``_past``: key -> the packed revisions before the head's (for a deleted key: all, the last one a tombstone),
  in order,
  concatenated. Keys without a past, most of them, are not in it.
- ``_live``: the keys of ``_head`` in order, which can tell ranks: counts at the head cost no more than two
  searches.
- ``_dead``: the keys of ``_past`` that do not exist now, in order, for reads at old revisions.

bytes and dicts of bytes are not tracked by the garbage collector, and one key costs 48 bytes here besides its
own bytes, its dict entry and its place in a block. etcd's generations are not stored: a tombstone ends one,
and the create revision and version that a generation would tell are needed only at the head; every older
KeyValue holds its own.

A read at an old revision R needs, of each key in its range, the newest revision up to R. A page finds its
keys lazily. Its count is exact without visiting the whole range where few keys changed since R: the count
now, corrected by those.

Invariants (``check_invariants``): ``_live`` = keys of ``_head``; ``_dead`` = keys of ``_past`` less those of
``_head``; a past ascends, is never empty, and is older than its head; a dead key's past ends with a
tombstone.
"""

from collections.abc import Iterable, Iterator
from heapq import merge
from itertools import islice, pairwise
from typing import Final, final

from kvorum.mvcc.keyset import KeySet
from kvorum.mvcc.keyvalue import key_end, key_of, parse
from kvorum.mvcc.revision import REVISION_BYTES, after_main, is_tombstone

_PACKED_PAST_BYTES: Final = 16 * REVISION_BYTES
"""A past up to this long is bytes (small, copied to grow); a longer one a bytearray, which grows in place."""
_VERSION_1: Final = (1).to_bytes(8, "big")
_VERSION_2: Final = (2).to_bytes(8, "big")


def _bisect(past: bytes | bytearray, bound: bytes) -> int:
    """How many records of a past are before the bound."""
    low, high = 0, len(past) // REVISION_BYTES
    # Most questions are about recent revisions.
    if high and past[-REVISION_BYTES:] < bound:
        return high
    while low < high:
        middle = (low + high) >> 1
        if past[middle * REVISION_BYTES : (middle + 1) * REVISION_BYTES] < bound:
            low = middle + 1
        else:
            high = middle
    return low


def _loaded_state(revision: bytes, kv: bytes, at: int) -> tuple[bytes, int]:
    """The state of a key, and its lease, from its newest KeyValue; ``at`` is the offset behind the key."""
    # Nearly always: created by this put, so that create and mod revision are the same varint and the version
    # is 1, and no lease behind the value.
    mod = kv.find(b"\x18", at + 2)
    size = mod - at
    if kv[at + 1 : mod] == kv[mod + 1 : mod + size] and kv[mod + size : mod + size + 2] == b"\x20\x01":
        at = mod + size + 2
        rest = len(kv) - at
        if rest == 0:
            return revision, 0
        length, behind = kv[at + 1], 2
        if length > 0x7F and kv[at + 2] < 0x80:
            length, behind = length & 0x7F | kv[at + 2] << 7, 3
        if kv[at] == 0x2A and length + behind == rest:
            return revision, 0
    view = parse(kv)
    if view.version == 1 and view.create_revision == view.mod_revision:
        return revision, view.lease
    create = view.create_revision.to_bytes(8, "big")
    return b"".join((revision, create, view.version.to_bytes(8, "big"))), view.lease


@final
class KeyIndex:
    """Keys in order, each with its revisions. A range is [key, end), and an end of None has no upper
    bound."""

    __slots__ = ("_dead", "_head", "_live", "_past")

    def __init__(self) -> None:
        self._head: dict[bytes, bytes] = {}
        self._past: dict[bytes, bytes | bytearray] = {}
        self._live = KeySet()
        self._dead = KeySet()

    # --- writing ----------------------------------------------------------------------------------------

    def put(self, key: bytes, revision: bytes) -> bytes:
        """Record a put; returns the key's new state, 12 bytes if this put created it."""
        state = self._head.get(key)
        if state is None:
            self._head[key] = revision
            if key in self._past:
                self._dead.remove(key)
            self._live.add(key)
            return revision
        if len(state) == REVISION_BYTES:
            self._bury(key, state)
            state = b"".join((revision, state[:8], _VERSION_2))
        else:
            self._bury(key, state[:12])
            version = int.from_bytes(state[20:], "big") + 1
            state = b"".join((revision, state[12:20], version.to_bytes(8, "big")))
        self._head[key] = state
        return state

    def _bury(self, key: bytes, revision: bytes) -> None:
        past = self._past.get(key)
        if past is None:
            self._past[key] = revision
        elif type(past) is bytearray:
            past += revision
        elif len(past) < _PACKED_PAST_BYTES:
            self._past[key] = past + revision
        else:
            self._past[key] = bytearray(past + revision)

    def tombstone(self, key: bytes, revision: bytes) -> None:
        """Record the deletion of a key that exists."""
        state = self._head.pop(key)
        self._bury(key, state[:REVISION_BYTES] + revision)
        self._live.remove(key)
        self._dead.add(key)

    # --- reading at the head ----------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._head)

    def get(self, key: bytes) -> bytes | None:
        """The key's packed revision now, None if it does not exist."""
        state = self._head.get(key)
        if state is None or len(state) == REVISION_BYTES:
            return state
        return state[:REVISION_BYTES]

    def count(self, key: bytes, end: bytes | None) -> int:
        """How many keys of the range exist now."""
        return self._live.count(key, end)

    def keys(self, key: bytes, end: bytes | None, limit: int = 0) -> list[bytes]:
        """The first keys of the range that exist now; a limit of 0 is none."""
        return self._live.page(key, end, limit)

    def revisions(self, keys: Iterable[bytes]) -> list[bytes]:
        """The packed revisions of keys that exist now."""
        return [state if len(state) == 12 else state[:12] for state in map(self._head.__getitem__, keys)]

    # --- reading at an old revision -----------------------------------------------------------------------

    def newest_before(self, key: bytes, bound: bytes) -> bytes | None:
        """The key's newest packed revision before the bound, a tombstone or not."""
        state = self._head.get(key)
        if state is not None and state < bound:
            return state[:REVISION_BYTES]
        past = self._past.get(key)
        if past is None:
            return None
        at = _bisect(past, bound) * REVISION_BYTES
        return bytes(past[at - REVISION_BYTES : at]) if at else None

    def get_at(self, key: bytes, main: int) -> bytes | None:
        """The key's packed revision as of the main revision, None if it did not exist then."""
        return self._existing(key, after_main(main))

    def revisions_at(self, key: bytes, end: bytes | None, main: int, limit: int) -> tuple[list[bytes], int]:
        """The first revisions of the range as of a main revision, and the exact count; a look at each key."""
        found = self._all_at(key, end, after_main(main))
        return (found[:limit] if limit else found), len(found)

    def _all_at(self, key: bytes, end: bytes | None, bound: bytes) -> list[bytes]:
        keys = self._live.page(key, end)
        dead = self._dead.page(key, end)
        if dead:
            keys += dead
            keys.sort()
        return [found for found in self._existing_at(keys, bound) if found is not None]

    def _existing_at(self, keys: Iterable[bytes], bound: bytes) -> Iterator[bytes | None]:
        """Of each key its newest revision before the bound, None where it did not exist then."""
        get, existing = self._head.get, self._existing
        return (
            state[:REVISION_BYTES] if (state := get(key, bound)) < bound else existing(key, bound)
            for key in keys
        )

    def _existing(self, key: bytes, bound: bytes) -> bytes | None:
        found = self.newest_before(key, bound)
        return None if found is None or is_tombstone(found) else found

    def page_at(self, key: bytes, end: bytes | None, main: int, limit: int) -> list[bytes]:
        """The first ``limit`` revisions of the range as of a main revision; looks at no key behind them."""
        keys = self._live.iterate(key, end)
        if self._dead.count(key, end):
            keys = merge(keys, self._dead.iterate(key, end))
        found = (found for found in self._existing_at(keys, after_main(main)) if found is not None)
        return list(islice(found, limit))

    def count_by_changes(self, key: bytes, end: bytes | None, main: int, changed: Iterable[bytes]) -> int:
        """The count as of a main revision, given the distinct keys that changed since; a look at each of
        those."""
        count = self._live.count(key, end)
        bound = after_main(main)
        for name in changed:
            if name < key or (end is not None and name >= end):
                continue
            count += (self._existing(name, bound) is not None) - (name in self._head)
        return count

    # --- compaction ---------------------------------------------------------------------------------------

    def prune(self, key: bytes, bound: bytes, limit: int) -> bytes:
        """Forget the key's revisions that a compaction below the bound removes, the oldest ``limit`` of them.

        Kept is, as by etcd (``key_index.go``), the newest revision before the bound unless it is a tombstone.
        Returns the forgotten ones, packed and concatenated; empty when nothing is left to forget.
        """
        past = self._past.get(key)
        if past is None:
            return b""
        doomed = _bisect(past, bound)
        state = self._head.get(key)
        superseded = state is not None and state < bound
        if doomed and not superseded and not past[doomed * REVISION_BYTES - 1] & 1:
            doomed -= 1
        if not doomed:
            return b""
        cut = min(doomed, limit) * REVISION_BYTES
        gone = bytes(past[:cut])
        if cut == len(past):
            del self._past[key]
            if state is None:
                self._dead.remove(key)
        elif len(past) - cut > _PACKED_PAST_BYTES:
            assert isinstance(past, bytearray)
            del past[:cut]
        else:
            self._past[key] = bytes(past[cut:])
        return gone

    # --- loading ------------------------------------------------------------------------------------------

    def load(self, records: Iterable[tuple[bytes, bytes]], leases: dict[bytes, int]) -> bytes:
        """Take in records of the revision tree in order: (packed revision, KeyValue bytes); returns the last
        revision.

        ``leases`` is kept as key -> lease of the keys that exist and have one. ``load_finished`` must follow.
        """
        head = self._head
        revision = b""
        for revision, kv in records:
            at = 2 + kv[1] if kv[1] < 0x80 else key_end(kv)
            key = kv[2:at] if kv[1] < 0x80 else key_of(kv)
            state = head.get(key)
            if revision[11] & 1:
                # Without a head it is what a compaction that was cut short has left of the key.
                self._bury(key, revision if state is None else state[:12] + revision)
                head.pop(key, None)
                leases.pop(key, None)
                continue
            if state is not None:
                self._bury(key, state[:12])
                if leases:
                    leases.pop(key, None)
            head[key], lease = _loaded_state(revision, kv, at)
            if lease:
                leases[key] = lease
        return revision

    def load_finished(self) -> None:
        """Put the loaded keys in order.

        No step takes long: where this runs beside a loop, no more than a step keeps that from the
        interpreter.
        """
        self._live = KeySet.of(self._head)
        self._dead = KeySet.of([key for key in self._past if key not in self._head])

    def trade(self, other: "KeyIndex") -> None:
        """Take another index's keys and give it this one's."""
        self._head, other._head = other._head, self._head
        self._past, other._past = other._past, self._past
        self._live, other._live = other._live, self._live
        self._dead, other._dead = other._dead, self._dead

    def dismantle(self) -> None:
        """Forget everything, step by step: to drop a million keys at once takes a fraction of a second."""
        for keys in (self._live, self._dead):
            keys.dismantle()
        for entries in (self._head, self._past):
            while entries:
                entries.popitem()

    # --- looking inside -----------------------------------------------------------------------------------

    def history(self) -> Iterator[tuple[bytes, bytes]]:
        """Every key that is known with its packed revisions, concatenated, in no order (for checks and
        dumps)."""
        for key, state in self._head.items():
            yield key, bytes(self._past.get(key, b"")) + state[:REVISION_BYTES]
        for key in self._dead:
            yield key, bytes(self._past[key])

    def check_invariants(self) -> None:
        """Assert what the module docstring promises; O(n)."""
        self._live.check_invariants()
        self._dead.check_invariants()
        assert list(self._live) == sorted(self._head), "live keys differ from the head"
        assert list(self._dead) == sorted(self._past.keys() - self._head.keys()), (
            "dead keys differ from the past"
        )
        for key, past in self._past.items():
            records = [past[at : at + REVISION_BYTES] for at in range(0, len(past), REVISION_BYTES)]
            state = self._head.get(key)
            assert records, f"an empty past: {key!r}"
            assert all(a < b for a, b in pairwise(records)), f"a past out of order: {key!r}"
            if state is None:
                assert is_tombstone(records[-1]), f"a dead key without a tombstone: {key!r}"
            else:
                assert records[-1] < state[:REVISION_BYTES], f"a past after its head: {key!r}"
        for key, state in self._head.items():
            assert len(state) in (REVISION_BYTES, 28), f"a state of {len(state)} bytes: {key!r}"
            assert not is_tombstone(state), f"a live key with a tombstone: {key!r}"
            assert len(state) == 12 or state[20:] >= _VERSION_1, f"a version of zero: {key!r}"
