"""One member's membership: real Raft, a real cluster on tables in memory, connections and a clock by hand."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, final

from kvorum.errors import EtcdError
from kvorum.logging import DEBUG, Logger
from kvorum.raft.codec import decode_conf_state, encode_conf_change, encode_conf_change_v2
from kvorum.raft.config import RaftConfig
from kvorum.raft.rawnode import RawNode
from kvorum.raft.types import (
    ENTRY_CONF_CHANGE,
    ENTRY_CONF_CHANGE_V2,
    ENTRY_NORMAL,
    ConfChange,
    ConfChangeV2,
    ConfState,
    Entry,
)
from kvorum.server import changes
from kvorum.server.changes import MemberInfo
from kvorum.server.membership import Cluster
from kvorum.server.reconfigure import Reconfigure
from tests.http.serving import Lines

LOCAL: Final = 1
TIMEOUT_SECONDS: Final = 7.0
CLUSTER_ID: Final = 0xC1


class MemoryTable:
    """A table of the backend, in memory."""

    def __init__(self) -> None:
        self.records: dict[bytes, bytes] = {}

    def get(self, key: bytes) -> bytes | None:
        return self.records.get(key)

    def put(self, key: bytes, value: bytes) -> None:
        self.records[key] = value

    def delete(self, key: bytes) -> bool:
        return self.records.pop(key, None) is not None

    def iterate(self) -> Any:
        return iter(sorted(self.records.items()))


class MemoryTables:
    """The backend."""

    def __init__(self) -> None:
        self.tables: dict[bytes, MemoryTable] = {}

    def table(self, name: bytes) -> MemoryTable:
        return self.tables.setdefault(name, MemoryTable())


class HandClock:
    """Timers that a test puts forward."""

    def __init__(self) -> None:
        self.now = 100.0
        self.due: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Callable[[], None]) -> object:
        self.due.append((self.now + delay, callback))
        return None

    def forward(self, seconds: float) -> None:
        end = self.now + seconds
        while self.due and min(at for at, _ in self.due) <= end:
            self.due.sort(key=lambda pair: pair[0])
            at, callback = self.due.pop(0)
            self.now = max(self.now, at)
            callback()
        self.now = end


class Connections:
    """Who is connected, and since when."""

    def __init__(self) -> None:
        self.peers: dict[int, tuple[str, ...]] = {}
        self.since: dict[int, float] = {}

    def active_since(self, member_id: int) -> float | None:
        return self.since.get(member_id)

    def add_peer(self, member_id: int, urls: Sequence[str]) -> None:
        self.peers[member_id] = tuple(urls)

    def update_peer(self, member_id: int, urls: Sequence[str]) -> None:
        assert member_id in self.peers
        self.peers[member_id] = tuple(urls)

    def remove_peer(self, member_id: int) -> None:
        del self.peers[member_id]

    def remove_all(self) -> None:
        self.peers.clear()


class Mirror:
    """Keeps a copy of what it is told."""

    def __init__(self) -> None:
        self.members: dict[int, MemberInfo] = {}
        self.removed: set[int] = set()
        self.versions: list[str] = []

    def member_added(self, member: MemberInfo) -> None:
        assert member.id not in self.members
        self.members[member.id] = member

    def member_removed(self, member_id: int) -> None:
        del self.members[member_id]
        self.removed.add(member_id)

    def attributes_set(self, member: MemberInfo) -> None:
        self.members[member.id] = member

    def raft_attributes_set(self, member: MemberInfo) -> None:
        self.members[member.id] = member

    def version_set(self, version: str) -> None:
        self.versions.append(version)


@final
class Machine:
    """A member of a cluster of one, unless more are added; its own log only.

    ``drive`` does what the Ready loop does. With ``others``, they are voters that answer nothing, so nothing
    commits; ``apply`` applies an entry that never was in the log.
    """

    def __init__(self, others: Iterable[int] = (), *, strict: bool = False, max_learners: int = 1) -> None:
        self.clock: Final = HandClock()
        self.connections: Final = Connections()
        self.tables: Final = MemoryTables()
        self.lines: Final = Lines()
        self.log: Final = Logger((self.lines,), level=DEBUG)
        self.cluster: Final = Cluster(CLUSTER_ID, LOCAL, self.tables, log=self.log, max_learners=max_learners)
        self.mirror: Final = Mirror()
        self.cluster.mirror = self.mirror
        members = [member(one) for one in (LOCAL, *others)]
        config = RaftConfig(id=LOCAL, random=lambda bound: 0)
        self.raft: Final = RawNode.bootstrap(config, [(one.id, one.to_json()) for one in members])
        self.conf_state = ConfState()
        self.removed = 0
        self.entries: list[Entry] = []
        self.reconfigure: Final = Reconfigure(
            self.raft,
            self.cluster,
            self.connections,
            self,
            self.clock,
            self.log,
            next_id=iter(range(1000, 100_000)).__next__,
            unix_time=lambda: 1_700_000_000.0,
            timeout_seconds=TIMEOUT_SECONDS,
            strict=strict,
        )
        self.drive()

    def elect(self) -> "Machine":
        self.raft.campaign()
        self.drive()
        assert self.raft.is_leader
        return self

    def drive(self) -> None:
        while self.raft.has_ready():
            ready = self.raft.ready()
            for entry in ready.committed_entries:
                self.entries.append(entry)
                if entry.type != ENTRY_NORMAL:
                    self.reconfigure.apply(entry)
                self.raft.applied_to(entry.index)
            self.raft.advance()
        self.check()

    def apply(self, change: ConfChange | ConfChangeV2) -> None:
        if isinstance(change, ConfChange):
            entry = Entry(1, 0, ENTRY_CONF_CHANGE, encode_conf_change(change))
        else:
            entry = Entry(1, 0, ENTRY_CONF_CHANGE_V2, encode_conf_change_v2(change))
        self.reconfigure.apply(entry)
        self.check()

    def apply_steps(self, *steps: changes.Change) -> EtcdError | None:
        """Apply changes as others propose them; returns the error of the last."""
        told: list[EtcdError | None] = []
        for step in steps:
            number = self.reconfigure.propose(step, told.append)
            self.apply(step.encoded(number))
        return told[-1]

    def check(self) -> None:
        """What holds after every entry: Raft, the cluster, its mirror and the connections agree."""
        cluster = self.cluster
        cluster.check_invariants()
        state = self.raft.status().conf_state
        if not self.conf_state.voters:
            return  # nothing applied yet
        assert self.conf_state == state
        if not state.voters_outgoing:
            assert set(state.voters) == {one.id for one in cluster.voters()}
            assert set(state.learners) == {one.id for one in cluster.listed() if one.is_learner}
        assert self.mirror.members == cluster.members
        assert self.mirror.removed == cluster.removed
        assert self.connections.peers == {one.id: one.peer_urls for one in cluster.others()}
        fresh = Cluster(CLUSTER_ID, LOCAL, self.tables)
        assert (fresh.members, fresh.removed, fresh.version) == (
            cluster.members,
            cluster.removed,
            cluster.version,
        )

    # --- what changes ask of their member -----------------------------------------------------------------

    def kick(self) -> None:
        pass

    def set_conf_state(self, encoded: bytes) -> None:
        self.conf_state = decode_conf_state(encoded)

    def why_late(self, started: float) -> EtcdError:
        return EtcdError(14, f"late since {started:g}")

    def removed_self(self) -> None:
        self.removed += 1


def member(number: int, *, learner: bool = False, name: str | None = None) -> MemberInfo:
    """A member called after its number, which has started unless ``name`` is empty."""
    called = f"m{number}" if name is None else name
    return MemberInfo(number, (f"http://10.0.0.{number}:2380",), called, is_learner=learner)


async def settle() -> None:
    """Let tasks run until they wait for something else."""
    for _ in range(10):
        await asyncio.sleep(0)
