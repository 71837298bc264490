"""`PeerTransport`: the other members, as this one sees them.

``send`` gives each message to its peer and then has every peer it touched write once. Nothing here waits,
blocks or remembers messages beyond the writers' bounded queues: Raft repeats what is lost. One timer keeps
the streams of all peers alive. Source of behaviour: etcd ``rafthttp/transport.go``.
"""

import asyncio
import ssl
import time
from collections.abc import Callable, Sequence
from typing import Final, final

from kvorum import limits
from kvorum.logging import Logger, hex_id
from kvorum.peer import headers
from kvorum.peer.client import PeerClient
from kvorum.peer.codec import EntryFrames
from kvorum.peer.figures import PeerFigures
from kvorum.peer.handlers import PeerHandlers
from kvorum.peer.headers import Identity
from kvorum.peer.link import Link, Tasks
from kvorum.peer.peer import Peer, Remote
from kvorum.peer.status import PeerStatus, UrlPicker
from kvorum.peer.surroundings import OutgoingSnapshot, Surroundings
from kvorum.raft.types import MSG_SNAP, NONE, Message
from kvorum.rpc.http1 import HttpServer
from kvorum.rpc.http1_types import HttpRequest
from kvorum.tls.dial import ClientTls
from kvorum.urls import Url, parse_urls

__all__ = ["Identity", "OutgoingSnapshot", "PeerTransport", "Surroundings"]


@final
class PeerTransport:
    """Carries messages and snapshots to the other members and back. Made and used on the loop.

    Args:
        identity: who we are.
        surroundings: the member.
        log: where connections are told.
        tls: for peers with ``https`` URLs; our side's certificate.
        connect_seconds: longest wait for a connection (etcd: one second and one election timeout).
        clock: by which ``active_since`` counts, in seconds.
    """

    def __init__(
        self,
        identity: Identity,
        surroundings: Surroundings,
        log: Logger,
        *,
        tls: ClientTls | ssl.SSLContext | None = None,
        connect_seconds: float = limits.PEER_CONNECT_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.identity: Final = identity
        self.figures: Final = PeerFigures(hex_id(identity.member_id))
        self.client: Final = PeerClient(tls=tls, connect_seconds=connect_seconds)
        """For requests to peers that are not Raft's; connections are kept alive."""
        self._streams: Final = PeerClient(tls=tls, connect_seconds=connect_seconds, keep_alive=False)
        self._surroundings: Final = surroundings
        self._log: Final = log
        self._clock: Final = clock
        self._tasks: Final = Tasks(log)
        self._frames: Final = EntryFrames()
        self._peers: Final[dict[int, Peer]] = {}
        self._remotes: Final[dict[int, Remote]] = {}
        self._stopped = False
        self._handlers: Final = PeerHandlers(identity, self, surroundings, self.figures, self._tasks, log)
        self._beat_timer = asyncio.get_running_loop().call_later(limits.PEER_HEARTBEAT_SECONDS, self._beat)

    def install(self, server: HttpServer) -> None:
        """Serve the routes below ``/raft``."""
        self._handlers.install(server)

    def send(self, messages: Sequence[Message]) -> None:
        """Send each message to the member it is addressed to; those to nobody we know are dropped."""
        touched: list[Peer] = []
        peers = self._peers
        for message in messages:
            to = message.to
            peer = peers.get(to)
            if peer is not None:
                peer.send(message)
                if peer not in touched:
                    touched.append(peer)
            elif to != NONE:
                self._send_elsewhere(message)
        for peer in touched:
            peer.flush()

    # --- who there is -------------------------------------------------------------------------------------

    def add_peer(self, member_id: int, urls: Sequence[Url | str]) -> None:
        """Talk to a member from now on; nothing if we do already."""
        if self._stopped or member_id in self._peers:
            return
        remote = self._remotes.pop(member_id, None)
        if remote is not None:
            remote.stop()
        self._peers[member_id] = Peer(self._link(member_id, urls), self._frames)
        self._log.info("added remote peer", self._added(member_id, urls))

    def add_remote(self, member_id: int, urls: Sequence[Url | str]) -> None:
        """Be able to answer somebody who is no member as far as we know; nothing if we know them."""
        known = member_id in self._peers or member_id in self._remotes or member_id == self.identity.member_id
        if self._stopped or known:
            return
        while len(self._remotes) >= limits.PEER_REMOTES:
            self._remotes.pop(next(iter(self._remotes))).stop()
        self._remotes[member_id] = Remote(self._link(member_id, urls))
        self._log.info("added new remote peer", self._added(member_id, urls))

    def update_peer(self, member_id: int, urls: Sequence[Url | str]) -> None:
        """A member has other URLs from now on; nothing if we do not talk to it."""
        peer = self._peers.get(member_id)
        if peer is not None:
            peer.update(_urls(urls))
            local = hex_id(self.identity.member_id)
            self._log.info("updated remote peer", {
                "local-member-id": local, "updated-remote-peer-id": hex_id(member_id),
                "updated-remote-peer-urls": [str(url) for url in urls]})  # fmt: skip

    def remove_peer(self, member_id: int) -> None:
        """Talk to a member no more; nothing if we do not."""
        peer = self._peers.pop(member_id, None)
        if peer is not None:
            peer.stop()
            self._log.info("removed remote peer", {
                "local-member-id": hex_id(self.identity.member_id),
                "removed-remote-peer-id": hex_id(member_id)})  # fmt: skip

    def remove_all(self) -> None:
        """Talk to no member any more."""
        for member_id in list(self._peers):
            self.remove_peer(member_id)

    @property
    def peers(self) -> tuple[int, ...]:
        """The ids of the members that we talk to."""
        return tuple(self._peers)

    def active_since(self, member_id: int) -> float | None:
        """Since when a member can be reached without a failure, by the clock given; None if it cannot be."""
        peer = self._peers.get(member_id)
        return None if peer is None else peer.link.status.since

    def active_peers(self) -> int:
        """How many members can be reached."""
        return sum(peer.link.status.is_active for peer in self._peers.values())

    async def stop(self) -> None:
        """Close every connection and end every task."""
        self._stopped = True
        self._beat_timer.cancel()
        for remote in self._remotes.values():
            remote.stop()
        self._remotes.clear()
        self.remove_all()
        await self._tasks.stop()
        await self._handlers.stop()
        self._streams.close()
        self.client.close()
        await self._streams.wait_closed()
        await self.client.wait_closed()

    # --- what requests ask ----------------------------------------------------------------------------------

    def peer(self, member_id: int) -> Peer | None:
        """The peer of this id."""
        return self._peers.get(member_id)

    def announced(self, request: HttpRequest) -> None:
        """Take note of who sends a request (``X-Server-From``, ``X-PeerURLs``), if we do not know them."""
        found = headers.announced(request)
        if found is not None and not self._surroundings.is_removed(found[0]):
            self.add_remote(*found)

    # --- within ---------------------------------------------------------------------------------------------

    def _send_elsewhere(self, message: Message) -> None:
        remote = self._remotes.get(message.to)
        if message.type == MSG_SNAP:
            self._surroundings.snapshot_sent(message.to, False)
        elif remote is not None:
            remote.send(message)
        else:
            self._log.debug("ignored message send request; unknown remote peer target",
                            unknown_target_peer_id=hex_id(message.to))  # fmt: skip

    def _beat(self) -> None:
        self._beat_timer = asyncio.get_running_loop().call_later(limits.PEER_HEARTBEAT_SECONDS, self._beat)
        for peer in self._peers.values():
            peer.beat()

    def _link(self, member_id: int, urls: Sequence[Url | str]) -> Link:
        return Link(
            peer_id=member_id,
            identity=self.identity,
            surroundings=self._surroundings,
            log=self._log,
            figures=self.figures,
            tasks=self._tasks,
            picker=UrlPicker(_urls(urls)),
            status=PeerStatus(member_id, self._log, self.figures, self._clock),
            streams=self._streams,
            posts=self.client,
        )

    def _added(self, member_id: int, urls: Sequence[Url | str]) -> dict[str, object]:
        local = hex_id(self.identity.member_id)
        texts = [str(url) for url in urls]
        return {"local-member-id": local, "remote-peer-id": hex_id(member_id), "remote-peer-urls": texts}


def _urls(urls: Sequence[Url | str]) -> tuple[Url, ...]:
    return parse_urls(str(url) for url in urls)
