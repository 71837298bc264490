"""``grpc_server_*`` and ``etcd_network_client_grpc_*`` from the plain counters of the RPC room.

The observer is seen by its shape: this room knows no other. Every method shows zeros from the start, for
every status code, as go-grpc-prometheus does after ``Register``.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from kvorum.errors import CODE_NAMES
from kvorum.metrics.registry import Figure, Labels, Metrics


class MethodFigures(Protocol):
    """Counters of one method."""

    @property
    def service(self) -> str:
        """Full name of the service."""

    @property
    def method(self) -> str:
        """Name of the method."""

    @property
    def kind(self) -> str:
        """``unary``, ``client_stream``, ``server_stream`` or ``bidi_stream``."""

    @property
    def started(self) -> int:
        """Calls begun."""

    @property
    def handled(self) -> Sequence[int]:
        """Calls ended, by status code."""

    @property
    def messages_received(self) -> int:
        """Messages from clients."""

    @property
    def messages_sent(self) -> int:
        """Messages to clients."""


class CallFigures(Protocol):
    """Counters of all methods (`RpcObserver`)."""

    @property
    def methods(self) -> Mapping[str, MethodFigures]:
        """By path."""

    @property
    def received_bytes(self) -> int:
        """Bytes of messages received."""

    @property
    def sent_bytes(self) -> int:
        """Bytes of messages sent."""


def bind_calls(metrics: Metrics, observer: CallFigures) -> None:
    """Expose the counters of calls."""

    def by_method(name: str) -> None:
        def figures() -> Mapping[Labels, Figure]:
            return {(m.method, m.service, m.kind): getattr(m, name) for m in observer.methods.values()}

        metrics.bind(_METRIC_OF[name], figures)

    def handled() -> Mapping[Labels, Figure]:
        return {
            (code_name, m.method, m.service, m.kind): count
            for m in observer.methods.values()
            for code_name, count in zip(CODE_NAMES, m.handled, strict=True)
        }

    for name in _METRIC_OF:
        by_method(name)
    metrics.bind("grpc_server_handled_total", handled)
    metrics.bind("etcd_network_client_grpc_received_bytes_total", lambda: observer.received_bytes)
    metrics.bind("etcd_network_client_grpc_sent_bytes_total", lambda: observer.sent_bytes)


_METRIC_OF = {
    "started": "grpc_server_started_total",
    "messages_received": "grpc_server_msg_received_total",
    "messages_sent": "grpc_server_msg_sent_total",
}
