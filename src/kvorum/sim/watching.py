"""Watchers, and what they were promised: every change of their range, in order, once, none left out.

A watcher reads sometimes slowly, so that its queue fills and it has to catch up from the store's history.
When its member dies it goes on at another one, from the revision after the last that it saw. If that is
compacted away it is told so, and begins again behind the compaction. There is one gap more that is let pass,
because etcd has it up to 3.5 (3.6 keeps those tombstones): who begins to watch *at* the compacted revision
does not hear of the keys that were deleted in it.
"""

import random
from typing import TYPE_CHECKING, Final, final

from kvorum.proto.kv_pb2 import Event
from kvorum.proto.rpc_pb2 import WatchCreateRequest, WatchResponse
from kvorum.sim.model import Change, in_range
from kvorum.sim.trace import ViolationError
from kvorum.watch.stream import WatchStream

if TYPE_CHECKING:
    from kvorum.sim.cluster import Cluster
    from kvorum.sim.member import Member, Running

CHECKER: Final = "watch"
RETRY_SECONDS: Final = 0.3


@final
class Watcher:
    """One watch of one range, over as many streams as it takes."""

    def __init__(self, cluster: "Cluster", name: str, key: bytes, end: bytes, dice: random.Random) -> None:
        self._cluster: Final = cluster
        self.name: Final = name
        self._key: Final = key
        self._end: Final = end
        self._dice: Final = dice
        self._running: Running | None = None
        self._member: Member | None = None
        self._stream: WatchStream | None = None
        self._reading = True
        self._scheduled = False
        self.next_revision = self._began = 1
        self._expected: list[Change] = []
        self._looked = 0
        self.events = 0

    # --- streams ------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Begin, or go on, at some member; again a little later if that is not possible now."""
        cluster = self._cluster
        member = cluster.nth(self._dice.randrange(1 << 30))
        running = member.running
        if running is None or running.process.paused:
            cluster.loop.call_later(RETRY_SECONDS, self.open)
            return
        cluster.trace.note(f"{self.name} watches at {member.name} from {self.next_revision}")
        self._began = self.next_revision
        hub = running.node.watch_hub
        stream = hub.open_stream(running.process.time())
        self._member, self._running, self._stream = member, running, stream
        member.streams[stream] = self
        stream.create(
            WatchCreateRequest(
                key=self._key,
                range_end=self._end,
                start_revision=self.next_revision,
                progress_notify=self._dice.random() < 0.5,
            ),
            running.process.time(),
        )
        if self._dice.random() < 0.3:
            self._stop_reading()

    def lost(self) -> None:
        """The member died, and with it the stream."""
        self._stream = None
        self._scheduled = False
        self._cluster.loop.call_later(self._dice.random() * RETRY_SECONDS, self.open)

    def _leave(self) -> None:
        """Close the stream and go elsewhere."""
        stream, member = self._stream, self._member
        assert stream is not None, "only an open stream is left"
        assert member is not None, "only an open stream is left"
        stream.close()
        member.streams.pop(stream, None)
        self.lost()

    def _stop_reading(self) -> None:
        self._reading = False
        self._cluster.loop.call_later(self._dice.expovariate(0.5), self._go_on_reading)

    def _go_on_reading(self) -> None:
        self._reading = True
        self.readable()

    def readable(self) -> None:
        """The stream has something to read."""
        running = self._running
        if self._reading and not self._scheduled and self._stream is not None and running is not None:
            self._scheduled = True
            running.process.call_later(0.001, self._read)

    def _read(self) -> None:
        self._scheduled = False
        stream = self._stream
        while stream is not None and self._reading:
            message = stream.first()
            if message is None:
                return
            stream.advance()
            self._take(WatchResponse.FromString(message))
            if stream is not self._stream:
                return
            if self._dice.random() < 0.02 and not self._cluster.is_closing:
                self._stop_reading()
            if self._dice.random() < 0.01 and not self._cluster.is_closing:
                self._leave()
                return

    # --- what is promised -----------------------------------------------------------------------------------

    def _take(self, response: WatchResponse) -> None:
        if response.canceled:
            self._ended(response)
            return
        self._look()
        for event in response.events:
            self._event(event)
        if response.events:
            self._whole(response.events[-1].kv.mod_revision)
        elif not response.created:
            self._progress(response.header.revision)

    def _look(self) -> None:
        """Gather what the model says has happened in the range since the last time."""
        changes = self._cluster.oracle.model.changes
        for change in changes[self._looked :]:
            if in_range(change.key, self._key, self._end) and change.revision >= self.next_revision:
                self._expected.append(change)
        self._looked = len(changes)

    def _may_be_lost(self, change: Change) -> bool:
        """Whether this is a deletion of the compacted revision at which the stream began."""
        is_lost = self._began in self._cluster.oracle.model.compactions
        return is_lost and change.now is None and change.revision == self._began

    def _pass_lost(self) -> None:
        while self.events < len(self._expected) and self._may_be_lost(self._expected[self.events]):
            self.events += 1

    def _is_next(self, event: Event) -> bool:
        change = self._expected[self.events]
        return (change.revision, change.key) == (event.kv.mod_revision, event.kv.key)

    def _event(self, event: Event) -> None:
        kv = event.kv
        if self.events < len(self._expected) and not self._is_next(event):
            self._pass_lost()
        what = f"{'DELETE' if event.type else 'PUT'} {kv.key.decode()} at {kv.mod_revision}"
        if self.events >= len(self._expected):
            raise ViolationError(CHECKER, f"{self.name} got {what}: a repeat, or of a time to come")
        change = self._expected[self.events]
        if (change.revision, change.key, change.now is None) != (kv.mod_revision, kv.key, bool(event.type)):
            raise ViolationError(CHECKER, f"{self.name} got {what} where {change} was to come")
        if change.now is not None and (change.now.value, change.now.version) != (kv.value, kv.version):
            raise ViolationError(CHECKER, f"{self.name} got {what} with another value than {change}")
        self.events += 1

    def _whole(self, revision: int) -> None:
        """A response ends with a whole revision."""
        if self.events < len(self._expected) and self._expected[self.events].revision == revision:
            raise ViolationError(CHECKER, f"{self.name} got only a part of revision {revision}")
        self.next_revision = revision + 1

    def _progress(self, revision: int) -> None:
        """Everything up to here has been sent, says a response without events."""
        if self.events < len(self._expected) and self._expected[self.events].revision < revision:
            self._pass_lost()
        if self.events < len(self._expected) and self._expected[self.events].revision <= revision:
            raise ViolationError(
                CHECKER, f"{self.name} was told of {revision}, and not of {self._expected[self.events]}"
            )
        self.next_revision = max(self.next_revision, revision + 1)

    def _ended(self, response: WatchResponse) -> None:
        compacted = response.compact_revision
        if not compacted:
            raise ViolationError(CHECKER, f"{self.name} was cancelled: {response.cancel_reason}")
        if self.next_revision > compacted:
            raise ViolationError(
                CHECKER, f"{self.name} was at {self.next_revision}, compacted is {compacted}"
            )
        self._cluster.trace.note(f"{self.name} fell behind the compaction at {compacted}")
        self._look()
        self.next_revision = compacted + 1
        while self.events < len(self._expected) and self._expected[self.events].revision <= compacted:
            self.events += 1
        self._leave()

    def check_complete(self) -> None:
        """After the storm: nothing is missing."""
        if not self.is_complete:
            raise ViolationError(CHECKER, f"{self.name} never got {self._expected[self.events]}")

    @property
    def is_complete(self) -> bool:
        """Whether everything has arrived."""
        self._look()
        return all(map(self._may_be_lost, self._expected[self.events :]))
