"""Leases through a follower: the leader's lessor is asked over the peer port.

etcd sends a request for each renewal. Between members of our kind everything that has gathered while the last
request was under way goes as one, to a path of its own; a leader that does not know the path gets single
requests, some of them at a time. Nothing here waits for a leader: what cannot be answered is None, and who
asked tries again (``leases.py``). Source: etcd ``server/lease/leasehttp/http.go``.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Final, final

from google.protobuf.message import DecodeError, Message

from kvorum import limits
from kvorum.proto.lease_pb2 import LeaseInternalRequest, LeaseInternalResponse
from kvorum.proto.rpc_pb2 import (
    LeaseCheckpoint,
    LeaseCheckpointRequest,
    LeaseKeepAliveRequest,
    LeaseKeepAliveResponse,
    LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse,
)
from kvorum.server.forward import Answer, ToLeader

LEASES_PATH: Final = "/leases"
INTERNAL_PATH: Final = "/leases/internal"
BATCH_PATH: Final = "/leases/kvorum"
"""Renewals in one request: a LeaseCheckpointRequest with the ids, answered by one with the TTLs: 0 for a
lease that is gone, ASK_ALONE for one that has to be waited for.
"""

GONE: Final = 0
ASK_ALONE: Final = -1
NOT_THERE: Final = -1
"""TimeToLive's TTL of a lease that does not exist."""

Ttls = list[int | None]
_Waiting = tuple[Sequence[int], asyncio.Future[Ttls]]


@final
class LeaderLeases:
    """The leases as the leader knows them.

    Invariant: at most one batch is under way; what comes meanwhile is the next one.
    """

    def __init__(self, to_leader: ToLeader) -> None:
        self._to_leader: Final = to_leader
        self._queue: Final[deque[_Waiting]] = deque()
        self._sender: asyncio.Task[None] | None = None
        self._single_requests: Final = asyncio.Semaphore(limits.LEASE_REQUESTS_TO_LEADER)
        self._takes_no_batches = 0
        """The leader that knows single requests only."""

    @property
    def is_elsewhere(self) -> bool:
        """Whether another member leads."""
        return self._to_leader.leader() is not None

    async def renew(self, lease_id: int) -> int | None:
        """Renew one lease by a request of its own: its TTL, GONE, or None."""
        answer = await self._ask(LEASES_PATH, LeaseKeepAliveRequest(ID=lease_id))
        return None if answer is None else read_renewal(answer.status, answer.body, lease_id)

    async def _ask(self, path: str, request: Message) -> Answer | None:
        """A request of one lease, when there is room for it; not for longer than an attempt may take."""
        body = request.SerializeToString()
        try:
            async with asyncio.timeout(limits.LEASE_ATTEMPT_SECONDS), self._single_requests:
                return await self._to_leader.post(path, body, limits.LEASE_ATTEMPT_SECONDS)
        except TimeoutError:
            return None

    async def renew_many(self, lease_ids: Sequence[int]) -> Ttls:
        """Renew leases together with what others ask for: for each its TTL, GONE, ASK_ALONE, or None."""
        if not lease_ids:
            return []
        answered: asyncio.Future[Ttls] = asyncio.get_running_loop().create_future()
        self._queue.append((lease_ids, answered))
        if self._sender is None:
            self._sender = asyncio.get_running_loop().create_task(self._send())
        return await answered

    async def time_to_live(self, lease_id: int, keys: bool) -> LeaseTimeToLiveResponse | None:
        """What is left of a lease, without a header; None: ask again."""
        request = LeaseInternalRequest(LeaseTimeToLiveRequest=LeaseTimeToLiveRequest(ID=lease_id, keys=keys))
        answer = await self._ask(INTERNAL_PATH, request)
        return None if answer is None else read_time_to_live(answer.status, answer.body, lease_id)

    def close(self) -> None:
        """Give up what is under way: the member stops."""
        if self._sender is not None:
            self._sender.cancel()

    # --- batches ------------------------------------------------------------------------------------------

    async def _send(self) -> None:
        taken: list[_Waiting] = []
        try:
            while self._queue:
                taken = self._take()
                lease_ids = [lease_id for part, _ in taken for lease_id in part]
                ttls = await self._renew_together(lease_ids)
                for part, answered in taken:
                    _settle(answered, ttls[: len(part)])
                    ttls = ttls[len(part) :]
        finally:
            self._sender = None
            for part, answered in (*taken, *self._queue):
                _settle(answered, [None] * len(part))  # nothing, for those that have their answer
            self._queue.clear()

    def _take(self) -> list[_Waiting]:
        """What goes with the next request; one list at least."""
        taken: list[_Waiting] = []
        size = 0
        while self._queue and (not taken or size + len(self._queue[0][0]) <= limits.MAX_LEASES_PER_REQUEST):
            taken.append(self._queue.popleft())
            size += len(taken[-1][0])
        return taken

    async def _renew_together(self, lease_ids: Sequence[int]) -> Ttls:
        leader = self._to_leader.leader()
        if len(lease_ids) == 1 or (leader is not None and leader.id == self._takes_no_batches):
            return list(await asyncio.gather(*map(self.renew, lease_ids)))
        request = LeaseCheckpointRequest(checkpoints=[LeaseCheckpoint(ID=one) for one in lease_ids])
        answer = await self._to_leader.post(
            BATCH_PATH, request.SerializeToString(), limits.LEASE_ATTEMPT_SECONDS
        )
        if answer is None:
            return [None] * len(lease_ids)
        if answer.status == 404:
            self._takes_no_batches = leader.id if leader is not None else 0
            return (
                await self._renew_together(lease_ids) if self._takes_no_batches else [None] * len(lease_ids)
            )
        return read_renewals(answer.status, answer.body, lease_ids)


def read_renewal(status: int, body: bytes, lease_id: int) -> int | None:
    """A lease's TTL from the leader's answer, GONE, or None for what another attempt may change."""
    if status == 404:
        return GONE
    try:
        response = LeaseKeepAliveResponse.FromString(body)
    except DecodeError:
        return None
    return response.TTL if (status, response.ID) == (200, lease_id) else None


def read_renewals(status: int, body: bytes, lease_ids: Sequence[int]) -> Ttls:
    """The TTLs of a batch, or None for each."""
    try:
        renewed = LeaseCheckpointRequest.FromString(body).checkpoints
    except DecodeError:
        renewed = LeaseCheckpointRequest().checkpoints
    if status != 200 or [one.ID for one in renewed] != list(lease_ids):
        return [None] * len(lease_ids)
    return [one.remaining_TTL for one in renewed]


def read_time_to_live(status: int, body: bytes, lease_id: int) -> LeaseTimeToLiveResponse | None:
    """What is left of a lease from the leader's answer; None for what another attempt may change."""
    if status == 404:
        return LeaseTimeToLiveResponse(ID=lease_id, TTL=NOT_THERE)
    try:
        response = LeaseInternalResponse.FromString(body).LeaseTimeToLiveResponse
    except DecodeError:
        return None
    if (status, response.ID) != (200, lease_id):
        return None
    response.ClearField("header")
    return response


def _settle(answered: asyncio.Future[Ttls], ttls: Ttls) -> None:
    if not answered.done():
        answered.set_result(ttls)
