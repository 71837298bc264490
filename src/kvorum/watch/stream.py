"""One Watch stream: its watchers by id, and the queue of responses that its reader has not taken yet.

The queue keeps everything in order: a watcher's events, then what says that it ended; progress after the
events it vouches for. It is bounded (the hub's ``queue_bytes``): while it is full, events are
not queued but their watchers parked, and once the reader has taken half of it they catch up from the
history. Answers to requests are queued regardless, so whoever reads the requests stops while the stream
is ``backlogged``.

Ids and answers are etcd's (``server/mvcc/watcher.go``, ``server/etcdserver/api/v3rpc/watch.go``).
"""

from collections import deque
from typing import TYPE_CHECKING, Final, final

from kvorum import errors
from kvorum.limits import MAX_WATCHERS_PER_STREAM, WATCH_RESPONSE_OVERHEAD_BYTES
from kvorum.proto.rpc_pb2 import WatchCreateRequest
from kvorum.watch import response
from kvorum.watch.watcher import NO_DELETE, NO_PUT, PREV_KV, Watcher

if TYPE_CHECKING:
    from kvorum.watch.hub import WatchHub

INVALID_WATCH_ID: Final = -1
"""The id in answers that belong to no watch (etcd ``clientv3``: InvalidWatchID)."""

EMPTY_RANGE: Final = "mvcc: watcher range is empty"
DUPLICATE_ID: Final = "mvcc: duplicate watch ID provided on the WatchStream"

_PREFIX_BYTES: Final = 5
"""What a message has in front of it on the wire (gRPC's length prefix)."""

_FILTERS: Final[dict[int, int]] = {
    int(WatchCreateRequest.FilterType.NOPUT): NO_PUT,
    int(WatchCreateRequest.FilterType.NODELETE): NO_DELETE,
}


@final
class WatchStream:
    """Made by ``WatchHub.open_stream``. After ``close`` nothing may be called but ``close``."""

    __slots__ = (
        "_event_counts",
        "_hub",
        "_next_id",
        "closed",
        "lagging",
        "opened_at",
        "parked",
        "progress_interval",
        "progress_wanted",
        "queue",
        "queued_bytes",
        "ready",
        "reporting",
        "watchers",
    )

    def __init__(self, hub: "WatchHub", opened_at: float) -> None:
        self._hub: Final = hub
        self.opened_at: Final = opened_at
        self.watchers: Final[dict[int, Watcher]] = {}
        """By id, with those whose history was compacted away until the client cancels them."""
        self.reporting: Final[dict[int, Watcher]] = {}
        """Those that asked for progress notifications."""
        self.progress_interval = 0.0
        """Seconds between their notifications, once somebody has asked."""
        self.parked: dict[Watcher, None] = {}
        """Watchers that missed an event because the queue was full."""
        self.lagging = 0
        """Watchers that are not up to date: parked or catching up."""
        self.progress_wanted = False
        """A progress request waits for all watchers to be up to date."""
        self.queue: Final[deque[bytes]] = deque()
        self._event_counts: Final[deque[int]] = deque()
        """How many events each response of the queue has."""
        self.queued_bytes = 0
        self.ready = False
        """Listed for ``WatchHub.take_ready``."""
        self.closed = False
        self._next_id = 0

    # --- requests -----------------------------------------------------------------------------------------

    def create(self, request: WatchCreateRequest, now: float) -> int:
        """Answer a create request, and watch from then on; returns the id, -1 if refused."""
        key = request.key or b"\0"
        end = request.range_end
        watch_id = request.watch_id
        if end and end != b"\0" and key >= end:
            return self._refuse(INVALID_WATCH_ID, EMPTY_RANGE)
        if watch_id in self.watchers and watch_id:
            return self._refuse(INVALID_WATCH_ID, DUPLICATE_ID)
        if len(self.watchers) >= MAX_WATCHERS_PER_STREAM:
            return self._refuse(INVALID_WATCH_ID, errors.ERR_REQUEST_TOO_MANY_REQUESTS.message)
        if not watch_id:
            watch_id = self._free_id()
        variant = PREV_KV if request.prev_kv else 0
        for kind in request.filters:
            variant |= _FILTERS.get(kind, 0)
        hub = self._hub
        watcher = Watcher(
            self,
            watch_id,
            key,
            None if end == b"\0" else end,
            single=not end,
            variant=variant,
            fragment=request.fragment,
            progress=request.progress_notify,
            next_revision=request.start_revision or hub.revision + 1,
        )
        self.watchers[watch_id] = watcher
        if request.progress_notify:
            self.reporting[watch_id] = watcher
            hub.progress.add(self, now)
        self.push(response.created(hub.header(hub.revision), watch_id))
        hub.start(watcher)
        return watch_id

    def _free_id(self) -> int:
        while self._next_id in self.watchers:
            self._next_id += 1
        self._next_id += 1
        return self._next_id - 1

    def refuse(self, request: WatchCreateRequest, reason: str) -> None:
        """Answer a create request that is not permitted, as etcd 3.5 does: with the id that was asked for."""
        self._refuse(request.watch_id, reason)

    def _refuse(self, watch_id: int, reason: str) -> int:
        hub = self._hub
        self.push(response.refused(hub.header(hub.revision), watch_id, reason))
        return INVALID_WATCH_ID

    def cancel(self, watch_id: int) -> bool:
        """Answer a cancel request: the watch ends behind what is queued. An unknown id gets no answer."""
        watcher = self.watchers.pop(watch_id, None)
        if watcher is None:
            return False
        self.reporting.pop(watch_id, None)
        hub = self._hub
        hub.stop(watcher)
        self.push(response.canceled(hub.header(hub.revision), watch_id))
        self.answer_progress()
        return True

    def request_progress(self) -> None:
        """Answer a progress request as soon as all watchers of the stream are up to date.

        etcd 3.5.1 answers at once, and so may vouch for events it has yet to send; etcd 3.6 drops the
        request if a watcher is behind (``watchable_store.go``: progressIfSync). Requests that come
        meanwhile are answered together.
        """
        self.progress_wanted = True
        self.answer_progress()

    def answer_progress(self) -> None:
        """Answer a progress request that waits, if nothing is behind any more."""
        if self.progress_wanted and not self.lagging:
            self.progress_wanted = False
            self.push(response.progress(self._hub.header(self._hub.revision), INVALID_WATCH_ID))

    def close(self) -> None:
        """End all watches without a word, and forget what is queued."""
        if self.closed:
            return
        self.closed = True
        hub = self._hub
        for watcher in self.watchers.values():
            hub.stop(watcher)
        self.watchers.clear()
        self.reporting.clear()
        hub.queued_bytes -= self.queued_bytes
        hub.queued_events -= sum(self._event_counts)
        self.queue.clear()
        self._event_counts.clear()
        self.queued_bytes = 0
        hub.streams -= 1

    # --- the queue ----------------------------------------------------------------------------------------

    def push(self, message: bytes, events: int = 0) -> None:
        """Queue a response with so many events."""
        size = len(message) + WATCH_RESPONSE_OVERHEAD_BYTES
        self.queue.append(message)
        self._event_counts.append(events)
        self.queued_bytes += size
        hub = self._hub
        hub.queued_bytes += size
        hub.queued_events += events
        if not self.ready:
            hub.note_ready(self)

    def first(self) -> bytes | None:
        """The response that has to be written next, None if there is none."""
        return self.queue[0] if self.queue else None

    def first_few(self, max_bytes: int) -> list[bytes]:
        """The responses that have to be written next, so many that they stay within a size, at least one."""
        few: list[bytes] = []
        size = 0
        for message in self.queue:
            size += len(message) + _PREFIX_BYTES
            if size > max_bytes and few:
                break
            few.append(message)
        return few

    def advance(self, count: int = 1) -> None:
        """The first response, or so many, have been written."""
        queue, event_counts = self.queue, self._event_counts
        size = WATCH_RESPONSE_OVERHEAD_BYTES * count
        events = 0
        for _ in range(count):
            size += len(queue.popleft())
            events += event_counts.popleft()
        self.queued_bytes -= size
        hub = self._hub
        hub.queued_bytes -= size
        hub.queued_events -= events
        if self.parked and self.queued_bytes <= hub.queue_bound() >> 1:
            hub.unpark(self)

    @property
    def backlogged(self) -> bool:
        """Whether further requests should wait until the client has read."""
        return self.queued_bytes >= self._hub.queue_bytes
