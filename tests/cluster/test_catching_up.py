"""A member too far behind for the log: a snapshot brings it up, and one that is cut off leaves nothing."""

import re
from pathlib import Path
from typing import Final

import pytest

from tests.cluster.conftest import Form, programs
from tests.support.cluster import Cluster
from tests.support.load import Load
from tests.support.process import Member
from tests.support.workload import everything, large, many, same_everywhere

KEPT: Final = 5000
SENT: Final = 12
"""MiB of a snapshot whose sending takes a while."""
BELONGS: Final = re.compile(r"[0-9a-f]{16}-[0-9a-f]{16}\.snap|db|kvorum\.lmdb(-lock)?")
RECEIVING: Final = "receiving database snapshot"
APPLIED: Final = "applied snapshot"


def small_flags() -> list[str]:
    """Flags with which 200 entries are too many to catch up with; etcd 3.5 has no flag for the second."""
    flags = ["--snapshot-count=100", "--snapshot-catchup-entries=20"]
    return flags if programs(1)[0].name == "kvorum" else flags[:1]


def fall_behind(cluster: Cluster, member: Member) -> None:
    """Kill a member and write more than the log keeps."""
    member.kill()
    many(cluster.wait_leader(), 300 if programs(1)[0].name == "kvorum" else KEPT + 1000)
    everything(cluster, seed=61)


def left_over(member: Member) -> list[str]:
    """Return the files beside a member's database and snapshots that are not of them."""
    return [
        path.name
        for path in Path(member.data_dir, "member/snap").iterdir()
        if not BELONGS.fullmatch(path.name)
    ]


def test_a_member_that_was_away_gets_a_snapshot_while_the_others_serve(form: Form) -> None:
    cluster = form(3, small_flags())
    large(cluster.wait_leader(), SENT)
    member = cluster.followers()[0]
    fall_behind(cluster, member)
    load = Load(cluster, seed=62)
    member.start(wait=False)
    with load.running():
        member.wait_log(RECEIVING)
        before = load.acknowledged()
        member.wait_log(APPLIED)
        assert load.acknowledged() > before
        member.wait_ready()
        load.wait_acknowledged(20)
    load.check()
    same_everywhere(cluster)
    assert left_over(member) == []
    member.kill()  # what it was sent is on its disk
    member.start()
    same_everywhere(cluster)


def test_a_new_member_gets_a_snapshot(form: Form) -> None:
    cluster = form(3, small_flags())
    many(cluster.wait_leader(), 300 if programs(1)[0].name == "kvorum" else KEPT + 1000)
    everything(cluster, seed=63)
    member = cluster.join(programs(1)[0])
    same_everywhere(cluster)
    assert any(record["msg"] == APPLIED for record in member.log_records())
    assert left_over(member) == []


@pytest.mark.parametrize("killed", ["receiver", "sender"])
def test_a_snapshot_that_is_cut_off_leaves_nothing_behind(form: Form, killed: str) -> None:
    cluster = form(3, small_flags())
    large(cluster.wait_leader(), SENT)
    receiver = cluster.followers()[0]
    fall_behind(cluster, receiver)
    sender = cluster.wait_leader()
    receiver.start(wait=False)
    receiver.wait_log(RECEIVING)
    (receiver if killed == "receiver" else sender).kill()
    if killed == "receiver":
        receiver.start()
    else:
        sender.start(wait=False)
        receiver.wait_ready()
        sender.wait_ready()
    same_everywhere(cluster)
    assert left_over(receiver) == []
    assert left_over(sender) == []
    assert any(record["msg"] == APPLIED for record in receiver.log_records())
