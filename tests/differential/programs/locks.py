"""Steps of the Lock and Election services; a call that has to wait is released by a later step."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, cast

from google.protobuf.message import Message

from kvorum.proto import rpc_pb2 as pb
from kvorum.proto import v3election_pb2 as election
from kvorum.proto import v3lock_pb2 as lock
from tests.differential.programs.draw import VALUES, Surface
from tests.differential.side import Side
from tests.differential.steps import Call, Step, text_of
from tests.differential.waiting import key_of

NAMES: Final = (b"lk", b"el", b"")
LEASES: Final = (1, 2, 3, 7, 0x1F, 99)  # nobody grants 99
TTLS: Final = (600, 6000)
LOCK: Final = "v3lockpb.Lock/Lock"
CAMPAIGN: Final = "v3electionpb.Election/Campaign"


@dataclass(frozen=True)
class Acquire:
    """Lock or Campaign, answered at once or after a later step."""

    method: str
    request: lock.LockRequest | election.CampaignRequest

    def perform(self, side: Side) -> object:
        if side.waits.would_wait(self.request):
            return side.waits.begin(self.method, self.request, side.watching.control)
        return side.won(side.comparable(side.outcome(self.method, self.request)))

    def __str__(self) -> str:
        return f"{self.method.rpartition('/')[2]}({text_of(self.request)})"


@dataclass(frozen=True)
class GiveUp:
    """The client of the longest waiting call cancels it."""

    def perform(self, side: Side) -> object:
        if side.waits:
            side.watching.settle()
        return side.waits.cancel(side.watching.control) if side.waits else "nobody waits"


@dataclass(frozen=True)
class AsLeader:
    """Proclaim or Resign with the leader key that was won last, or one made up."""

    method: str
    name: bytes
    lease: int
    value: bytes
    latest: bool

    def perform(self, side: Side) -> object:
        made_up = election.LeaderKey(
            name=self.name, key=key_of(self.name, self.lease), rev=side.base + 1, lease=self.lease
        )
        leader = side.leaders[-1] if self.latest and side.leaders else made_up
        request: Message = election.ResignRequest(leader=leader)
        if self.method.endswith("Proclaim"):
            request = election.ProclaimRequest(leader=leader, value=self.value)
        return side.comparable(side.outcome(self.method, request))


@dataclass(frozen=True)
class LockBriefly:
    """A lock whose lease the server makes, and its end; the lease is in the key, so only its form counts."""

    name: bytes

    def perform(self, side: Side) -> object:
        request = lock.LockRequest(name=self.name)
        if side.client.range(self.name + b"/", self.name + b"0").kvs:
            return "left out: held"
        outcome = side.outcome(LOCK, request)
        if not isinstance(outcome, lock.LockResponse):
            return side.comparable(outcome)
        key = outcome.key
        lease = int(key.removeprefix(self.name + b"/"), 16)
        outcome.key = b""
        unlocked = side.call("v3lockpb.Lock/Unlock", lock.UnlockRequest(key=key))
        revoked = side.call("etcdserverpb.Lease/LeaseRevoke", pb.LeaseRevokeRequest(ID=lease))
        return side.comparable(outcome), unlocked, revoked


@dataclass(frozen=True)
class ObserveFirst:
    """Observe an election that has a leader until it is told; a client then goes away."""

    name: bytes

    def perform(self, side: Side) -> object:
        if not side.client.range(self.name + b"/", self.name + b"0").kvs:
            return "left out: no leader"
        request = election.LeaderRequest(name=self.name)
        stream = side.client.stream("v3electionpb.Election/Observe", request, election.LeaderResponse)
        first = side.comparable(next(stream))
        cast("object", stream).cancel()  # type: ignore[attr-defined] # grpcio's call, which is untyped
        return first


class Locks(Surface):
    """Draws Lock and Election steps."""

    def opening(self) -> Sequence[Step]:
        return [self._grant(lease) for lease in LEASES[:4]]

    def _grant(self, lease: int) -> Step:
        request = pb.LeaseGrantRequest(ID=lease, TTL=self.random.choice(TTLS))
        return Call("etcdserverpb.Lease/LeaseGrant", request)

    def step(self) -> Step:
        kinds = ("grant", "lock", "campaign", "unlock", "as leader", "leader", "give up", "observe")
        kind = self.random.choices((*kinds, "revoke", "delete"), (10, 18, 16, 14, 12, 7, 3, 4, 4, 4))[0]
        name = self.random.choices(NAMES, (10, 8, 1))[0]
        lease = self.random.choice(LEASES)
        if kind in ("leader", "give up", "observe"):
            return self._look(kind, name)
        self.draw.revision += 1
        if kind == "grant":
            return self._grant(self.random.choice(LEASES[:-1]))
        if kind == "lock":
            return Acquire(LOCK, lock.LockRequest(name=name, lease=lease))
        if kind == "campaign":
            value = self.random.choice(VALUES)
            return Acquire(CAMPAIGN, election.CampaignRequest(name=name, lease=lease, value=value))
        if kind == "unlock":
            return Call("v3lockpb.Lock/Unlock", lock.UnlockRequest(key=key_of(name, lease)))
        if kind == "as leader":
            method = self.random.choice(("Proclaim", "Resign"))
            value = self.random.choice(VALUES)
            return AsLeader(f"v3electionpb.Election/{method}", name, lease, value, self.random.random() < 0.7)
        if kind == "revoke":
            return Call("etcdserverpb.Lease/LeaseRevoke", pb.LeaseRevokeRequest(ID=lease))
        return Call("etcdserverpb.KV/DeleteRange", self._delete(name, lease))

    def _look(self, kind: str, name: bytes) -> Step:
        if kind == "leader":
            return Call("v3electionpb.Election/Leader", election.LeaderRequest(name=name))
        if kind == "give up":
            return GiveUp()
        return ObserveFirst(name)

    def _delete(self, name: bytes, lease: int) -> pb.DeleteRangeRequest:
        """Return a request that takes one key away, or all of a name at once."""
        if self.draw.often():
            return pb.DeleteRangeRequest(key=name + b"/", range_end=name + b"0")
        return pb.DeleteRangeRequest(key=key_of(name, lease), prev_kv=True)


class BriefLocks(Surface):
    """Draws locks whose lease the server chooses: in programs where nothing else sees the keys made of it."""

    def step(self) -> Step:
        return LockBriefly(self.random.choice(NAMES))
