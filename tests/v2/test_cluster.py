"""The v2 API of three members: writes through any of them, one expiry for all, members by HTTP."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import process
from tests.support.cluster import LOOSE, Cluster, forming
from tests.support.process import Member
from tests.v2.differential.steps import FORM
from tests.v2.differential.wire import Answer, Connection

JSON = ("Content-Type", "application/json")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with forming(tmp_path_factory.mktemp("v2"), [process.kvorum()] * 3, LOOSE) as formed:
        yield formed


def ask(member: Member, method: str, path: str, body: str = "", kind: tuple[str, str] = FORM) -> Answer:
    connection = Connection(member.client_port)
    try:
        return connection.ask(method, path.encode(), (kind,), body.encode())
    finally:
        connection.close()


def node(answer: Answer) -> Any:
    return json.loads(answer.body)["node"]


def test_a_write_through_a_follower_is_seen_through_all(cluster: Cluster) -> None:
    followers = cluster.followers()
    made = ask(followers[0], "PUT", "/v2/keys/a", "value=x")
    assert made.status == 201
    for member in cluster.members:
        assert node(ask(member, "GET", "/v2/keys/a?quorum=true")) == node(made)
    waiting = Connection(followers[1].client_port)
    waiting.send("GET", b"/v2/keys/a?wait=true", (), b"")
    head = waiting.read_head()
    changed = ask(cluster.wait_leader(), "PUT", "/v2/keys/a", "value=y")
    assert waiting.read_piece(head) == changed.body
    waiting.close()


def test_all_expire_the_same_at_the_same_index(cluster: Cluster) -> None:
    for name in ("t1", "t2", "t3"):
        made = ask(cluster.followers()[0], "PUT", f"/v2/keys/ttl/{name}", "value=x&ttl=1")
    index = node(made)["modifiedIndex"]
    told = []
    for member in cluster.members:
        connection = Connection(member.client_port)
        path = f"/v2/keys/ttl?wait=true&recursive=true&waitIndex={index + 1}"
        told.append(connection.ask("GET", path.encode(), (), b"").body)
        connection.close()
    assert len(set(told)) == 1
    assert json.loads(told[0])["action"] == "expire"
    assert json.loads(told[0])["node"]["key"] == "/ttl/t1"


def test_who_leads_and_what_only_the_leader_says(cluster: Cluster) -> None:
    leader = cluster.wait_leader()
    for member in cluster.members:
        told = json.loads(ask(member, "GET", "/v2/members/leader").body)
        assert told["name"] == leader.name
        stats = json.loads(ask(member, "GET", "/v2/stats/self").body)
        assert stats["state"] == ("StateLeader" if member is leader else "StateFollower")
        assert stats["leaderInfo"]["leader"] == told["id"]
        assert stats["sendAppendRequestCnt" if member is leader else "recvAppendRequestCnt"] > 0
        listed = json.loads(ask(member, "GET", "/v2/members").body)["members"]
        assert sorted(one["name"] for one in listed) == sorted(one.name for one in cluster.members)
        machines = ask(member, "GET", "/v2/machines").body.decode().split(", ")
        assert machines == sorted(one.url for one in cluster.members)
        answer = ask(member, "GET", "/v2/stats/leader")
        assert answer.status == (200 if member is leader else 403)
    followers = json.loads(ask(leader, "GET", "/v2/stats/leader").body)["followers"]
    assert len(followers) == 2


def test_members_come_and_go_by_http(cluster: Cluster) -> None:
    """What python-etcd's and etcdctl's (v2) users do: announce a member, change its URL, remove it."""
    member = cluster.followers()[0]
    added = ask(member, "POST", "/v2/members", '{"peerURLs":["http://127.0.0.1:1"]}', JSON)
    assert added.status == 201
    new = json.loads(added.body)
    assert (new["name"], new["peerURLs"], new["clientURLs"]) == ("", ["http://127.0.0.1:1"], [])
    again = ask(member, "POST", "/v2/members", json.dumps({"peerURLs": [member.peer_url]}), JSON)
    assert (again.status, again.body) == (409, b'{"message":"membership: peerURL exists"}')
    path = f"/v2/members/{new['id']}"
    assert ask(member, "PUT", path, '{"peerURLs":["http://127.0.0.1:2"]}', JSON).status == 204
    listed = json.loads(ask(member, "GET", "/v2/members").body)["members"]
    assert [one["peerURLs"] for one in listed if one["id"] == new["id"]] == [["http://127.0.0.1:2"]]
    assert ask(member, "DELETE", path).status == 204
    gone = ask(member, "DELETE", path)
    assert (gone.status, json.loads(gone.body)) == (
        410,
        {"message": f"Member permanently removed: {new['id']}"},
    )
    assert ask(member, "PUT", path, '{"peerURLs":["http://127.0.0.1:3"]}', JSON).status in (404, 410, 500)


def test_users_count_on_every_member(cluster: Cluster) -> None:
    first, second = cluster.followers()
    body = '{"user":"root","password":"secret"}'
    assert ask(first, "PUT", "/v2/auth/users/root", body).status == 201
    assert ask(first, "PUT", "/v2/auth/enable").status == 200
    root = ("Authorization", "Basic cm9vdDpzZWNyZXQ=")
    try:
        for _ in range(50):  # applied there a moment later
            answer = ask(second, "GET", "/v2/auth/users")
            if answer.status == 401:
                break
        assert answer.status == 401
        assert ask(second, "GET", "/v2/auth/users", "", root).status == 200
    finally:
        assert ask(second, "DELETE", "/v2/auth/enable", "", root).status == 200
