"""``kill -9`` at random moments and at each failpoint, then a restart: what was acknowledged is there."""

import os
import random
import signal
import threading
from pathlib import Path

import grpc
import pytest

from kvorum import failpoint
from tests.crash.history import Writer
from tests.support import process
from tests.support.client import Client
from tests.support.process import Member, MemberError

WRITERS = 4
ATTEMPTS = 6
SEED = int(os.environ.get("KVORUM_TEST_SEED", "20161121"))

# Small snapshots, so that .snap files, their markers and purging are part of nearly every run.
FLAGS = ("--snapshot-count=40", "--max-snapshots=2", "--max-wals=2")

STEPS = sorted(
    name
    for name in failpoint.NAMES
    if name.startswith(("wal_before", "wal_after", "snap_", "purge_", "ready_", "apply_", "backend_"))
)


def cycle(member: Member, writers: list[Writer], failpoints: str, kill_after_seconds: float | None) -> None:
    """Write until the member dies (by its failpoint, or by us after a while), restart, check everything."""
    client = Client(member.endpoint, timeout_seconds=10, wait_for_ready=False)
    stop = threading.Event()
    threads = [threading.Thread(target=writer.run, args=(client, stop)) for writer in writers]
    for thread in threads:
        thread.start()
    if kill_after_seconds is not None:
        threads[0].join(kill_after_seconds)
        member.kill()
    else:
        threads[0].join(5)
        stop.set()
        if member.running:
            member.kill()
        else:
            member.wait_exit()
    for thread in threads:
        thread.join()
    client.close()
    check(revive(member, failpoints), writers)


def revive(member: Member, failpoints: str) -> Member:
    """Start again; if the failpoint ends it before it serves, that was one more crash to come back from."""
    member.start(failpoints=failpoints, wait=False)
    try:
        member.wait_ready()
    except MemberError:
        assert member.wait_exit() == -signal.SIGKILL, member.log_tail()
        member.start()
    return member


def check(member: Member, writers: list[Writer]) -> None:
    """Ask a restarted member for everything; if its failpoint ends it meanwhile, the next one is asked."""
    for _ in range(ATTEMPTS):
        client = Client(member.endpoint, wait_for_ready=False)
        try:
            for writer in writers:
                writer.check(client)
            break
        except grpc.RpcError:
            if ended(member):  # otherwise the machine was too busy to connect in time: ask again
                member.start()
        finally:
            client.close()
    else:
        pytest.fail(f"seed {SEED}: not answered in {ATTEMPTS} attempts\n{member.log_tail()}")
    violations = [text for writer in writers for text in writer.violations]
    assert not violations, f"seed {SEED}: {violations}"


def ended(member: Member) -> bool:
    """Whether its failpoint has killed it."""
    try:
        return member.wait_exit(2) == -signal.SIGKILL
    except MemberError:
        return False


def fresh(tmp_path: Path, name: str) -> Member:
    return Member(process.kvorum(), tmp_path / name, flags=FLAGS, env={"KVORUM_FAILPOINT_SEED": str(SEED)})


@pytest.mark.timeout(600)
def test_sixty_kills_at_random_moments(tmp_path: Path) -> None:
    choose = random.Random(SEED)
    member = fresh(tmp_path, "random")
    writers = [Writer(f"w{number}", SEED + number) for number in range(WRITERS)]
    try:
        member.start()
        for _ in range(60):
            cycle(member, writers, "", choose.uniform(0.0, 0.4))
    finally:
        member.close()
    assert sum(writer.puts.sent + writer.txns.sent for writer in writers) > 500


@pytest.mark.timeout(600)
@pytest.mark.parametrize("step", STEPS)
def test_kills_at_a_durability_step(tmp_path: Path, step: str) -> None:
    member = fresh(tmp_path, step)
    writers = [Writer(f"w{number}", SEED + number) for number in range(WRITERS)]
    try:
        member.start()
        for number in range(3):
            # The first restart comes from a clean life; the next ones die at the step, the later the further.
            cycle(member, writers, f"{step}=kill@{1 + 5 * number}", 0.1 if number == 0 else None)
        cycle(member, writers, "", None)
    finally:
        member.close()
