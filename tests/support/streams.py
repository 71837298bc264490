"""Bidirectional calls, written and read in the order a test wants: watches and keepalives on grpcio."""

import queue
from collections.abc import Iterator, Sequence
from typing import Any, Final, Generic, TypeVar, cast, final

import grpc
from google.protobuf.message import Message

from kvorum.errors import EtcdError
from kvorum.proto import rpc_pb2 as pb
from kvorum.proto.kv_pb2 import Event
from tests.support.client import Client

R = TypeVar("R", bound=Message)
STREAM_SECONDS: Final = 60.0


class Bidi(Generic[R]):
    """A call of one method. What is not taken is not read, beyond what grpcio reads ahead."""

    def __init__(
        self,
        client: Client,
        method: str,
        response: type[R],
        metadata: Sequence[tuple[str, str]] = (),
        timeout_seconds: float = STREAM_SECONDS,
    ) -> None:
        self._requests: Final[queue.SimpleQueue[Message | None]] = queue.SimpleQueue()
        stub = client.channel.stream_stream(
            f"/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=response.FromString,
        )
        self._answers: Any = stub(
            iter(self._requests.get, None),
            timeout=timeout_seconds,
            metadata=tuple(metadata),
            wait_for_ready=True,
        )

    def send(self, *requests: Message) -> None:
        """Send requests; nothing is awaited."""
        for request in requests:
            self._requests.put(request)

    def half_close(self) -> None:
        """Say that no more requests come."""
        self._requests.put(None)

    def take(self) -> R:
        """Take the next answer. Raises grpc.RpcError if the call failed, StopIteration if it ended."""
        return cast("R", next(self._answers))

    def close(self) -> None:
        """Cancel the call."""
        self._answers.cancel()
        self._requests.put(None)

    def status(self) -> tuple[int, str]:
        """Wait for the call's end; returns code and text."""
        self._requests.put(None)
        return self._answers.code().value[0], self._answers.details() or ""

    def ends_with(self, error: EtcdError) -> None:
        """Expect that no answer comes any more, but this error."""
        try:
            answer = self.take()
        except grpc.RpcError:
            assert self.status() == (error.code, error.message)
            return
        raise AssertionError(f"expected {error.message!r}, got {answer}")

    def __enter__(self) -> "Bidi[R]":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@final
class WatchCall(Bidi[pb.WatchResponse]):
    """One Watch stream."""

    def __init__(self, client: Client, **options: Any) -> None:
        super().__init__(client, "etcdserverpb.Watch/Watch", pb.WatchResponse, **options)

    def __enter__(self) -> "WatchCall":
        return self

    def ask(self, key: bytes, range_end: bytes = b"", **fields: Any) -> None:
        """Send a create request."""
        request = pb.WatchCreateRequest(key=key, range_end=range_end, **fields)
        self.send(pb.WatchRequest(create_request=request))

    def create(self, key: bytes, range_end: bytes = b"", **fields: Any) -> pb.WatchResponse:
        """Send a create request; returns the answer, which must be the next response."""
        self.ask(key, range_end, **fields)
        answer = self.take()
        assert answer.created
        return answer

    def cancel(self, watch_id: int) -> None:
        """Send a cancel request."""
        self.send(pb.WatchRequest(cancel_request=pb.WatchCancelRequest(watch_id=watch_id)))

    def ask_progress(self) -> None:
        """Send a progress request."""
        self.send(pb.WatchRequest(progress_request=pb.WatchProgressRequest()))

    def events(self, count: int) -> list[Event]:
        """Take responses until they had so many events together, no more."""
        events: list[Event] = []
        while len(events) < count:
            response = self.take()
            assert response.events, f"no events: {response}"
            events += response.events
        assert len(events) == count
        return events

    def nothing_before_progress(self) -> pb.WatchResponse:
        """Expect that no event waits: the answer to a progress request comes first."""
        self.ask_progress()
        answer = self.take()
        assert not answer.events
        assert answer.watch_id == -1
        return answer


@final
class KeepAliveCall(Bidi[pb.LeaseKeepAliveResponse]):
    """One LeaseKeepAlive stream."""

    def __init__(self, client: Client, **options: Any) -> None:
        super().__init__(client, "etcdserverpb.Lease/LeaseKeepAlive", pb.LeaseKeepAliveResponse, **options)

    def __enter__(self) -> "KeepAliveCall":
        return self

    def renew(self, *lease_ids: int) -> list[pb.LeaseKeepAliveResponse]:
        """Renew leases; returns the answers."""
        self.send(*(pb.LeaseKeepAliveRequest(ID=lease_id) for lease_id in lease_ids))
        return [self.take() for _ in lease_ids]


def metric(member_url: str, name: str) -> float:
    """The figure of a metric without labels, from a member's page."""
    import urllib.request

    with urllib.request.urlopen(f"{member_url}/metrics", timeout=20) as page:
        for line in cast("Iterator[bytes]", page):
            if line.startswith(f"{name} ".encode()):
                return float(line.split()[1])
    raise AssertionError(f"no metric {name}")
