"""From header fields to a request, by the rules of RFC 9113 8.2 and 8.3.

A :class:`Request` is what a header block means, without anything of the stream it came on, so that one object
serves all streams that sent the same block (``http2.py`` keeps a bounded cache of them).
"""

from typing import Any, Final, final

from kvorum.rpc.header_blocks import Field

_PSEUDO_NAMES: Final = frozenset((":method", ":scheme", ":path", ":authority"))
_CONNECTION_NAMES: Final = frozenset(
    ("connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade")
)
"""Connection-specific fields have no meaning in HTTP/2 and make a message malformed (RFC 9113 8.2.2)."""
_SPECIAL_NAMES: Final = _CONNECTION_NAMES | {"te", "content-length"}
NO_CONTENT_LENGTH: Final = -1


@final
class Malformed(Exception):  # noqa: N818 - the word of RFC 9113 8.1.1
    """The header section breaks RFC 9113 8.2 or 8.3; a stream error PROTOCOL_ERROR."""


@final
class Request:
    """A checked request header section.

    ``fields`` are the regular fields in their order, names in lower case, values as Latin-1 octets.
    ``content_length`` is -1 without that field. ``announce`` and ``plan`` belong to the layer above
    (``http2.Receiver.prepare`` sets them once per decoded block).
    """

    __slots__ = ("announce", "authority", "content_length", "fields", "method", "path", "plan", "scheme")

    def __init__(
        self,
        method: str,
        scheme: str,
        path: str,
        authority: str | None,
        fields: list[tuple[str, str]],
        content_length: int,
    ) -> None:
        self.method = method
        self.scheme = scheme
        self.path = path
        self.authority = authority
        self.fields = fields
        self.content_length = content_length
        self.announce = True
        self.plan: Any = None


def build_request(fields: list[Field]) -> Request:
    """Check a request's header section.

    Raises:
        Malformed: with what is wrong.
    """
    pseudo: dict[str, str] = {}
    regular: list[tuple[str, str]] = []
    content_length = NO_CONTENT_LENGTH
    for name, value, _size, valid in fields:
        if not valid:
            raise Malformed("field with characters that are not allowed")
        if name[0] == ":":
            if regular or name in pseudo or name not in _PSEUDO_NAMES:
                raise Malformed(f"pseudo-header {name} misplaced, repeated or unknown")
            pseudo[name] = value
            continue
        if name in _SPECIAL_NAMES:
            content_length = _check_special(name, value, content_length)
        regular.append((name, value))
    method = pseudo.get(":method", "")
    _check_pseudo(method, pseudo)
    return Request(
        method,
        pseudo.get(":scheme", ""),
        pseudo.get(":path", ""),
        pseudo.get(":authority"),
        regular,
        content_length,
    )


def check_trailers(fields: list[Field]) -> None:
    """Check a request's trailer section (RFC 9113 8.1: no pseudo-headers).

    Raises:
        Malformed: with what is wrong.
    """
    for name, value, _size, valid in fields:
        if not valid or name[0] == ":":
            raise Malformed("trailer field that is not allowed")
        if name in _CONNECTION_NAMES or (name == "te" and value != "trailers"):
            raise Malformed(f"connection-specific trailer {name}")


def _check_special(name: str, value: str, content_length: int) -> int:
    """Fields that RFC 9113 restricts; returns the content length known so far."""
    if name == "te":
        if value != "trailers":
            raise Malformed("te other than trailers")
        return content_length
    if name != "content-length":
        raise Malformed(f"connection-specific field {name}")
    if not (value.isascii() and value.isdigit()) or len(value) > 18:
        raise Malformed("content-length is no number")
    length = int(value)
    if content_length not in (NO_CONTENT_LENGTH, length):
        raise Malformed("content-length twice")
    return length


def _check_pseudo(method: str, pseudo: dict[str, str]) -> None:
    """RFC 9113 8.3.1 and, for CONNECT, 8.5."""
    if not method:
        raise Malformed("no :method")
    if method == "CONNECT":
        if ":scheme" in pseudo or ":path" in pseudo or not pseudo.get(":authority"):
            raise Malformed("CONNECT with :scheme or :path, or without :authority")
        return
    if not pseudo.get(":scheme") or not pseudo.get(":path"):
        raise Malformed("no :scheme or no :path")
