"""``--strict-reconfig-check``: what is asked before a membership change is proposed.

A change that is right in itself can still cost the cluster its quorum: a voter is added that never comes, one
is removed that was needed. So a change of voters must leave a majority of started members, and the member
that proposes it must have been connected to enough of them for some time. These are looks at what this member
happens to know, so they protect from mistakes and promise nothing; what must hold is checked when the change
is applied (``changes.check``). Source: etcd ``server.go`` (mayAddMember, mayRemoveMember, mayPromoteMember),
``membership/cluster.go`` (IsReadyTo...), ``util.go`` (numConnectedSince).
"""

from collections.abc import Sequence
from typing import Final, Protocol, final

from kvorum import limits
from kvorum.errors import ERR_MEMBER_NOT_ENOUGH_STARTED, ERR_UNHEALTHY, EtcdError
from kvorum.logging import Logger, hex_id
from kvorum.server.changes import MemberInfo
from kvorum.server.membership import Cluster
from kvorum.server.timers import Timers


class Connections(Protocol):
    """What the transport knows (``peer.PeerTransport``)."""

    def active_since(self, member_id: int) -> float | None:
        """Since when, by the loop's clock, this member has been connected to another; None: it is not."""


def majority(size: int) -> int:
    """The least number of members that is more than half."""
    return size // 2 + 1


def may_add_voter(voters: Sequence[MemberInfo]) -> bool:
    """Whether the started members are a majority once there is one voter more, which does not run yet.

    A single member may always get a second one, which is how a cluster is rebuilt from one survivor.
    """
    started = _started(voters)
    return (started == 1 and len(voters) == 1) or started >= majority(len(voters) + 1)


def may_remove_voter(voters: Sequence[MemberInfo], member_id: int) -> bool:
    """Whether the started members that stay are a majority of those that stay."""
    staying = [voter for voter in voters if voter.id != member_id]
    return _started(staying) >= majority(len(staying))


def may_promote(voters: Sequence[MemberInfo]) -> bool:
    """Whether the started voters and the learner are a majority of them all."""
    return _started(voters) + 1 >= majority(len(voters) + 1)


def _started(members: Sequence[MemberInfo]) -> int:
    return sum(member.is_started for member in members)


@final
class StrictCheck:
    """The checks, with the cluster and the connections they are about.

    Args:
        enabled: the flag; without it everything may be proposed.
    """

    def __init__(
        self, cluster: Cluster, connections: Connections, timers: Timers, log: Logger, *, enabled: bool
    ) -> None:
        self._cluster: Final = cluster
        self._connections: Final = connections
        self._timers: Final = timers
        self._log: Final = log
        self._enabled: Final = enabled

    def before_add(self, member: MemberInfo) -> None:
        """Raises EtcdError: ERR_MEMBER_NOT_ENOUGH_STARTED, ERR_UNHEALTHY."""
        if not self._enabled:
            return
        voters = self._cluster.voters()
        described = f"{{ID:{hex_id(member.id)} PeerURLs:{list(member.peer_urls)}}}"
        asked: dict[str, object] = {"requested-member-add": described}
        if not member.is_learner and not may_add_voter(voters):
            self._refuse(
                "rejecting member add request; not enough healthy members",
                ERR_MEMBER_NOT_ENOUGH_STARTED,
                asked,
            )
        if self._connected(voters) < len(voters):
            self._refuse(
                "rejecting member add request; local member has not been connected to all peers,"
                " reconfigure breaks active quorum",
                ERR_UNHEALTHY,
                asked,
            )

    def before_remove(self, member_id: int) -> None:
        """Raises EtcdError: ERR_MEMBER_NOT_ENOUGH_STARTED, ERR_UNHEALTHY."""
        member = self._cluster.member(member_id)
        if not self._enabled or (member is not None and member.is_learner):
            return
        voters = self._cluster.voters()
        asked: dict[str, object] = {"requested-member-remove-id": hex_id(member_id)}
        if not may_remove_voter(voters, member_id):
            self._refuse(
                "rejecting member remove request; not enough healthy members",
                ERR_MEMBER_NOT_ENOUGH_STARTED,
                asked,
            )
        is_down = self._connections.active_since(member_id) is None
        if is_down and member_id != self._cluster.local_id:
            return  # not part of the quorum that is at work
        active = self._connected(voters)
        if active - 1 < 1 + (len(voters) - 1) // 2:
            self._refuse(
                "rejecting member remove request; local member has not been connected to all peers,"
                " reconfigure breaks active quorum",
                ERR_UNHEALTHY,
                {**asked, "active-peers": active},
            )

    def before_promote(self, member_id: int) -> None:
        """Raises EtcdError: ERR_MEMBER_NOT_ENOUGH_STARTED."""
        if self._enabled and not may_promote(self._cluster.voters()):
            self._refuse(
                "rejecting member promote request; not enough healthy members",
                ERR_MEMBER_NOT_ENOUGH_STARTED,
                {"requested-member-remove-id": hex_id(member_id)},
            )

    def _connected(self, members: Sequence[MemberInfo]) -> int:
        """How many of the members this one is, or has been connected to for long enough."""
        since = self._timers.time() - limits.HEALTH_INTERVAL_SECONDS
        connected = 0
        for member in members:
            active_since = self._connections.active_since(member.id)
            is_local = member.id == self._cluster.local_id
            connected += is_local or (active_since is not None and active_since < since)
        return connected

    def _refuse(self, message: str, error: EtcdError, fields: dict[str, object]) -> None:
        local = {"local-member-id": hex_id(self._cluster.local_id)}
        self._log.warn(message, {**local, **fields, "error": error.message})
        raise error
