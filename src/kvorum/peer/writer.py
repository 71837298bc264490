"""The sending half of a stream: the peer has dialled it, we write to it.

Messages of one ``send`` leave as one piece (one chunk of the response's body, one write). While the peer does
not read, they wait as messages, not as bytes, and within bounds; what does not fit is refused, and Raft, told
of it, goes back to probing. Source of behaviour: etcd ``rafthttp/stream.go`` (streamWriter).
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, TypeAlias, cast, final

from kvorum import limits
from kvorum.peer.codec import Encoder
from kvorum.peer.link import Link
from kvorum.raft.codec import entries_size
from kvorum.raft.types import Message

MakeEncoder: TypeAlias = Callable[[], Encoder]


@final
class OutgoingStream(asyncio.Protocol):
    """The connection of one stream, taken over from the HTTP server once the request was found good.

    ``is_writable`` is False from the moment the transport holds too much until it has written most of it.
    """

    __slots__ = ("_head", "_loop", "_lost", "_progress_at", "_transport", "_unsent", "is_writable", "owner")

    def __init__(self, head: bytes, lost: Callable[["OutgoingStream"], None]) -> None:
        """``head`` is the answer to the request; ``lost`` is told once the connection is gone."""
        self._loop: Final = asyncio.get_running_loop()
        self._lost: Final = lost
        self._transport: asyncio.Transport | None = None
        self._head = head
        self._progress_at = 0.0
        self._unsent = 0
        self.owner: StreamWriter | None = None
        self.is_writable = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Answer the request: from here on the body goes on for ever."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=limits.PEER_STREAM_BUFFER_BYTES)
        self._transport.write(self._head)

    def connection_lost(self, exc: Exception | None) -> None:
        """The peer is gone."""
        self._transport = None
        self.is_writable = False
        self._lost(self)
        if self.owner is not None:
            self.owner.lost(self, exc or "EOF")

    def data_received(self, data: bytes) -> None:
        """A peer has nothing to say on its own request; whatever it is, it is not kept."""

    def eof_received(self) -> bool:
        """The peer will not say more, which means that it is going."""
        return False

    def pause_writing(self) -> None:
        """Have messages wait."""
        self.is_writable = False
        self._progress_at = self._loop.time()
        self._unsent = self._size()

    def resume_writing(self) -> None:
        """Let messages go on."""
        self.is_writable = True
        if self.owner is not None:
            self.owner.flush()

    def write(self, data: bytes) -> None:
        """Write a piece of the body. Both loops give it to the kernel at once if they can: a follower is at
        work while this turn goes on (0.3 ms on a loop that was busy for 5 ms afterwards).
        """
        if self._transport is not None:
            self._transport.write(b"%x\r\n%b\r\n" % (len(data), data))

    def is_stalled(self) -> bool:
        """Whether the peer has not taken a byte for too long."""
        if self.is_writable or self._transport is None:
            return False
        now, unsent = self._loop.time(), self._size()
        if unsent < self._unsent:
            self._progress_at, self._unsent = now, unsent
        return now - self._progress_at > limits.PEER_WRITE_SECONDS

    def close(self) -> None:
        """End the stream as a response ends, if the peer still reads, else drop it; nobody is told."""
        self.owner = None
        transport = self._transport
        if transport is None:
            return
        if not self.is_writable:
            transport.abort()
            return
        transport.write(b"0\r\n\r\n")
        transport.close()
        self._loop.call_later(limits.PEER_WRITE_SECONDS, self.abort)

    def abort(self) -> None:
        """Drop the connection if it is still there."""
        if self._transport is not None:
            self._transport.abort()

    def _size(self) -> int:
        return 0 if self._transport is None else self._transport.get_write_buffer_size()


@final
class StreamWriter:
    """One peer's stream of one kind, whether or not it is connected.

    Invariant: ``_queue`` is empty unless the stream is there and cannot be written to; ``_queued_bytes`` are
    the bytes of its entries.
    """

    __slots__ = ("_encoder", "_fields", "_link", "_log", "_make_encoder", "_queue", "_queued_bytes",
                 "_stream", "_type")  # fmt: skip

    def __init__(self, link: Link, stream_type: str, make_encoder: MakeEncoder) -> None:
        """Args:
        link: the peer.
        stream_type: as etcd's log names it.
        make_encoder: a new one for every connection.
        """
        self._type: Final = stream_type
        self._link: Final = link
        self._log: Final = link.log
        self._make_encoder: Final = make_encoder
        self._fields: Final = {"stream-writer-type": stream_type, **link.fields}
        self._stream: OutgoingStream | None = None
        self._encoder = make_encoder()
        self._queue: Final[deque[Message]] = deque()
        self._queued_bytes = 0
        self._log.info("started stream writer with remote peer", link.fields)

    @property
    def is_working(self) -> bool:
        """Whether the stream is connected."""
        return self._stream is not None

    def attach(self, stream: OutgoingStream) -> None:
        """Write to this connection from now on, instead of the one before."""
        was_open = self._drop()
        self._stream = stream
        stream.owner = self
        self._encoder = self._make_encoder()
        names = {"from": self._link.local_name, "to": self._link.name, "stream-type": self._type}
        self._log.info("set message encoder", names)
        self._link.status.activate()
        if was_open:
            self._log.warn("closed TCP streaming connection with remote peer", self._fields)
        self._log.info("established TCP streaming connection with remote peer", self._fields)

    def push(self, message: Message) -> bool:
        """Take a message for the next ``flush``; False if too much waits already."""
        if len(self._queue) >= limits.PEER_STREAM_QUEUE:
            return False
        stream = self._stream
        if stream is None or not stream.is_writable:
            size = entries_size(message.entries)
            if self._queued_bytes + size > limits.PEER_STREAM_QUEUE_BYTES:
                return False
            self._queued_bytes += size
        self._queue.append(message)
        return True

    def flush(self) -> None:
        """Write what waits, as far as the connection takes it."""
        stream, queue = self._stream, self._queue
        while queue and stream is not None and stream.is_writable:
            batch: list[Message]
            if self._queued_bytes == 0:
                batch = list(queue)
                queue.clear()
            else:
                batch = self._take_some()
            data = self._encoder.encode(batch)
            self._write(stream, data)

    def beat(self) -> None:
        """Say that the link is there; give it up if the peer has stopped reading. Call this regularly."""
        stream = self._stream
        if stream is None:
            return
        if stream.is_stalled():
            self._end("heartbeat", "i/o timeout")
        elif stream.is_writable:
            self._write(stream, self._encoder.heartbeat)

    def lost(self, stream: OutgoingStream, reason: BaseException | str) -> None:
        """A connection is gone."""
        if stream is self._stream:
            self._end("write", reason)

    def stop(self) -> None:
        """Close the connection."""
        if self._drop():
            self._log.warn("closed TCP streaming connection with remote peer", self._fields)
        self._log.info("stopped TCP streaming connection with remote peer", self._fields)

    def _write(self, stream: OutgoingStream, data: bytes) -> None:
        stream.write(data)
        self._link.figures.sent_bytes[self._link.name] += len(data)

    def _take_some(self) -> list[Message]:
        """Take what makes about one full buffer, so that the rest stays as it is."""
        batch: list[Message] = []
        size = 0
        while self._queue and size < limits.PEER_STREAM_BUFFER_BYTES:
            message = self._queue.popleft()
            batch.append(message)
            size += entries_size(message.entries)
        self._queued_bytes = max(0, self._queued_bytes - size) if self._queue else 0
        return batch

    def _end(self, action: str, reason: BaseException | str) -> None:
        link = self._link
        link.status.deactivate(action, self._type, reason)
        link.figures.sent_failures[link.name] += 1
        self._drop()
        self._log.warn("lost TCP streaming connection with remote peer", self._fields)

    def _drop(self) -> bool:
        """Close the connection and forget what waits for it; returns whether there was one."""
        stream, self._stream = self._stream, None
        if stream is None:
            return False
        stream.close()
        if self._queue:
            self._queue.clear()
            self._queued_bytes = 0
            self._link.surroundings.unreachable(self._link.peer_id)
        return True
