"""The members as etcd keeps them in its v2 tree, below ``/0``.

etcd up to 3.5 reads its members from this tree when it starts and sends the tree in its snapshots, and each
change of it moves the index that v2 clients see, so the same changes are made here, with each membership
entry:

| path | what |
|---|---|
| ``/0/members/<id>/raftAttributes`` | peer URLs, and whether it has no vote |
| ``/0/members/<id>/attributes`` | name and client URLs, once published |
| ``/0/removed_members/<id>`` | empty |
| ``/0/version`` | the cluster's version |

Source: etcd 3.4.23 ``etcdserver/api/membership/store.go``.
"""

from contextlib import suppress
from typing import Final, final

from kvorum.golang import json_text
from kvorum.logging import hex_id
from kvorum.server.changes import MemberInfo
from kvorum.v2store.errors import V2Error
from kvorum.v2store.store import Store

_MEMBERS: Final = "/0/members"
_REMOVED: Final = "/0/removed_members"
_VERSION: Final = "/0/version"


@final
class V2Members:
    """The ``Mirror`` of the membership in the v2 tree.

    A tree that came from a member of etcd 3.6 or later, which has none, lacks what was there before; what is
    missing is passed over, or made by the next change.
    """

    __slots__ = ("_store",)

    def __init__(self, store: Store) -> None:
        self._store: Final = store

    def member_added(self, member: MemberInfo) -> None:
        """A member was added."""
        path = f"{_MEMBERS}/{hex_id(member.id)}/raftAttributes"
        try:
            self._store.create(path, False, _raft_attributes(member))
        except V2Error:
            self._store.update(path, _raft_attributes(member))

    def member_removed(self, member_id: int) -> None:
        """A member was removed, for good."""
        name = hex_id(member_id)
        with suppress(V2Error):
            self._store.delete(f"{_MEMBERS}/{name}", True, True)
        with suppress(V2Error):
            self._store.create(f"{_REMOVED}/{name}")

    def attributes_set(self, member: MemberInfo) -> None:
        """A member has published its name and client URLs."""
        self._store.set(f"{_MEMBERS}/{hex_id(member.id)}/attributes", False, json_text(member.attributes()))

    def raft_attributes_set(self, member: MemberInfo) -> None:
        """A member has other peer URLs, or its vote."""
        path = f"{_MEMBERS}/{hex_id(member.id)}/raftAttributes"
        try:
            self._store.update(path, _raft_attributes(member))
        except V2Error:
            self._store.create(path, False, _raft_attributes(member))

    def version_set(self, version: str) -> None:
        """The cluster has agreed on a version."""
        self._store.set(_VERSION, False, version)


def _raft_attributes(member: MemberInfo) -> str:
    fields: dict[str, object] = {"peerURLs": list(member.peer_urls) or None}
    if member.is_learner:
        fields["isLearner"] = True
    return json_text(fields)
