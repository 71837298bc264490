"""What an HTTP/1.1 handler sees: a request, a response, and the parsing of queries and forms.

Nothing here touches a socket. Where Go's ``net/http`` and ``net/url`` decide what an etcd client observes
(which pairs of a query count, how an error text is framed), the same rules hold here.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final, Protocol, TypeAlias, final
from urllib.parse import unquote_to_bytes

TEXT_PLAIN: Final = ("Content-Type", "text/plain; charset=utf-8")
APPLICATION_JSON: Final = ("Content-Type", "application/json")
NO_SNIFF: Final = ("X-Content-Type-Options", "nosniff")

Body: TypeAlias = bytes | AsyncIterator[bytes]
Values: TypeAlias = dict[str, list[str]]

_HEX: Final = frozenset(b"0123456789abcdefABCDEF")


class Exchange(Protocol):
    """The connection as a request sees it."""

    def respond(self, request: "HttpRequest", response: "HttpResponse") -> None:
        """Answer; may be called in any turn of the loop."""

    def begin(self, request: "HttpRequest", response: "HttpResponse") -> None:
        """Send the head of a stream; may be called in any turn of the loop, as those that follow."""

    def send(self, request: "HttpRequest", piece: bytes) -> bool:
        """Send a piece of a stream; False if the client should read first."""

    def end(self, request: "HttpRequest", piece: bytes = b"") -> None:
        """End a stream, after a last piece if there is one."""

    async def read_body(self, request: "HttpRequest") -> bytes:
        """Next piece of a streamed body, empty at its end."""

    def extra_info(self, name: str) -> Any:
        """What the transport knows (``peername``, ``ssl_object``, ``peercert``...)."""

    def take_over(self, request: "HttpRequest", protocol: asyncio.Protocol) -> None:
        """Hand the connection over."""


@final
class HttpResponse:
    """An answer: status, headers in the order in which they are sent, and a body.

    ``body`` is bytes, or an async iterator for a stream: each piece is one chunk and leaves at once. Date,
    Content-Length, Transfer-Encoding and Connection are the connection's business.
    """

    __slots__ = ("body", "headers", "status")

    def __init__(
        self, status: int = 200, body: Body = b"", headers: Sequence[tuple[str, str]] = (TEXT_PLAIN,)
    ) -> None:
        self.status = status
        self.body = body
        self.headers = headers


def error_response(status: int, text: str, headers: Sequence[tuple[str, str]] = ()) -> HttpResponse:
    """An error as Go's ``http.Error`` sends it: the text and a line end, not to be sniffed for a type."""
    return HttpResponse(status, text.encode() + b"\n", (*headers, TEXT_PLAIN, NO_SNIFF))


def json_response(value: object, status: int = 200) -> HttpResponse:
    """A value as compact JSON."""
    return HttpResponse(status, json.dumps(value, separators=(",", ":")).encode(), (APPLICATION_JSON,))


@final
class HttpRequest:
    """One request, whole (unless its route streams bodies).

    ``path`` is decoded and begins with ``/``; ``query_string`` is what follows the question mark, as sent.
    ``headers`` are (name in lower case, value) pairs in their order. ``cancelled`` becomes True when nobody
    waits for the answer any more; ``on_cancel``, if set, is then called once, and answers are dropped.
    ``waits``: it is answered by a stream of events (`begin`); ``on_writable``, if set, is called when its
    client has read what `send` found too much.
    """

    __slots__ = (
        "_exchange",
        "_query",
        "body",
        "cancelled",
        "early",
        "expects_continue",
        "extra_head",
        "headers",
        "keep_alive",
        "method",
        "on_cancel",
        "on_writable",
        "path",
        "pieces",
        "query_string",
        "reader",
        "route",
        "target",
        "version",
        "waits",
    )

    def __init__(self, exchange: Exchange) -> None:
        self._exchange: Final = exchange
        self._query: Values | None = None
        self.method = ""
        self.target = b""
        self.path = ""
        self.query_string = ""
        self.version = "1.1"
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = b""
        self.keep_alive = False
        self.cancelled = False
        self.on_cancel: Callable[[], None] | None = None
        self.on_writable: Callable[[], None] | None = None
        self.waits = False
        # The connection's own notes.
        self.pieces: list[bytes] = []
        self.route: Any = None
        self.reader: Any = None
        self.early: HttpResponse | bytes | None = None
        self.extra_head = b""
        self.expects_continue = False

    def header(self, name: str) -> str | None:
        """The first value of a header, by any spelling of its name; None without one."""
        wanted = name.lower().encode()
        for key, value in self.headers:
            if key == wanted:
                return value.decode("latin-1")
        return None

    def query(self) -> Values:
        """The query's values by name; pairs that are no proper encoding are left out, as Go does."""
        if self._query is None:
            self._query = parse_query(self.query_string)[0]
        return self._query

    def form(self) -> Values:
        """Body and query values together, the body's first (Go's ``ParseForm``); raises ValueError on bad
        pairs.

        The body counts for POST, PUT and PATCH with ``application/x-www-form-urlencoded``.
        """
        values, fault = self._post_form()
        query, query_fault = parse_query(self.query_string)
        if fault or query_fault:
            raise ValueError(fault or query_fault)
        for name, more in query.items():
            values.setdefault(name, []).extend(more)
        return values

    def _post_form(self) -> tuple[Values, str]:
        kind = (self.header("content-type") or "").partition(";")[0].strip().lower()
        if self.method not in ("POST", "PUT", "PATCH") or kind != "application/x-www-form-urlencoded":
            return {}, ""
        return parse_query(self.body.decode("utf-8", "surrogateescape"))

    @property
    def peer(self) -> str:
        """The client's address as ``host:port`` (IPv6 in brackets), ``@`` for a Unix socket."""
        return format_peer(self._exchange.extra_info("peername"))

    def extra_info(self, name: str) -> Any:
        """What the transport knows: ``peername``, ``ssl_object``, ``peercert`` and so on; None otherwise."""
        return self._exchange.extra_info(name)

    def respond(self, response: HttpResponse) -> None:
        """Answer later, from a handler that returned None; dropped if the request was cancelled."""
        self._exchange.respond(self, response)

    def begin(self, response: HttpResponse) -> None:
        """Send status and headers of a stream (a body does not count); pieces follow by `send`."""
        self._exchange.begin(self, response)

    def send(self, piece: bytes) -> bool:
        """Send a piece of a stream, dropped if the request was cancelled; False if the client should first
        read what it has (``on_writable`` tells when that is done).
        """
        return self._exchange.send(self, piece)

    def end(self, piece: bytes = b"") -> None:
        """End a stream, after a last piece if there is one."""
        self._exchange.end(self, piece)

    def take_over(self, protocol: asyncio.Protocol) -> None:
        """Give the whole connection to ``protocol``, which writes the answer itself; the server knows the
        connection no more. To be called by the handler, before it returns None (Go's ``http.Hijacker``).
        """
        self._exchange.take_over(self, protocol)

    async def read(self) -> bytes:
        """Next piece of the body on a route that streams bodies; empty at the end. Raises ConnectionError."""
        return await self._exchange.read_body(self)


def format_peer(address: Any) -> str:
    """A transport's ``peername`` as Go prints a remote address."""
    if not isinstance(address, tuple) or len(address) < 2:
        return "@"
    host, port = address[0], address[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_query(text: str) -> tuple[Values, str]:
    """Values by name, and what was wrong with the first bad pair, if any. Source: ``url.ParseQuery``."""
    values: Values = {}
    fault = ""
    for pair in text.split("&"):
        if not pair:
            continue
        name, _, value = pair.partition("=")
        try:
            name, value = unescape_query(name), unescape_query(value)
        except ValueError as error:
            fault = fault or str(error)
        else:
            values.setdefault(name, []).append(value)
    return values, fault


def unescape_query(text: str) -> str:
    """Decode ``+`` and ``%xx``; raises ValueError in Go's words for a broken escape."""
    if "+" in text:
        text = text.replace("+", " ")
    return unescape_path(text) if "%" in text else text


def unescape_path(text: str) -> str:
    """Decode ``%xx``; bytes that are not UTF-8 become surrogates. Raises ValueError for a broken escape."""
    raw = text.encode("utf-8", "surrogateescape")
    at = raw.find(b"%")
    while at >= 0:
        digits = raw[at + 1 : at + 3]
        if len(digits) < 2 or not _HEX.issuperset(digits):
            bad = raw[at : at + 3].decode("utf-8", "replace")
            raise ValueError(f'invalid URL escape "{bad}"')
        at = raw.find(b"%", at + 3)
    return unquote_to_bytes(raw).decode("utf-8", "surrogateescape")
