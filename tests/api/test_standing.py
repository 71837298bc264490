"""Standing streams end when the leader is lost and its client asked for one, or when the member stops."""

import threading
from collections.abc import Callable, Iterator
from typing import Any, final

import grpc
import pytest

from kvorum.api.v3.standing import StandingStreams
from kvorum.errors import ERR_NO_LEADER, ERR_STOPPED, EtcdError
from kvorum.rpc.grpc import StreamCall
from tests.rpc.grpc_kit import SECONDS, Running, channel, running


@final
class Member:
    """Has a leader or has none; its time passes when the test says so."""

    election_seconds = 1.0

    def __init__(self) -> None:
        self.leader = 1
        self.timers = self
        self.due: list[Callable[[], None]] = []

    def time(self) -> float:
        return 0.0

    def call_later(self, delay: float, callback: Callable[[], None]) -> object:
        assert delay == self.election_seconds
        self.due.append(callback)
        return None

    def election_timeout(self) -> None:
        due, self.due = self.due, []
        for callback in due:
            callback()


@pytest.fixture
def server() -> Iterator[Running]:
    with running() as server:
        yield server


class World:
    """A server with one method, which stands until it is ended."""

    def __init__(self, server: Running) -> None:
        self.server = server
        self.member = Member()
        self.standing = StandingStreams(self.member)
        server.ask(lambda: server.server.stream("/test.Svc/Stand", self.stand))

    async def stand(self, call: StreamCall) -> None:
        with self.standing.entered(call):
            call.send_headers()
            while await call.read() is not None:
                pass

    def election_timeouts(self, count: int) -> None:
        for _ in range(count):
            self.server.ask(self.member.election_timeout)

    def open(self, client: grpc.Channel, *metadata: tuple[str, str]) -> Any:
        """A stream that has come so far as the server lets it."""
        done = threading.Event()
        call = client.stream_stream("/test.Svc/Stand")(_until(done), timeout=SECONDS, metadata=metadata)
        call.done_requests = done
        return call


def _until(done: threading.Event) -> Iterator[bytes]:
    done.wait(SECONDS)
    yield from ()


def ended_with(call: Any, error: EtcdError) -> None:
    assert (call.code().value[0], call.details()) == (error.code, error.message)
    call.done_requests.set()


def test_streams_that_asked_for_a_leader_end_after_three_elections_without_one(server: Running) -> None:
    world = World(server)
    with channel(server) as client:
        asked = world.open(client, ("hasleader", "true"))
        other = world.open(client)
        for call in (asked, other):
            call.initial_metadata()  # both are inside
        world.member.leader = 0
        world.election_timeouts(2)
        world.member.leader = 2
        world.election_timeouts(1)
        world.member.leader = 0
        world.election_timeouts(2)
        assert asked.is_active()
        ended_with(world.open(client, ("hasleader", "true")), ERR_NO_LEADER)
        world.election_timeouts(1)
        ended_with(asked, ERR_NO_LEADER)
        assert not world.member.due, "nobody wants to know any more"
        assert other.is_active()
        other.done_requests.set()
        assert other.code() == grpc.StatusCode.OK


def test_all_streams_end_when_the_member_stops(server: Running) -> None:
    world = World(server)
    with channel(server) as client:
        calls = [world.open(client), world.open(client, ("hasleader", "true"))]
        for call in calls:
            call.initial_metadata()
        server.ask(world.standing.stop)
        for call in calls:
            ended_with(call, ERR_STOPPED)
        ended_with(world.open(client), ERR_STOPPED)
