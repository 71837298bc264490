"""A store of a few lines for watchers to read, and every event it ever had."""

import bisect
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from kvorum.mvcc.keyvalue import encode, encode_key
from kvorum.mvcc.revision import main_of, revision
from kvorum.proto.wire import varint


class Change(NamedTuple):
    """What an event tells, for comparison with what a watcher received."""

    revision: int
    key: bytes
    deleted: bool
    value: bytes
    version: int
    prev_value: bytes | None


class Found(NamedTuple):
    kvs: list[bytes]


class MemoryHistory:
    """Keeps all records in order; compaction removes what etcd 3.5 removes, at once."""

    def __init__(self) -> None:
        self.revision = 1
        self.compact_revision = -1
        self.packed: list[bytes] = []
        self.stored: list[bytes] = []
        self.past: dict[bytes, list[tuple[int, bytes | None, bytes, int, int]]] = {}
        self.changes: list[Change] = []
        self.reads = 0

    def apply(self, operations: Sequence[tuple[bytes, bytes | None]]) -> list[bytes]:
        """One transaction of puts (key, value) and deletes (key, None); returns its changes as events."""
        main = self.revision + 1
        changed: list[bytes] = []
        before = {key: self._at(key, main - 1) for key, _ in operations}
        for key, value in operations:
            now = self._at(key, main)
            prev = before[key]
            if value is None:
                if now is None:
                    continue
                stored = encode_key(key)
                self._record(main, len(changed), True, stored)
                self.past[key].append((main, None, b"", 0, 0))
                changed.append(stored + b"\x18" + varint(main))
                self.changes.append(Change(main, key, True, b"", 0, prev[2] if prev else None))
                continue
            create, version = (now[3], now[4] + 1) if now else (main, 1)
            stored = encode(key, create, main, version, value, 0)
            self._record(main, len(changed), False, stored)
            self.past.setdefault(key, []).append((main, stored, value, create, version))
            changed.append(stored)
            known = prev[2] if prev and create != main else None
            self.changes.append(Change(main, key, False, value, version, known))
        if changed:
            self.revision = main
        return changed

    def _record(self, main: int, sub: int, tombstone: bool, stored: bytes) -> None:
        self.packed.append(revision(main, sub, tombstone))
        self.stored.append(stored)

    def _at(self, key: bytes, main: int) -> tuple[int, bytes | None, bytes, int, int] | None:
        found = [entry for entry in self.past.get(key, []) if entry[0] <= main]
        return found[-1] if found and found[-1][1] is not None else None

    def compact(self, main: int) -> None:
        self.compact_revision = main
        last: dict[bytes, bytes] = {}
        for packed, stored in zip(self.packed, self.stored, strict=True):
            if main_of(packed) <= main:
                last[stored[2 : 2 + stored[1]]] = packed
        kept = [
            (packed, stored)
            for packed, stored in zip(self.packed, self.stored, strict=True)
            if main_of(packed) > main or (last[stored[2 : 2 + stored[1]]] == packed and not packed[11] & 1)
        ]
        self.packed = [packed for packed, _ in kept]
        self.stored = [stored for _, stored in kept]

    # --- what the hub asks for ------------------------------------------------------------------------------

    def records(self, start: bytes) -> Iterator[tuple[bytes, bytes]]:
        for at in range(bisect.bisect_left(self.packed, start), len(self.packed)):
            self.reads += 1
            yield self.packed[at], self.stored[at]

    def range(self, key: bytes, range_end: bytes = b"", *, revision: int = 0) -> Found:
        assert not range_end
        assert revision >= self.compact_revision, "compacted"
        found = self._at(key, revision)
        return Found([found[1]] if found and found[1] else [])
