"""The words of the benchmark: how big everything is, what runs, what a row of the table is."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.support.client import Client
from tests.support.cluster import Cluster
from tests.support.process import Member

RATE: Final = "rate"
"""More is better; the ratio is Kvorum / etcd."""
COST: Final = "cost"
"""Less is better; the ratio is Kvorum / etcd."""
SPEED: Final = "speed"
"""A duration of which the table says how many times faster Kvorum is; the ratio is etcd / Kvorum."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is sent: requests of each row, and keys in the large store.

    ``paced_puts`` and ``watched_puts``: puts that ``watchers`` see, at a fixed rate and as fast as they are
    delivered. ``idle``: watchers that see nothing. ``leases`` are renewed ``keepalives`` times in all;
    ``expiring`` leases end together. ``cluster_many`` and ``cluster_single``: requests to three members;
    ``failovers``: leaders killed.
    """

    many: int
    single: int
    txns: int
    queries: int
    keys: int
    watchers: int
    paced_puts: int
    watched_puts: int
    idle: int
    leases: int
    keepalives: int
    expiring: int
    cluster_many: int
    cluster_single: int
    failovers: int


FULL: Final = Sizes(
    many=100_000,
    single=3_000,
    txns=1_200,
    queries=15,
    keys=1_000_000,
    watchers=1_000,
    paced_puts=150,
    watched_puts=1_000,
    idle=100_000,
    leases=1_000,
    keepalives=150_000,
    expiring=10_000,
    cluster_many=30_000,
    cluster_single=1_000,
    failovers=5,
)
QUICK: Final = Sizes(
    many=20_000,
    single=500,
    txns=200,
    queries=5,
    keys=100_000,
    watchers=1_000,
    paced_puts=50,
    watched_puts=200,
    idle=10_000,
    leases=1_000,
    keepalives=20_000,
    expiring=1_000,
    cluster_many=5_000,
    cluster_single=200,
    failovers=2,
)


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement of one row: its figure in the row's unit, and the latencies behind it.

    ``generator_share``: how much of one core our own generator took meanwhile (NaN: not measured). Near 1 it
    is the generator that was measured.
    """

    value: float
    p50_ms: float = math.nan
    p99_ms: float = math.nan
    worst_ms: float = math.nan
    generator_share: float = math.nan


@dataclass(frozen=True, slots=True)
class Bench:
    """A running member, a client of it, and where to put h2load's files.

    ``kept``: figures of other rows that a row found on its way, by row name. ``cluster``: where there is one,
    all of its members; ``member`` is one of them.
    """

    member: Member
    client: Client
    sizes: Sizes
    scratch: Path
    kept: dict[str, Sample] = field(default_factory=dict)
    cluster: Cluster | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the member."""
        return "127.0.0.1", self.member.client_port

    def revision(self) -> int:
        """Return the store's revision."""
        return self.client.status().header.revision

    def answer(self, path: str, body: bytes) -> int:
        """Send a body through grpcio; returns the answer body's size. Raises grpc.RpcError if refused."""
        call = self.client.channel.unary_unary(path)
        return len(call(body[5:], timeout=self.client.timeout_seconds)) + 5


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table.

    ``target`` is the ratio to reach: at least, or for COST at most; None: the row is for information.
    """

    name: str
    title: str
    kind: str
    unit: str
    target: float | None
    measure: Callable[[Bench], Sample]
