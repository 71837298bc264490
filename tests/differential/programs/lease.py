"""Steps of the Lease service; the TTLs are so far apart that the order of expiry is never in doubt."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import grpc

from kvorum.proto import rpc_pb2 as pb
from tests.differential.programs.draw import VALUES, Surface
from tests.differential.side import GIVEN_LEASES, Side
from tests.differential.steps import Call, Step

TTLS: Final = (600, 6000, 60000, 9_000_000_000)
BRIEF_TTLS: Final = (-9_000_000_000, -1, 0, 1, 2)
TOO_LONG_TTLS: Final = (9_000_000_001, (1 << 63) - 1)


@dataclass(frozen=True)
class KeepAlive:
    """One stream that renews some leases one after the other."""

    leases: tuple[int, ...]

    def perform(self, side: Side) -> object:
        stub = side.client.channel.stream_stream(
            "/etcdserverpb.Lease/LeaseKeepAlive",
            request_serializer=pb.LeaseKeepAliveRequest.SerializeToString,
            response_deserializer=pb.LeaseKeepAliveResponse.FromString,
        )
        requests = [pb.LeaseKeepAliveRequest(ID=lease) for lease in self.leases]
        answers: list[object] = []
        try:
            for response in stub(iter(requests), timeout=side.client.timeout_seconds, wait_for_ready=True):
                answers.append(side.comparable(response))  # noqa: PERF401 # keeps those before a refusal
        except grpc.RpcError as refusal:
            answers.append(side.comparable(refusal))
        return answers

    def __str__(self) -> str:
        return f"KeepAlive{self.leases}"


@dataclass(frozen=True)
class BriefGrant:
    """A lease as short as they get, revoked before its end."""

    lease: int
    ttl: int

    def perform(self, side: Side) -> object:
        return (
            side.call("etcdserverpb.Lease/LeaseGrant", pb.LeaseGrantRequest(ID=self.lease, TTL=self.ttl)),
            side.call("etcdserverpb.Lease/LeaseRevoke", pb.LeaseRevokeRequest(ID=self.lease)),
        )


class Lease(Surface):
    """Draws Lease steps, and puts that attach keys."""

    def opening(self) -> Sequence[Step]:
        return [self._grant(lease) for lease in GIVEN_LEASES[:3] if self.draw.often()]

    def step(self) -> Step:
        kinds = ("grant", "chosen", "brief", "revoke", "ttl", "leases", "keepalive", "put")
        kind = self.random.choices(kinds, (24, 2, 4, 10, 20, 8, 8, 24))[0]
        lease = 0 if self.random.random() < 0.03 else self.draw.lease()
        if kind == "grant":
            return self._grant(self.draw.lease())
        if kind == "chosen":
            return self._grant(0)
        if kind == "brief":
            return BriefGrant(self.draw.lease(), self.random.choice(BRIEF_TTLS))
        if kind == "revoke":
            self.draw.revision += 1
            return Call("etcdserverpb.Lease/LeaseRevoke", pb.LeaseRevokeRequest(ID=lease))
        if kind == "ttl":
            request = pb.LeaseTimeToLiveRequest(ID=lease, keys=self.draw.often())
            return Call("etcdserverpb.Lease/LeaseTimeToLive", request)
        if kind == "leases":
            return Call("etcdserverpb.Lease/LeaseLeases", pb.LeaseLeasesRequest())
        if kind == "keepalive":
            leases = tuple(self.draw.lease() for _ in range(self.random.randint(0, 3)))
            return KeepAlive(leases)
        self.draw.revision += 1
        put = pb.PutRequest(key=self.draw.key(), value=self.random.choice(VALUES), lease=lease)
        return Call("etcdserverpb.KV/Put", put)

    def _grant(self, lease: int) -> Step:
        ttl = self.random.choice(TOO_LONG_TTLS if self.draw.rarely() else TTLS)
        return Call("etcdserverpb.Lease/LeaseGrant", pb.LeaseGrantRequest(ID=lease, TTL=ttl))
