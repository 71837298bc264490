"""The same operations on three members of etcd 3.5.1 and on three of Kvorum are answered alike.

An answer is compared as a client sees it: code and text of a refusal, or which fields and members it shows,
with the members called by their names and the ids of those that were added in between by their order.
"""

import json
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, cast, final

import grpc
import pytest

from kvorum import errors
from kvorum.proto import rpc_pb2 as pb
from kvorum.proto.lease_pb2 import LeaseInternalRequest, LeaseInternalResponse
from tests.support import process
from tests.support.client import Client, refused_with
from tests.support.cluster import LOOSE, Cluster, forming
from tests.support.ports import free_port
from tests.support.process import Member
from tests.support.waiting import wait_until

CODES_SINCE_3_6: Final = {"etcdserver: rpc not supported for learner"}
"""Texts whose code was another one up to etcd 3.5; ours is that of ``facts/grpc_errors.csv``."""


@final
class Pair:
    """Two clusters, and what is done to both."""

    def __init__(self, theirs: Cluster, ours: Cluster) -> None:
        self.clusters: Final = (theirs, ours)

    def same(self, act: Callable[["View"], Any]) -> Any:
        """Do it to both; returns what it came to, which is the same."""
        theirs, ours = (outcome(View(cluster), act) for cluster in self.clusters)
        assert ours == theirs
        return ours

    def each(self, act: Callable[["View"], object]) -> None:
        """Do it to both, whatever comes of it."""
        for cluster in self.clusters:
            act(View(cluster))


@final
class View:
    """One cluster in terms that are the same for both."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster: Final = cluster
        self.leader: Final = cluster.wait_leader()

    @property
    def at_leader(self) -> Client:
        return self.cluster.client(self.leader)

    @property
    def follower(self) -> Member:
        return next(member for member in self.cluster.members[:3] if member is not self.leader)

    @property
    def at_follower(self) -> Client:
        return self.cluster.client(self.follower)

    @property
    def extra(self) -> int:
        """The id of the member that was added last."""
        names = {member.peer_url for member in self.cluster.members}
        listed = self.at_leader.member_list().members
        return next(int(member.ID) for member in listed if not names & {*member.peerURLs})

    def id_of(self, member: Member) -> int:
        return self.cluster.id_of(member)

    def add(self, urls: Sequence[str], *, learner: bool = False, client: Client | None = None) -> Any:
        request = pb.MemberAddRequest(peerURLs=urls, isLearner=learner)
        asked = client or self.at_leader
        return asked.call("etcdserverpb.Cluster/MemberAdd", request, pb.MemberAddResponse)

    def update(self, member_id: int, urls: Sequence[str]) -> Any:
        request = pb.MemberUpdateRequest(ID=member_id, peerURLs=urls)
        return self.at_leader.call("etcdserverpb.Cluster/MemberUpdate", request, pb.MemberUpdateResponse)

    def named(self, response: Any) -> Any:
        """A response with what differs from cluster to cluster replaced."""
        names = {member.peer_url: member.name for member in self.cluster.members}

        def member(one: Any) -> tuple[Any, ...]:
            urls = tuple(names.get(url, "other") for url in one.peerURLs)
            return one.name, urls, len(one.clientURLs), one.isLearner, one.ID != 0

        fields = {field.name for field, _ in response.ListFields()}
        header = {field.name for field, _ in response.header.ListFields()} if "header" in fields else None
        added = member(response.member) if "member" in fields else None
        members = sorted(map(member, getattr(response, "members", ())))
        return sorted(fields), sorted(header or ()), added, members


def outcome(view: View, act: Callable[[View], Any]) -> Any:
    try:
        result = act(view)
    except grpc.RpcError as refusal:
        call = cast("grpc.Call", refusal)
        text = call.details() or ""
        return (None if text in CODES_SINCE_3_6 else call.code().name), text
    return view.named(result) if hasattr(result, "ListFields") else result


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    programs = ([process.etcd()] * 3, [process.kvorum()] * 3)
    with (
        forming(tmp_path_factory.mktemp("etcd"), programs[0], LOOSE) as theirs,
        forming(tmp_path_factory.mktemp("kvorum"), programs[1], LOOSE) as ours,
    ):
        yield Pair(theirs, ours)


UNKNOWN: Final = 0x1234
BAD_URLS: Final[tuple[list[str], ...]] = (
    [],
    [""],
    ["127.0.0.1:1"],
    ["http://127.0.0.1"],
    ["ftp://127.0.0.1:1"],
    ["http://127.0.0.1:1/path"],
    ["http://127.0.0.1:1", "x"],
    ["http://[::1:1"],
)


@pytest.mark.parametrize("urls", BAD_URLS, ids=repr)
def test_bad_urls(pair: Pair, urls: list[str]) -> None:
    code, text = pair.same(lambda view: view.add(urls))
    assert (code, text) == ("INVALID_ARGUMENT", "etcdserver: given member URLs are invalid")


REFUSED: Final[dict[str, Callable[[View], Any]]] = {
    "add a peer URL twice": lambda view: view.add([view.follower.peer_url]),
    "add it through a follower": lambda view: view.add([view.leader.peer_url], client=view.at_follower),
    "add it as a learner": lambda view: view.add([view.follower.peer_url], learner=True),
    "one of two URLs is there": lambda view: view.add(["http://127.0.0.1:1", view.leader.peer_url]),
    "remove an unknown one": lambda view: view.at_leader.member_remove(UNKNOWN),
    "remove nobody": lambda view: view.at_leader.member_remove(0),
    "remove at a follower": lambda view: view.at_follower.member_remove(UNKNOWN),
    "update an unknown one": lambda view: view.update(UNKNOWN, ["http://127.0.0.1:1"]),
    "update to another's URL": lambda view: view.update(view.id_of(view.follower), [view.leader.peer_url]),
    "promote an unknown one": lambda view: view.at_leader.member_promote(UNKNOWN),
    "promote it at a follower": lambda view: view.at_follower.member_promote(UNKNOWN),
    "promote a voter": lambda view: view.at_leader.member_promote(view.id_of(view.follower)),
    "promote it at itself": lambda view: view.at_follower.member_promote(view.id_of(view.follower)),
    "promote the leader": lambda view: view.at_leader.member_promote(view.id_of(view.leader)),
    "move to an unknown one": lambda view: view.at_leader.move_leader(UNKNOWN),
    "move to nobody": lambda view: view.at_leader.move_leader(0),
    "move at a follower": lambda view: view.at_follower.move_leader(view.id_of(view.follower)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(pair: Pair, name: str) -> None:
    code, text = pair.same(REFUSED[name])
    assert code in ("NOT_FOUND", "FAILED_PRECONDITION"), text
    assert text.startswith("etcdserver: ")


def test_answers(pair: Pair) -> None:
    fields, header, _, members = pair.same(lambda view: view.at_follower.member_list())
    assert fields == ["header", "members"]
    assert header == ["cluster_id", "member_id", "raft_term"]
    assert members == [(f"m{n}", (f"m{n}",), 1, False, True) for n in (1, 2, 3)]
    own = pair.same(lambda view: view.update(view.id_of(view.follower), [view.follower.peer_url]))
    assert own[3] == members
    moved = pair.same(lambda view: view.at_leader.move_leader(view.id_of(view.leader)))
    assert moved == ([], [], None, []), "to itself, and no header"


def test_a_learner_comes_and_goes(pair: Pair) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    added = pair.same(lambda view: view.add([url], learner=True))
    assert added[2] == ("", ("other",), 0, True, True)
    pair.same(lambda view: view.add([f"http://127.0.0.1:{free_port()}"], learner=True))  # one too many
    pair.same(lambda view: view.add([url]))
    promotions: tuple[Callable[[View], Any], ...] = (
        lambda view: view.at_leader.member_promote(view.extra),
        lambda view: view.at_follower.member_promote(view.extra),
    )
    for promotion in promotions:
        code, text = pair.same(promotion)
        assert code == "FAILED_PRECONDITION"
        assert text.endswith("which is in sync with leader")
    pair.same(lambda view: view.at_leader.move_leader(view.extra))
    before: dict[str, int] = {}
    pair.each(lambda view: before.update({str(view.cluster.directory): view.extra}))
    removed = pair.same(lambda view: view.at_follower.member_remove(view.extra))
    assert len(removed[3]) == 3

    def gone(view: View) -> int:
        return before[str(view.cluster.directory)]

    assert pair.same(lambda view: view.at_leader.member_remove(gone(view)))[0] == "NOT_FOUND"
    assert pair.same(lambda view: view.update(gone(view), [url]))[0] == "NOT_FOUND"
    assert pair.same(lambda view: view.at_leader.member_promote(gone(view)))[0] == "NOT_FOUND"
    assert pair.same(lambda view: view.add([url, url]))[0] == ["header", "member", "members"]
    pair.each(lambda view: view.at_leader.member_remove(view.extra))


TARGETS: Final = ("3.4", "3.4.0", "3.4.7", "3.5", "3.6.0", "3.3", "2.4", "3", "", "x", "3.4.x", "-1.4")
VALIDATE, ENABLE, CANCEL, UNHEARD_OF = (cast("pb.DowngradeRequest.DowngradeAction", n) for n in (0, 1, 2, 7))


def downgrade(
    view: View, action: "pb.DowngradeRequest.DowngradeAction", target: str, *, enabled: bytes = b"false"
) -> Any:
    request = pb.DowngradeRequest(action=action, version=target)
    wait_until(lambda: _agreed(view), "the version is agreed on")
    try:
        answer = view.at_follower.call("etcdserverpb.Maintenance/Downgrade", request, pb.DowngradeResponse)
    finally:
        assert http("GET", view.leader.peer_url + "/downgrade/enabled")[2] == enabled
    return answer.version, answer.HasField("header")


def _agreed(view: View) -> bool:
    return bool(json.loads(http("GET", view.leader.url + "/version")[2])["etcdcluster"] == "3.5.0")


@pytest.mark.parametrize("target", TARGETS, ids=repr)
def test_what_a_downgrade_may_lead_to(pair: Pair, target: str) -> None:
    pair.same(lambda view: downgrade(view, VALIDATE, target))


def test_downgrade(pair: Pair) -> None:
    assert pair.same(lambda view: downgrade(view, CANCEL, ""))[0] == "FAILED_PRECONDITION"
    assert pair.same(lambda view: downgrade(view, ENABLE, "3.5"))[0] == "INVALID_ARGUMENT"
    assert pair.same(lambda view: downgrade(view, UNHEARD_OF, "3.4"))[0] == "UNKNOWN"
    # That it is allowed etcd 3.5.1 answers with a timeout: it forgets who waits. (So it does for CANCEL.)
    ours = View(pair.clusters[1])
    assert outcome(ours, lambda view: downgrade(view, ENABLE, "3.4", enabled=b"true")) == ("3.5.0", True)
    for action in (VALIDATE, ENABLE):
        with refused_with(errors.ERR_DOWNGRADE_IN_PROCESS):
            downgrade(ours, action, "3.4", enabled=b"true")
    assert outcome(ours, lambda view: downgrade(view, CANCEL, "")) == ("3.5.0", True)
    assert pair.same(lambda view: downgrade(view, VALIDATE, "3.4")) == ("3.5.0", True)


# --- the peer port ----------------------------------------------------------------------------------------

Reply = tuple[int, dict[str, str], bytes]


def http(method: str, url: str, body: bytes = b"") -> Reply:
    request = urllib.request.Request(url, data=body or None, method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=20) as response:
            headers = {name.lower(): value for name, value in response.headers.items()}
            return response.status, headers, response.read()
    except urllib.error.HTTPError as error:
        with error:
            headers = {name.lower(): value for name, value in error.headers.items()}
            return error.code, headers, error.read()


COMPARED: Final = ("content-type", "x-etcd-cluster-id", "x-content-type-options")

PATHS: Final = (
    ("GET", "/version", b""),
    ("POST", "/version", b"x"),
    ("GET", "/members", b""),
    ("POST", "/members", b"x"),
    ("GET", "/members/", b""),
    ("GET", "/members/nothing", b""),
    ("GET", "/members/promote/1", b""),
    ("POST", "/members/promote/", b""),
    ("POST", "/members/promote/x", b""),
    ("POST", "/members/promote/-1", b""),
    ("POST", "/members/promote/99999999999999999999", b""),
    ("POST", f"/members/promote/{UNKNOWN}", b""),
    ("GET", "/leases", b""),
    ("POST", "/leases", b""),
    ("POST", "/leases", b"\xff"),
    ("POST", "/leases", b"\x08\x07"),
    ("POST", "/leases/internal", b"\xff"),
    ("POST", "/leases/internal", b"\x0a\x02\x08\x07"),
    ("GET", "/leases/internal", b""),
    ("GET", "/downgrade/enabled", b""),
    ("POST", "/downgrade/enabled", b"x"),
    ("GET", "/members/hashkv", b"x"),
    ("GET", "/members/hashkv", b'{"revision":100000}'),
    ("POST", "/members/hashkv", b"{}"),
    ("GET", "/nothing", b""),
)


@pytest.mark.parametrize(("method", "path", "body"), PATHS, ids=lambda value: str(value))
def test_peer_port(pair: Pair, method: str, path: str, body: bytes) -> None:
    def ask(view: View) -> Any:
        status, headers, answer = http(method, view.leader.peer_url + path, body)
        names = {member.peer_url: member.name for member in view.cluster.members}
        names |= {member.url: f"{member.name}-client" for member in view.cluster.members}
        text = answer.decode()
        for address, name in names.items():
            text = text.replace(address, name)
        cluster_id = f"{view.at_leader.member_list().header.cluster_id:x}"
        text = re.sub(r'"id":\d+', '"id":0', text)
        shown = {name: headers.get(name, "").replace(cluster_id, "CLUSTER") for name in COMPARED}
        if path == "/members" and status == 200:
            members = sorted(json.loads(text), key=lambda member: member["name"])
            return status, shown, members, text.endswith("\n")
        return status, shown, text

    pair.same(ask)


def test_leases_on_the_peer_port(pair: Pair) -> None:
    def look(view: View) -> Any:
        lease = view.at_leader.grant(1000).ID
        view.at_leader.put(b"leased", b"", lease=lease)
        asked = LeaseInternalRequest(
            LeaseTimeToLiveRequest=pb.LeaseTimeToLiveRequest(ID=lease, keys=True)
        ).SerializeToString()
        renewed = http(
            "POST", view.leader.peer_url + "/leases", pb.LeaseKeepAliveRequest(ID=lease).SerializeToString()
        )
        status, headers, body = http("POST", view.leader.peer_url + "/leases/internal", asked)
        left = LeaseInternalResponse.FromString(body).LeaseTimeToLiveResponse
        answer = pb.LeaseKeepAliveResponse.FromString(renewed[2])
        view.at_leader.revoke(lease)
        return (
            (
                renewed[0],
                renewed[1]["content-type"],
                answer.TTL,
                lease == answer.ID,
                answer.HasField("header"),
            ),
            (status, headers["content-type"], lease == left.ID, left.TTL, left.grantedTTL, list(left.keys)),
            left.HasField("header"),
        )

    pair.same(look)


# --- leases and metadata through any member ---------------------------------------------------------------


def test_leases_through_a_follower(pair: Pair) -> None:
    def use(view: View) -> Any:
        client = view.at_follower
        lease = client.grant(1000).ID
        client.put(b"leased", b"", lease=lease)
        left = client.time_to_live(lease, keys=True)
        unknown = client.time_to_live(UNKNOWN, keys=True)
        renewed = keep_alive(client, [lease, UNKNOWN, lease])
        client.revoke(lease)
        return (
            (lease == left.ID, left.TTL, left.grantedTTL, list(left.keys)),
            (left.header.member_id == view.id_of(view.follower), left.header.revision > 0),
            (unknown.ID, unknown.TTL, unknown.grantedTTL, list(unknown.keys)),
            [(answer.ID in (lease, UNKNOWN), answer.TTL) for answer in renewed],
            {answer.header.member_id == view.id_of(view.follower) for answer in renewed},
            keep_alive(client, [lease])[0].TTL,
            lease in client.leases(),
        )

    pair.same(use)


def keep_alive(client: Client, leases: Sequence[int]) -> list[pb.LeaseKeepAliveResponse]:
    stub = client.channel.stream_stream(
        "/etcdserverpb.Lease/LeaseKeepAlive",
        request_serializer=pb.LeaseKeepAliveRequest.SerializeToString,
        response_deserializer=pb.LeaseKeepAliveResponse.FromString,
    )
    return list(stub(iter([pb.LeaseKeepAliveRequest(ID=lease) for lease in leases]), timeout=20))


def test_calls_that_ask_for_a_leader(pair: Pair) -> None:
    def ask(view: View) -> Any:
        request = pb.RangeRequest(key=b"k", serializable=True)
        answered = view.at_follower.call(
            "etcdserverpb.KV/Range", request, pb.RangeResponse, metadata=[("hasleader", "true")]
        )
        return answered.count

    assert pair.same(ask) == 0
