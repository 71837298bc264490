"""The store against its dumb twin: random histories with compactions, restarts and crashes."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from kvorum.mvcc.check import check_database
from kvorum.mvcc.keyvalue import is_delete, key_of
from kvorum.mvcc.store import CompactedError, FutureRevisionError, RangeResult, Store
from kvorum.proto import kv_pb2
from tests.mvcc.model import Model

KEYS = [b"a", b"a\0", b"b", b"ba", b"bb", b"c" * 130, b"\x00", b"\xff", b"\xff\xff", b"k" * 200]
keys = st.sampled_from(KEYS) | st.binary(min_size=1, max_size=2)
ends = st.sampled_from([b"", b"\0", b"b", b"bb", b"c", b"\xff"]) | keys
values = st.binary(max_size=5) | st.sampled_from([b"", b"v" * 127, b"v" * 128, b"w" * 3000])
leases = st.sampled_from([0, 0, 0, 1, 300, 2**62])
puts = st.tuples(st.just("put"), keys, values, leases)
deletes = st.tuples(st.just("delete"), keys, ends, st.just(0))
reads = st.tuples(st.just("read"), keys, ends, st.integers(0, 3))
transactions = st.lists(st.one_of(puts, puts, deletes, reads), max_size=6)


class StoreMachine(RuleBasedStateMachine):
    """Every answer of the store is the model's; after a crash both are where the last commit was."""

    @initialize()
    def create(self) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.path = str(Path(self.directory.name) / "db")
        self.now = 0.0
        self.model = Model()
        self.committed = Model()
        self.index = self.committed_index = 0
        self.open()

    def open(self) -> None:
        self.store = Store.open(self.path, clock=lambda: self.now)
        self.committed = self.model.clone()
        self.leased = {key: kv.lease for key, kv in self.model.keyspace.items() if kv.lease}

    def teardown(self) -> None:
        self.store.check_invariants()
        self.store.close()
        assert check_database(self.path).problems == ()
        self.directory.cleanup()

    # --- changes ------------------------------------------------------------------------------------------

    @rule(operations=transactions)
    def write(self, operations: list[tuple[str, bytes, bytes, int]]) -> None:
        self.index += 1
        self.store.consistent_index = self.index
        txn = self.store.write()
        for name, key, second, number in operations:
            if name == "put":
                previous = txn.get(key)
                assert ([] if previous is None else [previous]) == self.model.range(key, b"")
                assert txn.put(key, second, number) == self.model.put(key, second, number)
            elif name == "read":
                self.compare(txn.range(key, second, limit=number), self.model.range(key, second), number)
            elif number:
                assert txn.delete_range_count(key, second) == len(self.model.delete_range(key, second))
            else:
                assert txn.delete_range(key, second) == self.model.delete_range(key, second)
        for change, expected in zip(txn.changes, self.model.pending, strict=True):
            assert key_of(change) == expected.key
            assert is_delete(change) == expected.tombstone
            assert kv_pb2.KeyValue.FromString(change).mod_revision == txn.main
        self.model.end()
        assert txn.end() == self.model.revision == self.store.revision

    @rule(data=st.data())
    def compact(self, data: st.DataObject) -> None:
        current = self.model.revision
        revision = data.draw(st.just(current) | st.integers(-1, current + 1))
        if revision <= self.model.compact_revision:
            with pytest.raises(CompactedError):
                self.store.compact(revision)
        elif revision > self.model.revision:
            with pytest.raises(FutureRevisionError):
                self.store.compact(revision)
        else:
            done: list[int] = []
            self.store.compact(revision, lambda: done.append(revision))
            self.model.compact_revision = revision
            if data.draw(st.booleans()):
                self.finish_compaction()
                assert done == [revision]

    @rule(steps=st.integers(1, 4))
    def compact_some(self, steps: int) -> None:
        commits = self.store.backend.commits
        for _ in range(steps):
            self.store.compaction_step(0.0, lambda: self.now)
        if self.store.backend.commits != commits:
            self.committed = self.model.clone()
            self.committed_index = self.index

    def finish_compaction(self) -> None:
        commits = self.store.backend.commits
        self.store.compact_now()
        assert not self.store.compacting
        if self.store.backend.commits != commits:
            self.committed = self.model.clone()
            self.committed_index = self.index

    # --- durability ---------------------------------------------------------------------------------------

    @rule(passed=st.sampled_from([0.0, 0.01, 0.2]))
    def time_passes(self, passed: float) -> None:
        self.now += passed
        if self.store.commit_if_due(self.now):
            self.committed = self.model.clone()
            self.committed_index = self.index

    @rule()
    def commit(self) -> None:
        self.store.commit()
        self.committed = self.model.clone()
        self.committed_index = self.index

    @rule()
    def restart(self) -> None:
        self.store.close()
        self.open()
        assert self.store.consistent_index == self.index
        self.committed_index = self.index

    @rule()
    def crash(self) -> None:
        self.store.backend.abandon()
        self.model = self.committed.clone()
        self.index = self.committed_index
        self.open()
        assert self.store.consistent_index == self.index

    # --- reads --------------------------------------------------------------------------------------------

    def compare(
        self, result: RangeResult, expected: list[bytes], limit: int, keys_only: bool = False
    ) -> None:
        page = expected[:limit] if limit else expected
        if keys_only:
            page = [stripped(kv) for kv in page]
        assert result.kvs == page
        assert result.count == len(expected)

    @rule(key=keys, end=ends, limit=st.integers(0, 4), keys_only=st.booleans(), data=st.data())
    def read(self, key: bytes, end: bytes, limit: int, keys_only: bool, data: st.DataObject) -> None:
        revision = data.draw(st.integers(0, self.model.revision + 1))
        view = self.store.read()
        if revision > self.model.revision:
            with pytest.raises(FutureRevisionError):
                view.range(key, end, revision=revision)
        elif 0 < revision < self.model.compact_revision:
            with pytest.raises(CompactedError):
                view.range(key, end, revision=revision)
        else:
            expected = self.model.range(key, end, revision)
            result = view.range(key, end, limit=limit, revision=revision, keys_only=keys_only)
            self.compare(result, expected, limit, keys_only)
            assert result.revision == self.model.revision
            count = view.range(key, end, limit=limit, revision=revision, count_only=True)
            assert (count.kvs, count.count) == ([], len(expected))

    @rule(key=keys)
    def get(self, key: bytes) -> None:
        found = self.store.get(key)
        assert ([] if found is None else [found]) == self.model.range(key, b"")

    @rule(data=st.data())
    def hash_kv(self, data: st.DataObject) -> None:
        revision = data.draw(st.integers(0, self.model.revision + 1))
        if 0 < revision <= self.model.compact_revision:
            with pytest.raises(CompactedError):
                self.store.hash_kv(revision)
        elif revision > self.model.revision:
            with pytest.raises(FutureRevisionError):
                self.store.hash_kv(revision)
        else:
            expected = self.model.hash_kv(revision or self.model.revision)
            current = self.model.revision
            assert self.store.hash_kv(revision) == (expected, self.model.compact_revision, current)

    @precondition(lambda self: not self.store.compacting)
    @rule()
    def records(self) -> None:
        expected = [(change.main, change.kv) for change in self.model.records()]
        assert [(int.from_bytes(k[:8], "big"), kv) for k, kv in self.store.records(b"\0")] == expected

    @invariant()
    def numbers(self) -> None:
        assert self.store.revision == self.model.revision
        assert self.store.compact_revision == self.model.compact_revision
        assert len(self.store.index) == len(self.model.keyspace)
        assert self.store.restored_leases == self.leased

    @invariant()
    def everything_agrees(self) -> None:
        self.store.check_invariants()


def stripped(kv: bytes) -> bytes:
    message = kv_pb2.KeyValue.FromString(kv)
    message.ClearField("value")
    return message.SerializeToString()


TestStore = StoreMachine.TestCase
TestStore.settings = settings(
    max_examples=100,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
