"""The client's side of handshakes: connections to other members."""

import asyncio
import ssl
from collections.abc import Callable
from typing import Final, cast, final

from kvorum.logging import Logger
from kvorum.tls.channel import Channel
from kvorum.tls.contexts import check_pairs, client_context
from kvorum.tls.info import TlsError, TlsInfo
from kvorum.tls.reasons import explain
from kvorum.tls.source import FileSource
from kvorum.tls.transport import TlsTransport


class HandshakeError(ConnectionError):
    """A server that is not the one meant, or that does not let us in; the text is Go's."""


@final
class ClientTls:
    """What a member shows and believes when it connects; `load` makes one."""

    def __init__(self, source: Callable[[], FileSource[ssl.SSLContext]]) -> None:
        self._make: Final = source
        self._source: FileSource[ssl.SSLContext] | None = None

    @staticmethod
    def load(info: TlsInfo, log: Logger) -> "ClientTls":
        """Return what files ask for, and go on following them. Raises TlsError if they cannot be used."""
        cert_file, key_file = info.dialling_files

        def failed(error: TlsError) -> None:
            log.warn("failed to create client certificate", cert_file=cert_file, key_file=key_file,
                     error=error)  # fmt: skip

        files = (cert_file, key_file, info.trusted_ca_file)
        tls = ClientTls(lambda: FileSource(files, lambda: client_context(info), failed))
        if not info.empty:
            check_pairs(info)
        if any(files):
            tls.source()  # mistakes shall be told at once; reading the machine's own authorities can wait
        return tls

    @staticmethod
    def of(context: ssl.SSLContext) -> "ClientTls":
        """Return what connects with a context as it is, without files behind it."""
        return ClientTls(lambda: FileSource((), lambda: context, lambda error: None))

    def source(self) -> FileSource[ssl.SSLContext]:
        """Return what contexts come from. Raises TlsError if files cannot be used."""
        if self._source is None:
            self._source = self._make()
        return self._source

    async def dialling(self, server_name: str) -> "Dialling":
        """Return the protocol for a new connection to a server of this name (a host or an address)."""
        return Dialling(await self.source().fresh(), server_name)


@final
class Dialling(asyncio.Protocol):
    """A connection until its handshake is over: connect it, then await `secured`."""

    def __init__(self, context: ssl.SSLContext, server_name: str) -> None:
        """Raises ValueError for a name that is none."""
        self._channel: Final = Channel(context, server_side=False, server_name=server_name)
        self._below: asyncio.Transport | None = None
        self._done: Final[asyncio.Future[None]] = asyncio.get_running_loop().create_future()

    async def secured(self, above: asyncio.Protocol) -> None:
        """Wait for the handshake and hand the connection to a protocol. Raises HandshakeError."""
        below = self._below
        assert below is not None, "connected before"
        try:
            await self._done
        except asyncio.CancelledError:
            below.abort()
            raise
        TlsTransport(below, self._channel, {}).begin(above)
        below.resume_reading()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say hello."""
        self._below = cast("asyncio.Transport", transport)
        self._shake(b"")

    def data_received(self, data: bytes) -> None:
        """Go on with the handshake."""
        self._shake(data)

    def eof_received(self) -> bool:
        """The server does not want us."""
        self._fail("EOF")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._fail("EOF" if exc is None else explain(exc, server_side=False))

    def _shake(self, data: bytes) -> None:
        assert self._below is not None
        channel = self._channel
        try:
            if self._done.done():
                return
            is_done = channel.handshake(data)
        except (ssl.SSLError, ssl.CertificateError) as error:
            self._below.write(channel.take_output())
            self._fail(explain(error, server_side=False))
            return
        output = channel.take_output()
        if output:
            self._below.write(output)
        if is_done:
            self._below.pause_reading()  # until there is somebody to read to
            self._done.set_result(None)

    def _fail(self, reason: str) -> None:
        if not self._done.done():
            self._done.set_exception(HandshakeError(reason))
            self._done.exception()  # nobody may be left to ask
            if self._below is not None:
                self._below.close()
