"""Proxies with TLS on both sides, and users whose tokens pass through."""

import subprocess
from pathlib import Path

import grpc
import pytest

from kvorum.proto import rpc_pb2 as pb
from tests.proxy.support import PROGRAMS, ask, gateway, grpc_proxy, http_proxy
from tests.support.certificates import Authority
from tests.support.etcdctl import Etcdctl
from tests.support.ports import free_port
from tests.support.process import Member, Program, kvorum


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    authority = Authority(tmp_path_factory.mktemp("pki"))
    authority.issue("server")
    authority.issue("client", common_name="")
    return authority


def secure_member(authority: Authority, tmp_path: Path) -> tuple[Member, str]:
    """A member that speaks TLS only and wants certificates, and where."""
    files = authority.directory
    endpoint = f"127.0.0.1:{free_port()}"
    member = Member(
        Program("kvorum", kvorum().command, ("serving client traffic securely",)),
        tmp_path / "member.etcd",
        flags=(
            f"--cert-file={files / 'server.pem'}", f"--key-file={files / 'server-key.pem'}",
            "--client-cert-auth", f"--trusted-ca-file={authority.path}", "--enable-v2=true",
            f"--listen-client-urls=https://{endpoint}", f"--advertise-client-urls=https://{endpoint}",
        ),
    )  # fmt: skip
    return member, endpoint


def refused_watch(address: str, authority: Authority) -> str:
    """What a user is told who may not watch. (etcdctl 3.5.1 panics when it is told so, whoever tells it.)"""
    credentials = grpc.ssl_channel_credentials(authority.path.read_bytes())
    with grpc.secure_channel(address, credentials) as channel:
        asked = pb.AuthenticateRequest(name="u", password="pw").SerializeToString()
        answer = channel.unary_unary("/etcdserverpb.Auth/Authenticate")(asked, timeout=20)
        token = pb.AuthenticateResponse.FromString(answer).token
        create = pb.WatchRequest(create_request=pb.WatchCreateRequest(key=b"theirs")).SerializeToString()
        watch = channel.stream_stream("/etcdserverpb.Watch/Watch")
        answers = watch(iter([create]), metadata=(("token", token),), timeout=20)
        response = pb.WatchResponse.FromString(next(answers))
        answers.cancel()
    assert response.created
    assert response.canceled
    return str(response.cancel_reason)


def test_the_v3_proxy(authority: Authority, tmp_path: Path) -> None:
    """Members with TLS, clients of the proxy with TLS, users."""
    files = authority.directory
    upstream = (
        f"--cacert={authority.path}", f"--cert={files / 'client.pem'}", f"--key={files / 'client-key.pem'}",
    )  # fmt: skip
    served = (f"--cert-file={files / 'server.pem'}", f"--key-file={files / 'server-key.pem'}")
    secured, endpoint = secure_member(authority, tmp_path)
    with secured:
        for at, program in enumerate(PROGRAMS):
            with grpc_proxy(program, tmp_path, f"https://{endpoint}", *upstream, *served) as address:
                ctl = Etcdctl(f"https://{address}")
                tls = ("--cacert", str(authority.path))
                if at == 0:
                    ctl.run(*tls, "user", "add", "root:pw")
                    ctl.run(*tls, "user", "grant-role", "root", "root")
                    ctl.run(*tls, "user", "add", "u:pw")
                    ctl.run(*tls, "role", "add", "r")
                    ctl.run(*tls, "role", "grant-permission", "r", "readwrite", "mine", "--prefix")
                    ctl.run(*tls, "user", "grant-role", "u", "r")
                    ctl.run(*tls, "auth", "enable")
                as_user = (*tls, "--user", "u:pw")
                assert ctl.run(*as_user, "put", "mine", str(at)).stdout == "OK\n"
                for consistency in ("l", "s", "s"):
                    got = ctl.run(*as_user, "get", "mine", f"--consistency={consistency}")
                    assert got.stdout == f"mine\n{at}\n"
                refused = ctl.run(*as_user, "put", "theirs", "1", check=False)
                assert "permission denied" in refused.stderr
                if at == 0:
                    assert refused_watch(address, authority) == "etcdserver: permission denied"
                    # etcd's proxy gives what it has kept to anybody
                    nobody = ctl.run(*tls, "get", "mine", "--consistency=s", check=False)
                    assert nobody.stdout == ""
                    assert "permission denied" in nobody.stderr


def test_a_certificate_that_is_somebody_is_refused(authority: Authority, tmp_path: Path) -> None:
    """All clients would be that user."""
    files = authority.directory
    authority.issue("somebody")
    command = [
        "grpc-proxy", "start", "--listen-addr=127.0.0.1:0", f"--cacert={authority.path}",
        f"--cert={files / 'somebody.pem'}", f"--key={files / 'somebody-key.pem'}",
    ]  # fmt: skip
    said = []
    for program in PROGRAMS:
        done = subprocess.run(
            [*program.command, *command],
            capture_output=True, text=True, timeout=20, check=False, cwd=tmp_path,
        )  # fmt: skip
        said.append((done.returncode, done.stderr.splitlines()[-1]))
    assert said[0] == said[1]
    assert "cert has non empty Common Name (somebody)" in said[0][1]


def test_the_v2_proxy_and_the_gateway(authority: Authority, tmp_path: Path) -> None:
    files = authority.directory
    secured, endpoint = secure_member(authority, tmp_path)
    with secured as member:
        shown = (
            f"--cert-file={files / 'client.pem'}", f"--key-file={files / 'client-key.pem'}",
            f"--trusted-ca-file={authority.path}",
        )  # fmt: skip
        with http_proxy(kvorum(), tmp_path, f"default={member.peer_url}", *shown) as url:
            assert ask(f"{url}/v2/keys/secure", "PUT", b"value=1")[0] == 201
            assert ask(f"{url}/v2/keys/secure")[0] == 200
        with gateway(kvorum(), tmp_path, f"https://{endpoint}") as address:
            pair = ("--cert", str(files / "client.pem"), "--key", str(files / "client-key.pem"))
            ctl = Etcdctl(f"https://{address}")
            assert ctl.run("--cacert", str(authority.path), *pair, "put", "a", "b").stdout == "OK\n"


def test_a_certificate_of_its_own(tmp_path: Path) -> None:
    with Member(kvorum(), tmp_path / "plain.etcd") as member:
        flags = ("--auto-tls", f"--data-dir={tmp_path / 'auto'}")
        with grpc_proxy(kvorum(), tmp_path, member.endpoint, *flags) as address:
            ctl = Etcdctl(f"https://{address}")
            assert (
                ctl.run("--insecure-transport=false", "--insecure-skip-tls-verify", "put", "a", "b").stdout
                == "OK\n"
            )
            assert (tmp_path / "auto/fixtures/proxy/cert.pem").exists()
