"""What proxies count, under etcd's names.

Source: etcd ``server/proxy/httpproxy/metrics.go``, ``server/proxy/grpcproxy/metrics.go``.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Final, final

from kvorum.metrics import Figure, Histogram, Labels, Metrics, bind_process, histogram


@final
class HttpFigures:
    """The v2 proxy's."""

    def __init__(self) -> None:
        self.incoming: Final[Counter[Labels]] = Counter()
        self.dropped: Final[Counter[Labels]] = Counter()
        self._handled: Final[Counter[Labels]] = Counter()
        self._seconds: Final[defaultdict[Labels, Histogram]] = defaultdict(
            lambda: histogram("etcd_proxy_handling_duration_seconds")
        )
        self.metrics: Final = Metrics()
        bind_process(self.metrics)
        self.metrics.bind("etcd_proxy_requests_total", lambda: _figures(self.incoming))
        self.metrics.bind("etcd_proxy_handled_total", lambda: _figures(self._handled))
        self.metrics.bind("etcd_proxy_dropped_total", lambda: _figures(self.dropped))
        self.metrics.bind("etcd_proxy_handling_duration_seconds", lambda: _figures(self._seconds))

    def handled(self, method: str, status: int, seconds: float) -> None:
        """A member has answered."""
        self._handled[str(status), method] += 1
        self._seconds[method,].observe(seconds)


@final
class GrpcFigures:
    """The v3 proxy's."""

    __slots__ = ("cache_hits", "cache_keys", "cache_misses", "events_shared", "watchers_shared")

    def __init__(self) -> None:
        self.cache_hits = 0
        self.cache_keys = 0
        self.cache_misses = 0
        self.events_shared = 0
        """Events that went to one more client than the first."""
        self.watchers_shared = 0
        """Clients' watchers beyond the first of each watch upstream."""

    def bind(self, metrics: Metrics) -> None:
        """Have them on a page of metrics."""
        metrics.bind("etcd_grpc_proxy_cache_hits_total", lambda: self.cache_hits)
        metrics.bind("etcd_grpc_proxy_cache_keys_total", lambda: self.cache_keys)
        metrics.bind("etcd_grpc_proxy_cache_misses_total", lambda: self.cache_misses)
        metrics.bind("etcd_grpc_proxy_events_coalescing_total", lambda: self.events_shared)
        metrics.bind("etcd_grpc_proxy_watchers_coalescing_total", lambda: self.watchers_shared)


def _figures(counts: Mapping[Labels, Figure]) -> dict[Labels, Figure]:
    return dict(counts)
