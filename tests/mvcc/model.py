"""The store's dumb twin: every revision as a whole copy of the keyspace, every change in one list."""

import copy
from dataclasses import dataclass, field
from typing import NamedTuple

from crc32c import crc32c

from kvorum.proto import kv_pb2

Keyspace = dict[bytes, kv_pb2.KeyValue]


class Change(NamedTuple):
    """One record of the revision tree."""

    main: int
    sub: int
    tombstone: bool
    key: bytes
    kv: bytes


def in_range(key: bytes, start: bytes, end: bytes) -> bool:
    if not end:
        return key == start
    return key >= start and (end == b"\0" or key < end)


@dataclass
class Model:
    """etcd's keyspace as its documentation tells it."""

    states: list[Keyspace] = field(default_factory=lambda: [{}, {}])
    log: list[Change] = field(default_factory=list)
    compact_revision: int = -1
    pending: list[Change] = field(default_factory=list)
    keyspace: Keyspace = field(default_factory=dict)

    @property
    def revision(self) -> int:
        return len(self.states) - 1

    def put(self, key: bytes, value: bytes, lease: int) -> bytes:
        main = self.revision + 1
        old = self.keyspace.get(key)
        new = kv_pb2.KeyValue(
            key=key,
            value=value,
            create_revision=old.create_revision if old else main,
            mod_revision=main,
            version=old.version + 1 if old else 1,
            lease=lease,
        )
        self.keyspace = {**self.keyspace, key: new}
        kv = new.SerializeToString()
        self.pending.append(Change(main, len(self.pending), False, key, kv))
        return kv

    def delete_range(self, key: bytes, end: bytes) -> list[bytes]:
        doomed = sorted(name for name in self.keyspace if in_range(name, key, end))
        found = [self.keyspace[name].SerializeToString() for name in doomed]
        self.keyspace = {name: kv for name, kv in self.keyspace.items() if name not in doomed}
        for name in doomed:
            kv = kv_pb2.KeyValue(key=name).SerializeToString()
            self.pending.append(Change(self.revision + 1, len(self.pending), True, name, kv))
        return found

    def end(self) -> None:
        if self.pending:
            self.states.append(self.keyspace)
            self.log += self.pending
            self.pending = []

    def range(self, key: bytes, end: bytes, revision: int = 0) -> list[bytes]:
        """All KeyValues; a revision of 0 is what the open transaction sees."""
        state = self.states[revision] if revision else self.keyspace
        return [state[name].SerializeToString() for name in sorted(state) if in_range(name, key, end)]

    def records(self) -> list[Change]:
        """What the finished compaction leaves of the log."""
        return self._kept(self.log, self.compact_revision)

    @staticmethod
    def _kept(log: list[Change], revision: int) -> list[Change]:
        newest = {change.key: change for change in log if change.main <= revision}
        return [c for c in log if c.main > revision or (newest[c.key] == c and not c.tombstone)]

    def hash_kv(self, revision: int) -> int:
        records = [change for change in self.records() if change.main <= revision]
        keep = {change for change in self._kept(self.log, revision) if change.main <= revision}
        crc = crc32c(b"key")
        for change in records:
            if change.main <= self.compact_revision and keep and change not in keep:
                continue
            mark = b"t" if change.tombstone else b""
            name = change.main.to_bytes(8, "big") + b"_" + change.sub.to_bytes(8, "big") + mark
            crc = crc32c(change.kv, crc32c(name, crc))
        return crc

    def clone(self) -> "Model":
        return copy.copy(self)._own()

    def _own(self) -> "Model":
        self.states = list(self.states)
        self.log = list(self.log)
        self.pending = list(self.pending)
        return self
