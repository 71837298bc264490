"""One request through the v2 proxy: to a member that may be asked, to the next one if that fails.

A wait (``?wait=true``) whose member dies before its event came is asked again of another member, from where
it was: with the index that its first answer named, so that no event is lost, and, if it is a stream, behind
the last event that was passed on whole, so that none is repeated. (etcd's proxy ends it without an event.)
Source of behaviour for all else: etcd ``server/proxy/httpproxy/reverse.go``.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Final, final
from urllib.parse import parse_qsl, urlencode

from kvorum import limits
from kvorum.logging import Logger
from kvorum.peer.client import PeerClient, Response
from kvorum.proxy.director import Director, Endpoint
from kvorum.proxy.figures import HttpFigures
from kvorum.rpc.http1_types import APPLICATION_JSON, HttpRequest, HttpResponse

_HOP_BY_HOP: Final = frozenset(
    (
        "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailers",
        "transfer-encoding", "upgrade",
    )
)  # fmt: skip
_OURS: Final = _HOP_BY_HOP | {"host", "content-length", "expect"}
_THEIRS: Final = _HOP_BY_HOP | {"content-length", "date"}
_TRUE: Final = frozenset(("1", "t", "T", "true", "TRUE", "True"))


class _FailedError(Exception):
    """No endpoint has answered; the text and status are for the client."""

    def __init__(self, status: int, message: str, why: str) -> None:
        super().__init__(message)
        self.status: Final = status
        self.why: Final = why


@final
class Forwarder:
    """Requests of clients to members.

    Args:
        client: connects to members, within ``--proxy-dial-timeout``.
        director: who may be asked.
        seconds: longest wait for bytes of an answer, None for no bound (``--proxy-read-timeout``), and for
            a member to take some of a request's (``--proxy-write-timeout``).
        clock: the loop's.
    """

    def __init__(
        self,
        client: PeerClient,
        director: Director,
        figures: HttpFigures,
        seconds: tuple[float | None, float],
        clock: Callable[[], float],
        log: Logger,
    ) -> None:
        self._client: Final = client
        self._director: Final = director
        self._figures: Final = figures
        self._read_seconds, self._write_seconds = seconds
        self._clock: Final = clock
        self._log: Final = log

    async def handle(self, request: HttpRequest) -> HttpResponse:
        """Answer one request."""
        figures, started = self._figures, self._clock()
        figures.incoming[(request.method,)] += 1
        target = request.target.decode("latin-1")
        if not target.startswith("/"):  # the absolute form, which only proxies of the other kind get
            target = request.path + ("?" + request.query_string if request.query_string else "")
        try:
            answer = await self._ask(request, target)
        except _FailedError as failure:
            figures.dropped[request.method, failure.why] += 1
            self._log.info(str(failure))
            body = json.dumps({"message": f"httpproxy: {failure}"}, separators=(",", ":")).encode()
            return HttpResponse(failure.status, body, (APPLICATION_JSON,))
        figures.handled(request.method, answer.status, self._clock() - started)
        headers = [(name, value) for name, value in _shown(answer) if name.lower() not in _THEIRS]
        if request.method == "HEAD":
            answer.close()
            return HttpResponse(answer.status, b"", headers)
        size = answer.header("content-length")
        if size.isdecimal() and int(size) <= limits.PROXY_WHOLE_BODY_BYTES:
            async with answer:
                return HttpResponse(answer.status, await self._whole(answer, int(size)), headers)
        if answer.status == 200 and request.method == "GET" and _waits(request):
            return HttpResponse(200, self._events(request, answer), headers)
        return HttpResponse(answer.status, self._pieces(answer), headers)

    # --- within -------------------------------------------------------------------------------------------

    async def _ask(self, request: HttpRequest, target: str) -> Response:
        """The first answer there is. Raises _FailedError."""
        endpoints = self._director.available(self._clock())
        if not endpoints:
            raise _FailedError(503, "zero endpoints currently available", "zero_endpoints")
        headers = _passed_on(request)
        is_long = len(request.body) > limits.GATEWAY_PIECE_BYTES
        for endpoint in endpoints:
            try:
                return await self._client.open(
                    request.method,
                    endpoint.url,
                    target,
                    headers=headers,
                    body=_in_pieces(request.body) if is_long else request.body,
                    size=len(request.body) if is_long else None,
                    stall_seconds=self._write_seconds,
                    answer_seconds=self._read_seconds,
                )
            except (OSError, TimeoutError) as error:
                self._figures.dropped[request.method, "failed_sending_request"] += 1
                self._log.info("failed to direct request", url=str(endpoint.url) + target, error=error)
                self._exclude(endpoint)
        message = f"unable to get response from {len(endpoints)} endpoint(s)"
        raise _FailedError(502, message, "failed_getting_response")

    def _exclude(self, endpoint: Endpoint) -> None:
        if self._director.failed(endpoint, self._clock()):
            self._log.info("marked endpoint unavailable", endpoint=str(endpoint.url))

    async def _whole(self, answer: Response, size: int) -> bytes:
        async with asyncio.timeout(self._read_seconds):
            return await answer.read_all(size)

    async def _read(self, answer: Response) -> bytes:
        async with asyncio.timeout(self._read_seconds):
            return await answer.read()

    async def _pieces(self, answer: Response) -> AsyncIterator[bytes]:
        async with answer:
            while piece := await self._read(answer):
                yield piece

    async def _events(self, request: HttpRequest, answer: Response) -> AsyncIterator[bytes]:
        """The body of a wait: whole events only, each one line, whichever member they come from."""
        is_stream = request.query().get("stream", [""])[0] in _TRUE
        index = _next_index(request, answer)
        while True:
            lines = _Lines()
            async with answer:
                try:
                    while piece := await self._read(answer):
                        for line in lines.take(piece):
                            index = _behind(line, index)
                            yield line
                    if lines.rest:
                        yield lines.rest
                    if lines.any or not is_stream:
                        return
                except OSError as error:
                    self._log.info("a wait goes on at another member", index=index, error=error)
            answer = await self._ask_again(request, _from_index(request, index))

    async def _ask_again(self, request: HttpRequest, target: str) -> Response:
        """Ask until a member answers, for as long as the client waits."""
        while True:
            try:
                answer = await self._ask(request, target)
            except _FailedError:
                pass
            else:
                if answer.status < 500:  # else it has just started, or has no leader
                    return answer
                answer.close()
            await asyncio.sleep(limits.PROXY_RETRY_SECONDS)


async def _in_pieces(body: bytes) -> AsyncIterator[bytes]:
    """A body that may take a while to send: whether the member takes it is looked at after each piece."""
    for at in range(0, len(body), limits.GATEWAY_PIECE_BYTES):
        yield body[at : at + limits.GATEWAY_PIECE_BYTES]


@final
class _Lines:
    """A body cut into lines."""

    def __init__(self) -> None:
        self.rest = b""
        self.any = False

    def take(self, piece: bytes) -> list[bytes]:
        """The lines that a further piece completes."""
        *lines, self.rest = (self.rest + piece).split(b"\n")
        self.any = self.any or bool(lines)
        return [line + b"\n" for line in lines]


def _passed_on(request: HttpRequest) -> list[tuple[str, str]]:
    """The client's headers, less those between it and us, and who it is."""
    pairs = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers]
    kept = [(name, value) for name, value in pairs if name.lower() not in _OURS]
    address, _, port = request.peer.rpartition(":")
    if not port:
        return kept
    before = [value for name, value in kept if name.lower() == "x-forwarded-for"]
    chain = ", ".join([*before, address.strip("[]")])
    kept = [(name, value) for name, value in kept if name.lower() != "x-forwarded-for"]
    return [*kept, ("X-Forwarded-For", chain)]


def _shown(answer: Response) -> list[tuple[str, str]]:
    """Headers with their names as Go writes them, less those that our own gate has set."""
    return [
        ("-".join(part.capitalize() for part in name.split("-")), value)
        for name, value in answer.head.headers
        if not name.startswith("access-control-")
    ]


def _waits(request: HttpRequest) -> bool:
    return request.path.startswith("/v2/keys") and request.query().get("wait", [""])[0] in _TRUE


def _next_index(request: HttpRequest, answer: Response) -> int:
    """The first index whose event the wait is for."""
    given = request.query().get("waitIndex", [""])[0]
    if given.isdecimal() and int(given):
        return int(given)
    known = answer.header("x-etcd-index")
    return int(known) + 1 if known.isdecimal() else 0


def _behind(line: bytes, index: int) -> int:
    """The index behind an event."""
    try:
        return int(json.loads(line)["node"]["modifiedIndex"]) + 1
    except (ValueError, KeyError, TypeError):
        return index


def _from_index(request: HttpRequest, index: int) -> str:
    pairs = parse_qsl(request.query_string, keep_blank_values=True)
    query = [(name, value) for name, value in pairs if name != "waitIndex"]
    if index:
        query.append(("waitIndex", str(index)))
    path = request.target.decode("latin-1").partition("?")[0]
    return f"{path}?{urlencode(query)}"
