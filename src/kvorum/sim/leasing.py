"""Lease holders, and what they were promised: a lease that is kept alive lives, one that is not ends.

A renewal that was acknowledged promises its TTL from the moment it was asked for. Clocks drift, and for up to
two election timeouts an old leader, cut off from the new one, may renew what that one counts down already
(the new one adds one of them; etcd's bound is the same), so a lease that ends up to ``SLACK_ELECTIONS`` of
them early is let pass. For the same reason an old leader may say of a lease that it is not there, as etcd's
does; the one that leads the newest term may not.
"""

import asyncio
import random
from typing import TYPE_CHECKING, Final, final

from kvorum.proto.rpc_pb2 import LeaseGrantRequest, LeaseRevokeRequest, PutRequest
from kvorum.server.node import Node
from kvorum.sim.client import REFUSED, UNKNOWN, Answered, Client, Outcome
from kvorum.sim.trace import ViolationError

if TYPE_CHECKING:
    from kvorum.sim.cluster import Cluster

CHECKER: Final = "lease"
SLACK_ELECTIONS: Final = 2.0
RENEWAL_SECONDS: Final = 0.3
"""How long a holder waits for a renewal before it asks another member."""


@final
class Holder:
    """A client that gets a lease, puts keys with it, keeps it alive for a while, and lets it go."""

    def __init__(self, cluster: "Cluster", name: str, dice: random.Random) -> None:
        self._cluster: Final = cluster
        self._dice: Final = dice
        self._client: Final = Client(cluster, name, dice)
        self._number = 0
        self._slack: Final = SLACK_ELECTIONS * cluster.profile.election_ms / 1000
        self._promised: Final[dict[int, float]] = {}
        """Until when each lease must live."""
        self._ttl: Final[dict[int, int]] = {}
        self._revoked_itself: Final[set[int]] = set()

    async def run(self) -> None:
        """One lease after the other, until the storm is over."""
        while not self._cluster.is_closing:
            await asyncio.sleep(self._dice.expovariate(2.0))
            await self._hold()

    async def _hold(self) -> None:
        cluster, dice, client = self._cluster, self._dice, self._client
        self._number += 1
        lease = int.from_bytes(client.name.encode()[-2:], "big") * 1000 + self._number
        ttl = dice.choice((3, 4, 6))
        asked = cluster.loop.now
        outcome = await client.do("grant", LeaseGrantRequest(ID=lease, TTL=ttl))
        if not outcome.decided or outcome.refused or outcome.error:
            return
        self._ttl[lease] = ttl
        self._promise(lease, asked)
        key = b"l/%d" % lease
        await client.do("put", PutRequest(key=key, value=b"held", lease=lease))
        until = cluster.loop.now + dice.choice((0.0, 2.0, 3.0 * ttl))
        while cluster.loop.now < until and not cluster.is_closing:
            asked = cluster.loop.now
            outcome = await self._renew(lease)
            if outcome.decided and not outcome.refused:
                if not outcome.revision:
                    return
                self._promise(lease, asked)
            await asyncio.sleep(ttl / 6)
        if dice.random() < 0.3:
            self._revoked_itself.add(lease)
            await client.do("revoke", LeaseRevokeRequest(ID=lease))

    async def _renew(self, lease: int) -> Outcome:
        """Ask members until one is the leader; the outcome's revision is the TTL that it gave."""

        cluster = self._cluster

        def work(node: Node, answered: Answered) -> None:
            ttl = node.leases.renew_at_once(lease)
            if ttl == 0 and node is cluster.leading_node():
                self._told_gone(lease)
            answered(REFUSED if ttl is None else Outcome(True, revision=ttl))

        for member in cluster.shuffled(self._dice):
            if member.running is None:
                continue
            outcome = await self._client.connection.ask(member, work, RENEWAL_SECONDS)
            if outcome.decided and not outcome.refused:
                cluster.trace.note(f"lease {lease} renewed at {member.name}: {outcome.revision}")
                return outcome
        return UNKNOWN

    def _promise(self, lease: int, asked: float) -> None:
        drift = 1 - 2 * self._cluster.profile.clock_drift
        until = asked + self._ttl[lease] * drift - self._slack
        self._promised[lease] = max(self._promised.get(lease, 0.0), until)
        ended = self._cluster.lease_ends.get(lease)
        if ended is not None and lease not in self._revoked_itself and ended < self._promised[lease]:
            raise ViolationError(
                CHECKER, f"lease {lease} was renewed at {asked:.3f}, having ended at {ended:.3f}"
            )

    def ended(self, lease: int, now: float) -> None:
        """The lease was revoked because its time was up."""
        promised = self._promised.get(lease)
        if promised is not None and now < promised and lease not in self._revoked_itself:
            raise ViolationError(
                CHECKER, f"lease {lease} ended at {now:.3f}; it was promised to live until {promised:.3f}"
            )

    def _told_gone(self, lease: int) -> None:
        if lease in self._cluster.oracle.model.leases:
            raise ViolationError(CHECKER, f"lease {lease} is there, and its holder was told that it is not")

    def check_ended(self) -> None:
        """After the storm, and the longest TTL: nothing that nobody keeps alive is left."""
        for lease in self._ttl:
            if lease in self._cluster.oracle.model.leases:
                raise ViolationError(CHECKER, f"lease {lease} never ended")
