"""The log against the dumbest thing that could be one: a list of what was saved."""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from kvorum.raft.types import Entry, HardState
from kvorum.wal.memdisk import MemoryDisk
from kvorum.wal.record import WalSnapshot
from kvorum.wal.recovery import read_log, valid_snapshots
from kvorum.wal.segments import list_segments, purge
from tests.wal.logs import CONF_STATE, METADATA, VOTE, WAL_DIR, create, reopen

SEGMENT_BYTES = 2048


class LogAgainstList(RuleBasedStateMachine):
    """``durable_*`` is what may be asked for after a restart; ``saved`` holds index -> entry."""

    @initialize()
    def start(self) -> None:
        self.disk = MemoryDisk()
        self.wal = create(self.disk, segment_bytes=SEGMENT_BYTES)
        self.saved: list[Entry] = []
        self.term = 1
        self.commit = 0
        self.state = HardState()
        self.durable_state = HardState()
        self.markers = [WalSnapshot()]
        self.start_marker = WalSnapshot()

    def _save(self, state: HardState | None, entries: list[Entry]) -> None:
        batch = self.wal.prepare(state, entries)
        must_sync = bool(entries) or (
            state is not None and (state.term, state.vote) != (self.state.term, self.state.vote)
        )
        if state is not None:
            self.state = state
        assert batch.must_sync == must_sync
        if must_sync:
            self.wal.flush(batch)
            self.durable_state = self.state

    @rule(
        sizes=st.lists(st.integers(0, 700), min_size=1, max_size=4),
        back=st.integers(0, 3),
        with_state=st.booleans(),
    )
    def save(self, sizes: list[int], back: int, with_state: bool) -> None:
        """Append; a new term may first drop entries that are not committed (Raft Figure 7)."""
        back = min(back, len(self.saved) - self.commit)
        state = None
        if back:
            self.term += 1
        if back or with_state:
            state = HardState(self.term, VOTE, self.commit)
        del self.saved[len(self.saved) - back :]
        fresh = [
            Entry(self.term, len(self.saved) + 1 + n, n % 3, bytes(n % 256 for n in range(size)))
            for n, size in enumerate(sizes)
        ]
        self.saved += fresh
        self._save(state, fresh)

    @precondition(lambda self: self.saved)
    @rule(by=st.integers(0, 5))
    def commit_more(self, by: int) -> None:
        self.commit = min(len(self.saved), self.commit + by)
        self._save(HardState(self.term, VOTE, self.commit), [])

    @rule()
    def next_term(self) -> None:
        self.term += 1
        self._save(HardState(self.term, VOTE, self.commit), [])

    @precondition(lambda self: self.commit > 0)
    @rule(behind=st.integers(0, 4))
    def snapshot(self, behind: int) -> None:
        index = max(1, self.commit - behind)
        if index <= self.markers[-1].index:
            return
        marker = WalSnapshot(index, self.saved[index - 1].term, CONF_STATE)
        self.wal.save_snapshot(marker)
        self.markers.append(marker)
        self.durable_state = self.state

    @rule()
    def release_and_purge(self) -> None:
        """After it, the newest marker must still be a place to start from; older ones may not be."""
        self.wal.release_to(self.markers[-1].index)
        purge(WAL_DIR, ".wal", 5, self.disk)
        self.start_marker = self.markers[-1]

    @rule(ahead=st.booleans())
    def preallocate(self, ahead: bool) -> None:
        if ahead:
            self.wal.make_next_segment()

    @rule(clean=st.booleans())
    def restart(self, clean: bool) -> None:
        if clean:
            self.wal.close()
            self.durable_state = self.state
            assert self.disk.open_handles() == 0
        else:
            self.disk = self.disk.copy()  # the process is gone, what it wrote is not
        self.state = self.durable_state
        log = reopen(self.disk, self.start_marker, segment_bytes=SEGMENT_BYTES)
        self.wal = log.wal
        assert log.metadata == METADATA
        assert log.state == self.durable_state
        assert log.entries == self.saved[self.start_marker.index :]

    @invariant()
    def sound(self) -> None:
        self.wal.check_invariants()

    @invariant()
    def a_reader_beside_sees_the_same(self) -> None:
        reader = read_log(WAL_DIR, start=self.start_marker, disk=self.disk)
        assert reader.entries == self.saved[self.start_marker.index :]
        assert reader.state == self.durable_state
        names = [segment.path for segment in list_segments(self.disk, WAL_DIR)]
        assert names[-len(self.wal.segment_paths()) :] == self.wal.segment_paths()
        valid = valid_snapshots(WAL_DIR, disk=self.disk)
        assert set(valid) <= {marker for marker in self.markers if marker.index <= self.durable_state.commit}
        if self.markers[-1].index <= self.durable_state.commit:
            assert self.markers[-1] in valid or self.markers[-1].index == 0

    def teardown(self) -> None:
        if hasattr(self, "wal"):
            self.wal.close()
            assert self.disk.open_handles() == 0


TestLogAgainstList = LogAgainstList.TestCase
TestLogAgainstList.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
