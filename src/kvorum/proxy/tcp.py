"""The gateway, ``kvorum gateway start``: connections passed on byte by byte to an endpoint that works.

It knows nothing of what it carries, TLS included. An endpoint that cannot be connected to is left out until a
look, every ``--retry-delay``, finds it again. Each side is read only as fast as the other one takes it, so a
slow client costs two buffers. Source of behaviour: etcd ``server/proxy/tcpproxy``.
"""

import asyncio
import secrets
import socket
from collections.abc import Sequence
from typing import Final, cast, final

from kvorum import limits
from kvorum.logging import Logger
from kvorum.proxy.remotes import Remote, Remotes

_DEFAULT_RETRY_SECONDS: Final = 300.0
"""What etcd takes a delay of zero for."""


@final
class Gateway:
    """The listener and its connections.

    Args:
        listening: bound, listening, not blocking; closed by ``stop``.
        remotes: the endpoints.
        retry_seconds: between looks at those that failed.
        log: told about what fails and what works again.
    """

    def __init__(
        self, listening: socket.socket, remotes: Sequence[Remote], retry_seconds: float, log: Logger
    ) -> None:
        self._listening: Final = listening
        self._remotes: Final = Remotes(remotes, secrets.randbelow)
        self._retry_seconds: Final = retry_seconds or _DEFAULT_RETRY_SECONDS
        self._log: Final = log
        self._connections: Final[set[asyncio.Task[None]]] = set()
        self._room: Final = asyncio.Semaphore(limits.GATEWAY_CONNECTIONS)

    async def run(self) -> None:
        """Accept until cancelled; ends every connection then."""
        endpoints = [remote.address for remote in self._remotes.all]
        self._log.info("ready to proxy client requests", endpoints=endpoints)
        loop = asyncio.get_running_loop()
        watching = loop.create_task(self._monitor())
        try:
            while True:
                await self._room.acquire()
                accepted = await self._accept(loop)
                task = loop.create_task(self._carry(accepted))
                self._connections.add(task)
                task.add_done_callback(lambda done: self._ended(done))
        finally:
            watching.cancel()
            self._listening.close()
            for task in list(self._connections):
                task.cancel()
            await asyncio.gather(watching, *self._connections, return_exceptions=True)

    # --- within -------------------------------------------------------------------------------------------

    async def _accept(self, loop: asyncio.AbstractEventLoop) -> socket.socket:
        while True:
            try:
                accepted, _ = await loop.sock_accept(self._listening)
            except OSError as error:
                self._log.warn("accept failed", error=error)
                await asyncio.sleep(limits.ACCEPT_PAUSE_SECONDS)
            else:
                return accepted

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._connections.discard(task)
        self._room.release()

    async def _carry(self, accepted: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            out = await self._connected(loop)
        except BaseException:
            accepted.close()
            raise
        if out is None:
            accepted.close()
            return
        pair = Pair(loop)
        try:
            await loop.connect_accepted_socket(lambda: pair.near, accepted)
            await loop.create_connection(lambda: pair.far, sock=out)
            await pair.over
        except OSError:
            pass  # one side is gone already; the other one goes, too
        finally:
            pair.abort()
            if pair.far.transport is None:
                out.close()

    async def _connected(self, loop: asyncio.AbstractEventLoop) -> socket.socket | None:
        while (remote := self._remotes.pick()) is not None:
            try:
                return await _dial(loop, remote)
            except OSError as error:
                remote.active = False
                self._log.warn(
                    "deactivated endpoint", address=remote.address, interval=self._interval(), error=error
                )
        return None

    async def _monitor(self) -> None:
        while True:
            await asyncio.sleep(self._retry_seconds)
            await asyncio.gather(*(self._look(one) for one in self._remotes.all if not one.active))

    async def _look(self, remote: Remote) -> None:
        try:
            (await _dial(asyncio.get_running_loop(), remote)).close()
        except OSError as error:
            self._log.warn(
                "failed to activate endpoint (stay inactive for another interval)",
                address=remote.address,
                interval=self._interval(),
                error=error,
            )
        else:
            remote.active = True
            self._log.info("activated", address=remote.address)

    def _interval(self) -> str:
        return f"{self._retry_seconds:g}s"


async def _dial(loop: asyncio.AbstractEventLoop, remote: Remote) -> socket.socket:
    """A connection to an endpoint. Raises OSError."""
    try:
        async with asyncio.timeout(limits.GATEWAY_CONNECT_SECONDS):
            found = await loop.getaddrinfo(remote.host, remote.port, type=socket.SOCK_STREAM)
            failure: OSError = OSError(f"dial tcp {remote.address}: no address")
            for family, kind, protocol, _, address in found:
                out = socket.socket(family, kind, protocol)
                out.setblocking(False)
                try:
                    await loop.sock_connect(out, address)
                except OSError as error:
                    out.close()
                    failure = error
                except BaseException:
                    out.close()
                    raise
                else:
                    return out
            raise failure
    except TimeoutError:
        raise OSError(f"dial tcp {remote.address}: i/o timeout") from None


@final
class Pair:
    """The two sides of one connection; ``over`` is resolved when the first one has closed."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.over: Final[asyncio.Future[None]] = loop.create_future()
        self.near: Final = _Side(self)
        self.far: Final = _Side(self)
        self.near.other, self.far.other = self.far, self.near

    def abort(self) -> None:
        """Close what is open, once what was written has left."""
        for side in (self.near, self.far):
            if side.transport is not None:
                side.transport.close()


@final
class _Side(asyncio.Protocol):
    """One side: gives what it reads to the other one."""

    __slots__ = ("_pair", "early", "other", "transport")

    def __init__(self, pair: Pair) -> None:
        self._pair: Final = pair
        self.early: list[bytes] = []
        self.other: _Side
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, with what the other side has said already."""
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=limits.GATEWAY_PIECE_BYTES)
        other = self.other
        if other.early:
            self.transport.write(b"".join(other.early))
            other.early.clear()
        if other.transport is not None and not other.transport.is_closing():
            other.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        """Pass it on; what comes before there is an other side waits, and nothing more is read."""
        if self.other.transport is not None:
            self.other.transport.write(data)
            return
        self.early.append(data)
        if self.transport is not None:
            self.transport.pause_reading()

    def eof_received(self) -> bool:
        """One direction is done: etcd's gateway ends both then."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """End the other side as well."""
        if not self._pair.over.done():
            self._pair.over.set_result(None)
        if self.other.transport is not None:
            self.other.transport.close()

    def pause_writing(self) -> None:
        """Our peer does not read: do not read from the other one."""
        if self.other.transport is not None and not self.other.transport.is_closing():
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        """Our peer reads again."""
        if self.other.transport is not None and not self.other.transport.is_closing():
            self.other.transport.resume_reading()
