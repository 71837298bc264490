"""Watch streams to members: one for each token, with a watch on it for each share.

A stream that breaks is opened again, at another member if that one is gone, and every watch on it from the
revision that it delivers next. The streams require a leader, so that a member that is cut off does not keep
its watchers waiting. Reading never waits for clients. What members say is told to a `Taker`.
"""

import asyncio
from collections import deque
from typing import Any, Final, Protocol, final

import grpc.aio

from kvorum import limits
from kvorum.errors import PERMISSION_DENIED, UNAUTHENTICATED
from kvorum.proto import rpc_pb2
from kvorum.proxy.grpc.leader import WATCH
from kvorum.proxy.grpc.sharing import Share
from kvorum.proxy.grpc.upstream import HAS_LEADER, Upstream, status_of
from kvorum.rpc.messages import StatusError


class Taker(Protocol):
    """Takes what members say of a share."""

    def took(self, share: Share, response: rpc_pb2.WatchResponse) -> None:
        """A response: events, progress, or that the watch is cancelled."""

    def refused(self, share: Share, status: StatusError) -> None:
        """The watch cannot be had: the token is not good, or no more."""


@final
class Feed:
    """The stream of one token, for as long as there are shares on it."""

    def __init__(self, upstream: Upstream, taker: Taker, token: str) -> None:
        self._upstream: Final = upstream
        self._taker: Final = taker
        self._metadata: Final = (HAS_LEADER, ("token", token)) if token else (HAS_LEADER,)
        self._shares: Final[dict[int, Share]] = {}
        self._unsent: Final[deque[bytes]] = deque()
        self._unanswered: Final[deque[int]] = deque()
        """Shares that were asked for, in order: a refusal does not always say which one it is for."""
        self._wake: Final = asyncio.Event()
        self._is_open = False
        self.task: Final = asyncio.get_running_loop().create_task(self._run())

    def __len__(self) -> int:
        return len(self._shares)

    def open(self, share: Share) -> None:
        """Begin a watch."""
        self._shares[share.id] = share
        if self._is_open:  # otherwise all are begun when it is
            self._unanswered.append(share.id)
            self._send(_create(share))

    def close(self, share: Share) -> None:
        """End a watch."""
        if self._shares.pop(share.id, None) is not None and self._is_open:
            self._send(rpc_pb2.WatchRequest(cancel_request=rpc_pb2.WatchCancelRequest(watch_id=share.id)))

    def _send(self, request: rpc_pb2.WatchRequest) -> None:
        self._unsent.append(request.SerializeToString())
        self._wake.set()

    async def _run(self) -> None:
        while True:
            endpoint = self._upstream.current
            stream = endpoint.channel.stream_stream(WATCH)(metadata=self._metadata)
            writing = asyncio.get_running_loop().create_task(self._write(stream))
            try:
                await self._read(stream)
            except grpc.aio.AioRpcError as error:
                status = status_of(error)
                if status.code in (UNAUTHENTICATED, PERMISSION_DENIED):
                    self._refuse(status)
            finally:
                self._is_open = False
                writing.cancel()
                stream.cancel()
            self._upstream.leave(endpoint)
            await asyncio.sleep(limits.PROXY_STREAM_RETRY_SECONDS)

    async def _write(self, stream: Any) -> None:
        """Begin all watches, then send what is asked for."""
        self._unsent.clear()
        self._unanswered.clear()
        self._unanswered.extend(self._shares)
        self._unsent.extend(_create(share).SerializeToString() for share in self._shares.values())
        self._is_open = True
        try:
            while True:
                while self._unsent:
                    await stream.write(self._unsent.popleft())
                self._wake.clear()
                if not self._unsent:
                    await self._wake.wait()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            pass  # the reader hears of it as well

    async def _read(self, stream: Any) -> None:
        while (message := await stream.read()) is not grpc.aio.EOF:
            response = rpc_pb2.WatchResponse.FromString(message)
            share = self._shares.get(self._whose(response))
            if share is None:
                continue  # closed meanwhile
            if response.canceled:
                del self._shares[share.id]
            if response.canceled or not response.created:
                self._taker.took(share, response)

    def _whose(self, response: rpc_pb2.WatchResponse) -> int:
        if not response.created or not self._unanswered:
            return response.watch_id
        if response.watch_id in self._unanswered:
            self._unanswered.remove(response.watch_id)
            return response.watch_id
        return self._unanswered.popleft()

    def _refuse(self, status: StatusError) -> None:
        shares = list(self._shares.values())
        self._shares.clear()
        for share in shares:
            self._taker.refused(share, status)


def _create(share: Share) -> rpc_pb2.WatchRequest:
    create = rpc_pb2.WatchCreateRequest(
        key=share.key,
        range_end=share.end,
        start_revision=share.next_revision,
        progress_notify=True,
        prev_kv=True,
        watch_id=share.id,
    )
    return rpc_pb2.WatchRequest(create_request=create)
