"""Killed at each step between a snapshot's last byte and its database's place, a member is whole again."""

import signal
from typing import Final

import pytest

from tests.cluster.conftest import Form
from tests.cluster.test_catching_up import left_over
from tests.support.process import kvorum
from tests.support.workload import everything, many, same_everywhere

pytestmark = pytest.mark.slow

STEPS: Final = (
    "snap_before_wal_marker",
    "wal_after_fsync",
    "install_between_renames",
)
"""Those that need a whole member; ``tests/snapshot/test_transfer.py`` has the others. Only after the first is
another snapshot sent."""
FLAGS: Final = ("--snapshot-count=100", "--snapshot-catchup-entries=20")


def test_killed_at_each_step_of_taking_in_a_snapshot(form: Form) -> None:
    cluster = form([kvorum()] * 3, FLAGS)
    member = cluster.followers()[0]
    for seed, step in enumerate(STEPS, 71):
        cluster.wait_leader().restart()  # one that has just sent a snapshot keeps its log for half a minute
        if cluster.wait_leader() is member:
            cluster.lead(next(other for other in cluster.members if other is not member))
        member.kill()
        many(cluster.wait_leader(), 250)
        everything(cluster, seed, rounds=5)
        member.start(failpoints=f"{step}=kill", wait=False)
        assert member.wait_exit() == -signal.SIGKILL, step
        member.start()
        same_everywhere(cluster)
        assert left_over(member) == [], step
