"""``/v2/stats``: how this member stands, what the leader knows of the others, what the tree has seen.

Source of behaviour: etcd 3.4.23 ``v2http/client.go`` (statsHandler), ``v2stats/server.go``, ``leader.go``.
"""

from collections.abc import Callable
from typing import Final, Protocol, final

from kvorum.api.v2.answers import MessageError
from kvorum.duration import Duration
from kvorum.golang import json_string
from kvorum.logging import hex_id
from kvorum.rpc.http1 import HttpServer
from kvorum.rpc.http1_types import APPLICATION_JSON, HttpRequest, HttpResponse
from kvorum.server.changes import MemberInfo
from kvorum.server.v2 import V2
from kvorum.v2store.times import format_time

PREFIX: Final = "/v2/stats"


class Standing(Protocol):
    """The node, as far as it is shown here."""

    @property
    def member_id(self) -> int:
        """This member."""

    @property
    def leader(self) -> int:
        """Who leads; 0 if nobody is known to."""

    @property
    def leader_since(self) -> float:
        """Since when that has been so, by the loop's clock."""

    @property
    def is_leader(self) -> bool:
        """Whether this member leads."""


class Members(Protocol):
    """Who is in the cluster."""

    def listed(self) -> list[MemberInfo]:
        """The members in the order of their IDs."""


class Appends(Protocol):
    """What is counted about Raft's appends (``peer/figures.py``)."""

    @property
    def appends_sent(self) -> int:
        """To the other members."""

    @property
    def appends_received(self) -> int:
        """From a leader."""


@final
class StatsHandlers:
    """The three pages. ``clock`` is nanoseconds since 1970, ``loop_time`` the loop's clock in seconds."""

    def __init__(
        self,
        standing: Standing,
        v2: V2,
        cluster: Members,
        appends: Appends,
        name: str,
        clock: Callable[[], int],
        loop_time: Callable[[], float],
    ) -> None:
        self._standing: Final = standing
        self._v2: Final = v2
        self._cluster: Final = cluster
        self._appends: Final = appends
        self._name: Final = name
        self._clock: Final = clock
        self._loop_time: Final = loop_time
        self._started: Final = clock()

    def install(self, http: HttpServer) -> None:
        """Register the pages."""
        http.route("GET", PREFIX + "/store", self.store)
        http.route("GET", PREFIX + "/self", self.own)
        http.route("GET", PREFIX + "/leader", self.leader)

    def store(self, request: HttpRequest) -> HttpResponse:
        """What was done to the tree, counted."""
        return HttpResponse(200, self._v2.stats_json(), (APPLICATION_JSON,))

    def own(self, request: HttpRequest) -> HttpResponse:
        """Who this member is and whom it follows."""
        standing = self._standing
        state = "StateLeader" if standing.is_leader else "StateFollower"
        leader = hex_id(standing.leader) if standing.leader else ""
        uptime = Duration.from_seconds(self._loop_time() - standing.leader_since)
        since = format_time(self._clock() - uptime)
        text = (
            f'{{"name":{json_string(self._name)},"id":"{hex_id(standing.member_id)}","state":"{state}",'
            f'"startTime":"{format_time(self._started)}","leaderInfo":{{"leader":"{leader}",'
            f'"uptime":"{uptime}","startTime":"{since}"}},'
            f'"recvAppendRequestCnt":{self._appends.appends_received},'
            f'"sendAppendRequestCnt":{self._appends.appends_sent}}}'
        )
        return HttpResponse(200, text.encode(), (APPLICATION_JSON,))

    def leader(self, request: HttpRequest) -> HttpResponse:
        """How the followers do; only the leader knows."""
        standing = self._standing
        if not standing.is_leader:
            return MessageError(403, "not current leader").response()
        followers = ",".join(
            f'"{hex_id(member.id)}":{_NO_FIGURES}'
            for member in self._cluster.listed()
            if member.id != standing.member_id
        )
        text = f'{{"leader":"{hex_id(standing.member_id)}","followers":{{{followers}}}}}'
        return HttpResponse(200, text.encode(), (APPLICATION_JSON,))


_NO_FIGURES: Final = (
    '{"latency":{"current":0,"average":0,"standardDeviation":0,"minimum":0,"maximum":0},'
    '"counts":{"fail":0,"success":0}}'
)
