"""A hub with a store and clients, and everything that can happen to them; checked after each step."""

from typing import Any

from kvorum.proto.rpc_pb2 import WatchResponse
from kvorum.watch.hub import WatchHub
from tests.watch.history import MemoryHistory
from tests.watch.reader import Reader, header

Operations = list[tuple[bytes, bytes | None]]


class World:
    """Its queues, slices and fragments are so small that everything happens all the time."""

    def __init__(self, queue_bytes: int, steps: int) -> None:
        self.history = MemoryHistory()
        self.hub = WatchHub(
            self.history,
            1,
            header,
            lambda: 0.5,
            max_response_bytes=120,
            queue_bytes=queue_bytes,
            catch_up_steps=steps,
            progress_interval_seconds=10.0,
        )
        self.now = 0.0
        self.lagging = False
        self.hub.on_lagging = self._on_lagging
        self.ready: set[int] = set()
        self.readers: list[Reader] = []
        self.open()

    def _on_lagging(self) -> None:
        self.lagging = True

    def reader(self, place: int) -> Reader:
        return self.readers[place % len(self.readers)]

    def transact(self, operations: Operations) -> None:
        changes = self.history.apply(operations)
        if changes:
            self.hub.notify(self.history.revision, changes)

    def create(self, place: int, past: int | None, watch_id: int, options: dict[str, Any]) -> None:
        reader = self.reader(place)
        start = 0 if past is None else max(1, self.history.revision - past)
        taken = watch_id in reader.stream.watchers
        created = reader.create(self.now, start_revision=start, watch_id=watch_id, **options)
        key, end = options["key"] or b"\0", options["range_end"]
        empty = bool(end) and end != b"\0" and key >= end
        assert (created == -1) == (empty or (taken and watch_id != 0))

    def cancel(self, place: int, which: int) -> None:
        stream = self.reader(place).stream
        ids = sorted(stream.watchers)
        assert not stream.cancel(99)
        if ids:
            assert stream.cancel(ids[which % len(ids)])

    def request_progress(self, place: int) -> None:
        self.reader(place).stream.request_progress()

    def open(self) -> None:
        if len(self.readers) < 4:
            self.readers.append(Reader(self.hub.open_stream(self.now), self.history))

    def close(self, place: int) -> None:
        reader = self.readers.pop(place % len(self.readers))
        reader.stream.close()
        assert reader.stream.first() is None
        if not self.readers:
            self.open()

    def read(self, place: int, count: int) -> None:
        self.reader(place).read(count)

    def catch_up(self) -> None:
        if self.lagging:
            self.lagging = self.hub.catch_up()

    def compact(self, back: int) -> None:
        revision = self.history.revision - back
        if revision > max(1, self.history.compact_revision):
            self.history.compact(revision)

    def tick(self, seconds: float) -> None:
        self.now += seconds
        self.hub.progress.tick(self.now)
        due = self.hub.progress.next_tick_at
        assert due is None or due > self.now

    def restore(self, transactions: list[Operations], compacted: bool) -> None:
        """A snapshot from the leader: revisions that nobody was told of one by one."""
        for operations in transactions:
            self.history.apply(operations)
        if compacted:
            self.compact(0)
        self.hub.restore(self.history.revision)

    def check(self) -> None:
        streams = [reader.stream for reader in self.readers]
        self.hub.check_invariants(streams)
        assert self.hub.streams == len(streams)
        assert self.lagging == bool(self.hub.laggards), "nobody was told that watchers are behind"
        self.ready.update(id(stream) for stream in self.hub.take_ready())
        queued = [len(WatchResponse.FromString(body).events) for stream in streams for body in stream.queue]
        assert sum(queued) == self.hub.queued_events, "queued events are miscounted"
        for stream in streams:
            assert not stream.queue or id(stream) in self.ready, "nobody was told that a stream has something"
            if not stream.queue:
                self.ready.discard(id(stream))

    def finish(self) -> None:
        """Everybody reads to the end: everything that matches must have come."""
        busy = True
        while busy:
            self.catch_up()
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
