"""Calls that wait: bounded by member and by connection, cancelled with their clients, ended by a stop."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any, Final, final

import grpc
import pytest

from kvorum import errors
from kvorum.api.v3.waiting import WaitingCalls
from kvorum.errors import EtcdError
from kvorum.rpc.grpc import StreamCall, UnaryCall
from tests.rpc.grpc_kit import SECONDS, Running, channel, running


@final
class Waiters:
    """A service whose calls wait until they are let, each under the name that it was made with."""

    def __init__(self, server: Running) -> None:
        self.server: Final = server
        self.calls: Final = WaitingCalls(max_total=3, max_per_connection=2)
        self.gates: Final[dict[bytes, asyncio.Event]] = {}
        self.changed: Final = threading.Condition()
        server.server.unary("/test.Waiting/Wait", self.wait)
        server.server.stream("/test.Waiting/Observe", self.observe, "server_stream")

    def wait(self, call: UnaryCall, name: bytes) -> None:
        self.calls.start(call, self._wait(name))

    async def observe(self, call: StreamCall) -> None:
        name = await call.read()
        assert name is not None
        with self.calls.entered(call):
            await call.write(await self._wait(name))

    async def _wait(self, name: bytes) -> bytes:
        self.gates[name] = asyncio.Event()
        self._changed()
        try:
            await self.gates[name].wait()
        finally:
            del self.gates[name]
            asyncio.get_running_loop().call_soon(self._changed)  # after the task is counted out
        if name == b"refused":
            raise errors.ERR_LEASE_NOT_FOUND
        if name == b"broken":
            raise ZeroDivisionError
        return name

    def _changed(self) -> None:
        with self.changed:
            self.changed.notify_all()

    def await_waiting(self, *names: bytes) -> None:
        with self.changed:
            assert self.changed.wait_for(
                lambda: set(self.gates) == set(names) and self.calls.total == len(names), SECONDS
            ), (set(self.gates), self.calls.total)

    def let(self, name: bytes) -> None:
        self.server.ask(lambda: self.gates[name].set())


@pytest.fixture
def waiters() -> Iterator[Waiters]:
    with running() as server:
        yield Waiters(server)
        server.ask(lambda: None)


def begin(client: grpc.Channel, name: bytes) -> Any:
    return client.unary_unary("/test.Waiting/Wait").future(name, timeout=SECONDS)


def refusal(call: Any) -> tuple[int, str]:
    with pytest.raises(grpc.RpcError):
        call.result(SECONDS)
    return call.code().value[0], call.details()


def text(error: EtcdError) -> tuple[int, str]:
    return error.code, error.message


def test_answers_and_refusals(waiters: Waiters) -> None:
    with channel(waiters.server) as client:
        for name, expected in (
            (b"refused", (errors.UNKNOWN, errors.ERR_LEASE_NOT_FOUND.message)),
            (b"broken", (errors.INTERNAL, "internal error")),
        ):
            call = begin(client, name)
            waiters.await_waiting(name)
            waiters.let(name)
            assert refusal(call) == expected
        call = begin(client, b"answered")
        waiters.await_waiting(b"answered")
        waiters.let(b"answered")
        assert call.result(SECONDS) == b"answered"
        waiters.await_waiting()


def test_bounds(waiters: Waiters) -> None:
    with channel(waiters.server) as first, channel(waiters.server) as second:
        calls = [begin(first, b"1"), begin(first, b"2")]
        waiters.await_waiting(b"1", b"2")
        too_many = text(errors.ERR_REQUEST_TOO_MANY_REQUESTS)
        assert refusal(begin(first, b"3")) == too_many
        calls.append(begin(second, b"3"))
        waiters.await_waiting(b"1", b"2", b"3")
        assert refusal(begin(second, b"4")) == too_many
        waiters.let(b"1")
        assert calls[0].result(SECONDS) == b"1"
        waiters.await_waiting(b"2", b"3")
        calls.append(begin(first, b"4"))
        waiters.await_waiting(b"2", b"3", b"4")
    waiters.await_waiting()


def test_streams_count_as_well(waiters: Waiters) -> None:
    with channel(waiters.server) as client:
        observe = client.unary_stream("/test.Waiting/Observe")
        streams = [observe(name, timeout=SECONDS) for name in (b"1", b"2")]
        waiters.await_waiting(b"1", b"2")
        too_many = text(errors.ERR_REQUEST_TOO_MANY_REQUESTS)
        assert refusal(begin(client, b"3")) == too_many
        refused = observe(b"3", timeout=SECONDS)
        with pytest.raises(grpc.RpcError):
            next(refused)
        assert (refused.code().value[0], refused.details()) == too_many
        waiters.let(b"1")
        assert list(streams[0]) == [b"1"]
        streams[1].cancel()
        waiters.await_waiting()


def test_a_client_that_goes(waiters: Waiters) -> None:
    with channel(waiters.server) as client:
        call = begin(client, b"going")
        waiters.await_waiting(b"going")
        call.cancel()
        waiters.await_waiting()


def test_a_stop(waiters: Waiters) -> None:
    with channel(waiters.server) as client:
        call = begin(client, b"waits")
        waiters.await_waiting(b"waits")
        waiters.server.ask(waiters.calls.stop)
        assert refusal(call) == text(errors.ERR_STOPPED)
        waiters.await_waiting()
        assert refusal(begin(client, b"late")) == text(errors.ERR_STOPPED)
