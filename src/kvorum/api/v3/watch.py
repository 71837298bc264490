"""The Watch service: a stream's requests go to the hub, and what the hub queues goes to the stream.

The requests are read by the stream's task. Responses need no task: the hub says once in a loop turn that
some stream has something to write (``WatchHub.on_ready``), and one ``_flush`` writes for all of them, until
a call takes no more; that one goes on when its client has read. What waits meanwhile is bounded by the hub,
and a client that does not read its answers has its further requests left unread.

Half-closing ends the requests and nothing else, as with etcd. Source: etcd
``server/etcdserver/api/v3rpc/watch.go``.
"""

import asyncio
from collections import deque
from functools import partial
from typing import Final, final

from kvorum import limits
from kvorum.api.gate import Gate
from kvorum.api.v3.service import Methods, Service, parse
from kvorum.api.v3.standing import StandingStreams
from kvorum.proto.rpc_pb2 import WatchRequest
from kvorum.rpc.grpc import StreamCall
from kvorum.server.node import Node
from kvorum.watch.stream import WatchStream


@final
class _Feed:
    """A stream of the hub and the call it feeds.

    ``blocked``: the call takes no more, and will say when it does. ``relieved``: whoever reads the requests
    waits for room in the queue.
    """

    __slots__ = ("blocked", "call", "relieved", "stream")

    def __init__(self, call: StreamCall, stream: WatchStream) -> None:
        self.call: Final = call
        self.stream: Final = stream
        self.blocked = False
        self.relieved: asyncio.Future[None] | None = None


@final
class WatchService(Service):
    """Watch, and the way of events from the hub to the connections.

    Invariant: a stream with something queued is listed by the hub, in ``_ready``, or blocked; in the first
    two cases a flush is scheduled.
    """

    def __init__(self, node: Node, gate: Gate, standing: StandingStreams) -> None:
        super().__init__(node, gate)
        self._hub: Final = node.watch_hub
        self._standing: Final = standing
        self._feeds: Final[dict[WatchStream, _Feed]] = {}
        self._ready: Final[deque[WatchStream]] = deque()
        self._scheduled = False
        self._hub.on_ready = self._flush_soon

    def register(self, server: Methods) -> None:
        """Put the service's method into the server's table."""
        server.stream("/etcdserverpb.Watch/Watch", self.watch)

    async def watch(self, call: StreamCall) -> None:
        """Serve a stream of watches until its client ends it.

        Raises:
            EtcdError: the client wants a leader and there is none; a message is no request.
        """
        with self._standing.entered(call):
            stream = self._hub.open_stream(self.node.timers.time())
            feed = self._feeds[stream] = _Feed(call, stream)
            try:
                await self._read(feed)
                await asyncio.get_running_loop().create_future()  # until the call is cancelled
            finally:
                del self._feeds[stream]
                stream.close()

    # --- requests -----------------------------------------------------------------------------------------

    async def _read(self, feed: _Feed) -> None:
        call, stream = feed.call, feed.stream
        handled = 0
        while (body := await call.read()) is not None:
            self._handle(call, stream, parse(WatchRequest, body))
            handled += 1
            if handled % limits.WATCH_REQUESTS_PER_TURN == 0:
                await asyncio.sleep(0)
            while stream.backlogged:
                feed.relieved = asyncio.get_running_loop().create_future()
                await feed.relieved

    def _handle(self, call: StreamCall, stream: WatchStream, request: WatchRequest) -> None:
        """Carry out a request; one that is none of the three is passed over."""
        kind = request.WhichOneof("request_union")
        if kind == "create_request":
            asked = request.create_request
            reason = self.gate.refuses_watch(call, asked.key, asked.range_end) if self.users.enabled else None
            if reason is None:
                stream.create(asked, self.node.timers.time())
            else:
                stream.refuse(asked, reason)
        elif kind == "cancel_request":
            stream.cancel(request.cancel_request.watch_id)
        elif kind == "progress_request":
            stream.request_progress()

    # --- responses ----------------------------------------------------------------------------------------

    def _flush_soon(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self.node.guard, self._flush)

    def _flush(self) -> None:
        """Write what is queued, for as long as others may wait."""
        self._scheduled = False
        ready, feeds = self._ready, self._feeds
        ready.extend(self._hub.take_ready())
        writes = 0
        while ready and writes < limits.WATCH_WRITES_PER_TURN:
            feed = feeds.get(ready.popleft())
            if feed is not None and not feed.blocked:
                writes += self._drain(feed)
        if ready:
            self._flush_soon()

    def _drain(self, feed: _Feed) -> int:
        """Write until the queue is empty or the call takes no more; returns how many were written."""
        call, stream = feed.call, feed.stream
        writes = 0
        while stream.queue:
            few = stream.first_few(limits.STREAM_BATCH_BYTES)
            if not call.write_batch(few):
                feed.blocked = True
                call.when_writable(partial(self._unblock, feed))
                break
            stream.advance(len(few))
            writes += len(few)
        if feed.relieved is not None and not stream.backlogged:
            relieved, feed.relieved = feed.relieved, None
            if not relieved.done():
                relieved.set_result(None)
        return writes

    def _unblock(self, feed: _Feed) -> None:
        feed.blocked = False
        self._ready.append(feed.stream)
        self._flush_soon()
