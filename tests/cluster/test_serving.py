"""What a whole cluster serves: writes and reads through every member, its standing as tools print it."""

import re
from typing import Any

from kvorum.proto import rpc_pb2 as pb
from tests.cluster.conftest import Form
from tests.support.cluster import Cluster
from tests.support.load import Load
from tests.support.process import Member


def test_writes_and_reads_through_every_member(trio: Cluster) -> None:
    for writer in trio.members:
        key = b"through-" + writer.name.encode()
        written = trio.client(writer).put(key, b"v").header
        for reader in trio.members:
            answer = trio.client(reader).range(key)
            assert [(kv.value, kv.mod_revision) for kv in answer.kvs] == [(b"v", written.revision)]
            assert answer.header.revision == written.revision
            assert answer.header.cluster_id == written.cluster_id
            assert answer.header.raft_term == written.raft_term
            assert (answer.header.member_id == written.member_id) == (reader is writer)
    trio.check_equal()


def test_a_write_is_seen_by_serializable_reads_everywhere(trio: Cluster) -> None:
    trio.client(trio.wait_leader()).put(b"everywhere", b"v")
    trio.wait_level()
    for member in trio.members:
        assert trio.client(member).get(b"everywhere", serializable=True) == b"v"


def test_transactions_leases_and_compaction_through_followers(trio: Cluster) -> None:
    first, second = trio.followers()
    lease = trio.client(first).grant(600).ID
    revision = trio.client(second).put(b"leased", b"v", lease=lease).header.revision
    compare = pb.Compare(key=b"leased", mod_revision=revision, target=pb.Compare.MOD)
    done = trio.client(first).txn([compare], [pb.RequestOp(request_put=pb.PutRequest(key=b"t", value=b"v"))])
    assert done.succeeded
    trio.client(second).compact(done.header.revision, physical=True)
    assert trio.client(second).time_to_live(lease, keys=True).keys == [b"leased"]
    trio.client(first).revoke(lease)
    assert trio.client(second).get(b"leased") is None
    trio.check_equal()


def test_a_load_from_many_clients_leaves_all_equal(trio: Cluster) -> None:
    load = Load(trio, seed=5, workers=6)
    with load.running(pause_seconds=0.0):
        load.wait_acknowledged(300)
    load.check()


def test_five_members_lose_two_and_go_on(form: Form) -> None:
    cluster = form(5)
    load = Load(cluster, seed=6, workers=3)
    with load.running():
        cluster.wait_leader().kill()
        cluster.wait_leader().kill()
        cluster.wait_leader()
        load.wait_acknowledged(50)
        cluster.restart_all()
    load.check()
    assert len(cluster.live) == 5


# --- as tools print it ------------------------------------------------------------------------------------


def test_endpoint_status_and_health_of_the_cluster(trio: Cluster) -> None:
    ctl = trio.etcdctl(trio.members[0])
    leader = trio.wait_leader()
    statuses = ctl.json("endpoint", "status", "--cluster")
    assert {status["Endpoint"] for status in statuses} == {member.url for member in trio.members}
    for status in statuses:
        found = status["Status"]
        assert found["leader"] == trio.id_of(leader)
        assert found["raftTerm"] == statuses[0]["Status"]["raftTerm"]
        assert found["header"]["cluster_id"] == statuses[0]["Status"]["header"]["cluster_id"]
    health = ctl.json("endpoint", "health", "--cluster")
    assert {(entry["endpoint"], entry["health"]) for entry in health} == {(m.url, True) for m in trio.members}


SIMPLE_STATUS = re.compile(
    r"http://127\.0\.0\.1:\d+, [0-9a-f]{8,16}, \d+\.\d+\.\d+, [\d.]+ [kM]B, "
    r"(true|false), false, \d+, \d+, \d+, "
)


def test_endpoint_status_in_words(trio: Cluster) -> None:
    printed = trio.etcdctl(trio.members[0]).run("endpoint", "status", "--cluster").stdout.splitlines()
    leads = [match[1] for line in printed if (match := SIMPLE_STATUS.fullmatch(line))]
    assert sorted(leads) == ["false", "false", "true"], printed


def test_member_list_in_words(trio: Cluster) -> None:
    printed = trio.etcdctl(trio.members[0]).run("member", "list").stdout.splitlines()
    expected = [f"{trio.id_of(m):x}, started, {m.name}, {m.peer_url}, {m.url}, false" for m in trio.members]
    assert sorted(printed) == sorted(expected)


def test_member_list_is_the_same_of_all(trio: Cluster) -> None:
    def members(member: Member) -> Any:
        listed = trio.etcdctl(member).json("member", "list")
        return listed["members"], listed["header"]["cluster_id"]

    first = members(trio.members[0])
    assert len(first[0]) == 3
    assert all(members(member) == first for member in trio.members[1:])


def test_hashes_of_the_cluster(trio: Cluster) -> None:
    trio.wait_level()
    hashes = trio.etcdctl(trio.members[0]).json("endpoint", "hashkv", "--cluster")
    assert len({entry["HashKV"]["hash"] for entry in hashes}) == 1
    assert len(hashes) == 3
