"""What a member says about TLS when it starts, and which mistakes it does not start with: etcd's words."""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from kvorum.config import ConfigError
from kvorum.config_sources import load
from kvorum.logging import Logger
from kvorum.rpc.sockets import ListenError
from kvorum.server.security import Security, SecurityError
from tests.support import process
from tests.support.certificates import Authority
from tests.support.ports import free_port
from tests.support.process import Member, Program, clean_environment

SERVED = ["--cert-file=server.pem", "--key-file=server-key.pem"]
PEERS = ["--listen-peer-urls=https://127.0.0.1:{peer}"]
PEER_SERVED = [*PEERS, "--peer-cert-file=server.pem", "--peer-key-file=server-key.pem"]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates, a key of another one, and files that are neither."""
    directory = tmp_path_factory.mktemp("start")
    authority = Authority(directory)
    authority.issue("server")
    authority.issue("other")
    (directory / "empty").write_bytes(b"")
    (directory / "odd").write_text("-----BEGIN THING-----\nAAAA\n-----END THING-----\n" * 2)
    (directory / "broken").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    (directory / "unreadable").mkdir()
    return directory


def standard(client: object, peer: object, data: Path) -> list[str]:
    return [
        f"--data-dir={data}",
        f"--listen-client-urls=https://127.0.0.1:{client}",
        f"--advertise-client-urls=https://127.0.0.1:{client}",
        f"--listen-peer-urls=http://127.0.0.1:{peer}",
    ]


def end_of(program: Program, flags: Sequence[str], directory: Path, data: Path) -> tuple[int, dict[str, Any]]:
    """Exit status and the last word of a member that cannot start."""
    client, peer = free_port(), free_port()
    given = [flag.format(client=client, peer=peer) for flag in flags]
    done = subprocess.run(
        [*program.command, *standard(client, peer, data), *given],
        cwd=directory,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    lines = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    last = next(line for line in reversed(lines) if line["level"] == "fatal")
    error = last["error"].replace(str(client), "CLIENT").replace(str(peer), "PEER")
    return done.returncode, {"msg": last["msg"], "error": error}


MISTAKES = {
    "no certificate": [],
    "no key": ["--cert-file=server.pem"],
    "no certificate for the key": ["--key-file=server-key.pem"],
    "no such certificate": ["--cert-file=none.pem", "--key-file=server-key.pem"],
    "no such key": ["--cert-file=server.pem", "--key-file=none.pem"],
    "another key": ["--cert-file=server.pem", "--key-file=other-key.pem"],
    "two certificates": ["--cert-file=server.pem", "--key-file=server.pem"],
    "two keys": ["--cert-file=server-key.pem", "--key-file=server-key.pem"],
    "nothing in the certificate": ["--cert-file=empty", "--key-file=server-key.pem"],
    "nothing in the key": ["--cert-file=server.pem", "--key-file=empty"],
    "something else in the certificate": ["--cert-file=odd", "--key-file=server-key.pem"],
    "something else in the key": ["--cert-file=server.pem", "--key-file=odd"],
    "a folder": ["--cert-file=unreadable", "--key-file=server-key.pem"],
    "half a client certificate": [*SERVED, "--client-cert-file=server.pem"],
    "no such authority": [*SERVED, "--trusted-ca-file=none"],
    "no such cipher suite": [*SERVED, "--cipher-suites=TLS_RSA_WITH_AES_128_CBC_SHA,SSLv2"],
    "no certificate for peers": [*SERVED, *PEERS],
    "half a certificate for peers": [*SERVED, *PEERS, "--peer-cert-file=server.pem"],
    "no such key for peers": [*SERVED, *PEERS, "--peer-cert-file=server.pem", "--peer-key-file=none"],
    "no such authority for peers": [*SERVED, *PEER_SERVED, "--peer-trusted-ca-file=none"],
    "no years": ["--auto-tls", "--self-signed-cert-validity=0"],
    "no years for peers": [*SERVED, "--peer-auto-tls", "--self-signed-cert-validity=0"],
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_like_etcd(
    mistake: str, directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = MISTAKES[mistake]
    status, said = end_of(process.etcd(), flags, directory, tmp_path / "etcd")
    assert status == 1
    monkeypatch.chdir(directory)
    arguments = standard("CLIENT", "PEER", tmp_path / "kvorum")
    texts = [flag.format(client=1, peer=2) for flag in (*arguments, *flags)]
    config = load([text.replace("CLIENT", "1").replace("PEER", "2") for text in texts], {}, Logger([]))
    config.validate()
    with pytest.raises((SecurityError, ListenError)) as refusal:
        Security(config, Logger([]))
    error = str(refusal.value).replace("0.1:1", "0.1:CLIENT").replace("0.1:2", "0.1:PEER")
    assert {"msg": getattr(refusal.value, "message", "discovery failed"), "error": error} == said


@pytest.mark.parametrize("mistake", ["no certificate", "another key", "no years"])
def test_a_member_ends_as_etcd_does(mistake: str, directory: Path, tmp_path: Path) -> None:
    flags = MISTAKES[mistake]
    ours = end_of(process.kvorum(), flags, directory, tmp_path / "kvorum")
    assert ours == end_of(process.etcd(), flags, directory, tmp_path / "etcd")
    assert not (tmp_path / "kvorum" / "member").exists(), "nothing was begun"


LATER = {
    "a version that is none": (
        ["--tls-min-version=TLS1.1"],
        'unexpected TLS version "TLS1.1" (must be one of: TLS1.2, TLS1.3)',
    ),
    "versions that exclude each other": (
        ["--tls-min-version=TLS1.3", "--tls-max-version=TLS1.2"],
        "min version (TLS1.3) is greater than max version (TLS1.2)",
    ),
    "suites of no use": (
        ["--tls-min-version=TLS1.3", "--cipher-suites=TLS_AES_128_GCM_SHA256"],
        "cipher suites cannot be configured when only TLS1.3 is enabled",
    ),
    "names and hosts": (
        [*PEER_SERVED, "--peer-cert-allowed-cn=a", "--peer-cert-allowed-hostname=b,c"],
        'AllowedCNs and AllowedHostnames are mutually exclusive (cns=["a"], hostnames=["b" "c"])',
    ),
}
"""Flags that etcd 3.5 does not have, or not with a list; the texts are etcd 3.7's."""


@pytest.mark.parametrize("mistake", LATER)
def test_mistakes_of_later_flags(
    mistake: str, directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags, error = LATER[mistake]
    monkeypatch.chdir(directory)
    given = [flag.format(peer=2) for flag in flags]
    config = load([f"--data-dir={tmp_path / 'd'}", *SERVED, *given], {}, Logger([]))

    def start() -> None:
        config.validate()
        Security(config, Logger([]))

    with pytest.raises((ConfigError, SecurityError)) as refusal:
        start()
    assert str(refusal.value) == error


def warnings(member: Member) -> list[dict[str, object]]:
    """What is said about TLS, without what is said of each run."""
    found = []
    for record in member.log_records():
        about = ("scheme is HTTP", "starting with", "auto TLS", "private key", "check file permission")
        if str(record["msg"]).startswith(about) or any(word in str(record["msg"]) for word in about):
            text = json.dumps({k: v for k, v in record.items() if k not in ("ts", "caller")})
            for number in (member.client_port, member.peer_port):
                text = text.replace(str(number), "PORT")
            found.append(json.loads(text))
    return found


def test_certificates_that_nobody_asks_for(directory: Path, tmp_path: Path) -> None:
    """http URLs beside certificates: a warning for each, as from etcd."""
    authority = directory / "authority.pem"
    flags = [
        f"--{twin}{flag}"
        for twin in ("", "peer-")
        for flag in (
            f"cert-file={directory}/server.pem",
            f"key-file={directory}/server-key.pem",
            f"trusted-ca-file={authority}",
            "client-cert-auth",
        )
    ] + ["--cipher-suites=TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"]
    said = []
    for program in (process.etcd(), process.kvorum()):
        with Member(program, tmp_path / program.name, flags=flags) as member:
            said.append(warnings(member))
    assert said[0] == said[1]
    assert len(said[0]) == 6


def test_files_that_others_can_read(directory: Path, tmp_path: Path) -> None:
    """A key or a data directory that is open to others is a warning; what is made is closed to them."""
    key = directory / "server-key.pem"
    data = tmp_path / "deep" / "er" / "data"
    flags = [f"--cert-file={directory}/server.pem", f"--key-file={key}", "--auto-tls", f"--data-dir={data}"]
    with Member(process.kvorum(), tmp_path / "x", flags=flags, client_scheme="https") as member:
        assert [line["msg"] for line in warnings(member)] == [
            "ignoring client auto TLS since certs given",
            "starting with client TLS",
        ]
        made = [tmp_path / "deep", data.parent, data, *(path for path in data.rglob("*") if path.is_dir())]
        assert {path.stat().st_mode & 0o777 for path in made} == {0o700}
        files = [path for path in data.rglob("*") if path.is_file()]
        assert {path.stat().st_mode & 0o077 for path in files} == {0}
        member.stop()
        key.chmod(0o644)
        data.chmod(0o755)
        try:
            member.start()
            said = {line["msg"]: line for line in warnings(member)}
        finally:
            key.chmod(0o600)
    assert said["everybody on this machine can read a private key"]["key-file"] == str(key)
    assert said["check file permission"]["error"] == (
        f'directory "{data}" exist, but the permission is "drwxr-xr-x". The recommended permission is'
        ' "-rwx------" to prevent possible unprivileged access to the data'
    )


def test_the_sections_of_a_file() -> None:
    """The keys of etcd 3.7's ``client-transport-security`` and ``peer-transport-security``."""
    text = """
    client-transport-security: {cert-file: a, key-file: b, client-cert-auth: true, trusted-ca-file: c,
      auto-tls: true, client-cert-file: d, client-key-file: e, allowed-hostname: [f]}
    peer-transport-security: {cert-file: g, key-file: h, client-cert-auth: true, trusted-ca-file: i,
      auto-tls: true, client-cert-file: j, client-key-file: k, allowed-cn: [l, m], allowed-hostname: [n],
      skip-client-san-verification: true}
    cipher-suites: [TLS_RSA_WITH_AES_128_GCM_SHA256]
    tls-max-version: TLS1.2
    """
    config = load(["--config-file=x"], {}, Logger([]), read_file=lambda _: text.encode())
    assert (config.cert_file, config.key_file, config.trusted_ca_file) == ("a", "b", "c")
    assert (config.client_cert_file, config.client_key_file) == ("d", "e")
    assert (config.peer_cert_file, config.peer_key_file, config.peer_trusted_ca_file) == ("g", "h", "i")
    assert (config.peer_client_cert_file, config.peer_client_key_file) == ("j", "k")
    assert config.client_cert_auth
    assert config.peer_client_cert_auth
    assert config.auto_tls
    assert config.peer_auto_tls
    assert config.peer_skip_client_san_verification
    assert config.client_cert_allowed_hostname == ("f",)
    assert (config.peer_cert_allowed_cn, config.peer_cert_allowed_hostname) == (("l", "m"), ("n",))
    assert config.cipher_suites == ("TLS_RSA_WITH_AES_128_GCM_SHA256",)
    assert config.tls_max_version == "TLS1.2"
