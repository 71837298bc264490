"""Files, IPv6, several URLs, names, and what of a first start has to fit, beside etcd 3.5.1."""

import re
import socket
from collections.abc import Sequence
from pathlib import Path

import pytest

from kvorum.proto import rpc_pb2 as pb
from tests.conftest import StartMember
from tests.support import process
from tests.support.client import Client
from tests.support.etcdctl import Etcdctl
from tests.support.ports import free_port
from tests.support.process import Member, Program


def settled(program: Program, directory: Path, name: str, clients: str, peers: str, cluster: str) -> Member:
    """A member that listens on, and is known by, other URLs than its own ports."""
    flags = [
        f"--listen-client-urls={clients}",
        f"--advertise-client-urls={clients}",
        f"--listen-peer-urls={peers}",
        f"--initial-advertise-peer-urls={peers}",
        f"--initial-cluster={cluster}",
    ]
    return Member(program, directory / f"{name}.etcd", flags=flags, name=name)


@pytest.mark.parametrize(
    "peers",
    [
        ["unix://localhost:{}"] * 2,
        ["http://[::1]:{}"] * 2,
        ["http://127.0.0.1:{}", "unix://127.0.0.1:{}"],
        ["http://127.0.0.1:{},http://[::1]:{}"] * 2,
    ],
    ids=["files", "IPv6", "mixed", "several"],
)
def test_members_reach_each_other(peers: Sequence[str], tmp_path: Path) -> None:
    """One is etcd's. Clients come over each of a member's URLs."""
    mine = [re.sub(r"\{\}", lambda _: str(free_port()), form) for form in peers]
    cluster = ",".join(f"m{at}={url}" for at, urls in enumerate(mine) for url in urls.split(","))
    ports = [free_port() for _ in range(4)]
    clients = [
        f"http://127.0.0.1:{ports[0]},http://[::1]:{ports[1]},unix://localhost:{ports[2]}",
        f"http://127.0.0.1:{ports[3]}",
    ]
    kvorum, etcd = (
        settled(program, tmp_path, f"m{at}", clients[at], mine[at], cluster)
        for at, program in enumerate((process.kvorum(), process.etcd()))
    )
    try:
        for member in (kvorum, etcd):
            member.start(wait=False)
        for member in (kvorum, etcd):
            member.wait_ready()
        reached = [f"127.0.0.1:{ports[0]}", f"[::1]:{ports[1]}", f"unix:{tmp_path}/localhost:{ports[2]}"]
        for number, endpoint in enumerate([*reached, f"127.0.0.1:{ports[3]}"]):
            with Client(endpoint) as client:
                client.put(b"key", b"%d" % number)
                assert client.get(b"key") == b"%d" % number
                assert len(client.member_list().members) == 2
    finally:
        kvorum.close()
        etcd.close()


def test_one_of_several_urls_is_enough(tmp_path: Path) -> None:
    """A member is dialled at its other URL when the first does not answer."""
    dead, alive, own = (f"http://127.0.0.1:{free_port()}" for _ in range(3))
    cluster = f"m0={own},m1={dead},m1={alive}"
    members = [
        settled(process.kvorum(), tmp_path, "m0", f"http://127.0.0.1:{free_port()}", own, cluster),
        settled(
            process.kvorum(), tmp_path, "m1", f"http://127.0.0.1:{free_port()}", f"{dead},{alive}", cluster
        ),
    ]
    listening = Member(
        process.kvorum(),
        members[1].data_dir,
        flags=[*members[1].flags, f"--listen-peer-urls={alive}"],
        name="m1",
    )
    try:
        for member in (members[0], listening):
            member.start(wait=False)
        for member in (members[0], listening):
            member.wait_ready()
    finally:
        members[0].close()
        listening.close()


def refusal(program: Program, directory: Path, flags: Sequence[str]) -> str:
    member = Member(program, directory / f"{program.name}.etcd", flags=flags)
    member.start(wait=False)
    try:
        assert member.wait_exit() == 1
        (record,) = [each for each in member.log_records() if each["level"] == "fatal"]
        return str(record["error"])
    finally:
        member.close()


@pytest.mark.parametrize(
    "flags",
    [
        ["--name=other"],
        ["--initial-cluster=default=http://127.0.0.1:1,default=http://127.0.0.1:1"],
        ["--initial-cluster=default=http://127.0.0.1:1"],
        ["--initial-advertise-peer-urls=http://127.0.0.1:1,http://127.0.0.1:2"],
        ["--initial-cluster=default=http://localhost:1", "--initial-advertise-peer-urls=http://127.0.0.1:1"],
        ["--initial-cluster=default"],
        ["--initial-cluster=a=http://127.0.0.1:1,b=http://127.0.0.1:1", "--name=a",
         "--initial-advertise-peer-urls=http://127.0.0.1:1"],
        ["--initial-cluster-state=existing"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_what_does_not_fit(flags: Sequence[str], tmp_path: Path) -> None:
    listening = ["--listen-peer-urls=http://127.0.0.1:0", "--listen-client-urls=http://127.0.0.1:0"]
    both = [
        re.sub(r"127\.0\.0\.1:\d{4,}", "ADDRESS", refusal(program, tmp_path, [*listening, *flags]))
        for program in (process.etcd(), process.kvorum())
    ]
    assert both[1] == both[0]


def test_names_and_addresses_are_the_same(tmp_path: Path) -> None:
    """The configuration may say in words what the flag says in figures."""
    host, port = socket.gethostname(), free_port()
    address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][4][0]
    address = f"[{address}]" if ":" in str(address) else address
    for program in (process.etcd(), process.kvorum()):
        flags = [
            f"--initial-cluster=default=http://{host}:{port}",
            f"--initial-advertise-peer-urls=http://{address}:{port}",
        ]
        with Member(program, tmp_path / f"{program.name}.etcd", flags=flags) as member:
            listed = Etcdctl(member.endpoint).json("member", "list")["members"]
            assert [each["peerURLs"] for each in listed] == [[f"http://{host}:{port}"]]


def test_a_name_that_resolves_to_nothing_yet(tmp_path: Path) -> None:
    """The others serve while a member's name is not known, and go on asking for it."""
    own = f"http://127.0.0.1:{free_port()}"
    cluster = f"m0={own},m1=http://nobody.invalid:2380"
    member = settled(process.kvorum(), tmp_path, "m0", f"http://127.0.0.1:{free_port()}", own, cluster)
    try:
        member.start(wait=False)
        member.wait_log("nobody.invalid")
        member.wait_log("became pre-candidate")
        assert member.running
    finally:
        member.kill()


def test_a_port_is_shared(start_member: StartMember, tmp_path: Path) -> None:
    """With --socket-reuse-port two processes listen on one port; without, the second says so."""
    port = free_port()
    flags = [
        f"--listen-client-urls=http://127.0.0.1:{port}",
        f"--advertise-client-urls=http://127.0.0.1:{port}",
    ]
    start_member(process.kvorum(), flags=[*flags, "--socket-reuse-port", "--socket-reuse-address"])
    start_member(process.kvorum(), flags=[*flags, "--socket-reuse-port", "--socket-reuse-address"])
    reached = set()
    for _ in range(60):
        with Client(f"127.0.0.1:{port}") as client:
            reached.add(
                client.call(
                    "etcdserverpb.Maintenance/Status", pb.StatusRequest(), pb.StatusResponse
                ).header.member_id
            )
    assert len(reached) == 2
    third = start_member(process.kvorum(), flags=flags, wait=False)
    assert third.wait_exit() == 1
    assert f"listen tcp 127.0.0.1:{port}: bind: address already in use" in third.log_tail()
