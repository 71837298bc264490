"""What is counted about peers, by the metrics' names (etcd ``rafthttp/metrics.go``).

Ids are label values, so they are kept as text: ``sent_bytes["8e9e05c52164694d"]``.
"""

from collections import defaultdict
from collections.abc import Mapping
from typing import Final, final

from kvorum import limits
from kvorum.metrics import Figure, Histogram, Labels, Metrics, histogram

_PREFIX: Final = "etcd_network_"


@final
class PeerFigures:
    """Plain numbers and histograms, by the peer's id in hexadecimal."""

    def __init__(self, local: str) -> None:
        self._local: Final = local
        self.appends_sent = 0
        """MsgApps sent (``/v2/stats/self``: ``sendAppendRequestCnt``)."""
        self.appends_received = 0
        """MsgApps received (``recvAppendRequestCnt``)."""
        self._known: Final[set[str]] = set()
        self.active: Final[dict[str, int]] = {}
        """1 while the peer is active, else 0."""
        self.disconnected: Final[dict[str, int]] = defaultdict(int)
        self.sent_bytes: Final[dict[str, int]] = defaultdict(int)
        self.received_bytes: Final[dict[str, int]] = defaultdict(int)
        self.sent_failures: Final[dict[str, int]] = defaultdict(int)
        self.received_failures: Final[dict[str, int]] = defaultdict(int)
        self.snapshots_sent: Final[dict[str, int]] = defaultdict(int)
        self.snapshots_sending: Final[dict[str, int]] = defaultdict(int)
        self.snapshot_send_failures: Final[dict[str, int]] = defaultdict(int)
        self.snapshots_received: Final[dict[str, int]] = defaultdict(int)
        self.snapshots_receiving: Final[dict[str, int]] = defaultdict(int)
        self.snapshot_receive_failures: Final[dict[str, int]] = defaultdict(int)
        self.snapshot_send_seconds: Final = _histograms("snapshot_send_total_duration_seconds")
        self.snapshot_receive_seconds: Final = _histograms("snapshot_receive_total_duration_seconds")
        self.round_trip_seconds: Final = _histograms("peer_round_trip_time_seconds")

    def label(self, name: str) -> str:
        """The label for whoever a request names as its sender: that may be anybody, so they are not many."""
        if name not in self._known:
            if len(self._known) >= limits.PEER_LABELS:
                return "others"
            self._known.add(name)
        return name

    def bind(self, metrics: Metrics) -> None:
        """Name the source of each metric."""
        metrics.bind(_PREFIX + "active_peers", lambda: self._pairs(self.active))
        metrics.bind(_PREFIX + "disconnected_peers_total", lambda: self._pairs(self.disconnected))
        for name, figures in (
            ("peer_sent_bytes_total", self.sent_bytes),
            ("peer_received_bytes_total", self.received_bytes),
            ("peer_sent_failures_total", self.sent_failures),
            ("peer_received_failures_total", self.received_failures),
            ("snapshot_send_success", self.snapshots_sent),
            ("snapshot_send_inflights_total", self.snapshots_sending),
            ("snapshot_send_failures", self.snapshot_send_failures),
            ("snapshot_receive_success", self.snapshots_received),
            ("snapshot_receive_inflights_total", self.snapshots_receiving),
            ("snapshot_receive_failures", self.snapshot_receive_failures),
            ("snapshot_send_total_duration_seconds", self.snapshot_send_seconds),
            ("snapshot_receive_total_duration_seconds", self.snapshot_receive_seconds),
            ("peer_round_trip_time_seconds", self.round_trip_seconds),
        ):
            _bind(metrics, _PREFIX + name, figures)

    def _pairs(self, figures: Mapping[str, int]) -> Mapping[Labels, Figure]:
        return {(self._local, remote): figure for remote, figure in figures.items()}


def _bind(metrics: Metrics, name: str, figures: Mapping[str, Figure]) -> None:
    metrics.bind(name, lambda: {(remote,): figure for remote, figure in figures.items()})


def _histograms(name: str) -> dict[str, Histogram]:
    return defaultdict(lambda: histogram(_PREFIX + name))
