"""Who leads an election, as one who observes it is told: the state behind ``Election.Observe``.

The leader is the oldest key below the election's name. While it lives each of its values is passed on; once
it is deleted the store is asked who leads now, and if nobody does, the first key that is put leads.

    UNSURE -- asked, somebody leads --> FOLLOWING -- deleted, or too much is queued --> UNSURE
       \\-- asked, nobody leads --> VACANT -- first put --> FOLLOWING

Values that nobody has taken are queued up to a bound; beyond it the queue is dropped and the store asked, so
a slow observer misses values in between and never the last one, which is what etcd promises too. Source: etcd
``client/v3/concurrency/election.go`` (observe).
"""

from collections import deque
from collections.abc import Callable
from typing import Final, final

from kvorum.proto.kv_pb2 import KeyValue

UNSURE: Final = 0
VACANT: Final = 1
FOLLOWING: Final = 2

Led = tuple[int, bytes]
"""A revision for the header, and the leader's serialized KeyValue."""


@final
class Leadership:
    """One observer's view of an election. ``wake`` is called when there is something to ask or to take.

    Invariant: what is in ``_queue`` happened before the store was, or has to be, asked again.
    """

    __slots__ = ("_key", "_max_queue_bytes", "_queue", "_queued_bytes", "_wake", "state")

    def __init__(self, wake: Callable[[], None], max_queue_bytes: int) -> None:
        self.state = UNSURE
        self._key = b""
        self._queue: Final[deque[Led]] = deque()
        self._queued_bytes = 0
        self._wake: Final = wake
        self._max_queue_bytes: Final = max_queue_bytes

    def asked(self, revision: int, kv: bytes | None) -> None:
        """The store, as it stands, says who leads; every change from now on must be told."""
        assert self.state == UNSURE, "asked without need"
        assert not self._queue, "what is queued happened before and goes first"
        if kv is None:
            self.state = VACANT
        else:
            self._follow(revision, kv)

    def told(self, key: bytes, kv: bytes | None) -> None:
        """A key of the election was put, or deleted (None); an empty key: all may be different now."""
        if not key:
            self.state = UNSURE
            self._wake()
        elif self.state == VACANT:
            if kv is not None:
                self._follow(KeyValue.FromString(kv).mod_revision, kv)
        elif self.state == FOLLOWING and key == self._key:
            if kv is None:
                self.state = UNSURE
                self._wake()
            else:
                self._push(KeyValue.FromString(kv).mod_revision, kv)

    def _follow(self, revision: int, kv: bytes) -> None:
        self.state = FOLLOWING
        self._key = KeyValue.FromString(kv).key
        self._push(revision, kv)

    def _push(self, revision: int, kv: bytes) -> None:
        if self._queue and self._queued_bytes + len(kv) > self._max_queue_bytes:
            self._queue.clear()
            self._queued_bytes = 0
            self.state = UNSURE
        else:
            self._queue.append((revision, kv))
            self._queued_bytes += len(kv)
        self._wake()

    @property
    def queued(self) -> int:
        """How many leaders and values wait to be taken."""
        return len(self._queue)

    def take(self) -> Led | None:
        """The next leader or value to pass on, None if there is nothing yet."""
        if not self._queue:
            return None
        led = self._queue.popleft()
        self._queued_bytes -= len(led[1])
        return led
