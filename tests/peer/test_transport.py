"""Two transports in one process, over real sockets, on both event loops."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest
import uvloop

from kvorum import limits
from kvorum.peer.codec import MessageDecoder, frame, link_heartbeat
from kvorum.raft.types import (
    MSG_APP,
    MSG_APP_RESP,
    MSG_HEARTBEAT,
    MSG_HUP,
    MSG_PROP,
    MSG_VOTE,
    Entry,
    Message,
)
from kvorum.urls import parse_url
from tests.peer.station import Station
from tests.support.ports import free_port

A: Final = 0xA
B: Final = 0xB
Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a test on one of the loops."""
    return uvloop.run if request.param == "uvloop" else asyncio.run


@asynccontextmanager
async def pair() -> AsyncIterator[tuple[Station, Station]]:
    """Two members that know each other, all four streams connected."""
    async with Station(A) as a, Station(B) as b:
        a.transport.add_peer(B, [b.url])
        b.transport.add_peer(A, [a.url])
        for one in (a, b):
            await one.until(lambda one=one: len(one.logged("established TCP streaming")) == 4)  # type: ignore[misc]
        yield a, b


def vote(to: int, from_: int, term: int = 2) -> Message:
    return Message(MSG_VOTE, to=to, from_=from_, term=term)


def append(index: int, count: int = 1, size: int = 1) -> Message:
    follow = [Entry(2, index + 1 + n, 0, bytes(size)) for n in range(count)]
    return Message(MSG_APP, to=B, from_=A, term=2, log_term=2, index=index, entries=follow, commit=index)


def test_messages_arrive_in_order_both_ways(run: Run) -> None:
    async def talk() -> None:
        async with pair() as (a, b):
            said = [append(index) for index in range(200)]
            a.transport.send(said[:100])
            a.transport.send(said[100:])
            answers = [Message(MSG_APP_RESP, to=A, from_=B, term=2, index=index) for index in range(200)]
            b.transport.send(answers)
            await b.until(lambda: len(b.received) == 200)
            await a.until(lambda: len(a.received) == 200)
            assert b.received == said
            assert a.received == answers
            assert a.transport.active_peers() == 1
            assert a.transport.active_since(B) is not None
            assert a.transport.active_since(0xC) is None
            assert a.transport.figures.sent_bytes["b"] == b.transport.figures.received_bytes["a"] > 0
            assert not a.lost

    run(talk())


def test_large_messages_arrive(run: Run) -> None:
    async def talk() -> None:
        async with pair() as (a, b):
            said = [append(0, 3, 1_000_000), append(3, 2, 5_000_000), append(5)]
            a.transport.send(said)
            await b.until(lambda: len(b.received) == 3)
            assert b.received == said

    run(talk())


def test_what_is_sent_together_is_one_chunk(run: Run) -> None:
    async def talk() -> None:
        async with Station(A) as a:
            a.transport.add_peer(B, [a.url])
            stream = await a.dial(B)
            assert b"200 OK" in stream.head
            said = [vote(B, A, term) for term in range(1, 50)]
            a.transport.send(said)
            assert MessageDecoder().feed(await stream.chunk()) == said

    run(talk())


def test_messages_to_nobody_and_local_ones_are_dropped(run: Run) -> None:
    async def talk() -> None:
        async with pair() as (a, b):
            hup = Message(MSG_HUP, to=B, from_=A)
            a.transport.send([vote(0xC, A), Message(MSG_VOTE), hup, vote(B, A)])
            await b.until(lambda: bool(b.received))
            assert b.received == [vote(B, A)]

    run(talk())


def test_a_message_for_another_member_is_not_taken(run: Run) -> None:
    async def talk() -> None:
        async with Station(A) as a, Station(B) as b:
            a.transport.add_remote(0xC, [b.url])  # where b is
            a.transport.send([vote(0xC, A)])
            await b.until(lambda: bool(b.logged("rejected Raft message to mismatch member")))
            await a.until(lambda: a.lost == [0xC])
            assert not b.received
            assert not a.told_removed

    run(talk())


def test_without_streams_messages_go_by_post(run: Run) -> None:
    async def talk() -> None:
        async with Station(A) as a, Station(B) as b:
            a.transport.add_remote(B, [b.url])
            a.transport.send([vote(B, A, term) for term in range(1, 21)])
            await b.until(lambda: len(b.received) == 20)
            assert {message.term for message in b.received} == set(range(1, 21))
            assert len(b.http.connections) <= limits.PEER_PIPELINE_CONNECTIONS
            # b has learnt of a from the requests' headers, and can answer
            b.transport.send([vote(A, B)])
            await a.until(lambda: a.received == [vote(A, B)])

    run(talk())


def test_too_many_posts_are_dropped(run: Run) -> None:
    async def talk() -> None:
        async with Station(A) as a:
            a.transport.add_remote(B, [f"http://127.0.0.1:{free_port()}"])
            most = limits.PEER_PIPELINE_QUEUE
            a.transport.send([vote(B, A)] * (most + 10))
            assert len(a.logged("dropped internal Raft message")) == 10
            await a.until(lambda: a.lost.count(B) == most)

    run(talk())


def test_a_stream_dialled_again_replaces_the_old_one(run: Run) -> None:
    async def talk() -> None:
        async with Station(A) as a:
            a.transport.add_peer(B, [a.url])
            old = await a.dial(B)
            new = await a.dial(B)
            assert await old.chunk() == b""  # ended as a response ends
            a.transport.send([vote(B, A)])
            assert await new.chunk() == frame(vote(B, A))
            assert len(a.logged("closed TCP streaming connection with remote peer")) == 1
            new.close()
            await a.until(lambda: bool(a.logged("lost TCP streaming connection with remote peer")))

    run(talk())


@pytest.mark.parametrize(
    "more", [b"GET /raft/probing HTT", b"GET /raft/probing HTTP/1.1\r\nHost: x\r\n\r\n", b"junk"]
)
def test_what_follows_a_request_for_a_stream_is_nothing(run: Run, more: bytes) -> None:
    async def talk() -> None:
        async with Station(A) as a:
            a.transport.add_peer(B, [a.url])
            stream = await a.dial(B, more=more)
            a.transport.send([vote(B, A)])
            assert await stream.chunk() == frame(vote(B, A))
            stream.writer.write(more * 1000)
            a.transport.send([vote(B, A)])
            assert await stream.chunk() == frame(vote(B, A))
            assert not a.http.unfinished
            assert a.http.buffered_bytes == 0

    run(talk())


def test_a_silent_stream_is_kept_alive(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PEER_HEARTBEAT_SECONDS", 0.02)

    async def talk() -> None:
        async with Station(A) as a:
            a.transport.add_peer(B, [a.url])
            message, msgapp = await a.dial(B), await a.dial(B, kind="msgapp")
            assert await message.chunk() == frame(link_heartbeat())
            assert await msgapp.chunk() == b"\x00"

    run(talk())


def test_a_stream_without_heartbeats_is_lost(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PEER_READ_SECONDS", 0.1)

    async def talk() -> None:
        async with pair() as (a, _):  # whose heartbeats come every 1.7 s
            await a.until(lambda: bool(a.logged('"error":"read: i/o timeout"')))
            assert a.logged("peer became inactive (message send to peer failed)")
            await a.until(lambda: len(a.logged("established TCP streaming")) > 4)

    run(talk())


def test_a_peer_that_does_not_read_costs_a_bounded_queue(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PEER_HEARTBEAT_SECONDS", 0.05)
    monkeypatch.setattr(limits, "PEER_WRITE_SECONDS", 0.3)

    async def talk() -> None:
        async with Station(A) as a:
            a.transport.add_peer(B, [a.url])
            await a.dial(B, buffer_bytes=4096)
            proposal = Message(MSG_PROP, to=B, from_=A, entries=[Entry(0, 0, 0, bytes(1_000_000))])
            fit = limits.PEER_STREAM_QUEUE_BYTES // 1_000_000
            for _ in range(fit + 20):
                a.transport.send([proposal])
            dropped = len(a.logged("dropped internal Raft message"))
            assert 0 < dropped <= 20
            assert a.lost == [B] * dropped
            writer = a.transport.peer(B)
            assert writer is not None
            await a.until(lambda: not writer.message_writer.is_working)
            assert a.lost == [B] * (dropped + 1)  # and what waited is lost with the stream
            assert a.logged("i/o timeout")

    run(talk())


def test_messages_that_waited_go_on_when_the_peer_reads_again(run: Run) -> None:
    async def talk() -> None:
        async with Station(A) as a:
            a.transport.add_peer(B, [a.url])
            stream = await a.dial(B, buffer_bytes=4096)
            said = [append(index, 1, 100_000) for index in range(100)]
            for message in said:
                a.transport.send([message])
            decoder = MessageDecoder(1 << 30)
            received: list[Message] = []
            while len(received) < len(said):
                received += decoder.feed(await stream.chunk())
            assert received == said
            assert not a.lost

    run(talk())


def test_small_messages_in_a_queue_are_counted(run: Run) -> None:
    async def talk() -> None:
        async with Station(A) as a:
            a.transport.add_peer(B, [a.url])
            await a.dial(B, buffer_bytes=4096)
            a.transport.send([append(0, 1, 8_000_000)])
            a.transport.send([vote(B, A)] * (limits.PEER_STREAM_QUEUE + 5))
            assert a.lost == [B] * 5

    run(talk())


def test_the_next_url_is_tried_and_a_peer_comes_back(run: Run) -> None:
    async def talk() -> None:
        dead = f"http://127.0.0.1:{free_port()}"
        port = free_port()
        url = parse_url(f"http://127.0.0.1:{port}")
        async with Station(A) as a:
            a.transport.add_peer(B, [dead, url])
            for _ in range(2):
                before = len(a.logged("established TCP streaming"))
                async with Station(B, url=str(url)) as b:
                    b.transport.add_peer(A, [a.url])
                    await a.until(lambda: len(a.logged("established TCP streaming")) == before + 4)  # noqa: B023
                    assert a.transport.active_peers() == 1
                await a.until(lambda: a.transport.active_peers() == 0)
            assert a.transport.figures.disconnected["b"] == 2

    run(talk())


def test_new_urls_are_used_for_the_next_dial(run: Run) -> None:
    async def talk() -> None:
        async with Station(A) as a, Station(B) as b:
            b.transport.add_peer(A, [a.url])
            a.transport.add_peer(B, [f"http://127.0.0.1:{free_port()}"])
            await a.until(lambda: bool(a.logged("failed to dial")))
            a.transport.update_peer(B, [b.url])
            await a.until(lambda: len(a.logged("established TCP streaming")) == 4)
            a.transport.update_peer(0xC, [b.url])  # nobody

    run(talk())


def test_a_removed_peer_is_let_go(run: Run) -> None:
    async def talk() -> None:
        async with pair() as (a, b):
            a.transport.remove_peer(B)
            a.removed.add(B)
            assert a.transport.peers == ()
            a.transport.remove_peer(B)  # again
            await b.until(lambda: b.told_removed > 0)  # its dials are answered 410
            assert a.logged("rejected stream from remote peer because it was removed")
            b.transport.send([vote(A, B)])  # a POST now
            await a.until(lambda: bool(a.logged("rejected Raft message from removed member")))
            await b.until(lambda: b.lost == [A])
            assert not a.received

    run(talk())


def test_another_clusters_member_is_refused(run: Run) -> None:
    async def talk() -> None:
        async with Station(A) as a, Station(B, cluster_id=0xC1) as b:
            a.transport.add_peer(B, [b.url])
            b.transport.add_peer(A, [a.url])
            await b.until(lambda: bool(b.logged("ignored by remote peer due to cluster ID mismatch")))
            assert a.logged("request cluster ID mismatch")
            a.transport.send([Message(MSG_HEARTBEAT, to=B, from_=A, term=1)])
            await a.until(lambda: bool(a.logged("request sent was ignored due to cluster ID mismatch")))
            assert a.transport.active_peers() == b.transport.active_peers() == 0

    run(talk())


def test_who_announces_themselves_is_remembered_within_bounds(run: Run) -> None:
    async def talk() -> None:
        async with Station(A) as a:
            a.removed.add(1)
            for member in range(1, limits.PEER_REMOTES + 5):
                async with Station(B) as b:
                    headers = [*b.transport.identity.headers]
                    headers[0] = ("X-Server-From", f"{member:x}")
                    await b.transport.client.post(a.url, "/raft", b"", headers=headers)
            added = a.logged("added new remote peer")
            assert len(added) == limits.PEER_REMOTES + 2  # all but the removed one and ourselves
            a.transport.send([vote(2, A), vote(limits.PEER_REMOTES + 4, A)])
            assert len(a.logged("unknown remote peer target")) == 1  # the first has made room

    run(talk())
