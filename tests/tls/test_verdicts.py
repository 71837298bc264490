"""The same handshakes with etcd 3.5.1 and with Kvorum: who is let in, and what the log says about the rest.

One member of each kind has a client port with a revocation list in PEM and a peer port for one common name;
another has the list in DER, a client port for one host name and a peer port that looks where its clients come
from; a third asks clients for nothing. etcd 3.5.1 speaks TLS 1.2 at most, so the words are compared there;
Kvorum's verdicts are the same in TLS 1.3.
"""

import contextlib
import http.client
import json
import re
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.support import process
from tests.support.certificates import DAY, Authority, Pair
from tests.support.process import Member, Program

WAIT_SECONDS: Final = 20.0
ELSEWHERE: Final = ("192.0.2.1",)
CLIENTS: Final = (
    "good", "nobody", "stranger", "expired", "early", "revoked", "server only", "no usages", "elsewhere",
    "no hosts", "nameless", "localhost only", "other name",
)  # fmt: skip


@dataclass(frozen=True)
class Keys:
    """Everything that is shown in these tests."""

    authority: Authority
    server: Pair
    clients: dict[str, Pair | None]
    revoked: dict[str, Path]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    directory = tmp_path_factory.mktemp("keys")
    authority, stranger = Authority(directory), Authority(directory / "other", "other")
    clients: dict[str, Pair | None] = {
        "good": authority.issue("good", common_name="member"),
        "nobody": None,
        "stranger": stranger.issue("stranger", common_name="member"),
        "expired": authority.issue("expired", common_name="member", begins=-2 * DAY, ends=-DAY),
        "early": authority.issue("early", common_name="member", begins=DAY),
        "revoked": authority.issue("revoked", common_name="member"),
        "server only": authority.issue(
            "serveronly", common_name="member", usages=[ExtendedKeyUsageOID.SERVER_AUTH]
        ),
        "no usages": authority.issue("nousages", common_name="member", usages=[]),
        "elsewhere": authority.issue("elsewhere", common_name="member", hosts=ELSEWHERE),
        "no hosts": authority.issue("nohosts", common_name="member", hosts=[]),
        "nameless": authority.issue("nameless", common_name=""),
        "localhost only": authority.issue("localhost", common_name="member", hosts=["localhost"]),
        "other name": authority.issue("othername", common_name="somebody"),
    }
    assert set(clients) == set(CLIENTS)
    revoked = clients["revoked"]
    assert revoked is not None
    lists = {
        "PEM": authority.revoke([revoked], Encoding.PEM, "revoked.crl.pem"),
        "DER": authority.revoke([revoked], Encoding.DER, "revoked.crl.der"),
    }
    return Keys(authority, authority.issue("server", hosts=["127.0.0.1"]), clients, lists)


def flags(keys: Keys, kind: str) -> list[str]:
    common = [
        f"--{twin}{flag}"
        for twin in ("", "peer-")
        for flag in (f"cert-file={keys.server.cert}", f"key-file={keys.server.key}")
    ]
    trusted = [f"--trusted-ca-file={keys.authority.path}", "--client-cert-auth"]
    trusted_peers = [f"--peer-trusted-ca-file={keys.authority.path}", "--peer-client-cert-auth"]
    if kind == "names":
        crl, own = keys.revoked["PEM"], ["--peer-cert-allowed-cn=member"]
        own.append("--experimental-peer-skip-client-san-verification")
    elif kind == "hosts":
        crl, own = keys.revoked["DER"], ["--client-cert-allowed-hostname=localhost"]
    else:
        return common
    lists = [f"--client-crl-file={crl}", f"--peer-crl-file={crl}"]
    return [*common, *trusted, *trusted_peers, *lists, *own]


Members = dict[str, tuple[Member, Member]]


@pytest.fixture(scope="module")
def members(keys: Keys, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Members]:
    """etcd and Kvorum of each kind."""

    def make(program: Program, kind: str) -> Member:
        directory = tmp_path_factory.mktemp(kind) / program.name
        return Member(program, directory, flags=flags(keys, kind), client_scheme="https", peer_scheme="https")

    kinds = ("names", "hosts", "open")
    made = {kind: (make(process.etcd(), kind), make(process.kvorum(), kind)) for kind in kinds}
    with contextlib.ExitStack() as stack:
        for pair in made.values():
            for member in pair:
                stack.callback(member.close)
                member.start(wait=False)
        for pair in made.values():
            for member in pair:
                stack.callback(member.send_kill)  # all of them, before any is waited for
        for pair in made.values():
            for member in pair:
                member.wait_ready()
        yield made


def context_for(keys: Keys, client: str, highest: ssl.TLSVersion) -> ssl.SSLContext:
    context = keys.authority.context(keys.clients[client])
    context.maximum_version = highest
    context.set_alpn_protocols(["http/1.1"])
    return context


def knock(port: int, context: ssl.SSLContext) -> tuple[bool, str]:
    """Whether a request is answered, and the address that it came from."""
    raw = socket.create_connection(("127.0.0.1", port), WAIT_SECONDS)
    host, own = raw.getsockname()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_SECONDS)
    try:
        with context.wrap_socket(raw, server_hostname="127.0.0.1") as connection.sock:
            connection.request("GET", "/version")
            return connection.getresponse().status == 200, f"{host}:{own}"
    except (OSError, http.client.HTTPException):
        return False, f"{host}:{own}"


def said(member: Member, address: str) -> dict[str, object]:
    """What the log says about a refused client, without what differs from run to run."""
    line = member.wait_log(f'"remote-addr":"{address}"', WAIT_SECONDS)
    fields = json.loads(line)
    assert fields["level"] == "warn"
    names = ("msg", "server-name", "ip-addresses", "dns-names", "error")
    found = {name: fields[name] for name in names if name in fields}
    # Go says which time it compared; OpenSSL does not tell which certificate it was about
    found["error"] = re.sub(r": current time .*", "", found["error"])
    found["error"] = re.sub(r"read tcp \S+: ", "", found["error"])
    found["error"] = re.sub(r" \(possibly because of .*", "", found["error"])
    return found


@pytest.mark.parametrize("port", ["client", "peer"])
@pytest.mark.parametrize("kind", ["names", "hosts", "open"])
@pytest.mark.parametrize("client", CLIENTS)
def test_the_same_verdict_in_the_same_words(
    members: Members, keys: Keys, client: str, kind: str, port: str
) -> None:
    verdicts = []
    for member in members[kind]:
        number = member.client_port if port == "client" else member.peer_port
        let_in, address = knock(number, context_for(keys, client, ssl.TLSVersion.TLSv1_2))
        verdicts.append((let_in, None if let_in else said(member, address)))
    assert verdicts[0] == verdicts[1]
    ours = members[kind][1]
    number = ours.client_port if port == "client" else ours.peer_port
    let_in, address = knock(number, context_for(keys, client, ssl.TLSVersion.TLSv1_3))
    assert (let_in, None if let_in else said(ours, address)) == verdicts[1]
