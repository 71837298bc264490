"""Who is in the cluster: what ``MemberList`` shows, kept in the backend beside the data it belongs to.

The members, the removed ones and the cluster version live in three tables of the backend under etcd's names
and in etcd's JSON, and change only when an entry is applied, so that they move with the consistent index.
Raft's own configuration (who votes) is the ``ConfState``; this is the names and addresses to it. Source: etcd
``server/etcdserver/api/membership`` (member.go, store.go, cluster.go).
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol, final

from kvorum.logging import hex_id

_VERSION_KEY: Final = b"clusterVersion"
_REMOVED: Final = b"removed"


@final
@dataclass(frozen=True)
class MemberInfo:
    """A member: its ID and peer URLs, and, once it has started, its name and client URLs."""

    id: int
    peer_urls: tuple[str, ...]
    name: str = ""
    client_urls: tuple[str, ...] = ()
    is_learner: bool = False

    def to_json(self) -> bytes:
        """etcd's JSON of a member; absent fields are left out as Go does."""
        fields: dict[str, Any] = {"id": self.id, "peerURLs": list(self.peer_urls)}
        if self.is_learner:
            fields["isLearner"] = True
        if self.name:
            fields["name"] = self.name
        if self.client_urls:
            fields["clientURLs"] = list(self.client_urls)
        return json.dumps(fields, separators=(",", ":")).encode()

    @staticmethod
    def from_json(data: bytes) -> "MemberInfo":
        """Read etcd's JSON of a member.

        Raises:
            ValueError: it is none.
        """
        fields = json.loads(data)
        return MemberInfo(
            id=int(fields["id"]),
            peer_urls=tuple(fields.get("peerURLs") or ()),
            name=fields.get("name", ""),
            client_urls=tuple(fields.get("clientURLs") or ()),
            is_learner=bool(fields.get("isLearner", False)),
        )


class Table(Protocol):
    """A named table of the backend, written in the open transaction."""

    def get(self, key: bytes) -> bytes | None:
        """The value of a key, None without one."""

    def put(self, key: bytes, value: bytes) -> None:
        """Set a key."""

    def delete(self, key: bytes) -> bool:
        """Remove a key; whether it was there."""

    def iterate(self) -> Iterator[tuple[bytes, bytes]]:
        """Everything, in the order of keys."""


class Tables(Protocol):
    """The backend, as far as membership sees it."""

    def table(self, name: bytes) -> Table:
        """A table by its name; made if it is not there."""


@final
class Cluster:
    """The members of this cluster, by ID.

    Invariant: no ID is both a member and removed; ``members`` equals what the backend's table holds.
    """

    def __init__(self, cluster_id: int, local_id: int, tables: Tables) -> None:
        self.id: Final = cluster_id
        self.local_id: Final = local_id
        self._members_table: Final = tables.table(b"members")
        self._removed_table: Final = tables.table(b"members_removed")
        self._cluster_table: Final = tables.table(b"cluster")
        self.members: Final[dict[int, MemberInfo]] = {}
        self.removed: Final[set[int]] = set()
        version = self._cluster_table.get(_VERSION_KEY)
        self.version: str | None = version.decode() if version is not None else None
        for key, value in self._members_table.iterate():
            self.members[int(key, 16)] = MemberInfo.from_json(value)
        self.removed.update(int(key, 16) for key, _ in self._removed_table.iterate())

    @property
    def local(self) -> MemberInfo | None:
        """This member, once its own conf change has been applied."""
        return self.members.get(self.local_id)

    def listed(self) -> list[MemberInfo]:
        """The members in the order of their IDs."""
        return [self.members[m] for m in sorted(self.members)]

    def add(self, member: MemberInfo) -> None:
        """A conf change added ``member``; one that is there keeps its name and client URLs."""
        known = self.members.get(member.id)
        if known is not None:
            member = replace(
                member, name=member.name or known.name, client_urls=member.client_urls or known.client_urls
            )
        self._store(member)

    def remove(self, member_id: int) -> None:
        """A conf change removed the member; its ID never comes back."""
        key = hex_id(member_id).encode()
        self.members.pop(member_id, None)
        self.removed.add(member_id)
        self._members_table.delete(key)
        self._removed_table.put(key, _REMOVED)

    def set_attributes(self, member_id: int, name: str, client_urls: list[str]) -> None:
        """A member published its name and client URLs; one that was removed meanwhile is passed over."""
        member = self.members.get(member_id)
        if member is not None:
            self._store(replace(member, name=name, client_urls=tuple(client_urls)))

    def set_version(self, version: str) -> None:
        """The cluster agreed on the version every member can speak, ``major.minor.0``."""
        self.version = version
        self._cluster_table.put(_VERSION_KEY, version.encode())

    def check_invariants(self) -> None:
        """Assert what the class promises."""
        assert not self.removed & self.members.keys(), "a removed member is still listed"
        stored = {int(key, 16): MemberInfo.from_json(value) for key, value in self._members_table.iterate()}
        assert stored == self.members, "the backend's members differ from those in memory"

    def _store(self, member: MemberInfo) -> None:
        self.members[member.id] = member
        self._members_table.put(hex_id(member.id).encode(), member.to_json())
