"""What a client makes of a stream's responses, held against all events there ever were."""

from dataclasses import dataclass, field
from typing import Any

from kvorum.proto.kv_pb2 import Event
from kvorum.proto.rpc_pb2 import WatchCreateRequest, WatchResponse
from kvorum.proto.wire import varint
from kvorum.watch.stream import WatchStream
from tests.watch.history import Change, MemoryHistory


def header(revision: int) -> bytes:
    payload = b"\x08\x01" + (b"\x18" + varint(revision) if revision else b"")
    return b"\x0a" + varint(len(payload)) + payload


def wanted_by(request: WatchCreateRequest, change: Change) -> bool:
    key, end = request.key or b"\0", request.range_end
    if not end:
        inside = change.key == key
    else:
        inside = change.key >= key and (end == b"\0" or change.key < end)
    unwanted = WatchCreateRequest.NODELETE if change.deleted else WatchCreateRequest.NOPUT
    return inside and unwanted not in request.filters


@dataclass
class Watch:
    """One watch as its client sees it, with etcd's guarantees checked as responses come in."""

    request: WatchCreateRequest
    start: int
    created: bool = False
    ended: bool = False
    compacted: bool = False
    in_fragment: bool = False
    received: list[Change] = field(default_factory=list)

    def expected(self, history: MemoryHistory) -> list[Change]:
        return [c for c in history.changes if c.revision >= self.start and wanted_by(self.request, c)]

    def take(self, event: Event, history: MemoryHistory) -> None:
        """Ordered, unique, reliable: the next event is the next of all that match."""
        expected = self.expected(history)
        kv = event.kv
        got = (kv.mod_revision, kv.key, event.type == Event.DELETE, kv.value, kv.version)
        place = len(self.received)
        while (
            place < len(expected)
            and tuple(expected[place][:5]) != got
            and self._may_miss(expected[place], history)
        ):
            self.received.append(expected[place])
            place += 1
        assert place < len(expected), f"an event too many: {got}"
        change = expected[place]
        assert tuple(change[:5]) == got, f"{got} instead of {change}"
        if not self.request.prev_kv:
            assert not event.HasField("prev_kv")
        elif event.HasField("prev_kv"):
            assert event.prev_kv.value == change.prev_value
        else:
            assert change.prev_value is None or change.revision - 1 < history.compact_revision
        self.received.append(change)

    def _may_miss(self, change: Change, history: MemoryHistory) -> bool:
        """Like etcd 3.5: who begins at a compacted revision may not see that revision's deletions."""
        return change.deleted and change.revision == self.start <= history.compact_revision

    def check_complete(self, history: MemoryHistory, revision: int) -> None:
        """All that matches up to a revision has come."""
        due = [change for change in self.expected(history) if change.revision <= revision]
        missing = [change for change in due[len(self.received) :] if not self._may_miss(change, history)]
        assert not missing, f"not received by revision {revision}: {missing}"


class Reader:
    """The client of one stream."""

    def __init__(self, stream: WatchStream, history: MemoryHistory) -> None:
        self.stream = stream
        self.history = history
        self.watches: dict[int, Watch] = {}
        self.asked: dict[int, list[Watch]] = {}
        """Watches by id whose creation the client has not read yet; an id can be given again meanwhile."""
        self.refusals: list[str] = []
        self.progress: list[int] = []
        self.progress_of: dict[int, list[int]] = {}

    def create(self, now: float = 0.0, **fields: Any) -> int:
        request = WatchCreateRequest(**fields)
        start = request.start_revision or self.history.revision + 1
        if start == -1 and self.history.compact_revision == -1:
            start = self.history.revision + 1
        watch_id = self.stream.create(request, now)
        if watch_id != -1:
            self.asked.setdefault(watch_id, []).append(Watch(request, start))
        return watch_id

    def read(self, limit: int = 1 << 30) -> int:
        """Take up to ``limit`` responses; returns how many there were."""
        count = 0
        while count < limit:
            message = self.stream.first()
            if message is None:
                break
            self.stream.advance()
            self._take(WatchResponse.FromString(message))
            count += 1
        return count

    def _take(self, got: WatchResponse) -> None:
        if got.created and got.canceled:
            self.refusals.append(got.cancel_reason)
            return
        if got.created:
            watch = self.asked[got.watch_id].pop(0)
            assert got.watch_id not in self.watches or self.watches[got.watch_id].ended
            watch.created = True
            self.watches[got.watch_id] = watch
            return
        if got.watch_id == -1 and not got.canceled and not got.events:
            self.progress.append(got.header.revision)
            for watch in self.watches.values():
                if not watch.ended:
                    watch.check_complete(self.history, got.header.revision)
            return
        watch = self.watches[got.watch_id]
        if got.canceled:
            assert not watch.ended or watch.compacted, "ended twice"
            assert not got.events
            assert not watch.in_fragment
            watch.ended = True
            if got.compact_revision:
                assert got.header.revision == 0
                assert watch.start <= got.compact_revision, "ended, but its history is there"
                assert not watch.received or watch.received[-1].revision < got.compact_revision
                watch.compacted = True
            return
        assert not watch.ended, "an event after the end"
        if not got.events:
            self.progress_of.setdefault(got.watch_id, []).append(got.header.revision)
            watch.check_complete(self.history, got.header.revision)
            return
        self._take_events(watch, got)

    def _take_events(self, watch: Watch, got: WatchResponse) -> None:
        revisions = [event.kv.mod_revision for event in got.events]
        assert got.header.revision >= revisions[-1]
        if watch.received and not watch.in_fragment:
            assert watch.received[-1].revision < revisions[0], "a revision was split"
        assert watch.request.fragment or not got.fragment
        for event in got.events:
            watch.take(event, self.history)
        watch.in_fragment = got.fragment

    def live(self) -> list[Watch]:
        return [watch for watch in self.watches.values() if not watch.ended]
