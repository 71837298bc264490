"""Watch over gRPC: requests and their answers, what a response holds, and what watchers cost.

What one history of events means to a hub is tested in ``tests/watch``; here are the service, the streams
and the program.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kvorum.errors import CANCELLED, INTERNAL
from kvorum.proto import rpc_pb2 as pb
from kvorum.proto.kv_pb2 import Event
from tests.support import process
from tests.support.client import Client, op_put
from tests.support.inside import running_inside
from tests.support.process import Member
from tests.support.streams import Bidi, WatchCall, metric

LEADER = (("hasleader", "true"),)


@pytest.fixture(scope="module")
def member(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Member]:
    flags = ["--watch-progress-notify-interval=100ms"]
    with Member(process.kvorum(), tmp_path_factory.mktemp("watch") / "m.etcd", flags=flags) as member:
        yield member


@pytest.fixture
def client(member: Member) -> Iterator[Client]:
    with Client(member.endpoint) as client:
        yield client


def test_create_and_cancel(client: Client) -> None:
    revision = client.put(b"create/a", b"1").header.revision
    with WatchCall(client, metadata=LEADER) as watch:
        created = watch.create(b"create/", b"create0")
        assert created == pb.WatchResponse(header=created.header, watch_id=0, created=True)
        assert created.header.revision == revision
        assert created.header.member_id == client.status().header.member_id
        assert watch.create(b"other", watch_id=7).watch_id == 7
        put = client.put(b"create/b", b"2").header
        told = watch.take()
        assert told.header == put
        assert (told.watch_id, told.fragment, told.compact_revision) == (0, False, 0)
        event = told.events[0]
        assert (event.type, event.kv.key, event.kv.value) == (Event.PUT, b"create/b", b"2")
        assert event.kv.mod_revision == put.revision
        watch.cancel(0)
        canceled = watch.take()
        assert canceled == pb.WatchResponse(header=canceled.header, watch_id=0, canceled=True)
        client.put(b"create/b", b"3")
        watch.nothing_before_progress()


def test_refused_requests(client: Client) -> None:
    """What cannot be watched is refused in the answer; the stream lives on. No answer to nonsense."""
    with WatchCall(client) as watch:
        for range_end in (b"a", b"b"):
            refused = watch.create(b"b", range_end)
            assert (refused.watch_id, refused.canceled) == (-1, True)
            assert refused.cancel_reason == "mvcc: watcher range is empty"
        assert watch.create(b"b", watch_id=5).watch_id == 5
        twice = watch.create(b"b", watch_id=5)
        assert (twice.watch_id, twice.canceled) == (-1, True)
        assert twice.cancel_reason == "mvcc: duplicate watch ID provided on the WatchStream"
        watch.cancel(99)
        watch.send(pb.WatchRequest())
        watch.nothing_before_progress()


def test_bytes_that_are_no_request_end_the_stream(client: Client) -> None:
    with Bidi(client, "etcdserverpb.Watch/Watch", pb.WatchResponse) as call:
        # A header whose length runs past the message's end, as field 1 of the union.
        call.send(pb.PutRequest(key=b"\xff" * 3))
        assert call.status()[0] == INTERNAL


def test_half_closing_ends_the_requests_only(client: Client) -> None:
    with WatchCall(client) as watch:
        watch.create(b"half")
        watch.half_close()
        client.put(b"half", b"1")
        assert watch.take().events[0].kv.value == b"1"


def test_cancelled_streams_leave_nothing(member: Member, client: Client) -> None:
    with WatchCall(client) as other:
        other.create(b"leave/other")
        with WatchCall(client) as watch:
            watch.create(b"leave")
            watch.create(b"leave/", b"leave0", start_revision=1 << 40)
            assert metric(member.url, "etcd_debugging_mvcc_watcher_total") == 3
            watch.close()
            assert watch.status()[0] == CANCELLED
        client.put(b"leave/other", b"")  # the cancellation came before it, on the same connection
        assert other.take().events
        assert metric(member.url, "etcd_debugging_mvcc_watcher_total") == 1
        assert metric(member.url, "etcd_debugging_mvcc_watch_stream_total") == 1


def test_from_the_past_with_previous_values_and_filters(client: Client) -> None:
    first = client.put(b"past", b"1").header.revision
    client.put(b"past", b"2")
    client.delete(b"past")
    last = client.put(b"past", b"3").header.revision
    everything = [(Event.PUT, b"1", b""), (Event.PUT, b"2", b"1"), (Event.DELETE, b"", b"2")]
    everything.append((Event.PUT, b"3", b""))

    def watched(**fields: Any) -> list[tuple[int, bytes, bytes]]:
        with WatchCall(client) as watch:
            watch.create(b"past", start_revision=first, **fields)
            response = watch.take()
            assert response.header.revision == last
            return [(event.type, event.kv.value, event.prev_kv.value) for event in response.events]

    assert watched(prev_kv=True) == everything
    assert watched() == [(kind, value, b"") for kind, value, _ in everything]
    assert watched(prev_kv=True, filters=[pb.WatchCreateRequest.NODELETE]) == [*everything[:2], everything[3]]
    assert watched(prev_kv=True, filters=[pb.WatchCreateRequest.NOPUT]) == [everything[2]]


def test_from_the_future(client: Client) -> None:
    revision = client.put(b"future", b"0").header.revision
    with WatchCall(client) as watch:
        watch.create(b"future", start_revision=revision + 2)
        client.put(b"future", b"1")
        client.put(b"future", b"2")
        assert [event.kv.value for event in watch.events(1)] == [b"2"]


def test_a_compacted_start_is_canceled_with_the_compact_revision(client: Client) -> None:
    old = client.put(b"compacted", b"1").header.revision
    client.put(b"compacted", b"2")
    last = client.put(b"compacted", b"3").header.revision
    client.compact(last)
    with WatchCall(client) as watch:
        watch.create(b"compacted", start_revision=old)
        canceled = watch.take()
        assert (canceled.canceled, canceled.compact_revision) == (True, last)
        assert (canceled.cancel_reason, canceled.header.revision) == ("", 0)
        watch.create(b"compacted", start_revision=last)
        assert watch.events(1)[0].kv.value == b"3"


def test_fragments(client: Client) -> None:
    """A response above the request limit is cut between events, and only for who asked for it."""
    large = b"x" * 900_000
    first = client.put(b"fragment", large).header.revision
    client.put(b"fragment", large)
    with WatchCall(client) as watch:
        watch.create(b"fragment", start_revision=first, prev_kv=True, fragment=True)
        parts = [watch.take(), watch.take()]
        assert [part.fragment for part in parts] == [True, False]
        assert [len(part.events) for part in parts] == [1, 1]
        assert parts[0].header == parts[1].header
        watch.cancel(0)
        assert watch.take().canceled
        watch.create(b"fragment", start_revision=first, prev_kv=True)
        assert len(watch.take().events) == 2


def test_progress_is_told_where_nothing_happens(client: Client) -> None:
    """Only watches that asked for it hear, and those that had events wait for the next time."""
    revision = client.put(b"elsewhere", b"").header.revision
    with WatchCall(client) as watch:
        watch.create(b"progress", watch_id=3, progress_notify=True)
        watch.create(b"silent", watch_id=4)
        for _ in range(2):
            told = watch.take()
            assert told == pb.WatchResponse(header=told.header, watch_id=3)
            assert told.header.revision >= revision


def test_events_of_many_streams_on_one_connection(client: Client) -> None:
    watches = [WatchCall(client) for _ in range(200)]
    try:
        for watch in watches:
            watch.create(b"many/", b"many0")
        client.txn(success=[op_put(b"many/%d" % n, b"") for n in range(5)])
        assert all(len(watch.take().events) == 5 for watch in watches)
    finally:
        for watch in watches:
            watch.close()


def test_ten_thousand_watchers_share_what_an_event_costs(tmp_path: Path) -> None:
    """Each event is made once, whoever watches; a watch elsewhere costs nothing."""
    streams, each = 4, 2500
    with running_inside(tmp_path / "m.etcd") as inside, Client(inside.endpoint) as client:
        calls = [WatchCall(client) for _ in range(streams)]
        for call in calls:
            for _ in range(each):
                call.ask(b"shared/", b"shared0")
            for _ in range(each):
                assert call.take().created
        hub = inside.node.watch_hub
        before = inside.call(lambda: (hub.events_built, hub.events))
        client.txn(success=[op_put(b"shared/a", b"1"), op_put(b"shared/b", b"1"), op_put(b"other", b"1")])
        client.put(b"shared/a", b"2")
        for call in calls:
            responses = [call.take() for _ in range(2 * each)]
            assert sorted(response.watch_id for response in responses) == sorted([*range(each)] * 2)
            assert sum(len(response.events) for response in responses) == 3 * each
            call.close()
        after = inside.call(lambda: (hub.events_built, hub.events))
        assert after[0] - before[0] == 3
        assert after[1] - before[1] == 3 * streams * each


def test_a_stalled_reader_costs_its_queue_and_holds_up_nobody(member: Member, client: Client) -> None:
    """Sixteen times what its queue holds goes past it; others hear at once; then it hears everything."""
    size, count = 256 * 1024, 256
    with Client(member.endpoint) as slow, WatchCall(slow) as stalled, WatchCall(client) as other:
        stalled.create(b"stalled")
        other.create(b"stalled")
        value = b"x" * size
        queued = metric(member.url, "etcd_debugging_mvcc_events_total")
        for n in range(count):
            client.put(b"stalled", value)
            assert other.events(1)[0].kv.version == n + 1
            if n % 32 == 31:
                pending = metric(member.url, "etcd_debugging_mvcc_pending_events_total")
                assert pending * size <= 4 * 1024 * 1024 + size
        assert metric(member.url, "etcd_debugging_mvcc_slow_watcher_total") == 1
        assert metric(member.url, "etcd_debugging_mvcc_events_total") - queued < 2 * count
        assert [event.kv.version for event in stalled.events(count)] == list(range(1, count + 1))
        assert metric(member.url, "etcd_debugging_mvcc_slow_watcher_total") == 0
        client.put(b"stalled", b"last")
        assert stalled.events(1)[0].kv.value == b"last"


def test_a_member_that_stops_tells_its_watchers(tmp_path: Path) -> None:
    member = Member(process.kvorum(), tmp_path / "m.etcd")
    with member, Client(member.endpoint) as client, WatchCall(client) as watch:
        watch.create(b"a")
        member.stop(deadline_seconds=4)  # less than the grace for calls that do not end
        code, text = watch.status()
        assert (code, text) == (14, "etcdserver: server stopped")
