"""Listening sockets: from a URL to a socket, or to one line that says why not.

The texts are those of Go's net package, which etcd prints as they are ("listen tcp 127.0.0.1:2379: bind:
address already in use"); which addresses a URL stands for follows it as well.
"""

import errno
import os
import socket
from collections.abc import Sequence
from typing import Any, final

from kvorum import limits
from kvorum.urls import Url


class ListenError(OSError):
    """A listen URL that cannot be served; its text is one line, in the words of Go's net package."""


@final
class ListeningSocket:
    """One bound and listening socket."""

    def __init__(self, url: Url, *, reuse_port: bool) -> None:
        self.secure = url.secure
        """Whether TLS is spoken here."""
        self.plain = not url.secure
        """Whether anything else is: both, if two URLs name the same address."""
        if url.is_unix:
            self.socket = _listen_unix(url.address)
            self.url = url
            self._path: str | None = url.address
            self._inode = os.stat(url.address).st_ino
        else:
            self.socket = _listen_tcp(url, reuse_port=reuse_port)
            self.url = Url(url.scheme, _host_port(url.host, self.socket.getsockname()[1]))
            self._path = None

    def close(self) -> None:
        """Close it; a Unix socket's file goes too, unless somebody has put their own there."""
        self.socket.close()
        if self._path is not None:
            try:
                if os.stat(self._path).st_ino == self._inode:
                    os.unlink(self._path)
            except FileNotFoundError:
                pass
            self._path = None


def _listen_tcp(url: Url, *, reuse_port: bool) -> socket.socket:
    host, port = url.host, url.port
    try:
        found = socket.getaddrinfo(host or None, port or 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError):
        raise ListenError(f"listen tcp: lookup {host}: no such host") from None
    family, _, _, _, address = _preferred(found, wildcard=not host)
    label = _host_port(str(address[0]), int(address[1])) if host else f":{port}"
    try:
        listening = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    except OSError as error:
        raise ListenError(error.errno, f"listen tcp {label}: socket: {_reason(error)}") from None
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            # The wildcard serves IPv4 as well, as in Go.
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if address[0] == "::" else 1)
        listening.bind(address)
        listening.listen(limits.LISTEN_BACKLOG)
    except OSError as error:
        listening.close()
        raise _listen_error("tcp", label, error) from None
    return listening


def _preferred(found: Sequence[Any], *, wildcard: bool) -> Any:
    """Of several addresses the one Go takes: IPv4 for a name, IPv6 (it serves both) for no host at all."""
    family = socket.AF_INET6 if wildcard else socket.AF_INET
    return next((one for one in found if one[0] == family), found[0])


def _listen_unix(path: str) -> socket.socket:
    """Listen on a Unix socket; a file left there by an earlier process is removed, as etcd does."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
        listening.bind(path)
        listening.listen(limits.LISTEN_BACKLOG)
    except OSError as error:
        listening.close()
        raise _listen_error("unix", path, error) from None
    return listening


def _listen_error(network: str, label: str, error: OSError) -> ListenError:
    failed = ListenError(f"listen {network} {label}: bind: {_reason(error)}")
    failed.errno = error.errno
    return failed


def _reason(error: OSError) -> str:
    # A path too long for a socket is an OSError without a number in Python; the kernel would say EINVAL.
    text = os.strerror(error.errno or errno.EINVAL)
    return text[:1].lower() + text[1:]


def _host_port(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
