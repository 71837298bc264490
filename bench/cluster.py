"""Rows of three members on this machine: load through the leader and through a follower, and failover.

Everything shares the machine's cores: three servers, and the load. The ratio is what counts, here more than
anywhere. Failover is the time from ``kill -9`` of the leader to the first acknowledged put, of puts that are
sent every few milliseconds through both survivors: an attempt that was forwarded to the dead leader is lost,
and must not be what is waited for.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

from tests.support.client import Client
from tests.support.cluster import Cluster
from tests.support.failover import first_acknowledged
from tests.support.process import Member

from bench import checked, messages
from bench.h2load import Load, percentiles
from bench.model import COST, RATE, Bench, Row, Sample


def put_one(bench: Bench) -> Sample:
    return checked.latency(checked.write(bench, _one(bench), messages.PUT_PATH, messages.put(0)))


def put_many(bench: Bench) -> Sample:
    return checked.rate(checked.write(bench, checked.many(bench), messages.PUT_PATH, messages.put(0)))


def get_one(bench: Bench) -> Sample:
    return checked.latency(checked.read(bench, _one(bench), messages.get(0)))


def get_many(bench: Bench) -> Sample:
    return checked.rate(checked.read(bench, checked.many(bench), messages.get(0)))


def get_one_serializable(bench: Bench) -> Sample:
    return checked.latency(checked.read(bench, _one(bench), messages.get(0, serializable=True)))


def get_many_serializable(bench: Bench) -> Sample:
    return checked.rate(checked.read(bench, checked.many(bench), messages.get(0, serializable=True)))


def _one(bench: Bench) -> Load:
    return Load(bench.sizes.single, clients=1, streams=1)


def through_leader(measure: Callable[[Bench], Sample]) -> Callable[[Bench], Sample]:
    """Measure at the leader of the bench's cluster."""
    return lambda bench: _at(bench, _cluster(bench).wait_leader(), measure)


def through_follower(measure: Callable[[Bench], Sample]) -> Callable[[Bench], Sample]:
    """Measure at one that follows."""
    return lambda bench: _at(bench, _cluster(bench).followers()[0], measure)


def _at(bench: Bench, member: Member, measure: Callable[[Bench], Sample]) -> Sample:
    _cluster(bench).wait_level()
    sizes = replace(bench.sizes, many=bench.sizes.cluster_many, single=bench.sizes.cluster_single)
    with Client(member.endpoint, bench.client.timeout_seconds) as client:
        return measure(replace(bench, member=member, client=client, sizes=sizes))


def _cluster(bench: Bench) -> Cluster:
    assert bench.cluster is not None, "a row of a cluster"
    return bench.cluster


def failover(bench: Bench) -> Sample:
    """Kill leader after leader; the median time until a put is acknowledged again, in ms."""
    cluster = _cluster(bench)
    took = []
    for _ in range(bench.sizes.failovers):
        leader = cluster.wait_leader()
        cluster.wait_level()
        survivors = [Client(member.endpoint) for member in cluster.followers()]
        try:
            for client in survivors:
                client.get(b"failover")  # connected, and warm
            killed = time.monotonic()
            leader.kill()
            took.append((first_acknowledged(survivors, b"failover", messages.VALUE) - killed) * 1000)
        finally:
            for client in survivors:
                client.close()
        leader.start()
    p50, p99 = percentiles(took)
    return Sample(statistics.median(took), p50, p99, max(took))


_PLACES: Final = (
    ("leader", "through the leader", through_leader),
    ("follower", "through a follower", through_follower),
)
_LOADS: Final = (
    ("put", "put", put_many, put_one),
    ("get", "linearizable get", get_many, get_one),
    ("get-serializable", "serializable get", get_many_serializable, get_one_serializable),
)


def _loads() -> Iterator[Row]:
    for place, where, through in _PLACES:
        for name, what, many, one in _LOADS:
            title = f"three members, {where}: {what}"
            yield Row(
                f"cluster-{name}-1024-{place}", f"{title}, 1,024 in flight", RATE, "/s", 1.0, through(many)
            )
            yield Row(
                f"cluster-{name}-1-{place}", f"{title}, 1 in flight: p50", COST, "ms", 1.0, through(one)
            )


CLUSTER: Final = (
    *_loads(),
    Row(
        "cluster-failover",
        "three members: kill -9 of the leader to the first acknowledged put: median",
        COST,
        "ms",
        1.0,
        failover,
    ),
)
"""Rows on three fresh members, every round; the leaders are killed last."""
