"""What is measured: one row of the table each.

A row's ``measure`` gets a ``Bench`` (a running member and what loads it) and returns a Sample.
"""

import http.client
import time
from typing import Final

from tests.support.process import Member

from bench import checked, generator, leases, messages, watches
from bench.cluster import CLUSTER
from bench.h2load import Load, LoadError
from bench.model import COST, RATE, SPEED, Bench, Row, Sample
from bench.v2 import V2

HEALTHY_SECONDS: Final = 300.0
_POLL_SECONDS: Final = 0.005


def _one(bench: Bench) -> Load:
    return Load(bench.sizes.single, clients=1, streams=1)


def _queries(bench: Bench) -> Load:
    return Load(bench.sizes.queries, clients=1, streams=1)


def _put_one(bench: Bench) -> Sample:
    return checked.latency(checked.write(bench, _one(bench), messages.PUT_PATH, messages.put(0)))


def _put_many(bench: Bench) -> Sample:
    return checked.rate(checked.write(bench, checked.many(bench), messages.PUT_PATH, messages.put(0)))


def _put_keys(bench: Bench) -> Sample:
    before, count = bench.revision(), bench.sizes.many
    bodies = messages.puts(0, count)
    seconds = generator.run(bench.member.endpoint, messages.PUT_PATH, bodies, connections=16, in_flight=64)
    checked.check_revision(bench, before, count)
    return Sample(count / seconds)


def _txn(bench: Bench) -> Sample:
    load = Load(bench.sizes.txns, clients=8, streams=4)
    return checked.rate(checked.write(bench, load, messages.TXN_PATH, messages.txn(0)), messages.KEYS_IN_TXN)


def _get_one(bench: Bench) -> Sample:
    return checked.latency(checked.read(bench, _one(bench), messages.get(0)))


def _get_many(bench: Bench) -> Sample:
    return checked.rate(checked.read(bench, checked.many(bench), messages.get(0)))


def _get_serializable(bench: Bench) -> Sample:
    return checked.rate(checked.read(bench, checked.many(bench), messages.get(0, serializable=True)))


def _span(bench: Bench) -> Sample:
    first = bench.sizes.keys // 2
    return checked.latency(checked.read(bench, _queries(bench), messages.span(first, first + 10_000)))


def _page(bench: Bench) -> Sample:
    return checked.latency(checked.read(bench, _queries(bench), messages.page(500)))


def _count(bench: Bench) -> Sample:
    return checked.latency(checked.read(bench, _queries(bench), messages.count()))


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

STANDING: Final = (
    Row(
        "watch-idle-rss",
        "RSS growth with 100,000 idle watchers on distinct keys",
        COST,
        "MiB",
        1.0,
        watches.idle_rss,
    ),
    Row(
        "watch-idle-put",
        "put, 1,024 in flight, beside 100,000 idle watchers on other keys",
        RATE,
        "/s",
        1.0,
        watches.idle_puts,
    ),
    Row(
        "watch-paced",
        "1,000 watchers on a prefix, 50 puts/s: p50 from put to delivery",
        COST,
        "ms",
        1.0,
        watches.paced,
    ),
    Row(
        "watch-saturated",
        "1,000 watchers on a prefix, 32 puts ahead of delivery: events",
        RATE,
        "/s",
        1.0,
        watches.saturated,
    ),
    Row("keepalive-1024", "lease keepalives, 1,000 leases, 1,024 in flight", RATE, "/s", 1.0, leases.renewed),
    Row(
        "lease-expiry",
        "put, 500/s, while 10,000 leases with a key each expire: p99",
        COST,
        "ms",
        1.0,
        leases.expiring,
    ),
)
"""Rows of standing streams on a fresh store of their own, every round; memory first, while it is fresh."""

PARTS: Final = {
    "small": SMALL,
    "standing": STANDING,
    "cluster": CLUSTER,
    "v2": V2,
    "large": (*LOADING, *LARGE),
}
"""By the names under which ``--only`` takes them."""

ROWS: Final = tuple(row for part in PARTS.values() for row in part)
