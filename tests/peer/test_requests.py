"""Requests of peers, good and bad: the same are sent to a real etcd and to ours, and answered alike.

The real one is a member with a removed member, and a learner that nobody runs.
"""

import asyncio
import http.client
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pytest

from kvorum import ETCD_VERSION
from kvorum.peer.codec import frame
from kvorum.raft.codec import encode_message
from kvorum.raft.types import MSG_HEARTBEAT, MSG_SNAP, Message
from kvorum.server.ids import cluster_id, member_id
from tests.peer.station import Station
from tests.support.etcdctl import Etcdctl
from tests.support.ports import free_port
from tests.support.process import Member, etcd

COMPARED: Final = ("content-type", "allow", "location", "x-content-type-options", "x-etcd-cluster-id",
                   "x-server-version")  # fmt: skip


@dataclass(frozen=True)
class Scene:
    """The real member and the ids in its cluster."""

    member: Member
    local: int
    cluster: int
    learner: int
    removed: int


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A real etcd; see the module's docstring."""
    directory: Path = tmp_path_factory.mktemp("requests")
    member = Member(etcd(), directory / "etcd", name="m1")
    try:
        member.start()
        ctl = Etcdctl(member.endpoint)
        added = []
        for name in ("r", "l"):
            url = f"http://127.0.0.1:{free_port()}"
            answer = ctl.json("member", "add", name, f"--peer-urls={url}", "--learner")
            added.append(int(answer["member"]["ID"]))
            if name == "r":
                ctl.run("member", "remove", f"{added[0]:x}")
        local = member_id([member.peer_url], "etcd-cluster")
        yield Scene(member, local, cluster_id([local]), learner=added[1], removed=added[0])
    finally:
        member.close()


@dataclass(frozen=True)
class Answer:
    """What can be seen of an answer; status 0: the connection was closed without one."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...]


def ask(port: int, method: str, path: str, headers: dict[str, str], body: bytes | None) -> Answer:
    """Send a request; returns what comes, but not the body of a stream."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        seen = tuple((name, response.getheader(name) or "") for name in COMPARED)
        return Answer(response.status, _body(response), seen)
    except (http.client.RemoteDisconnected, ConnectionError):
        return Answer(0, b"", ())
    finally:
        connection.close()


def _body(response: http.client.HTTPResponse) -> bytes:
    if response.status == 200 and response.getheader("transfer-encoding") == "chunked":
        return b""
    try:
        return response.read()
    except http.client.IncompleteRead as error:  # etcd hangs up after some errors
        return error.partial


def good_headers(scene: Scene) -> dict[str, str]:
    """The headers of a proper request from the learner."""
    return {
        "X-Server-From": f"{scene.learner:x}",
        "X-Server-Version": ETCD_VERSION,
        "X-Min-Cluster-Version": "3.0.0",
        "X-Etcd-Cluster-ID": f"{scene.cluster:x}",
        "X-Raft-To": f"{scene.local:x}",
    }


def requests(scene: Scene) -> list[tuple[str, str, dict[str, str], bytes | None]]:
    """Method, path, headers other than the good ones (empty: left out), body."""
    msgapp, message = f"/raft/stream/msgapp/{scene.learner:x}", f"/raft/stream/message/{scene.learner:x}"
    beat = Message(MSG_HEARTBEAT, to=scene.local, from_=scene.learner, term=1)
    from_removed = encode_message(Message(MSG_HEARTBEAT, to=scene.local, from_=scene.removed, term=1))
    snap_head = frame(Message(MSG_SNAP, to=scene.local, from_=scene.learner, term=1))
    listed: list[tuple[str, str, dict[str, str], bytes | None]] = []
    for method, path in (("POST", "/raft"), ("GET", msgapp), ("GET", message), ("POST", "/raft/snapshot")):
        for bad in (
            {"X-Etcd-Cluster-ID": "1"},
            {"X-Etcd-Cluster-ID": ""},
            {"X-Etcd-Cluster-ID": f"0{scene.cluster:x}"},
            {"X-Server-Version": "2.3.0", "X-Min-Cluster-Version": "2.1.0"},
            {"X-Server-Version": ""},
            {"X-Server-Version": "9.0.0", "X-Min-Cluster-Version": "9.0.0"},
            {"X-Min-Cluster-Version": "3.6.0", "X-Etcd-Cluster-ID": "1"},
            {"X-Server-Version": "3.5"},
            {"X-Min-Cluster-Version": "x.y.z"},
        ):
            listed += [(method, path, bad, b"" if method == "POST" else None)]
    for method in ("GET", "PUT", "DELETE"):
        listed += [(method, "/raft", {}, None), (method, "/raft/snapshot", {}, None)]
    for method in ("POST", "PUT"):
        listed += [(method, msgapp, {}, b""), (method, "/raft/stream/none/1", {}, b"")]
    for path in (
        "/raft/", "/raft/none",
        "/raft/stream", "/raft/stream/", "/raft/stream/msgapp", "/raft/stream/msgapp/",
        "/raft/stream/none/1", f"{msgapp}/", f"{message}/1", "/raft/stream/message/xyz", "/none",
        "/raft/stream/message/-1", "/raft/stream/msgapp/11111111111111111", "/raft/stream/message/0x1",
        "/raft/stream/message/abc", f"/raft/stream/msgapp/{scene.removed:x}",
        f"/raft/stream/msgapp/{scene.local:x}",
    ):  # fmt: skip
        listed.append(("GET", path, {}, None))
    for wanted in ("", "1", f"0{scene.local:x}"):
        listed.append(("GET", message, {"X-Raft-To": wanted}, None))
    listed += [
        ("GET", message, {}, None),
        ("GET", msgapp, {}, None),
        ("GET", msgapp, {"X-Server-Version": "3.6.1-rc.1+git"}, None),
        ("POST", "/raft", {}, encode_message(beat)),
        ("POST", "/raft", {}, b"\xff\xff"),
        ("POST", "/raft", {}, from_removed),
        ("POST", "/raft/snapshot", {}, b""),
        ("POST", "/raft/snapshot", {}, b"\x00" * 5),
        ("POST", "/raft/snapshot", {}, b"\x00" * 7 + b"\x20abc"),
        ("POST", "/raft/snapshot", {}, b"\xff" * 20),
        ("POST", "/raft/snapshot", {}, frame(beat)),
        ("POST", "/raft/snapshot", {}, snap_head[:-1]),
    ]
    return listed


def test_every_request_is_answered_as_etcd_answers_it(scene: Scene) -> None:
    good = good_headers(scene)

    async def compare() -> list[str]:
        differences = []
        async with Station(scene.local, scene.cluster) as station:
            station.transport.add_peer(scene.learner, [f"http://127.0.0.1:{free_port()}"])
            station.removed.add(scene.removed)
            for method, path, other, body in requests(scene):
                headers = {name: value for name, value in {**good, **other}.items() if value}
                theirs = await asyncio.to_thread(ask, scene.member.peer_port, method, path, headers, body)
                ours = await asyncio.to_thread(ask, int(station.url.port), method, path, headers, body)
                if ours != theirs:
                    differences.append(f"{method} {path} {other} {body!r}\n  etcd {theirs}\n  ours {ours}")
        return differences

    differences = asyncio.run(compare())
    assert not differences, "\n" + "\n".join(differences)


def test_probes_are_answered_as_etcd_answers_them(scene: Scene) -> None:
    async def compare() -> None:
        async with Station(scene.local, scene.cluster) as station:
            theirs = await asyncio.to_thread(ask, scene.member.peer_port, "GET", "/raft/probing", {}, None)
            ours = await asyncio.to_thread(ask, int(station.url.port), "GET", "/raft/probing", {}, None)
            assert (ours.status, ours.headers) == (theirs.status, theirs.headers)
            for answer in (ours, theirs):
                said = json.loads(answer.body)
                assert answer.body.endswith(b'Z"}\n')
                assert list(said) == ["OK", "Now"]
                assert said["OK"] is True
                then = datetime.fromisoformat(said["Now"][:19] + "+00:00")
                assert abs((datetime.now(UTC) - then).total_seconds()) < 60

    asyncio.run(compare())
