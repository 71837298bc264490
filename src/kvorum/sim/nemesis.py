"""The faults: what happens to members, disks, clocks and links during the storm.

Each fault is a method that does something now and, where it does not last for good, schedules its end. Faults
overlap as they come; a majority may be gone for a while. After the storm everything is mended.
"""

import errno
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, final

from kvorum.sim.member import Member
from kvorum.sim.reshaping import Reshaper

if TYPE_CHECKING:
    from kvorum.sim.cluster import Cluster


@final
class Nemesis:
    """See the module."""

    def __init__(self, cluster: "Cluster", dice: random.Random) -> None:
        self._cluster: Final = cluster
        self._dice: Final = dice
        self._reshaper: Final = Reshaper(cluster, dice)
        self._faults: Final[dict[str, Callable[[], None]]] = {
            "kill": self._kill,
            "power_cut": self._power_cut,
            "blackout": self._blackout,
            "pause": self._pause,
            "isolate": self._isolate,
            "split": self._split,
            "one_way": self._one_way,
            "bridge": self._bridge,
            "loss": self._loss,
            "delay": self._delay,
            "reorder": self._reorder,
            "stall": self._stall,
            "slow_disk": self._slow_disk,
            "sync_error": self._sync_error,
            "disk_full": self._disk_full,
            "cut_between_calls": self._cut_between_calls,
            "install_error": self._install_error,
            "transfer": self._transfer,
            "add": self._reshaper.add,
            "remove": self._reshaper.remove,
            "joint": self._reshaper.change_jointly,
        }
        self._over = False

    def start(self) -> None:
        """Begin the storm."""
        self._schedule()

    def _schedule(self) -> None:
        cluster = self._cluster
        if cluster.profile.faults and not self._over:
            cluster.loop.call_later(self._dice.expovariate(1 / cluster.profile.fault_seconds), self._strike)

    def _strike(self) -> None:
        if self._over:
            return
        name = self._dice.choice(self._cluster.profile.faults)
        self._faults[name]()
        self._schedule()

    def end(self) -> None:
        """The storm is over: mend everything."""
        self._over = True
        cluster = self._cluster
        cluster.trace.note("the storm is over")
        network = cluster.network
        network.cuts.clear()
        network.loss = network.duplication = 0.0
        network.delay_seconds = cluster.profile.delay_seconds
        network.in_order = True
        for member in cluster.members:
            machine = member.machine
            machine.stalled_until = 0.0
            machine.sync_seconds = cluster.profile.sync_seconds
            machine.fail_next_sync = machine.fail_next_install = False
            machine.disk.fail_at = -1
            machine.disk.capacity_bytes = 1 << 40
            if member.running is not None and member.running.process.paused:
                member.running.process.resume()
            self._restart(member)

    def close(self) -> None:
        """The run is over."""
        self._reshaper.end()

    def _after(self, seconds: float, end: Callable[[], None]) -> None:
        def unless_over() -> None:
            if not self._over:
                end()

        self._cluster.loop.call_later(seconds, unless_over)

    def _duration(self) -> float:
        usual = self._dice.choice((0.2, 1.0, 3.0)) * self._dice.expovariate(1.0)
        return usual * self._cluster.profile.fault_lasts

    def _some(self) -> Member | None:
        """A member that runs; the leader more often than others."""
        cluster = self._cluster
        leader = cluster.leader()
        if leader is not None and self._dice.random() < cluster.profile.leader_share:
            return leader
        return self._dice.choice(cluster.up) if cluster.up else None

    # --- members --------------------------------------------------------------------------------------------

    def restart_later(self, member: Member) -> None:
        """A member is down; it comes back after a while."""
        self._after(0.05 + self._duration(), lambda: self._restart(member))

    def _restart(self, member: Member) -> None:
        if member.running is None and member.starts and not member.removed:
            member.start()

    def _kill(self) -> None:
        member = self._some()
        if member is not None:
            self._cluster.crashed(member, power=False)

    def _power_cut(self) -> None:
        member = self._some()
        if member is not None:
            self._cluster.crashed(member, power=True)

    def _blackout(self) -> None:
        for member in self._cluster.up:
            self._cluster.crashed(member, power=True)

    def _pause(self) -> None:
        member = self._some()
        if member is None or member.require().process.paused:
            return
        process = member.require().process
        process.paused = True
        seconds = self._duration()
        self._cluster.trace.note(f"{member.name} is paused for {seconds:.3f}")

        def go_on() -> None:
            if process.alive and process.paused:
                self._cluster.trace.note(f"{member.name} goes on")
                process.resume()

        self._after(seconds, go_on)

    def _transfer(self) -> None:
        leader = self._cluster.leader()
        target = self._some()
        if leader is None or target is None or leader is target or leader.require().process.paused:
            return
        self._cluster.trace.note(f"{leader.name} is to hand over to {target.name}")
        running = leader.require()

        def hand_over() -> None:
            running.begun.raft.transfer_leadership(target.id)
            running.ready.kick()

        running.process.run(lambda: running.node.guard(hand_over))

    # --- links --------------------------------------------------------------------------------------------

    def _cut(self, links: set[tuple[int, int]], what: str) -> None:
        network, trace = self._cluster.network, self._cluster.trace
        links = links - network.cuts
        network.cuts |= links
        trace.note(what)

        def heal() -> None:
            network.cuts -= links
            trace.note(f"healed: {what}")

        self._after(0.1 + 2 * self._duration(), heal)

    def _isolate(self) -> None:
        member = self._some()
        if member is not None:
            others = [other.id for other in self._cluster.members if other is not member]
            links = {(member.id, other) for other in others} | {(other, member.id) for other in others}
            self._cut(links, f"{member.name} is cut off")

    def _split(self) -> None:
        members = list(self._cluster.members)
        self._dice.shuffle(members)
        at = self._dice.randrange(len(members) + 1)
        here, there = members[:at], members[at:]
        links = {(a.id, b.id) for a in here for b in there} | {(b.id, a.id) for a in here for b in there}
        self._cut(links, f"split: {_names(here)} | {_names(there)}")

    def _one_way(self) -> None:
        a, b = self._dice.choice(self._cluster.members), self._dice.choice(self._cluster.members)
        if a is not b:
            self._cut({(a.id, b.id)}, f"nothing gets from {a.name} to {b.name}")

    def _bridge(self) -> None:
        """Two halves that only one member can reach both."""
        members = list(self._cluster.members)
        self._dice.shuffle(members)
        rest = members[1:]
        here, there = rest[::2], rest[1::2]
        links = {(a.id, b.id) for a in here for b in there} | {(b.id, a.id) for a in here for b in there}
        self._cut(links, f"{members[0].name} is the bridge of {_names(here)} and {_names(there)}")

    def _loss(self) -> None:
        network = self._cluster.network
        network.loss = self._dice.choice((0.02, 0.1, 0.4))
        network.duplication = self._dice.choice((0.0, 0.1))
        self._cluster.trace.note(f"messages: {network.loss} lost, {network.duplication} doubled")

        def heal() -> None:
            network.loss, network.duplication = self._cluster.profile.loss, 0.0

        self._after(2 * self._duration(), heal)

    def _delay(self) -> None:
        network = self._cluster.network
        network.delay_seconds = self._dice.choice((0.01, 0.05, 0.3))
        self._cluster.trace.note(f"messages take {network.delay_seconds}")

        def heal() -> None:
            network.delay_seconds = self._cluster.profile.delay_seconds

        self._after(2 * self._duration(), heal)

    def _reorder(self) -> None:
        network = self._cluster.network
        network.in_order = False
        network.duplication = self._dice.choice((0.0, 0.2))
        network.delay_seconds = max(network.delay_seconds, 0.02)
        self._cluster.trace.note("messages come in any order")

        def heal() -> None:
            network.in_order = True
            network.duplication = 0.0
            network.delay_seconds = self._cluster.profile.delay_seconds

        self._after(2 * self._duration(), heal)

    # --- disks --------------------------------------------------------------------------------------------

    def _stall(self) -> None:
        member = self._some()
        if member is not None:
            seconds = 2 * self._duration()
            member.machine.stalled_until = self._cluster.loop.now + seconds
            self._cluster.trace.note(f"{member.name}'s disk stalls for {seconds:.3f}")

    def _slow_disk(self) -> None:
        member = self._some()
        if member is not None:
            machine = member.machine
            machine.sync_seconds = self._dice.choice((0.03, 0.2))
            self._cluster.trace.note(f"{member.name}'s disk takes {machine.sync_seconds}")

            def heal() -> None:
                machine.sync_seconds = self._cluster.profile.sync_seconds

            self._after(2 * self._duration(), heal)

    def _sync_error(self) -> None:
        member = self._some()
        if member is not None:
            member.machine.fail_next_sync = True
            self._cluster.trace.note(f"{member.name}'s next sync fails")

    def _install_error(self) -> None:
        """The power fails before the next snapshot that is received has replaced the database."""
        member = self._some()
        if member is not None:
            member.machine.fail_next_install = True
            self._cluster.trace.note(f"{member.name} loses its power when it installs a snapshot")

    def _disk_full(self) -> None:
        member = self._some()
        if member is not None:
            member.machine.fill()
            self._cluster.trace.note(f"{member.name}'s disk is full")

    def _cut_between_calls(self) -> None:
        """The power fails in the middle of what the member does with its disk next."""
        member = self._some()
        if member is not None:
            disk = member.machine.disk
            disk.fail_at = self._dice.randrange(12)
            disk.fail_errno = errno.EIO
            self._cluster.trace.note(f"{member.name} loses its power in {disk.fail_at} calls")


def _names(members: list[Member]) -> str:
    return " ".join(member.name for member in members) or "nobody"
