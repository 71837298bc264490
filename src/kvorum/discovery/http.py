"""A small HTTP/1.1 client for discovery services: few requests, each on a connection of its own.

What members use between each other (``peer/client.py``) speaks neither to HTTP proxies nor to servers that
redirect, as public services do; nothing here is ever in a hurry. Through a proxy, plain requests name the
whole URL (RFC 9112 §3.2.2) and TLS goes through a tunnel (RFC 9110 §9.3.6, CONNECT).
"""

import asyncio
import errno
import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, final
from urllib.parse import SplitResult, urljoin, urlsplit

import httptools

from kvorum import limits
from kvorum.discovery.errors import UnavailableError
from kvorum.golang import quote

_FORM: Final = "application/x-www-form-urlencoded"
_PORTS: Final = {"http": 80, "https": 443}
_REDIRECT: Final = 3
_PIECE_BYTES: Final = 65_536


@final
@dataclass(frozen=True)
class Answer:
    """A whole answer; header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


def parse_proxy(text: str) -> SplitResult | None:
    """The proxy that ``--discovery-proxy`` names, with or without ``http://``; None for an empty text.

    Raises:
        ValueError: it names none, in etcd's words.
    """
    if not text:
        return None
    proxy = urlsplit(text if text.startswith("http") and "://" in text else f"http://{text}")
    try:
        known = proxy.port is None or proxy.port > 0
    except ValueError:
        known = False
    if not known or not proxy.hostname or proxy.scheme not in _PORTS:
        raise ValueError(f"invalid proxy address {quote(text)}")
    return proxy


class Client(Protocol):
    """What is asked of a client."""

    async def request(self, method: str, url: str, *, form: str = "", timeout_seconds: float) -> Answer:
        """Send a request and return the whole answer. Raises UnavailableError or TimeoutError."""


@final
class HttpClient:
    """Sends requests, follows redirects, goes through a proxy if there is one."""

    def __init__(
        self,
        proxy: SplitResult | None = None,
        tls: Callable[[], ssl.SSLContext] = ssl.create_default_context,
    ) -> None:
        """``tls`` makes the context for ``https`` URLs; by default the machine's authorities are trusted."""
        self._proxy: Final = proxy
        self._tls: Final = tls

    async def request(self, method: str, url: str, *, form: str = "", timeout_seconds: float) -> Answer:
        """Send a request, with ``form`` as its body if there is one, and return the whole answer.

        Raises:
            UnavailableError: nobody answers, or not with HTTP.
            TimeoutError: the answer is not whole in time.
        """
        async with asyncio.timeout(timeout_seconds):
            for _ in range(limits.DISCOVERY_REDIRECTS + 1):
                answer = await self._exchange(method, urlsplit(url), form)
                if answer.status // 100 != _REDIRECT:
                    return answer
                location = answer.headers.get("location")
                if not location:
                    raise UnavailableError("location header not set")
                url = urljoin(url, location)
        raise UnavailableError("too many redirects")

    async def _exchange(self, method: str, url: SplitResult, form: str) -> Answer:
        if url.scheme not in _PORTS or not url.hostname:
            raise UnavailableError(f"unsupported protocol scheme {quote(url.scheme)}")
        try:
            reader, writer = await self._connect(url)
        except (OSError, ValueError) as error:
            through = self._proxy or url
            raise UnavailableError(f"dial tcp {through.netloc}: {_reason(error)}") from None
        try:
            writer.write(self._head(method, url, form) + form.encode())
            return await _read(reader)
        except (OSError, httptools.HttpParserError) as error:
            raise UnavailableError(f"{method} {url.geturl()}: {_reason(error)}") from None
        finally:
            writer.close()

    async def _connect(self, url: SplitResult) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection on which requests for this URL can be written. Raises OSError or ValueError."""
        assert url.hostname is not None, "checked by the caller"
        proxy = self._proxy
        if proxy is None:
            context = self._tls() if url.scheme == "https" else None
            return await asyncio.open_connection(url.hostname, _port(url), ssl=context)
        reader, writer = await asyncio.open_connection(
            proxy.hostname, _port(proxy), ssl=self._tls() if proxy.scheme == "https" else None
        )
        if url.scheme == "https":
            try:
                await _tunnel(reader, writer, f"{url.hostname}:{_port(url)}")
                await writer.start_tls(self._tls(), server_hostname=url.hostname)
            except BaseException:
                writer.close()
                raise
        return reader, writer

    def _head(self, method: str, url: SplitResult, form: str) -> bytes:
        target = url._replace(scheme="", netloc="", fragment="").geturl() or "/"
        if self._proxy is not None and url.scheme == "http":
            target = url._replace(fragment="").geturl()
        lines = [f"{method} {target} HTTP/1.1", f"Host: {url.netloc.rpartition('@')[2]}", "Connection: close"]
        if form:
            lines += [f"Content-Type: {_FORM}", f"Content-Length: {len(form.encode())}"]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")


def _port(url: SplitResult) -> int:
    return url.port or _PORTS[url.scheme]


async def _tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: str) -> None:
    """Have a proxy connect to an address. Raises OSError."""
    writer.write(f"CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n\r\n".encode())
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        raise ConnectionError("the proxy does not answer with HTTP") from None
    status = head.partition(b"\r\n")[0].decode("latin-1").partition(" ")[2]
    if not status.startswith("2"):
        raise ConnectionError(status or "the proxy does not answer with HTTP")


@final
class _Reading:
    """What ``httptools`` finds in an answer."""

    def __init__(self) -> None:
        self.headers: Final[dict[str, str]] = {}
        self.body: Final = bytearray()
        self.complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.setdefault(name.decode("latin-1").lower(), value.decode("latin-1"))

    def on_body(self, piece: bytes) -> None:
        self.body.extend(piece)
        if len(self.body) > limits.DISCOVERY_ANSWER_BYTES:
            raise ConnectionError(f"response body is longer than {limits.DISCOVERY_ANSWER_BYTES} bytes")

    def on_message_complete(self) -> None:
        self.complete = True


async def _read(reader: asyncio.StreamReader) -> Answer:
    """Read an answer. Raises OSError or HttpParserError."""
    reading = _Reading()
    parser = httptools.HttpResponseParser(reading)
    seen = 0
    while not reading.complete:
        piece = await reader.read(_PIECE_BYTES)
        if not piece:
            framed = "content-length" in reading.headers or "transfer-encoding" in reading.headers
            if not seen or framed:
                raise ConnectionError("EOF" if not seen else "unexpected EOF")
            break
        seen += len(piece)
        if not reading.body and seen > limits.DISCOVERY_ANSWER_BYTES:
            raise ConnectionError("response headers are too long")
        try:
            parser.feed_data(piece)
        except httptools.HttpParserCallbackError as error:
            raise error.__context__ or error from None
    return Answer(parser.get_status_code(), reading.headers, bytes(reading.body))


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno is not None and error.errno in errno.errorcode:
        return f"connect: {os.strerror(error.errno).lower()}"
    return str(error)
