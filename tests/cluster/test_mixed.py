"""Clusters that Kvorum and etcd share: each joins the other, catches up, leads, and all hold the same.

``KVORUM_TEST_CLUSTER=etcd-3.4`` puts etcd 3.4.23 in Kvorum's place: the scenarios were held against that.
"""

from typing import Final

import pytest

from tests.cluster.conftest import Form, programs
from tests.support import process
from tests.support.cluster import Cluster
from tests.support.process import Member, Program
from tests.support.workload import everything, many, same_everywhere

BEHIND: Final = 6000
"""More entries than etcd 3.5.1 keeps for followers after a snapshot: 5,000, whatever its flags say."""
SNAPSHOTS: Final = ("--snapshot-count=500",)


def hosts_and_guest(host: str) -> tuple[list[Program], Program]:
    """Return three of one kind, and the other."""
    ours, etcd = programs(1)[0], process.etcd()
    return ([etcd] * 3, ours) if host == "etcd" else ([ours] * 3, etcd)


def got_a_snapshot(member: Member) -> bool:
    """Whether the member was sent a snapshot in its present run."""
    return any(record["msg"] == "applied snapshot" for record in member.log_records())


def leads_well(cluster: Cluster, member: Member, seed: int) -> None:
    """Make it the leader, have it lead through a workload, and lose nothing when it dies."""
    cluster.lead(member)
    everything(cluster, seed)
    same_everywhere(cluster)
    assert cluster.leader() is member
    member.kill()
    cluster.wait_leader()
    everything(cluster, seed + 1, rounds=6)
    member.start()
    same_everywhere(cluster)


@pytest.mark.parametrize("host", ["etcd", "kvorum"])
def test_a_guest_catches_up_by_the_log_and_leads(form: Form, host: str) -> None:
    hosts, guest = hosts_and_guest(host)
    cluster = form(hosts)
    everything(cluster, seed=31)
    member = cluster.join(guest)
    assert not got_a_snapshot(member)
    everything(cluster, seed=32)
    same_everywhere(cluster)
    leads_well(cluster, member, seed=33)


@pytest.mark.parametrize("host", ["etcd", "kvorum"])
def test_a_guest_catches_up_by_a_snapshot_and_leads(form: Form, host: str) -> None:
    hosts, guest = hosts_and_guest(host)
    cluster = form(hosts, SNAPSHOTS)
    everything(cluster, seed=34)
    many(cluster.wait_leader(), BEHIND)
    everything(cluster, seed=35)
    member = cluster.join(guest)
    same_everywhere(cluster)
    assert got_a_snapshot(member)
    leads_well(cluster, member, seed=36)


@pytest.mark.parametrize("host", ["etcd", "kvorum"])
def test_a_guest_that_was_away_gets_a_snapshot(form: Form, host: str) -> None:
    hosts, guest = hosts_and_guest(host)
    cluster = form([*hosts[:2], guest], SNAPSHOTS)
    member = cluster.members[2]
    everything(cluster, seed=37)
    if cluster.wait_leader() is member:
        cluster.lead(cluster.members[0])
    member.kill()
    many(cluster.wait_leader(), BEHIND)
    everything(cluster, seed=38)
    member.start()
    same_everywhere(cluster)
    assert got_a_snapshot(member)
    cluster.lead(member)
    everything(cluster, seed=39, rounds=6)
    same_everywhere(cluster)


@pytest.mark.debian
def test_all_kinds_begin_together(form: Form) -> None:
    """They can only if all of them compute the same IDs."""
    cluster = form([process.etcd(), programs(1)[0], process.etcd34()])
    everything(cluster, seed=40)
    same_everywhere(cluster)
    for member in cluster.members:
        cluster.lead(member)
        everything(cluster, seed=41, rounds=5)
    same_everywhere(cluster)
    assert len({status.header.cluster_id for status in cluster.statuses().values()}) == 1
