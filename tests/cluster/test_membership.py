"""Members that come, change and go while the cluster serves, by the official etcdctl."""

import re
from contextlib import suppress
from typing import Final

import grpc
import pytest

from kvorum import errors
from tests.cluster.conftest import Form, programs
from tests.support.client import refused_with
from tests.support.cluster import Cluster
from tests.support.load import Load
from tests.support.ports import free_port
from tests.support.process import Member
from tests.support.waiting import wait_until

ADDED: Final = re.compile(
    r"Member +([0-9a-f]+) added to cluster +([0-9a-f]+)\n\n"
    r'ETCD_NAME="(.*)"\nETCD_INITIAL_CLUSTER="(.*)"\n'
    r'ETCD_INITIAL_ADVERTISE_PEER_URLS="(.*)"\nETCD_INITIAL_CLUSTER_STATE="(.*)"\n'
)


def add_by_etcdctl(cluster: Cluster, *options: str) -> Member:
    """``etcdctl member add``; returns the member, set up as it was told to and not started."""
    (program,) = programs(1)
    member = cluster.make(program)
    ctl = cluster.etcdctl(cluster.wait_leader())
    printed = ctl.run("member", "add", member.name, f"--peer-urls={member.peer_url}", *options).stdout
    found = ADDED.fullmatch(printed)
    assert found is not None, printed
    assert (found[3], found[5], found[6]) == (member.name, member.peer_url, "existing")
    member.initial_cluster, member.initial_cluster_state = found[4], found[6]
    cluster.members.append(member)
    assert f"{cluster.id_of(member):x}" == found[1]
    return member


def test_a_member_is_added_and_another_removed_while_serving(form: Form) -> None:
    cluster = form(3)
    load = Load(cluster, seed=21)
    with load.running():
        load.wait_acknowledged(30)
        added = add_by_etcdctl(cluster).start()
        load.wait_acknowledged(30)
        removed = cluster.followers()[0]
        number = cluster.id_of(removed)
        cluster.members.remove(removed)
        cluster.gone.append(removed)
        printed = cluster.etcdctl(cluster.wait_leader()).run("member", "remove", f"{number:x}").stdout
        assert re.fullmatch(rf"Member +{number:x} removed from cluster +[0-9a-f]+\n", printed)
        assert removed.wait_exit() == 0, "it stops by itself"
        load.wait_acknowledged(30)
    load.check()
    assert cluster.client(added).get(load.prefix + b"0") is not None
    assert {m.name for m in cluster.client(added).member_list().members} == {m.name for m in cluster.members}


def test_a_removed_member_cannot_return(form: Form) -> None:
    cluster = form(3)
    removed = cluster.followers()[0]
    cluster.remove(removed)
    assert removed.wait_exit() == 0
    removed.start(wait=False)
    status = removed.wait_exit()
    assert "removed" in removed.log_tail(), status
    assert cluster.client(cluster.wait_leader()).put(b"k", b"v").header.revision > 0
    assert len(cluster.client(cluster.wait_leader()).member_list().members) == 2


def test_a_member_that_was_down_when_it_was_removed_learns_of_it(form: Form) -> None:
    cluster = form(3)
    removed = cluster.followers()[0]
    removed.kill()
    cluster.remove(removed)
    removed.start(wait=False)
    removed.wait_exit()
    assert "removed" in removed.log_tail()


def test_the_leader_removes_itself(form: Form) -> None:
    cluster = form(3)
    load = Load(cluster, seed=22)
    with load.running():
        load.wait_acknowledged(20)
        leader = cluster.wait_leader()
        number = cluster.id_of(leader)
        with suppress(grpc.RpcError):  # etcd may stop before it has answered
            cluster.client(leader).member_remove(number)
        assert leader.wait_exit() == 0
        cluster.members.remove(leader)
        cluster.gone.append(leader)
        cluster.wait_leader()
        load.wait_acknowledged(20)
    load.check()
    assert len(cluster.client(cluster.wait_leader()).member_list().members) == 2


def test_a_member_moves_to_another_peer_url(form: Form) -> None:
    cluster = form(3)
    leader, moving = cluster.wait_leader(), cluster.followers()[0]
    number = cluster.id_of(moving)
    moving.stop()
    moving.peer_port = free_port()
    printed = cluster.etcdctl(leader).run("member", "update", f"{number:x}", f"--peer-urls={moving.peer_url}")
    assert re.fullmatch(rf"Member +{number:x} updated in cluster +[0-9a-f]+\n", printed.stdout)
    cluster.client(leader).put(b"k", b"while it moved")
    moving.start()
    cluster.check_equal()
    assert cluster.client(moving).get(b"k", serializable=True) == b"while it moved"
    assert cluster.id_of(moving) == number
    cluster.lead(moving)


def test_changes_are_refused_as_etcd_does(trio: Cluster) -> None:
    leader = trio.wait_leader()
    client = trio.client(leader)
    with refused_with(errors.ERR_MEMBER_NOT_FOUND):
        client.member_remove(1)
    with refused_with(errors.ERR_MEMBER_NOT_FOUND):
        client.member_update(1, "http://127.0.0.1:1")
    with refused_with(errors.ERR_MEMBER_NOT_FOUND):
        client.member_promote(1)
    with refused_with(errors.ERR_MEMBER_NOT_LEARNER):
        client.member_promote(trio.id_of(trio.members[0]))
    with refused_with(errors.ERR_PEER_URL_EXIST):
        client.member_add(trio.members[1].peer_url)
    with refused_with(errors.ERR_MEMBER_BAD_URLS):
        client.member_add("127.0.0.1")
    with refused_with(errors.ERR_MEMBER_NOT_FOUND):
        trio.client(trio.followers()[0]).member_promote(1)
    assert len(client.member_list().members) == 3


def test_members_that_are_not_all_connected_are_not_changed(form: Form) -> None:
    """``--strict-reconfig-check``: nobody is added until all have been connected for five seconds."""
    cluster = form(3, ["--strict-reconfig-check=true"])
    client = cluster.client(cluster.wait_leader())
    with refused_with(errors.ERR_UNHEALTHY):
        client.member_add(f"http://127.0.0.1:{free_port()}")

    def added() -> bool:
        try:
            client.member_add(f"http://127.0.0.1:{free_port()}")
        except grpc.RpcError:
            return False
        return True

    wait_until(added, "all are connected", 15.0)
    with refused_with(errors.ERR_UNHEALTHY):  # the one just added is not connected
        client.member_add(f"http://127.0.0.1:{free_port()}")


# --- learners ---------------------------------------------------------------------------------------------


def test_a_learner_is_added_and_promoted(form: Form) -> None:
    cluster = form(3)
    leader = cluster.wait_leader()
    learner = add_by_etcdctl(cluster, "--learner")
    number = cluster.id_of(learner)
    with refused_with(errors.ERR_LEARNER_NOT_READY):
        cluster.client(leader).member_promote(number)
    with refused_with(errors.ERR_TOO_MANY_LEARNERS):
        cluster.client(leader).member_add(f"http://127.0.0.1:{free_port()}", learner=True)
    cluster.client(leader).put(b"k", b"v")
    learner.start()
    cluster.wait_level()
    client = cluster.client(learner)
    assert client.get(b"k", serializable=True) == b"v"
    assert client.status().isLearner
    # The text only: its code was UNAVAILABLE up to etcd 3.5.
    for call in (lambda: client.range(b"k"), lambda: client.put(b"k", b"w"), client.hash_kv):
        with pytest.raises(grpc.RpcError, match=errors.ERR_NOT_SUPPORTED_FOR_LEARNER.message):
            call()
    with refused_with(errors.ERR_BAD_LEADER_TRANSFEREE):
        cluster.client(leader).move_leader(number)
    printed = cluster.etcdctl(cluster.followers()[0]).run("member", "promote", f"{number:x}").stdout
    assert re.fullmatch(rf"Member +{number:x} promoted in cluster +[0-9a-f]+\n", printed)
    wait_until(lambda: not client.status().isLearner, "it knows")
    cluster.lead(learner)
    cluster.check_equal()


def test_a_learner_does_not_count_for_a_majority(form: Form) -> None:
    cluster = form(3)
    learner = cluster.join(programs(1)[0], learner=True)
    cluster.wait_level()
    for member in cluster.members:
        if member is not learner and member is not cluster.members[0]:
            member.kill()
    with cluster.fresh_client(cluster.members[0], 1.5) as client, pytest.raises(grpc.RpcError):
        client.put(b"k", b"v")


# --- leadership -------------------------------------------------------------------------------------------


def test_move_leader(trio: Cluster) -> None:
    leader, (target, other) = trio.wait_leader(), trio.followers()
    from_id, to_id = trio.id_of(leader), trio.id_of(target)
    done = trio.etcdctl(leader).run("move-leader", f"{to_id:x}")
    assert done.stdout == f"Leadership transferred from {from_id:x} to {to_id:x}\n"
    assert trio.wait_leader() is target
    refused = trio.etcdctl(other).run("move-leader", f"{to_id:x}", check=False)
    assert refused.status != 0
    assert "no leader endpoint given" in refused.stderr
    with refused_with(errors.ERR_NOT_LEADER):
        trio.client(other).move_leader(from_id)
    with refused_with(errors.ERR_BAD_LEADER_TRANSFEREE):
        trio.client(target).move_leader(1)
    trio.client(target).move_leader(to_id)  # to itself: done already
    assert trio.wait_leader() is target


def test_a_leader_that_is_stopped_hands_over(form: Form) -> None:
    cluster = form(3)
    load = Load(cluster, seed=23)
    with load.running():
        load.wait_acknowledged(20)
        leader = cluster.wait_leader()
        leader.stop()
        cluster.wait_leader(1.0)  # sooner than an election would take
        load.wait_acknowledged(20)
        leader.start()
    load.check()
