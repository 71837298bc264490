"""The gateway as a process, beside etcd's, and the choice of its endpoints."""

import random
import socket
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvorum.proxy.remotes import Remote, Remotes
from tests.proxy.support import PROGRAMS, gateway
from tests.support.client import Client
from tests.support.cluster import Cluster
from tests.support.etcdctl import Etcdctl
from tests.support.ports import free_port
from tests.support.process import Program, kvorum
from tests.support.waiting import wait_until


def endpoints(cluster: Cluster) -> str:
    return ",".join(f"http://{member.endpoint}" for member in cluster.members)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_commands_go_through(kvorums: Cluster, tmp_path: Path, program: Program) -> None:
    with gateway(program, tmp_path, endpoints(kvorums)) as address:
        ctl = Etcdctl(address)
        assert ctl.run("put", "through", program.name).stdout == "OK\n"
        assert ctl.run("get", "through", "--print-value-only").stdout == f"{program.name}\n"


def test_connections_take_turns_and_leave_out_the_dead(kvorums: Cluster, tmp_path: Path) -> None:
    def reached(address: str) -> int:
        with Client(address) as client:
            return client.status().header.member_id

    with gateway(kvorum(), tmp_path, endpoints(kvorums), "--retry-delay=200ms") as address:
        everybody = {reached(address) for _ in range(3)}
        assert len(everybody) == 3
        victim = kvorums.members[0]
        with Client(victim.endpoint) as client:
            name = client.status().header.member_id
        victim.kill()
        assert {reached(address) for _ in range(6)} == everybody - {name}
        victim.start()
        wait_until(lambda: reached(address) == name, "the member taken back")


@pytest.fixture
def echo() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def test_bytes_pass_in_both_directions_and_ends_are_told(echo: socket.socket, tmp_path: Path) -> None:
    with gateway(kvorum(), tmp_path, f"127.0.0.1:{echo.getsockname()[1]}") as address:
        host, port = address.split(":")
        with socket.create_connection((host, int(port)), timeout=10) as near:
            far, _ = echo.accept()
            with far:
                far.settimeout(10)
                data = random.Random(1).randbytes(3_000_000)
                sent = 0
                got = b""
                near.setblocking(False)
                while len(got) < len(data):  # neither side reads all at once
                    if sent < len(data):
                        try:
                            sent += near.send(data[sent : sent + 100_000])
                        except BlockingIOError:
                            pass
                    got += far.recv(50_000)
                assert got == data
                far.sendall(b"answer")
                near.settimeout(10)
                assert near.recv(100) == b"answer"
            assert near.recv(100) == b""


def test_a_client_without_an_endpoint_is_closed(tmp_path: Path) -> None:
    with gateway(kvorum(), tmp_path, f"127.0.0.1:{free_port()}") as address:
        host, port = address.split(":")
        with socket.create_connection((host, int(port)), timeout=10) as near:
            assert near.recv(1) == b""


def test_a_gateway_is_not_its_own_endpoint(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    for program in PROGRAMS:
        done = subprocess.run(
            [*program.command, "gateway", "start", f"--listen-addr={address}", f"--endpoints={address}"],
            capture_output=True, text=True, timeout=20, check=False, cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 1
        assert "should not resolve to the gateway listen addr" in done.stdout + done.stderr


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3), st.booleans()), min_size=1, max_size=6),
    st.randoms(use_true_random=False),
)
def test_only_the_best_working_priority_is_picked(
    shapes: list[tuple[int, int, bool]], chance: random.Random
) -> None:
    remotes = [Remote("h", at, priority, weight) for at, (priority, weight, _) in enumerate(shapes)]
    for remote, (_, _, active) in zip(remotes, shapes, strict=True):
        remote.active = active
    chooser = Remotes(remotes, chance.randrange)
    working = [remote for remote in remotes if remote.active]
    picked = {chooser.pick() for _ in range(20)}
    if not working:
        assert picked == {None}
        return
    best = min(remote.priority for remote in working)
    allowed = {remote for remote in working if remote.priority == best}
    assert picked <= allowed
    if all(remote.weight == 0 for remote in allowed):
        assert picked == allowed


def test_weights_decide_how_often() -> None:
    remotes = [Remote("h", weight, weight=weight) for weight in (0, 1, 3)]
    chance = random.Random(7)
    chooser = Remotes(remotes, chance.randrange)
    counts = Counter(remote.weight for _ in range(40_000) if (remote := chooser.pick()))
    assert 9_400 < counts[1] < 10_400
    assert 200 < counts[0] < 600
