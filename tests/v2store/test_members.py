"""The tree below /0, by the same changes of a cluster, in etcd 3.4.23 and here."""

import http.client
import json
import re
from contextlib import closing
from pathlib import Path
from typing import Any

from kvorum.mvcc.exchange import Committed
from kvorum.server.changes import MemberInfo
from kvorum.server.v2_members import V2Members
from kvorum.snapshot.snap_file import read_snap_file
from kvorum.v2store.dump import save_json
from kvorum.v2store.store import Store
from tests.support.etcdctl import Etcdctl
from tests.support.process import Member, Program, etcd34, kvorum
from tests.v2store.memory import Clock, MemoryTables

SNAPSHOT_COUNT = 10


def tree_below(state: bytes, prefix: str) -> list[tuple[str, str, int, int]]:
    """(path, value, created, modified) of etcd's JSON, with members' IDs, ports and versions made alike."""
    rows: list[tuple[str, str, int, int]] = []
    waiting: list[dict[str, Any]] = [json.loads(state)["Root"]]
    while waiting:
        node = waiting.pop()
        waiting += (node["Children"] or {}).values()
        if node["Path"].startswith(prefix):
            rows.append((node["Path"], node["Value"], node["CreatedIndex"], node["ModifiedIndex"]))
    rows.sort(key=lambda row: (row[2], row[0]))
    ids: dict[str, str] = {}
    return [
        (
            re.sub(r"(?<=members/)[0-9a-f]+", lambda m: ids.setdefault(m[0], f"<{len(ids)}>"), path),
            re.sub(r"127\.0\.0\.1:\d{4,}", "<host>", value) if path != "/0/version" else "<version>",
            created,
            modified,
        )
        for path, value, created, modified in rows
    ]


def saved_state(member: Member) -> bytes:
    """The JSON of the stopped member's store."""
    snap = member.data_dir / "member" / "snap"
    if member.program.name == "kvorum":
        with Committed(str(snap / "kvorum.lmdb"), 1 << 30, None) as view:
            return save_json(view)
    return read_snap_file(str(max(snap.glob("*.snap")))).data


def live(program: Program, data_dir: Path) -> tuple[list[str], list[tuple[str, str, int, int]]]:
    """A cluster's life: the indices that a v2 client saw, and what is below /0 in the end."""
    flags = ["--enable-v2=true", f"--snapshot-count={SNAPSHOT_COUNT}"]
    indices: list[str] = []
    with Member(program, data_dir, flags=flags) as member:
        ctl = Etcdctl(member.endpoint)
        with closing(http.client.HTTPConnection("127.0.0.1", member.client_port, timeout=20)) as client:

            def look(method: str = "GET") -> None:
                client.request(method, "/v2/keys/k?value=x")
                response = client.getresponse()
                response.read()
                indices.append(str(response.getheader("X-Etcd-Index")))

            member.wait_log("enabled capabilities for version")
            look()
            for number in (10, 11):
                url = f"http://127.0.0.1:{number}"
                added = ctl.json("member", "add", "new", "--learner", f"--peer-urls={url}")
                look()
                member_id = f"{added['member']['ID']:x}"
                ctl.run("member", "update", member_id, "--peer-urls=http://127.0.0.1:2")
                look()
                ctl.run("member", "remove", member_id)
                look()
            ctl.run("member", "add", "stays", "--learner", "--peer-urls=http://127.0.0.1:3")
            for _ in range(SNAPSHOT_COUNT):
                look("PUT")
        member.wait_log("saved snapshot")
        member.stop()
        return indices, tree_below(saved_state(member), "/0")


def test_the_same_changes_leave_the_same_tree_at_the_same_index(tmp_path: Path) -> None:
    etcds, ours = (live(program, tmp_path / program.name) for program in (etcd34(), kvorum()))
    assert ours[0] == etcds[0]
    assert ours[0][0] == "3", "a member, what it published, the version"
    assert ours[1] == etcds[1]
    assert any(path == "/0/removed_members/<1>" for path, *_ in ours[1])


def test_a_vote_given_later_is_written_over_the_rest() -> None:
    store = Store(MemoryTables(), Clock())
    members = V2Members(store)
    members.member_added(MemberInfo(0xABC, ("http://a:1", "http://b:2"), is_learner=True))
    path = "/0/members/abc/raftAttributes"
    assert store.get(path).node.value == '{"peerURLs":["http://a:1","http://b:2"],"isLearner":true}'
    members.raft_attributes_set(MemberInfo(0xABC, ("http://a:1",)))
    assert store.get(path).node.value == '{"peerURLs":["http://a:1"]}'
    members.attributes_set(MemberInfo(0xABC, ("http://a:1",), "<x>", ("http://c:3",)))
    assert store.get("/0/members/abc/attributes").node.value == (
        '{"name":"\\u003cx\\u003e","clientURLs":["http://c:3"]}'
    )
    assert store.index == 3


def test_a_tree_that_lacks_its_members_is_mended_as_they_change() -> None:
    """It came from a member of etcd 3.6, which sends none."""
    store = Store(MemoryTables(), Clock())
    members = V2Members(store)
    members.raft_attributes_set(MemberInfo(1, ("http://a:1",)))
    members.member_removed(2)
    members.attributes_set(MemberInfo(1, ("http://a:1",), "n"))
    members.member_added(MemberInfo(1, ("http://a:2",)))
    assert store.get("/0/members/1/raftAttributes").node.value == '{"peerURLs":["http://a:2"]}'
    assert store.get("/0/removed_members/2").node.value == ""
