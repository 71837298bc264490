"""Watch responses of the v3 proxy as bytes: made once for all watchers that wish for the same. Sans-IO."""

from collections.abc import Sequence
from typing import Final, final

from kvorum import limits
from kvorum.proto import kv_pb2, rpc_pb2
from kvorum.proto.wire import varint
from kvorum.proxy.grpc.sharing import Watcher

_ID_TAG: Final = b"\x10"
"""Field 2, a varint: the order of fields on the wire is free, so the ID can come last."""
_FRAGMENT_BYTES: Final = limits.MAX_REQUEST_BYTES + limits.GRPC_OVERHEAD_BYTES
"""Where members cut the responses of watchers that ask for it."""


def with_id(body: bytes, watch_id: int) -> bytes:
    """A response for one watcher."""
    return body + _ID_TAG + varint(watch_id) if watch_id else body


@final
class Delivery:
    """The events of one response upstream, as each watcher gets them."""

    def __init__(self, header: rpc_pb2.ResponseHeader, events: Sequence[kv_pb2.Event]) -> None:
        self._header: Final = header
        self._events: Final = events
        self._first: Final = events[0].kv.mod_revision
        self.last_revision: Final = events[-1].kv.mod_revision
        self._made: Final[dict[tuple[tuple[bool, bool, bool], int, bool], list[bytes]]] = {}

    def messages(self, watcher: Watcher) -> list[bytes]:
        """What to send to a watcher: nothing if it has seen or filters everything."""
        start = max(watcher.next_revision, self._first)
        name = (watcher.wish, start, watcher.fragment)
        bodies = self._made.get(name)
        if bodies is None:
            bodies = self._made[name] = self._make(watcher, start)
        return [with_id(body, watcher.id) for body in bodies]

    def _make(self, watcher: Watcher, start: int) -> list[bytes]:
        events = [one for one in self._events if one.kv.mod_revision >= start and watcher.wants(one)]
        if not events:
            return []
        response = rpc_pb2.WatchResponse(header=self._header)
        for event in events:
            added = response.events.add()
            added.CopyFrom(event)
            if not watcher.prev_kv:
                added.ClearField("prev_kv")
        if not watcher.fragment or response.ByteSize() <= _FRAGMENT_BYTES:
            return [response.SerializeToString()]
        return self._fragments(response)

    def _fragments(self, whole: rpc_pb2.WatchResponse) -> list[bytes]:
        """A response cut between events, all but the last piece marked."""
        pieces: list[rpc_pb2.WatchResponse] = []
        size = 0
        for event in whole.events:
            if not pieces or size + event.ByteSize() > _FRAGMENT_BYTES:
                pieces.append(rpc_pb2.WatchResponse(header=self._header, fragment=True))
                size = 0
            pieces[-1].events.add().CopyFrom(event)
            size += event.ByteSize()
        pieces[-1].fragment = False
        return [piece.SerializeToString() for piece in pieces]
