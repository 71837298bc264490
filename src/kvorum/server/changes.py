"""What a membership change says, and whether it still holds when its entry is applied.

An entry carries who shall vote (Raft's part) and, as JSON in its context, names and addresses (ours). By the
time it is applied other changes may have come before it, so every member checks it again, against what its
own backend holds, and all of them come to the same answer: a change that does not hold any more is applied as
no change at all. Pure. Source: etcd ``api/membership/cluster.go`` (ValidateConfigurationChange,
ConfigChangeContext), ``member.go``.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, final

from kvorum import errors
from kvorum.errors import EtcdError
from kvorum.golang import json_text
from kvorum.raft.types import (
    CONF_CHANGE_ADD_LEARNER_NODE,
    CONF_CHANGE_ADD_NODE,
    CONF_CHANGE_REMOVE_NODE,
    CONF_CHANGE_UPDATE_NODE,
    ConfChange,
    ConfChangeV2,
)

KIND_NAMES: Final = (
    "ConfChangeAddNode",
    "ConfChangeRemoveNode",
    "ConfChangeUpdateNode",
    "ConfChangeAddLearnerNode",
)
"""etcd's names of the kinds of change, by number."""

ERR_ID_REMOVED: Final = EtcdError(errors.NOT_FOUND, errors.ERR_MEMBER_NOT_FOUND.message)
"""Clients can't tell a member that was removed from one that never was; over HTTP the two differ."""


class BadContextError(Exception):
    """The context of a committed change is not what members write; going on would make members differ."""


@final
@dataclass(frozen=True)
class MemberInfo:
    """A member: its ID and peer URLs, and, once it has started, its name and client URLs."""

    id: int
    peer_urls: tuple[str, ...]
    name: str = ""
    client_urls: tuple[str, ...] = ()
    is_learner: bool = False

    @property
    def is_started(self) -> bool:
        """Whether it has ever said its name."""
        return bool(self.name)

    def fields(self) -> dict[str, Any]:
        """The fields of etcd's JSON in Go's order; absent ones are left out as Go does."""
        fields: dict[str, Any] = {"id": self.id, "peerURLs": list(self.peer_urls) or None}
        if self.is_learner:
            fields["isLearner"] = True
        return fields | self.attributes()

    def attributes(self) -> dict[str, Any]:
        """The fields a member publishes itself (etcd: Attributes)."""
        fields: dict[str, Any] = {}
        if self.name:
            fields["name"] = self.name
        if self.client_urls:
            fields["clientURLs"] = list(self.client_urls)
        return fields

    def to_json(self) -> bytes:
        """etcd's JSON of a member."""
        return json_text(self.fields()).encode()

    @staticmethod
    def from_fields(fields: Mapping[str, Any]) -> "MemberInfo":
        """Read etcd's JSON of a member, parsed.

        Raises:
            ValueError: it is none.
        """
        try:
            return MemberInfo(
                id=int(fields.get("id", 0)),
                peer_urls=tuple(map(str, fields.get("peerURLs") or ())),
                name=str(fields.get("name", "")),
                client_urls=tuple(map(str, fields.get("clientURLs") or ())),
                is_learner=bool(fields.get("isLearner", False)),
            )
        except (TypeError, AttributeError) as error:
            raise ValueError(f"no member: {error}") from None

    @staticmethod
    def from_json(data: bytes | str) -> "MemberInfo":
        """Read etcd's JSON of a member.

        Raises:
            ValueError: it is none.
        """
        return MemberInfo.from_fields(json.loads(data))


@final
@dataclass(frozen=True)
class Change:
    """One step of a membership change: Raft's part and ours.

    ``member`` is None only for a removal. ``is_promotion`` tells a learner that becomes a voter from a member
    that is added, which to Raft are one kind.
    """

    kind: int
    member_id: int
    member: MemberInfo | None = None
    is_promotion: bool = False

    @property
    def context(self) -> bytes:
        """The JSON that the entry carries (etcd ``ConfigChangeContext``; nothing for a removal)."""
        if self.member is None:
            return b""
        fields = self.member.fields()
        if self.is_promotion:
            fields["isPromote"] = True
        return json_text(fields).encode()

    def encoded(self, request_id: int) -> ConfChange:
        """Raft's form of it."""
        return ConfChange(self.kind, self.member_id, self.context, request_id)


def adding(member: MemberInfo) -> Change:
    """The change that adds a member, as a learner if it is one."""
    kind = CONF_CHANGE_ADD_LEARNER_NODE if member.is_learner else CONF_CHANGE_ADD_NODE
    return Change(kind, member.id, member)


def removing(member_id: int) -> Change:
    """The change that removes a member."""
    return Change(CONF_CHANGE_REMOVE_NODE, member_id)


def updating(member: MemberInfo) -> Change:
    """The change that gives a member other peer URLs."""
    return Change(CONF_CHANGE_UPDATE_NODE, member.id, member)


def promoting(member_id: int) -> Change:
    """The change that gives a learner its vote."""
    return Change(CONF_CHANGE_ADD_NODE, member_id, MemberInfo(member_id, ()), is_promotion=True)


def opened(change: ConfChange | ConfChangeV2) -> list[Change]:
    """The steps of a committed change; none for the one that leaves a joint configuration.

    etcd's members make changes of one step, in the older form. In the newer one the context is a JSON array
    of as many members, or the only one.

    Raises:
        BadContextError: the context is not that of the steps.
    """
    if isinstance(change, ConfChange):
        return [_open(change.type, change.node_id, change.context)]
    steps = change.changes
    try:
        contexts = json.loads(change.context) if change.context else [None] * len(steps)
        contexts = [contexts] if isinstance(contexts, dict) else contexts
        if len(contexts) != len(steps):
            raise ValueError(f"{len(contexts)} contexts for {len(steps)} steps")
    except (ValueError, TypeError) as error:
        raise BadContextError(f"a membership change with a context that is no list: {error}") from None
    return [
        _open(step.type, step.node_id, json.dumps(context).encode())
        for step, context in zip(steps, contexts, strict=True)
        if step.node_id  # else it concerns nobody
    ]


def _open(kind: int, member_id: int, context: bytes) -> Change:
    if kind == CONF_CHANGE_REMOVE_NODE:
        return Change(kind, member_id)
    try:
        fields = json.loads(context)
        member = MemberInfo.from_fields(fields)
    except (ValueError, AttributeError) as error:
        raise BadContextError(f"a membership change with a context that is no member: {error}") from None
    if member.id != member_id:
        raise BadContextError(f"a membership change of {member_id:x} with the context of {member.id:x}")
    is_promotion = kind == CONF_CHANGE_ADD_NODE and bool(fields.get("isPromote", False))
    return Change(kind, member_id, member, is_promotion)


def check(
    members: Mapping[int, MemberInfo], removed: Collection[int], change: Change, max_learners: int
) -> None:
    """Whether a change holds for these members.

    Raises:
        EtcdError: ERR_ID_REMOVED, ERR_MEMBER_NOT_FOUND, ERR_MEMBER_EXIST, ERR_PEER_URL_EXIST,
            ERR_MEMBER_NOT_LEARNER, ERR_TOO_MANY_LEARNERS.
    """
    known = members.get(change.member_id)
    if change.member_id in removed:
        raise ERR_ID_REMOVED
    is_addition = change.kind in (CONF_CHANGE_ADD_NODE, CONF_CHANGE_ADD_LEARNER_NODE)
    if not is_addition or change.is_promotion:
        if known is None:
            raise errors.ERR_MEMBER_NOT_FOUND
        if change.is_promotion and not known.is_learner:
            raise errors.ERR_MEMBER_NOT_LEARNER
    elif known is not None:
        raise errors.ERR_MEMBER_EXIST
    if change.member is None or change.is_promotion:
        return
    taken = {url for member in members.values() if member is not known for url in member.peer_urls}
    if not taken.isdisjoint(change.member.peer_urls):
        raise errors.ERR_PEER_URL_EXIST
    if is_addition and change.member.is_learner:
        learners = sum(member.is_learner for member in members.values())
        if learners + 1 > max_learners:
            raise errors.ERR_TOO_MANY_LEARNERS


def changed(members: Mapping[int, MemberInfo], change: Change) -> dict[int, MemberInfo]:
    """The members after a change that holds for them."""
    after = dict(members)
    if change.kind == CONF_CHANGE_REMOVE_NODE:
        del after[change.member_id]
    elif change.is_promotion:
        after[change.member_id] = replace(after[change.member_id], is_learner=False)
    elif change.kind == CONF_CHANGE_UPDATE_NODE:
        assert change.member is not None, "an update has a member"
        known = after[change.member_id]
        after[change.member_id] = replace(
            known, peer_urls=change.member.peer_urls, is_learner=change.member.is_learner
        )
    else:
        assert change.member is not None, "an addition has a member"
        after[change.member_id] = change.member
    return after
