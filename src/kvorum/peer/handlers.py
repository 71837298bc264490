"""What other members ask of this one: messages by POST, streams to read, uploads of snapshots, probes.

Checks, their order, status codes and texts are etcd's (``rafthttp/http.go``). A request for a stream that is
found good gives us its connection: it is taken from the HTTP server, and a `StreamWriter` has it from then
on.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Final, Protocol, final

from kvorum import ETCD_VERSION, limits
from kvorum.duration import Duration
from kvorum.logging import Logger, hex_id
from kvorum.peer import headers
from kvorum.peer.codec import StreamError
from kvorum.peer.figures import PeerFigures
from kvorum.peer.headers import Identity
from kvorum.peer.link import Tasks
from kvorum.peer.peer import LOCAL_TYPES, MESSAGE_PATH, MSGAPP_PATH, Peer, refusal
from kvorum.peer.pipeline import RAFT_PATH
from kvorum.peer.probing import PROBING_PATH, health
from kvorum.peer.snapshots import SNAPSHOT_PATH, human_bytes
from kvorum.peer.surroundings import Surroundings
from kvorum.peer.writer import OutgoingStream
from kvorum.raft.codec import CodecError, decode_message
from kvorum.raft.types import MESSAGE_NAMES, MSG_SNAP, Message
from kvorum.rpc.http1 import HttpServer
from kvorum.rpc.http1_types import HttpRequest, HttpResponse, error_response

_STREAM_HEAD: Final = (
    "HTTP/1.1 200 OK\r\n"
    "X-Etcd-Cluster-Id: {cluster}\r\n"
    "X-Server-Version: {version}\r\n"
    "{date}"
    "Transfer-Encoding: chunked\r\n\r\n"
)
_LENGTH_BYTES: Final = 8
_UNKNOWN_SENDER: Final = "UNKNOWN_SNAPSHOT_SENDER"


class Peers(Protocol):
    """The transport as requests see it."""

    def peer(self, member_id: int) -> Peer | None:
        """The peer of this id."""

    def announced(self, request: HttpRequest) -> None:
        """Take note of who sends a request, if we do not know them."""


@final
class PeerHandlers:
    """The routes below ``/raft``."""

    def __init__(
        self,
        identity: Identity,
        peers: Peers,
        surroundings: Surroundings,
        figures: PeerFigures,
        tasks: Tasks,
        log: Logger,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._identity: Final = identity
        self._peers: Final = peers
        self._surroundings: Final = surroundings
        self._figures: Final = figures
        self._tasks: Final = tasks
        self._log: Final = log
        self._wall_clock: Final = wall_clock
        self._local: Final = hex_id(identity.member_id)
        self._cluster_header: Final = (("X-Etcd-Cluster-Id", hex_id(identity.cluster_id)),)
        self._server: HttpServer | None = None
        self._streams: Final[set[OutgoingStream]] = set()
        self._streams_lost: Final = asyncio.Event()
        self._uploads = 0

    def install(self, server: HttpServer) -> None:
        """Put the routes into a server's table."""
        self._server = server
        server.route("*", RAFT_PATH, self._message, max_body_bytes=limits.PEER_MESSAGE_BYTES)
        server.route("*", "/raft/stream/", self._stream, long_poll=True)
        server.route(
            "*", SNAPSHOT_PATH, self._snapshot, max_body_bytes=limits.PEER_SNAPSHOT_BYTES, stream_body=True
        )
        server.route("*", PROBING_PATH, self._probing)

    async def stop(self) -> None:
        """Wait, but not for long, until the connections of streams are gone; their writers are stopped."""
        for grace_seconds in (limits.PEER_CLOSE_SECONDS, None):
            try:
                async with asyncio.timeout(grace_seconds):
                    while self._streams:
                        self._streams_lost.clear()
                        await self._streams_lost.wait()
            except TimeoutError:
                for stream in self._streams:
                    stream.abort()

    # --- one message ----------------------------------------------------------------------------------------

    def _message(self, request: HttpRequest) -> HttpResponse | Coroutine[Any, Any, HttpResponse]:
        if request.method != "POST":
            return _method_not_allowed("POST")
        try:
            fault = headers.incompatibility(self._identity, request, self._log)
        except ValueError:
            return _hang_up()
        if fault is not None:
            return self._error(412, fault)
        self._peers.announced(request)
        try:
            message = decode_message(request.body)
        except CodecError as error:
            self._log.warn(
                "failed to unmarshal Raft message", {"local-member-id": self._local, "error": error}
            )
            self._count_failure(request)
            return self._error(400, "error unmarshalling raft message")
        self._figures.received_bytes[self._figures.label(hex_id(message.from_))] += len(request.body)
        if refusal(message, self._identity, self._surroundings, self._log) is not None:
            # What etcd answers. It means to send 403, which would tell the sender that it was removed, but
            # loses that on the way (``writerToResponse`` matches nothing): removed members learn it from 410.
            return self._error(500, "error processing raft message")
        if message.type not in LOCAL_TYPES:
            self._surroundings.receive(message)
        return HttpResponse(204, b"", self._cluster_header)

    # --- streams --------------------------------------------------------------------------------------------

    def _stream(self, request: HttpRequest) -> HttpResponse | Coroutine[Any, Any, HttpResponse] | None:
        if request.method != "GET":
            return _method_not_allowed("GET")
        try:
            fault = headers.incompatibility(self._identity, request, self._log)
        except ValueError:
            return _hang_up()
        if fault is not None:
            return self._error(412, fault, streaming=True)
        folder, _, sender_text = request.path.rpartition("/")
        if folder not in (MSGAPP_PATH, MESSAGE_PATH):
            self._log.debug("ignored unexpected streaming request path", path=request.path)
            return self._error(404, "invalid path", streaming=True)
        sender = headers.parse_id(sender_text)
        if sender is None:
            self._refuse("failed to parse path into ID", {"path": sender_text})
            return self._error(404, "invalid from", streaming=True)
        names = {"remote-peer-id-from": hex_id(sender)}
        if self._surroundings.is_removed(sender):
            self._refuse("rejected stream from remote peer because it was removed", names)
            return self._error(410, "removed member", streaming=True)
        peer = self._peers.peer(sender)
        if peer is None:
            self._peers.announced(request)
            self._refuse("failed to find remote peer in cluster", names)
            return self._error(404, "error sender not found", streaming=True)
        wanted = request.header("x-raft-to") or ""
        if wanted != self._local:
            self._refuse("ignored streaming request; ID mismatch", {"remote-peer-id-header": wanted, **names})
            return self._error(412, "to field mismatch", streaming=True)
        writer = peer.msgapp_writer if folder == MSGAPP_PATH else peer.message_writer
        stream = OutgoingStream(self._stream_head(), self._stream_lost)
        self._streams.add(stream)
        request.take_over(stream)
        writer.attach(stream)
        return None

    def _stream_lost(self, stream: OutgoingStream) -> None:
        self._streams.discard(stream)
        self._streams_lost.set()

    def _stream_head(self) -> bytes:
        assert self._server is not None, "a request came through it"
        return _STREAM_HEAD.format(
            cluster=hex_id(self._identity.cluster_id),
            version=ETCD_VERSION,
            date=self._server.date().decode(),
        ).encode()

    def _refuse(self, what: str, fields: dict[str, str]) -> None:
        cluster = hex_id(self._identity.cluster_id)
        local = {"local-member-id": self._local, "remote-peer-id-stream-handler": self._local}
        self._log.warn(what, {**local, **fields, "cluster-id": cluster})

    # --- snapshots ------------------------------------------------------------------------------------------

    async def _snapshot(self, request: HttpRequest) -> HttpResponse:
        if request.method != "POST":
            self._figures.snapshot_receive_failures[_UNKNOWN_SENDER] += 1
            return _method_not_allowed("POST")
        try:
            fault = headers.incompatibility(self._identity, request, self._log)
        except ValueError as error:
            raise ConnectionError(str(error)) from error
        if fault is not None:
            self._figures.snapshot_receive_failures[_UNKNOWN_SENDER] += 1
            return self._error(412, fault)
        self._peers.announced(request)
        if self._uploads >= limits.PEER_SNAPSHOT_UPLOADS:
            return self._error(503, "too many snapshots are being received")
        self._uploads += 1
        # Not the connection's own task, which ends with the connection: what was received whole is used.
        return await asyncio.shield(self._tasks.spawn(self._upload(request)))

    async def _upload(self, request: HttpRequest) -> HttpResponse:
        try:
            message, size, rest = await read_snapshot_message(request.read)
        except (StreamError, ConnectionError) as error:
            self._count_failure(request)
            return self._snapshot_failed("failed to decode Raft message", 0, error,
                                         400, f"failed to decode raft message ({error})")  # fmt: skip
        else:
            return await self._receive(message, size, _Pieces(rest, request.read))
        finally:
            self._uploads -= 1

    async def _receive(self, message: Message, size: int, pieces: "_Pieces") -> HttpResponse:
        figures = self._figures
        sender = figures.label(hex_id(message.from_))
        figures.received_bytes[sender] += size
        if message.type != MSG_SNAP:
            kind = MESSAGE_NAMES[message.type]
            return self._snapshot_failed(
                "unexpected Raft message type", message.from_, kind, 400, "wrong raft message type"
            )
        refused = refusal(message, self._identity, self._surroundings, self._log)
        if refused is not None:
            text = f"failed to process raft message ({refused})"
            return self._snapshot_failed("failed to process Raft message", message.from_, refused, 500, text)
        fields: dict[str, object] = {
            "local-member-id": self._local,
            "remote-snapshot-sender-id": sender,
            "incoming-snapshot-index": message.snapshot.metadata.index,
        }
        self._log.info("receiving database snapshot", {
            **fields, "incoming-snapshot-message-size-bytes": size,
            "incoming-snapshot-message-size": human_bytes(size)})  # fmt: skip
        figures.snapshots_receiving[sender] += 1
        started = time.monotonic()
        try:
            await self._surroundings.receive_snapshot(message, pieces)
        except Exception as error:
            text = f"failed to save KV snapshot ({error})"
            return self._snapshot_failed("failed to save incoming database snapshot", message.from_, error,
                                         500, text)  # fmt: skip
        finally:
            figures.snapshots_receiving[sender] -= 1
            figures.received_bytes[sender] += pieces.size
        seconds = time.monotonic() - started
        self._log.info("received and saved database snapshot", {
            **fields, "incoming-snapshot-size-bytes": pieces.size,
            "incoming-snapshot-size": human_bytes(pieces.size),
            "download-took": Duration(round(seconds * 1e9))})  # fmt: skip
        figures.snapshots_received[sender] += 1
        figures.snapshot_receive_seconds[sender].observe(seconds)
        return HttpResponse(204, b"", self._cluster_header)

    def _snapshot_failed(
        self, what: str, sender: int, error: Exception | str, status: int, text: str
    ) -> HttpResponse:
        name = hex_id(sender)
        self._figures.snapshot_receive_failures[self._figures.label(name)] += 1
        self._log.warn(
            what, {"local-member-id": self._local, "remote-snapshot-sender-id": name, "error": error}
        )
        return self._error(status, text)

    def _count_failure(self, request: HttpRequest) -> None:
        figures = self._figures
        figures.received_failures[figures.label(request.peer.rpartition(":")[0])] += 1

    # --- probes and errors ----------------------------------------------------------------------------------

    def _probing(self, _request: HttpRequest) -> HttpResponse:
        return HttpResponse(200, health(self._wall_clock()))

    def _error(self, status: int, text: str, *, streaming: bool = False) -> HttpResponse:
        more = (
            (*self._cluster_header, ("X-Server-Version", ETCD_VERSION)) if streaming else self._cluster_header
        )
        return error_response(status, text, more)


def _method_not_allowed(allowed: str) -> HttpResponse:
    return error_response(405, "Method Not Allowed", (("Allow", allowed),))


async def _hang_up() -> HttpResponse:
    """Close the connection without an answer: what etcd does when a version is none, as it panics."""
    raise ConnectionError("a version header that is no version")


async def read_snapshot_message(read: Callable[[], Coroutine[Any, Any, bytes]]) -> tuple[Message, int, bytes]:
    """Read the message at the head of an upload.

    Returns:
        The message, its size, and what has come after it.

    Raises:
        StreamError: there is none, or it is too long.
        ConnectionError: the connection is lost.
    """
    pieces: list[bytes] = []
    have, need = 0, _LENGTH_BYTES
    while have < need:
        piece = await read()
        if not piece:
            raise StreamError("unexpected EOF" if have not in (0, _LENGTH_BYTES) else "EOF")
        pieces.append(piece)
        have += len(piece)
        if need == _LENGTH_BYTES and have >= need:
            pieces = [b"".join(pieces)]
            need += int.from_bytes(pieces[0][:_LENGTH_BYTES], "big")
            if need - _LENGTH_BYTES > limits.PEER_SNAPSHOT_MESSAGE_BYTES:
                raise StreamError("rafthttp: error limit exceeded")
    whole = b"".join(pieces)
    try:
        return decode_message(whole[_LENGTH_BYTES:need]), need - _LENGTH_BYTES, whole[need:]
    except CodecError as error:
        raise StreamError(str(error)) from error


@final
class _Pieces:
    """The database of an upload; ``size`` is how much of it has been taken."""

    def __init__(self, first: bytes, read: Callable[[], Coroutine[Any, Any, bytes]]) -> None:
        self._first = first
        self._read: Final = read
        self.size = 0

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        piece, self._first = self._first, b""
        if not piece:
            piece = await self._read()
        if not piece:
            raise StopAsyncIteration
        self.size += len(piece)
        return piece
