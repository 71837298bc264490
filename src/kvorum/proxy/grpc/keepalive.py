"""Leases renewed together: one stream to the members for all clients, one renewal for all who ask at a time.

Whoever asks while a renewal of the same lease is under way, or just after one, gets its answer; one that is
not quite fresh says a second less, so that nobody believes in a lease longer than it lives. The stream is
opened again when the member behind it dies, and what was asked and not answered is asked again. Source of
behaviour: etcd ``server/proxy/grpcproxy/lease.go`` (which renews on its own account at a third of the TTL).
"""

import asyncio
from collections import OrderedDict, deque
from typing import Any, Final, final

import grpc.aio

from kvorum import limits
from kvorum.errors import RESOURCE_EXHAUSTED
from kvorum.proto import rpc_pb2
from kvorum.proxy.grpc.kv import parsed
from kvorum.proxy.grpc.leader import Leader
from kvorum.proxy.grpc.upstream import Upstream
from kvorum.rpc.messages import StatusError
from kvorum.rpc.streaming import StreamCall

_METHOD: Final = "/etcdserverpb.Lease/LeaseKeepAlive"


@final
class KeepAlive:
    """The Lease service's streams."""

    def __init__(self, upstream: Upstream, leader: Leader) -> None:
        self._upstream: Final = upstream
        self._leader: Final = leader
        self._loop: Final = asyncio.get_running_loop()
        self._asked: Final[dict[int, list[StreamCall]]] = {}
        """Leases whose renewal is under way, and whose streams wait for it (one may wait several times)."""
        self._fresh: Final[OrderedDict[int, tuple[float, rpc_pb2.LeaseKeepAliveResponse]]] = OrderedDict()
        """Answers, oldest first."""
        self._unsent: Final[deque[int]] = deque()
        self._wake: Final = asyncio.Event()
        self._news: Final = asyncio.Event()
        """Pulsed with each answer."""

    async def keep_alive(self, call: StreamCall) -> None:
        """Serve one stream. The answers that are due when a client has asked its last are still sent."""
        self._leader.require(call, call.metadata())
        try:
            while (message := await call.read()) is not None:
                request = parsed(rpc_pb2.LeaseKeepAliveRequest, message)
                response = self._recent(request.ID)
                if response is not None:
                    await call.write(response.SerializeToString())
                else:
                    self._ask(request.ID, call)
            while any(call in waiting for waiting in self._asked.values()):
                await self._news.wait()
        finally:
            self._leader.release(call)
            for waiting in self._asked.values():
                while call in waiting:
                    waiting.remove(call)

    async def run(self) -> None:
        """Carry renewals until cancelled."""
        while True:
            await self._wake.wait()  # nobody needs a stream before
            endpoint = self._upstream.current
            stream = endpoint.channel.stream_stream(_METHOD)()
            for lease in [lease for lease, waiting in self._asked.items() if not waiting]:
                del self._asked[lease]
            self._unsent.clear()
            self._unsent.extend(self._asked)
            writing = self._loop.create_task(self._write(stream))
            try:
                while (message := await stream.read()) is not grpc.aio.EOF:
                    self._answered(rpc_pb2.LeaseKeepAliveResponse.FromString(message))
            except grpc.aio.AioRpcError:
                pass  # asked again at the next one
            finally:
                writing.cancel()
                stream.cancel()
            self._upstream.leave(endpoint)
            if self._asked:
                self._wake.set()
            await asyncio.sleep(limits.PROXY_STREAM_RETRY_SECONDS)

    # --- within -------------------------------------------------------------------------------------------

    def _recent(self, lease: int) -> rpc_pb2.LeaseKeepAliveResponse | None:
        known = self._fresh.get(lease)
        if known is None or known[0] + limits.PROXY_RENEWAL_SHARE_SECONDS < self._loop.time():
            return None
        if known[1].TTL <= 1:
            return None
        response = rpc_pb2.LeaseKeepAliveResponse()
        response.CopyFrom(known[1])
        response.TTL -= 1
        return response

    def _ask(self, lease: int, call: StreamCall) -> None:
        waiting = self._asked.get(lease)
        if waiting is not None:
            waiting.append(call)
            return
        if len(self._asked) >= limits.PROXY_RENEWALS:
            raise StatusError(RESOURCE_EXHAUSTED, "grpc: too many leases are being renewed by a proxy")
        self._asked[lease] = [call]
        self._unsent.append(lease)
        self._wake.set()

    def _answered(self, response: rpc_pb2.LeaseKeepAliveResponse) -> None:
        now = self._loop.time()
        while self._fresh and next(iter(self._fresh.values()))[0] + limits.PROXY_RENEWAL_SHARE_SECONDS < now:
            self._fresh.popitem(last=False)
        if response.TTL > 0:
            self._fresh.pop(response.ID, None)
            self._fresh[response.ID] = (now, response)
        message = response.SerializeToString()
        for call in self._asked.pop(response.ID, ()):
            if not call.write_nowait(message):  # whoever does not read its answers has no use for them
                call.close(RESOURCE_EXHAUSTED, "grpc: the answers to keep-alives are not read")
        self._news.set()
        self._news.clear()

    async def _write(self, stream: Any) -> None:
        try:
            while True:
                while self._unsent:
                    lease = self._unsent.popleft()
                    await stream.write(rpc_pb2.LeaseKeepAliveRequest(ID=lease).SerializeToString())
                self._wake.clear()
                if not self._unsent:
                    await self._wake.wait()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            pass  # the reader hears of it as well
