"""What a follower asks its leader: renewals, what is left of leases; and what it says when there is none.

Real processes. The leader is Kvorum and then etcd, so that the follower's requests are held against both.
"""

import queue
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, cast, final

import grpc
import pytest

from kvorum import errors
from kvorum.proto import rpc_pb2 as pb
from tests.support import process
from tests.support.client import Client, refused_with
from tests.support.cluster import LOOSE, Cluster, forming
from tests.support.waiting import wait_until

FAST: Final = (*LOOSE, "--heartbeat-interval=50", "--election-timeout=500")
GONE: Final = 0x7777


@final
class KeepAlives:
    """A LeaseKeepAlive stream that stays open."""

    def __init__(self, client: Client, metadata: Sequence[tuple[str, str]] = ()) -> None:
        self._requests: Final[queue.SimpleQueue[pb.LeaseKeepAliveRequest | None]] = queue.SimpleQueue()
        stub = client.channel.stream_stream(
            "/etcdserverpb.Lease/LeaseKeepAlive",
            request_serializer=pb.LeaseKeepAliveRequest.SerializeToString,
            response_deserializer=pb.LeaseKeepAliveResponse.FromString,
        )
        self._answers: Final[Any] = stub(iter(self._requests.get, None), timeout=60, metadata=tuple(metadata))

    def renew(self, *leases: int) -> list[int]:
        """The TTLs of these, in order."""
        for lease in leases:
            self._requests.put(pb.LeaseKeepAliveRequest(ID=lease))
        answers = [next(self._answers) for _ in leases]
        assert [answer.ID for answer in answers] == list(leases)
        return [answer.TTL for answer in answers]

    def fails_with(self) -> tuple[str, str]:
        """Code and text that the stream ends with."""
        with pytest.raises(grpc.RpcError) as ended:
            next(self._answers)
        call = cast("grpc.Call", ended.value)
        return call.code().name, call.details() or ""

    def close(self) -> None:
        self._requests.put(None)


@contextmanager
def keeping_alive(client: Client, metadata: Sequence[tuple[str, str]] = ()) -> Iterator[KeepAlives]:
    stream = KeepAlives(client, metadata)
    try:
        yield stream
    finally:
        stream.close()


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    programs = [process.kvorum(), process.etcd(), process.kvorum()]
    with forming(tmp_path_factory.mktemp("mixed"), programs, LOOSE) as cluster:
        yield cluster


@pytest.mark.parametrize(("leader", "follower"), [(0, 2), (0, 1), (1, 0)])
def test_leases_are_the_leaders(mixed: Cluster, leader: int, follower: int) -> None:
    mixed.lead(mixed.members[leader])
    client = mixed.client(mixed.members[follower])
    leases = [client.grant(100 + number).ID for number in range(40)]
    with keeping_alive(client) as stream:
        assert stream.renew(*leases) == [100 + number for number in range(40)]
        assert stream.renew(leases[3]) == [103]
        assert stream.renew(leases[0], GONE, leases[0], leases[1]) == [100, 0, 100, 101]
        client.revoke(leases[0])
        assert stream.renew(leases[0], leases[1]) == [0, 101]
    client.put(b"leased", b"", lease=leases[1])
    left = client.time_to_live(leases[1], keys=True)
    assert (left.grantedTTL, list(left.keys)) == (101, [b"leased"])
    assert 90 <= left.TTL <= 101
    assert left.header.member_id == mixed.id_of(mixed.members[follower])
    assert client.time_to_live(GONE).TTL == -1
    assert sorted(client.leases()) == sorted(leases[1:])
    for lease in leases[1:]:
        client.revoke(lease)
    assert client.get(b"leased") is None


def test_a_downgrade_that_etcd_allows(mixed: Cluster) -> None:
    """etcd 3.5.1 proposes it, applies it, and forgets who waits; our members have to know the entry."""
    mixed.lead(mixed.members[1])
    ours, theirs = mixed.members[0], mixed.members[1]
    wait_until(lambda: '"3.5.0"' in ask(ours.url + "/version"), "the version is agreed on")

    def downgrade(client: Client, action: int, version: str) -> str:
        request = pb.DowngradeRequest(version=version)
        request.action = cast("pb.DowngradeRequest.DowngradeAction", action)
        return client.call("etcdserverpb.Maintenance/Downgrade", request, pb.DowngradeResponse).version

    with mixed.fresh_client(theirs, 1.0) as client, pytest.raises(grpc.RpcError):
        downgrade(client, 1, "3.4")
    assert [ask(member.peer_url + "/downgrade/enabled") for member in mixed.members] == ["true"] * 3
    assert downgrade(mixed.client(ours), 2, "") == "3.5.0"
    assert [ask(member.peer_url + "/downgrade/enabled") for member in mixed.members] == ["false"] * 3


def ask(url: str) -> str:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=20) as response:
        return str(response.read().decode())


def test_a_lease_outlives_its_leader(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A new leader cannot know what the old one renewed, so it starts every lease anew."""
    directory = tmp_path_factory.mktemp("outlives")
    with forming(directory, [process.kvorum()] * 3, FAST) as cluster:
        leader, (follower, _) = cluster.wait_leader(), cluster.followers()
        client = cluster.client(follower)
        lease = client.grant(4).ID
        client.put(b"leased", b"", lease=lease)
        with keeping_alive(client) as stream:
            assert stream.renew(lease) == [4]
            wait_until(lambda: client.time_to_live(lease).TTL <= 2, "time passes")
            leader.kill()
            left = client.time_to_live(lease)  # waits for whoever leads next
            assert left.TTL >= 3
            assert left.grantedTTL == 4
            assert stream.renew(lease, GONE) == [4, 0], "the stream is the same"
        assert client.get(b"leased") == b""
        wait_until(lambda: client.time_to_live(lease).TTL == -1, "it expires", 15.0)
        assert client.get(b"leased") is None


def test_without_a_leader(tmp_path_factory: pytest.TempPathFactory) -> None:
    with forming(tmp_path_factory.mktemp("alone"), [process.kvorum()] * 3, FAST) as cluster:
        survivor, lost = cluster.members[0], cluster.members[1:]
        client = cluster.client(survivor)
        lease = client.grant(100).ID
        asking = [("hasleader", "true")]

        def read(metadata: Sequence[tuple[str, str]]) -> pb.RangeResponse:
            request = pb.RangeRequest(key=b"k", serializable=True)
            return client.call("etcdserverpb.KV/Range", request, pb.RangeResponse, metadata=metadata)

        with keeping_alive(client, asking) as demanding, keeping_alive(client) as patient:
            assert demanding.renew(lease) == patient.renew(lease) == [100]
            for member in lost:
                member.kill()
            wait_until(lambda: client.status().leader == 0, "there is none")
            with refused_with(errors.ERR_NO_LEADER):
                read(asking)
            assert read([("hasleader", "false")]).count == 0
            assert read([]).count == 0
            assert demanding.fails_with() == ("UNAVAILABLE", "etcdserver: no leader")
            with keeping_alive(client, asking) as late:
                assert late.fails_with() == ("UNAVAILABLE", "etcdserver: no leader")
            for member in lost:
                member.start(wait=False)
            cluster.wait_leader()
            assert patient.renew(lease) == [100], "it had asked for nothing"
            assert read(asking).count == 0
