"""What is served, and what a request asks of it: the method table, worked out once per header block."""

from dataclasses import dataclass
from typing import final

from kvorum import limits
from kvorum.errors import DEADLINE_EXCEEDED, INTERNAL, INVALID_ARGUMENT
from kvorum.rpc import frames
from kvorum.rpc.connection import Plan, StreamHandler, UnaryHandler, status_block
from kvorum.rpc.frames import encode_fields
from kvorum.rpc.messages import (
    ACCEPTED_ENCODINGS,
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

    @property
    def paths(self) -> list[str]:
        """All methods, sorted."""
        return sorted({*self._unary, *self._streams})

    def plan(self, request: Request) -> Plan:
        """What a request header section asks for."""
        plan = Plan()
        try:
            self._fill(plan, request)
        except StatusError as error:
            plan.refusal_code = error.code
            plan.refusal = status_block(error.code, error.message, True, error.http_status)
            if plan.encoding not in ACCEPTED_ENCODINGS:
                plan.refusal += encode_fields([("grpc-accept-encoding", "gzip")])
        return plan

    def _fill(self, plan: Plan, request: Request) -> None:
        """Work out a plan, checking in grpc-go's order (``operateHeaders``).

        Raises:
            StatusError: no method gets this request.
        """
        content_type = ""
        hosts = 0
        timeout = ""
        binary: list[tuple[str, str]] = []
        for name, value in request.fields:
            if name == "content-type":
                content_type = value
            elif name == "grpc-timeout":
                timeout = value
            elif name == "grpc-encoding":
                plan.encoding = value
            elif name == "host":
                hosts += 1
            elif name.endswith("-bin"):
                binary.append((name, value))
        _check_http(request, content_type, hosts)
        if timeout:
            plan.timeout = parse_timeout(timeout)
        for name, value in binary:
            check_binary_metadata(name, value)
        if request.method != "POST":
            said = f"Received a HEADERS frame with :method {go_quote(request.method)} which should be POST"
            raise StatusError(INTERNAL, said, 405)
        if plan.timeout <= 0:
            raise StatusError(DEADLINE_EXCEEDED, "context deadline exceeded")
        check_encoding(plan.encoding)
        plan.unary_handler = self._unary.get(request.path)
        if plan.unary_handler is None:
            plan.stream_handler = self._streams.get(request.path)
            if plan.stream_handler is None:
                raise unknown_method(request.path, self.services)
        plan.counters = self._observer.methods[request.path]


def _check_http(request: Request, content_type: str, hosts: int) -> None:
    """Raises StatusError, with the HTTP status that says so, for what is no gRPC request at all."""
    if hosts > 1:
        authorities = int(request.authority is not None)
        raise StatusError(
            INTERNAL,
            f"num values of :authority: {authorities}, num values of host: {hosts}, "
            "both must only have 1 value as per HTTP/2 spec",
            400,
        )
    if not is_grpc_content_type(content_type):
        quoted = go_quote(content_type)
        raise StatusError(INVALID_ARGUMENT, f"invalid gRPC request content-type {quoted}", 415)
