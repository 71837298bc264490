"""Snapshots to one peer: a MsgSnap and the database after it, in one POST.

Raft asks for one at a time; the database is opened only when that is sent, so that it is as new as can be,
and is read as fast as the peer takes it. Source of behaviour: etcd ``rafthttp/snapshot_sender.go``.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Final, final

from kvorum import limits
from kvorum.golang import human_bytes as human_bytes
from kvorum.peer.client import ClientResponse
from kvorum.peer.codec import frame
from kvorum.peer.link import Link, MemberRemovedError
from kvorum.peer.pipeline import check_post
from kvorum.peer.surroundings import OutgoingSnapshot
from kvorum.raft.types import Message, Snapshot
from kvorum.urls import Url

SNAPSHOT_PATH: Final = "/raft/snapshot"
SOURCE: Final = "sendMsgSnap"


@final
class SnapshotSender:
    """Sends a peer the snapshots that Raft asks for; each is reported once."""

    def __init__(self, link: Link) -> None:
        self._link: Final = link
        self._task: asyncio.Task[None] | None = None

    def send(self, message: Message) -> None:
        """Send a snapshot in place of the one in ``message``; one under way already goes on instead."""
        if self._task is None or self._task.done():
            self._task = self._link.tasks.spawn(self._send(message))

    def stop(self) -> None:
        """Give up what is under way."""
        if self._task is not None:
            self._task.cancel()

    async def _send(self, message: Message) -> None:
        link = self._link
        snapshot: OutgoingSnapshot | None = None
        fields: dict[str, object] = {"snapshot-index": message.snapshot.metadata.index,
                                     "remote-peer-id": link.name}  # fmt: skip
        url = link.picker.pick()
        link.figures.snapshots_sending[link.name] += 1
        started = asyncio.get_running_loop().time()
        try:
            snapshot = await link.surroundings.open_snapshot()
            fields |= {"snapshot-index": snapshot.snapshot.metadata.index, "bytes": snapshot.size,
                       "size": human_bytes(snapshot.size)}  # fmt: skip
            link.log.info("sending database snapshot", fields)
            await self._post(url, message, snapshot)
        except Exception as error:
            link.log.warn("failed to send database snapshot", {**fields, "error": error})
            self._failed(url, error)
        else:
            link.log.info("sent database snapshot", fields)
            self._succeeded(snapshot.size, asyncio.get_running_loop().time() - started)
        finally:
            link.figures.snapshots_sending[link.name] -= 1
            if snapshot is not None:
                snapshot.close()

    async def _post(self, url: Url, message: Message, snapshot: OutgoingSnapshot) -> None:
        """Upload. Raises OSError or MemberRemovedError, or what the snapshot's reading raises."""
        link = self._link
        head = frame(with_snapshot(message, snapshot.snapshot))
        async with await link.posts.open(
            "POST",
            url,
            SNAPSHOT_PATH,
            headers=(("Content-Type", "application/octet-stream"), *link.identity.headers),
            body=_body(head, snapshot),
            size=len(head) + snapshot.size,
            answer_seconds=limits.PEER_SNAPSHOT_ANSWER_SECONDS,
        ) as response:
            async with asyncio.timeout(limits.PEER_READ_SECONDS):
                body = await response.read_all(limits.PEER_RESPONSE_HEADER_BYTES)
            check_post(link, ClientResponse(response.head, body), f"{url}{SNAPSHOT_PATH}")

    def _failed(self, url: Url, error: Exception) -> None:
        link = self._link
        link.picker.unreachable(url)
        link.status.deactivate("post", SOURCE, error)
        link.figures.sent_failures[link.name] += 1
        link.figures.snapshot_send_failures[link.name] += 1
        if isinstance(error, MemberRemovedError):
            link.surroundings.removed_from_cluster()
        link.surroundings.unreachable(link.peer_id)
        link.surroundings.snapshot_sent(link.peer_id, False)

    def _succeeded(self, size: int, seconds: float) -> None:
        link = self._link
        link.status.activate()
        link.figures.sent_bytes[link.name] += size
        link.figures.snapshots_sent[link.name] += 1
        link.figures.snapshot_send_seconds[link.name].observe(seconds)
        link.surroundings.snapshot_sent(link.peer_id, True)


async def _body(head: bytes, snapshot: OutgoingSnapshot) -> AsyncIterator[bytes]:
    yield head
    async for piece in snapshot.pieces():
        yield piece


def with_snapshot(message: Message, snapshot: Snapshot) -> Message:
    """Return a MsgSnap with another snapshot in it."""
    return Message(
        message.type,
        to=message.to,
        from_=message.from_,
        term=message.term,
        log_term=message.log_term,
        index=message.index,
        entries=message.entries,
        commit=message.commit,
        snapshot=snapshot,
        reject=message.reject,
        reject_hint=message.reject_hint,
        context=message.context,
    )
