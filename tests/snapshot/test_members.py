"""The members that a snapshot of etcd's brings: the v2 tree's word against the bucket's."""

import json
from pathlib import Path

from kvorum.mvcc.exchange import BulkWriter
from kvorum.snapshot.members import adopt_members
from kvorum.v2store.node import Node
from kvorum.v2store.tables import Records

STALE = b'{"id":171,"peerURLs":["http://old"],"isLearner":true,"name":"a"}'
TREE = {
    "/0/members": None,
    "/0/members/ab": None,
    "/0/members/ab/raftAttributes": '{"peerURLs":["http://new"]}',
    "/0/members/ab/attributes": '{"name":"a","clientURLs":["http://client"]}',
    "/0/members/cd": None,
    "/0/members/cd/raftAttributes": '{"peerURLs":["http://learner"],"isLearner":true}',
    "/0/removed_members": None,
    "/0/removed_members/ef": "",
    "/1/members/12/attributes": '{"name":"a key of a client"}',
}


def members_after(path: Path, tree: dict[str, str | None]) -> tuple[dict[bytes, object], set[bytes]]:
    writer = BulkWriter(str(path), 0)
    writer.append(b"members", [(b"ab", STALE), (b"ef", b'{"id":239,"peerURLs":[]}')])
    writer.append(b"members_removed", [(b"1", b"removed")])
    records = Records(writer)
    for number, (name, value) in enumerate(tree.items(), 1):
        records.put_node(Node(number, name, 1, value or "", is_dir=value is None))
    adopt_members(writer)
    members = {key: json.loads(value) for key, value in writer.records(b"members")}
    removed = {key for key, _ in writer.records(b"members_removed")}
    writer.abandon()
    return members, removed


def test_the_tree_is_believed(tmp_path: Path) -> None:
    members, removed = members_after(tmp_path / "db", TREE)
    assert members == {
        b"ab": {"id": 0xAB, "peerURLs": ["http://new"], "name": "a", "clientURLs": ["http://client"]},
        b"cd": {"id": 0xCD, "peerURLs": ["http://learner"], "isLearner": True},
    }
    assert removed == {b"1", b"ef"}


def test_without_a_tree_the_bucket_is(tmp_path: Path) -> None:
    members, removed = members_after(tmp_path / "db", {})
    assert members[b"ab"] == json.loads(STALE)
    assert len(members) == 2
    assert removed == {b"1"}
