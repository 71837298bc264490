"""The cluster's version, and joining a cluster that runs."""

import asyncio
import json
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pytest

from kvorum import ETCD_VERSION, limits
from kvorum.apply.applier import Result
from kvorum.errors import ERR_REQUEST_TOO_MANY_REQUESTS, ERR_STOPPED
from kvorum.logging import DEBUG, Logger
from kvorum.proto.membership_pb2 import DowngradeInfoSetRequest
from kvorum.server import joining, requests, versions
from kvorum.server.changes import MemberInfo
from kvorum.server.joining import JoinError, RemoteCluster
from kvorum.server.membership import Cluster
from kvorum.server.propose import Done
from kvorum.server.versions import LOCAL_VERSION, MemberVersions, Version, VersionMonitor
from kvorum.urls import parse_urls
from kvorum.v2store.request import V2Request
from tests.http.serving import Lines
from tests.membership.kit import LOCAL, HandClock, MemoryTables, member, settle

SILENT: Final = Logger((), level=DEBUG)
MINOR: Final = f"{LOCAL_VERSION.major}.{LOCAL_VERSION.minor}"
NEXT: Final = Version(LOCAL_VERSION.major, LOCAL_VERSION.minor + 1)


def said(*servers: str | None, cluster: str = f"{MINOR}.0") -> dict[int, MemberVersions | None]:
    """What members 1, 2, ... say; None for nothing."""
    return {
        number: None if server is None else MemberVersions(server, cluster)
        for number, server in enumerate(servers, 1)
    }


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("3.5.1", (3, 5, 1)), ("3.5.0-rc.1", (3, 5, 0)), ("3.6.0+git", (3, 6, 0)), ("10.20.30", (10, 20, 30)),
        ("not_decided", None), ("3.5", None), ("3.5.x", None), ("", None), ("v3.5.1", None),
    ],
)  # fmt: skip
def test_versions_as_text(text: str, parsed: tuple[int, int, int] | None) -> None:
    if parsed is None:
        with pytest.raises(ValueError):
            versions.parse_version(text)
    else:
        assert versions.parse_version(text) == Version(*parsed)


@pytest.mark.parametrize(
    ("servers", "decided"),
    [
        (["2.0.0"], "2.0.0"), ([None], None), (["2.0.0", "2.1.0", "2.1.0"], "2.0.0"),
        (["2.1.0", "2.1.0", "2.1.0"], "2.1.0"), ([None, "2.1.0", "2.1.0"], None), (["3.5.1", "x"], None),
        ([ETCD_VERSION, "99.0.0"], ETCD_VERSION),
    ],
)  # fmt: skip
def test_the_smallest_is_the_clusters(servers: list[str | None], decided: str | None) -> None:
    smallest = versions.decide(said(*servers), SILENT)
    assert (None if smallest is None else str(smallest)) == decided


@pytest.mark.parametrize(
    ("agreed", "decided", "becomes"),
    [
        (None, None, "3.0.0"), (None, "3.5.1", "3.5.0"), ("3.0.0", "3.5.1", "3.5.0"),
        ("3.4.0", "3.5.0", "3.5.0"), ("3.5.0", "3.5.4", None), ("3.5.0", "3.4.9", None),
        ("3.5.0", None, None), ("3.5.0", "4.0.0", None),
    ],
)  # fmt: skip
def test_it_only_rises(agreed: str | None, decided: str | None, becomes: str | None) -> None:
    smallest = None if decided is None else versions.parse_version(decided)
    version = versions.next_version(agreed, smallest)
    assert (None if version is None else str(version)) == becomes


@pytest.mark.parametrize(
    ("clusters", "fits"),
    [
        (["x", f"{MINOR}.0"], True), (["x", "3.0.0"], True), (["x", "2.3.0"], False), (["x", None], False),
        (["x", str(NEXT)], False), (["x", None, f"{MINOR}.0"], True), (["x", "not_decided"], False),
        (["x", f"{MINOR}.0", str(NEXT)], False), (["99.0.0", f"{MINOR}.0"], True),
    ],
)  # fmt: skip
def test_which_cluster_one_can_join(clusters: list[str | None], fits: bool) -> None:
    told = {
        number: None if cluster is None else MemberVersions("3.5.1", cluster)
        for number, cluster in enumerate(clusters, 1)
    }
    assert versions.is_compatible(told, LOCAL, SILENT) == fits


# --- asking -----------------------------------------------------------------------------------------------


@dataclass
class Answer:
    """What a member says."""

    status: int
    body: bytes
    headers: dict[str, str]

    def header(self, name: str) -> str:
        return self.headers.get(name, "")


class Network:
    """Other members' peer URLs, by hand; what is not there does not answer."""

    def __init__(self) -> None:
        self.answers: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.cluster_id = "cdf818194e3a8c32"

    async def get(
        self, url: str, path: str, *, headers: Sequence[tuple[str, str]] = (), timeout_seconds: float = 5.0
    ) -> Answer:
        self.asked.append(url + path)
        await asyncio.sleep(0)
        if url + path not in self.answers:
            raise OSError("connection refused")
        return Answer(200, self.answers[url + path], {joining.CLUSTER_ID_HEADER: self.cluster_id})

    async def post(
        self,
        url: str,
        path: str,
        body: bytes = b"",
        *,
        headers: Sequence[tuple[str, str]] = (),
        timeout_seconds: float = 5.0,
    ) -> Answer:
        raise AssertionError("nothing is posted here")

    def say_version(self, url: str, server: str, cluster: str = f"{MINOR}.0") -> None:
        text = json.dumps({"etcdserver": server, "etcdcluster": cluster})
        self.answers[url + "/version"] = text.encode()

    def say_members(self, url: str, members: Sequence[MemberInfo]) -> None:
        self.answers[url + "/members"] = json.dumps([one.fields() for one in members]).encode()


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(scenario())


def test_every_url_of_a_member_is_tried() -> None:
    async def scenario() -> None:
        network = Network()
        two = MemberInfo(2, ("http://a:1", "http://b:1", "http://c:1"), "m2")
        network.answers["http://b:1/version"] = b"[]"
        network.say_version("http://c:1", "3.5.1", "3.4.0")
        told = await versions.ask_versions([two, member(3)], network, SILENT)
        assert told == {2: MemberVersions("3.5.1", "3.4.0"), 3: None}

    run(scenario)


class Leading:
    """A member whose log is by hand."""

    def __init__(self) -> None:
        self.leader = LOCAL
        self.log: list[tuple[str, Done]] = []
        self.full = False

    def propose(self, number: int, body: bytes, done: Done) -> None:
        if self.full:
            raise ERR_REQUEST_TOO_MANY_REQUESTS
        if number == requests.DOWNGRADE_INFO_SET:
            assert not DowngradeInfoSetRequest.FromString(body).enabled
            self.log.append(("stay", done))
            return
        assert number == requests.V2
        request = V2Request.decode(body)
        assert (request.method, request.path) == ("PUT", "/0/version")
        self.log.append((request.val, done))


class Watched:
    """A monitor with everything around it."""

    def __init__(self, *others: int) -> None:
        self.network = Network()
        self.clock = HandClock()
        self.member = Leading()
        self.cluster = Cluster(1, LOCAL, MemoryTables())
        self.cluster.assume([member(LOCAL), *map(member, others)])
        self.monitor = VersionMonitor(self.cluster, self.member, self.network, self.clock, SILENT)

    async def __aenter__(self) -> "Watched":
        self.task = asyncio.ensure_future(self.monitor.run())
        await settle()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.task.cancel()
        await settle()

    async def later(self) -> None:
        self.clock.forward(limits.VERSION_MONITOR_SECONDS)
        await settle()

    async def apply(self) -> str:
        version, done = self.member.log.pop()
        assert not self.member.log
        if version == "stay":
            self.cluster.set_downgrade(enabled=False, target="")
        else:
            self.cluster.set_version(version)
        done(Result(0, b""))
        await settle()
        return version


def test_a_lone_member_decides_when_its_term_begins() -> None:
    async def scenario() -> None:
        async with Watched() as watched:
            assert not watched.member.log
            watched.monitor.term_began()
            await settle()
            assert await watched.apply() == f"{MINOR}.0"
            await watched.later()
            assert not watched.member.log

    run(scenario)


def test_a_new_cluster_begins_low_and_rises_when_all_answer() -> None:
    async def scenario() -> None:
        async with Watched(2, 3) as watched:
            watched.monitor.term_began()
            await settle()
            assert await watched.apply() == "3.0.0"
            watched.network.say_version("http://10.0.0.2:2380", ETCD_VERSION, "3.0.0")
            await watched.later()
            assert not watched.member.log, "one is unknown"
            watched.network.say_version("http://10.0.0.3:2380", "3.4.20", "3.0.0")
            await watched.later()
            assert await watched.apply() == "3.4.0"
            watched.network.say_version("http://10.0.0.3:2380", ETCD_VERSION, "3.4.0")
            await watched.later()
            assert await watched.apply() == f"{MINOR}.0"

    run(scenario)


def test_only_the_leader_decides() -> None:
    async def scenario() -> None:
        async with Watched(2) as watched:
            watched.member.leader = 2
            watched.monitor.term_began()
            await watched.later()
            assert not watched.network.asked
            assert not watched.member.log

    run(scenario)


def test_what_is_refused_is_proposed_again() -> None:
    async def scenario() -> None:
        async with Watched() as watched:
            watched.member.full = True
            watched.monitor.term_began()
            await settle()
            watched.member.full = False
            await watched.later()
            _, done = watched.member.log.pop()
            done(Result(0, b"", ERR_STOPPED))
            await settle()
            await watched.later()
            assert await watched.apply() == f"{MINOR}.0"

    run(scenario)


def test_a_downgrade() -> None:
    """While it is allowed, the version may fall to its target; when all say so, it is over."""

    async def scenario() -> None:
        older = str(Version(LOCAL_VERSION.major, LOCAL_VERSION.minor - 1))
        async with Watched(2) as watched:
            watched.network.say_version("http://10.0.0.2:2380", ETCD_VERSION)
            watched.monitor.term_began()
            await settle()
            assert await watched.apply() == f"{MINOR}.0"
            watched.network.say_version("http://10.0.0.2:2380", older)
            await watched.later()
            assert not watched.member.log, "not allowed"
            watched.cluster.set_downgrade(enabled=True, target=older)
            await watched.later()
            assert await watched.apply() == older
            await watched.later()
            assert not watched.member.log, "one does not know yet"
            watched.network.say_version("http://10.0.0.2:2380", older, older)
            await watched.later()
            assert await watched.apply() == "stay"
            assert watched.cluster.downgrade_target is None
            await watched.later()
            assert not watched.member.log

    run(scenario)


def test_a_downgrade_is_kept() -> None:
    tables = MemoryTables()
    Cluster(1, LOCAL, tables).set_downgrade(enabled=True, target="3.4.0")
    assert tables.table(b"cluster").get(b"downgrade") == b'{"target-version":"3.4.0","enabled":true}'
    again = Cluster(1, LOCAL, tables)
    assert again.downgrade_target == "3.4.0"
    again.set_downgrade(enabled=False, target="")
    assert tables.table(b"cluster").get(b"downgrade") == b'{"target-version":"","enabled":false}'
    assert Cluster(1, LOCAL, tables).downgrade_target is None


def test_a_cluster_says_its_version_once() -> None:
    lines = Lines()
    cluster = Cluster(1, LOCAL, MemoryTables(), log=Logger((lines,), level=DEBUG))
    cluster.set_version("3.4.0")
    cluster.set_version("3.5.0")
    assert cluster.apply_v2_put("/0/version", "3.6.0")
    messages = [json.loads(line)["msg"] for line in lines.lines]
    assert messages.count("set initial cluster version") == 1
    assert messages.count("updated cluster version") == 2
    assert cluster.version == "3.6.0"


# --- joining ----------------------------------------------------------------------------------------------

INITIAL: Final = {
    "m1": parse_urls(["http://10.0.0.1:2380"]),
    "m2": parse_urls(["http://10.0.0.2:2380"]),
    "new": parse_urls(["http://10.0.0.3:2380"]),
}
RUNNING: Final = [
    MemberInfo(0x11, ("http://10.0.0.1:2380",), "m1", ("http://10.0.0.1:2379",)),
    MemberInfo(0x22, ("http://10.0.0.2:2380",), "m2", ("http://10.0.0.2:2379",)),
    MemberInfo(0x33, ("http://10.0.0.3:2380",), is_learner=True),
]


def network(members: Sequence[MemberInfo] = RUNNING, cluster: str = f"{MINOR}.0") -> Network:
    """Member 1 is down, member 2 answers."""
    made = Network()
    made.say_members("http://10.0.0.2:2380", members)
    made.say_version("http://10.0.0.2:2380", "3.5.1", cluster)
    return made


async def join(made: Network) -> tuple[RemoteCluster, MemberInfo]:
    return await joining.join(joining.configured(INITIAL, "token"), "new", made, SILENT)


def test_join() -> None:
    async def scenario() -> None:
        made = network()
        remote, local = await join(made)
        assert remote == RemoteCluster(0xCDF818194E3A8C32, tuple(RUNNING))
        assert local == MemberInfo(0x33, ("http://10.0.0.3:2380",), "new", is_learner=True)
        assert "http://10.0.0.3:2380/members" not in made.asked, "it does not ask itself"

    run(scenario)


def test_addresses_are_compared_and_not_their_names() -> None:
    async def scenario() -> None:
        local = [MemberInfo(1, ("http://localhost:7",), "a"), MemberInfo(2, ("http://127.0.0.1:8",), "b")]
        existing = [MemberInfo(5, ("http://127.0.0.1:8",)), MemberInfo(6, ("http://127.0.0.1:7",))]
        matched = await joining.assign_ids(local, existing)
        assert [(one.id, one.name) for one in matched] == [(5, "b"), (6, "a")]

    run(scenario)


DESCRIBED: Final = (
    "{ClusterID:cdf818194e3a8c32 Members:[&{ID:11 RaftAttributes:{PeerURLs:[http://10.0.0.1:2380]"
    " IsLearner:false} Attributes:{Name:m1 ClientURLs:[http://10.0.0.1:2379]}}] RemovedMemberIDs:[]}"
)


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (
            Network(),
            "cannot fetch cluster info from peer urls:"
            " could not retrieve cluster information from the given URLs",
        ),
        (
            network([]),
            "cannot fetch cluster info from peer urls:"
            " failed to get raft cluster member(s) from the given URLs",
        ),
        (network(RUNNING[:1]), f"error validating peerURLs {DESCRIBED}: member count is unequal"),
        (
            network([*RUNNING[:2], MemberInfo(0x44, ("http://10.0.0.4:2380",))]),
            "PeerURLs: no match found for existing member (44, [http://10.0.0.4:2380]),"
            " last resolver error (<nil>)",
        ),
        (network(cluster="not_decided"), "incompatible with current running cluster"),
        (network(cluster=str(NEXT)), "incompatible with current running cluster"),
    ],
    ids=["nobody answers", "no members", "fewer", "others", "undecided", "newer"],
)
def test_who_does_not_join(made: Network, text: str) -> None:
    with pytest.raises(JoinError) as refused:
        asyncio.run(join(made))
    assert str(refused.value).endswith(text)


def test_two_members_of_the_same_urls() -> None:
    with pytest.raises(JoinError, match="member exists with identical ID"):
        joining.configured({"a": INITIAL["m1"], "b": INITIAL["m1"]}, "token")


@pytest.mark.parametrize(
    ("client_urls", "answers", "is_bootstrapped"),
    [(("http://10.0.0.3:2379",), True, True), ((), True, False), (("http://10.0.0.3:2379",), False, False)],
)
def test_who_has_been_a_member_before(
    client_urls: tuple[str, ...], answers: bool, is_bootstrapped: bool
) -> None:
    async def scenario() -> None:
        members = joining.configured(INITIAL, "token")
        local = next(one for one in members if one.name == "new")
        made = Network()
        if answers:
            known = MemberInfo(local.id, local.peer_urls, "new", client_urls)
            made.say_members("http://10.0.0.1:2380", [*RUNNING[:2], known])
        assert await joining.is_bootstrapped(members, local, made, 1.0) == is_bootstrapped

    run(scenario)
