"""What is measured: one row of the table each, and how big everything is.

A row's ``measure`` gets a ``Bench`` (a running member and what loads it) and returns a Sample.
"""

import http.client
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support.client import Client
from tests.support.process import Member

from bench import generator, h2load, messages
from bench.h2load import Load, LoadError, Report

RATE: Final = "rate"
"""More is better; the ratio is Kvorum / etcd."""
COST: Final = "cost"
"""Less is better; the ratio is Kvorum / etcd."""
SPEED: Final = "speed"
"""A duration of which the table says how many times faster Kvorum is; the ratio is etcd / Kvorum."""

HEALTHY_SECONDS: Final = 300.0
_POLL_SECONDS: Final = 0.005


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is sent: requests of each row, and keys in the large store."""

    many: int
    single: int
    txns: int
    queries: int
    keys: int


FULL: Final = Sizes(many=100_000, single=3_000, txns=1_200, queries=15, keys=1_000_000)
QUICK: Final = Sizes(many=20_000, single=500, txns=200, queries=5, keys=100_000)


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement of one row: its figure in the row's unit, and the latencies behind it."""

    value: float
    p50_ms: float = math.nan
    p99_ms: float = math.nan


@dataclass(frozen=True, slots=True)
class Bench:
    """A running member, a client of it, and where to put h2load's files."""

    member: Member
    client: Client
    sizes: Sizes
    scratch: Path

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


def _read(bench: Bench, load: Load, body: bytes) -> Report:
    """Send ranges, and check that each brought the whole answer."""
    size = bench.answer(messages.RANGE_PATH, body)
    report = h2load.run(load, bench.member.url, messages.RANGE_PATH, body, bench.scratch)
    if report.data_bytes != size * load.requests:
        raise LoadError(f"{report.data_bytes} bytes came, {size} x {load.requests} were expected")
    return report


def _write(bench: Bench, load: Load, path: str, body: bytes) -> Report:
    """Send writes, and check that each made one revision."""
    bench.answer(path, body)
    before = bench.revision()
    report = h2load.run(load, bench.member.url, path, body, bench.scratch)
    _check_revision(bench, before, load.requests)
    return report


def _check_revision(bench: Bench, before: int, writes: int) -> None:
    grown = bench.revision() - before
    if grown != writes:
        raise LoadError(f"{writes} writes were answered, the revision grew by {grown}")


def _rate(report: Report, factor: int = 1) -> Sample:
    return Sample(report.per_second * factor, report.p50_ms, report.p99_ms)


def _latency(report: Report) -> Sample:
    return Sample(report.p50_ms, report.p50_ms, report.p99_ms)


def _many(bench: Bench) -> Load:
    return Load(bench.sizes.many, clients=16, streams=64)


def _one(bench: Bench) -> Load:
    return Load(bench.sizes.single, clients=1, streams=1)


def _queries(bench: Bench) -> Load:
    return Load(bench.sizes.queries, clients=1, streams=1)


def _put_one(bench: Bench) -> Sample:
    return _latency(_write(bench, _one(bench), messages.PUT_PATH, messages.put(0)))


def _put_many(bench: Bench) -> Sample:
    return _rate(_write(bench, _many(bench), messages.PUT_PATH, messages.put(0)))


def _put_keys(bench: Bench) -> Sample:
    before, count = bench.revision(), bench.sizes.many
    bodies = messages.puts(0, count)
    seconds = generator.run(bench.member.endpoint, messages.PUT_PATH, bodies, connections=16, in_flight=64)
    _check_revision(bench, before, count)
    return Sample(count / seconds)


def _txn(bench: Bench) -> Sample:
    load = Load(bench.sizes.txns, clients=8, streams=4)
    return _rate(_write(bench, load, messages.TXN_PATH, messages.txn(0)), messages.KEYS_IN_TXN)


def _get_one(bench: Bench) -> Sample:
    return _latency(_read(bench, _one(bench), messages.get(0)))


def _get_many(bench: Bench) -> Sample:
    return _rate(_read(bench, _many(bench), messages.get(0)))


def _get_serializable(bench: Bench) -> Sample:
    return _rate(_read(bench, _many(bench), messages.get(0, serializable=True)))


def _span(bench: Bench) -> Sample:
    first = bench.sizes.keys // 2
    return _latency(_read(bench, _queries(bench), messages.span(first, first + 10_000)))


def _page(bench: Bench) -> Sample:
    return _latency(_read(bench, _queries(bench), messages.page(500)))


def _count(bench: Bench) -> Sample:
    return _latency(_read(bench, _queries(bench), messages.count()))


def _load(bench: Bench) -> Sample:
    keys = bench.sizes.keys
    bodies = messages.txns(messages.scattered(keys))
    seconds = generator.run(bench.member.endpoint, messages.TXN_PATH, bodies, connections=8, in_flight=4)
    found = bench.client.range(b"bench/", b"bench0", count_only=True).count
    if found != keys:
        raise LoadError(f"{keys} keys were written, {found} are there")
    return Sample(keys / seconds)


def _rss(bench: Bench) -> Sample:
    return Sample(bench.member.rss_bytes() / 2**20)


def start_until_healthy(member: Member) -> Sample:
    """Start a member and return the seconds until ``/health`` says true."""
    started = time.perf_counter()
    member.start(wait=False)
    while not _healthy(member):
        if not member.running or time.perf_counter() - started > HEALTHY_SECONDS:
            raise LoadError(f"{member.program.name} did not become healthy:\n{member.log_tail()}")
        time.sleep(_POLL_SECONDS)
    seconds = time.perf_counter() - started
    member.wait_ready()
    return Sample(seconds)


def _healthy(member: Member) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", member.client_port, timeout=5)
    try:
        connection.request("GET", "/health")
        return b'"true"' in connection.getresponse().read()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _start(bench: Bench) -> Sample:
    return start_until_healthy(bench.member)


SMALL: Final = (
    Row("put-1024", "put, one key, 1,024 in flight", RATE, "/s", 1.0, _put_many),
    Row("put-keys-1024", "put, distinct keys, 1,024 in flight (own generator)", RATE, "/s", 1.0, _put_keys),
    Row("put-1", "put, 1 in flight: p50", COST, "ms", 1.3, _put_one),
    Row("get-1024", "linearizable get, 1,024 in flight", RATE, "/s", 1.0, _get_many),
    Row("get-serializable-1024", "serializable get, 1,024 in flight", RATE, "/s", 1.0, _get_serializable),
    Row("get-1", "linearizable get, 1 in flight: p50", COST, "ms", None, _get_one),
    Row("txn-128", "transactions of 128 puts, 32 in flight: keys", RATE, "/s", 1.0, _txn),
)
"""Rows on a fresh store, every round, in this order (the gets read what the puts wrote)."""

LOADING: Final = (
    Row(
        "load",
        "load keys in scattered order, 128-put transactions (own generator): keys",
        RATE,
        "/s",
        None,
        _load,
    ),
    Row("rss", "RSS with all keys, after loading", COST, "MiB", 0.6, _rss),
)
"""Rows measured once for each server, while its large store is made."""

LARGE: Final = (
    Row("start", "start to healthy with all keys", COST, "s", 1.0, _start),
    Row("range-10k", "range of 10,000 keys: p50", SPEED, "ms", 1.0, _span),
    Row("page-500", "limit=500 page over all keys: p50", SPEED, "ms", 20.0, _page),
    Row("count", "count_only over all keys: p50", SPEED, "ms", 20.0, _count),
    Row("rss-restarted", "RSS with all keys, after start and these reads", COST, "MiB", 0.6, _rss),
)
"""Rows on the large store, every round; the first one starts the member."""

ROWS: Final = (*SMALL, *LOADING, *LARGE)
