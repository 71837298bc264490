"""A session on a connection: what a protocol above it takes for its transport.

It adds no buffer of its own. What is written is encrypted at once and waits, if at all, in the connection's
own buffer, whose bounds and pauses hold as without TLS; what comes is decrypted and delivered in one piece
per read, so that a protocol that pauses reading gets nothing more.
"""

import asyncio
import ssl
from collections.abc import Mapping
from typing import Any, Final, cast, final

from kvorum.tls.channel import Channel
from kvorum.tls.reasons import explain


@final
class TlsTransport(asyncio.Transport, asyncio.Protocol):
    """Transport of the protocol above, protocol of the connection below. Made when the handshake is over."""

    __slots__ = ("_above", "_below", "_channel", "_closing", "_failure", "_known", "_lost")

    def __init__(self, below: asyncio.Transport, channel: Channel, known: Mapping[str, object]) -> None:
        """``known`` is added to what `get_extra_info` answers."""
        super().__init__()
        self._below: Final = below
        self._channel: Final = channel
        self._known: Final = known
        self._above: asyncio.Protocol | None = None
        self._closing = False
        self._lost = False
        self._failure: Exception | None = None

    def begin(self, above: asyncio.Protocol) -> None:
        """Hand the connection to a protocol, with what the peer has sent behind its handshake."""
        self._above = above
        self._below.set_protocol(self)
        above.connection_made(self)
        self.data_received(b"")

    # --- what the connection calls ------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Decrypt and deliver."""
        if self._closing:
            return
        channel = self._channel
        try:
            plain = channel.decrypt(data)
        except ssl.SSLError as error:
            self._failure = ConnectionResetError(explain(error, server_side=channel.session.server_side))
            self._flush()  # the alert
            self._closing = True
            self._below.close()
            return
        self._flush()
        if plain and self._above is not None:
            self._above.data_received(plain)
        if channel.ended:
            self.eof_received()
            self.close()

    def eof_received(self) -> bool:
        """Nothing more comes: with or without a word, TLS knows no half-closed connection."""
        if not self._closing and self._above is not None:
            self._above.eof_received()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        if not self._lost:
            self._lost = self._closing = True
            above, self._above = self._above, None
            if above is not None:
                above.connection_lost(exc or self._failure)

    def pause_writing(self) -> None:
        """The connection's buffer is full."""
        if self._above is not None:
            self._above.pause_writing()

    def resume_writing(self) -> None:
        """It has drained."""
        if self._above is not None:
            self._above.resume_writing()

    # --- what the protocol above calls ----------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt and send."""
        if self._closing or not data:
            return
        try:
            self._channel.encrypt(cast("bytes", data))
        except ssl.SSLError:
            self.abort()
            return
        self._flush()

    def can_write_eof(self) -> bool:
        """False."""
        return False

    def close(self) -> None:
        """Say goodbye, send what waits, and close."""
        if not self._closing:
            self._closing = True
            self._channel.say_goodbye()
            self._flush()
            self._below.close()

    def abort(self) -> None:
        """Drop the connection."""
        self._closing = True
        self._below.abort()

    def is_closing(self) -> bool:
        """Whether it is closed, or about to be."""
        return self._closing or self._below.is_closing()

    def pause_reading(self) -> None:
        """Read no more for now."""
        self._below.pause_reading()

    def resume_reading(self) -> None:
        """Read on."""
        self._below.resume_reading()

    def is_reading(self) -> bool:
        """Whether it reads."""
        return self._below.is_reading()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Bound what may wait to be sent, in bytes of the wire."""
        self._below.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        """Bytes of the wire that wait to be sent."""
        return self._below.get_write_buffer_size()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Low and high water."""
        return self._below.get_write_buffer_limits()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Have another protocol take over."""
        self._above = cast("asyncio.Protocol", protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """The protocol above."""
        assert self._above is not None, "begun"
        return self._above

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """What is known of the session (``ssl_object``, ``peercert``, ...) or the connection."""
        session = self._channel.session
        if name in self._known:
            return self._known[name]
        if name == "ssl_object":
            return session
        if name == "sslcontext":
            return session.context
        if name == "peercert":
            return session.getpeercert()
        if name == "cipher":
            return session.cipher()
        return self._below.get_extra_info(name, default)

    def _flush(self) -> None:
        output = self._channel.take_output()
        if output:
            self._below.write(output)
