"""A member that died while it was being born begins again; one whose files disagree is refused."""

import os
import shutil
import signal
from pathlib import Path

import pytest

from tests.conftest import StartMember
from tests.support import process
from tests.support.client import Client
from tests.support.process import Member, MemberError

BIRTH = ("bootstrap_before_wal", "wal_create_before_rename", "wal_create_after_rename", "wal_before_write")


@pytest.mark.parametrize("step", [*BIRTH, "wal_after_partial_write", "wal_before_fsync", "wal_after_fsync"])
@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_birth(tmp_path: Path, step: str, seed: int) -> None:
    member = Member(process.kvorum(), tmp_path / "born", env={"KVORUM_FAILPOINT_SEED": str(seed)})
    try:
        member.start(failpoints=f"{step}=kill", wait=False)
        assert member.wait_exit() == -signal.SIGKILL
        member.start()
        client = Client(member.endpoint)
        revision = client.put(b"k", b"v").header.revision
        client.close()
        member.kill()
        member.start()
        client = Client(member.endpoint)
        assert client.range(b"k").kvs[0].mod_revision == revision
        client.close()
    finally:
        member.close()


def test_a_member_that_never_committed_its_backend_leads_again_at_once(start_member: StartMember) -> None:
    """Its own conf change is still to be applied from the log when it comes back."""
    member = start_member(process.kvorum(), failpoints="backend_before_commit=kill", wait=False)
    assert member.wait_exit() == -signal.SIGKILL
    member.start()
    client = Client(member.endpoint)
    assert client.put(b"k", b"v").header.raft_term > 2
    client.close()


def test_a_database_without_its_log_is_refused(start_member: StartMember) -> None:
    member = start_member(process.kvorum())
    member.stop()
    shutil.rmtree(member.data_dir / "member" / "wal")
    with pytest.raises(MemberError, match="restore the member's directory as a whole"):
        member.start()
    assert member.wait_exit() == 1


def test_a_database_from_before_the_logs_snapshot_is_refused(start_member: StartMember) -> None:
    member = start_member(process.kvorum(), flags=("--snapshot-count=20",))
    member.stop()
    database = member.data_dir / "member" / "snap" / "kvorum.lmdb"
    shutil.copy(database, member.data_dir / "old.lmdb")
    member.start()
    client = Client(member.endpoint)
    for number in range(60):
        client.put(b"k", b"%d" % number)
    client.close()
    member.wait_log("saved snapshot")
    member.stop()
    os.replace(member.data_dir / "old.lmdb", database)
    with pytest.raises(MemberError, match=r"older and .* is not there: restore the member"):
        member.start()
    assert member.wait_exit() == 1
