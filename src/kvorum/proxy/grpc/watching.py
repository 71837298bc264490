"""The Watch service of the v3 proxy: streams of clients, fed by shares.

Before a watcher is made, its user is checked by a read of its interval, as with etcd's proxy; that read also
says which revision "now" is. A client that does not read costs its bounded buffer: its watcher *waits*, fed
no more, and goes on from the revision it needs, with a share of its own if need be, once the client has read.
Nobody else notices. (etcd's proxy ends such a client's stream.)

A request for progress is answered with what has been delivered for sure, which may be an older revision than
a member would say. Source of behaviour: etcd ``server/proxy/grpcproxy/watch.go``, ``watcher.go``.
"""

import asyncio
from typing import Final, final

from kvorum import limits
from kvorum.errors import RESOURCE_EXHAUSTED, UNAVAILABLE
from kvorum.proto import rpc_pb2
from kvorum.proxy.figures import GrpcFigures
from kvorum.proxy.grpc.cache import Cache
from kvorum.proxy.grpc.feeds import Feed
from kvorum.proxy.grpc.kv import parsed
from kvorum.proxy.grpc.leader import Leader
from kvorum.proxy.grpc.namespace import Namespace
from kvorum.proxy.grpc.responses import Delivery, with_id
from kvorum.proxy.grpc.sharing import Share, Shares, Watcher
from kvorum.proxy.grpc.upstream import Metadata, Upstream, passed_on
from kvorum.rpc.messages import StatusError
from kvorum.rpc.streaming import StreamCall

_RANGE: Final = "/etcdserverpb.KV/Range"
_INVALID_ID: Final = -1
_FROM_KEY: Final = b"\0"
_EMPTY: Final = "mvcc: watcher range is empty"
_TAKEN: Final = "mvcc: duplicate watch ID provided on the WatchStream"
_NO_PUT: Final = rpc_pb2.WatchCreateRequest.NOPUT
_NO_DELETE: Final = rpc_pb2.WatchCreateRequest.NODELETE


@final
class WatchService:
    """All watchers, of all clients."""

    def __init__(
        self, upstream: Upstream, leader: Leader, namespace: Namespace, cache: Cache, figures: GrpcFigures
    ) -> None:
        self._upstream: Final = upstream
        self._leader: Final = leader
        self.namespace: Final = namespace
        self._cache: Final = cache
        self._figures: Final = figures
        self._shares: Final = Shares()
        self._feeds: Final[dict[str, Feed]] = {}

    async def watch(self, call: StreamCall) -> None:
        """Serve one stream until the client has no more to say."""
        metadata = call.metadata()
        self._leader.require(call, metadata)
        stream = _ClientStream(self, call, passed_on(metadata))
        try:
            while (message := await call.read()) is not None:
                await stream.take(parsed(rpc_pb2.WatchRequest, message))
        finally:
            self._leader.release(call)
            stream.close()

    async def close(self) -> None:
        """End all streams to members."""
        tasks = [feed.task for feed in self._feeds.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def look(self, key: bytes, end: bytes, metadata: Metadata) -> rpc_pb2.ResponseHeader:
        """Read an interval as a user, for the header. Raises StatusError; waits while no member answers."""
        if not key:  # everything, as the client library says it
            key, end = _FROM_KEY, _FROM_KEY
        request = rpc_pb2.RangeRequest(key=key, range_end=end, serializable=True, count_only=True, limit=1)
        message = request.SerializeToString()
        while True:
            try:
                answer = await self._upstream.unary(_RANGE, message, metadata, None, repeatable=True)
            except StatusError as error:
                if error.code != UNAVAILABLE:
                    raise
                await asyncio.sleep(limits.PROXY_STREAM_RETRY_SECONDS)
            else:
                header = rpc_pb2.RangeResponse.FromString(answer).header
                header.revision = max(header.revision, self._upstream.latest_revision)
                return header

    def add(self, watcher: Watcher, *, from_now: bool = False) -> None:
        """Feed a watcher."""
        share = self._shares.add(watcher, from_now=from_now)
        if share is not None:
            feed = self._feeds.get(share.token)
            if feed is None:
                feed = self._feeds[share.token] = Feed(self._upstream, self, share.token)
            feed.open(share)
        self._figures.watchers_shared = self._shares.coalesced

    def remove(self, watcher: Watcher) -> None:
        """Feed a watcher no more."""
        share = self._shares.remove(watcher)
        if share is not None:
            self._close(share)
        self._figures.watchers_shared = self._shares.coalesced

    # --- what members say ---------------------------------------------------------------------------------

    def took(self, share: Share, response: rpc_pb2.WatchResponse) -> None:
        """Events, progress, or the end of a watch."""
        if response.canceled:
            self._canceled(share, response)
        elif response.events:
            self._events(share, response)
        else:
            self._progress(share, response)

    def refused(self, share: Share, status: StatusError) -> None:
        """A token is not good any more: the other users of the share go on under their own."""
        for watcher in self._shares.dissolve(share):
            if watcher.token != share.token:
                self.add(watcher)
            else:
                _stream_of(watcher).ended(
                    watcher, rpc_pb2.WatchResponse(canceled=True, cancel_reason=status.message)
                )

    def _events(self, share: Share, response: rpc_pb2.WatchResponse) -> None:
        for event in response.events:
            self._cache.invalidate(*self._outside(event.kv.key))
        if self.namespace:
            self.namespace.leave_events(response.events)
        delivery = Delivery(response.header, response.events)
        waiting = []
        for watcher in share.watchers:
            messages = delivery.messages(watcher)
            if messages and not _stream_of(watcher).offer(messages):
                waiting.append(watcher)
            elif watcher.next_revision <= delivery.last_revision:
                watcher.next_revision = delivery.last_revision + 1
        self._figures.events_shared += len(share.watchers) - 1
        for watcher in waiting:
            self.remove(watcher)
            _stream_of(watcher).wait(watcher)
        if share.watchers:
            self._advance(share, delivery.last_revision + 1)

    def _outside(self, key: bytes) -> tuple[bytes, bytes]:
        """A member's key as the cache knows it."""
        return key[len(self.namespace.prefix) :], b""

    def _progress(self, share: Share, response: rpc_pb2.WatchResponse) -> None:
        body = rpc_pb2.WatchResponse(header=response.header).SerializeToString()
        for watcher in share.watchers:
            if watcher.progress and watcher.next_revision <= response.header.revision + 1:
                _stream_of(watcher).offer([with_id(body, watcher.id)])
        self._advance(share, response.header.revision + 1)

    def _advance(self, share: Share, next_revision: int) -> None:
        if self._shares.advance(share, next_revision):
            self._close(share)
            self._figures.watchers_shared = self._shares.coalesced

    def _canceled(self, share: Share, response: rpc_pb2.WatchResponse) -> None:
        compacted = response.compact_revision
        for watcher in self._shares.dissolve(share):
            if compacted and watcher.next_revision >= compacted:
                self.add(watcher)  # the share began before what this one needs
            else:
                _stream_of(watcher).ended(watcher, response)
        self._reap(share.token)

    def _close(self, share: Share) -> None:
        feed = self._feeds.get(share.token)
        if feed is not None:
            feed.close(share)
            self._reap(share.token)

    def _reap(self, token: str) -> None:
        feed = self._feeds.get(token)
        if feed is not None and not len(feed):
            feed.task.cancel()
            del self._feeds[token]


def _stream_of(watcher: Watcher) -> "_ClientStream":
    assert isinstance(watcher.stream, _ClientStream)
    return watcher.stream


@final
class _ClientStream:
    """One stream of a client, with its watchers: fed, or waiting for the client to read."""

    def __init__(self, service: WatchService, call: StreamCall, metadata: Metadata) -> None:
        self._service: Final = service
        self._call: Final = call
        self._metadata: Final = metadata
        self._token: Final = next((value for name, value in metadata if name == "token"), "")
        self._watchers: Final[dict[int, Watcher]] = {}
        self._waiting: Final[dict[Watcher, None]] = {}
        self._ended: Final[list[bytes]] = []
        """That watchers have ended: at most one for each."""
        self._header: rpc_pb2.ResponseHeader | None = None
        self._next_id = 0
        self._is_told = False

    async def take(self, request: rpc_pb2.WatchRequest) -> None:
        """Do what a client asks."""
        kind = request.WhichOneof("request_union")
        if kind == "create_request":
            await self._create(request.create_request)
        elif kind == "cancel_request":
            await self._cancel(request.cancel_request.watch_id)
        elif kind == "progress_request":
            await self._tell_progress()

    def offer(self, messages: list[bytes]) -> bool:
        """Send events to the client if it reads; False: nothing was sent."""
        return not self._ended and self._call.write_batch(messages)

    def wait(self, watcher: Watcher) -> None:
        """A watcher waits until the client has read."""
        self._waiting[watcher] = None
        self._be_told()

    def ended(self, watcher: Watcher, response: rpc_pb2.WatchResponse) -> None:
        """A watcher has ended at the members: tell the client."""
        if self._watchers.pop(watcher.id, None) is None:
            return
        told = rpc_pb2.WatchResponse(
            header=response.header,
            watch_id=watcher.id,
            canceled=True,
            compact_revision=response.compact_revision,
            cancel_reason=response.cancel_reason,
        )
        self._ended.append(told.SerializeToString())
        self._go_on()

    def close(self) -> None:
        """The stream is over."""
        for watcher in self._watchers.values():
            self._service.remove(watcher)
        self._watchers.clear()
        self._waiting.clear()

    # --- within -------------------------------------------------------------------------------------------

    async def _create(self, create: rpc_pb2.WatchCreateRequest) -> None:
        key, end = self._service.namespace.interval(create.key, create.range_end)
        if self._service.namespace and not create.key and create.range_end == _FROM_KEY:
            end = self._service.namespace.end
        response = rpc_pb2.WatchResponse(watch_id=_INVALID_ID, created=True, canceled=True)
        try:
            response.header.CopyFrom(await self._service.look(key, end, self._metadata))
        except StatusError as error:
            response.watch_id = create.watch_id  # as members refuse; etcd's proxy says -1
            response.cancel_reason = error.message
            await self._call.write(response.SerializeToString())
            return
        watch_id = create.watch_id or self._free_id()
        if end and end != _FROM_KEY and end <= key:
            response.cancel_reason = _EMPTY
        elif watch_id in self._watchers:
            response.cancel_reason = _TAKEN
        elif len(self._watchers) >= limits.PROXY_STREAM_WATCHERS:
            raise StatusError(RESOURCE_EXHAUSTED, "grpc: too many watchers on one stream of a proxy")
        else:
            response.watch_id, response.canceled = watch_id, False
        self._header = response.header
        await self._call.write(response.SerializeToString())
        if not response.canceled:
            self._begin(create, watch_id, key, end, response.header.revision)

    def _begin(
        self, create: rpc_pb2.WatchCreateRequest, watch_id: int, key: bytes, end: bytes, revision: int
    ) -> None:
        from_now = create.start_revision <= 0
        watcher = Watcher(self, watch_id, key, end, revision + 1 if from_now else create.start_revision)
        watcher.token = self._token
        watcher.progress = create.progress_notify
        watcher.prev_kv = create.prev_kv
        watcher.no_put = _NO_PUT in create.filters
        watcher.no_delete = _NO_DELETE in create.filters
        watcher.fragment = create.fragment
        self._watchers[watch_id] = watcher
        self._service.add(watcher, from_now=from_now)

    def _free_id(self) -> int:
        while self._next_id in self._watchers:
            self._next_id += 1
        self._next_id += 1
        return self._next_id - 1

    async def _cancel(self, watch_id: int) -> None:
        watcher = self._watchers.pop(watch_id, None)
        if watcher is None:
            return
        self._service.remove(watcher)
        self._waiting.pop(watcher, None)
        response = rpc_pb2.WatchResponse(header=self._header, watch_id=watch_id, canceled=True)
        response.header.revision = max(response.header.revision, watcher.next_revision - 1)
        await self._call.write(response.SerializeToString())

    async def _tell_progress(self) -> None:
        """Say up to where everything has been delivered, for sure."""
        delivered = [
            (watcher.share.next_revision if watcher.share is not None else watcher.next_revision) - 1
            for watcher in self._watchers.values()
        ]
        if self._header is None or not delivered:
            return
        response = rpc_pb2.WatchResponse(header=self._header, watch_id=_INVALID_ID)
        response.header.revision = min(delivered)
        await self._call.write(response.SerializeToString())

    def _be_told(self) -> None:
        if not self._is_told:
            self._is_told = True
            self._call.when_writable(self._soon)

    def _soon(self) -> None:
        # called in the middle of sending, where one should not write
        asyncio.get_running_loop().call_soon(self._readable)

    def _readable(self) -> None:
        self._is_told = False
        self._go_on()

    def _go_on(self) -> None:
        """The client may have read: tell it what has ended, and feed the watchers that waited."""
        if self._ended:
            if not self._call.write_batch(self._ended):
                self._be_told()
                return
            self._ended.clear()
        waiting = list(self._waiting)
        self._waiting.clear()
        for watcher in waiting:
            self._service.add(watcher)
