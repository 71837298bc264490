"""Who is in the cluster: what ``MemberList`` shows, kept in the backend beside the data it belongs to.

The members, the removed ones and the cluster version live in three tables of the backend under etcd's names
and in etcd's JSON, and change only when an entry is applied, so that they move with the consistent index.
Raft's own configuration (who votes) is the ``ConfState``; this is the names and addresses to it. What a
change must satisfy is in ``changes.py``, what is asked before one is proposed in ``strict.py``. Source: etcd
``server/etcdserver/api/membership`` (member.go, store.go, cluster.go).
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final, Protocol, final

from kvorum import ETCD_VERSION
from kvorum.golang import json_text
from kvorum.logging import Logger, hex_id
from kvorum.raft.types import CONF_CHANGE_REMOVE_NODE, CONF_CHANGE_UPDATE_NODE
from kvorum.server.changes import Change, MemberInfo, adding, changed, check

__all__ = ["Cluster", "MemberInfo", "Mirror", "Table", "Tables"]

_VERSION_KEY: Final = b"clusterVersion"
_DOWNGRADE_KEY: Final = b"downgrade"
_REMOVED: Final = b"removed"

_V2_VERSION: Final = "/0/version"
_V2_ATTRIBUTES: Final = re.compile(r"/0/members/([0-9a-fA-F]{1,16})/attributes")


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


class Mirror(Protocol):
    """Who keeps a copy of the membership (the v2 tree below ``/0``); told of each change as it is applied."""

    def member_added(self, member: MemberInfo) -> None:
        """A member was added."""

    def member_removed(self, member_id: int) -> None:
        """A member was removed, for good."""

    def attributes_set(self, member: MemberInfo) -> None:
        """A member has published its name and client URLs."""

    def raft_attributes_set(self, member: MemberInfo) -> None:
        """A member has other peer URLs, or its vote."""

    def version_set(self, version: str) -> None:
        """The cluster has agreed on a version."""


@final
class _NoMirror:
    """Nobody keeps a copy."""

    def member_added(self, member: MemberInfo) -> None:
        pass

    def member_removed(self, member_id: int) -> None:
        pass

    def attributes_set(self, member: MemberInfo) -> None:
        pass

    def raft_attributes_set(self, member: MemberInfo) -> None:
        pass

    def version_set(self, version: str) -> None:
        pass


@final
class Cluster:
    """The members of this cluster, by ID.

    Args:
        cluster_id: of the members it was bootstrapped with.
        local_id: this member's.
        tables: the backend.
        log: None for silence.
        max_learners: ``--max-learners``; the same on all members, or they differ.

    Invariants: no ID is both a member and removed; ``members`` equals what the backend's table holds, and who
    was only heard of (``assume``), which ends with the entry that adds it.
    """

    def __init__(
        self,
        cluster_id: int,
        local_id: int,
        tables: Tables,
        *,
        log: Logger | None = None,
        max_learners: int = 1,
    ) -> None:
        self.id: Final = cluster_id
        self.local_id: Final = local_id
        self.mirror: Mirror = _NoMirror()
        self.members: Final[dict[int, MemberInfo]] = {}
        self.removed: Final[set[int]] = set()
        self.version: str | None = None
        self.downgrade_target: str | None = None
        """The older version that the cluster may go to, None if it stays."""
        self.is_learner = False
        """Whether this member has no vote; kept apart because every call looks at it."""
        self._assumed: Final[set[int]] = set()
        self._log: Final = log
        self._names: Final = {"cluster-id": hex_id(cluster_id), "local-member-id": hex_id(local_id)}
        self._max_learners: Final = max_learners
        self.recover(tables)

    def recover(self, tables: Tables) -> None:
        """Read everything from the backend, which may be another one since a snapshot replaced the store."""
        self._members_table = tables.table(b"members")
        self._removed_table = tables.table(b"members_removed")
        self._cluster_table = tables.table(b"cluster")
        self._assumed.clear()
        self.members.clear()
        self.members.update(self._stored())
        self.removed.clear()
        self.removed.update(int(key, 16) for key, _ in self._removed_table.iterate())
        version = self._cluster_table.get(_VERSION_KEY)
        self.version = version.decode() if version is not None else None
        downgrade = self._cluster_table.get(_DOWNGRADE_KEY)
        fields = json.loads(downgrade) if downgrade is not None else {}
        self.downgrade_target = fields["target-version"] if fields.get("enabled") else None
        self._look_at_local()

    def assume(self, members: Iterable[MemberInfo]) -> None:
        """The configuration, or a running member, says that these are members; the log will say so too.

        They are listed and talked to until then, as in etcd.
        """
        for member in members:
            if member.id not in self.members:
                self.members[member.id] = member
                self._assumed.add(member.id)
        self._look_at_local()

    # --- who is there -------------------------------------------------------------------------------------

    @property
    def local(self) -> MemberInfo | None:
        """This member, once it is one."""
        return self.members.get(self.local_id)

    def member(self, member_id: int) -> MemberInfo | None:
        """A member by its ID."""
        return self.members.get(member_id)

    def listed(self) -> list[MemberInfo]:
        """The members in the order of their IDs."""
        return [self.members[m] for m in sorted(self.members)]

    def voters(self) -> list[MemberInfo]:
        """The members that vote, in the order of their IDs."""
        return [member for member in self.listed() if not member.is_learner]

    def others(self) -> list[MemberInfo]:
        """All members but this one."""
        return [member for member in self.listed() if member.id != self.local_id]

    def is_removed(self, member_id: int) -> bool:
        """Whether it was a member once and can be none again."""
        return member_id in self.removed

    # --- by membership changes ----------------------------------------------------------------------------

    def check(self, changes: Iterable[Change]) -> None:
        """Whether changes that are about to be applied hold, one after the other.

        Raises:
            EtcdError: as ``changes.check``.
        """
        members = {m: info for m, info in self.members.items() if m not in self._assumed}
        removed = set(self.removed)
        for change in changes:
            check(members, removed, change, self._max_learners)
            members = changed(members, change)
            if change.kind == CONF_CHANGE_REMOVE_NODE:
                removed.add(change.member_id)

    def apply(self, change: Change) -> None:
        """Take a change that holds into effect."""
        member_id = change.member_id
        if change.kind == CONF_CHANGE_REMOVE_NODE:
            self.remove(member_id)
            return
        if change.is_promotion or change.kind == CONF_CHANGE_UPDATE_NODE:
            self._set_raft_attributes(change)
            return
        assert change.member is not None, "an addition has a member"
        self._store(change.member)
        self._say(
            "added member",
            added_peer_id=hex_id(member_id),
            added_peer_peer_urls=list(change.member.peer_urls),
        )
        self.mirror.member_added(change.member)

    def _set_raft_attributes(self, change: Change) -> None:
        member = changed(self.members, change)[change.member_id]
        self._store(member)
        if change.is_promotion:
            self._say("promote member", promoted_member_id=hex_id(member.id))
        else:
            self._say(
                "updated member",
                updated_remote_peer_id=hex_id(member.id),
                updated_remote_peer_urls=list(member.peer_urls),
            )
        self.mirror.raft_attributes_set(member)

    def add(self, member: MemberInfo) -> None:
        """Add a member without asking whether it may be added."""
        self.apply(adding(member))

    def remove(self, member_id: int) -> None:
        """A change removed the member; its ID never comes back."""
        key = hex_id(member_id).encode()
        member = self.members.pop(member_id, None)
        self._assumed.discard(member_id)
        self.removed.add(member_id)
        self._members_table.delete(key)
        self._removed_table.put(key, _REMOVED)
        self._look_at_local()
        if member is not None:
            self._say(
                "removed member",
                removed_remote_peer_id=hex_id(member_id),
                removed_remote_peer_urls=list(member.peer_urls),
            )
        self.mirror.member_removed(member_id)

    # --- by other entries ---------------------------------------------------------------------------------

    def set_attributes(self, member_id: int, name: str, client_urls: list[str]) -> None:
        """A member published its name and client URLs; one that was removed meanwhile is passed over."""
        member = self.members.get(member_id)
        if member is None:
            if self._log is not None:
                self._log.warn(
                    "skipped attributes update of removed member",
                    self._names,
                    updated_peer_id=hex_id(member_id),
                )
            return
        member = replace(member, name=name, client_urls=tuple(client_urls))
        if member_id in self._assumed:
            self.members[member_id] = member
        else:
            self._store(member)
        self.mirror.attributes_set(member)

    def set_version(self, version: str) -> None:
        """The cluster agreed on the version every member can speak, ``major.minor.0``."""
        short = version.rpartition(".")[0]
        if self.version is None:
            self._say("set initial cluster version", cluster_version=short)
        else:
            self._say("updated cluster version", {"from": self.version.rpartition(".")[0], "to": short})
        if self._log is not None:
            self._log.info("enabled capabilities for version", cluster_version=short)
        self.version = version
        self._cluster_table.put(_VERSION_KEY, version.encode())
        self.mirror.version_set(version)

    def set_downgrade(self, enabled: bool, target: str) -> None:
        """The cluster may go to an older version, or may not any more."""
        self.downgrade_target = target if enabled else None
        fields = {"target-version": target if enabled else "", "enabled": enabled}
        self._cluster_table.put(_DOWNGRADE_KEY, json_text(fields).encode())
        if enabled:
            self._say("The server is ready to downgrade", target_version=target, server_version=ETCD_VERSION)

    def apply_v2_put(self, path: str, value: str) -> bool:
        """Take a v2 PUT that concerns the membership; False: it is a key like others.

        That is how members up to 3.5 publish themselves and the cluster's version (etcd ``apply_v2.go``).

        Raises:
            ValueError: the value is not what members write there.
        """
        if path == _V2_VERSION:
            self.set_version(value)
            return True
        match = _V2_ATTRIBUTES.fullmatch(path)
        if match is None:
            return False
        member = MemberInfo.from_fields(json.loads(value))
        self.set_attributes(int(match[1], 16), member.name, list(member.client_urls))
        return True

    # --- inside -------------------------------------------------------------------------------------------

    def check_invariants(self) -> None:
        """Assert what the class promises."""
        assert not self.removed & self.members.keys(), "a removed member is still listed"
        known = {m: info for m, info in self.members.items() if m not in self._assumed}
        assert self._stored() == known, "the backend's members differ from those in memory"
        assert self.is_learner == (self.local is not None and self.local.is_learner)

    def _stored(self) -> dict[int, MemberInfo]:
        return {int(key, 16): MemberInfo.from_json(value) for key, value in self._members_table.iterate()}

    def _store(self, member: MemberInfo) -> None:
        self._assumed.discard(member.id)
        self.members[member.id] = member
        self._members_table.put(hex_id(member.id).encode(), member.to_json())
        self._look_at_local()

    def _look_at_local(self) -> None:
        self.is_learner = self.local is not None and self.local.is_learner

    def _say(self, message: str, more: dict[str, object] | None = None, /, **fields: object) -> None:
        if self._log is not None:
            self._log.info(message, {**self._names, **(more or {})}, **fields)
