"""Beside a real etcd: a cluster of two in which the other member is our transport and the test its Raft."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest
from prometheus_client.parser import text_string_to_metric_families

from kvorum.metrics import Metrics
from kvorum.metrics.catalogue import CATALOGUE
from kvorum.peer.codec import EntryFrames, MessageDecoder, MessageEncoder, MsgAppDecoder, MsgAppEncoder
from kvorum.raft.types import (
    MSG_APP,
    MSG_APP_RESP,
    MSG_HEARTBEAT,
    MSG_HEARTBEAT_RESP,
    MSG_PRE_VOTE,
    MSG_PRE_VOTE_RESP,
    MSG_VOTE,
    MSG_VOTE_RESP,
    Entry,
    Message,
)
from kvorum.server.ids import cluster_id, member_id
from kvorum.urls import parse_url
from tests.http.test_endpoints import ask
from tests.peer.station import Station
from tests.peer.tap import Tap, chunks
from tests.support.ports import free_port
from tests.support.process import Member, Program, etcd, etcd34

PATIENT: Final = (
    "--election-timeout=10000",
    "--heartbeat-interval=100",
    "--initial-election-tick-advance=false",
)
"""An etcd that does not campaign while a test lasts."""
EAGER: Final = ("--election-timeout=1000", "--heartbeat-interval=100")


class Other:
    """The other member: a station, and what it knows of the etcd beside it."""

    def __init__(self, station: Station, member: Member, peer: int) -> None:
        self.station: Final = station
        self.member: Final = member
        self.peer: Final = peer
        self._seen = 0

    def say(self, kind: int, **fields: object) -> None:
        """Send etcd a message."""
        message = Message(kind, to=self.peer, from_=self.station.member_id, **fields)  # type: ignore[arg-type]
        self.station.transport.send([message])

    async def hear(self, kind: int, holds: Callable[[Message], bool] = lambda _: True) -> Message:
        """Wait for etcd's next message of a kind."""
        found: list[Message] = []

        def look() -> bool:
            received = self.station.received
            while self._seen < len(received) and not found:
                message = received[self._seen]
                self._seen += 1
                if message.type == kind and holds(message):
                    found.append(message)
            return bool(found)

        await self.station.until(look)
        return found[0]

    async def follow(self, index: int) -> None:
        """Vote for etcd, as often as it asks, and take what it appends, until ``index`` is committed."""
        while True:
            message = await self.hear_any()
            term = message.term
            if message.type in (MSG_PRE_VOTE, MSG_VOTE):
                answer = MSG_VOTE_RESP if message.type == MSG_VOTE else MSG_PRE_VOTE_RESP
                self.say(answer, term=term)
            elif message.type == MSG_HEARTBEAT:
                self.say(MSG_HEARTBEAT_RESP, term=term, context=message.context)
            elif message.type == MSG_APP:
                self.say(MSG_APP_RESP, term=term, index=message.index + len(message.entries))
            if message.commit >= index:
                return

    async def hear_any(self) -> Message:
        """Wait for etcd's next message."""
        await self.station.until(lambda: self._seen < len(self.station.received))
        self._seen += 1
        return self.station.received[self._seen - 1]


@asynccontextmanager
async def beside(
    directory: Path,
    flags: tuple[str, ...],
    program: Program,
    *,
    tapped: bool = False,
    tls: tuple[ssl.SSLContext, ssl.SSLContext] | None = None,
) -> AsyncIterator[tuple[Other, Tap]]:
    """Start an etcd of two members and be the other one, with all streams connected."""
    scheme = "http" if tls is None else "https"
    ours, url = (f"{scheme}://127.0.0.1:{free_port()}" for _ in range(2))
    urls = (f"--listen-peer-urls={url}", f"--initial-advertise-peer-urls={url}")
    member = Member(program, directory / "etcd", flags=(*flags, *urls), name="m1")
    member.initial_cluster = f"m1={url},m2={ours}"
    theirs, own = (member_id([one], "etcd-cluster") for one in (url, ours))
    cluster = cluster_id([theirs, own])
    try:
        async with Tap(parse_url(url).port) as tap, Station(own, cluster, ours, tls=tls) as station:
            member.start(wait=False)
            station.transport.add_peer(theirs, [f"http://127.0.0.1:{tap.port}" if tapped else url])
            await station.until(lambda: len(station.logged("established TCP streaming")) == 4)
            yield Other(station, member, theirs), tap
    finally:
        member.close()


@pytest.mark.parametrize("program", [etcd, etcd34], ids=["3.5", "3.4"])
def test_etcd_is_elected_and_replicates_to_us(tmp_path: Path, program: Callable[[], Program]) -> None:
    async def talk() -> None:
        async with beside(tmp_path, (*EAGER, "--pre-vote"), program(), tapped=True) as (other, tap):
            await other.follow(5)  # its first entry as leader, then the cluster's version and its attributes
            received = other.station.received
            asked = next(message for message in received if message.type == MSG_VOTE)
            assert (asked.from_, asked.log_term, asked.index) == (other.peer, 1, 2)
            first = next(message for message in received if message.type == MSG_APP)
            assert (first.log_term, first.index) == (1, 2)
            assert [entry.index for entry in first.entries] == [3]
            assert other.station.transport.active_peers() == 1
            _compare_with_captured(other, tap)

    asyncio.run(talk())


def _compare_with_captured(other: Other, tap: Tap) -> None:
    """What etcd has sent, decoded and encoded again, is what it has sent."""
    us = f"{other.station.member_id:x}"
    message_bytes = chunks(bytes(tap.answers[f"GET /raft/stream/message/{us} HTTP/1.1"]))
    msgapp_bytes = chunks(bytes(tap.answers[f"GET /raft/stream/msgapp/{us} HTTP/1.1"]))
    said = MessageDecoder().feed(message_bytes)
    encoder = MessageEncoder()
    assert {MSG_PRE_VOTE, MSG_VOTE} <= {message.type for message in said}
    assert encoder.encode(said) == message_bytes.replace(encoder.heartbeat, b"")
    decoder = MsgAppDecoder(other.station.member_id, other.peer)
    appended = [
        message for n in range(len(msgapp_bytes)) for message in decoder.feed(msgapp_bytes[n : n + 1])
    ]
    assert sum(len(message.entries) for message in appended) >= 2
    again = MsgAppEncoder(EntryFrames()).encode(appended)
    # The link's heartbeat is a single zero, so it cannot be cut out: it may only stand between messages.
    at = 0
    for message in appended:
        whole = _piece(again, message, appended)
        while msgapp_bytes[at] == 0:
            at += 1
        assert msgapp_bytes[at : at + len(whole)] == whole
        at += len(whole)
    assert not msgapp_bytes[at:].strip(b"\x00")


def _piece(again: bytes, message: Message, said: list[Message]) -> bytes:
    """The part of ``again`` that is ``message``."""
    at = next(n for n, one in enumerate(said) if one is message)
    before = MsgAppEncoder(EntryFrames()).encode(said[:at])
    upto = MsgAppEncoder(EntryFrames()).encode(said[: at + 1])
    assert again.startswith(upto)
    return upto[len(before) :]


@pytest.mark.parametrize("program", [etcd, etcd34], ids=["3.5", "3.4"])
def test_we_are_elected_and_replicate_to_etcd(tmp_path: Path, program: Callable[[], Program]) -> None:
    async def talk() -> None:
        async with beside(tmp_path, PATIENT, program()) as (other, _):
            other.say(MSG_VOTE, term=2, log_term=1, index=2)
            vote = await other.hear(MSG_VOTE_RESP)
            assert (vote.term, vote.reject) == (2, False)
            other.say(MSG_HEARTBEAT, term=2, commit=2, context=b"read")
            answer = await other.hear(MSG_HEARTBEAT_RESP)
            assert (answer.term, answer.context) == (2, b"read")
            for count, index in ((1, 2), (3, 3), (0, 6), (200, 6)):
                follow = [Entry(2, index + 1 + n) for n in range(count)]
                other.say(
                    MSG_APP, term=2, log_term=1 if index == 2 else 2, index=index, entries=follow, commit=2
                )
                last = index + count
                taken = await other.hear(MSG_APP_RESP, lambda one, last=last: one.index == last)  # type: ignore[misc]
                assert not taken.reject
            other.say(MSG_APP, term=2, log_term=2, index=999, commit=2)
            refused = await other.hear(MSG_APP_RESP, lambda one: one.reject)
            assert (refused.index, refused.reject_hint) == (999, 206)
            assert other.member.running

    asyncio.run(talk())


def test_etcd_counts_what_we_count(tmp_path: Path) -> None:
    """The metrics of peers, by name, type, labels and buckets, against a scrape of etcd."""

    async def talk() -> None:
        async with beside(tmp_path, EAGER, etcd()) as (other, _):
            await other.follow(4)
            ready = asyncio.create_task(asyncio.to_thread(other.member.wait_ready))
            following = asyncio.create_task(other.follow(1 << 60))
            await ready
            page = (await asyncio.to_thread(ask, other.member.client_port, "/metrics"))[2].decode()
            following.cancel()
            metrics = Metrics()
            figures = other.station.transport.figures
            figures.bind(metrics)
            figures.disconnected["x"] += 1
            ours = metrics.render().decode()
            theirs = {family.name: family for family in text_string_to_metric_families(page)}
            seen = 0
            for family in text_string_to_metric_families(ours):
                if family.name in theirs and family.name.startswith("etcd_network"):
                    assert family.type == theirs[family.name].type
                    labels = {label for sample in theirs[family.name].samples for label in sample.labels}
                    assert set().union(*(sample.labels for sample in family.samples)) <= labels
                    seen += 1
            assert seen >= 3
            peers = [metric for metric in CATALOGUE.values() if metric.clustered]
            assert {metric.name for metric in peers} <= metrics.bound()

    asyncio.run(talk())
