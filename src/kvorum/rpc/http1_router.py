"""Which handler gets a request: the rules of Go's ``http.ServeMux``, which etcd's clients can observe.

A path ending in ``/`` stands for everything below it, the longest one wins; others match exactly. A path with
``//``, ``.`` or ``..`` in it is redirected to its clean form, and ``/tree`` to ``/tree/`` where only that
exists.
"""

import posixpath
from collections.abc import Callable, Coroutine, Iterable
from html import escape
from inspect import iscoroutinefunction
from typing import Any, Final, TypeAlias, final
from urllib.parse import quote

from kvorum.limits import HTTP1_BODY_BYTES
from kvorum.rpc.http1_types import (
    NO_SNIFF,
    TEXT_PLAIN,
    HttpRequest,
    HttpResponse,
    error_response,
    unescape_path,
)

Handler: TypeAlias = Callable[[HttpRequest], Coroutine[Any, Any, HttpResponse | None] | HttpResponse | None]

NOT_FOUND: Final = HttpResponse(404, b"404 page not found\n", (TEXT_PLAIN, NO_SNIFF))
BAD_TARGET: Final = b"400 Bad Request"


@final
class Route:
    """A handler and how its requests are taken in."""

    __slots__ = ("handler", "is_coroutine", "long_poll", "max_body_bytes", "stream_body")

    def __init__(self, handler: Handler, *, max_body_bytes: int, long_poll: bool, stream_body: bool) -> None:
        self.handler: Final = handler
        self.is_coroutine: Final = iscoroutinefunction(handler)
        self.max_body_bytes: Final = max_body_bytes
        self.long_poll: Final = long_poll
        self.stream_body: Final = stream_body


@final
class _Path:
    """The routes of one path by method, ``*`` for every other method."""

    __slots__ = ("by_method",)

    def __init__(self) -> None:
        self.by_method: dict[str, Route] = {}

    def choose(self, method: str) -> Route | HttpResponse:
        route = self.by_method.get(method) or self.by_method.get("*")
        if route is None:
            return error_response(405, "Method Not Allowed", (("Allow", ",".join(self.by_method)),))
        return route


@final
class Router:
    """The table of routes."""

    def __init__(self) -> None:
        self._exact: dict[str, _Path] = {}
        self._prefixes: dict[str, _Path] = {}
        self._longest_first: list[tuple[str, _Path]] = []

    def add(
        self,
        methods: str | Iterable[str],
        path: str,
        handler: Handler,
        *,
        max_body_bytes: int = HTTP1_BODY_BYTES,
        long_poll: bool = False,
        stream_body: bool = False,
    ) -> None:
        """Register a handler; see `HttpServer.route`."""
        assert path.startswith("/"), path
        route = Route(handler, max_body_bytes=max_body_bytes, long_poll=long_poll, stream_body=stream_body)
        entry = self._exact.setdefault(path, _Path())
        for method in (methods,) if isinstance(methods, str) else methods:
            assert method not in entry.by_method, f"{method} {path} is taken"
            entry.by_method[method] = route
        if path.endswith("/"):
            self._prefixes[path] = entry
            self._longest_first = sorted(self._prefixes.items(), key=lambda item: -len(item[0]))

    @property
    def paths(self) -> list[str]:
        """The paths of all routes, sorted."""
        return sorted(self._exact)

    def resolve(self, request: HttpRequest) -> Route | HttpResponse:
        """Set the request's path and query from its target and return its route, or the answer if there is
        none.

        Raises:
            ValueError: the target is no URL a server takes.
        """
        target = request.target.decode("utf-8", "surrogateescape")
        raw_path, question, request.query_string = target.partition("?")
        entry = self._exact.get(raw_path)
        if entry is not None and "//" not in raw_path:
            request.path = raw_path
            return entry.choose(request.method)
        return self._resolve_slowly(request, raw_path, question)

    def _resolve_slowly(self, request: HttpRequest, raw_path: str, question: str) -> Route | HttpResponse:
        if not raw_path.startswith("/"):
            if request.method == "CONNECT":
                request.path = raw_path
                return NOT_FOUND
            if raw_path == "*" and request.method == "OPTIONS":
                return HttpResponse(200, b"", ())
            raw_path = _path_of_absolute(raw_path)
        path = request.path = unescape_path(raw_path) if "%" in raw_path else raw_path
        clean = clean_path(path)
        if clean != path:
            return redirect(request.method, clean, question + request.query_string)
        entry = self._exact.get(path)
        if entry is not None:
            return entry.choose(request.method)
        if path + "/" in self._prefixes:
            return redirect(request.method, path + "/", question + request.query_string)
        for prefix, entry in self._longest_first:
            if path.startswith(prefix):
                return entry.choose(request.method)
        return NOT_FOUND


def _path_of_absolute(target: str) -> str:
    scheme, colon, rest = target.partition("://")
    if not colon or scheme.lower() not in ("http", "https"):
        raise ValueError("invalid request target")
    return "/" + rest.partition("/")[2]


def clean_path(path: str) -> str:
    """Return the path without ``//``, ``.`` and ``..``, a slash at its end kept (Go's ``cleanPath``)."""
    if "//" not in path and "/." not in path:
        return path
    clean = posixpath.normpath("/" + path.lstrip("/"))
    return clean + "/" if path.endswith("/") and clean != "/" else clean


def redirect(method: str, path: str, query: str) -> HttpResponse:
    """A permanent redirect as Go's ``http.Redirect`` sends it."""
    location = quote(path, safe="/$&+,:;=@!~*'()", errors="surrogateescape") + query
    if method not in ("GET", "HEAD"):
        return HttpResponse(301, b"", (("Location", location),))
    body = f'<a href="{escape(location)}">Moved Permanently</a>.\n\n'.encode()
    return HttpResponse(301, body, (("Content-Type", "text/html; charset=utf-8"), ("Location", location)))
