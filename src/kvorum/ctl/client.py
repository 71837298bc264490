"""Connections: one channel per endpoint, a call goes to the first that can be reached.

etcd's client tries its endpoints until one connects and gives a call the whole of ``--command-timeout``; so
does this one. A request that was sent is never sent again: whether it was executed is then not known.
"""

import time
from collections.abc import Iterator, Sequence
from typing import Any, Final, Generic, TypeVar, cast, final

import grpc
from google.protobuf.message import Message

from kvorum.ctl.errors import EXIT_BAD_ARGUMENTS, CallError, CtlError
from kvorum.ctl.reach import address_of, first_reachable
from kvorum.ctl.settings import Settings
from kvorum.proto import rpc_pb2 as pb

R = TypeVar("R", bound=Message)


@final
class Stream(Generic[R]):
    """The answers of a stream as they come; iterate, and ``cancel`` when enough.

    Raises, while iterating:
        CallError: It ended with an error.
    """

    def __init__(
        self,
        channel: grpc.Channel,
        method: str,
        requests: Message | Iterator[Message],
        response: type[R],
        timeout_seconds: float | None,
        metadata: Sequence[tuple[str, str]],
    ) -> None:
        several = not isinstance(requests, Message)
        open_stream: Any = (channel.stream_stream if several else channel.unary_stream)(
            _path(method),
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=response.FromString,
        )
        self._call: Final[Any] = open_stream(
            requests, timeout=timeout_seconds, metadata=metadata, wait_for_ready=True
        )

    def __iter__(self) -> Iterator[R]:
        try:
            yield from self._call
        except grpc.RpcError as error:
            raise CallError.of(error) from None

    def cancel(self) -> None:
        """End the stream."""
        self._call.cancel()


@final
class Client:
    """Calls members; used as a context manager, which closes the connections.

    ``settings.endpoints`` are ``host:port`` or URLs with ``http``, ``https``, ``unix``.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings: Final = settings
        self._channels: Final[dict[str, grpc.Channel]] = {}
        self._token: str | None = None

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        for channel in self._channels.values():
            channel.close()

    def call(
        self,
        method: str,
        request: Message,
        response: type[R],
        endpoint: str | None = None,
        *,
        patient: bool = False,
    ) -> R:
        """Make a unary call.

        Args:
            method: ``KV/Range`` and the like, of package ``etcdserverpb`` unless another is named.
            request: The request message.
            response: The class of the answer.
            endpoint: The one to ask; None for whichever connects first.
            patient: Wait for the answer for as long as it takes.

        Raises:
            CallError: The call was refused, or nobody could be reached in time.
        """
        deadline = time.monotonic() + self._settings.command_timeout.seconds
        endpoints = self._settings.endpoints if endpoint is None else (endpoint,)
        chosen = endpoints[0] if len(endpoints) == 1 else first_reachable(endpoints, deadline)
        channel = self._channel(chosen)
        metadata = []
        if self._settings.user:
            metadata = [("token", self._authenticated(channel, deadline))]
        return _call(channel, method, request, response, None if patient else deadline, metadata)

    def stream(
        self,
        method: str,
        requests: Message | Iterator[Message],
        response: type[R],
        *,
        timeout_seconds: float | None = None,
        require_leader: bool = False,
    ) -> Stream[R]:
        """Open a stream at whichever endpoint connects first, within the time of a call.

        Args:
            method: As for ``call``.
            requests: The only request, or all of them, one after the other.
            response: The class of the answers.
            timeout_seconds: How long the stream may take; None for as long as it wants.
            require_leader: Have the member end the stream when it has lost its leader.

        Raises:
            CallError: Nobody could be reached in time.
        """
        deadline = time.monotonic() + self._settings.command_timeout.seconds
        endpoints = self._settings.endpoints
        chosen = endpoints[0] if len(endpoints) == 1 else first_reachable(endpoints, deadline)
        channel = self._channel(chosen)
        metadata = [("hasleader", "true")] if require_leader else []
        if self._settings.user:
            metadata.append(("token", self._authenticated(channel, deadline)))
        return Stream(channel, method, requests, response, timeout_seconds, metadata)

    def _authenticated(self, channel: grpc.Channel, deadline: float) -> str:
        if self._token is None:
            request = pb.AuthenticateRequest(name=self._settings.user, password=self._settings.password)
            answer = _call(channel, "Auth/Authenticate", request, pb.AuthenticateResponse, deadline, [])
            self._token = answer.token
        return self._token

    def _channel(self, endpoint: str) -> grpc.Channel:
        if endpoint not in self._channels:
            self._channels[endpoint] = self._open(endpoint)
        return self._channels[endpoint]

    def _open(self, endpoint: str) -> grpc.Channel:
        scheme, address = address_of(endpoint)
        target = f"unix:{address}" if scheme.startswith("unix") else address
        options = self._options()
        if scheme in ("https", "unixs") or (not scheme and self._settings.wants_tls):
            return grpc.secure_channel(target, self._credentials(), options=options)
        return grpc.insecure_channel(target, options=options)

    def _options(self) -> list[tuple[str, int | str]]:
        name = self._settings.server_name
        named: list[tuple[str, int | str]] = [("grpc.ssl_target_name_override", name)] if name else []
        return [
            *named,
            ("grpc.enable_http_proxy", 0),
            ("grpc.max_receive_message_length", -1),  # a range may be of any size
            ("grpc.max_send_message_length", -1),  # the server says what is too large
            ("grpc.keepalive_time_ms", max(10_000, int(self._settings.keepalive_time.milliseconds))),
            ("grpc.keepalive_timeout_ms", int(self._settings.keepalive_timeout.milliseconds)),
            ("grpc.initial_reconnect_backoff_ms", 100),
        ]

    def _credentials(self) -> grpc.ChannelCredentials:
        settings = self._settings
        if bool(settings.cert) != bool(settings.key):
            problem = f"[key: {settings.key}, cert: {settings.cert}]"
            raise CtlError(EXIT_BAD_ARGUMENTS, f"KeyFile and CertFile must both be present{problem}")
        try:
            return grpc.ssl_channel_credentials(
                root_certificates=_read(settings.cacert),
                private_key=_read(settings.key),
                certificate_chain=_read(settings.cert),
            )
        except OSError as error:
            problem = (error.strerror or str(error)).lower()
            raise CtlError(EXIT_BAD_ARGUMENTS, f"open {error.filename}: {problem}") from None


def _path(method: str) -> str:
    return f"/{method}" if "." in method else f"/etcdserverpb.{method}"


def _read(path: str) -> bytes | None:
    if not path:
        return None
    with open(path, "rb") as file:
        return file.read()


def _call(
    channel: grpc.Channel,
    method: str,
    request: Message,
    response: type[R],
    deadline: float | None,
    metadata: Sequence[tuple[str, str]],
) -> R:
    stub: Any = channel.unary_unary(
        _path(method),
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=response.FromString,
    )
    try:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        return cast("R", stub(request, timeout=left, metadata=metadata, wait_for_ready=True))
    except grpc.RpcError as error:
        raise CallError.of(error) from None
