"""gRPC's own syntax inside HTTP/2: timeouts, status text, compressed messages, names of methods.

Source: "gRPC over HTTP2" (grpc/grpc ``doc/PROTOCOL-HTTP2.md``); texts and codes as grpc-go's server gives
them (``internal/transport/http_util.go``, ``rpc_util.go``, ``server.go``).
"""

import base64
import binascii
import json
import zlib
from typing import Final, final

from kvorum import limits
from kvorum.errors import INTERNAL, RESOURCE_EXHAUSTED, UNIMPLEMENTED

ACCEPTED_ENCODINGS: Final = frozenset(("", "identity", "gzip"))
"""What ``grpc-encoding`` may say."""
PREFIX_BYTES: Final = 5
"""Compressed flag and length before every message."""

_UNIT_SECONDS: Final = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_RESERVED: Final = frozenset(
    (
        "content-type",
        "grpc-message-type",
        "grpc-encoding",
        "grpc-message",
        "grpc-status",
        "grpc-timeout",
        "te",
    )
)
"""Fields that are the protocol's and no metadata (grpc-go ``isReservedHeader``; user-agent is shown)."""


@final
class StatusError(Exception):
    """A call that ends with this status before or instead of its handler.

    ``http_status`` is other than 200 for a request that is none of gRPC.
    """

    def __init__(self, code: int, message: str, http_status: int = 200) -> None:
        super().__init__(message)
        self.http_status: Final = http_status
        self.code: Final = code
        self.message: Final = message


def go_quote(text: str) -> str:
    """A string as Go's ``%q`` prints it, near enough for texts in errors."""
    return json.dumps(text, ensure_ascii=False)


def parse_timeout(text: str) -> float:
    """Seconds of a ``grpc-timeout``.

    Raises:
        StatusError: INTERNAL, as grpc-go.
    """
    flaw = ""
    if len(text) < 2:
        flaw = f"transport: timeout string is too short: {go_quote(text)}"
    elif len(text) > 9:
        flaw = f"transport: timeout string is too long: {go_quote(text)}"
    elif text[-1] not in _UNIT_SECONDS:
        flaw = f"transport: timeout unit is not recognized: {go_quote(text)}"
    elif not (text[:-1].isascii() and text[:-1].isdigit()):
        flaw = f"strconv.ParseUint: parsing {go_quote(text[:-1])}: invalid syntax"
    if flaw:
        raise StatusError(INTERNAL, f"malformed grpc-timeout: {flaw}", 400)
    return int(text[:-1]) * _UNIT_SECONDS[text[-1]]


def encode_status_message(text: str) -> str:
    """Percent-encode a ``grpc-message``: printable ASCII but "%" stands for itself; bounded in length."""
    if text.isascii() and text.isprintable() and "%" not in text:
        return text[: limits.MAX_STATUS_MESSAGE_BYTES]
    out: list[str] = []
    room = limits.MAX_STATUS_MESSAGE_BYTES
    for char in text:
        code = ord(char)
        if 0x20 <= code <= 0x7E and char != "%":
            piece = char
        else:
            piece = "".join(f"%{byte:02X}" for byte in char.encode("utf-8", "replace"))
        room -= len(piece)
        if room < 0:
            break
        out.append(piece)
    return "".join(out)


def decompress(data: bytes | bytearray | memoryview, max_size: int) -> bytes:
    """A gzip message, at most ``max_size`` bytes of it (RFC 1952; several members as Go reads them).

    Raises:
        StatusError: INTERNAL if it is no gzip, RESOURCE_EXHAUSTED if it unpacks to more.
    """
    parts: list[bytes] = []
    room = max_size + 1
    rest: bytes | bytearray | memoryview = data
    try:
        while True:
            member = zlib.decompressobj(wbits=31)
            part = member.decompress(rest, room)
            parts.append(part)
            room -= len(part)
            if room <= 0:
                raise StatusError(
                    RESOURCE_EXHAUSTED,
                    f"grpc: received message after decompression larger than max {max_size}",
                )
            if not member.eof:
                raise StatusError(INTERNAL, "grpc: failed to decompress the received message: unexpected EOF")
            rest = member.unused_data
            if not rest:
                return b"".join(parts)
    except zlib.error:
        raise StatusError(
            INTERNAL, "grpc: failed to decompress the received message: gzip: invalid header"
        ) from None


def check_prefix(flag: int, length: int, encoding: str, max_size: int) -> None:
    """A message's prefix, before its content is waited for.

    Raises:
        StatusError: the status grpc-go answers with.
    """
    if length > max_size:
        raise StatusError(
            RESOURCE_EXHAUSTED, f"grpc: received message larger than max ({length} vs. {max_size})"
        )
    if flag == 0:
        return
    if flag != 1:
        raise StatusError(INTERNAL, f"grpc: received unexpected payload format {flag}")
    if encoding in ("", "identity"):
        raise StatusError(INTERNAL, "grpc: compressed flag set with identity or empty encoding")


def check_encoding(encoding: str) -> None:
    """A request's ``grpc-encoding``.

    Raises:
        StatusError: UNIMPLEMENTED; the answer then names what is accepted.
    """
    if encoding not in ACCEPTED_ENCODINGS:
        raise StatusError(
            UNIMPLEMENTED, f"grpc: Decompressor is not installed for grpc-encoding {go_quote(encoding)}"
        )


def is_grpc_content_type(value: str) -> bool:
    """``application/grpc``, alone or with a sub-type or parameter."""
    rest = value.lower()
    return rest.startswith("application/grpc") and (len(rest) == 16 or rest[16] in "+;")


def metadata_of(fields: list[tuple[str, str]], authority: str | None) -> dict[str, list[str]]:
    """The fields that are metadata, as lists by name; ":authority" as grpc-go shows it."""
    out: dict[str, list[str]] = {}
    if authority is not None:
        out[":authority"] = [authority]
    for name, value in fields:
        if name not in _RESERVED and (name != "host" or authority is None):
            out.setdefault(":authority" if name == "host" else name, []).append(value)
    return out


def check_binary_metadata(name: str, value: str) -> None:
    """A ``-bin`` value has to be base64, with or without padding.

    Raises:
        StatusError: INTERNAL, as grpc-go.
    """
    try:
        base64.b64decode(value + "=" * (-len(value) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise StatusError(
            INTERNAL,
            f"malformed binary metadata {go_quote(value)} in header {go_quote(name)}: illegal base64 data",
            400,
        ) from None


def unknown_method(path: str, services: set[str]) -> StatusError:
    """The answer to a path that is not served, in grpc-go's words."""
    service, slash, method = path.removeprefix("/").rpartition("/")
    if not path.startswith("/") or not slash:
        return StatusError(UNIMPLEMENTED, f"malformed method name: {go_quote(path)}")
    if service not in services:
        return StatusError(UNIMPLEMENTED, f"unknown service {service}")
    return StatusError(UNIMPLEMENTED, f"unknown method {method} for service {service}")


def unreadable_message() -> StatusError:
    """The answer to a body that is no such protobuf message; for the api layer, which parses."""
    return StatusError(
        INTERNAL, "grpc: error unmarshalling request: proto: cannot parse invalid wire-format data"
    )
