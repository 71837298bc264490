"""One Watch stream of grpcio: requests go out when they are made, responses gather for whoever waits."""

import threading
import time
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any, Final, cast, final

import grpc

from kvorum.proto import rpc_pb2 as pb
from tests.support.client import Client

WAIT_SECONDS: Final = 30.0
"""Nothing that is awaited takes a hundredth of this on an idle machine; a disk may stall for seconds."""


class StuckError(AssertionError):
    """A server did not do in time what was awaited of it."""


@final
class WatchStream:
    """Requests and responses of one stream; every response is kept until ``forget``."""

    def __init__(self, client: Client) -> None:
        self.responses: Final[list[pb.WatchResponse]] = []
        self.ended: str | None = None  # the status that ended it
        self._requests: Final[SimpleQueue[pb.WatchRequest | None]] = SimpleQueue()
        self._changed: Final = threading.Condition()
        stub = client.channel.stream_stream(
            "/etcdserverpb.Watch/Watch",
            request_serializer=pb.WatchRequest.SerializeToString,
            response_deserializer=pb.WatchResponse.FromString,
        )
        self._call: Final = stub(iter(self._requests.get, None), wait_for_ready=True)
        threading.Thread(target=self._read, daemon=True).start()

    def create(self, **fields: Any) -> None:
        self.send(pb.WatchRequest(create_request=pb.WatchCreateRequest(**fields)))

    def send(self, request: pb.WatchRequest) -> None:
        self._requests.put(request)

    def wait(self, wanted: Callable[[pb.WatchResponse], bool], what: str, since: int = 0) -> int:
        """Wait for a response, looking from number ``since`` on; returns its number. Raises StuckError."""
        end = time.monotonic() + WAIT_SECONDS
        at = since
        with self._changed:
            while True:
                while at < len(self.responses):
                    if wanted(self.responses[at]):
                        return at
                    at += 1
                if self.ended is not None:
                    raise StuckError(f"the stream ended ({self.ended}) before {what}")
                if not self._changed.wait(end - time.monotonic()):
                    raise StuckError(f"waited {WAIT_SECONDS:g} s for {what}")

    def half_close(self) -> None:
        """Say that no more requests come."""
        self._requests.put(None)

    def close(self) -> None:
        """Cancel the call."""
        self._call.cancel()
        self._requests.put(None)

    def forget(self) -> None:
        """Let go of the responses so far."""
        with self._changed:
            self.responses.clear()

    def _read(self) -> None:
        ended = "OK"
        try:
            for response in cast("Iterator[pb.WatchResponse]", self._call):
                with self._changed:
                    self.responses.append(response)
                    self._changed.notify_all()
        except grpc.RpcError as error:
            call = cast("grpc.Call", error)
            ended = f"{call.code().name}: {call.details()}"
        with self._changed:
            self.ended = ended
            self._changed.notify_all()
