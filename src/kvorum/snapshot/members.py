"""Whose word counts on the members in a snapshot of etcd's: the v2 tree's, if it has any.

etcd up to 3.5.2 writes a member into the bucket ``members`` once and never again, so client URLs, moved peer
URLs and promoted learners are not in the file; it reads its own members from the tree. Later ones keep both
alike, and from 3.6 on there is no tree. Source: etcd 3.5.1 ``membership/store.go``
(unsafeSaveMemberToBackend, membersFromStore).
"""

import json
from typing import Final

from kvorum.golang import json_text
from kvorum.logging import hex_id
from kvorum.v2store.tables import Records, Tables

MEMBERS: Final = b"members"
REMOVED: Final = b"members_removed"
_MEMBERS_PATH: Final = "/0/members/"
_REMOVED_PATH: Final = "/0/removed_members/"
_PARTS: Final = ("raftAttributes", "attributes")


def adopt_members(tables: Tables) -> None:
    """Make the tables of members what the v2 tree beside them says; nothing without members in the tree.

    Raises:
        ValueError: the tree's members are not etcd's.
    """
    fields: dict[int, dict[str, object]] = {}
    removed: list[int] = []
    for node in Records(tables).nodes():
        if node.path.startswith(_REMOVED_PATH):
            removed.append(int(node.path.removeprefix(_REMOVED_PATH), 16))
        elif node.path.startswith(_MEMBERS_PATH):
            name, _, part = node.path.removeprefix(_MEMBERS_PATH).partition("/")
            member = fields.setdefault(int(name, 16), {})
            if part in _PARTS:
                member.update(json.loads(node.value))
    if fields:
        _write(tables, fields, removed)


def _write(tables: Tables, fields: dict[int, dict[str, object]], removed: list[int]) -> None:
    members = tables.table(MEMBERS)
    for key in [key for key, _ in members.iterate() if int(key, 16) not in fields]:
        members.delete(key)
    for number, known in fields.items():
        members.put(hex_id(number).encode(), json_text({"id": number, **known}).encode())
    for number in removed:
        tables.table(REMOVED).put(hex_id(number).encode(), b"removed")
