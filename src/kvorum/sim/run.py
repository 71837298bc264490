"""One seed, from start to verdict.

    create the cluster -> storm (faults and workload) -> mend everything -> settle -> last questions

After the storm all members must come back, elect a leader, catch up and agree: equal HashKV, equal keys
(those of the model), equal membership, every watcher complete, every lease that nobody keeps alive gone.
"""

import asyncio
import gc
import logging
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

from kvorum.proto.rpc_pb2 import PutRequest, RangeRequest
from kvorum.sim import profile as profiles
from kvorum.sim import registers
from kvorum.sim.client import Client
from kvorum.sim.cluster import Cluster
from kvorum.sim.judge import raft_of
from kvorum.sim.leasing import Holder
from kvorum.sim.loop import DeadlockError, SimulatedLoop
from kvorum.sim.member import Member
from kvorum.sim.model import message_of
from kvorum.sim.nemesis import Nemesis
from kvorum.sim.profile import Profile
from kvorum.sim.trace import ViolationError
from kvorum.sim.watching import Watcher

SETTLE_SECONDS: Final = 40.0
"""Simulated time in which a mended cluster must have agreed."""

logging.getLogger("kvorum").addHandler(logging.NullHandler())

LAST_PATIENCE_SECONDS: Final = 8.0

_MEMORY: Final = "/dev/shm"  # noqa: S108 - databases of a run; removed with it


@final
@dataclass(frozen=True)
class Verdict:
    """What came of a seed. ``checker`` is empty if everything held."""

    seed: int
    profile: Profile
    digest: str
    lines: int
    simulated_seconds: float
    operations: int
    entries: int
    steps: int
    starts: int
    messages: int
    terms: int
    snapshots: int
    checker: str = ""
    what: str = ""
    tail: tuple[str, ...] = ()


def run(
    seed: int,
    profile: Profile | None = None,
    *,
    echo: Callable[[str], None] | None = None,
) -> Verdict:
    """Run one seed; the profile is the seed's own unless another one is given."""
    return Run(seed, profile or profiles.draw(seed), echo).verdict()


@final
class Run:
    """One run."""

    def __init__(self, seed: int, profile: Profile, echo: Callable[[str], None] | None) -> None:
        self._seed: Final = seed
        self._profile: Final = profile
        self._dice: Final = random.Random(f"kvorum {seed}")
        self._failure: BaseException | None = None
        self._loop: Final = SimulatedLoop(self._failed)
        memory = _MEMORY if os.path.isdir(_MEMORY) else None
        self._directory: Final = tempfile.mkdtemp(prefix="kvorum-sim-", dir=memory)
        self._cluster: Final = Cluster(profile, self._dice, self._directory, self._loop, echo)
        self._nemesis: Final = Nemesis(self._cluster, random.Random(self._dice.random()))
        self._cluster.on_crash = self._nemesis.restart_later
        self._clients: list[Client] = []

    def verdict(self) -> Verdict:
        """Run, and say what came of it."""
        state = random.getstate()
        random.seed(self._seed)  # the watch hub's jitter takes its dice from the program's
        failure: BaseException | None = None
        try:
            self._loop.run_until_complete(self._guarded())
        except (ViolationError, AssertionError, DeadlockError) as error:
            failure = error
        finally:
            random.setstate(state)
            failure = self._failure or failure
            for member in self._cluster.members:
                member.erase()
            shutil.rmtree(self._directory, ignore_errors=True)
            self._loop.close()
            gc.unfreeze()
        if failure is not None and not isinstance(failure, ViolationError):
            failure = ViolationError("program", repr(failure)).with_traceback(failure.__traceback__)
        return self._told(failure)

    def _told(self, failure: ViolationError | None) -> Verdict:
        cluster = self._cluster
        return Verdict(
            seed=self._seed,
            profile=self._profile,
            digest=cluster.trace.digest,
            lines=cluster.trace.lines,
            simulated_seconds=self._loop.now,
            operations=len(cluster.oracle.operations),
            entries=cluster.oracle.model.index,
            steps=cluster.judge.steps,
            starts=sum(member.starts for member in cluster.members),
            messages=cluster.network.sent_total,
            terms=len(cluster.judge.leaders),
            snapshots=cluster.transfer.installed,
            checker=failure.checker if failure else "",
            what=str(failure) if failure else "",
            tail=tuple(cluster.trace.tail) if failure else (),
        )

    def _failed(self, error: BaseException) -> None:
        """Something raised where nobody waits for it: the run ends here."""
        if self._failure is None:
            self._failure = error
        if self._main is not None:
            self._main.cancel()

    _main: "asyncio.Task[None] | None" = None

    async def _guarded(self) -> None:
        self._main = asyncio.ensure_future(self._all())
        try:
            await self._main
        except asyncio.CancelledError:
            if self._failure is None:
                raise
        finally:
            self._cluster.is_over = True
            self._nemesis.close()
            for task in self._tasks:
                task.cancel()

    # --- the run --------------------------------------------------------------------------------------------

    async def _all(self) -> None:
        cluster, profile = self._cluster, self._profile
        cluster.trace.note(f"seed {self._seed}: {profile}")
        cluster.create()
        self._ask()
        self._nemesis.start()
        await asyncio.sleep(profile.seconds)
        cluster.is_closing = True
        self._nemesis.end()
        await self._settle()
        await self._last_questions()
        self._check_all()
        cluster.trace.note(f"done: revision {cluster.oracle.model.revision}")

    def _ask(self) -> None:
        """Begin the workload."""
        cluster, profile, dice = self._cluster, self._profile, self._dice
        self._clients = [
            Client(cluster, f"c{number}", random.Random(dice.random())) for number in range(profile.clients)
        ]
        self._clients += [
            Client(cluster, f"r{number}", random.Random(dice.random()), only_reads=True)
            for number in range(profile.readers)
        ]
        cluster.holders.extend(
            Holder(cluster, f"h{number}", random.Random(dice.random())) for number in range(profile.leases)
        )
        ranges = ((b"k", b"l"), (b"k01", b""), (b"k", b"k02"), (b"l/", b"l0"))
        for number in range(profile.watchers):
            key, end = ranges[number % len(ranges)]
            watcher = Watcher(cluster, f"w{number}", key, end, random.Random(dice.random()))
            cluster.watchers.append(watcher)
            watcher.open()
        work = [*(client.run() for client in self._clients), *(holder.run() for holder in cluster.holders)]
        self._tasks = [self._loop.create_task(self._doing(each)) for each in work]

    _tasks: Sequence["asyncio.Task[None]"] = ()

    async def _doing(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except (ViolationError, AssertionError) as error:
            self._failed(error)

    async def _settle(self) -> None:
        """Wait until everybody has come back, and everything is applied everywhere."""
        until = self._loop.now + SETTLE_SECONDS
        while True:
            await asyncio.sleep(0.5)
            if self._has_settled():
                return
            if self._loop.now > until:
                raise ViolationError("liveness", f"no agreement after the storm: {self._missing()}")

    def _missing(self) -> str:
        """What has not come to rest, for people."""
        cluster = self._cluster
        parts = [f"{member.name} {member.describe()}" for member in cluster.members if member.starts]
        parts += [f"lease {lease} is there" for lease in cluster.oracle.model.leases]
        parts += [f"{watcher.name} waits" for watcher in cluster.watchers if not watcher.is_complete]
        parts += ["a client waits" for task in self._tasks if not task.done()]
        return "; ".join(parts)

    def _there(self) -> list[Member]:
        return [member for member in self._cluster.members if member.starts and not member.removed]

    def _has_settled(self) -> bool:
        cluster = self._cluster
        leader = cluster.leader()
        if leader is None or not all(task.done() for task in self._tasks):
            return False
        last = leader.require().begun.raft.commit
        for member in self._there():
            running = member.running
            if running is None or running.node.applied_index != last:
                return False
        if raft_of(leader.require()).log.last_index != last:
            return False
        return not cluster.oracle.model.leases and all(watcher.is_complete for watcher in cluster.watchers)

    async def _last_questions(self) -> None:
        """Every member takes a write and answers a read."""
        cluster = self._cluster
        dice = random.Random(self._dice.random())
        client = Client(cluster, "last", dice, patience_seconds=LAST_PATIENCE_SECONDS)
        for member in self._there():
            for kind, request in (
                ("put", PutRequest(key=b"k00", value=b"last.%s" % member.name.encode())),
                ("read", RangeRequest(key=b"k", range_end=b"l")),
            ):
                outcome = await client.do(kind, request, member)
                if not outcome.decided or outcome.refused or outcome.error:
                    raise ViolationError("liveness", f"{member.name} does not answer a {kind}: {outcome}")
        await self._settle()

    # --- the verdict ----------------------------------------------------------------------------------------

    def _check_all(self) -> None:
        cluster = self._cluster
        there = self._there()
        for watcher in cluster.watchers:
            watcher.check_complete()
        for holder in cluster.holders:
            holder.check_ended()
        self._check_stores(there)
        self._check_membership(there)
        undecided = registers.check(cluster.oracle.operations)
        cluster.trace.note(f"registers: {undecided} undecided")

    def _check_stores(self, there: Sequence[Member]) -> None:
        """Every store holds the model's keys, and hashes to the same."""
        model = self._cluster.oracle.model
        expected = {key: message_of(key, now) for key, now in model.keys.items()}
        hashes: dict[str, tuple[int, int]] = {}
        for member in there:
            store = member.require().node.store
            store.compact_now()
            store.check_invariants()
            kvs = store.range(b"\0", b"\0").kvs
            found = {}
            for kv in kvs:
                message = type(next(iter(expected.values()))).FromString(kv) if expected else None
                if message is not None:
                    found[message.key] = message
            if found != expected or len(kvs) != len(expected):
                raise ViolationError(
                    "final-state", f"{member.name} holds {sorted(found)}, not {sorted(expected)}"
                )
            if store.revision != model.revision:
                raise ViolationError(
                    "final-state", f"{member.name} is at {store.revision}, not {model.revision}"
                )
            hashes[member.name] = store.hash_kv().hash, store.compact_revision
            member.require().node.lessor.check_invariants()
        if len(set(hashes.values())) > 1:
            raise ViolationError("hash-kv", f"the stores differ: {hashes}")
        self._cluster.trace.note(f"hash {next(iter(hashes.values()), 0)}")

    def _check_membership(self, there: Sequence[Member]) -> None:
        views = {}
        for member in there:
            node = member.require().node
            node.cluster.check_invariants()
            config = raft_of(member.require()).config
            voters = frozenset(info.id for info in node.cluster.voters())
            if config.voters != voters or config.members != frozenset(node.cluster.members):
                raise ViolationError("membership", f"{member.name}: {config}, and members {sorted(voters)}")
            views[member.name] = (
                tuple(node.cluster.listed()), tuple(sorted(node.cluster.removed)), node.store.conf_state,
                raft_of(member.require()).config.conf_state(),
            )  # fmt: skip
        if len(set(views.values())) > 1:
            raise ViolationError("membership", f"members differ about who is one: {views}")
