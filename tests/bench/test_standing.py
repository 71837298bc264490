"""The rows about watches and leases, small, on both servers; and that they would notice what is wrong."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
from bench.h2load import LoadError
from bench.model import QUICK, Bench, Sizes
from bench.rows import STANDING
from bench.run import run
from bench.wire import Loop

from bench import leases, messages, watches
from kvorum.proto import rpc_pb2 as pb
from tests.support.client import Client
from tests.support.process import Member

TINY: Final[Sizes] = replace(
    QUICK,
    many=2048,
    watchers=30,
    paced_puts=5,
    watched_puts=50,
    idle=300,
    leases=40,
    keepalives=3200,
    expiring=60,
)


@pytest.mark.parametrize("server", ["etcd", "kvorum"])
def test_every_row_is_measured(tmp_path: Path, server: str) -> None:
    samples = run(STANDING, [server], 1, TINY, tmp_path / "work", lambda _: None)
    figures = {name: servers[server][0] for name, servers in samples.items()}
    assert set(figures) == {row.name for row in STANDING}
    for name in ("watch-idle-put", "watch-paced", "watch-saturated", "keepalive-1024", "lease-expiry"):
        assert figures[name].value > 0
        assert 0 < figures[name].p50_ms <= figures[name].p99_ms
    assert figures["lease-expiry"].worst_ms >= figures["lease-expiry"].p99_ms


@pytest.fixture
def bench(etcd: Member, connect: Callable[[Member], Client], tmp_path: Path) -> Bench:
    """Give a bench of etcd."""
    return Bench(etcd, connect(etcd), TINY, tmp_path)


def test_a_missing_or_doubled_event_is_noticed(bench: Bench) -> None:
    delivery = watches.Delivery(bench)
    with delivery.loop:
        delivery.saturated(10)
        delivery.check()
        assert delivery.delivered == 10 * TINY.watchers
        delivery.fleet[3].marks += 1
        with pytest.raises(LoadError, match="10 puts for 30 watchers: 301 events"):
            delivery.check()


def test_an_event_that_cannot_be_is_noticed(bench: Bench) -> None:
    delivery = watches.Delivery(bench)
    with delivery.loop:
        delivery.saturated(40)
        assert len(delivery.delays_ms()) >= 8, "the first message of each connection at least"
        now, number, message = delivery.fleet[0].samples[0]
        response = pb.WatchResponse.FromString(message)
        response.header.revision -= 1
        delivery.fleet[0].samples[0] = now, number, response.SerializeToString()
        with pytest.raises(LoadError, match="cannot be"):
            delivery.delays_ms()


def test_a_refused_watch_is_noticed(bench: Bench) -> None:
    refused = messages.framed(pb.WatchRequest(create_request=pb.WatchCreateRequest(key=b"b", range_end=b"a")))
    with pytest.raises(LoadError, match="refused"):
        watches.open_watches(bench, b"mark", [refused])


def test_an_idle_watcher_that_sees_something_is_an_error(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watches, "IDLE_PREFIX", messages.PREFIX)  # the key that is put is among them
    with pytest.raises(LoadError, match="0 events were expected"):
        watches.idle_puts(bench)


def test_a_lease_that_is_gone_is_not_renewed(bench: Bench) -> None:
    renewals = leases.Renewals(bench, [77], 5)
    with Loop([renewals.wire]) as loop:
        while not renewals.done:
            renewals.refill()
            loop.progress()
    with pytest.raises(LoadError, match="was to be renewed"):
        renewals.latencies_ms()
