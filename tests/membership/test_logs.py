"""What members write of their membership is the same on all of them, byte by byte, whoever they are."""

from pathlib import Path

import pytest

from kvorum.raft.codec import conf_change_of
from kvorum.raft.types import ENTRY_CONF_CHANGE, Entry
from kvorum.server import changes
from kvorum.wal.record import WalSnapshot
from kvorum.wal.recovery import read_log
from tests.support import process
from tests.support.cluster import LOOSE, forming
from tests.support.ports import free_port
from tests.support.process import Member

COUNT = 3


def log_of(member: Member) -> list[Entry]:
    """The entries on a stopped member's disk."""
    return list(read_log(str(member.data_dir / "member" / "wal"), start=WalSnapshot(0, 0)).entries)


@pytest.mark.parametrize("leader", ["etcd", "kvorum"])
def test_all_logs_are_equal(tmp_path: Path, leader: str) -> None:
    programs = [process.kvorum(), process.etcd(), process.kvorum()]
    with forming(tmp_path, programs, LOOSE) as cluster:
        leading = next(member for member in cluster.members if member.program.name == leader)
        cluster.lead(leading)
        for member in (leading, cluster.followers()[0], cluster.followers()[1]):
            client = cluster.client(member)
            added = client.member_add(f"http://127.0.0.1:{free_port()}", learner=True).member.ID
            client.member_update(added, f"http://127.0.0.1:{free_port()}")
            client.member_remove(added)
        cluster.wait_level()
        for member in cluster.members:
            member.kill()
        logs = [log_of(member) for member in cluster.members]
        shortest = min(map(len, logs))
        assert shortest > 4 * COUNT
        for log in logs[1:]:
            for ours, theirs in zip(log[:shortest], logs[0][:shortest], strict=True):
                assert ours == theirs
        found = [conf_change_of(entry) for entry in logs[0] if entry.type == ENTRY_CONF_CHANGE]
        steps = [step for change in found for step in changes.opened(change)]
        begun = [step.member_id for step in steps[:COUNT]]
        assert begun == sorted(begun)
        assert [changes.KIND_NAMES[step.kind][10:] for step in steps] == [
            *["AddNode"] * COUNT,
            *["AddLearnerNode", "UpdateNode", "RemoveNode"] * COUNT,
        ]
