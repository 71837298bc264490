"""Lock and Campaign on one server: which would wait, which wait, and which the last step has released.

etcd's rule: whoever has the oldest key under ``name/`` holds it; a caller puts ``name/<lease in hex>`` and
waits until all older keys are gone. So a look at the keys tells what a call will do. A call that will wait
is made in the background and has begun once its key is seen; after each step those that nobody is before
any more are awaited. Nothing is left to chance, and both servers decide alike because they hold the same
keys.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast, final

import grpc
from google.protobuf.message import Message

from kvorum.proto import kv_pb2 as kv
from kvorum.proto import rpc_pb2 as pb
from kvorum.proto.v3election_pb2 import CampaignRequest
from kvorum.proto.v3lock_pb2 import LockRequest
from tests.differential import normal
from tests.differential.responses import RESPONSES
from tests.differential.streams import WAIT_SECONDS, StuckError
from tests.differential.watching import Control
from tests.support.client import Client

MOST_WAITING: Final = 3

Request = LockRequest | CampaignRequest
Answered = Callable[[Any], object]


def key_of(name: bytes, lease: int) -> bytes:
    """Return the key of a lease under a lock or election."""
    return name + b"/%x" % lease


@dataclass(frozen=True)
class _Waiting:
    future: Any  # grpcio's future of the response
    name: bytes
    key: bytes
    create_revision: int


@final
class Waits:
    """The waiting calls of a program; ``answer`` makes comparable what a finished call returned."""

    def __init__(self, client: Client, answer: Answered) -> None:
        self._client: Final = client
        self._answer: Final = answer
        self._waiting: Final[list[_Waiting]] = []

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def would_wait(self, request: Request) -> bool:
        """Whether a call with this request would not be answered at once."""
        mine = key_of(request.name, request.lease)
        keys = self._keys(request.name)
        own = next((pair.create_revision for pair in keys if pair.key == mine), None)
        if own is not None:
            return any(pair.create_revision < own for pair in keys)
        return bool(keys) and self._lives(request.lease)

    def begin(self, method: str, request: Request, control: Control) -> object:
        """Make a call that would wait; returns what can be told of it, its answer comes later."""
        mine = key_of(request.name, request.lease)
        if len(self._waiting) == MOST_WAITING or any(pair.key == mine for pair in self._keys(request.name)):
            return "left out: nobody could see it begin"
        since = control.position
        stub = self._client.channel.unary_unary(
            f"/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=RESPONSES[method].FromString,
        )
        future = stub.future(request, timeout=20 * WAIT_SECONDS, wait_for_ready=True)
        revision = control.wait_event(mine, kv.Event.EventType.PUT, since)
        self._waiting.append(_Waiting(future, request.name, mine, revision))
        return "waits"

    def released(self) -> Sequence[tuple[bytes, object]]:
        """Await the calls that nobody is before any more; returns their answers. Raises StuckError."""
        answers = []
        for wait in list(self._waiting):
            keys = self._keys(wait.name)
            if not any(pair.create_revision < wait.create_revision for pair in keys):
                self._waiting.remove(wait)
                answers.append((wait.key, self._answer_of(wait, keys)))
        return answers

    def cancel(self, control: Control) -> object:
        """Cancel the longest waiting call and await that its key is gone. Raises StuckError."""
        if not self._waiting:
            return "nobody waits"
        wait = self._waiting.pop(0)
        since = control.position
        held = any(
            pair.key == wait.key and pair.create_revision == wait.create_revision
            for pair in self._keys(wait.name)
        )
        wait.future.cancel()
        if held:
            control.wait_event(wait.key, kv.Event.EventType.DELETE, since)
        return "cancelled", wait.key

    def drain(self) -> None:
        """Await all of them: their keys are gone."""
        while self._waiting:
            self._result(self._waiting.pop())

    def abandon(self) -> None:
        """Cancel all of them and wait for nothing."""
        while self._waiting:
            self._waiting.pop().future.cancel()

    def _answer_of(self, wait: _Waiting, keys: Sequence[kv.KeyValue]) -> object:
        answer = self._result(wait)
        own = [pair.create_revision for pair in keys if pair.key == wait.key]
        if own == [wait.create_revision]:
            return answer
        return normal.of_lost_place(answer, key_exists=bool(own))

    def _result(self, wait: _Waiting) -> object:
        try:
            return self._answer(cast("Message", wait.future.result(timeout=WAIT_SECONDS)))
        except grpc.FutureTimeoutError:
            raise StuckError(f"nobody is before {wait.key!r} and it still waits") from None
        except grpc.RpcError as refusal:
            return self._answer(refusal)

    def _keys(self, name: bytes) -> Sequence[kv.KeyValue]:
        return self._client.range(name + b"/", name + b"0").kvs

    def _lives(self, lease: int) -> bool:
        request = pb.LeaseTimeToLiveRequest(ID=lease)
        method = "etcdserverpb.Lease/LeaseTimeToLive"
        return self._client.call(method, request, pb.LeaseTimeToLiveResponse).TTL >= 0
