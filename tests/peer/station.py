"""A member as the peers' room sees it, with a real listener: records what it is told, and wakes waiters."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Final, final

from kvorum.logging import DEBUG, Logger
from kvorum.peer.transport import Identity, OutgoingSnapshot, PeerTransport
from kvorum.raft.types import Message, Snapshot
from kvorum.rpc.grpc import GrpcOptions, GrpcServer
from kvorum.rpc.http1 import HttpServer
from kvorum.rpc.listener import Listener
from kvorum.urls import Url, parse_url

WAIT_SECONDS: Final = 20.0
CLUSTER: Final = 0xCDF818194E3A8C32


@final
class Lines:
    """A log kept in memory; ``told`` is set with every line."""

    def __init__(self, told: asyncio.Event) -> None:
        self.lines: Final[list[str]] = []
        self._told: Final = told

    def write(self, level: int, line: bytes) -> None:
        """Keep a line."""
        self.lines.append(line.decode())
        self._told.set()


@final
class RawStream:
    """A stream dialled by hand: the head of the answer, and the chunks that are read."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> None:
        self.head: Final = head
        self.writer: Final = writer
        self._reader: Final = reader

    async def chunk(self) -> bytes:
        """The next chunk; empty for the last one. Raises IncompleteReadError if the stream breaks off."""
        async with asyncio.timeout(WAIT_SECONDS):
            size = int(await self._reader.readuntil(b"\r\n"), 16)
            return (await self._reader.readexactly(size + 2))[:-2]

    def close(self) -> None:
        """Drop it."""
        self.writer.transport.abort()


@final
class Pieces:
    """A snapshot to send, made of given pieces; ``fault`` is raised after them."""

    def __init__(
        self, snapshot: Snapshot, pieces: list[bytes], *, size: int = -1, fault: Exception | None = None
    ) -> None:
        self.snapshot = snapshot
        self.size = sum(map(len, pieces)) if size < 0 else size
        self.closed = 0
        self._pieces: Final = pieces
        self._fault: Final = fault

    async def pieces(self) -> AsyncIterator[bytes]:
        """The pieces."""
        for piece in self._pieces:
            yield piece
        if self._fault is not None:
            raise self._fault

    def close(self) -> None:
        """Count how often this was called."""
        self.closed += 1


@final
class Station:
    """One side of a conversation. Use as ``async with Station(1) as station``."""

    def __init__(
        self,
        member_id: int,
        cluster_id: int = CLUSTER,
        url: str = "http://127.0.0.1:0",
        *,
        tls: tuple[ssl.SSLContext, ssl.SSLContext] | None = None,
    ) -> None:
        """``tls``: for those who connect to us, and for those we connect to."""
        serving, dialling = tls or (None, None)
        self.member_id: Final = member_id
        self.cluster_id: Final = cluster_id
        self._raw: Final[list[asyncio.StreamWriter]] = []
        self.told: Final = asyncio.Event()
        self.lines: Final = Lines(self.told)
        self.log: Final = Logger([self.lines], level=DEBUG, sample=False)
        self.http: Final = HttpServer(self.log)
        self._listener: Final = Listener(
            self.log, http1=self.http, http2=GrpcServer(GrpcOptions()), tls=serving
        )
        self.url: Final[Url] = self._listener.bind([parse_url(url)])[0]
        identity = Identity(member_id, cluster_id, (self.url,))
        self.transport: Final = PeerTransport(identity, self, self.log, tls=dialling)
        self.received: Final[list[Message]] = []
        self.removed: Final[set[int]] = set()
        self.lost: Final[list[int]] = []
        self.snapshots: Final[list[tuple[int, bool]]] = []
        self.databases: Final[list[tuple[Message, bytes]]] = []
        self.broken: Final[list[str]] = []
        self.outgoing: OutgoingSnapshot | None = None
        self.refuse_database: Exception | None = None
        self.told_removed = 0

    async def __aenter__(self) -> "Station":
        self.transport.install(self.http)
        self._listener.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.transport.stop()
        for writer in self._raw:
            writer.transport.abort()
        await self._listener.shutdown(1.0)

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds; looked at whenever this side is told or logs something."""
        async with asyncio.timeout(WAIT_SECONDS):
            while not holds():
                self.told.clear()
                await self.told.wait()

    async def dial(
        self, sender: int, *, kind: str = "message", buffer_bytes: int = 0, more: bytes = b""
    ) -> RawStream:
        """Ask for a stream as member ``sender``, and say ``more``; with ``buffer_bytes`` the socket takes
        little more than that.
        """
        sock = socket.socket()
        if buffer_bytes:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, (self.url.host, int(self.url.port)))
        reader, writer = await asyncio.open_connection(sock=sock, limit=buffer_bytes or 2**16)
        self._raw.append(writer)
        lines = [f"GET /raft/stream/{kind}/{sender:x} HTTP/1.1", "Host: x", f"X-Raft-To: {self.member_id:x}"]
        lines += [f"{name}: {value}" for name, value in Identity(sender, self.cluster_id).headers]
        writer.write("\r\n".join((*lines, "", "")).encode() + more)
        async with asyncio.timeout(WAIT_SECONDS):
            return RawStream(reader, writer, await reader.readuntil(b"\r\n\r\n"))

    def logged(self, text: str) -> list[str]:
        """The log's lines with ``text``."""
        return [line for line in self.lines.lines if text in line]

    # --- Surroundings ---------------------------------------------------------------------------------------

    def receive(self, message: Message) -> None:
        """Record a message."""
        self.received.append(message)
        self.told.set()

    def is_removed(self, member_id: int) -> bool:
        """Whether the test has removed a member."""
        return member_id in self.removed

    def unreachable(self, member_id: int) -> None:
        """Record a loss."""
        self.lost.append(member_id)
        self.told.set()

    def snapshot_sent(self, member_id: int, ok: bool) -> None:
        """Record a snapshot's end."""
        self.snapshots.append((member_id, ok))
        self.told.set()

    def removed_from_cluster(self) -> None:
        """Record that we are told to be removed."""
        self.told_removed += 1
        self.told.set()

    async def open_snapshot(self) -> OutgoingSnapshot:
        """Give what the test has prepared."""
        if self.outgoing is None:
            raise OSError("no snapshot")
        return self.outgoing

    async def receive_snapshot(self, message: Message, pieces: AsyncIterator[bytes]) -> None:
        """Record a database, or how it broke off."""
        whole = b""
        try:
            async for piece in pieces:
                whole += piece
                if self.refuse_database is not None:
                    raise self.refuse_database
        except Exception as error:
            self.broken.append(f"{type(error).__name__}: {error}")
            self.told.set()
            raise
        self.databases.append((message, whole))
        self.told.set()
