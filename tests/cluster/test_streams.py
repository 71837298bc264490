"""Watches and leases through members that follow, come and go."""

import threading

from kvorum import errors
from kvorum.proto import rpc_pb2 as pb
from tests.support.client import refused_with
from tests.support.cluster import Cluster
from tests.support.load import Load, truth
from tests.support.streams import KeepAliveCall, WatchCall
from tests.support.waiting import wait_until

HAS_LEADER = [("hasleader", "true")]


def test_keepalives_through_followers(trio: Cluster) -> None:
    for member in trio.followers():
        client = trio.client(member)
        lease = client.grant(30).ID
        with KeepAliveCall(client) as call:
            assert [answer.TTL for answer in call.renew(lease)] == [30]
            assert [answer.TTL for answer in call.renew(lease + 1)] == [0]
        left = client.time_to_live(lease)
        assert left.grantedTTL == 30
        assert 27 <= left.TTL <= 30
        client.revoke(lease)
        assert client.time_to_live(lease).TTL == -1


def test_a_lease_renewed_through_a_follower_lives_and_one_that_is_not_ends_everywhere(trio: Cluster) -> None:
    cluster = trio
    follower, watching = cluster.followers()
    client = cluster.client(follower)
    kept, left = client.grant(3).ID, client.grant(3).ID
    client.put(b"kept", b"", lease=kept)
    client.put(b"left", b"", lease=left)
    cluster.wait_level()  # or the other's watch may begin before the put
    with WatchCall(cluster.client(watching)) as watch, KeepAliveCall(client) as call:
        watch.create(b"left")
        stop = threading.Event()

        def renew() -> None:
            while not stop.wait(0.5):
                call.renew(kept)

        renewing = threading.Thread(target=renew)
        renewing.start()
        (ended,) = watch.events(1)
        stop.set()
        renewing.join()
    assert ended.type == ended.DELETE
    assert client.get(b"kept") == b""
    leases = client.leases()
    assert kept in leases
    assert left not in leases
    cluster.check_equal()


def test_leases_outlive_their_leader(trio: Cluster) -> None:
    cluster = trio
    follower = cluster.followers()[0]
    lease = cluster.client(follower).grant(4).ID
    cluster.client(follower).put(b"outlives", b"v", lease=lease)
    cluster.wait_leader().kill()
    cluster.wait_leader()
    with KeepAliveCall(cluster.client(follower)) as call:
        assert [answer.TTL for answer in call.renew(lease)] == [4]
    assert cluster.client(follower).get(b"outlives") == b"v"


def test_a_watch_on_a_follower_loses_nothing_when_leaders_change(trio: Cluster) -> None:
    cluster = trio
    watching = cluster.followers()[0]
    load = Load(cluster, seed=3)
    with WatchCall(cluster.client(watching)) as watch:
        watch.create(load.prefix, load.end, start_revision=load.first_revision)
        with load.running():
            load.wait_acknowledged(30)
            killed = cluster.wait_leader()
            if killed is watching:
                killed = cluster.followers()[0]
            killed.kill()
            load.wait_acknowledged(50)
            killed.start()
            other = next(m for m in cluster.members if m is not watching and m is not cluster.wait_leader())
            cluster.lead(other)
            load.wait_acknowledged(50)
        load.check()
        expected = truth(load, cluster.client(cluster.wait_leader()))
        events = watch.events(len(expected))
    assert [(event.kv.mod_revision, event.kv.value) for event in events] == [
        (change.revision, change.value) for change in expected
    ]


def test_a_watch_that_wants_a_leader_ends_when_there_is_none(trio: Cluster) -> None:
    cluster = trio
    survivor = cluster.followers()[0]
    client = cluster.client(survivor)
    with WatchCall(client, metadata=HAS_LEADER) as wants, WatchCall(client) as patient:
        wants.create(b"wanted")
        patient.create(b"wanted")
        for member in cluster.members:
            if member is not survivor:
                member.kill()
        wants.ends_with(errors.ERR_NO_LEADER)
        request = pb.RangeRequest(key=b"wanted", serializable=True)
        with refused_with(errors.ERR_NO_LEADER):
            client.call("etcdserverpb.KV/Range", request, pb.RangeResponse, HAS_LEADER)
        assert client.range(b"wanted", serializable=True).count == 0
        cluster.restart_all()
        cluster.client(cluster.wait_leader()).put(b"wanted", b"v")
        assert patient.events(1)[0].kv.value == b"v"


def test_a_lease_is_renewed_through_a_member_that_has_lost_its_leader(trio: Cluster) -> None:
    cluster = trio
    leader, follower = cluster.wait_leader(), cluster.followers()[0]
    client = cluster.client(follower)
    lease = client.grant(20).ID
    leader.kill()
    with KeepAliveCall(client) as call:  # waits until there is a leader again, as etcd does
        wait_until(lambda: [answer.TTL for answer in call.renew(lease)] == [20], "a renewal", 10)
