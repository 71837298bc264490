"""What is served, and what a request asks of it: the method table, worked out once per header block."""

from dataclasses import dataclass
from typing import final

from kvorum import limits
from kvorum.errors import DEADLINE_EXCEEDED, INTERNAL, INVALID_ARGUMENT
from kvorum.rpc import frames
from kvorum.rpc.connection import Plan, StreamHandler, UnaryHandler, status_block
from kvorum.rpc.frames import encode_fields
from kvorum.rpc.messages import (
    StatusError,
    check_binary_metadata,
    check_encoding,
    go_quote,
    is_grpc_content_type,
    parse_timeout,
    unknown_method,
)
from kvorum.rpc.observer import RpcObserver
from kvorum.rpc.requests import Request


@dataclass(frozen=True, slots=True)
class GrpcOptions:
    """What flags decide. Times are in seconds; zero or less turns a keepalive off, as in etcd.

    ``max_message_bytes`` is what one request message may have (etcd: ``--max-request-bytes`` + 512 KiB) and
    at least one frame's size.
    """

    max_message_bytes: int = limits.MAX_REQUEST_BYTES + limits.GRPC_OVERHEAD_BYTES
    max_concurrent_streams: int = 2**32 - 1
    keepalive_min_time: float = limits.GRPC_KEEPALIVE_MIN_TIME_SECONDS
    keepalive_interval: float = limits.GRPC_KEEPALIVE_INTERVAL_SECONDS
    keepalive_timeout: float = limits.GRPC_KEEPALIVE_TIMEOUT_SECONDS
    handshake_seconds: float = limits.HANDSHAKE_SECONDS
    unfinished_request_seconds: float = limits.UNFINISHED_REQUEST_SECONDS

    def __post_init__(self) -> None:
        if self.max_message_bytes < frames.DEFAULT_MAX_FRAME_SIZE:
            raise ValueError(f"max_message_bytes is below {frames.DEFAULT_MAX_FRAME_SIZE}")
        if self.max_concurrent_streams < 1:
            raise ValueError("max_concurrent_streams is below 1")


@final
class MethodTable:
    """Methods by path. ``plan`` answers for every request, also for those that no method takes."""

    def __init__(self, observer: RpcObserver) -> None:
        self._observer = observer
        self._unary: dict[str, UnaryHandler] = {}
        self._streams: dict[str, StreamHandler] = {}
        self.services: set[str] = set()

    def add(self, path: str, unary: UnaryHandler | None, stream: StreamHandler | None, kind: str) -> None:
        """Serve "/service/method" with one of the handlers."""
        service, slash, method = path.removeprefix("/").rpartition("/")
        assert path.startswith("/"), path
        assert slash, path
        assert method, path
        assert path not in {*self._unary, *self._streams}, f"{path} twice"
        if unary is not None:
            self._unary[path] = unary
        if stream is not None:
            self._streams[path] = stream
        self.services.add(service)
        self._observer.method(path, kind)

    def plan(self, request: Request) -> Plan:
        """What a request header section asks for."""
        plan = Plan()
        plan.unary_handler = self._unary.get(request.path)
        plan.stream_handler = self._streams.get(request.path)
        http_status = 200
        try:
            http_status, flaw = _http_flaw(request)
            if flaw is not None:
                raise flaw
            http_status = 400
            _read_fields(request, plan)
            http_status = 200
            check_encoding(plan.encoding)
            if plan.timeout <= 0:
                raise StatusError(DEADLINE_EXCEEDED, "context deadline exceeded")
            if plan.unary_handler is None and plan.stream_handler is None:
                raise unknown_method(request.path, self.services)
            plan.counters = self._observer.methods[request.path]
        except StatusError as error:
            plan.unary_handler = plan.stream_handler = None
            plan.refusal_code = error.code
            plan.refusal = status_block(error.code, error.message, True, http_status)
            if error.message.startswith("grpc: Decompressor"):
                plan.refusal += encode_fields([("grpc-accept-encoding", "gzip")])
        return plan


def _read_fields(request: Request, plan: Plan) -> None:
    for name, value in request.fields:
        if name == "grpc-timeout":
            plan.timeout = parse_timeout(value)
        elif name == "grpc-encoding":
            plan.encoding = value
        elif name.endswith("-bin"):
            check_binary_metadata(name, value)


def _http_flaw(request: Request) -> tuple[int, StatusError | None]:
    """What makes a request none of gRPC, with the HTTP status that says so (as grpc-go)."""
    content_type = ""
    hosts = 0
    for name, value in request.fields:
        if name == "content-type":
            content_type = value
        elif name == "host":
            hosts += 1
    if hosts > 1:
        return 400, StatusError(
            INTERNAL,
            f"num values of :authority: {int(request.authority is not None)}, num values of host: {hosts}, "
            "both must only have 1 value as per HTTP/2 spec",
        )
    if not is_grpc_content_type(content_type):
        return 415, StatusError(
            INVALID_ARGUMENT, f"invalid gRPC request content-type {go_quote(content_type)}"
        )
    if request.method != "POST":
        return 405, StatusError(
            INTERNAL, f"Received a HEADERS frame with :method {go_quote(request.method)} which should be POST"
        )
    return 200, None
