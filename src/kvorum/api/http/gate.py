"""Who may ask: the gate before every HTTP/1.1 route, for ``--cors`` and ``--host-whitelist``.

A browser that was led to a member by a rebound DNS name (CVE-2018-5702) sends that name as Host; over plain
HTTP only hosts of the list are served. Source of behaviour: etcd ``embed/serve.go`` ``accessController``.
"""

from collections.abc import Iterable
from typing import Final, final

from kvorum.golang import quote
from kvorum.rpc.http1_types import HttpRequest, HttpResponse, error_response

_ANY: Final = "*"


@final
class AccessGate:
    """Checks Host, adds CORS headers and answers OPTIONS; an empty list or ``*`` in it allows everything."""

    def __init__(self, cors: Iterable[str] = (), host_whitelist: Iterable[str] = ()) -> None:
        self._origins: Final = frozenset(cors)
        self._hosts: Final = frozenset(host_whitelist)
        self._any_origin: Final = not self._origins or _ANY in self._origins
        self._any_host: Final = not self._hosts or _ANY in self._hosts
        self._any_origin_head: Final = _cors_head(_ANY)

    def __call__(self, request: HttpRequest) -> HttpResponse | None:
        """Return the answer to a request that goes no further, None for the others."""
        if not self._any_host and request.extra_info("ssl_object") is None:
            host = _host_name(request.header("host") or "")
            if host not in self._hosts:
                return error_response(421, _unknown_host(host))
        if self._any_origin:
            request.extra_head = self._any_origin_head
        else:
            origin = request.header("origin") or ""
            if origin in self._origins:
                request.extra_head = _cors_head(origin)
        if request.method == "OPTIONS":
            return HttpResponse(200, b"", ())
        return None


def _cors_head(origin: str) -> bytes:
    return (
        "Access-Control-Allow-Headers: accept, content-type, authorization\r\n"
        "Access-Control-Allow-Methods: POST, GET, OPTIONS, PUT, DELETE\r\n"
        f"Access-Control-Allow-Origin: {origin}\r\n"
    ).encode("latin-1")


def _host_name(host: str) -> str:
    """The host without its port; as it is if it has none, or too many colons for one."""
    if host.startswith("["):
        name, bracket, rest = host[1:].partition("]")
        return name if bracket and rest.startswith(":") else host
    name, colon, _ = host.partition(":")
    return name if colon and host.count(":") == 1 else host


def _unknown_host(host: str) -> str:
    return (
        f"The Host header {quote(host)} is not one this member answers to: plain HTTP is checked against "
        "--host-whitelist, so that a rebound DNS name cannot speak for a browser (CVE-2018-5702).\n"
        f"Add the name with --host-whitelist {quote(host)}, or use TLS."
    )
