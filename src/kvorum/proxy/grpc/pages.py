"""What the v3 proxy answers over HTTP/1.1: is the cluster well, is the proxy, and the figures of both.

``/health`` reads a key through the members, ``/proxy/health`` reads and watches through the proxy's own
address; ``/metrics`` is a member's page, ``/proxy/metrics`` the proxy's. Source of behaviour: etcd
``server/proxy/grpcproxy/health.go``, ``metrics.go``.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Final, final

import grpc.aio

from kvorum.errors import DEADLINE_EXCEEDED, ERR_PERMISSION_DENIED
from kvorum.metrics import Metrics, bind_calls, bind_process
from kvorum.peer.client import PeerClient
from kvorum.proto import rpc_pb2
from kvorum.proxy.figures import GrpcFigures
from kvorum.proxy.grpc.leader import WATCH
from kvorum.proxy.grpc.upstream import Upstream, status_of
from kvorum.rpc.http1 import HttpServer
from kvorum.rpc.http1_types import HttpRequest, HttpResponse, error_response
from kvorum.rpc.messages import StatusError
from kvorum.rpc.observer import RpcObserver

_RANGE: Final = "/etcdserverpb.KV/Range"
_KEY: Final = b"a"
_READ_SECONDS: Final = 1.0
_WATCH_SECONDS: Final = 3.0
_PAGE: Final = (("Content-Type", "text/plain; version=0.0.4"),)


@final
class Pages:
    """The handlers.

    Args:
        itself: a channel to the proxy's own address; None without one.
        client: for a member's page of metrics.
        secure: whether that is asked for with TLS.
    """

    def __init__(
        self,
        upstream: Upstream,
        itself: grpc.aio.Channel | None,
        client: PeerClient,
        figures: GrpcFigures,
        observer: RpcObserver,
        *,
        secure: bool,
    ) -> None:
        self._upstream: Final = upstream
        self._itself: Final = itself
        self._client: Final = client
        self._scheme: Final = "https" if secure else "http"
        self._metrics: Final = Metrics()
        bind_process(self._metrics)
        bind_calls(self._metrics, observer)
        figures.bind(self._metrics)

    def install(self, http: HttpServer) -> None:
        """Serve the pages."""
        http.route("*", "/health", self._health)
        http.route("*", "/proxy/health", self._proxy_health)
        http.route("*", "/metrics", self._member_metrics)
        http.route("*", "/proxy/metrics", lambda _: HttpResponse(200, self._metrics.render(), _PAGE))

    async def _health(self, request: HttpRequest) -> HttpResponse:
        async def read(message: bytes) -> bytes:
            return await self._upstream.unary(_RANGE, message, (), _READ_SECONDS, repeatable=True)

        return _shown(request, await _reason(read))

    async def _proxy_health(self, request: HttpRequest) -> HttpResponse:
        itself = self._itself
        if itself is None:
            return _shown(request, "no connection to proxy")

        async def read(message: bytes) -> bytes:
            try:
                answer: bytes = await itself.unary_unary(_RANGE)(message, timeout=_READ_SECONDS)
            except grpc.aio.AioRpcError as error:
                raise status_of(error) from None
            return answer

        reason = await _reason(read)
        if not reason and not await _watches(itself):
            reason = "WATCH TIMEOUT"
        return _shown(request, reason)

    async def _member_metrics(self, _: HttpRequest) -> HttpResponse:
        url = f"{self._scheme}://{self._upstream.current.address}"
        try:
            page = await self._client.get(url, "/metrics")
        except OSError:
            return error_response(500, "Internal server error")
        return HttpResponse(200, page.body, _PAGE)


async def _reason(read: Callable[[bytes], Awaitable[bytes]]) -> str:
    """Why a key cannot be read; nothing if it can, or could if one were allowed to."""
    try:
        await read(rpc_pb2.RangeRequest(key=_KEY).SerializeToString())
    except StatusError as error:
        if error.message == ERR_PERMISSION_DENIED.message:
            return ""
        said = "context deadline exceeded" if error.code == DEADLINE_EXCEEDED else error.message
        return f"GET ERROR:{said}"
    return ""


async def _watches(channel: grpc.aio.Channel) -> bool:
    """Whether a watch through a channel begins."""
    stream = channel.stream_stream(WATCH)()
    create = rpc_pb2.WatchCreateRequest(key=_KEY)
    try:
        async with asyncio.timeout(_WATCH_SECONDS):
            await stream.write(rpc_pb2.WatchRequest(create_request=create).SerializeToString())
            return (await stream.read()) is not grpc.aio.EOF
    except (TimeoutError, grpc.aio.AioRpcError, asyncio.InvalidStateError):
        return False
    finally:
        stream.cancel()


def _shown(request: HttpRequest, reason: str) -> HttpResponse:
    """The answer to a probe."""
    if request.method != "GET":
        return error_response(405, "Method Not Allowed", (("Allow", "GET"),))
    health = {"health": "false" if reason else "true", "reason": reason}
    return HttpResponse(503 if reason else 200, json.dumps(health, separators=(",", ":")).encode())
