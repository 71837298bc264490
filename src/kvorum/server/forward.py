"""What a follower asks of the leader outside Raft: its peer port, over HTTP.

Renewals of leases and what is left of them are known to the leader alone, and so is whether a learner has
caught up. A follower sends such a call on, and again if the leader changed, could not be reached, or was not
ready; the callers give up when their time is over. Source: etcd ``v3_server.go`` (waitLeader, LeaseRenew),
``server.go`` (PromoteMember), ``cluster_util.go`` (promoteMemberHTTP).
"""

import json
from collections.abc import Sequence
from typing import Final, Protocol, final

from kvorum import errors, limits
from kvorum.errors import EtcdError
from kvorum.server.changes import MemberInfo
from kvorum.server.membership import Cluster
from kvorum.server.timers import Timers, pause

PROMOTE_PATH: Final = "/members/promote/"

NOT_FOUND_TEXT: Final = "membership: ID not found"
NOT_LEARNER_TEXT: Final = "membership: can only promote a learner member"
"""etcd's texts on the peer port, where they go without the errors' codes."""


class Answer(Protocol):
    """A whole answer (``peer.client.ClientResponse``)."""

    @property
    def status(self) -> int:
        """The HTTP status."""

    @property
    def body(self) -> bytes:
        """All of the body."""

    def header(self, name: str) -> str:
        """A header's first value, empty without one."""


class Client(Protocol):
    """Requests to other members' peer URLs (``peer.client.PeerClient``). Each raises OSError, and ValueError
    for what is no URL.
    """

    async def get(
        self, url: str, path: str, *, headers: Sequence[tuple[str, str]] = (), timeout_seconds: float = 5.0
    ) -> Answer:
        """GET a path."""

    async def post(
        self,
        url: str,
        path: str,
        body: bytes = b"",
        *,
        headers: Sequence[tuple[str, str]] = (),
        timeout_seconds: float = 5.0,
    ) -> Answer:
        """POST to a path."""


class Follower(Protocol):
    """Who knows the leader (``node.Node``)."""

    leader: int
    """The leader's ID, 0 for none."""


@final
class ToLeader:
    """The way to whoever leads.

    Args:
        timeout_seconds: how long a call may take with all its attempts (etcd: ReqTimeout).
    """

    def __init__(
        self, cluster: Cluster, member: Follower, client: Client, timers: Timers, *, timeout_seconds: float
    ) -> None:
        self._cluster: Final = cluster
        self._member: Final = member
        self._client: Final = client
        self._timers: Final = timers
        self.timeout_seconds: Final = timeout_seconds

    def leader(self) -> MemberInfo | None:
        """The member that leads, if there is one and it is another."""
        leader = self._member.leader
        return None if leader == self._cluster.local_id else self._cluster.member(leader)

    async def post(self, path: str, body: bytes, timeout_seconds: float) -> Answer | None:
        """One attempt; None: there is no other leader, or it does not answer.

        The time is that of each of its URLs.
        """
        leader = self.leader()
        headers = (("Content-Type", "application/protobuf"),) if body else ()
        for url in leader.peer_urls if leader is not None else ():
            try:
                return await self._client.post(
                    url, path, body, headers=headers, timeout_seconds=timeout_seconds
                )
            except (OSError, ValueError):
                continue  # the next URL, or the next attempt
        return None

    async def again(self, deadline: float) -> None:
        """Wait a moment before the next attempt.

        Raises:
            EtcdError: ERR_NO_LEADER, ERR_TIMEOUT: there is no time for one.
        """
        if self._timers.time() + limits.LEASE_PRIMARY_RETRY_SECONDS >= deadline:
            raise errors.ERR_TIMEOUT if self._member.leader else errors.ERR_NO_LEADER
        await pause(self._timers, limits.LEASE_PRIMARY_RETRY_SECONDS)

    async def promote(self, member_id: int) -> list[MemberInfo] | None:
        """Have the leader promote a learner; None: ask again.

        Raises:
            EtcdError: ERR_LEARNER_NOT_READY, ERR_MEMBER_NOT_LEARNER, ERR_MEMBER_NOT_FOUND.
        """
        answer = await self.post(f"{PROMOTE_PATH}{member_id}", b"", self.timeout_seconds)
        return None if answer is None else read_promotion(answer.status, answer.body)


def read_promotion(status: int, body: bytes) -> list[MemberInfo] | None:
    """What a leader's answer says: the members, or None for what another attempt may change.

    Raises:
        EtcdError: ERR_LEARNER_NOT_READY, ERR_MEMBER_NOT_LEARNER, ERR_MEMBER_NOT_FOUND.
    """
    text = body.decode("utf-8", "replace")
    if status == 404:
        raise errors.ERR_MEMBER_NOT_FOUND
    if status == 412 and errors.ERR_LEARNER_NOT_READY.message in text:
        raise errors.ERR_LEARNER_NOT_READY
    if status == 412 and NOT_LEARNER_TEXT in text:
        raise errors.ERR_MEMBER_NOT_LEARNER
    if status != 200:
        return None
    try:
        return [MemberInfo.from_fields(fields) for fields in json.loads(body)]
    except (ValueError, TypeError):
        return None


def promotion_refusal(error: EtcdError) -> tuple[int, str] | None:
    """Status and text of the answer to a follower whose promotion failed; None: an internal error."""
    if error is errors.ERR_MEMBER_NOT_FOUND:
        return 404, NOT_FOUND_TEXT
    if error is errors.ERR_MEMBER_NOT_LEARNER:
        return 412, NOT_LEARNER_TEXT
    if error is errors.ERR_LEARNER_NOT_READY:
        return 412, error.message
    return None
