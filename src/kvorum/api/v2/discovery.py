"""Kvorum as the discovery service for clusters that are to begin (``--enable-discovery-service``).

``GET|PUT /new?size=N`` makes a token and answers with its URL, ``http://<this server>/<token>``, which is
what members take as ``--discovery``. What is below a token is served as etcd's own service serves it: read
and waited for as v2 keys are; a member puts its key once, or takes it back. Nothing else of the keyspace can
be reached so, and users and permissions are not asked: who knows a token may use it. The keys are those of
the v2 tree below ``/_etcd/registry``, on all members of this cluster, with ``--enable-v2`` or without.

Since anybody may ask for a token, there are bounds on everything that a token costs (limits.py,
``DISCOVERY_SERVICE_*``), and a token ends with all that is below it after ``--discovery-service-ttl``.
"""

import re
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any, Final, final

from kvorum import limits
from kvorum.api.v2.answers import Answers
from kvorum.api.v2.key_request import PREFIX, STORE_PREFIX, parse_key_request
from kvorum.api.v2.keys import KeyAnswers
from kvorum.errors import EtcdError
from kvorum.rpc.http1 import HttpServer
from kvorum.rpc.http1_router import NOT_FOUND
from kvorum.rpc.http1_types import HttpRequest, HttpResponse, error_response
from kvorum.server.v2 import V2
from kvorum.v2store.errors import KEY_NOT_FOUND, V2Error
from kvorum.v2store.event import NodeView
from kvorum.v2store.request import V2Request

REGISTRY: Final = "/_etcd/registry"
_STORED: Final = STORE_PREFIX + REGISTRY
_TOKEN: Final = re.compile(r"/([0-9a-f]{32})(/.*)?\Z")
_MEMBER: Final = re.compile(r"/[0-9a-f]{1,16}\Z")
_HOST: Final = re.compile(r"[A-Za-z0-9\-._:\[\]]{1,255}\Z")
_NUMBER: Final = re.compile(r"[0-9]{1,9}\Z")
_NANOSECONDS: Final = 1_000_000_000


@final
class Allowance:
    """How many tokens may be made now: a bucket that fills with time."""

    def __init__(self, burst: int, seconds_per_token: float, clock: Callable[[], float]) -> None:
        self._burst: Final = burst
        self._rate: Final = 1 / seconds_per_token
        self._clock: Final = clock
        self._left = float(burst)
        self._at = clock()

    def take(self) -> bool:
        """Use one up, if there is one."""
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


@final
class DiscoveryService:
    """Makes tokens, and serves what is below them.

    Args:
        v2: the tree.
        answers, keys: how v2 answers look and are given.
        ttl_ns: how long a token lives, in nanoseconds.
        wall_clock: nanoseconds since 1970.
        allowance: how many tokens may be made now.
        new_token: 32 hexadecimal digits that nobody can guess.
        fallback_host: what stands in the token's URL if the request names no host.
    """

    def __init__(
        self,
        v2: V2,
        answers: Answers,
        keys: KeyAnswers,
        *,
        ttl_ns: int,
        wall_clock: Callable[[], int],
        allowance: Allowance,
        new_token: Callable[[], str],
        fallback_host: str,
    ) -> None:
        self._v2: Final = v2
        self._answers: Final = answers
        self._keys: Final = keys
        self._ttl_ns: Final = ttl_ns
        self._wall_clock: Final = wall_clock
        self._allowance: Final = allowance
        self._new_token: Final = new_token
        self._fallback_host: Final = fallback_host

    def install(self, http: HttpServer) -> None:
        """Register ``/new`` and everything that looks like a token."""
        http.route(("GET", "PUT", "POST"), "/new", self.new)
        http.route("*", "/", self.below_token, max_body_bytes=4 * limits.DISCOVERY_SERVICE_VALUE_BYTES)

    # --- tokens -------------------------------------------------------------------------------------------

    async def new(self, request: HttpRequest) -> HttpResponse:
        """Make a token for a cluster of ``size`` members."""
        try:
            wanted = request.form().get("size", [str(limits.DISCOVERY_SERVICE_DEFAULT_SIZE)])[0]
        except ValueError as error:
            return error_response(HTTPStatus.BAD_REQUEST, str(error))
        largest = limits.DISCOVERY_SERVICE_MAX_SIZE
        if not _NUMBER.match(wanted) or not 0 < int(wanted) <= largest:
            return error_response(HTTPStatus.BAD_REQUEST, f"size must be a number from 1 to {largest}")
        if self._live_tokens() >= limits.DISCOVERY_SERVICE_TOKENS:
            text = "there are too many tokens; wait until some have expired"
            return error_response(HTTPStatus.SERVICE_UNAVAILABLE, text)
        if not self._allowance.take():
            text = "too many new tokens; try again in a moment"
            return error_response(HTTPStatus.TOO_MANY_REQUESTS, text, (("Retry-After", "1"),))
        token = self._new_token()
        try:
            await self._make(token, int(wanted))
        except (EtcdError, V2Error) as error:
            return error_response(HTTPStatus.SERVICE_UNAVAILABLE, f"unable to generate token: {error}")
        return HttpResponse(200, f"{self._base(request)}/{token}".encode())

    async def _make(self, token: str, size: int) -> None:
        ends = self._wall_clock() + self._ttl_ns
        directory = V2Request("PUT", f"{_STORED}/{token}")
        directory.dir, directory.prev_exist, directory.expiration = True, False, ends
        await self._v2.do(directory)
        await self._v2.do(V2Request("PUT", f"{_STORED}/{token}/_config/size", str(size)))

    def _live_tokens(self) -> int:
        """Directories that will expire: one without a time is the trace of a member that came too late."""
        return sum(1 for node in self._list(_STORED) if node.expiration)

    def _list(self, path: str) -> list[NodeView]:
        try:
            return self._v2.get(path).node.nodes or []
        except V2Error:
            return []

    def _base(self, request: HttpRequest) -> str:
        """This server as the client called it."""
        scheme = "https" if request.extra_info("ssl_object") is not None else "http"
        host = request.header("host") or ""
        return f"{scheme}://{host if _HOST.match(host) else self._fallback_host}"

    # --- what is below them -------------------------------------------------------------------------------

    def below_token(
        self, request: HttpRequest
    ) -> Coroutine[Any, Any, HttpResponse | None] | HttpResponse | None:
        """Answer for ``/<token>`` and what is below it; 404 for everything else."""
        found = _TOKEN.match(request.path)
        if found is None:
            return NOT_FOUND
        token, rest = found[1], found[2] or ""
        request.path = f"{PREFIX}{REGISTRY}{request.path}"
        try:
            parsed, no_value = parse_key_request(request, self._wall_clock())
        except V2Error as error:
            return self._answers.outcome(request, error)
        if request.method in ("GET", "HEAD"):
            return self._keys.give(request, parsed, no_value)
        if request.method not in ("PUT", "DELETE") or not _MEMBER.match(rest):
            return error_response(HTTPStatus.METHOD_NOT_ALLOWED, "Method Not Allowed")
        return self._change(request, parsed, f"{_STORED}/{token}")

    def _change(self, request: HttpRequest, parsed: V2Request, directory: str) -> HttpResponse | None:
        """A member's key is put once, and taken back; nothing else of v2's means can be used."""
        if len(parsed.val.encode("utf-8", "surrogateescape")) > limits.DISCOVERY_SERVICE_VALUE_BYTES:
            return error_response(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too long for a member's URLs")
        change = V2Request(request.method, parsed.path, parsed.val)
        if request.method == "PUT":
            try:
                token = self._v2.get(directory).node
            except V2Error:
                missing = V2Error(KEY_NOT_FOUND, directory.removeprefix(STORE_PREFIX), self._v2.index)
                return self._answers.outcome(request, missing)
            if len(token.nodes or ()) >= limits.DISCOVERY_SERVICE_KEYS_PER_TOKEN:
                return error_response(HTTPStatus.FORBIDDEN, "too many members have registered")
            change.prev_exist = False
            change.expiration = token.expiration  # should the token end meanwhile, nothing is left of it
        return self._keys.give(request, change, False)
