"""What the transport asks of the member: the way of other members' messages into it.

Source: etcd ``server/etcdserver/server.go`` (Process, IsIDRemoved, ReportUnreachable, ReportSnapshot).
"""

from collections.abc import AsyncIterator
from typing import Final, final

from kvorum.peer.surroundings import OutgoingSnapshot
from kvorum.raft.types import Message
from kvorum.server.node import Node
from kvorum.server.notices import CommitNotices
from kvorum.server.transfer import SnapshotSink, SnapshotSource


@final
class Peering:
    """The member behind its transport. ``node`` and ``notices`` are set before the first connection."""

    node: Node
    notices: CommitNotices

    def __init__(self, source: SnapshotSource, sink: SnapshotSink) -> None:
        self.source: Final = source
        self.sink: Final = sink

    def receive(self, message: Message) -> None:
        """Take in a message."""
        node = self.node
        self.notices.received(message)
        node.guard(lambda: node.receive(message))

    def is_removed(self, member_id: int) -> bool:
        """Whether it was a member once, and can be none again."""
        return self.node.cluster.is_removed(member_id)

    def unreachable(self, member_id: int) -> None:
        """Messages to a member were lost."""
        self.node.unreachable(member_id)

    def snapshot_sent(self, member_id: int, ok: bool) -> None:
        """The snapshot on its way to a member arrived, or did not."""
        self.node.snapshot_sent(member_id, ok)

    def removed_from_cluster(self) -> None:
        """Another member says that this one was removed."""
        self.node.removed_self()

    async def open_snapshot(self) -> OutgoingSnapshot:
        """The member's state as it is now, to be sent. Raises OSError."""
        return await self.source.open_for_member()

    async def receive_snapshot(self, message: Message, pieces: AsyncIterator[bytes]) -> None:
        """Take in a database, and only then the message that says what it is. Raises OSError, ValueError."""
        await self.sink.receive(message, pieces)
        self.receive(message)
