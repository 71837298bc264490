"""The URLs of flags and members: what etcd accepts, how it prints it, and what it says about the rest.

A member's URL is ``http``, ``https``, ``unix`` or ``unixs``, a host and a port, and nothing behind them.
Pure: no name is resolved here. Source of behaviour: etcd ``client/pkg/types/urls.go`` and
``embed.checkBindURLs``; the texts of parse errors are those of Go's ``net/url``.
"""

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from kvorum.golang import quote

SCHEMES: Final = ("http", "https", "unix", "unixs")
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*\Z")
_PORT: Final = re.compile(r"(:[0-9]*)?\Z")
_HOST: Final = re.compile(r"[A-Za-z0-9\-._~!$&'()*+,;=:\[\]<>\"%\u0080-\U0010ffff]*\Z")


@dataclass(frozen=True, order=True)
class Url:
    """A listen or advertise URL; prints as it goes into etcd's messages and member lists."""

    scheme: str
    """One of SCHEMES."""
    address: str
    """``host:port`` as given; for ``unix`` the name of the socket."""

    def __str__(self) -> str:
        return f"{self.scheme}://{self.address}"

    @property
    def host(self) -> str:
        """The host without the brackets of an IPv6 address; may be empty."""
        return split_host_port(self.address)[0]

    @property
    def port(self) -> str:
        """The port, as text."""
        return split_host_port(self.address)[1]

    @property
    def secure(self) -> bool:
        """Whether the scheme asks for TLS."""
        return self.scheme in ("https", "unixs")

    @property
    def is_unix(self) -> bool:
        """Whether this names a Unix socket; its path is then the whole ``address``."""
        return self.scheme in ("unix", "unixs")


def split_host_port(address: str) -> tuple[str, str]:
    """Return host and port of ``host:port`` or ``[host]:port``; raises ValueError in Go's words."""
    colon = address.rfind(":")
    if colon < 0:
        raise ValueError(f"address {address}: missing port in address")
    if address.startswith("["):
        end = address.find("]")
        if end < 0:
            raise ValueError(f"address {address}: missing ']' in address")
        if end + 1 != colon:
            problem = "too many colons" if address[end + 1 : end + 2] == ":" else "missing port"
            raise ValueError(f"address {address}: {problem} in address")
        return address[1:end], address[colon + 1 :]
    if ":" in address[:colon]:
        raise ValueError(f"address {address}: too many colons in address")
    return address[:colon], address[colon + 1 :]


def parse_url(text: str) -> Url:
    """Return the member URL that ``text`` is; raises ValueError with etcd's text."""
    text = text.strip()
    scheme, address, path = _split(text)
    if scheme not in SCHEMES:
        raise ValueError(f"URL scheme must be http, https, unix, or unixs: {text}")
    try:
        split_host_port(address)
    except ValueError:
        raise ValueError(f'URL address does not have the form "host:port": {text}') from None
    if path:
        raise ValueError(f"URL must not contain a path: {text}")
    return Url(scheme, address)


def parse_urls(texts: Iterable[str]) -> tuple[Url, ...]:
    """Return the URLs in the order in which etcd keeps them, sorted by their text."""
    return tuple(sorted((parse_url(text) for text in texts), key=str))


def _split(text: str) -> tuple[str, str, str]:
    """Scheme, authority and path, with the errors of Go's ``url.Parse``."""
    if any(char < " " or char == "\x7f" for char in text):
        raise ValueError(f"parse {quote(text)}: net/url: invalid control character in URL")
    text_part = text.partition("#")[0]
    scheme, colon, rest = text_part.partition(":")
    if not colon or "/" in scheme or "?" in scheme:
        scheme, rest = "", text_part
    elif not scheme:
        raise ValueError(f"parse {quote(text)}: missing protocol scheme")
    elif not _SCHEME.match(scheme):
        raise ValueError(f"parse {quote(text)}: first path segment in URL cannot contain colon")
    rest = rest.partition("?")[0]
    if not rest.startswith("//"):
        return scheme.lower(), "", rest
    address, slash, path = rest[2:].partition("/")
    address = address.rpartition("@")[2]
    _check_authority(text, address)
    return scheme.lower(), address, slash + path


def _check_authority(text: str, address: str) -> None:
    if address.startswith("["):
        end = address.rfind("]")
        if end < 0:
            raise ValueError(f"parse {quote(text)}: missing ']' in host")
        port = address[end + 1 :]
    else:
        colon = address.rfind(":")
        port = address[colon:] if colon >= 0 else ""
    if not _PORT.match(port):
        raise ValueError(f"parse {quote(text)}: invalid port {quote(port)} after host")
    if not _HOST.match(address):
        bad = next(char for char in address if not _HOST.match(char))
        raise ValueError(f"parse {quote(text)}: invalid character {quote(bad)} in host name")


def check_bind_urls(urls: Iterable[Url]) -> None:
    """Raise ValueError for a URL whose host is a name: one listens on addresses (or ``localhost``)."""
    for url in urls:
        if url.is_unix:
            continue
        host = url.host
        if host == "localhost":
            continue
        try:
            ipaddress.ip_address(host)
        except ValueError:
            raise ValueError(f"expected IP in URL for binding ({url})") from None


def check_host_urls(urls: Iterable[Url]) -> None:
    """Raise ValueError for a URL without a host: nobody could come back to it."""
    for url in urls:
        if not url.host:
            raise ValueError(f"unexpected empty host ({url})")


def parse_cluster(text: str) -> dict[str, tuple[Url, ...]]:
    """Return the members that ``--initial-cluster`` names, by name; raises ValueError with etcd's text.

    Args:
        text: ``name=url,name=url,...``; a name may come more than once.
    """
    members: dict[str, list[str]] = {}
    for part in text.split(","):
        if part:
            name, _, url = part.partition("=")
            members.setdefault(name, []).append(url)
    return {name: parse_urls(urls) for name, urls in members.items()}


def format_cluster(members: Mapping[str, Sequence[Url]]) -> str:
    """Return ``name=url`` pairs, sorted and joined by commas: etcd's text for a cluster."""
    return ",".join(sorted(f"{name}={url}" for name, urls in members.items() for url in urls))
