"""Counters of calls, cheap enough for every call, read when somebody scrapes.

Plain ints on the loop's thread, no locks. The names in ``/metrics`` are made from these elsewhere
(``facts/metrics.csv``: ``grpc_server_*``, ``etcd_network_client_grpc_*``).
"""

from collections.abc import Callable
from typing import Final, final

from kvorum.errors import CODE_NAMES

UNARY: Final = "unary"
BIDI_STREAM: Final = "bidi_stream"


@final
class MethodCounters:
    """One method.

    ``handled`` is by status code; ``kind`` is the ``grpc_type`` label of go-grpc-prometheus.
    """

    __slots__ = ("handled", "kind", "method", "received", "sent", "service", "started")

    def __init__(self, path: str, kind: str) -> None:
        service, _, method = path.removeprefix("/").rpartition("/")
        self.service: Final = service
        self.method: Final = method
        self.kind: Final = kind
        self.started = 0
        self.handled: Final = [0] * len(CODE_NAMES)
        self.received = 0
        self.sent = 0

    @property
    def messages_received(self) -> int:
        """Messages taken from clients; a unary call starts with its message, so it is not counted twice."""
        return self.started if self.kind == UNARY else self.received

    @property
    def messages_sent(self) -> int:
        """Messages given to clients; a unary call that ended well has sent one."""
        return self.handled[0] if self.kind == UNARY else self.sent


@final
class RpcObserver:
    """All methods, and what concerns none of them.

    ``received_bytes`` and ``sent_bytes`` count messages as etcd's codec does (without framing). ``failed``
    counts calls by code that never reached a method. ``connections`` are those ever taken.
    """

    __slots__ = ("_active", "connections", "failed", "methods", "received_bytes", "sent_bytes")

    def __init__(self, active_streams: Callable[[], int]) -> None:
        self._active = active_streams
        self.methods: Final[dict[str, MethodCounters]] = {}
        self.received_bytes = 0
        self.sent_bytes = 0
        self.connections = 0
        self.failed: Final = [0] * len(CODE_NAMES)

    @property
    def active_streams(self) -> int:
        """Streams open now."""
        return self._active()

    def method(self, path: str, kind: str) -> MethodCounters:
        """The counters of a method, made on first use so that metrics show zeros from the start."""
        counters = self.methods.get(path)
        if counters is None:
            counters = self.methods[path] = MethodCounters(path, kind)
        return counters
