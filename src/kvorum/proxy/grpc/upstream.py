"""Calls to the members behind: one at a time, the next one when it fails.

All calls go to one member, chosen at random at the start, so that reads do not go back in time from one call
to the next and writes are seen by the reads after them. It is left for another one when its connection
breaks, when it does not answer pings, or when it is without a leader. Messages are bytes; what a member
refuses is passed on as it said it.

What is repeated: a call that only asks, wherever it failed, and any call that certainly was not sent. Source
of behaviour: etcd ``client/v3/retry_interceptor.go`` (repeatable, nonRepeatable).
"""

import random
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias, final

import grpc
import grpc.aio

from kvorum.errors import RESOURCE_EXHAUSTED, UNAVAILABLE
from kvorum.rpc.messages import StatusError

Metadata: TypeAlias = tuple[tuple[str, str], ...]

PASSED_ON: Final = ("token", "authorization", "hasleader", "client-api-version")
"""Metadata of clients that means something to members."""
HAS_LEADER: Final = ("hasleader", "true")
_NOT_SENT: Final = ("failed to connect to all addresses", "connections to all backends failing")
"""How gRPC's library says that there was no connection to send on."""

OPTIONS: Final = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 3000),  # also the longest wait for a connection
    ("grpc.max_reconnect_backoff_ms", 2000),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 3000),
)


@final
class Endpoint:
    """A member's address and the channel to it."""

    __slots__ = ("_calls", "_open", "_opened", "address")

    def __init__(self, address: str, open_channel: Callable[[str], grpc.aio.Channel]) -> None:
        self.address: Final = address
        self._open: Final = open_channel
        self._opened: grpc.aio.Channel | None = None
        self._calls: Final[dict[str, Any]] = {}

    @property
    def channel(self) -> grpc.aio.Channel:
        """The channel, opened when it is first needed."""
        if self._opened is None:
            self._opened = self._open(self.address)
        return self._opened

    def unary(self, method: str) -> Any:
        """What calls a unary method with bytes."""
        called = self._calls.get(method)
        if called is None:
            called = self._calls[method] = self.channel.unary_unary(method)
        return called

    async def close(self) -> None:
        """Close the channel."""
        if self._opened is not None:
            await self._opened.close()


@final
class Upstream:
    """The members.

    Args:
        addresses: ``host:port`` each, at least one.
        open_channel: opens a channel to one of them.
        max_send_bytes: longest request (``--max-send-bytes``).
    """

    def __init__(
        self, addresses: Sequence[str], open_channel: Callable[[str], grpc.aio.Channel], max_send_bytes: int
    ) -> None:
        assert addresses, "nobody to call"
        self.endpoints: Final = [Endpoint(address, open_channel) for address in addresses]
        random.shuffle(self.endpoints)  # so that proxies do not all lean on one member
        self._max_send_bytes: Final = max_send_bytes
        self._at = 0
        self.latest_revision = 0
        """The newest revision that a write through this proxy was answered with."""

    @property
    def current(self) -> Endpoint:
        """Whom calls go to."""
        return self.endpoints[self._at % len(self.endpoints)]

    def leave(self, endpoint: Endpoint) -> None:
        """Turn to the next member, unless that was done already."""
        if endpoint is self.current:
            self._at += 1

    async def unary(
        self, method: str, message: bytes, metadata: Metadata, seconds: float | None, *, repeatable: bool
    ) -> bytes:
        """Call a method and return the answer.

        Args:
            method: "/service/method".
            message: the request, serialized.
            metadata: sent with it.
            seconds: longest wait for the answer; None for no bound.
            repeatable: whether the call only asks.

        Raises:
            StatusError: what the member says, or why none could be asked.
        """
        if len(message) > self._max_send_bytes:
            raise StatusError(
                RESOURCE_EXHAUSTED,
                f"trying to send message larger than max ({len(message)} vs. {self._max_send_bytes})",
            )
        for left in range(len(self.endpoints) - 1, -1, -1):
            endpoint = self.current
            try:
                answer: bytes = await endpoint.unary(method)(message, metadata=metadata, timeout=seconds)
            except grpc.aio.AioRpcError as error:
                status = status_of(error)
                if not is_connection(status):
                    raise status from None
                self.leave(endpoint)
                if not left or not (repeatable or status.message.startswith(_NOT_SENT)):
                    raise status from None
            else:
                return answer
        raise AssertionError("the last one has answered or not")

    async def close(self) -> None:
        """Close all channels."""
        for endpoint in self.endpoints:
            await endpoint.close()


def status_of(error: grpc.aio.AioRpcError) -> StatusError:
    """The status that a call ended with."""
    return StatusError(int(error.code().value[0]), error.details() or "")


def is_connection(status: StatusError) -> bool:
    """Whether it is the connection that failed, not the member that refused."""
    return status.code == UNAVAILABLE and not status.message.startswith(("etcdserver:", "auth:"))


def passed_on(metadata: "dict[str, list[str]] | Any") -> Metadata:
    """Of a client's metadata what goes to the member."""
    return tuple((name, value) for name in PASSED_ON for value in metadata.get(name, ()))
