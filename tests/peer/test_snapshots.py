"""Snapshots between two members: whole, cut off on either side, refused; nothing is left over."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from typing import Final

import pytest

from kvorum import limits
from kvorum.peer.codec import frame
from kvorum.peer.snapshots import human_bytes
from kvorum.raft.types import MSG_SNAP, MSG_VOTE, ConfState, Message, Snapshot, SnapshotMetadata
from tests.peer.station import Pieces, Station
from tests.peer.test_transport import A, B, Run, pair, run, vote

__all__ = ["run"]

SNAPSHOT: Final = Snapshot(b'{"v2":"store"}', SnapshotMetadata(ConfState((A, B)), 70, 3))
ASKED: Final = Message(MSG_SNAP, to=B, from_=A, term=4)


def database(size: int) -> list[bytes]:
    """Pieces that differ, so that a lost or doubled one shows."""
    step = 100_000
    count = -(-size // step)
    return [hashlib.sha256(b"%d" % n).digest() * (step // 32 + 1) for n in range(count)]


def whole_message() -> Message:
    return Message(MSG_SNAP, to=B, from_=A, term=4, snapshot=SNAPSHOT)


def test_a_snapshot_arrives_whole(run: Run) -> None:
    async def talk() -> None:
        async with pair() as (a, b):
            pieces = database(3_000_000)
            a.outgoing = outgoing = Pieces(SNAPSHOT, pieces)
            a.transport.send([ASKED, vote(B, A)])
            await a.until(lambda: bool(a.snapshots))
            assert a.snapshots == [(B, True)]
            assert b.databases == [(whole_message(), b"".join(pieces))]
            assert outgoing.closed == 1
            assert a.logged("sent database snapshot")
            assert b.logged("received and saved database snapshot")
            figures = b.transport.figures
            assert figures.snapshots_received["a"] == 1
            assert figures.snapshots_receiving["a"] == 0
            assert a.transport.figures.snapshot_send_seconds["b"].count == 1
            assert b.received == [vote(B, A)]  # the MsgSnap itself is the snapshot room's to give to Raft

    run(talk())


@pytest.mark.parametrize("fault", ["the disk failed", "short"])
def test_a_sender_that_fails_leaves_nothing(run: Run, fault: str) -> None:
    async def talk() -> None:
        async with pair() as (a, b):
            pieces = database(500_000)
            size = sum(map(len, pieces)) + 1000
            broken = OSError(fault) if fault != "short" else None
            a.outgoing = outgoing = Pieces(SNAPSHOT, pieces, size=size, fault=broken)
            a.transport.send([ASKED])
            await a.until(lambda: bool(a.snapshots))
            assert a.snapshots == [(B, False)]
            assert a.lost == [B]
            assert outgoing.closed == 1
            await b.until(lambda: bool(b.broken))
            assert b.broken[0].startswith("ConnectionError")
            assert not b.databases
            assert b.transport.figures.snapshot_receive_failures["a"] == 1
            assert a.transport.figures.snapshots_sending["b"] == 0
            # the next one is taken
            a.outgoing = Pieces(SNAPSHOT, pieces)
            a.transport.send([ASKED])
            await a.until(lambda: len(a.snapshots) == 2)
            assert a.snapshots[1] == (B, True)

    run(talk())


def test_a_receiver_that_fails_says_so(run: Run) -> None:
    async def talk() -> None:
        async with pair() as (a, b):
            b.refuse_database = OSError("no space left on device")
            a.outgoing = Pieces(SNAPSHOT, database(10_000_000))
            a.transport.send([ASKED])
            await a.until(lambda: bool(a.snapshots))
            assert a.snapshots == [(B, False)]
            assert a.logged("unexpected http status 500 while posting to")
            assert b.logged("failed to save incoming database snapshot")

    run(talk())


def test_without_a_snapshot_raft_is_told(run: Run) -> None:
    async def talk() -> None:
        async with pair() as (a, _):
            a.transport.send([ASKED])
            await a.until(lambda: a.snapshots == [(B, False)])
            a.transport.send([Message(MSG_SNAP, to=0xC, from_=A, term=4)])
            assert a.snapshots[1] == (0xC, False)

    run(talk())


def test_one_upload_at_a_time(run: Run) -> None:
    async def talk() -> None:
        async with pair() as (a, b):
            opened: list[bool] = []
            go = asyncio.Event()

            class Slow(Pieces):  # type: ignore[misc]
                async def pieces(self) -> AsyncIterator[bytes]:
                    opened.append(True)
                    await go.wait()
                    yield b"end"

            a.outgoing = Slow(SNAPSHOT, [b"end"])
            a.transport.send([ASKED])
            a.transport.send([ASKED])
            await b.until(lambda: bool(b.logged("receiving database snapshot")))
            go.set()
            await a.until(lambda: bool(a.snapshots))
            assert a.snapshots == [(B, True)]
            assert len(opened) == len(b.databases) == 1

    run(talk())


async def post_raw(station: Station, sender: int, body: bytes, claimed: int) -> bytes:
    """Upload by hand and close our side; returns what is answered."""
    reader, writer = await asyncio.open_connection(station.url.host, int(station.url.port))
    lines = ["POST /raft/snapshot HTTP/1.1", "Host: x", f"Content-Length: {claimed}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in station.transport.identity.headers]
    writer.write("\r\n".join((*lines, "", "")).encode() + body)
    try:
        if claimed > len(body):
            await station.until(lambda: bool(station.logged("receiving database snapshot")))
            writer.transport.abort()
            return b""
        return await reader.read()
    finally:
        writer.close()


def test_an_upload_that_is_cut_off(run: Run) -> None:
    async def talk() -> None:
        async with Station(B) as b:
            head = frame(whole_message())
            await post_raw(b, A, head + b"x" * 1000, len(head) + 2000)
            await b.until(lambda: bool(b.broken))
            assert b.broken[0].startswith("ConnectionError")
            assert not b.databases

    run(talk())


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        (b"", 400, b"failed to decode raft message (EOF)\n"),
        (b"\x00" * 3, 400, b"failed to decode raft message (unexpected EOF)\n"),
        (b"\x00" * 7 + b"\x09", 400, b"failed to decode raft message (EOF)\n"),
        (b"\x00" * 7 + b"\x09abc", 400, b"failed to decode raft message (unexpected EOF)\n"),
        (b"\xff" * 16, 400, b"failed to decode raft message (rafthttp: error limit exceeded)\n"),
        (frame(Message(MSG_VOTE, to=B, from_=A)), 400, b"wrong raft message type\n"),
        (
            frame(Message(MSG_SNAP, to=A, from_=A)),
            500,
            b"failed to process raft message (cannot process message to mismatch member)\n",
        ),
    ],
)
def test_uploads_that_are_none(body: bytes, status: int, text: bytes) -> None:
    async def talk() -> None:
        async with Station(B) as b:
            answer = await post_raw(b, A, body, len(body))
            assert answer.startswith(b"HTTP/1.1 %d " % status)
            assert answer.endswith(b"\r\n\r\n" + text)
            assert not b.databases

    asyncio.run(talk())


def test_uploads_are_few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PEER_SNAPSHOT_UPLOADS", 0)

    async def talk() -> None:
        async with Station(B) as b:
            answer = await post_raw(b, A, b"", 0)
            assert answer.startswith(b"HTTP/1.1 503 ")

    asyncio.run(talk())


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (9, "9 B"), (82, "82 B"), (999, "999 B"), (1000, "1.0 kB"), (20480, "20 kB"),
     (1_500_000, "1.5 MB"), (16_777_216, "17 MB"), (2_000_000_000, "2.0 GB"), (999_999, "1000 kB")],
)  # fmt: skip
def test_sizes_as_the_log_has_them(size: int, text: str) -> None:
    """The texts are those of go-humanize's ``Bytes``, which etcd's log uses."""
    assert human_bytes(size) == text
