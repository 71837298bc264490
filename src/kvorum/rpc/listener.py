"""One port for everything: sockets, and the choice of protocol by a connection's first bytes.

`Listener` binds every URL first and accepts afterwards, so that a taken address is one clear error before
anything runs. It accepts by itself rather than through the loop's server, because three things must hold that
those leave open: the number of connections is bounded (the rest waits in the kernel's queue, as behind etcd's
LimitListener), an accept that fails for want of descriptors rests before it tries again, and a connection
that stays silent is dropped.

`FirstBytes` is the protocol of a connection until it has said what it speaks: HTTP/2 with prior knowledge
(RFC 9113 section 3.3) or the result of ALPN, everything else is HTTP/1.1. The chosen protocol takes over the
transport and gets the bytes that have come.
"""

import asyncio
import errno
import resource
import socket
import ssl
from collections.abc import Iterable, Sized
from dataclasses import dataclass
from typing import Final, Protocol, cast, final

from kvorum import limits
from kvorum.logging import Logger
from kvorum.rpc.sockets import ListenError, ListeningSocket
from kvorum.tls.admission import Admission, Incoming, ServerTls
from kvorum.urls import Url

PREFACE: Final = b"PRI * HTTP/2.0\r\n"
"""The first line of HTTP/2's connection preface; no HTTP/1.1 request begins like it."""

_NO_RESOURCES: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
_TRY_AGAIN: Final = frozenset((errno.EAGAIN, errno.EWOULDBLOCK, errno.EINTR))


class ProtocolServer(Protocol):
    """What serves the connections of one protocol: `HttpServer` and `GrpcServer`."""

    @property
    def connections(self) -> Sized:
        """The connections it holds."""

    def protocol(self) -> asyncio.BaseProtocol:
        """Return the protocol object of a new connection."""

    async def shutdown(self, grace_seconds: float) -> None:
        """Finish what is under way, then close every connection."""


@dataclass(frozen=True)
class ListenerStatistics:
    """A look inside."""

    connections: int
    """Open connections, silent ones included."""
    silent: int
    """Those whose first bytes have not come."""
    accepted: int
    """Connections taken since the start."""
    dropped_silent: int
    """Connections dropped because they stayed silent, or because too many did."""
    handshakes: int
    """Connections that are not through their TLS handshake."""
    refused: int
    """Connections that were turned away there."""
    accept_failures: int
    """Accepts that failed for want of descriptors or memory."""


@final
class Listener:
    """The listening sockets of one set of URLs and the connections that came through them.

    A connection is counted by ``_connecting`` while it is set up, with TLS by ``_admission`` until it is let
    in, by ``_silent`` until it has chosen its protocol, and by that protocol's server from then on: at every
    moment by exactly one of them.
    """

    def __init__(
        self,
        logger: Logger,
        *,
        http1: ProtocolServer,
        http2: ProtocolServer,
        tls: ServerTls | ssl.SSLContext | None = None,
        max_connections: int | None = None,
        silent_connections: int = limits.HALF_OPEN_CONNECTIONS,
        first_bytes_seconds: float = limits.FIRST_BYTES_SECONDS,
        handshakes: int = limits.TLS_HANDSHAKES,
        handshake_seconds: float = limits.TLS_HANDSHAKE_SECONDS,
        reuse_port: bool = False,
    ) -> None:
        """Args:
        logger: where refusals and failures are told.
        http1: serves what is not HTTP/2.
        http2: serves connections that begin with HTTP/2's preface or agreed on ``h2``.
        tls: for ``https`` and ``unixs`` URLs.
        max_connections: more are not accepted; by default what RLIMIT_NOFILE leaves, as in etcd.
        silent_connections: bound on connections without first bytes.
        first_bytes_seconds: how long those may last.
        handshakes: bound on connections that are not through their TLS handshake.
        handshake_seconds: how long that may take.
        reuse_port: ``--socket-reuse-port``.
        """
        self.http1: Final = http1
        self.http2: Final = http2
        self.first_bytes_seconds: Final = first_bytes_seconds
        self._logger: Final = logger
        self._admission: Admission | None = None
        if tls is not None:
            served = ServerTls.of(tls) if isinstance(tls, ssl.SSLContext) else tls
            self._admission = Admission(
                served, logger, self._first_bytes, bound=handshakes, seconds=handshake_seconds
            )
        self._max_connections: Final = max_connections or connections_allowed()
        self._silent_bound: Final = silent_connections
        self._reuse_port: Final = reuse_port
        self._sockets: list[ListeningSocket] = []
        self._connecting: set[asyncio.Task[None]] = set()
        self._silent: dict[FirstBytes, None] = {}
        self._accepting = False
        self._resting: asyncio.TimerHandle | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self._accepted = 0
        self._dropped_silent = 0
        self._accept_failures = 0

    def bind(self, urls: Iterable[Url]) -> list[Url]:
        """Bind and listen on every URL; returns them as bound (port 0 replaced).

        Two URLs of one address, with TLS and without, share it, as in etcd.

        Raises:
            ListenError: one of them cannot be had; none is bound then.
        """
        bound: list[ListeningSocket] = []
        as_bound: list[Url] = []
        by_address: dict[str, ListeningSocket] = {}
        try:
            for url in urls:
                if url.secure and self._admission is None:
                    raise ListenError(
                        "TLS key/cert (--cert-file, --key-file) must be provided for client url"
                        f" {url} with HTTPS scheme"
                    )
                shared = by_address.get(url.address)
                if shared is None:
                    shared = ListeningSocket(url, reuse_port=self._reuse_port)
                    bound.append(shared)
                    by_address[shared.url.address] = shared
                shared.secure = shared.secure or url.secure
                shared.plain = shared.plain or not url.secure
                as_bound.append(Url(url.scheme, shared.url.address))
        except BaseException:
            for one in bound:
                one.close()
            raise
        self._sockets += bound
        return as_bound

    def start(self) -> None:
        """Begin to accept; connections that came since `bind` have been waiting in the kernel."""
        self._accepting = True
        self._watch_sockets()

    def stop_accepting(self) -> None:
        """Close the listening sockets and drop connections that have not said anything; the others go on."""
        self._accepting = False
        if self._resting is not None:
            self._resting.cancel()
            self._resting = None
        loop = asyncio.get_running_loop()
        for one in self._sockets:
            loop.remove_reader(one.socket.fileno())
            one.close()
        self._sockets.clear()
        for connection in list(self._silent):
            connection.abort()
        if self._admission is not None:
            self._admission.close()

    async def shutdown(self, grace_seconds: float) -> None:
        """Stop accepting and let both protocols finish what is under way, for as long as the grace lasts."""
        self.stop_accepting()
        for task in list(self._connecting):
            task.cancel()
        await asyncio.gather(*self._connecting, return_exceptions=True)
        await asyncio.gather(self.http1.shutdown(grace_seconds), self.http2.shutdown(grace_seconds))
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None

    def statistics(self) -> ListenerStatistics:
        """An immutable look inside."""
        admission = self._admission
        return ListenerStatistics(
            connections=self.connections,
            silent=len(self._silent),
            accepted=self._accepted,
            dropped_silent=self._dropped_silent,
            handshakes=0 if admission is None else len(admission.pending),
            refused=0 if admission is None else admission.refused,
            accept_failures=self._accept_failures,
        )

    @property
    def connections(self) -> int:
        """Open connections of every kind."""
        settled = len(self.http1.connections) + len(self.http2.connections)
        handshakes = 0 if self._admission is None else len(self._admission.pending)
        return len(self._connecting) + handshakes + len(self._silent) + settled

    # --- accepting ------------------------------------------------------------------------------------------

    def _watch_sockets(self) -> None:
        loop = asyncio.get_running_loop()
        if self._accepting and self._resting is None:
            for one in self._sockets:
                loop.add_reader(one.socket.fileno(), self._accept, one)

    def _unwatch_sockets(self) -> None:
        loop = asyncio.get_running_loop()
        for one in self._sockets:
            loop.remove_reader(one.socket.fileno())

    def _accept(self, one: "ListeningSocket") -> None:
        """Take what waits on one socket, within bounds."""
        for _ in range(limits.ACCEPTS_PER_TURN):
            if self.connections >= self._max_connections:
                self._rest()
                return
            try:
                accepted, _ = one.socket.accept()
            except OSError as error:
                if error.errno in _NO_RESOURCES:
                    self._accept_failures += 1
                    self._logger.warn("accept failed", error=error, retry_seconds=limits.ACCEPT_PAUSE_SECONDS)
                    self._rest()
                    return
                if error.errno in _TRY_AGAIN:
                    return
                continue  # ECONNABORTED and its like: that client is gone, the next may be there
            self._adopt(accepted, self._admission if one.secure else None, plain=one.plain)

    def _adopt(self, accepted: socket.socket, admission: Admission | None, *, plain: bool) -> None:
        accepted.setblocking(False)
        loop = asyncio.get_running_loop()
        self._accepted += 1
        connection = (
            FirstBytes(self, loop) if admission is None else Incoming(admission, self.was_set_up, plain=plain)
        )
        task = loop.create_task(self._connect(loop, connection, accepted))
        connection.setting_up = task
        self._connecting.add(task)
        task.add_done_callback(lambda done: self._connected(done, accepted))

    def _connected(self, task: asyncio.Task[None], accepted: socket.socket) -> None:
        self._connecting.discard(task)
        if task.cancelled():  # perhaps before its first step
            accepted.close()

    async def _connect(
        self, loop: asyncio.AbstractEventLoop, first: asyncio.Protocol, accepted: socket.socket
    ) -> None:
        try:
            await loop.connect_accepted_socket(lambda: first, accepted)
        except OSError:
            accepted.close()

    def _first_bytes(self) -> "FirstBytes":
        return FirstBytes(self, asyncio.get_running_loop())

    def _rest(self) -> None:
        """Leave the kernel's queue alone for a moment: there is no room for what waits in it."""
        self._unwatch_sockets()
        self._resting = asyncio.get_running_loop().call_later(limits.ACCEPT_PAUSE_SECONDS, self._resume)

    def _resume(self) -> None:
        self._resting = None
        self._watch_sockets()

    # --- what connections report
    # ------------------------------------------------------------------------------

    def became_silent(self, connection: "FirstBytes") -> None:
        """Note a connection that has to say something soon; the oldest one pays for one too many."""
        self.was_set_up(connection)
        if not self._accepting:
            connection.abort()
            return
        self._silent[connection] = None
        if len(self._silent) > self._silent_bound:
            oldest = next(iter(self._silent))
            self._drop_silent(oldest)
        if self._sweeper is None:
            loop = asyncio.get_running_loop()
            self._sweeper = loop.call_later(self.first_bytes_seconds, self._sweep, loop)

    def was_set_up(self, connection: "FirstBytes | Incoming") -> None:
        """Note that a connection is there: from now on others count it."""
        if connection.setting_up is not None:
            self._connecting.discard(connection.setting_up)

    def spoke(self, connection: "FirstBytes") -> None:
        """Note that a connection has chosen its protocol, or is gone."""
        self._silent.pop(connection, None)

    def _drop_silent(self, connection: "FirstBytes") -> None:
        self._silent.pop(connection, None)
        self._dropped_silent += 1
        connection.abort()

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        """Drop those that were silent for too long; come back when the next one is due."""
        self._sweeper = None
        now = loop.time()
        while self._silent:
            oldest = next(iter(self._silent))
            due = oldest.since + self.first_bytes_seconds
            if due > now:
                self._sweeper = loop.call_at(due, self._sweep, loop)
                return
            self._drop_silent(oldest)


@final
class FirstBytes(asyncio.Protocol):
    """A connection that has not said yet what it speaks."""

    __slots__ = ("_buffer", "_listener", "_loop", "_transport", "setting_up", "since")

    def __init__(self, listener: Listener, loop: asyncio.AbstractEventLoop) -> None:
        self._listener: Final = listener
        self._loop: Final = loop
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self.setting_up: asyncio.Task[None] | None = None
        self.since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Choose at once where ALPN has, else wait for bytes."""
        self._transport = cast("asyncio.Transport", transport)
        self.since = self._loop.time()
        tls = transport.get_extra_info("ssl_object")
        agreed = tls.selected_alpn_protocol() if tls is not None else None
        if agreed == "h2":
            self._hand_over(self._listener.http2)
        elif agreed == "http/1.1":
            self._hand_over(self._listener.http1)
        else:
            self._listener.became_silent(self)

    def data_received(self, data: bytes) -> None:
        """Choose as soon as the bytes cannot be HTTP/2's preface any more, or are."""
        self._buffer += data
        if self._buffer.startswith(PREFACE):
            self._hand_over(self._listener.http2)
        elif not PREFACE.startswith(self._buffer):
            self._hand_over(self._listener.http1)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client left without having said what it wanted."""
        self._transport = None
        self._listener.spoke(self)

    def abort(self) -> None:
        """Drop the connection."""
        if self._transport is not None:
            self._transport.abort()

    def _hand_over(self, server: ProtocolServer) -> None:
        transport, listener = self._transport, self._listener
        assert transport is not None
        listener.was_set_up(self)
        listener.spoke(self)
        chosen = server.protocol()
        transport.set_protocol(chosen)
        chosen.connection_made(transport)
        if self._buffer:
            deliver(chosen, self._buffer)


def deliver(protocol: asyncio.BaseProtocol, data: bytes) -> None:
    """Give bytes to a protocol of either kind, as its transport would."""
    if not isinstance(protocol, asyncio.BufferedProtocol):
        cast("asyncio.Protocol", protocol).data_received(data)
        return
    view = memoryview(data)
    while view:
        buffer = memoryview(protocol.get_buffer(len(view)))
        size = min(len(buffer), len(view))
        buffer[:size] = view[:size]
        protocol.buffer_updated(size)
        view = view[size:]


def connections_allowed() -> int:
    """How many clients the process may hold: its descriptors less the reserve; at least a few."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return 1 << 20
    return max(soft - limits.RESERVED_FILE_DESCRIPTORS, 16)
