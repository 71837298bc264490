"""``grpc.health.v1.Health``: is the server, or one of its services, ready for calls?

etcd knows one name, the empty one, for everything it serves, and sets it to SERVING once it does. A watch
gets the status at once and each change after it; a slow watcher misses what was between two messages, never
the last one. Source of behaviour: grpc-go ``health/server.go``, etcd ``v3rpc/health.go``.
"""

import asyncio
from typing import Final, final

from google.protobuf.message import DecodeError

from kvorum import limits
from kvorum.errors import INTERNAL, NOT_FOUND, RESOURCE_EXHAUSTED, EtcdError
from kvorum.proto import grpc_health_v1_pb2 as pb
from kvorum.rpc.grpc import GrpcServer, StreamCall, UnaryCall, unreadable_message

UNKNOWN: Final = 0
SERVING: Final = 1
NOT_SERVING: Final = 2
SERVICE_UNKNOWN: Final = 3

WHOLE_SERVER: Final = ""
"""The name under which the server as a whole is asked for."""

_ANSWERS: Final = {
    status: pb.HealthCheckResponse(
        status=pb.HealthCheckResponse.ServingStatus.Name(status)
    ).SerializeToString()
    for status in pb.HealthCheckResponse.ServingStatus.values()
}
_NO_QUESTION: Final = "cardinality violation: received no request message from non-client-streaming RPC"


@final
class HealthService:
    """The statuses by service, and the watches that wait for a change of one."""

    def __init__(self) -> None:
        self._statuses: dict[str, int] = {WHOLE_SERVER: SERVING}
        self._watches: dict[str, set[asyncio.Event]] = {}
        self._shut_down = False

    def install(self, server: GrpcServer) -> None:
        """Register the service's methods."""
        server.unary("/grpc.health.v1.Health/Check", self._check)
        server.unary("/grpc.health.v1.Health/List", self._list)
        server.stream("/grpc.health.v1.Health/Watch", self._watch, "server_stream")

    def set_status(self, service: str, status: int) -> None:
        """Change or add a service's status, and tell those who watch it; nothing after `shutdown`."""
        if not self._shut_down:
            self._set(service, status)

    def shutdown(self) -> None:
        """Set every service to NOT_SERVING, for good."""
        self._shut_down = True
        for service in self._statuses:
            self._set(service, NOT_SERVING)

    def status(self, service: str) -> int | None:
        """Return a service's status, None for one that is not known."""
        return self._statuses.get(service)

    def _set(self, service: str, status: int) -> None:
        self._statuses[service] = status
        for changed in self._watches.get(service, ()):
            changed.set()

    def _check(self, call: UnaryCall, body: bytes) -> None:
        status = self._statuses.get(_service_of(body))
        if status is None:
            call.fail(NOT_FOUND, "unknown service")
        else:
            call.reply(_ANSWERS[status])

    def _list(self, call: UnaryCall, body: bytes) -> None:
        if len(self._statuses) > limits.HEALTH_SERVICES_LISTED:
            bound = limits.HEALTH_SERVICES_LISTED
            call.fail(RESOURCE_EXHAUSTED, f"server health list exceeds maximum capacity: {bound}")
            return
        listed = pb.HealthListResponse()
        for service, status in self._statuses.items():
            listed.statuses[service].MergeFromString(_ANSWERS[status])
        call.reply(listed.SerializeToString())

    async def _watch(self, call: StreamCall) -> None:
        question = await call.read()
        if question is None:
            raise EtcdError(INTERNAL, _NO_QUESTION)
        service = _service_of(question)
        changed = asyncio.Event()
        watches = self._watches.setdefault(service, set())
        watches.add(changed)
        try:
            sent = -1
            while True:
                changed.clear()
                status = self._statuses.get(service, SERVICE_UNKNOWN)
                if status != sent:
                    sent = status
                    await call.write(_ANSWERS[status])
                await changed.wait()
        finally:
            watches.discard(changed)
            if not watches and self._watches.get(service) is watches:
                del self._watches[service]


def _service_of(body: bytes) -> str:
    """The service that a question is about; raises EtcdError if it is no such message."""
    try:
        return pb.HealthCheckRequest.FromString(body).service
    except DecodeError:
        flaw = unreadable_message()
        raise EtcdError(flaw.code, flaw.message) from None
