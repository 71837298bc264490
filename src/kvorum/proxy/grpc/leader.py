"""Whether the cluster has a leader, for clients that want to be told when it loses it.

A watch that requires a leader stands at the member that calls go to; it ends when that member has been
without one for a while. Then the next member is tried: one that is cut off is left, and only when none has
a leader the leader counts as lost, and the streams of clients that asked for one (``hasleader``) end. Source
of behaviour: etcd ``server/proxy/grpcproxy/leader.go``.
"""

import asyncio
from typing import Any, Final, final

import grpc.aio

from kvorum import limits
from kvorum.errors import ERR_NO_LEADER
from kvorum.proto import rpc_pb2
from kvorum.proxy.grpc.upstream import HAS_LEADER, Endpoint, Upstream
from kvorum.rpc.messages import StatusError
from kvorum.rpc.streaming import StreamCall

WATCH: Final = "/etcdserverpb.Watch/Watch"
_KEY: Final = b"__lostleader"
_NEVER: Final = 2**63 - 3
"""A revision that nobody will see written."""


@final
class Leader:
    """What is known; assumed lost until it is found."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream: Final = upstream
        self._calls: Final[dict[StreamCall, None]] = {}
        self.is_lost = True
        self.found: Final = asyncio.Event()

    async def run(self) -> None:
        """Look until cancelled."""
        failures = 0
        while True:
            endpoint = self._upstream.current
            if await self._stand(endpoint):
                failures = 0
            failures += 1
            self._upstream.leave(endpoint)
            if failures >= len(self._upstream.endpoints):
                self._lose()
            await asyncio.sleep(limits.PROXY_STREAM_RETRY_SECONDS)

    def require(self, call: StreamCall, metadata: dict[str, list[str]] | Any) -> None:
        """End a client's stream when the leader is lost, if it asked for that; `release` undoes it.

        Raises:
            StatusError: it is lost already.
        """
        if metadata.get(HAS_LEADER[0], [""])[0] != HAS_LEADER[1]:
            return
        if self.is_lost:
            raise StatusError(ERR_NO_LEADER.code, ERR_NO_LEADER.message)
        self._calls[call] = None

    def release(self, call: StreamCall) -> None:
        """The stream has ended."""
        self._calls.pop(call, None)

    async def _stand(self, endpoint: Endpoint) -> bool:
        """Stay as long as a member has a leader; whether it had one at first."""
        stream = endpoint.channel.stream_stream(WATCH)(metadata=(HAS_LEADER,))
        had = False
        try:
            create = rpc_pb2.WatchCreateRequest(key=_KEY, start_revision=_NEVER)
            await stream.write(rpc_pb2.WatchRequest(create_request=create).SerializeToString())
            while (await stream.read()) is not grpc.aio.EOF:
                had = True
                self.is_lost = False
                self.found.set()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            pass
        finally:
            stream.cancel()
        return had

    def _lose(self) -> None:
        self.is_lost = True
        self.found.clear()
        calls = list(self._calls)
        self._calls.clear()
        for call in calls:
            call.close(ERR_NO_LEADER.code, ERR_NO_LEADER.message)
