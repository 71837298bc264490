"""What the peers' room asks of the member it works for."""

from collections.abc import AsyncIterator
from typing import Protocol

from kvorum.raft.types import Message, Snapshot


class OutgoingSnapshot(Protocol):
    """A snapshot ready to be sent: Raft's part, and a database whose bytes are read as they are sent."""

    @property
    def snapshot(self) -> Snapshot:
        """Metadata and data that the message to the peer carries."""

    @property
    def size(self) -> int:
        """Bytes of the database, exactly as many as ``pieces`` gives."""

    def pieces(self) -> AsyncIterator[bytes]:
        """The database, piece by piece; called once."""

    def close(self) -> None:
        """Let go of the snapshot, sent or not; called once."""


class Surroundings(Protocol):
    """The member. All of it is called on the loop; the plain functions return at once."""

    def receive(self, message: Message) -> None:
        """Take a message from another member; it is of a type that members may send each other."""

    def is_removed(self, member_id: int) -> bool:
        """Whether this member was removed from the cluster, for good."""

    def unreachable(self, member_id: int) -> None:
        """Messages to a member were lost (``RawNode.report_unreachable``)."""

    def snapshot_sent(self, member_id: int, ok: bool) -> None:
        """A MsgSnap that was given to the transport has arrived, or has not; told once for each."""

    def removed_from_cluster(self) -> None:
        """Another member says that this one was removed; it should stop. May be told more than once."""

    async def open_snapshot(self) -> OutgoingSnapshot:
        """Get a snapshot to send, no older than the MsgSnap that asked for it. May raise OSError."""

    async def receive_snapshot(self, message: Message, pieces: AsyncIterator[bytes]) -> None:
        """Store a database that comes with a MsgSnap, then take the message.

        Returns when Raft has the message. ``pieces`` raises ConnectionError if the rest does not come;
        nothing of what was stored may remain then. What is raised is told to the sender.
        """
