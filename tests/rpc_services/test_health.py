"""``grpc.health.v1`` as probes and load balancers use it, by grpcio."""

from collections.abc import Iterator

import grpc
import pytest

from kvorum.proto import grpc_health_v1_pb2 as pb
from kvorum.rpc.grpc import GrpcServer
from kvorum.rpc.health import NOT_SERVING, SERVICE_UNKNOWN, SERVING, UNKNOWN, HealthService
from tests.http.serving import Serving, serving

CHECK = "/grpc.health.v1.Health/Check"
WATCH = "/grpc.health.v1.Health/Watch"
LIST = "/grpc.health.v1.Health/List"


@pytest.fixture
def health() -> HealthService:
    return HealthService()


@pytest.fixture
def server(health: HealthService) -> Iterator[Serving]:
    grpc_server = GrpcServer()
    health.install(grpc_server)
    with serving(grpc=grpc_server) as running:
        yield running


@pytest.fixture
def channel(server: Serving) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield channel


def check(channel: grpc.Channel, service: str) -> int:
    body = pb.HealthCheckRequest(service=service).SerializeToString()
    reply = channel.unary_unary(CHECK)(body, timeout=20, wait_for_ready=True)
    return int(pb.HealthCheckResponse.FromString(reply).status)


def watch(channel: grpc.Channel, service: str) -> Iterator[int]:
    body = pb.HealthCheckRequest(service=service).SerializeToString()
    for reply in channel.unary_stream(WATCH)(body, timeout=20, wait_for_ready=True):
        yield int(pb.HealthCheckResponse.FromString(reply).status)


def test_the_whole_server_is_serving(channel: grpc.Channel) -> None:
    assert check(channel, "") == SERVING


def test_another_service_is_not_found_until_it_is_set(
    server: Serving, channel: grpc.Channel, health: HealthService
) -> None:
    with pytest.raises(grpc.RpcError) as error:
        check(channel, "etcdserverpb.KV")
    assert (error.value.code(), error.value.details()) == (grpc.StatusCode.NOT_FOUND, "unknown service")
    server.thread.call(lambda: health.set_status("etcdserverpb.KV", NOT_SERVING))
    assert check(channel, "etcdserverpb.KV") == NOT_SERVING


def test_what_is_no_message_is_refused(channel: grpc.Channel) -> None:
    for path in (CHECK, WATCH):
        with pytest.raises(grpc.RpcError) as error:
            list(channel.unary_stream(path)(b"\x0a\xff", timeout=20, wait_for_ready=True))
        assert error.value.code() == grpc.StatusCode.INTERNAL


def test_all_are_listed(server: Serving, channel: grpc.Channel, health: HealthService) -> None:
    server.thread.call(lambda: health.set_status("a", UNKNOWN))
    reply = pb.HealthListResponse.FromString(channel.unary_unary(LIST)(b"", timeout=20, wait_for_ready=True))
    assert {name: answer.status for name, answer in reply.statuses.items()} == {"": SERVING, "a": UNKNOWN}

    def add_many() -> None:
        for number in range(100):
            health.set_status(f"s{number}", SERVING)

    server.thread.call(add_many)
    with pytest.raises(grpc.RpcError) as error:
        channel.unary_unary(LIST)(b"", timeout=20)
    assert error.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert error.value.details() == "server health list exceeds maximum capacity: 100"


def test_a_watch_gets_each_change_and_only_changes(
    server: Serving, channel: grpc.Channel, health: HealthService
) -> None:
    statuses = watch(channel, "db")
    assert next(statuses) == SERVICE_UNKNOWN
    for status in (SERVING, NOT_SERVING, SERVING):
        server.thread.call(lambda s=status: health.set_status("db", s))  # type: ignore[misc]
        server.thread.call(lambda s=status: health.set_status("db", s))  # type: ignore[misc]
        assert next(statuses) == status


def test_shutdown_is_final_and_reaches_watches(
    server: Serving, channel: grpc.Channel, health: HealthService
) -> None:
    statuses = watch(channel, "")
    assert next(statuses) == SERVING
    server.thread.call(health.shutdown)
    assert next(statuses) == NOT_SERVING
    server.thread.call(lambda: health.set_status("", SERVING))
    assert check(channel, "") == NOT_SERVING


def test_watches_leave_nothing_behind(server: Serving, health: HealthService) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        watches = [watch(channel, f"service-{number % 3}") for number in range(9)]
        for statuses in watches:
            assert next(statuses) == SERVICE_UNKNOWN
        assert server.thread.call(lambda: sum(map(len, health._watches.values()))) == 9
    server.wait_until(lambda: not health._watches)
