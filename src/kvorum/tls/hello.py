"""What a client says first: whether it is TLS at all, whether it is whole, and what it asks for.

Nothing of OpenSSL is set up before a whole ClientHello is there, so connections that stay silent, dribble or
speak something else cost a buffer of a few bytes. Reading the name and versions out of it is for the log of
refusals only. Format: RFC 8446 section 4.1.2, RFC 6066 section 3. Texts: Go ``crypto/tls/conn.go``.
"""

import struct
from dataclasses import dataclass
from typing import Final

_HANDSHAKE: Final = 22
_ALERT: Final = 21
_HEADER_BYTES: Final = 5
_MAX_RECORD_BYTES: Final = 16 * 1024 + 2048
_HTTP: Final = (b"GET /", b"HEAD ", b"POST ", b"PUT /", b"OPTIO", b"DELET", b"PATCH", b"CONNE", b"PRI *")
HTTP_REFUSAL: Final = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"
"""What Go's servers answer to somebody who forgot the s."""


class NotTlsError(Exception):
    """Bytes that begin no handshake; the text is Go's. ``answer`` is for a client that speaks HTTP."""

    def __init__(self, text: str, answer: bytes = b"") -> None:
        super().__init__(text)
        self.answer: Final = answer


@dataclass(frozen=True)
class ClientHello:
    """What of a ClientHello goes into the log."""

    server_name: str = ""
    versions: tuple[int, ...] = ()
    """Those the client speaks, by their numbers on the wire."""


def is_whole(data: bytes) -> bool:
    """Whether the first record is there to its end. Raises NotTlsError as soon as it cannot be one."""
    if data and data[0] == 0x80:
        raise NotTlsError("tls: unsupported SSLv2 handshake received")
    if len(data) < _HEADER_BYTES:
        if data and data[0] not in (_HANDSHAKE, _ALERT) and not any(one.startswith(data) for one in _HTTP):
            raise NotTlsError("tls: first record does not look like a TLS handshake")
        return False
    kind, size = data[0], int.from_bytes(data[3:5], "big")
    if kind not in (_HANDSHAKE, _ALERT) or data[1] >= 0x10:
        answer = HTTP_REFUSAL if data.startswith(_HTTP) else b""
        raise NotTlsError("tls: first record does not look like a TLS handshake", answer)
    if size > _MAX_RECORD_BYTES:
        raise NotTlsError(f"tls: oversized record received with length {size}")
    return len(data) >= _HEADER_BYTES + size


def parse(data: bytes) -> ClientHello:
    """Return what can be read of a ClientHello; of one that is malformed, what is before the mistake."""
    name = ""
    versions: tuple[int, ...] = ()
    try:
        legacy, extensions = _extensions(data)
        versions = (legacy,)
        for kind, content in extensions:
            if kind == 0:
                size = int.from_bytes(content[3:5], "big")
                name = content[5 : 5 + size].decode("ascii", "replace")
            elif kind == 43:
                versions = tuple(value for (value,) in struct.iter_unpack(">H", content[1 : 1 + content[0]]))
    except (struct.error, IndexError, ValueError):
        pass
    return ClientHello(name, versions)


def _extensions(data: bytes) -> tuple[int, list[tuple[int, bytes]]]:
    """The version in front, and the extensions. Raises struct.error or IndexError."""
    body = data[_HEADER_BYTES + 4 :]
    (legacy,) = struct.unpack_from(">H", body)
    at = 2 + 32
    at += 1 + body[at]  # session id
    at += 2 + struct.unpack_from(">H", body, at)[0]  # cipher suites
    at += 1 + body[at]  # compression
    end = at + 2 + struct.unpack_from(">H", body, at)[0]
    at += 2
    found: list[tuple[int, bytes]] = []
    while at < min(end, len(body)):
        kind, size = struct.unpack_from(">HH", body, at)
        found.append((kind, body[at + 4 : at + 4 + size]))
        at += 4 + size
    return legacy, found
