"""The order of things: parts, rounds, and which server's turn it is."""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, TypeAlias

from tests.support import process
from tests.support.client import Client
from tests.support.cluster import forming
from tests.support.process import Member, Program

from bench import v2
from bench.cluster import CLUSTER
from bench.model import Bench, Row, Sample, Sizes
from bench.rows import LARGE, LOADING, SMALL, STANDING

SERVERS: Final[Mapping[str, Callable[[], Program]]] = {"etcd": process.etcd, "kvorum": process.kvorum}

Samples: TypeAlias = dict[str, dict[str, list[Sample]]]
"""By row name, then by server: one sample a round."""
Say: TypeAlias = Callable[[str], None]

_CALL_SECONDS: Final = 120.0


def run(
    rows: Sequence[Row], servers: Sequence[str], rounds: int, sizes: Sizes, work: Path, say: Say
) -> Samples:
    """Measure the rows; ``work`` holds both servers' data while it runs and is emptied."""
    samples: Samples = {row.name: {server: [] for server in servers} for row in rows}
    work.mkdir(parents=True, exist_ok=True)
    try:
        small = [row for row in SMALL if row in rows]
        if small:
            _run_small(small, servers, rounds, sizes, work, samples, say)
        standing = [row for row in STANDING if row in rows]
        if standing:
            _run_standing(standing, servers, rounds, sizes, work, samples, say)
        cluster = [row for row in CLUSTER if row in rows]
        if cluster:
            _run_cluster(cluster, servers, rounds, sizes, work, samples, say)
        old = [row for row in v2.V2 if row in rows]
        if old:
            _run_v2(old, servers, rounds, sizes, work, samples, say)
        if any(row in rows for row in (*LOADING, *LARGE)):
            _run_large(rows, servers, rounds, sizes, work, samples, say)
    finally:
        shutil.rmtree(work)
    return samples


def turns(servers: Sequence[str], rounds: int) -> Iterator[tuple[int, str]]:
    """Yield round and server; who goes first alternates."""
    for number in range(rounds):
        for server in servers if number % 2 == 0 else reversed(servers):
            yield number, server


@contextmanager
def _bench(member: Member, sizes: Sizes, scratch: Path, *, start: bool = True) -> Iterator[Bench]:
    """Give a bench with the member running (unless a row is to start it); the member ends with it."""
    with closing(member), Client(member.endpoint, _CALL_SECONDS) as client:
        if start:
            member.start()
        yield Bench(member, client, sizes, scratch)


def _measure(rows: Sequence[Row], bench: Bench, server: str, samples: Samples, say: Say) -> None:
    for row in rows:
        sample = row.measure(bench)
        samples[row.name][server].append(sample)
        say(f"  {server:7} {row.name:22} {sample.value:12,.2f} {row.unit}")


def _run_small(
    rows: Sequence[Row],
    servers: Sequence[str],
    rounds: int,
    sizes: Sizes,
    work: Path,
    samples: Samples,
    say: Say,
) -> None:
    for number, server in turns(servers, rounds):
        say(f"small store, round {number + 1}: {server}")
        data = work / f"{server}-small"
        with _bench(Member(SERVERS[server](), data), sizes, work) as bench:
            SMALL[0].measure(bench)  # warms up, and the gets need the key
            _measure(rows, bench, server, samples, say)
        shutil.rmtree(data)


def _run_standing(
    rows: Sequence[Row],
    servers: Sequence[str],
    rounds: int,
    sizes: Sizes,
    work: Path,
    samples: Samples,
    say: Say,
) -> None:
    for number, server in turns(servers, rounds):
        say(f"watches and leases, round {number + 1}: {server}")
        data = work / f"{server}-standing"
        with _bench(Member(SERVERS[server](), data), sizes, work) as bench:
            _measure(rows, bench, server, samples, say)
        shutil.rmtree(data)


def _run_cluster(
    rows: Sequence[Row],
    servers: Sequence[str],
    rounds: int,
    sizes: Sizes,
    work: Path,
    samples: Samples,
    say: Say,
) -> None:
    for number, server in turns(servers, rounds):
        say(f"three members, round {number + 1}: {server}")
        data = work / f"{server}-cluster"
        data.mkdir()
        with forming(data, [SERVERS[server]()] * 3) as cluster:
            leader = cluster.wait_leader()
            with Client(leader.endpoint, _CALL_SECONDS) as client:
                bench = Bench(leader, client, sizes, work, cluster=cluster)
                CLUSTER[0].measure(bench)  # warms up, and the gets need the key
                _measure(rows, bench, server, samples, say)
        shutil.rmtree(data)


def _run_v2(
    rows: Sequence[Row],
    servers: Sequence[str],
    rounds: int,
    sizes: Sizes,
    work: Path,
    samples: Samples,
    say: Say,
) -> None:
    if not v2.available():
        say(v2.MISSING)
        return
    programs = {**SERVERS, "etcd": process.etcd34}
    for number, server in turns(servers, rounds):
        say(f"v2, round {number + 1}: {server}")
        data = work / f"{server}-v2"
        with _bench(Member(programs[server](), data, flags=v2.FLAGS), sizes, work) as bench:
            v2.V2[0].measure(bench)  # warms up, and the gets need the key
            _measure(rows, bench, server, samples, say)
        shutil.rmtree(data)


def _run_large(
    rows: Sequence[Row],
    servers: Sequence[str],
    rounds: int,
    sizes: Sizes,
    work: Path,
    samples: Samples,
    say: Say,
) -> None:
    members = {server: Member(SERVERS[server](), work / f"{server}-large") for server in servers}
    for server, member in members.items():
        say(f"loading {sizes.keys:,} keys: {server}")
        with _bench(member, sizes, work) as bench:
            for row in LOADING:  # the store has to be loaded, asked for or not
                sample = row.measure(bench)
                say(f"  {server:7} {row.name:22} {sample.value:12,.2f} {row.unit}")
                if row in rows:
                    samples[row.name][server].append(sample)
    large = [row for row in LARGE if row in rows]
    for number, server in turns(servers, rounds if large else 0):
        say(f"large store, round {number + 1}: {server}")
        with _bench(members[server], sizes, work, start=LARGE[0] not in large) as bench:
            _measure(large, bench, server, samples, say)
