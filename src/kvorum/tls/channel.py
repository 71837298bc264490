"""One TLS session without a socket: bytes of the wire in and out, plain bytes in and out.

OpenSSL works on two memory buffers here, not on the connection. That is what lets an alert reach a client
whose handshake is refused (asyncio's own TLS drops it), keeps a silent connection free of OpenSSL's state,
and makes both event loops behave alike. Wire format: RFC 8446, RFC 5246.
"""

import ssl
from typing import Final, final

RECORD_BYTES: Final = 16 * 1024
"""Most plain bytes that one record carries (RFC 8446 section 5.1), which is what one read returns."""


@final
class Channel:
    """A session: first `handshake` until it is complete, then `decrypt` and `encrypt`.

    Whatever is called, `take_output` may have bytes for the peer afterwards, also when an error was raised:
    the alert that says why.
    """

    __slots__ = ("_incoming", "_outgoing", "ended", "session")

    def __init__(self, context: ssl.SSLContext, *, server_side: bool, server_name: str | None = None) -> None:
        self._incoming: Final = ssl.MemoryBIO()
        self._outgoing: Final = ssl.MemoryBIO()
        self.session: Final = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_side, server_hostname=server_name
        )
        self.ended = False
        """Whether the peer has said that nothing more comes."""

    def handshake(self, data: bytes) -> bool:
        """Go on with the handshake; True when it is complete. Raises ssl.SSLError when it has failed."""
        if data:
            self._incoming.write(data)
        try:
            self.session.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def decrypt(self, data: bytes) -> bytes:
        """Return the plain bytes that are whole now, maybe none. Raises ssl.SSLError.

        Whole records before a broken one are lost with it: their sender is cut off anyway.
        """
        if data:
            self._incoming.write(data)
        incoming, session = self._incoming, self.session
        pieces: list[bytes] = []
        try:
            while incoming.pending or session.pending():
                piece = session.read(RECORD_BYTES)
                if not piece:
                    self.ended = True
                    break
                pieces.append(piece)
        except ssl.SSLWantReadError:
            pass  # the last record is not whole
        except ssl.SSLZeroReturnError:
            self.ended = True
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def encrypt(self, data: bytes) -> None:
        """Take plain bytes for the peer, all of them. Raises ssl.SSLError."""
        sent = self.session.write(data) if data else 0
        assert sent == len(data), "a buffer in memory takes everything"

    def say_goodbye(self) -> None:
        """Say that nothing more will come (close_notify)."""
        try:
            self.session.unwrap()
        except ssl.SSLError:
            pass  # the peer's answer is not waited for, as in Go; a broken session has nothing to say

    def take_output(self) -> bytes:
        """Return what is to be sent now, maybe nothing."""
        return self._outgoing.read() if self._outgoing.pending else b""
