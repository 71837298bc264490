"""The same over TLS, both sides showing certificates: between two of ours, and beside a real etcd."""

import ssl
import subprocess
from pathlib import Path
from typing import TypeAlias

import pytest

from kvorum.raft.types import MSG_HEARTBEAT, MSG_HEARTBEAT_RESP, MSG_SNAP, MSG_VOTE, MSG_VOTE_RESP, Message
from tests.peer.station import Pieces, Station
from tests.peer.test_etcd import PATIENT, beside
from tests.peer.test_snapshots import SNAPSHOT, database
from tests.peer.test_transport import A, B, Run, append, run
from tests.support.process import etcd

__all__ = ["run"]

Contexts: TypeAlias = tuple[ssl.SSLContext, ssl.SSLContext]
Files: TypeAlias = tuple[Path, Path]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Key and certificate of a member on loopback, its own authority."""
    directory = tmp_path_factory.mktemp("tls")
    key, cert = directory / "key.pem", directory / "cert.pem"
    options = ("-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2")
    subject = ("-subj", "/CN=member", "-addext", "subjectAltName=IP:127.0.0.1")
    command = ["openssl", "req", *options, *subject, "-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True)
    return key, cert


@pytest.fixture
def tls(certificate: Files) -> Contexts:
    """What we show and ask of those who connect, and of those we connect to."""
    key, cert = certificate
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(cert))
    serving.verify_mode = ssl.CERT_REQUIRED
    dialling = ssl.create_default_context(cafile=str(cert))
    for context in (serving, dialling):
        context.load_cert_chain(cert, key)
    return serving, dialling


def test_two_members_over_tls(run: Run, tls: Contexts) -> None:
    async def talk() -> None:
        url = "https://127.0.0.1:0"
        async with Station(A, url=url, tls=tls) as a, Station(B, url=url, tls=tls) as b:
            a.transport.add_peer(B, [b.url])
            b.transport.add_peer(A, [a.url])
            await a.until(lambda: len(a.logged("established TCP streaming")) == 4)
            said = [append(0, 3, 1_000_000), *(append(3 + index) for index in range(100))]
            a.transport.send(said)
            await b.until(lambda: len(b.received) == len(said))
            assert b.received == said
            a.outgoing = Pieces(SNAPSHOT, database(2_000_000))
            a.transport.send([Message(MSG_SNAP, to=B, from_=A, term=4)])
            await a.until(lambda: a.snapshots == [(B, True)])

    run(talk())


def test_who_has_no_certificate_is_not_let_in(run: Run, tls: Contexts, certificate: Files) -> None:
    async def talk() -> None:
        nameless = ssl.create_default_context(cafile=str(certificate[1]))
        url = "https://127.0.0.1:0"
        async with Station(A, url=url, tls=tls) as a, Station(B, url=url, tls=(tls[0], nameless)) as b:
            a.transport.add_peer(B, [b.url])
            b.transport.add_peer(A, [a.url])
            await a.until(lambda: len(a.logged("established TCP streaming")) == 2)  # those that a has dialled
            await b.until(lambda: bool(b.logged("failed to dial")))
            assert len(b.logged("stream-reader-type")) == len(b.logged("started stream reader"))

    run(talk())


def test_beside_etcd_over_tls(run: Run, tls: Contexts, certificate: Files, tmp_path: Path) -> None:
    key, cert = certificate
    flags = (*PATIENT, f"--peer-cert-file={cert}", f"--peer-key-file={key}",
             f"--peer-trusted-ca-file={cert}", "--peer-client-cert-auth")  # fmt: skip

    async def talk() -> None:
        async with beside(tmp_path, flags, etcd(), tls=tls) as (other, _):
            other.say(MSG_VOTE, term=2, log_term=1, index=2)
            assert not (await other.hear(MSG_VOTE_RESP)).reject
            other.say(MSG_HEARTBEAT, term=2, commit=2)
            await other.hear(MSG_HEARTBEAT_RESP)

    run(talk())
