"""The receiving half of a stream: we dial the peer, again and again, and read what it sends.

Messages are decoded and handed on from within the connection's callback, in the turn of the loop in which
their bytes come. Source of behaviour: etcd ``rafthttp/stream.go`` (streamReader).
"""

import asyncio
from collections.abc import Callable
from typing import Final, TypeAlias, final

from kvorum import limits
from kvorum.logging import hex_id
from kvorum.peer.client import Response
from kvorum.peer.codec import Decoder
from kvorum.peer.connection import PeerConnectionError, Sink
from kvorum.peer.headers import CLUSTER_ID_MISMATCH, INCOMPATIBLE_VERSION, speaks_streams
from kvorum.peer.link import Link, MemberRemovedError
from kvorum.raft.types import Message
from kvorum.urls import Url

MakeDecoder: TypeAlias = Callable[[], Decoder]

_END: Final = "EOF"
_TIMEOUT: Final = "read: i/o timeout"


@final
class StreamReader:
    """One peer's stream of one kind, dialled until it is stopped.

    Args:
        link: the peer.
        stream_type: as etcd's log names it.
        path: what to ask the peer for, without our id.
        make_decoder: a new one for every connection.
        receive: told of the messages of one read.
    """

    def __init__(
        self,
        link: Link,
        stream_type: str,
        path: str,
        make_decoder: MakeDecoder,
        receive: Callable[[list[Message]], None],
    ) -> None:
        self._link: Final = link
        self._log: Final = link.log
        self._status: Final = link.status
        self._type: Final = stream_type
        self._path: Final = f"{path}/{link.local_name}"
        self._headers: Final = (*link.identity.headers, ("X-Raft-To", link.name))
        self._make_decoder: Final = make_decoder
        self._receive: Final = receive
        self._fields: Final = {"stream-reader-type": stream_type, **link.fields}
        self._log.info("started stream reader with remote peer", self._fields)
        self._task: Final = link.tasks.spawn(self._run())

    def stop(self) -> None:
        """Dial no more and drop the connection."""
        self._task.cancel()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while True:
                due = loop.time() + limits.PEER_DIAL_RETRY_SECONDS
                try:
                    await self._once()
                except Exception as error:  # a mistake of ours must not cut a member off for good
                    self._log.error("stream reader failed", {**self._fields, "error": error})
                await asyncio.sleep(max(due - loop.time(), 0))
        finally:
            self._log.info("stopped stream reader with remote peer", self._fields)

    async def _once(self) -> None:
        """Dial, and read until the stream is lost."""
        url = self._link.picker.pick()
        try:
            async with asyncio.timeout(limits.PEER_READ_SECONDS):
                response = await self._dial(url)
        except (OSError, MemberRemovedError, ValueError) as error:
            self._link.picker.unreachable(url)
            self._status.deactivate("dial", self._type, str(error) or "i/o timeout")
            if isinstance(error, MemberRemovedError):
                self._link.surroundings.removed_from_cluster()
            return
        async with response:
            self._status.activate()
            self._log.info("established TCP streaming connection with remote peer", self._fields)
            response.into(self._sink())
            reason = await _lost(response)
        self._log.warn("lost TCP streaming connection with remote peer", {**self._fields, "error": reason})
        if not _is_end(reason):  # a peer that closed it may be there: the next dial tells
            self._status.deactivate("read", self._type, reason)

    def _sink(self) -> Sink:
        decoder = self._make_decoder()

        received_bytes, name = self._link.figures.received_bytes, self._link.name

        def take(piece: bytes) -> None:
            received_bytes[name] += len(piece)
            messages = decoder.feed(piece)
            if messages:
                self._receive(messages)

        return take

    async def _dial(self, url: Url) -> Response:
        """Ask for the stream. Raises OSError, ValueError or MemberRemovedError."""
        response = await self._link.streams.open("GET", url, self._path, headers=self._headers)
        try:
            if response.status == 200 and speaks_streams(response.header("x-server-version")):
                return response
            await self._refused(response)
        except BaseException:
            response.close()
            raise
        raise AssertionError("a refusal raises")

    async def _refused(self, response: Response) -> None:
        """Raise what an answer that is no stream means."""
        status = response.status
        if status == 410:
            raise MemberRemovedError
        if status == 404:
            raise PeerConnectionError(
                f"peer {self._link.name} failed to find local node {self._link.local_name}"
            )
        if status == 200:
            raise PeerConnectionError("unsupported stream type")
        if status != 412:
            raise PeerConnectionError(f"unhandled http status {status}")
        body = await response.read_all(limits.PEER_RESPONSE_HEADER_BYTES)
        text = body.decode("utf-8", "replace").removesuffix("\n")
        fields = {**self._link.fields, "error": text}
        if text == INCOMPATIBLE_VERSION:
            self._log.warn(
                "request sent was ignored by remote peer due to server version incompatibility", fields
            )
        elif text == CLUSTER_ID_MISMATCH:
            fields["remote-peer-cluster-id"] = response.header("x-etcd-cluster-id")
            fields["local-member-cluster-id"] = hex_id(self._link.identity.cluster_id)
            self._log.warn("request sent was ignored by remote peer due to cluster ID mismatch", fields)
        else:
            text = f'unhandled error "{text}" when precondition failed'
        raise PeerConnectionError(text)


async def _lost(response: Response) -> BaseException:
    """Wait until a stream ends, or is silent for too long; returns why."""
    loop = asyncio.get_running_loop()
    connection = response.connection
    while not response.ended.done():
        remaining = connection.received_at + limits.PEER_READ_SECONDS - loop.time()
        if remaining <= 0:
            connection.fail(PeerConnectionError(_TIMEOUT))
        else:
            await asyncio.wait((response.ended,), timeout=remaining)
    return response.ended.result() or PeerConnectionError(_END)


def _is_end(error: BaseException) -> bool:
    """Whether the peer closed the stream, in whatever way."""
    return isinstance(error, ConnectionError) and str(error) != _TIMEOUT
