"""Puts, creates, cancels, stalls and compactions in whatever order: each watcher gets its events, once."""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from kvorum.proto.rpc_pb2 import WatchCreateRequest
from kvorum.watch.hub import WatchHub
from tests.watch.history import MemoryHistory
from tests.watch.reader import Reader, header

KEYS = st.sampled_from([b"a", b"aa", b"ab", b"b", b"ba", b"c", b"\xff", b"\xff\xff"])
ENDS = st.sampled_from([b"", b"", b"\0", b"b", b"ac", b"ab\x00", b"c", b"\xff\xff\xff"])
VALUES = st.binary(min_size=1, max_size=40)
OPERATIONS = st.dictionaries(KEYS, VALUES | st.none(), min_size=1, max_size=6).map(lambda d: list(d.items()))
FILTERS = st.sampled_from([[], [], [], [WatchCreateRequest.NOPUT], [WatchCreateRequest.NODELETE], [0, 1]])
PLACE = st.integers(0, 7)


class HubMachine(RuleBasedStateMachine):
    """A hub whose queues, slices and fragments are so small that everything happens all the time."""

    @initialize(queue=st.sampled_from([150, 600, 5000]), steps=st.sampled_from([1, 3, 20]))
    def begin(self, queue: int, steps: int) -> None:
        self.history = MemoryHistory()
        self.hub = WatchHub(
            self.history,
            1,
            header,
            lambda: 0.5,
            max_response_bytes=120,
            queue_bytes=queue,
            catch_up_steps=steps,
            progress_interval_seconds=10.0,
        )
        self.now = 0.0
        self.lagging = False
        self.hub.on_lagging = self._on_lagging
        self.ready: set[int] = set()
        self.readers = [Reader(self.hub.open_stream(0.0), self.history)]

    def _on_lagging(self) -> None:
        self.lagging = True

    def reader(self, place: int) -> Reader:
        return self.readers[place % len(self.readers)]

    @rule(operations=OPERATIONS)
    def transact(self, operations: list[tuple[bytes, bytes | None]]) -> None:
        changes = self.history.apply(operations)
        if changes:
            self.hub.notify(self.history.revision, changes)

    @rule(
        place=PLACE,
        key=KEYS | st.just(b""),
        end=ENDS,
        past=st.none() | st.integers(-3, 12),
        fragment=st.booleans(),
        filters=FILTERS,
        prev_kv=st.booleans(),
        progress=st.booleans(),
        watch_id=st.sampled_from([0, 0, 1, 2, 7]),
    )
    def create(self, place: int, key: bytes, end: bytes, past: int | None, fragment: bool, filters: list[int],
               prev_kv: bool, progress: bool, watch_id: int) -> None:  # fmt: skip
        reader = self.reader(place)
        start = 0 if past is None else max(1, self.history.revision - past)
        taken = watch_id in reader.stream.watchers
        created = reader.create(self.now, key=key, range_end=end, start_revision=start, fragment=fragment,
                                filters=filters, prev_kv=prev_kv, progress_notify=progress, watch_id=watch_id)  # fmt: skip
        empty = bool(end) and end != b"\0" and (key or b"\0") >= end
        assert (created == -1) == (empty or (taken and watch_id != 0))

    @rule(place=PLACE, which=PLACE)
    def cancel(self, place: int, which: int) -> None:
        stream = self.reader(place).stream
        ids = sorted(stream.watchers)
        assert not stream.cancel(99)
        if ids:
            assert stream.cancel(ids[which % len(ids)])

    @rule(place=PLACE)
    def request_progress(self, place: int) -> None:
        self.reader(place).stream.request_progress()

    @rule()
    def open(self) -> None:
        if len(self.readers) < 4:
            self.readers.append(Reader(self.hub.open_stream(self.now), self.history))

    @rule(place=PLACE)
    def close(self, place: int) -> None:
        reader = self.readers.pop(place % len(self.readers))
        reader.stream.close()
        assert reader.stream.first() is None
        if not self.readers:
            self.open()

    @rule(place=PLACE, count=st.integers(1, 6))
    def read(self, place: int, count: int) -> None:
        self.reader(place).read(count)

    @rule()
    def catch_up(self) -> None:
        if self.lagging:
            self.lagging = self.hub.catch_up()

    @rule(back=st.integers(0, 6))
    def compact(self, back: int) -> None:
        revision = self.history.revision - back
        if revision > max(1, self.history.compact_revision):
            self.history.compact(revision)

    @rule(seconds=st.sampled_from([1.0, 4.0, 11.0]))
    def tick(self, seconds: float) -> None:
        self.now += seconds
        self.hub.progress.tick(self.now)
        due = self.hub.progress.next_tick_at
        assert due is None or due > self.now

    @rule(operations=st.lists(OPERATIONS, max_size=3), compacted=st.booleans())
    def restore(self, operations: list[list[tuple[bytes, bytes | None]]], compacted: bool) -> None:
        """A snapshot from the leader: revisions that nobody was told of one by one."""
        for operation in operations:
            self.history.apply(operation)
        if compacted and self.history.revision > max(1, self.history.compact_revision):
            self.history.compact(self.history.revision)
        self.hub.restore(self.history.revision)

    @invariant()
    def holds(self) -> None:
        streams = [reader.stream for reader in self.readers]
        self.hub.check_invariants(streams)
        assert self.hub.streams == len(streams)
        assert self.lagging == bool(self.hub.laggards), "nobody was told that watchers are behind"
        self.ready.update(id(stream) for stream in self.hub.take_ready())
        for stream in streams:
            assert not stream.queue or id(stream) in self.ready, "nobody was told that a stream has something"
            if not stream.queue:
                self.ready.discard(id(stream))

    def teardown(self) -> None:
        if not hasattr(self, "hub"):
            return
        busy = True
        while busy:
            self.lagging = self.lagging and self.hub.catch_up()
            read = sum(reader.read() for reader in self.readers)
            busy = self.lagging or read > 0
        assert not self.hub.slow_watchers
        for reader in self.readers:
            for watch in reader.live():
                assert not watch.in_fragment
                watch.check_complete(self.history, self.history.revision)
            reader.stream.close()
        self.hub.check_invariants([])
        assert (self.hub.watchers, self.hub.queued_bytes, self.hub.streams) == (0, 0, 0)


TestHub = HubMachine.TestCase
TestHub.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
