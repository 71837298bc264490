"""Probes: what is measured of a peer that is well, and said of one that is not."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvorum import limits
from kvorum.peer.probing import health
from tests.peer.station import Station
from tests.peer.test_hostile import peer_that, saying
from tests.peer.test_transport import A, B, Run, run

__all__ = ["run"]


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PEER_PROBE_SECONDS", 0.01)
    monkeypatch.setattr(limits, "PEER_PROBE_REPORT_SECONDS", 0.02)
    monkeypatch.setattr(limits, "PEER_PROBE_TROUBLE_SECONDS", 0.02)


def probing_answer(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def test_round_trips_are_recorded(run: Run) -> None:
    async def talk() -> None:
        async with Station(A) as a, Station(B) as b:
            a.transport.add_peer(B, [b.url])
            seconds = a.transport.figures.round_trip_seconds["b"]
            # the prober tells nobody: a dial every 0.1 s is what wakes us
            await a.until(lambda: seconds.count >= 2)
            assert 0 < seconds.total < 10
            peer = a.transport.peer(B)
            assert peer is not None
            assert 0 < peer.prober.round_trip_seconds < 5
            assert not a.logged("prober")

    run(talk())


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"[]", b"null", b'{"OK":false,"Now":"2024-01-01T00:00:00Z"}', b'{"OK":true,"Now":5}',
     b'{"OK":true,"Now":"soon"}', b'{"OK":true,"Now":"0001-01-01T00:00:00"}', b"[" * 1000, b"x" * 5000],
)  # fmt: skip
def test_answers_that_are_none(run: Run, body: bytes) -> None:
    async def talk() -> None:
        async with peer_that(saying(probing_answer(body))) as (url, _), Station(A) as a:
            a.transport.add_peer(B, [url])
            await a.until(lambda: bool(a.logged("prober")))
            assert not a.logged("peer task failed")

    run(talk())


def test_a_clock_that_is_behind(run: Run) -> None:
    async def talk() -> None:
        body = b'{"OK":true,"Now":"2020-01-02T03:04:05.123456789+01:00"}'
        async with peer_that(saying(probing_answer(body))) as (url, _), Station(A) as a:
            a.transport.add_peer(B, [url])
            await a.until(lambda: bool(a.logged("prober found high clock drift")))
            line = json.loads(a.logged("prober found high clock drift")[0])
            assert line["remote-peer-id"] == "b"
            assert line["clock-drift"].endswith("s")

    run(talk())


@given(st.integers(0, 4_000_000_000_000_000_000))
def test_the_time_as_go_prints_it(nanoseconds: int) -> None:
    said = json.loads(health(nanoseconds / 1e9))["Now"]
    whole, _, fraction = said.removesuffix("Z").partition(".")
    assert not fraction.endswith("0")
    seconds = datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp() + float(f"0.{fraction or 0}")
    assert abs(seconds - nanoseconds / 1e9) < 1e-5
