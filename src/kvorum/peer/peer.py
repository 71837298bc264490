"""One other member: which way a message goes to it, and what comes from it.

A MsgSnap is an upload of its own. A MsgApp goes by the stream made for it, everything else by the stream for
everything, and what has no stream by POST. Source of behaviour: etcd ``rafthttp/peer.go``, ``remote.go``.
"""

from collections.abc import Sequence
from typing import Final, final

from kvorum.logging import Logger, hex_id
from kvorum.peer.codec import EntryFrames, MessageDecoder, MessageEncoder, MsgAppDecoder, MsgAppEncoder
from kvorum.peer.headers import Identity
from kvorum.peer.link import Link
from kvorum.peer.pipeline import SOURCE, Pipeline
from kvorum.peer.probing import Prober
from kvorum.peer.reader import StreamReader
from kvorum.peer.snapshots import SnapshotSender
from kvorum.peer.surroundings import Surroundings
from kvorum.peer.writer import StreamWriter
from kvorum.raft.types import (
    MESSAGE_NAMES,
    MSG_APP,
    MSG_BEAT,
    MSG_CHECK_QUORUM,
    MSG_HUP,
    MSG_SNAP,
    MSG_SNAP_STATUS,
    MSG_UNREACHABLE,
    Message,
)
from kvorum.urls import Url

MSGAPP_PATH: Final = "/raft/stream/msgapp"
MESSAGE_PATH: Final = "/raft/stream/message"
MSGAPP_STREAM: Final = "stream MsgApp v2"
MESSAGE_STREAM: Final = "stream Message"

LOCAL_TYPES: Final = frozenset((MSG_HUP, MSG_BEAT, MSG_UNREACHABLE, MSG_SNAP_STATUS, MSG_CHECK_QUORUM))
"""What a member says to itself only; from another one it is ignored (etcd ``raft/node.go``: Step)."""


def refusal(message: Message, identity: Identity, surroundings: Surroundings, log: Logger) -> str | None:
    """Why Raft may not see what another member sent, as etcd answers it (``EtcdServer.Process``)."""
    local = hex_id(identity.member_id)
    if surroundings.is_removed(message.from_):
        removed = hex_id(message.from_)
        names = {"local-member-id": local, "removed-member-id": removed}
        log.warn("rejected Raft message from removed member", names)
        return "cannot process message from removed member"
    if message.to != identity.member_id:
        names = {"local-member-id": local, "mismatch-member-id": hex_id(message.to)}
        log.warn("rejected Raft message to mismatch member", names)
        return "cannot process message to mismatch member"
    return None


@final
class Peer:
    """A member of the cluster."""

    def __init__(self, link: Link, frames: EntryFrames) -> None:
        link.log.info("starting remote peer", remote_peer_id=link.name)
        self.link: Final = link
        local, remote = link.identity.member_id, link.peer_id
        self.pipeline: Final = Pipeline(link)
        self.msgapp_writer: Final = StreamWriter(link, MSGAPP_STREAM, lambda: MsgAppEncoder(frames))
        self.message_writer: Final = StreamWriter(link, MESSAGE_STREAM, MessageEncoder)
        self._snapshots: Final = SnapshotSender(link)
        self._readers: Final = (
            StreamReader(
                link, MSGAPP_STREAM, MSGAPP_PATH, lambda: MsgAppDecoder(local, remote), self._receive
            ),
            StreamReader(link, MESSAGE_STREAM, MESSAGE_PATH, MessageDecoder, self._receive),
        )
        self.prober: Final = Prober(link)
        link.log.info("started remote peer", remote_peer_id=link.name)

    def send(self, message: Message) -> None:
        """Put a message on its way; it leaves with the next ``flush``."""
        kind = message.type
        if kind == MSG_APP:
            self.link.figures.appends_sent += 1
        if kind == MSG_APP and self.msgapp_writer.is_working:
            taken, name = self.msgapp_writer.push(message), "streamMsgAppV2"
        elif kind == MSG_SNAP:
            self._snapshots.send(message)
            return
        elif self.message_writer.is_working:
            taken, name = self.message_writer.push(message), "streamMsg"
        else:
            taken, name = self.pipeline.push(message), SOURCE
        if not taken:
            self._dropped(message, name)

    def flush(self) -> None:
        """Write what ``send`` has put on its way."""
        self.msgapp_writer.flush()
        self.message_writer.flush()

    def beat(self) -> None:
        """Keep the streams alive, and notice those that are not."""
        self.msgapp_writer.beat()
        self.message_writer.beat()

    def update(self, urls: Sequence[Url]) -> None:
        """The member is at other URLs now. Streams that work stay."""
        self.link.picker.update(urls)

    def stop(self) -> None:
        """Let go of the member."""
        link = self.link
        link.log.info("stopping remote peer", remote_peer_id=link.name)
        self.msgapp_writer.stop()
        self.message_writer.stop()
        self.pipeline.stop()
        self._snapshots.stop()
        for reader in self._readers:
            reader.stop()
        self.prober.stop()
        link.status.stop()
        link.log.info("stopped remote peer", remote_peer_id=link.name)

    def _receive(self, messages: list[Message]) -> None:
        link = self.link
        surroundings = link.surroundings
        for message in messages:
            if message.type == MSG_APP:
                link.figures.appends_received += 1
            if message.type not in LOCAL_TYPES and not refusal(
                message, link.identity, surroundings, link.log
            ):
                surroundings.receive(message)

    def _dropped(self, message: Message, name: str) -> None:
        link = self.link
        link.surroundings.unreachable(link.peer_id)
        link.figures.sent_failures[link.name] += 1
        _say_dropped(link, message, {"remote-peer-name": name})


@final
class Remote:
    """Somebody who asked us something before we knew them: a newcomer that catches up. POSTs only."""

    def __init__(self, link: Link) -> None:
        self.link: Final = link
        self._pipeline: Final = Pipeline(link)

    def send(self, message: Message) -> None:
        """Put a message on its way."""
        if not self._pipeline.push(message):
            self.link.figures.sent_failures[self.link.name] += 1
            _say_dropped(self.link, message, {})

    def stop(self) -> None:
        """Let go of it."""
        self._pipeline.stop()
        self.link.status.stop()


def _say_dropped(link: Link, message: Message, more: dict[str, object]) -> None:
    link.log.warn(
        "dropped internal Raft message since sending buffer is full (overloaded network)",
        {
            "message-type": MESSAGE_NAMES[message.type],
            "local-member-id": link.local_name,
            "from": hex_id(message.from_),
            "remote-peer-id": link.name,
            **more,
            "remote-peer-active": link.status.is_active,
        },
    )
