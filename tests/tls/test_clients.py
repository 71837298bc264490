"""Clients of all kinds over TLS: etcdctl, kvorumctl, gRPC, HTTP, on sockets of both families."""

import http.client
import json
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from tests.support import process
from tests.support.certificates import Authority, Pair
from tests.support.client import Client
from tests.support.etcdctl import Etcdctl
from tests.support.ports import free_port
from tests.support.process import Member, clean_environment


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def client(authority: Authority) -> Pair:
    return authority.issue("client")


METRICS_PORT = free_port()


@pytest.fixture(scope="module")
def member(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Member]:
    server = authority.issue("server")
    data = tmp_path_factory.mktemp("member") / "data"
    flags = [
        f"--cert-file={server.cert}",
        f"--key-file={server.key}",
        f"--trusted-ca-file={authority.path}",
        "--client-cert-auth",
        f"--listen-metrics-urls=https://127.0.0.1:{METRICS_PORT}",
    ]
    with Member(process.kvorum(), data, flags=flags, client_scheme="https") as member:
        yield member


def test_etcdctl(member: Member, authority: Authority, client: Pair) -> None:
    etcdctl = Etcdctl(member.url, *authority.ctl_flags(client))
    assert etcdctl.run("put", "a", "b").stdout == "OK\n"
    assert etcdctl.run("get", "a").stdout == "a\nb\n"
    assert "is healthy" in etcdctl.run("endpoint", "health").stdout
    (listed,) = etcdctl.json("member", "list")["members"]
    assert listed["clientURLs"] == [member.url]
    assert "3.5" in etcdctl.run("endpoint", "status").stdout
    etcdctl.run("lock", "l", "echo", "locked")
    assert "1 keys" in etcdctl.run("del", "a").stdout or etcdctl.run("get", "a").stdout == ""


def test_etcdctl_is_told_why(member: Member, authority: Authority) -> None:
    """The alert of a refusal reaches the client: asyncio's and uvloop's own TLS would lose it."""
    refused = Etcdctl(member.url, "--command-timeout=1s", *authority.ctl_flags()).run("get", "a", check=False)
    assert refused.status == 1
    assert "remote error: tls:" in refused.stderr
    member.wait_log("tls: client didn't provide a certificate")


def test_kvorumctl(member: Member, authority: Authority, client: Pair) -> None:
    command = [str(Path(sys.executable).parent / "kvorumctl"), f"--endpoints={member.url}"]
    flags = authority.ctl_flags(client)
    for arguments, printed in ((("put", "k", "v"), "OK\n"), (("get", "k"), "k\nv\n")):
        done = subprocess.run(
            [*command, *flags, *arguments], env=clean_environment(), capture_output=True, text=True,
            timeout=60, check=False,
        )  # fmt: skip
        assert (done.stdout, done.returncode) == (printed, 0), done.stderr


def test_grpc(member: Member, authority: Authority, client: Pair) -> None:
    with Client(member.endpoint, credentials=authority.credentials(client)) as grpcio:
        large = b"x" * 1_400_000
        grpcio.put(b"large", large)
        assert grpcio.get(b"large") == large
    stranger = Client(member.endpoint, 2, wait_for_ready=False, credentials=authority.credentials())
    with stranger, pytest.raises(grpc.RpcError):
        stranger.get(b"large")


@pytest.mark.parametrize("port", ["client", "metrics"])
def test_http(member: Member, authority: Authority, client: Pair, port: str) -> None:
    number = member.client_port if port == "client" else METRICS_PORT
    connection = http.client.HTTPSConnection("127.0.0.1", number, context=authority.context(client))
    for path, text in (("/health", '"health":"true"'), ("/metrics", "etcd_server_has_leader 1")):
        connection.request("GET", path)
        answer = connection.getresponse()
        assert (answer.status, text in answer.read().decode()) == (200, True)
    connection.close()


def test_who_speaks_both_gets_http1(member: Member, authority: Authority, client: Pair) -> None:
    """curl and browsers offer both and want the HTTP API; gRPC clients offer h2 alone."""
    for offered, agreed in ((["h2", "http/1.1"], "http/1.1"), (["h2"], "h2"), (["http/1.1"], "http/1.1")):
        context = authority.context(client)
        context.set_alpn_protocols(offered)
        raw = socket.create_connection(("127.0.0.1", member.client_port), 20)
        with context.wrap_socket(raw, server_hostname="localhost") as connection:
            assert connection.selected_alpn_protocol() == agreed


def test_http_without_tls_is_refused_clearly(member: Member) -> None:
    for port in (member.client_port, METRICS_PORT):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request("GET", "/health")
        answer = connection.getresponse()
        assert answer.status == 400
        assert answer.read() == b"Client sent an HTTP request to an HTTPS server.\n"
        connection.close()
    member.wait_log("tls: first record does not look like a TLS handshake")


def test_a_client_that_doubts_us_is_logged(member: Member) -> None:
    context = ssl.create_default_context()
    raw = socket.create_connection(("127.0.0.1", member.client_port), 20)
    own = raw.getsockname()[1]
    with pytest.raises(ssl.SSLCertVerificationError):
        context.wrap_socket(raw, server_hostname="localhost")
    line = json.loads(member.wait_log(f'"remote-addr":"127.0.0.1:{own}"'))
    assert line["server-name"] == "localhost"
    assert line["error"] == "remote error: tls: unknown certificate authority"


def test_unixs(authority: Authority, client: Pair, tmp_path: Path) -> None:
    server = authority.issue("unix")
    flags = [f"--cert-file={server.cert}", f"--key-file={server.key}",
             f"--trusted-ca-file={authority.path}",
             "--listen-client-urls=unixs://localhost:1"]  # fmt: skip
    directory = Path(shutil.copytree(tmp_path, tmp_path / "x"))
    with Member(process.kvorum(), directory / "data", flags=flags, client_scheme="https") as member:
        raw = socket.socket(socket.AF_UNIX)
        raw.connect(str(member.data_dir.parent / "localhost:1"))
        with authority.context(client).wrap_socket(raw, server_hostname="localhost") as connection:
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 200 OK")


def test_cipher_suites_and_versions(authority: Authority, tmp_path: Path) -> None:
    server = authority.issue("strict")
    flags = [f"--cert-file={server.cert}", f"--key-file={server.key}", "--tls-max-version=TLS1.2",
             "--cipher-suites=TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"]  # fmt: skip
    with Member(process.kvorum(), tmp_path / "data", flags=flags, client_scheme="https") as member:

        def agreed(ciphers: str = "", lowest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2) -> str:
            context = authority.context()
            context.minimum_version = lowest
            if ciphers:
                context.set_ciphers(ciphers)
            raw = socket.create_connection(("127.0.0.1", member.client_port), 20)
            with context.wrap_socket(raw, server_hostname="localhost") as connection:
                cipher = connection.cipher()
                assert cipher is not None
                return str(cipher[0])

        assert agreed() == "ECDHE-ECDSA-AES256-GCM-SHA384"
        with pytest.raises(ssl.SSLError):
            agreed("ECDHE-ECDSA-AES128-GCM-SHA256")
        member.wait_log("tls: no cipher suite supported by both client and server")
        with pytest.raises(ssl.SSLError):
            agreed(lowest=ssl.TLSVersion.TLSv1_3)
        member.wait_log("tls: client offered only unsupported versions: [304]")
