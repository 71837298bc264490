"""All members of one run, with the network between them, the oracle, the judge, and those who ask."""

import os
import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, final

from kvorum.config import Config
from kvorum.config_sources import load
from kvorum.logging import FATAL, Logger
from kvorum.raft.types import ENTRY_NORMAL, MSG_SNAP, Entry, Message, Snapshot
from kvorum.server import ids
from kvorum.server.bootstrap import Joined
from kvorum.server.changes import MemberInfo
from kvorum.server.node import Node
from kvorum.sim.judge import Judge
from kvorum.sim.loop import SimulatedLoop
from kvorum.sim.machine import Machine
from kvorum.sim.member import Member
from kvorum.sim.network import Network
from kvorum.sim.oracle import Oracle
from kvorum.sim.profile import Profile
from kvorum.sim.trace import Trace
from kvorum.sim.transfer import Transfer

if TYPE_CHECKING:
    from kvorum.sim.leasing import Holder
    from kvorum.sim.watching import Watcher

HEARTBEAT_MS: Final = 100
CONNECT_SECONDS: Final = 0.5


@final
class Cluster:
    """See the module. ``members`` are all there ever were, in the order of their names."""

    def __init__(
        self,
        profile: Profile,
        dice: random.Random,
        directory: str,
        loop: SimulatedLoop,
        echo: Callable[[str], None] | None = None,
    ) -> None:
        self.profile: Final = profile
        self.dice: Final = dice
        self.loop: Final = loop
        self.trace: Final = Trace(loop.time, echo)
        self.members: Final[list[Member]] = []
        self.by_id: Final[dict[int, Member]] = {}
        self.oracle: Final = Oracle()
        self.judge: Final = Judge(self.trace, self.by_id)
        self.network: Final = Network(
            loop, random.Random(dice.random()), self._deliver, self._lost, self._send_snapshot
        )
        self.transfer: Final = Transfer(self, directory)
        self.network.loss = profile.loss
        self.network.delay_seconds = profile.delay_seconds
        self.watchers: Final[list[Watcher]] = []
        self.holders: Final[list[Holder]] = []
        self.lease_ends: Final[dict[int, float]] = {}
        """When each lease ended because its time was up."""
        self.is_closing = False
        """The storm is over: clients stop."""
        self.is_over = False
        """So is everything."""
        self._directory: Final = directory
        self._config: Config | None = None
        self.id = 0
        self.on_crash: Callable[[Member], None] = lambda member: None

    # --- members --------------------------------------------------------------------------------------------

    def create(self) -> None:
        """Start the members that make the cluster."""
        names = [f"m{number}" for number in range(1, self.profile.members + 1)]
        for name in names:
            self._add(name, names, "new")
        for member in self.members:
            member.start()
        self.id = self.members[0].require().begun.cluster.id
        self._connect()

    def _add(self, name: str, names: Sequence[str], state: str) -> Member:
        config = self._configure(name, names, state)
        number = len(self.members) + 1
        os.makedirs(config.data_dir)
        machine = Machine(self.loop, config.data_dir, random.Random(self.dice.random()))
        machine.sync_seconds = self.profile.sync_seconds
        member = Member(self, name, config, machine)
        member.id = ids.member_id([peer_url(name)], "sim", number if state == "existing" else None)
        self.members.append(member)
        self.by_id[member.id] = member
        return member

    def _configure(self, name: str, names: Sequence[str], state: str) -> Config:
        profile = self.profile
        flags = {
            "name": name,
            "data-dir": os.path.join(self._directory, name),
            "initial-advertise-peer-urls": peer_url(name),
            "initial-cluster": ",".join(f"{other}={peer_url(other)}" for other in names),
            "initial-cluster-state": state,
            "initial-cluster-token": "sim",
            "snapshot-count": str(profile.snapshot_count),
            "experimental-snapshot-catchup-entries": str(profile.catchup_entries),
            "heartbeat-interval": str(HEARTBEAT_MS),
            "election-timeout": str(profile.election_ms),
            "pre-vote": "true" if profile.pre_vote else "false",
            "max-wals": "2",
            "max-snapshots": "2",
        }
        return load([f"--{flag}={value}" for flag, value in flags.items()], {}, _SILENT)

    def newcomer(self, *, is_learner: bool) -> tuple[Member, MemberInfo]:
        """A member that is not part of the cluster yet: to be added, and then started."""
        name = f"m{len(self.members) + 1}"
        member = self._add(name, [name], "existing")
        return member, MemberInfo(member.id, (peer_url(name),), is_learner=is_learner)

    def join(self, member: Member, info: MemberInfo) -> None:
        """The cluster has a newcomer: it starts for the first time."""
        member.joined = Joined(self.id, info, ())
        member.start()

    def nth(self, number: int) -> Member:
        """Some member that belongs to the cluster, be it down."""
        there = [member for member in self.members if member.starts and not member.removed]
        return there[number % len(there)]

    def shuffled(self, dice: random.Random) -> list[Member]:
        """The members that belong to the cluster, in any order."""
        there = [member for member in self.members if member.starts and not member.removed]
        dice.shuffle(there)
        return there

    @property
    def up(self) -> list[Member]:
        """The members that run."""
        return [member for member in self.members if member.running is not None]

    def leader(self) -> Member | None:
        """The member that leads in the highest term, if one does."""
        leading = [member for member in self.up if member.require().begun.raft.is_leader]
        return max(leading, key=lambda member: member.require().begun.raft.term, default=None)

    def leading_node(self) -> Node | None:
        """The node of the member that leads the newest term there is, if it is up."""
        leader = self.leader()
        if leader is None or leader.require().begun.raft.term != max(self.judge.leaders, default=0):
            return None
        return leader.require().node

    # --- what happens -----------------------------------------------------------------------------------

    def _deliver(self, message: Message) -> None:
        member = self.by_id.get(message.to)
        if member is None or member.running is None:
            return
        node = member.running.node
        if node.cluster.is_removed(message.from_):
            # etcd's peers answer such a member "410 Gone".
            self._tell_sender(message, lambda sender: sender.require().node.removed_self())
            return
        member.running.process.run(lambda: node.guard(lambda: node.receive(message)))

    def _connect(self) -> None:
        """Members keep connecting to each other: one that was removed is turned away, and so learns of it."""
        for member in self.up:
            if any(self._turns_away(other, member) for other in self.up):
                running = member.require()
                running.process.run(running.node.removed_self)
        if not self.is_over:
            self.loop.call_later(CONNECT_SECONDS, self._connect)

    def _turns_away(self, other: Member, member: Member) -> bool:
        is_cut = self.network.is_cut(member.id, other.id) or self.network.is_cut(other.id, member.id)
        node = other.require().node
        return not is_cut and not other.require().process.paused and node.cluster.is_removed(member.id)

    def _lost(self, message: Message) -> None:
        """A connection that loses things is noticed, often."""
        if message.type == MSG_SNAP:
            self._tell_sender(message, lambda member: member.require().node.snapshot_sent(message.to, False))
        elif self.dice.random() < 0.3:
            self._tell_sender(message, lambda member: member.require().node.unreachable(message.to))

    def _tell_sender(self, message: Message, tell: Callable[[Member], None]) -> None:
        sender = self.by_id[message.from_]
        running = sender.running
        if running is not None:
            node = running.node
            running.process.call_soon(lambda: node.guard(lambda: tell(sender)))

    def applied(self, member: Member, entry: Entry) -> None:
        """A member is about to apply an entry."""
        if not self.judge.apply(member, entry):
            return
        revoked = len(self.oracle.revocations)
        operation = self.oracle.applied(entry)
        kind = "" if entry.type == ENTRY_NORMAL else " conf change"
        self.trace.note(f"{member.name} applies {entry.term}/{entry.index}{kind} {operation or ''}")
        for lease, number in self.oracle.revocations[revoked:]:
            self.lease_ends[lease] = self.loop.now
            if not number:
                for holder in self.holders:
                    holder.ended(lease, self.loop.now)

    def _send_snapshot(self, message: Message) -> None:
        self.transfer.send(message)

    def installed(self, member: Member, snapshot: Snapshot) -> None:
        """A member has replaced its state by a snapshot."""
        self.trace.note(f"{member.name} has installed a snapshot at {snapshot.metadata.index}")
        self.transfer.installed += 1
        self.judge.installed(member, snapshot.metadata.index)

    def left(self, member: Member) -> None:
        """A member has learnt that it was removed: it stops for good."""
        self.trace.note(f"{member.name} was removed, and stops")
        member.removed = True
        member.crash(power=False)

    def crashed(self, member: Member, *, power: bool) -> None:
        """A member ends without a word."""
        self.trace.note(f"{member.name} {'loses its power' if power else 'is killed'}")
        member.crash(power=power)
        self.on_crash(member)


_SILENT: Final = Logger((), level=FATAL + 1)


def peer_url(name: str) -> str:
    """Where a member would be, if there were a network."""
    return f"http://{name}.sim:2380"
