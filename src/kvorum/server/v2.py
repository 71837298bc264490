"""The v2 store as the API sees it: proposals, reads, watches, and the leader's expiry.

Writes go through the log like every other request (InternalRaftRequest field 2) and are answered with the
event that applying them made. A read with ``quorum`` waits for a ReadIndex round instead of an entry of its
own, which is as linearizable as etcd's QGET and cheaper. Keys expire when the leader's clock says so, by an
entry that tells every member the same time (etcd ``server.go``: ``sync``).
"""

import asyncio
import gc
from collections.abc import Callable
from typing import Final, Protocol, TypeAlias, final

from kvorum import limits
from kvorum.apply.applier import Result
from kvorum.apply.v2 import V2Applier
from kvorum.errors import EtcdError
from kvorum.server import requests
from kvorum.server.membership import Cluster
from kvorum.server.v2_members import V2Members
from kvorum.v2store.errors import V2Error
from kvorum.v2store.event import Event
from kvorum.v2store.hub import Watcher
from kvorum.v2store.request import V2Request
from kvorum.v2store.store import Store
from kvorum.v2store.tables import Tables

Outcome: TypeAlias = Event | V2Error | EtcdError
"""What a request came to: an event, the store's refusal, or the cluster's (etcd answers that with 300)."""

Done: TypeAlias = Callable[[Outcome], None]


class Reads(Protocol):
    """Reads that wait until the store is no older than they are (``server/reads.py``)."""

    def wait(self, read: Callable[[EtcdError | None], None]) -> None:
        """Call back once, without an error when the store is new enough."""


class Member(Protocol):
    """The node, as far as this needs it."""

    @property
    def is_leader(self) -> bool:
        """Whether this member leads."""

    @property
    def reads(self) -> Reads:
        """Linearizable reads."""

    def propose(
        self, number: int, body: bytes, done: Callable[[Result], None], parsed: object = None
    ) -> None:
        """Put a request into the log."""


@final
class V2:
    """The v2 store of one member, loaded from the backend, and all that goes with it.

    ``cluster`` is followed by the tree below ``/0``; ``wall_clock`` is nanoseconds since 1970.
    """

    def __init__(
        self, member: Member, tables: Tables, cluster: Cluster, wall_clock: Callable[[], int]
    ) -> None:
        self.store: Final = Store(tables, wall_clock)
        self.applier: Final = V2Applier(self.store, cluster)
        cluster.mirror = V2Members(self.store)
        self._member: Final = member
        self._wall_clock: Final = wall_clock
        self._next_sync_at = 0.0
        self._frozen_at = 0
        self._freeze_if_grown()
        self._syncing = False

    @property
    def index(self) -> int:
        """The store's index (header ``X-Etcd-Index``)."""
        return self.store.index

    def propose(self, request: V2Request, done: Done) -> None:
        """Put a PUT, POST or DELETE through the log; ``done`` is called once, at once if it cannot be.

        The request must not change any more. Cluster errors that ``done`` may get: ERR_TIMEOUT,
        ERR_REQUEST_TOO_LARGE, ERR_REQUEST_TOO_MANY_REQUESTS, ERR_STOPPED.
        """

        def applied(result: Result) -> None:
            if result.error is not None:
                done(result.error)
                return
            outcome = result.value
            assert isinstance(outcome, Event | V2Error), "only SYNC and what members publish have no outcome"
            done(outcome)

        try:
            self._member.propose(requests.V2, request.encode(), applied, request)
        except EtcdError as error:
            done(error.forget())

    async def do(self, request: V2Request) -> Event:
        """``propose`` for coroutines.

        Raises:
            V2Error: the store refused.
            EtcdError: the cluster could not.
        """
        waiting: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

        def done(outcome: Outcome) -> None:
            if not waiting.done():
                waiting.set_result(outcome)

        self.propose(request, done)
        outcome = await waiting
        if isinstance(outcome, Event):
            return outcome
        raise outcome

    def get(self, path: str, recursive: bool = False, ordered: bool = False) -> Event:
        """Read what this member has applied.

        Raises:
            V2Error: KEY_NOT_FOUND, NOT_DIR.
        """
        return self.store.get(path, recursive, ordered)

    def peek(self, path: str) -> str | None:
        """The value that this member has applied, without counting a read; None if there is none."""
        return self.store.peek(path)

    def quorum_get(self, path: str, recursive: bool, ordered: bool, done: Done) -> None:
        """Read linearizably; ``done`` is called once. Cluster errors: ERR_TIMEOUT, ERR_LEADER_CHANGED,
        ERR_STOPPED.
        """

        def read(error: EtcdError | None) -> None:
            if error is not None:
                done(error)
                return
            try:
                outcome: Outcome = self.store.get(path, recursive, ordered)
            except V2Error as refusal:
                outcome = refusal
            done(outcome)

        self._member.reads.wait(read)

    def watch(self, path: str, recursive: bool = False, stream: bool = False, since: int = 0) -> Watcher:
        """Wait for events from index ``since`` on (0: from now on); set its ``wake`` and look at ``events``.

        Raises:
            V2Error: EVENT_INDEX_CLEARED.
        """
        return self.store.watch(path, recursive, stream, since)

    def stats_json(self) -> bytes:
        """What ``/v2/stats/store`` shows, without the line end."""
        return self.store.stats_json()

    def reload(self, tables: Tables) -> None:
        """A snapshot's database has taken the place of the backend."""
        self.store.reload(tables)
        self._frozen_at = 0

    def tick(self, now: float) -> None:
        """Called on every tick with the loop's time: the leader proposes to expire what is due.

        etcd proposes as long as any key has a time; here only when one's has come. One such entry is under
        way at a time, and one that is lost is followed by the next.
        """
        self._freeze_if_grown()
        if self._syncing or now < self._next_sync_at or not self._member.is_leader:
            return
        self._next_sync_at = now + limits.V2_SYNC_SECONDS
        due = self.store.next_expiry
        wall = self._wall_clock()
        if not due or due > wall:
            return
        request = V2Request("SYNC")
        request.time = wall
        self._syncing = True
        try:
            self._member.propose(requests.V2, request.encode(), self._synced, request)
        except EtcdError as error:
            self._syncing = False
            error.forget()

    def _freeze_if_grown(self) -> None:
        """Spare the garbage collector the nodes, as ``mvcc`` does its keys: they form no cycles, and looking
        at each of 200,000 stops the loop for 65 ms.
        """
        made = self.store.nodes_made
        if made - self._frozen_at >= limits.MIN_KEYS_TO_FREEZE:
            gc.collect(1)
            gc.freeze()
            self._frozen_at = made

    def _synced(self, _result: Result) -> None:
        self._syncing = False
