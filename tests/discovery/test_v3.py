"""Clusters that begin through keys of a v3 server. etcd 3.5 has no such members, but it can be the server.

The keys are those of etcd 3.6's ``v3discovery``: below ``/_etcd/registry/<token>`` there are ``_config/size``
and ``members/<ID>``.
"""

from pathlib import Path

import pytest

from tests.discovery.conftest import Members, check_cluster
from tests.support import process
from tests.support.certificates import Authority
from tests.support.client import Client
from tests.support.etcdctl import Etcdctl
from tests.support.process import Member

pytestmark = pytest.mark.slow

SIZE_KEY = "/_etcd/registry/{}/_config/size"


def flags(service: Member, token: str, *more: str) -> tuple[str, ...]:
    return (f"--discovery-token={token}", f"--discovery-endpoints={service.endpoint}", *more)


def error_of(member: Member) -> str:
    assert member.wait_exit() == 1
    (record,) = (item for item in member.log_records() if "failed to bootstrap" in item["msg"])
    return str(record["error"])


def test_three_members_and_a_service_that_restarts(members: Members) -> None:
    service = members.serve(process.etcd())
    keys = Etcdctl(service.endpoint)
    keys.run("put", SIZE_KEY.format("t1"), "3")
    first = members.start(process.kvorum(), "k1", *flags(service, "t1"))
    first.wait_log("waiting for peers from discovery service")
    service.kill()
    first.wait_log("retry connecting to discovery service")
    service.start()
    others = [members.start(process.kvorum(), name, *flags(service, "t1")) for name in ("k2", "k3")]
    check_cluster([first, *others])

    late = members.start(process.kvorum(), "late", *flags(service, "t1"))
    assert error_of(late) == "failed to join discovery cluster (discovery: cluster is full)"
    stored = keys.run("get", "--prefix", "/_etcd/registry/t1/members/").stdout.split()
    with Client(first.endpoint) as client:
        ids = {f"{member.ID:x}" for member in client.member_list().members}
    assert {key.rpartition("/")[2] for key in stored[::2]} == ids
    assert f"k1={first.peer_url}" in stored[1::2]

    nobody = members.start(process.kvorum(), "nobody", *flags(service, "t2"))
    assert error_of(nobody) == "failed to join discovery cluster (discovery: size key not found)"
    keys.run("put", SIZE_KEY.format("t2"), "three")
    assert (
        error_of(nobody.start(wait=False)) == "failed to join discovery cluster (discovery: size key is bad)"
    )


def test_a_user_and_a_dead_endpoint(members: Members) -> None:
    service = members.serve(process.etcd())
    keys = Etcdctl(service.endpoint)
    keys.run("put", SIZE_KEY.format("t"), "1")
    keys.run("user", "add", "root:secret")
    keys.run("auth", "enable")
    dead = f"--discovery-endpoints=127.0.0.1:1,{service.endpoint}"
    user = ("--discovery-user=root", "--discovery-password=secret")
    alone = members.start(process.kvorum(), "k1", *flags(service, "t", dead, *user))
    check_cluster([alone])


@pytest.mark.parametrize("verified", [True, False])
def test_tls(members: Members, tmp_path: Path, verified: bool) -> None:
    authority = Authority(tmp_path / "tls")
    server, client = authority.issue("server"), authority.issue("client")
    directory = tmp_path / "service.etcd"
    service = Member(
        process.etcd(),
        directory,
        name="service",
        client_scheme="https",
        flags=(
            f"--cert-file={server.cert}",
            f"--key-file={server.key}",
            f"--trusted-ca-file={authority.path}",
            *(("--client-cert-auth",) if verified else ()),
        ),
    )
    shown = (f"--discovery-cert={client.cert}", f"--discovery-key={client.key}")
    believed = f"--discovery-cacert={authority.path}" if verified else "--discovery-insecure-skip-tls-verify"
    try:
        service.start(wait=False).wait_log("serving client traffic securely")
        ctl = Etcdctl(
            f"https://{service.endpoint}",
            f"--cacert={authority.path}",
            f"--cert={client.cert}",
            f"--key={client.key}",
        )
        ctl.run("put", SIZE_KEY.format("t"), "1")
        wanted = flags(service, "t", "--discovery-insecure-transport=false", believed, *shown)
        check_cluster([members.start(process.kvorum(), "k1", *wanted)])
    finally:
        service.close()
