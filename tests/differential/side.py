"""One of the two servers: performs a program's steps and makes its answers comparable."""

import time
from collections.abc import Sequence
from typing import Any, Final, cast, final

import grpc
from google.protobuf.message import Message

from kvorum.proto import rpc_pb2 as pb
from kvorum.proto.v3election_pb2 import CampaignResponse, LeaderKey
from tests.differential import normal
from tests.differential.responses import RESPONSES
from tests.differential.transcript import MARKER
from tests.differential.waiting import Waits
from tests.differential.watching import Watching
from tests.support.client import Client

GIVEN_LEASES: Final = (1, 2, 3, 7, 0x1F, 1 << 40, (1 << 63) - 1, -7)
"""IDs that programs grant themselves; any other was chosen by a server."""


@final
class Side:
    """A server, what a program holds open on it, and the revision at which the program began."""

    def __init__(self, name: str, client: Client, *, streams_ranges: bool) -> None:
        self.name: Final = name
        self.client: Final = client
        self.streams_ranges: Final = streams_ranges
        self.watching: Final = Watching(client)
        self.waits: Final = Waits(client, self.comparable)
        self.leaders: Final[list[LeaderKey]] = []  # of the campaigns that were won
        self._ttls: Final[dict[int, int]] = {}  # granted, by lease
        self.base = 0
        self._began = time.monotonic()

    # --- calls --------------------------------------------------------------------------------------------

    def call(self, method: str, request: Message) -> object:
        """Make a unary call; returns its answer, comparable."""
        return self.comparable(self.outcome(method, self.placed(request)))

    def won(self, answer: object) -> object:
        """Remember the leader key if an answer to Campaign has one; returns the answer."""
        if isinstance(answer, CampaignResponse):
            self.leaders.append(answer.leader)
        return answer

    def placed(self, request: Message) -> Any:
        """Return the request with the revisions of this run."""
        return normal.shifted(request, self.base)

    def outcome(self, method: str, request: Message) -> Message | grpc.RpcError:
        """Make a unary call as it is; returns its response or refusal."""
        try:
            return self.client.call(method, request, RESPONSES[method])
        except grpc.RpcError as refusal:
            return refusal

    def call_raw(self, method: str, body: bytes) -> object:
        """Make a unary call with a body that is no message; returns its answer, comparable."""
        stub = self.client.channel.unary_unary(
            f"/{method}",
            request_serializer=lambda raw: raw,
            response_deserializer=RESPONSES[method].FromString,
        )
        try:
            return self.comparable(stub(body, timeout=self.client.timeout_seconds))
        except grpc.RpcError as refusal:
            call = cast("grpc.Call", refusal)
            if "unmarshal" in (call.details() or ""):
                return normal.refusal_of_body(call.code().name)
            return self.comparable(refusal)

    def comparable(self, outcome: Message | grpc.RpcError) -> object:
        """Return a refusal as code and text, and a response without what may differ."""
        if isinstance(outcome, grpc.RpcError):
            call = cast("grpc.Call", outcome)
            return call.code().name, call.details()
        normal.without_ids(outcome)
        normal.without_order_among_equals(outcome)
        normal.without_order_of_lease_keys(outcome)
        if isinstance(outcome, pb.LeaseGrantResponse):
            self._ttls[outcome.ID] = outcome.TTL
        normal.without_order_among_equal_ttls(outcome, self._ttls)
        normal.without_chosen_leases(outcome, GIVEN_LEASES)
        normal.without_passing_time(outcome, time.monotonic() - self._began)
        return outcome

    # --- programs -----------------------------------------------------------------------------------------

    def run(self, steps: Sequence[Any], answers: list[object]) -> None:
        """Perform all steps; appends an answer for each and one for what the watches delivered.

        Raises:
            StuckError: something did not come.
        """
        for step in steps:
            answer = step.perform(self)
            answers.append((answer, *[(key, self.won(told)) for key, told in self.waits.released()]))
        answers.append(self.watching.end(self.base))

    def clean(self) -> int:
        """End what a program left behind, empty the store; returns the revision."""
        self.watching.abandon()
        self.leaders.clear()
        self._revoke_all()
        self.client.delete(b"\0", b"\0")
        self.waits.drain()
        self._revoke_all()
        return self.client.delete(b"\0", b"\0").header.revision

    def begin(self, revision: int) -> None:
        """Bring the empty store to a revision, at least two on, and forget all before."""
        at = self.client.put(MARKER, b"").header.revision
        while at < revision - 1:
            at = self.client.put(MARKER, b"").header.revision
        at = self.client.delete(MARKER).header.revision
        assert at == revision, f"{self.name} stands at {at}, not {revision}"
        self.client.compact(at, physical=True)
        self.base = at - 1  # programs count as in a fresh store, which stands at 1
        self._began = time.monotonic()

    def close(self) -> None:
        """End everything that is open."""
        self.waits.abandon()
        self.watching.close()

    def _revoke_all(self) -> None:
        leases = self.client.call(
            "etcdserverpb.Lease/LeaseLeases", pb.LeaseLeasesRequest(), pb.LeaseLeasesResponse
        ).leases
        for lease in leases:
            request = pb.LeaseRevokeRequest(ID=lease.ID)
            self.outcome("etcdserverpb.Lease/LeaseRevoke", request)  # may have expired meanwhile
