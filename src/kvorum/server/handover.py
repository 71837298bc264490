"""Handing leadership to another member: because somebody asks for it, or because this one is about to stop.

Source: etcd ``server.go`` (MoveLeader, TransferLeadership).
"""

from collections.abc import Callable
from typing import Final, Protocol, final

from kvorum import errors
from kvorum.errors import EtcdError
from kvorum.logging import Logger, hex_id
from kvorum.server.forward import Follower
from kvorum.server.membership import Cluster
from kvorum.server.reconfigure import longest_connected
from kvorum.server.strict import Connections
from kvorum.server.timers import Timers, pause

ERR_TIMEOUT_LEADER_TRANSFER: Final = EtcdError(
    errors.UNKNOWN, "etcdserver: request timed out, leader transfer took too long"
)
"""etcd has no code for it."""


class Transferring(Protocol):
    """What a handover asks of Raft (``raft.RawNode``)."""

    def transfer_leadership(self, transferee: int) -> None:
        """Hand leadership over."""


@final
class Handover:
    """Moves leadership away from this member.

    Args:
        kick: Raft has something to do.
        look_seconds: how often to look whether it has moved (etcd: a heartbeat).
        timeout_seconds: how long it may take.
    """

    def __init__(
        self,
        raft: Transferring,
        cluster: Cluster,
        connections: Connections,
        member: Follower,
        timers: Timers,
        log: Logger,
        *,
        kick: Callable[[], None],
        look_seconds: float,
        timeout_seconds: float,
    ) -> None:
        self._raft: Final = raft
        self._cluster: Final = cluster
        self._connections: Final = connections
        self._member: Final = member
        self._timers: Final = timers
        self._log: Final = log
        self._kick: Final = kick
        self._look_seconds: Final = look_seconds
        self._timeout_seconds: Final = timeout_seconds

    async def move_leader(self, transferee: int) -> None:
        """Hand leadership to a voter and return when it leads; at once if it does already.

        Raises:
            EtcdError: ERR_NOT_LEADER, ERR_BAD_LEADER_TRANSFEREE, ERR_TIMEOUT_LEADER_TRANSFER.
        """
        if self._member.leader != self._cluster.local_id:
            raise errors.ERR_NOT_LEADER
        voter = self._cluster.member(transferee)
        if voter is None or voter.is_learner:
            raise errors.ERR_BAD_LEADER_TRANSFEREE
        started = self._timers.time()
        local = hex_id(self._cluster.local_id)
        self._log.info(
            "leadership transfer starting",
            local_member_id=local,
            current_leader_member_id=local,
            transferee_member_id=hex_id(transferee),
        )
        self._raft.transfer_leadership(transferee)
        self._kick()
        while self._member.leader != transferee:
            if self._timers.time() - started >= self._timeout_seconds:
                raise ERR_TIMEOUT_LEADER_TRANSFER
            await pause(self._timers, self._look_seconds)
        self._log.info(
            "leadership transfer finished",
            local_member_id=local,
            old_leader_member_id=local,
            new_leader_member_id=hex_id(transferee),
            took=f"{self._timers.time() - started:.6f}s",
        )

    async def before_stop(self) -> None:
        """Let another member lead, if this one does, so that the cluster need not wait for its absence to be
        noticed. Returns in any case: stopping does not depend on it.
        """
        local = self._cluster.local_id
        if self._member.leader != local or len(self._cluster.voters()) < 2:
            return
        transferee = longest_connected(
            [voter for voter in self._cluster.voters() if voter.id != local], self._connections
        )
        try:
            if transferee is None:
                raise errors.ERR_UNHEALTHY
            await self.move_leader(transferee)
        except EtcdError as error:
            self._log.warn(
                "leadership transfer failed", local_member_id=hex_id(local), error=error.forget().message
            )
