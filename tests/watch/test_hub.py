"""What each watch is told, in the order it is told; numbers of looks and builds, not times."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from kvorum.mvcc.store import Store
from kvorum.proto.kv_pb2 import Event
from kvorum.proto.rpc_pb2 import WatchCreateRequest, WatchResponse
from kvorum.watch import response
from kvorum.watch.hub import WatchHub
from kvorum.watch.stream import DUPLICATE_ID, EMPTY_RANGE, WatchStream
from tests.watch.history import MemoryHistory
from tests.watch.reader import header


class Desk:
    """A hub on a small store."""

    def __init__(self, queue_bytes: int = 1 << 20, steps: int = 1000) -> None:
        self.history = MemoryHistory()
        self.hub = WatchHub(
            self.history,
            1,
            header,
            lambda: 0.0,
            queue_bytes=queue_bytes,
            catch_up_steps=steps,
            progress_interval_seconds=10.0,
        )

    def put(self, *keys: bytes, value: bytes = b"v") -> int:
        return self.apply([(key, value) for key in keys])

    def delete(self, key: bytes) -> int:
        return self.apply([(key, None)])

    def apply(self, operations: list[tuple[bytes, bytes | None]]) -> int:
        changes = self.history.apply(operations)
        self.hub.notify(self.history.revision, changes)
        return self.history.revision

    def catch_up(self) -> None:
        while self.hub.catch_up():
            pass


def told(stream: WatchStream) -> list[WatchResponse]:
    responses = []
    while (message := stream.first()) is not None:
        responses.append(WatchResponse.FromString(message))
        stream.advance()
    return responses


def watch(stream: WatchStream, key: bytes, now: float = 0.0, **options: object) -> int:
    request = WatchCreateRequest(key=key)
    request.MergeFrom(WatchCreateRequest(**options))  # type: ignore[arg-type]
    return stream.create(request, now)


def keys(responses: Iterable[WatchResponse]) -> list[bytes]:
    return [event.kv.key for got in responses for event in got.events]


def test_created_then_events_then_canceled() -> None:
    desk = Desk()
    stream = desk.hub.open_stream(0.0)
    assert watch(stream, b"k") == 0
    put = desk.put(b"k")
    assert desk.put(b"other") == put + 1
    delete = desk.delete(b"k")
    assert stream.cancel(0)
    assert not stream.cancel(0)
    desk.put(b"k")
    created, first, second, canceled = told(stream)
    assert (created.created, created.canceled, created.header.revision) == (True, False, 1)
    assert (first.header.revision, first.events[0].kv.value, first.events[0].type) == (put, b"v", Event.PUT)
    assert (second.header.revision, second.events[0].type) == (delete, Event.DELETE)
    assert second.events[0].kv.mod_revision == delete
    assert (canceled.canceled, canceled.created, canceled.cancel_reason) == (True, False, "")


def test_ids_are_given_out_as_etcd_does() -> None:
    desk = Desk()
    stream = desk.hub.open_stream(0.0)
    assert [watch(stream, b"k") for _ in range(2)] == [0, 1]
    assert watch(stream, b"k", watch_id=2) == 2
    assert watch(stream, b"k", watch_id=-7) == -7
    assert watch(stream, b"k") == 3
    assert watch(stream, b"k", watch_id=3) == -1
    assert watch(stream, b"k", range_end=b"a") == -1
    stream.cancel(1)
    assert watch(stream, b"k") == 4
    assert watch(stream, b"k", watch_id=1) == 1
    refused = [got for got in told(stream) if got.canceled and got.created]
    assert [(got.watch_id, got.cancel_reason) for got in refused] == [(-1, DUPLICATE_ID), (-1, EMPTY_RANGE)]


def test_a_compacted_start_ends_with_the_compact_revision_and_keeps_its_id() -> None:
    desk = Desk()
    for _ in range(5):
        desk.put(b"k")
    desk.history.compact(4)
    stream = desk.hub.open_stream(0.0)
    watch(stream, b"k", start_revision=3)
    created, canceled = told(stream)
    assert created.created
    assert (canceled.canceled, canceled.compact_revision, canceled.header.revision) == (True, 4, 0)
    assert canceled.cancel_reason == ""
    assert watch(stream, b"k", watch_id=0) == 1
    stream.request_progress()
    assert told(stream)[-1].watch_id == -1
    assert stream.cancel(0)
    assert told(stream)[-1].canceled


@pytest.mark.parametrize("start", [-1, -5])
def test_a_negative_start_is_what_etcd_makes_of_it(start: int) -> None:
    desk = Desk()
    desk.put(b"k")
    stream = desk.hub.open_stream(0.0)
    watch(stream, b"k", start_revision=start)
    desk.put(b"k")
    got = told(stream)[1:]
    if start == -1:
        assert [event.kv.mod_revision for event in got[0].events] == [3]
    else:
        assert (got[0].canceled, got[0].compact_revision) == (True, -1)


def test_progress_waits_for_who_is_behind_and_is_answered_once() -> None:
    desk = Desk(steps=2)
    for _ in range(5):
        desk.put(b"k")
    stream = desk.hub.open_stream(0.0)
    watch(stream, b"k", start_revision=2)
    stream.request_progress()
    stream.request_progress()
    assert desk.hub.catch_up()
    assert [got.watch_id for got in told(stream)] == [0, 0]
    desk.catch_up()
    *events, progress = told(stream)
    assert keys(events) == [b"k"] * 3
    assert (progress.watch_id, progress.header.revision, len(progress.events)) == (-1, 6, 0)
    stream.request_progress()
    assert [got.watch_id for got in told(stream)] == [-1]


def test_who_asked_hears_where_it_is_unless_it_had_events() -> None:
    desk = Desk()
    stream = desk.hub.open_stream(0.0)
    watch(stream, b"quiet", progress_notify=True)
    watch(stream, b"busy", progress_notify=True)
    watch(stream, b"silent")
    told(stream)
    desk.put(b"busy")
    desk.hub.progress.tick(9.9)
    assert keys(told(stream)) == [b"busy"]
    desk.hub.progress.tick(10.0)
    assert [(got.watch_id, got.header.revision) for got in told(stream)] == [(0, 2)]
    desk.hub.progress.tick(20.0)
    assert sorted(got.watch_id for got in told(stream)) == [0, 1]
    late = desk.hub.open_stream(0.0)
    watch(late, b"k", now=25.0, progress_notify=True)
    told(late)
    desk.hub.progress.tick(29.0)
    assert told(late) == []
    desk.hub.progress.tick(30.0)
    assert len(told(late)) == 1


def test_fragments_are_cut_where_etcd_cuts_them() -> None:
    desk = Desk()
    past = desk.hub
    kvs = desk.history.apply([(b"k%d" % number, b"x" * 10 * number) for number in range(8)])
    events = [response.Event(2, kv[2 : 2 + kv[1]], kv) for kv in kvs]
    batch = response.Batch(header(2), events, past)
    whole = WatchResponse.FromString(batch.message(0, b"\x10\x03"))
    for limit in range(1, whole.ByteSize() + 3):
        parts = []
        for body, count in batch.fragments(0, b"\x10\x03", limit):
            parts.append(WatchResponse.FromString(body))
            assert len(parts[-1].events) == count
        assert [list(part.events) for part in parts] == _cut(whole, limit)
        assert [part.fragment for part in parts] == [True] * (len(parts) - 1) + [False]
        assert {part.watch_id for part in parts} == {3}


def _cut(whole: WatchResponse, limit: int) -> list[list[Event]]:
    """The rule in etcd's own words: fill a response until the next event would make it too large."""
    if whole.ByteSize() < limit or len(whole.events) < 2:
        return [list(whole.events)]
    parts: list[list[Event]] = [[]]
    for event in whole.events:
        trial = WatchResponse(header=whole.header, watch_id=whole.watch_id, fragment=True)
        trial.events.extend([*parts[-1], event])
        if parts[-1] and trial.ByteSize() >= limit:
            parts.append([])
        parts[-1].append(event)
    return parts


def test_an_event_for_ten_thousand_watchers_is_built_once() -> None:
    desk = Desk()
    streams = [desk.hub.open_stream(0.0) for _ in range(10_000)]
    for stream in streams:
        watch(stream, b"a", range_end=b"z")
        told(stream)
    desk.put(b"k", value=b"x" * 100)
    assert desk.hub.events_built == 1
    assert len({id(stream.first()) for stream in streams}) == 1
    assert desk.hub.events == 10_000
    late = desk.hub.open_stream(0.0)
    for _ in range(10):
        watch(late, b"a", range_end=b"z", start_revision=2)
    desk.catch_up()
    assert desk.hub.events_built == 2
    assert keys(told(late)) == [b"k"] * 10


def test_history_is_read_once_for_all_who_come_back() -> None:
    desk = Desk(queue_bytes=1 << 24)
    for _ in range(200):
        desk.put(b"k")
    stream = desk.hub.open_stream(0.0)
    for number in range(1000):
        watch(stream, b"k", start_revision=2 + number % 150)
    desk.history.reads = 0
    desk.catch_up()
    # Each stretch between two starts looks one record ahead.
    assert desk.history.reads <= 200 + 150
    assert desk.hub.events_built == 200


def test_a_stalled_reader_costs_its_bound_and_holds_up_nobody() -> None:
    desk = Desk(queue_bytes=10_000)
    stalled, healthy = desk.hub.open_stream(0.0), desk.hub.open_stream(0.0)
    watch(stalled, b"k")
    watch(healthy, b"k")
    told(healthy)
    for number in range(500):
        desk.put(b"k", value=b"%0200d" % number)
        assert keys(told(healthy)) == [b"k"]
        assert stalled.queued_bytes < 10_000 + 400
    assert desk.hub.slow_watchers == 1
    received: list[bytes] = []
    while stalled.queue or desk.hub.slow_watchers:
        received += [event.kv.value for got in told(stalled) for event in got.events]
        desk.catch_up()
    assert received == [b"%0200d" % number for number in range(500)]


def test_a_parked_watcher_whose_history_is_compacted_is_told() -> None:
    desk = Desk(queue_bytes=500)
    stream = desk.hub.open_stream(0.0)
    watch(stream, b"k")
    for _ in range(10):
        desk.put(b"k", value=b"x" * 200)
    desk.history.compact(9)
    got = told(stream)
    desk.catch_up()
    got += told(stream)
    assert (got[-1].canceled, got[-1].compact_revision) == (True, 9)
    assert desk.hub.watchers == 0


def test_one_that_is_nearly_there_does_not_wait_for_one_that_reads_everything() -> None:
    desk = Desk(steps=10)
    for _ in range(1000):
        desk.put(b"k")
    far, near = desk.hub.open_stream(0.0), desk.hub.open_stream(0.0)
    watch(far, b"k", start_revision=2)
    watch(near, b"k", start_revision=998)
    for _ in range(4):
        desk.hub.catch_up()
    assert len(keys(told(near))) == 4
    assert len(keys(told(far))) < 1000
    desk.catch_up()
    assert far.lagging == 0


def test_all_queues_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvorum.watch.hub.WATCH_TOTAL_QUEUE_BYTES", 20_000)
    monkeypatch.setattr("kvorum.watch.hub.WATCH_STREAM_QUEUE_BYTES_UNDER_PRESSURE", 1_000)
    desk = Desk(queue_bytes=10_000)
    streams = [desk.hub.open_stream(0.0) for _ in range(50)]
    for stream in streams:
        watch(stream, b"k")
    for number in range(200):
        desk.put(b"k", value=b"%0200d" % number)
    assert desk.hub.queued_bytes < 20_000 + 50 * 1_400
    for _ in range(200):
        for stream in streams:
            told(stream)
        desk.catch_up()
    assert desk.hub.events == 50 * 200


def test_it_reads_the_real_store(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "db"), clock=lambda: 0.0, map_bytes=1 << 24, headroom_bytes=1 << 20)
    hub = WatchHub(store, store.revision, header, lambda: 0.0)
    live = hub.open_stream(0.0)
    watch(live, b"\0", range_end=b"\0", prev_kv=True)
    for number in range(50):
        with store.write() as txn:
            txn.put(b"k%d" % (number % 7), b"%d" % number, 0)
            if number % 5 == 4:
                txn.delete_range(b"k3")
        hub.notify(store.revision, txn.changes)
    late = hub.open_stream(0.0)
    watch(late, b"\0", range_end=b"\0", start_revision=2, prev_kv=True)
    while hub.catch_up():
        pass
    from_live = [event for got in told(live) for event in got.events]
    from_history = [event for got in told(late) for event in got.events]
    assert len(from_live) > 50
    assert any(event.type == Event.DELETE and event.prev_kv.value for event in from_live)
    assert from_live == from_history
    store.backend.abandon()
