"""The v2 tree, the members and Raft's configuration, brought from a snapshot of etcd's to its database.

etcd keeps the v2 tree in memory and writes it with its snapshots, every 100,000 entries; its database is
newer. A restart applies the entries between once more, the v3 requests among them without effect. The
same is done here, once, when an etcd member is taken over.

Where the snapshot has members, or the log begins with its first entry, the tree is what etcd believes about
them (``snapshot/members.py``); etcd from 3.7 on has none, and its database is believed instead.
"""

from collections.abc import Sequence
from typing import Final, final

from google.protobuf.message import DecodeError

from kvorum.apply.v2 import UnknownMethodError, V2Applier
from kvorum.errors import EtcdError
from kvorum.mvcc.store import Store
from kvorum.proto.membership_pb2 import ClusterMemberAttrSetRequest, ClusterVersionSetRequest
from kvorum.raft import confchange
from kvorum.raft.codec import CodecError, conf_change_of, encode_conf_state
from kvorum.raft.types import ENTRY_CONF_CHANGE, ENTRY_CONF_CHANGE_V2, Entry, Snapshot
from kvorum.server import changes, requests
from kvorum.server.membership import Cluster
from kvorum.server.v2_members import V2Members
from kvorum.snapshot.members import MEMBERS, REMOVED, adopt_members
from kvorum.v2store.store import Store as V2Store
from kvorum.v2store.tables import Records

_V2_MEMBERS: Final = "/0/members/"
_NOT_ETCDS: Final = (ValueError, CodecError, DecodeError, UnknownMethodError, changes.BadContextError)


class ReplayError(Exception):
    """An entry is not what etcd's members write; one line."""


def replay(
    store: Store,
    snapshot: Snapshot,
    entries: Sequence[Entry],
    *,
    cluster_id: int,
    member_id: int,
    max_learners: int,
) -> None:
    """Apply to the tree, the members and the configuration what they lack; the store is not committed.

    Args:
        store: with the database's keys, and the v2 tree of the snapshot.
        entries: those between the snapshot and the database's consistent index.

    Raises:
        ReplayError: they cannot be applied.
    """
    _Replay(store, snapshot, cluster_id, member_id, max_learners).run(entries)


@final
class _Replay:
    def __init__(
        self, store: Store, snapshot: Snapshot, cluster_id: int, member_id: int, max_learners: int
    ) -> None:
        self._store: Final = store
        self._term = snapshot.metadata.term
        self._v2: Final = V2Store(store, lambda: 0)
        self._tree_is_right: Final = snapshot.is_empty() or any(
            node.path.startswith(_V2_MEMBERS) for node in Records(store).nodes()
        )
        if self._tree_is_right:
            self._believe_tree()
        self._cluster: Final = Cluster(cluster_id, member_id, store, max_learners=max_learners)
        if self._tree_is_right:
            self._cluster.mirror = V2Members(self._v2)
        self._applier: Final = V2Applier(self._v2, self._cluster)
        self._configuration = confchange.restore(snapshot.metadata.conf_state)

    def run(self, entries: Sequence[Entry]) -> None:
        """Apply them, and note where that is."""
        for entry in entries:
            self._term = entry.term
            try:
                self._apply(entry)
            except (
                ValueError,
                CodecError,
                DecodeError,
                UnknownMethodError,
                changes.BadContextError,
            ) as error:
                raise ReplayError(f"entry {entry.index} of the log: {error}") from error
        self._store.term = self._term
        if self._tree_is_right or not self._store.conf_state:
            self._store.conf_state = encode_conf_state(self._configuration.conf_state())

    def _believe_tree(self) -> None:
        """The tables of members as the tree was at the snapshot; the database's are of later."""
        for name in (MEMBERS, REMOVED):
            table = self._store.table(name)
            for key, _ in list(table.iterate()):
                table.delete(key)
        adopt_members(self._store)

    def _apply(self, entry: Entry) -> None:
        if entry.type in (ENTRY_CONF_CHANGE, ENTRY_CONF_CHANGE_V2):
            self._change(entry)
        elif entry.data:
            self._request(entry.data)

    def _change(self, entry: Entry) -> None:
        change = conf_change_of(entry)
        steps = changes.opened(change)
        if self._tree_is_right:
            try:
                self._cluster.check(steps)
            except EtcdError:
                return  # it held no more, and changed nothing
            for step in steps:
                self._cluster.apply(step)
        self._configuration = confchange.apply(self._configuration, change.as_v2())

    def _request(self, data: bytes) -> None:
        _, number, body, _ = requests.decode(data)
        if number == requests.V2:
            self._applier.apply(body)
        elif not self._tree_is_right:
            return
        elif number == requests.CLUSTER_VERSION_SET:
            self._cluster.set_version(ClusterVersionSetRequest.FromString(body).ver)
        elif number == requests.CLUSTER_MEMBER_ATTR_SET:
            request = ClusterMemberAttrSetRequest.FromString(body)
            attributes = request.member_attributes
            self._cluster.set_attributes(request.member_ID, attributes.name, list(attributes.client_urls))
