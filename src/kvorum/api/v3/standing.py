"""Standing streams: calls that last, as watches and keepalives do, and what ends them from the server's side.

That is the loss of the leader, for clients that asked for one ("hasleader" in the metadata), and the
member's stop: a client whose stream ends as UNAVAILABLE goes on with another member, where one that hangs
would wait. Source: etcd ``server/etcdserver/api/v3rpc/interceptor.go`` (monitorLeader).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Protocol, final

from kvorum import limits
from kvorum.errors import ERR_NO_LEADER, ERR_STOPPED, EtcdError
from kvorum.rpc.grpc import StreamCall
from kvorum.server.timers import Timers

LEADER_METADATA: Final = "hasleader"
LEADER_REQUIRED: Final = "true"


class Led(Protocol):
    """What has a leader, or has not (``node.Node``)."""

    leader: int
    """The leader's ID, 0 for none."""

    @property
    def timers(self) -> Timers:
        """The loop."""

    @property
    def election_seconds(self) -> float:
        """The election timeout."""


@final
class StandingStreams:
    """All of a member's standing streams."""

    def __init__(self, member: Led) -> None:
        self._member: Final = member
        self._open: Final[dict[StreamCall, bool]] = {}
        """With whether the client asked for a leader."""
        self._looking = False
        self._elections_without_leader = 0
        self._stopped = False
        self._when_stopped: Final[list[Callable[[], None]]] = []

    def when_stopped(self, callback: Callable[[], None]) -> None:
        """Call back when the member stops: for calls that last and are no streams."""
        self._when_stopped.append(callback)

    @contextmanager
    def entered(self, call: StreamCall) -> Iterator[None]:
        """Count a call among the standing ones for as long as its handler is inside.

        Raises:
            EtcdError: ERR_NO_LEADER, ERR_STOPPED.
        """
        if self._stopped:
            raise ERR_STOPPED
        asked = call.metadata().get(LEADER_METADATA, ())[:1] == [LEADER_REQUIRED]
        if asked:
            if not self._member.leader:
                raise ERR_NO_LEADER
            self._look_later()
        self._open[call] = asked
        try:
            yield
        finally:
            del self._open[call]

    def stop(self) -> None:
        """End all of them, and let no more in: the member stops."""
        self._stopped = True
        self._end(list(self._open), ERR_STOPPED)
        for callback in self._when_stopped:
            callback()

    def _end(self, calls: list[StreamCall], error: EtcdError) -> None:
        for call in calls:
            call.close(error.code, error.message)

    def _look_later(self) -> None:
        if not self._looking:
            self._looking = True
            self._member.timers.call_later(self._member.election_seconds, self._look)

    def _look(self) -> None:
        """Once in an election timeout while anybody wants to know; cautious, as reconnecting costs."""
        self._looking = False
        self._elections_without_leader = 0 if self._member.leader else self._elections_without_leader + 1
        asked = [call for call, wants_leader in self._open.items() if wants_leader]
        if self._elections_without_leader >= limits.MAX_NO_LEADER_ELECTIONS:
            self._end(asked, ERR_NO_LEADER)
            self._elections_without_leader = 0
        elif asked and not self._stopped:
            self._look_later()
