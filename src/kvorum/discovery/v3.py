"""Joining through keys of a v3 server: ``--discovery-token`` and ``--discovery-endpoints``.

Somebody has put the number of members into ``/_etcd/registry/<token>/_config/size``. Each member looks, puts
its peer URLs into ``/_etcd/registry/<token>/members/<its own ID>`` and watches until there are enough; the
first ``size`` of them by create revision are the cluster. A service that does not answer is asked again for
as long as it takes. Imported only where it is needed, as gRPC's library takes memory. What is not etcd's:
after the watch has told of something, the keys are read again. Source of behaviour: etcd 3.6
``v3discovery/discovery.go``, ``client/v3`` (NewClientConfig).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar, cast, final

import grpc
import grpc.aio
from google.protobuf.message import Message

from kvorum.config import Config
from kvorum.discovery import channels
from kvorum.discovery.backoff import Backoff
from kvorum.discovery.errors import (
    BadSizeError,
    DuplicateNameError,
    FullClusterError,
    InvalidUrlError,
    SizeNotFoundError,
    UnavailableError,
)
from kvorum.golang import MAX_INT64
from kvorum.logging import Logger, hex_id
from kvorum.proto import rpc_pb2 as pb
from kvorum.urls import parse_cluster

PREFIX: Final = "/_etcd/registry"

R = TypeVar("R", bound=Message)


@final
@dataclass(frozen=True)
class Registered:
    """A member's key."""

    key: str
    value: str
    """``name=peerURL,...``."""
    create_revision: int


@final
@dataclass(frozen=True)
class Found:
    """What there was at one look."""

    members: tuple[Registered, ...]
    """In the order in which they came; never more than ``size``."""
    size: int
    revision: int


class Keys(Protocol):
    """What is asked of the discovery service."""

    async def call(self, method: str, request: Message, response: type[R]) -> R:
        """Make a unary call. Raises UnavailableError."""

    async def changed(self, prefix: bytes, revision: int) -> None:
        """Wait until something below ``prefix`` may have changed. Raises UnavailableError."""


async def join(config: Config, member_id: int, log: Logger) -> str:
    """Register this member and wait for the others; returns the cluster as ``--initial-cluster`` names it.

    Raises:
        DiscoveryError: they do not come together, or not with this one.
        ConfigError: the flags about TLS cannot be used.
    """
    said = {"discovery-token": config.discovery_token,
            "discovery-endpoints": ",".join(config.discovery_endpoints)}  # fmt: skip
    service = Service(config)
    try:
        cluster = await V3Discovery(service, config.discovery_token, member_id, log, said).join(
            config.initial_cluster
        )
    except Exception as error:
        log.error("discovery failed to join cluster", {**said, "cluster": "", "error": error})
        raise
    finally:
        await service.close()
    log.info("discovery joined cluster successfully", {**said, "cluster": cluster})
    return cluster


@final
class Service:
    """The discovery service: endpoints, of which any will do."""

    def __init__(self, config: Config) -> None:
        self._config: Final = config
        self._channels: Final[dict[str, grpc.aio.Channel]] = {}
        self._tokens: Final[dict[str, str]] = {}
        self._first = 0

    async def close(self) -> None:
        """Close the connections."""
        for channel in self._channels.values():
            await channel.close()

    async def call(self, method: str, request: Message, response: type[R]) -> R:
        """Make a unary call to the first endpoint that answers.

        Raises:
            UnavailableError: none does, or it refuses.
        """
        error = UnavailableError("no endpoints")
        endpoints = self._config.discovery_endpoints
        for offset in range(len(endpoints)):
            at = (self._first + offset) % len(endpoints)
            try:
                channel, metadata = await self._reach(endpoints[at])
                answer = await self._unary(channel, method, request, response, metadata)
            except UnavailableError as failure:
                error = failure
                self._tokens.pop(endpoints[at], None)
            else:
                self._first = at
                return answer
        raise error

    async def changed(self, prefix: bytes, revision: int) -> None:
        """Wait until something below ``prefix`` changes, from a revision on; or until that may be.

        Raises:
            UnavailableError: the watch ended without that.
        """
        channel, metadata = await self._reach(self._config.discovery_endpoints[self._first])
        stub: Any = channel.stream_stream(
            "/etcdserverpb.Watch/Watch",
            request_serializer=pb.WatchRequest.SerializeToString,
            response_deserializer=pb.WatchResponse.FromString,
        )
        create = pb.WatchCreateRequest(key=prefix, range_end=_after(prefix), start_revision=revision)
        try:
            call = stub(metadata=metadata)
            try:
                await call.write(pb.WatchRequest(create_request=create))
                while True:
                    answer = await call.read()
                    if answer is grpc.aio.EOF:
                        raise UnavailableError("the watch has ended")
                    if answer.events or answer.compact_revision:
                        return
                    if answer.canceled:
                        raise UnavailableError(answer.cancel_reason)
            finally:
                call.cancel()
        except grpc.RpcError as error:
            raise UnavailableError(_text(error)) from None

    async def _reach(self, endpoint: str) -> tuple[grpc.aio.Channel, Sequence[tuple[str, str]]]:
        """A channel to an endpoint, and what shows who calls."""
        config = self._config
        if endpoint not in self._channels:
            self._channels[endpoint] = await channels.open_channel(config, endpoint)
        channel = self._channels[endpoint]
        name, password = channels.credentials(config)
        if not name or not password:
            return channel, ()
        if endpoint not in self._tokens:
            request = pb.AuthenticateRequest(name=name, password=password)
            answer = await self._unary(channel, "Auth/Authenticate", request, pb.AuthenticateResponse, ())
            self._tokens[endpoint] = answer.token
        return channel, (("token", self._tokens[endpoint]),)

    async def _unary(
        self,
        channel: grpc.aio.Channel,
        method: str,
        request: Message,
        response: type[R],
        metadata: Sequence[tuple[str, str]],
    ) -> R:
        stub: Any = channel.unary_unary(
            f"/etcdserverpb.{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=response.FromString,
        )
        try:
            timeout = self._config.discovery_request_timeout.seconds
            return cast("R", await stub(request, timeout=timeout, metadata=metadata))
        except grpc.RpcError as error:
            raise UnavailableError(_text(error)) from None


@final
class V3Discovery:
    """One member's way to its cluster. One use: ``join``."""

    def __init__(
        self,
        service: Keys,
        token: str,
        member_id: int,
        log: Logger,
        said: dict[str, str],
        backoff: Backoff | None = None,
    ) -> None:
        self._service: Final = service
        self._size_key: Final = f"{PREFIX}/{token}/_config/size"
        self._members: Final = f"{PREFIX}/{token}/members"
        self._self: Final = f"{self._members}/{hex_id(member_id)}"
        self._log: Final = log
        self._about: Final = said
        self._backoff: Final = backoff or Backoff()
        self._said: Final[set[str]] = set()

    async def join(self, peer_urls: str) -> str:
        """Register ``name=peerURL,...`` and wait for the others; returns the whole cluster in that form.

        Raises:
            DiscoveryError: this does not come to a cluster with this member in it.
        """
        await self._look()
        await self._register(peer_urls)
        found = await self._look()
        while len(found.members) < found.size:
            counts = {"clusterSize": found.size, "found-peers": len(found.members)}
            self._log.info("waiting for peers from discovery service", {**self._about, **counts})
            await self._wait(found.revision + 1)
            found = await self._look()
        counts = {"clusterSize": found.size, "found-peers": len(found.members)}
        self._log.info("found all needed peers from discovery service", {**self._about, **counts})
        cluster = ",".join(member.value for member in found.members)
        try:
            names = parse_cluster(cluster)
        except ValueError:
            raise InvalidUrlError("peer URL") from None
        if len(names) != found.size:  # etcd would begin with them as one member of two IDs
            raise DuplicateNameError
        return cluster

    async def _look(self) -> Found:
        """What there is now, asked for until there is an answer. Raises DiscoveryError."""
        while True:
            try:
                size = await self._size()
                found = await self._ranked(size)
            except UnavailableError:
                await self._back_off("cluster status check")
            else:
                self._backoff.succeeded()
                return found

    async def _size(self) -> int:
        request = pb.RangeRequest(key=self._size_key.encode())
        try:
            answer = await self._service.call("KV/Range", request, pb.RangeResponse)
        except UnavailableError as error:
            text = "failed to get cluster size from discovery service"
            self._warn(text, error, clusterSizeKey=self._size_key)
            raise
        if not answer.kvs:
            raise SizeNotFoundError
        text = answer.kvs[0].value.decode("latin-1")
        digits = text.removeprefix("+")
        if not (digits.isascii() and digits.isdigit()) or not 0 < int(digits[:20]) <= MAX_INT64:
            raise BadSizeError
        return int(digits[:20])

    async def _ranked(self, size: int) -> Found:
        prefix = self._members.encode()
        request = pb.RangeRequest(key=prefix, range_end=_after(prefix))
        try:
            answer = await self._service.call("KV/Range", request, pb.RangeResponse)
        except UnavailableError as error:
            text = "failed to get cluster members from discovery service"
            self._warn(text, error, membersKeyPrefix=self._members)
            raise
        members = []
        for pair in answer.kvs:
            member = Registered(_clean(pair.key), _clean(pair.value), pair.create_revision)
            self._say(member)
            if "=" in member.value:
                members.append(member)
        members.sort(key=lambda member: member.create_revision)
        first = tuple(members[:size])
        if len(first) == size and all(member.key != self._self for member in first):
            raise FullClusterError([member.value for member in first])
        return Found(first, size, answer.header.revision)

    async def _register(self, value: str) -> None:
        fields = {"memberKey": self._self, "memberInfo": value}
        request = pb.PutRequest(key=self._self.encode(), value=value.encode())
        while True:
            try:
                await self._service.call("KV/Put", request, pb.PutResponse)
            except UnavailableError as error:
                text = "failed to register members itself to the discovery service"
                self._warn(text, error, memberKey=self._self)
                await self._back_off("register member itself")
            else:
                self._backoff.succeeded()
                self._log.info("register member itself successfully", {**self._about, **fields})
                return

    async def _wait(self, revision: int) -> None:
        try:
            await self._service.changed(self._members.encode(), revision)
        except UnavailableError as error:
            self._warn("error while waiting for peers", error)
            await self._back_off("waiting for peers")

    def _say(self, member: Registered) -> None:
        if member.key in self._said:
            return
        self._said.add(member.key)
        fields = {**self._about, "memberKey": member.key, "memberInfo": member.value}
        if "=" in member.value:
            self._log.info("found peer from discovery service", fields)
        else:
            self._log.warn("invalid peer info returned from discovery service", fields)

    def _warn(self, message: str, error: Exception, **fields: object) -> None:
        self._log.warn(message, {**self._about, **fields, "error": error})

    async def _back_off(self, step: str) -> None:
        await self._backoff.wait(
            lambda seconds: self._log.warn(
                "retry connecting to discovery service", {**self._about, "reason": step, "backoff": seconds}
            )
        )


def _after(prefix: bytes) -> bytes:
    """The end of the range of keys that begin so; our prefixes do not end in 0xff."""
    return prefix[:-1] + bytes((prefix[-1] + 1,))


def _clean(data: bytes) -> str:
    return data.decode("utf-8", "replace").strip()


def _text(error: grpc.RpcError) -> str:
    details = cast("grpc.aio.AioRpcError", error).details()
    return details or str(error)
