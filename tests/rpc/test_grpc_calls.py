"""grpcio as the client, over real sockets: the four kinds of calls and how they end."""

import json
import threading
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from kvorum.errors import ERR_LEASE_NOT_FOUND, OK, OUT_OF_RANGE
from kvorum.rpc.grpc import GrpcOptions
from tests.rpc.grpc_kit import LOOPS, SECONDS, Running, channel, running


@pytest.fixture(params=list(LOOPS), scope="module")
def server(request: pytest.FixtureRequest) -> Iterator[Running]:
    with running(request.param) as started:
        yield started


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[grpc.Channel]:
    with channel(server) as opened:
        yield opened


def unary(client: grpc.Channel, method: str) -> Any:
    return client.unary_unary(f"/test.Svc/{method}")


def refusal(call: Any, *args: Any, **keywords: Any) -> tuple[int, str]:
    with pytest.raises(grpc.RpcError) as failed:
        call(*args, timeout=SECONDS, **keywords)
    error: Any = failed.value
    return error.code().value[0], error.details()


@pytest.mark.parametrize("size", [0, 1, 16_379, 16_380, 65_530, 65_531, 300_000, 2 * 1024 * 1024])
def test_unary(client: grpc.Channel, size: int) -> None:
    message = bytes(range(256)) * (size // 256) + bytes(size % 256)
    for method in ("Echo", "Later"):
        assert unary(client, method)(message, timeout=SECONDS) == message


@pytest.mark.parametrize("sizes", [[], [0], [1, 2, 3], [70_000, 0, 1_500_000, 5], [100] * 2000])
def test_bidi(client: grpc.Channel, sizes: list[int]) -> None:
    messages = [bytes(size) for size in sizes]
    echo = client.stream_stream("/test.Svc/Bidi")
    assert list(echo(iter(messages), timeout=SECONDS)) == messages


@pytest.mark.parametrize(
    "sizes", [[], [0], [1, 2, 3], [70_000, 0, 1_500_000, 5], [100] * 5000, [511, 512] * 50]
)
def test_batches(client: grpc.Channel, sizes: list[int]) -> None:
    messages = [bytes([n % 256]) * size for n, size in enumerate(sizes)]
    batches = client.stream_stream("/test.Svc/Batches")
    assert list(batches(iter(messages), timeout=SECONDS)) == messages


def test_writing_without_a_task(server: Running, client: grpc.Channel) -> None:
    """A reader that stalls stops the writer, and brings it back by reading."""
    server.service.written = 0
    call = client.stream_stream("/test.Svc/Pushed")(iter([b"300 20000"]), timeout=SECONDS)
    assert len(next(call)) == 20_000
    assert server.ask(lambda: server.service.written) < 300
    assert [len(message) for message in call] == [20_000] * 299


def test_closing_from_outside_the_handler(server: Running) -> None:
    """The client gets the status, the handler's task is cancelled, and who waits to write is called."""
    with channel(server) as client:
        call = client.stream_stream("/test.Svc/Pushed")(iter([b"300 20000"]), timeout=SECONDS)
        next(call)
        standing: Any = server.service.calls[-1]
        server.ask(lambda: standing.close(OUT_OF_RANGE, "enough"))
        with pytest.raises(grpc.RpcError) as failed:
            list(call)
        assert (failed.value.code().value[0], failed.value.details()) == (OUT_OF_RANGE, "enough")
        assert server.ask(standing.task.cancelled)
        server.ask(lambda: standing.close(OUT_OF_RANGE, "again"))


def test_client_stream(client: grpc.Channel) -> None:
    sum_ = client.stream_unary("/test.Svc/Sum")
    assert sum_((bytes(size) for size in range(1000)), timeout=SECONDS) == b"499500"


def test_server_stream(client: grpc.Channel) -> None:
    count = client.unary_stream("/test.Svc/Count")
    assert [len(m) for m in count(b"300 10000", timeout=SECONDS)] == [10_000] * 300


def test_a_stream_that_says_nothing(client: grpc.Channel) -> None:
    assert list(client.stream_stream("/test.Svc/Nothing")(iter([]), timeout=SECONDS)) == []


def test_a_response_of_20_mib(client: grpc.Channel) -> None:
    assert len(unary(client, "Large")(b"20971520", timeout=SECONDS)) == 20 * 1024 * 1024


def test_metadata(server: Running, client: grpc.Channel) -> None:
    sent = (("x-one", "1"), ("x-many", "a"), ("x-many", "b, c"), ("x-bin", b"\0\xff"), ("token", "t" * 5000))
    got = json.loads(unary(client, "Metadata")(b"", metadata=sent, timeout=SECONDS))
    assert got["x-one"] == ["1"]
    assert ", ".join(got["x-many"]) == "a, b, c"
    assert got["x-bin"] in (["AP8="], ["AP8"])
    assert got["token"] == ["t" * 5000]
    assert got[":authority"] == [server.address]
    assert "grpc-python" in got["user-agent"][0]
    assert got["method"] == "/test.Svc/Metadata"
    assert got["peer"].startswith("127.0.0.1:")
    assert not {"te", "content-type", "grpc-accept-encoding "} & set(got)


@pytest.mark.parametrize(
    "text", ["", "plain", "50% and % more", "naïve → 日本", "new\nline\tand \x7f", "x" * 3000]
)
def test_error_texts_arrive_as_they_were(client: grpc.Channel, text: str) -> None:
    assert refusal(unary(client, "Fail"), text.encode()) == (OUT_OF_RANGE, text)


def test_errors_raised_by_handlers(client: grpc.Channel) -> None:
    expected = (ERR_LEASE_NOT_FOUND.code, ERR_LEASE_NOT_FOUND.message)
    assert refusal(unary(client, "Raise"), b"") == expected
    assert refusal(unary(client, "Crash"), b"") == (13, "internal error")
    stream = client.stream_stream("/test.Svc/RaiseLate")(iter([]), timeout=SECONDS)
    assert next(stream) == b"first"
    assert refusal(lambda timeout: next(stream)) == expected
    assert ERR_LEASE_NOT_FOUND.__traceback__ is None


def test_an_answer_counts_once(client: grpc.Channel) -> None:
    assert unary(client, "Twice")(b"first", timeout=SECONDS) == b"first"
    assert unary(client, "Echo")(b"next", timeout=SECONDS) == b"next"


def test_unknown_methods(client: grpc.Channel) -> None:
    assert refusal(unary(client, "No"), b"") == (12, "unknown method No for service test.Svc")
    assert refusal(client.unary_unary("/no.Svc/No"), b"") == (12, "unknown service no.Svc")
    assert refusal(client.unary_unary("/noslash"), b"") == (12, 'malformed method name: "/noslash"')


def test_messages_beyond_the_limit(client: grpc.Channel) -> None:
    expected = (8, "grpc: received message larger than max (2097153 vs. 2097152)")
    too_large = bytes(2 * 1024 * 1024 + 1)
    assert refusal(unary(client, "Echo"), too_large) == expected
    assert refusal(unary(client, "Echo"), too_large, compression=grpc.Compression.Gzip) == (
        8,
        "grpc: received message after decompression larger than max 2097152",
    )
    stream = client.stream_stream("/test.Svc/Bidi")(iter([too_large]), timeout=SECONDS)
    assert refusal(lambda timeout: next(stream)) == expected


def test_compressed_requests(client: grpc.Channel) -> None:
    message = b"abc" * 100_000
    compressed = {"compression": grpc.Compression.Gzip, "timeout": SECONDS}
    assert unary(client, "Echo")(message, **compressed) == message
    sums = client.stream_unary("/test.Svc/Sum")
    assert sums(iter([message] * 5), **compressed) == b"1500000"


@pytest.mark.parametrize("method", ["Never", "Hang"])
def test_deadlines(server: Running, client: grpc.Channel, method: str) -> None:
    service = server.service
    service.cancelled.clear()
    with pytest.raises(grpc.RpcError) as failed:
        client.stream_unary(f"/test.Svc/{method}")(iter([b""]), timeout=0.2)
    error: Any = failed.value
    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert service.cancelled.wait(SECONDS)
    seen = service.calls[-1]
    assert server.ask(lambda: (seen.method, seen.cancelled)) == (f"/test.Svc/{method}", True)
    assert seen.deadline is not None


@pytest.mark.parametrize("method", ["Never", "Hang"])
def test_cancelling(server: Running, client: grpc.Channel, method: str) -> None:
    service = server.service
    service.cancelled.clear()
    service.started.clear()
    call: Any = client.stream_unary(f"/test.Svc/{method}").future(iter([b""]))
    assert service.started.wait(SECONDS)
    call.cancel()
    assert service.cancelled.wait(SECONDS)
    seen = service.calls[-1]
    server.ask(lambda: seen.fail(OUT_OF_RANGE, "too late"))
    assert unary(client, "Echo")(b"x", timeout=SECONDS) == b"x"


def test_a_closed_connection_cancels(server: Running) -> None:
    for method in ("Never", "Hang"):
        server.service.cancelled.clear()
        server.service.started.clear()
        with channel(server) as other:
            pending: Any = other.stream_stream(f"/test.Svc/{method}")(iter([b""]))
            assert server.service.started.wait(SECONDS)
        assert server.service.cancelled.wait(SECONDS)
        assert pending.code() == grpc.StatusCode.CANCELLED


def test_many_at_once(client: grpc.Channel) -> None:
    later = unary(client, "Later")
    pending = [later.future(b"%d" % number, timeout=SECONDS) for number in range(2000)]
    assert [call.result() for call in pending] == [b"%d" % number for number in range(2000)]


def test_what_the_observer_counts() -> None:
    with running() as server, channel(server) as client:
        unary(client, "Echo")(b"12345", timeout=SECONDS)
        refusal(unary(client, "Fail"), b"why")
        refusal(unary(client, "No"), b"")
        list(client.stream_stream("/test.Svc/Bidi")(iter([b"a", b"bc"]), timeout=SECONDS))
        observer = server.server.observer
        echo, fail = observer.methods["/test.Svc/Echo"], observer.methods["/test.Svc/Fail"]
        bidi = observer.methods["/test.Svc/Bidi"]
        server.ask(lambda: None)
        assert (echo.started, echo.handled[OK], echo.messages_received, echo.messages_sent) == (1, 1, 1, 1)
        assert (fail.handled[OUT_OF_RANGE], fail.messages_received, fail.messages_sent) == (1, 1, 0)
        assert (bidi.started, bidi.handled[OK], bidi.messages_received, bidi.messages_sent) == (1, 1, 2, 2)
        assert (echo.service, echo.method, echo.kind) == ("test.Svc", "Echo", "unary")
        assert observer.failed[12] == 1
        assert (observer.received_bytes, observer.sent_bytes) == (5 + 3 + 3, 5 + 3)
        assert observer.connections == 1
        assert observer.active_streams == 0


def test_shutdown_lets_calls_finish() -> None:
    with running() as server, channel(server) as client:
        stream = client.stream_stream("/test.Svc/Bidi")
        go_on = threading.Event()

        def messages() -> Iterator[bytes]:
            yield b"one"
            go_on.wait(SECONDS)
            yield b"two"

        answers = stream(messages(), timeout=SECONDS)
        assert next(answers) == b"one"
        closing = threading.Thread(target=lambda: server.do(server.server.shutdown(SECONDS)))
        closing.start()
        go_on.set()
        assert list(answers) == [b"two"]
        closing.join(SECONDS)
        assert not closing.is_alive()
        assert not server.server.connections


def test_shutdown_ends_what_does_not_end() -> None:
    with running() as server, channel(server) as client:
        pending = unary(client, "Never").future(b"")
        assert server.service.started.wait(SECONDS)
        server.do(server.server.shutdown(0.05))
        assert not server.server.connections
        assert server.service.cancelled.is_set()
        error: Any = pending.exception(SECONDS)
        assert error.code() == grpc.StatusCode.UNAVAILABLE


def test_the_number_of_streams_can_be_bounded() -> None:
    """grpcio waits with the third call until one of two has ended."""
    with running(options=GrpcOptions(max_concurrent_streams=2)) as server, channel(server) as client:
        later = unary(client, "Later")
        pending = [later.future(b"x", timeout=SECONDS) for _ in range(20)]
        assert all(call.result() == b"x" for call in pending)
