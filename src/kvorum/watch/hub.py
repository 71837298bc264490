"""The owner of all watchers: who is up to date, who catches up, and what every stream has yet to be sent.

Up to date ("synced") watchers are found by ``notify``, which is called for every transaction in the order
of revisions, within the apply pass, so that whatever it queues is durable in the log and readable.
Watchers that start in the past, or whose stream's queue was full, catch up from the store's history, a
slice at a time (``catch_up``), and join the others once they have seen the revision that is current.

Every watcher sees each event of its range from its start revision on exactly once and in order, because
it is in one place at a time, and each place knows which revision it needs next:

    synced       every revision up to the hub's has been offered to it
    a cohort     every revision before the cohort's cursor has
    parked       every revision before its ``next_revision`` has

Moving between them keeps that number; compaction beyond it ends the watcher, and its client is told.
Events of one revision are queued together, or, if the queue is full, all of them wait.

Compared with etcd (``server/mvcc/watchable_store.go``) there are no victims: a response that cannot be
queued is thrown away and made again from the history, so that a stalled reader costs no more than its
queue.

Invariants (``check_invariants``) are the sentences above that can be checked without the history.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Final, final

from kvorum.limits import (
    WATCH_CATCH_UP_STEPS,
    WATCH_PROGRESS_INTERVAL_SECONDS,
    WATCH_RESPONSE_BYTES,
    WATCH_STREAM_QUEUE_BYTES,
    WATCH_STREAM_QUEUE_BYTES_UNDER_PRESSURE,
    WATCH_TOTAL_QUEUE_BYTES,
)
from kvorum.mvcc.keyvalue import key_of
from kvorum.watch import response
from kvorum.watch.history import History, read_changes
from kvorum.watch.invariants import check_invariants
from kvorum.watch.laggards import Laggards
from kvorum.watch.progress import ProgressTimer
from kvorum.watch.response import Batch, Event, sort_out
from kvorum.watch.stream import WatchStream
from kvorum.watch.watcher import Watcher, WatcherGroup


def _nothing() -> None:
    """Nobody wants to be called."""


@final
class WatchHub:
    """All watch streams of a member.

    Args:
        history: the store.
        revision: the store's current revision.
        header: encodes a response header for a revision, as the field 1 that it is in every response.
        jitter: random numbers from [0, 1), to spread the streams' progress notifications.
        max_response_bytes: responses of watchers that asked for fragments are cut to this.
        queue_bytes: what a stream's queue may hold before events have to wait.
        catch_up_steps: records read, or watchers moved, in a slice of catching up.
        progress_interval_seconds: how often watchers without events hear where they are.

    ``on_ready`` is called when a stream gets something to write while none is listed (then ask
    ``take_ready``), and ``on_lagging`` when ``catch_up`` gets something to do. Both are called in the
    middle of things: they should only schedule.
    """

    __slots__ = (
        "_catch_up_steps",
        "_history",
        "_max_response_bytes",
        "_ready",
        "events",
        "events_built",
        "header",
        "laggards",
        "on_lagging",
        "on_ready",
        "progress",
        "queue_bytes",
        "queued_bytes",
        "queued_events",
        "revision",
        "slow_watchers",
        "streams",
        "synced",
        "watchers",
    )

    def __init__(
        self,
        history: History,
        revision: int,
        header: Callable[[int], bytes],
        jitter: Callable[[], float],
        *,
        max_response_bytes: int = WATCH_RESPONSE_BYTES,
        queue_bytes: int = WATCH_STREAM_QUEUE_BYTES,
        catch_up_steps: int = WATCH_CATCH_UP_STEPS,
        progress_interval_seconds: float = WATCH_PROGRESS_INTERVAL_SECONDS,
    ) -> None:
        self._history: Final = history
        self.header: Final = header
        self._max_response_bytes: Final = max_response_bytes
        self.queue_bytes: Final = queue_bytes
        self._catch_up_steps: Final = catch_up_steps
        self.progress: Final = ProgressTimer(self, progress_interval_seconds, jitter)
        self.on_ready: Callable[[], None] = _nothing
        self.on_lagging: Callable[[], None] = _nothing
        self.revision = revision
        """The last revision that ``notify`` was told of."""
        self.synced = WatcherGroup()
        self.laggards: Final = Laggards()
        self._ready: list[WatchStream] = []
        self.queued_bytes = 0
        """What the queues of all streams hold."""
        self.queued_events = 0
        """Events in these queues."""
        self.streams = self.watchers = self.slow_watchers = 0
        """How many there are; slow are those that are parked or catch up."""
        self.events = 0
        """Events queued for watchers, each counted once for each of them."""
        self.events_built = 0
        """Events made out of changes that somebody watches."""

    # --- streams and their watchers -----------------------------------------------------------------------

    def open_stream(self, now: float) -> WatchStream:
        """A new stream; ``now`` is the clock's, in seconds."""
        self.streams += 1
        return WatchStream(self, now)

    def start(self, watcher: Watcher) -> None:
        """Put a new watcher where its start revision belongs."""
        self.watchers += 1
        next_revision = watcher.next_revision
        if next_revision < 0 and next_revision >= self._history.compact_revision:
            # etcd looks for history at minus one, finds none, and goes on at the head.
            next_revision = watcher.next_revision = self.revision + 1
        if next_revision > self.revision:
            self.synced.add(watcher)
            return
        self._lag(watcher)
        if next_revision < self._history.compact_revision:
            self._end_compacted(watcher)
        else:
            self._enlist(watcher, next_revision)

    def stop(self, watcher: Watcher) -> None:
        """Take a watcher out of wherever it is."""
        if watcher.ended:
            return
        if watcher.group is not self.synced:
            self._unlag(watcher)
        if watcher.group is not None:
            watcher.group.remove(watcher)
        else:
            del watcher.stream.parked[watcher]
        self.watchers -= 1

    def _lag(self, watcher: Watcher) -> None:
        self.slow_watchers += 1
        watcher.stream.lagging += 1

    def _unlag(self, watcher: Watcher) -> None:
        self.slow_watchers -= 1
        watcher.stream.lagging -= 1

    def _enlist(self, watcher: Watcher, cursor: int) -> None:
        """Let a watcher catch up from a revision on."""
        if not self.laggards:
            self.on_lagging()
        self.laggards.add(watcher, cursor)

    def _end_compacted(self, watcher: Watcher) -> None:
        """Tell the client that what a watcher needs next is gone."""
        stream = watcher.stream
        watcher.ended = True
        self.watchers -= 1
        self._unlag(watcher)
        stream.push(response.compacted(self.header(0), watcher.id, self._history.compact_revision))
        stream.answer_progress()

    # --- what was applied -----------------------------------------------------------------------------------

    def notify(self, revision: int, changes: Sequence[bytes]) -> None:
        """Queue the events of the transaction that made ``revision``, the one after the hub's.

        Args:
            changes: a KeyValue per change, in order: a put's, or a deletion's with key and mod_revision.
        """
        assert revision == self.revision + 1, "a revision was left out"
        self.revision = revision
        synced = self.synced
        if not synced.size:
            return
        if len(changes) == 1:
            kv = changes[0]
            key = key_of(kv)
            lots = synced.match(key)
            if lots:
                self.events_built += 1
                batch = Batch(self.header(revision), [Event(revision, key, kv)], self)
                bound = self.queue_bound()
                for lot in lots:
                    self._park(self._deliver(lot, batch, revision, bound), revision)
            return
        events = [(revision, key_of(kv), kv) for kv in changes]
        for lot, batch in self._sort_out(synced, events):
            self._park(self._deliver(lot, batch, revision, self.queue_bound()), revision)

    def _sort_out(
        self, group: WatcherGroup, changes: list[tuple[int, bytes, bytes]]
    ) -> list[tuple[list[Watcher], Batch]]:
        sorted_out, built = sort_out(group, changes, self.header(self.revision), self)
        self.events_built += built
        return sorted_out

    def _deliver(self, lot: list[Watcher], batch: Batch, revision: int, bound: int) -> list[Watcher]:
        """Queue a batch for the watchers of a lot; returns those whose queue is full.

        Watchers that start after ``revision`` are passed over.
        """
        full: list[Watcher] = []
        variant = -1
        sent = events = 0
        for watcher in lot:
            if watcher.next_revision > revision:
                continue
            if watcher.variant != variant:
                variant = watcher.variant
                events = len(batch.fields(variant))
                messages = batch.messages(variant)
            if not events:
                continue
            stream = watcher.stream
            if stream.queued_bytes >= bound:
                full.append(watcher)
                continue
            sent += events
            if watcher.plain:
                message = messages.get(watcher.id_field)
                if message is None:
                    message = batch.message(variant, watcher.id_field)
                stream.push(message, events)
            else:
                self._push_specially(watcher, batch, events)
        self.events += sent
        return full

    def _push_specially(self, watcher: Watcher, batch: Batch, events: int) -> None:
        watcher.quiet = False
        stream = watcher.stream
        if watcher.fragment:
            for part, count in batch.fragments(watcher.variant, watcher.id_field, self._max_response_bytes):
                stream.push(part, count)
        else:
            stream.push(batch.message(watcher.variant, watcher.id_field), events)

    def is_synced(self, watcher: Watcher) -> bool:
        """Whether a watcher has been offered everything up to the hub's revision."""
        return watcher.group is self.synced

    def _park(self, watchers: list[Watcher], revision: int) -> None:
        """Set watchers aside that did not get the events of ``revision``, until their streams have room."""
        for watcher in watchers:
            assert watcher.group is not None, "only watchers of a group are offered events"
            if watcher.group is self.synced:
                self._lag(watcher)
            watcher.group.remove(watcher)
            watcher.next_revision = revision
            watcher.resuming = True
            watcher.stream.parked[watcher] = None

    def unpark(self, stream: WatchStream) -> None:
        """A stream has room again: its parked watchers catch up."""
        parked, stream.parked = stream.parked, {}
        for watcher in parked:
            self._enlist(watcher, watcher.next_revision)

    # --- catching up ----------------------------------------------------------------------------------------

    def catch_up(self) -> bool:
        """Let watchers that are behind see a slice of the history; True if there is more to do.

        A slice ends with a whole revision, so it may be somewhat longer than ``catch_up_steps``.
        """
        laggards = self.laggards
        steps = self._catch_up_steps
        laggards.next_turn()
        while steps > 0 and laggards:
            cursor, cohort = laggards.pop(self.revision - self._catch_up_steps)
            steps -= 1 + self._advance(cursor, cohort, steps)
        return bool(laggards)

    def _advance(self, cursor: int, cohort: WatcherGroup, steps: int) -> int:
        """Bring a cohort forward; returns the steps it took."""
        if not cohort.size:
            return 0
        if cursor <= self._history.compact_revision:
            return self._end_too_late(cursor, cohort)
        if cursor > self.revision:
            return self._join_synced(cursor, cohort, steps)
        return self._read_on(cursor, cohort, steps)

    def _read_on(self, cursor: int, cohort: WatcherGroup, steps: int) -> int:
        """Let a cohort see history from its cursor on; returns the steps it took."""
        until = min(self.laggards.next_cursor(cursor, self.revision + 1), self.revision + 1)
        changes, reached = read_changes(self._history, cursor, until, steps)
        for lot, batch in self._sort_out(cohort, changes):
            self._park(self._deliver(lot, batch, cursor, self.queue_bound()), batch.events[0].revision)
        return len(changes) + self.laggards.add_cohort(cohort, reached)

    def _end_too_late(self, cursor: int, cohort: WatcherGroup) -> int:
        """End those of a cohort whose history is gone; returns the steps it took.

        A compaction removes the deletions of its own revision, so who has to go on with that one is too
        late; who begins there is let in, as by etcd, and sees the puts.
        """
        compact_revision = self._history.compact_revision
        watchers = cohort.take(cohort.size)
        for watcher in watchers:
            if cursor < compact_revision or watcher.resuming or watcher.next_revision < cursor:
                self._end_compacted(watcher)
            else:
                cohort.add(watcher)
        if cohort.size:
            return len(watchers) + self._read_on(cursor, cohort, 1)
        return len(watchers)

    def _join_synced(self, cursor: int, cohort: WatcherGroup, steps: int) -> int:
        """Watchers that have seen everything are up to date; those beyond the slice wait for the next."""
        caught_up = cohort.take(steps)
        for watcher in caught_up:
            watcher.next_revision = cursor
            self.synced.add(watcher)
            self._unlag(watcher)
            watcher.stream.answer_progress()
        if cohort.size:
            self.laggards.add_cohort(cohort, cursor)
        return len(caught_up)

    def restore(self, revision: int) -> None:
        """The store was replaced by a snapshot at ``revision``: who was up to date has to catch up."""
        next_revision = self.revision + 1
        synced, self.synced = self.synced, WatcherGroup()
        self.revision = revision
        for watcher in synced.take(synced.size):
            start = max(next_revision, watcher.next_revision)
            if start > revision:
                self.synced.add(watcher)
            else:
                watcher.next_revision = start
                watcher.resuming = True
                self._lag(watcher)
                self._enlist(watcher, start)

    def previous(self, key: bytes, revision: int) -> bytes | None:
        """The KeyValue of a key as of a revision (``response.Past``)."""
        if revision < self._history.compact_revision:
            return None
        kvs = self._history.range(key, revision=revision).kvs
        return kvs[0] if kvs else None

    # --- queues -------------------------------------------------------------------------------------------

    def queue_bound(self) -> int:
        """Bytes a stream's queue may hold before events wait; less while all queues hold too much."""
        if self.queued_bytes >= WATCH_TOTAL_QUEUE_BYTES:
            return min(self.queue_bytes, WATCH_STREAM_QUEUE_BYTES_UNDER_PRESSURE)
        return self.queue_bytes

    def note_ready(self, stream: WatchStream) -> None:
        """List a stream that has something to write."""
        stream.ready = True
        self._ready.append(stream)
        if len(self._ready) == 1:
            self.on_ready()

    def take_ready(self) -> list[WatchStream]:
        """The streams that got something to write since this was last asked; some may be closed by now."""
        ready, self._ready = self._ready, []
        for stream in ready:
            stream.ready = False
        return ready

    def check_invariants(self, streams: Iterable[WatchStream]) -> None:
        """Assert what the module docstring promises, given all open streams; O(n)."""
        check_invariants(self, streams)
