"""Lock and Election as a client calls them, with answers that two servers can be compared by.

Revisions count from where the store stood when the party came, leases that a server chose are blanked, and
refusals are values like any answer.
"""

import re
import time
from collections.abc import Callable, Iterator
from typing import Any, Final, cast, final

import grpc

from kvorum.proto import rpc_pb2 as pb
from kvorum.proto import v3election_pb2 as epb
from kvorum.proto import v3lock_pb2 as lpb
from kvorum.proto.kv_pb2 import KeyValue
from tests.support.client import Client

SECONDS: Final = 20.0
OWN_LEASES: Final = 1 << 20
"""Leases that tests choose are below, those that servers choose are far above."""

Answer = tuple[Any, ...]


def eventually(condition: Callable[[], bool]) -> None:
    """For what sends no event: look until it is so, and fail after a while."""
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, "never became so"
        time.sleep(0.005)


@final
class Pending:
    """A call under way."""

    def __init__(self, future: Any, normal: Callable[[Any], Answer]) -> None:
        self._future: Final = future
        self._normal: Final = normal

    @property
    def done(self) -> bool:
        """Whether it has been answered."""
        return bool(self._future.done())

    def answer(self) -> Answer:
        """Wait for the answer."""
        try:
            return self._normal(self._future.result(SECONDS))
        except grpc.RpcError as refusal:
            call = cast("grpc.Call", refusal)
            return call.code().name, call.details()

    def cancel(self) -> None:
        """Give it up, as a client that has lost its patience."""
        self._future.cancel()


@final
class Party:
    """One connection to one member."""

    def __init__(self, client: Client) -> None:
        self.client: Final = client
        self.base: Final = int(client.range(b"\0").header.revision)

    # --- leases and keys ------------------------------------------------------------------------------------

    def grant(self, *leases: int, ttl: int = 60) -> None:
        for lease in leases:
            request = pb.LeaseGrantRequest(ID=lease, TTL=ttl)
            self.client.call("etcdserverpb.Lease/LeaseGrant", request, pb.LeaseGrantResponse)

    def revoke(self, lease: int) -> None:
        request = pb.LeaseRevokeRequest(ID=lease)
        self.client.call("etcdserverpb.Lease/LeaseRevoke", request, pb.LeaseRevokeResponse)

    def leases(self) -> int:
        """How many leases there are."""
        method = "etcdserverpb.Lease/LeaseLeases"
        return len(self.client.call(method, pb.LeaseLeasesRequest(), pb.LeaseLeasesResponse).leases)

    def keys(self, name: bytes) -> list[Answer]:
        """What stands in the queue of a name, in the order of their keys."""
        return [self.kv(kv) for kv in self.client.range(name + b"/", name + b"0").kvs]

    def queue(self, name: bytes) -> list[bytes]:
        """The keys of a queue, oldest first."""
        kvs = self.client.range(name + b"/", name + b"0").kvs
        return [kv.key for kv in sorted(kvs, key=lambda kv: kv.create_revision)]

    def await_queue(self, name: bytes, *leases: int) -> None:
        """Wait until the keys of just these leases stand in the queue, in this order.

        A few more looks give the server time to find that out itself: etcd forgets a key whose call is given
        up in between.
        """
        wanted = [key_of(name, lease) for lease in leases]
        eventually(lambda: self.queue(name) == wanted)
        for _ in range(3):
            assert self.queue(name) == wanted

    # --- lock -----------------------------------------------------------------------------------------------

    def lock(self, name: bytes, lease: int, *, seconds: float = SECONDS) -> Pending:
        request = lpb.LockRequest(name=name, lease=lease)
        return self._begin("v3lockpb.Lock/Lock", request, lpb.LockResponse, self._locked, seconds)

    def unlock(self, key: bytes) -> Answer:
        request = lpb.UnlockRequest(key=key)
        return self._begin("v3lockpb.Lock/Unlock", request, lpb.UnlockResponse, self._headed).answer()

    # --- election -------------------------------------------------------------------------------------------

    def campaign(self, name: bytes, lease: int, value: bytes, *, seconds: float = SECONDS) -> Pending:
        request = epb.CampaignRequest(name=name, lease=lease, value=value)
        method = "v3electionpb.Election/Campaign"
        return self._begin(method, request, epb.CampaignResponse, self._elected, seconds)

    def proclaim(self, leader: epb.LeaderKey | None, value: bytes) -> Answer:
        request = epb.ProclaimRequest(leader=leader, value=value)
        method = "v3electionpb.Election/Proclaim"
        return self._begin(method, request, epb.ProclaimResponse, self._headed).answer()

    def resign(self, leader: epb.LeaderKey | None) -> Answer:
        request = epb.ResignRequest(leader=leader)
        return self._begin("v3electionpb.Election/Resign", request, epb.ResignResponse, self._headed).answer()

    def leader(self, name: bytes) -> Answer:
        request = epb.LeaderRequest(name=name)
        return self._begin("v3electionpb.Election/Leader", request, epb.LeaderResponse, self._led).answer()

    def observe(self, name: bytes) -> Iterator[Answer]:
        request = epb.LeaderRequest(name=name)
        for response in self.client.stream("v3electionpb.Election/Observe", request, epb.LeaderResponse):
            yield self._led(response)

    def leader_key(self, name: bytes, lease: int, rev: int, /, **changed: Any) -> epb.LeaderKey:
        """What a campaign answered with, or something else; only the positional ``rev`` counts from the
        base.
        """
        fields: dict[str, Any] = {
            "name": name,
            "key": key_of(name, lease),
            "lease": lease,
            "rev": rev + self.base,
        }
        return epb.LeaderKey(**(fields | changed))

    # --- what can be compared -------------------------------------------------------------------------------

    def _begin(
        self, method: str, request: Any, response: Any, normal: Any, seconds: float = SECONDS
    ) -> Pending:
        stub = self.client.channel.unary_unary(
            f"/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=response.FromString,
        )
        return Pending(stub.future(request, timeout=seconds, wait_for_ready=True), normal)

    def _headed(self, response: Any) -> Answer:
        header = response.header
        assert header.cluster_id
        assert header.member_id
        return header.revision - self.base, header.raft_term

    def _locked(self, response: lpb.LockResponse) -> Answer:
        return "locked", blanked(response.key), *self._headed(response)

    def _elected(self, response: epb.CampaignResponse) -> Answer:
        leader = response.leader
        place = leader.name, blanked(leader.key), leader.rev - self.base, own(leader.lease)
        return "elected", *place, *self._headed(response)

    def _led(self, response: epb.LeaderResponse) -> Answer:
        return "led", *self.kv(response.kv), *self._headed(response)

    def kv(self, kv: KeyValue) -> Answer:
        revisions = kv.create_revision - self.base, kv.mod_revision - self.base, kv.version
        return blanked(kv.key), kv.value, *revisions, own(kv.lease)


def key_of(name: bytes, lease: int) -> bytes:
    """The key of a lease in the queue of a name."""
    return name + b"/%x" % lease


def own(lease: int) -> int | str:
    """A lease, unless a server chose it."""
    return lease if lease < OWN_LEASES else "chosen"


def blanked(key: bytes) -> bytes:
    """A key, without the lease that a server chose."""
    return re.sub(rb"/[0-9a-f]{12,16}$", b"/chosen", key)
