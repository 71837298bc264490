"""Clusters and endpoints that SRV records name, from a name server that runs beside."""

import asyncio
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from kvorum.discovery.srv import LookupFailedError, Resolver
from tests.discovery.conftest import Members, check_cluster
from tests.support import process
from tests.support.certificates import Authority
from tests.support.dns_server import DnsServer, Zone, unused_address
from tests.support.ports import free_port
from tests.support.process import Member, clean_environment

pytestmark = pytest.mark.slow

HOSTS: Zone = {"localhost.": {"A": [["127.0.0.1"]]}}


def zone(service: str, members: Sequence[Member], *, peers: bool = True) -> Zone:
    ports = [member.peer_port if peers else member.client_port for member in members]
    return {service: {"SRV": [[0, 0, port, "localhost."] for port in ports]}, **HOSTS}


def kvorumctl(*words: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    program = str(Path(sys.executable).parent / "kvorumctl")
    return subprocess.run(
        [program, *words], capture_output=True, text=True, env=clean_environment(env), check=False
    )


def test_members_and_endpoints(members: Members) -> None:
    """etcd's resolver asks port 53 alone, so its member is told by a list what the others find."""
    by_dns = ("--discovery-srv=example.test", "--discovery-srv-name=prod")
    port = free_port()
    cluster = [
        members.make(process.kvorum(), "k1", *by_dns),
        members.make(process.kvorum(), "k2", *by_dns),
        members.make(process.etcd(), "e1", f"--initial-advertise-peer-urls=http://localhost:{port}"),
    ]
    cluster[2].peer_port = port
    names = (f"{member.name}=http://localhost:{member.peer_port}" for member in cluster)
    cluster[2].initial_cluster = ",".join(names)
    records = zone("_etcd-server-prod._tcp.example.test.", cluster)
    records |= zone("_etcd-client-prod._tcp.example.test.", cluster, peers=False)
    with DnsServer(records) as server:
        for member in cluster:
            member.env.update(server.environment)
            member.start(wait=False)
        check_cluster(cluster)
        cluster[0].wait_log(f'"node":"k1=http://localhost:{cluster[0].peer_port}"')

        flags = ("--discovery-srv=example.test", "--discovery-srv-name=prod")
        done = kvorumctl(*flags, "get", "from", env=server.environment)
        assert (done.stdout, done.returncode) == ("from\nk1\n", 0), done.stderr
        done = kvorumctl(*flags, "endpoint", "health", env=server.environment)
        found = {line.partition(" is ")[0] for line in (done.stdout + done.stderr).splitlines()}
        assert found == {f"http://localhost:{member.client_port}" for member in cluster}
        done = kvorumctl(*flags, "--insecure-discovery=false", "get", "from", env=server.environment)
        ignored = f'ignoring discovered insecure endpoint "http://localhost.:{cluster[0].client_port}"'
        assert ignored in done.stderr.splitlines()

        done = kvorumctl("--discovery-srv=nothing.test", "get", "from", env=server.environment)
        problems = [
            f"lookup _etcd-client{kind}._tcp.nothing.test on {server.address}: no such host"
            for kind in ("-ssl", "")
        ]
        assert done.stderr == f"Error: dns lookup errors: {problems[0]} and {problems[1]}\n"
        assert done.returncode == 1


def test_members_that_speak_tls(members: Members, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "tls")
    pair = authority.issue("peer", hosts=("localhost",))
    flags = (
        "--discovery-srv=example.test",
        f"--peer-cert-file={pair.cert}",
        f"--peer-key-file={pair.key}",
        f"--peer-trusted-ca-file={authority.path}",
        "--peer-client-cert-auth",
    )
    cluster = [members.make(process.kvorum(), f"k{n}", *flags, peer_scheme="https") for n in (1, 2)]
    with DnsServer(zone("_etcd-server-ssl._tcp.example.test.", cluster)) as server:
        for member in cluster:
            member.env.update(server.environment)
            member.start(wait=False)
        check_cluster(cluster)


def failure(member: Member) -> str:
    assert member.wait_exit() == 1
    (record,) = (item for item in member.log_records() if item["level"] == "fatal")
    assert record["msg"] == "discovery failed"
    return str(record["error"]).removeprefix("error setting up initial cluster: ")


def test_no_cluster(members: Members) -> None:
    member = members.make(process.kvorum(), "k1", "--discovery-srv=example.test")
    other = members.make(process.kvorum(), "k2")
    with DnsServer({}) as server:
        member.env.update(server.environment)
        nothing = "; ".join(
            f"error querying DNS SRV records for _etcd-server{kind} lookup"
            f" _etcd-server{kind}._tcp.example.test on {server.address}: no such host"
            for kind in ("-ssl", "")
        )
        assert failure(member.start(wait=False)) == nothing
    with DnsServer(zone("_etcd-server._tcp.example.test.", [other])) as server:
        member.env.update(server.environment)
        assert failure(member.start(wait=False)) == 'cannot find local etcd member "k1" in SRV records'
    with DnsServer(zone("_etcd-server-ssl._tcp.example.test.", [member])) as server:
        member.env.update(server.environment)
        url = f"https://localhost:{member.peer_port}"
        assert (
            f"bootstrap at {url} from DNS for etcd-server-ssl has scheme mismatch with expected peer"
            f" {member.peer_url}"
        ) in failure(member.start(wait=False))


@pytest.mark.parametrize("count", [1, 40])
def test_long_answers_come_by_tcp(count: int) -> None:
    rows = [
        [0, 0, 1000 + number, f"a-host-with-quite-a-name-{number}.example.test."] for number in range(count)
    ]
    with DnsServer({"_etcd-server._tcp.example.test.": {"SRV": rows}}) as server:
        targets = asyncio.run(Resolver(server.environment).services("_etcd-server._tcp.example.test"))
    assert {target.port for target in targets} == {1000 + number for number in range(count)}


def test_a_dead_name_server_is_told_of() -> None:
    address = unused_address()
    resolver = Resolver({"KVORUM_DNS_SERVER": address}, seconds=0.2)
    with pytest.raises(LookupFailedError, match=rf"^lookup a\.test on {address}: "):
        asyncio.run(resolver.services("a.test"))
