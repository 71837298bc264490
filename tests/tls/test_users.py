"""The common name in a client's certificate as the user: the same with etcd and with Kvorum."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import process
from tests.support.certificates import Authority, Pair
from tests.support.etcdctl import Etcdctl
from tests.support.process import Member

pytestmark = pytest.mark.slow

Outcomes = list[tuple[str, int, str]]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def members(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Member]]:
    server = authority.issue("server")
    flags = [f"--cert-file={server.cert}", f"--key-file={server.key}", f"--trusted-ca-file={authority.path}"]
    made = [
        Member(
            program,
            tmp_path_factory.mktemp("data") / program.name,
            flags=[*flags, *own],
            client_scheme="https",
        )
        for own in (["--client-cert-auth"], [])
        for program in (process.etcd(), process.kvorum())
    ]
    try:
        for member in made:
            member.start(wait=False)
        for member in made:
            member.wait_ready()
        yield made
    finally:
        for member in made:
            member.send_kill()
        for member in made:
            member.close()


def prepare(etcdctl: Etcdctl) -> None:
    etcdctl.run("role", "add", "reader")
    etcdctl.run("role", "grant-permission", "reader", "readwrite", "mine", "minf")
    for user in ("root:secret", "alice:secret"):
        etcdctl.run("user", "add", user)
    etcdctl.run("user", "grant-role", "root", "root")
    etcdctl.run("user", "grant-role", "alice", "reader")
    etcdctl.run("auth", "enable")


def outcomes(etcdctl: Etcdctl) -> Outcomes:
    found: Outcomes = []
    for command in (("put", "mine", "1"), ("get", "mine"), ("put", "yours", "1"), ("get", "yours"),
                    ("user", "list"), ("member", "list"), ("lease", "grant", "100")):  # fmt: skip
        done = etcdctl.run(*command, check=False)
        last = done.stderr.strip().splitlines()[-1:] or [""]
        found.append((" ".join(command), done.status, last[0]))
    return found


def test_a_certificate_is_a_user_if_asked_for(members: list[Member], authority: Authority) -> None:
    def pair(name: str) -> Pair:
        return authority.issue(f"client-{name or 'nameless'}", common_name=name)

    shown = [pair(name) for name in ("alice", "root", "nobody", "")]
    administrator = authority.issue("administrator", common_name="")
    every: list[list[Outcomes]] = []
    for member in members:
        prepare(Etcdctl(member.url, *authority.ctl_flags(administrator)))
        asked_for = "--client-cert-auth" in member.flags
        identities = shown if asked_for else shown[:1]
        found = [outcomes(Etcdctl(member.url, *authority.ctl_flags(one))) for one in identities]
        named = ("--user=alice:secret", *authority.ctl_flags(shown[1]))
        if asked_for:  # a token counts for more than a certificate
            found.append(outcomes(Etcdctl(member.url, *named)))
        every.append(found)
    etcd, kvorum, etcd_unasked, kvorum_unasked = every
    assert kvorum == etcd
    for ours, theirs in zip(kvorum_unasked, etcd_unasked, strict=True):
        for own, other in zip(ours, theirs, strict=True):
            # what 3.5.1 let anybody do, later releases refuse to those without a name, as we do
            assert own == other or other[:2] in (("member list", 0), ("lease grant 100", 0))
    alice = {command: status for command, status, _ in kvorum[0]}
    assert (alice["put mine 1"], alice["put yours 1"], alice["user list"]) == (0, 1, 1)
    assert {status for _, status, _ in kvorum[1]} == {0}
    assert kvorum[4] == kvorum[0]
    assert {status for command, status, _ in kvorum_unasked[0] if "mine" in command} == {1}


def test_what_is_in_the_data_directory(members: list[Member], tmp_path: Path) -> None:
    """No file of it, and no line of the log, has a password or the key in clear."""
    for member in members[1::2]:
        for path in (path for path in member.data_dir.rglob("*") if path.is_file()):
            assert b"PRIVATE KEY" not in path.read_bytes()
        assert "secret" not in "\n".join(member.log_lines)
