"""Snapshots between members: the message, and with it a copy of the database.

A real member sends a bbolt file that another process makes of its database, and another process makes a
database of it again (``server/transfer.py``; ``tests/snapshot`` and ``tests/cluster`` have that). Here the
LMDB file itself is copied, at one moment and to its last commit. What remains is the order of things, and
where it can be cut off: on its way; received and not installed; installed and not yet known to be.
"""

import os
import shutil
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, final

from kvorum.mvcc.install import Prepared, prepare
from kvorum.mvcc.store import Store
from kvorum.raft.codec import decode_conf_state, decode_message, encode_message
from kvorum.raft.types import Message, Snapshot, SnapshotMetadata
from kvorum.snapshot.received import received_path

if TYPE_CHECKING:
    from kvorum.sim.cluster import Cluster
    from kvorum.sim.member import Member, Running

SECONDS: Final = 0.3
"""What copying, sending and checking takes on average."""


def position_of(store: Store) -> SnapshotMetadata:
    """What a copy of the store's database is a snapshot of."""
    return SnapshotMetadata(decode_conf_state(store.conf_state), store.consistent_index, store.term)


@final
class Transfer:
    """Carries snapshots."""

    def __init__(self, cluster: "Cluster", directory: str) -> None:
        self._cluster: Final = cluster
        self._directory: Final = directory
        self._sent = 0
        self.installed = 0

    def send(self, message: Message) -> None:
        """A member sends a MsgSnap: what leaves is the state machine of now."""
        cluster = self._cluster
        sender = cluster.by_id[message.from_]
        sending = sender.require()
        store = sending.node.store
        store.commit()
        self._sent += 1
        path = os.path.join(self._directory, f"{self._sent}.sent")
        shutil.copyfile(store.backend.path, path)
        metadata = position_of(store)
        message = decode_message(encode_message(message))
        message.snapshot = Snapshot(metadata=metadata)
        cluster.trace.note(f"{sender.name} sends its snapshot at {metadata.index}")
        took = SECONDS * cluster.dice.expovariate(1.0)
        cluster.loop.call_later(took, self._arrive, encode_message(message), path, sender, sending)

    def _arrive(self, data: bytes, path: str, sender: "Member", sending: "Running") -> None:
        cluster = self._cluster
        message = decode_message(data)
        receiver = cluster.by_id.get(message.to)
        running = None if receiver is None else receiver.running
        arrives = running is not None and not cluster.network.is_cut(message.from_, message.to)
        if receiver is None or running is None or not arrives or sender.running is not sending:
            os.unlink(path)
        else:
            arrived = receiver
            running.process.run(lambda: running.node.guard(lambda: arrived.receive_snapshot(message, path)))
        if sender.running is sending:
            node = sending.node
            sending.process.run(lambda: node.guard(lambda: node.snapshot_sent(message.to, arrives)))


@final
class Received:
    """The databases that a member has received and not installed yet (``transfer.SnapshotSink``)."""

    def __init__(self, store: Store, snap_directory: str, clock: Callable[[], float]) -> None:
        self._clock: Final = clock
        self._store: Final = store
        self._directory: Final = snap_directory
        self._prepared: Final[dict[int, Prepared]] = {}

    def take(self, index: int, path: str) -> None:
        """Keep a database for the snapshot at ``index``."""
        if index in self._prepared:
            os.unlink(path)
            return
        target = received_path(self._directory, index)
        os.replace(path, target)
        self._prepared[index] = prepare(lambda name: Store.open(name, clock=self._clock), target)

    def install(self, index: int) -> None:
        """Put it in the place of the store's."""
        prepared = self._prepared.pop(index)
        self._store.install(prepared)
        prepared.dispose()

    def close(self) -> None:
        """The process ends."""
        for prepared in self._prepared.values():
            prepared.store.backend.abandon()
        self._prepared.clear()
