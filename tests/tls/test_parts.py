"""The parts that need no connection: hellos, names, certificates, reasons, verdicts."""

import asyncio
import contextlib
import datetime
import ssl
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from kvorum.logging import Logger
from kvorum.tls import TlsError, TlsInfo
from kvorum.tls.certificate import Certificate
from kvorum.tls.contexts import client_context, server_context
from kvorum.tls.hello import ClientHello, NotTlsError, is_whole, parse
from kvorum.tls.names import CIPHER_SUITES, set_cipher_suites
from kvorum.tls.revocation import RevocationList
from kvorum.tls.selfsigned import self_signed
from kvorum.tls.verdict import address_refusal, name_refusal
from tests.support.certificates import DAY, Authority
from tests.support.process import distro_binary


def hello_of(context: ssl.SSLContext, name: str) -> bytes:
    outgoing = ssl.MemoryBIO()
    session = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        session.do_handshake()
    return outgoing.read()


@pytest.mark.parametrize("lowest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_real_hello(lowest: ssl.TLSVersion) -> None:
    context = ssl.create_default_context()
    context.minimum_version = lowest
    hello = hello_of(context, "etcd.example.org")
    assert [is_whole(hello[:size]) for size in range(len(hello))] == [False] * len(hello)
    assert is_whole(hello)
    assert is_whole(hello + b"more")
    expected = (0x304,) if lowest == ssl.TLSVersion.TLSv1_3 else (0x304, 0x303)
    assert parse(hello) == ClientHello("etcd.example.org", expected)
    assert parse(hello_of(context, "127.0.0.1")).server_name == ""


@given(st.binary(max_size=600))
def test_any_bytes_are_a_hello_or_none(data: bytes) -> None:
    parse(data)
    with contextlib.suppress(NotTlsError):
        assert not is_whole(data) or len(data) >= 5


@given(st.integers(0, 600), st.binary(min_size=1, max_size=5))
def test_hellos_that_are_damaged(at: int, damage: bytes) -> None:
    hello = hello_of(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), "etcd.example.org")
    parse(hello[:at] + damage + hello[at + len(damage) :])
    parse(hello[:at])


def test_cipher_suites() -> None:
    """Every name that etcd takes is known; OpenSSL has those that are still good for anything."""
    available = {entry["name"] for entry in ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).get_ciphers()}
    assert len({name for name in CIPHER_SUITES.values() if name in available}) >= 6
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    set_cipher_suites(context, ["TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305", "TLS_AES_128_GCM_SHA256"])
    chosen = {entry["name"] for entry in context.get_ciphers() if entry["protocol"] != "TLSv1.3"}
    assert chosen == {"ECDHE-RSA-CHACHA20-POLY1305"}
    set_cipher_suites(context, ["TLS_AES_128_GCM_SHA256"])
    assert context.minimum_version == ssl.TLSVersion.TLSv1_3


@pytest.mark.parametrize("suite", sorted(CIPHER_SUITES))
def test_etcd_takes_the_same_names(suite: str, etcd_suites: str) -> None:
    assert suite in etcd_suites


@pytest.fixture(scope="module")
def etcd_suites() -> str:
    """Go's names are texts in etcd's binary."""
    done = subprocess.run(
        ["grep", "-aoE", "TLS_[A-Z0-9_]+", distro_binary("etcd")], capture_output=True, text=True, check=True
    )
    return done.stdout


MATCHING = [
    (["etcd.example.org"], "etcd.example.org", True),
    (["etcd.example.org"], "ETCD.Example.org.", True),
    (["etcd.example.org"], "example.org", False),
    (["*.example.org"], "etcd.example.org", True),
    (["*.example.org"], "a.etcd.example.org", False),
    (["*.example.org"], "example.org", False),
    (["*"], "etcd", False),
    (["e*.example.org"], "etcd.example.org", False),
    (["127.0.0.1"], "127.0.0.1", True),
    (["127.0.0.1"], "127.0.0.2", False),
    (["::1"], "0:0:0:0:0:0:0:1", True),
    (["::1"], "[::1]", True),
    (["localhost"], "127.0.0.1", False),
    ([], "localhost", False),
]


@pytest.mark.parametrize(("hosts", "asked", "expected"), MATCHING)
def test_hosts_of_a_certificate(hosts: list[str], asked: str, expected: bool, tmp_path: Path) -> None:
    pair = Authority(tmp_path).issue("x", hosts=hosts)
    certificate = Certificate.parse(pair.certificate.public_bytes(Encoding.DER))
    assert certificate.is_for(asked) == expected
    assert bool(certificate.mismatch(asked)) != expected


def test_what_is_in_a_certificate(tmp_path: Path) -> None:
    pair = Authority(tmp_path).issue("x", hosts=["a.b", "10.0.0.1"], common_name="alice", ends=-DAY / 2)
    found = Certificate.parse(pair.certificate.public_bytes(Encoding.DER))
    assert (found.common_name, found.dns_names, found.addresses) == ("alice", ("a.b",), ("10.0.0.1",))
    assert found.serial_hex == pair.serial_hex
    assert found.expired()
    assert not found.expired(datetime.datetime.now(datetime.UTC) - DAY)
    with pytest.raises(ValueError):
        Certificate.parse(b"no certificate")


def test_addresses_and_names(tmp_path: Path) -> None:
    authority = Authority(tmp_path)

    def refusal(hosts: list[str], address: str = "127.0.0.1") -> str:
        der = authority.issue("x", hosts=hosts).certificate.public_bytes(Encoding.DER)
        return asyncio.run(address_refusal(Certificate.parse(der), address))

    assert refusal([]) == ""
    assert refusal(["127.0.0.1"]) == ""
    assert refusal(["localhost"]) == ""
    assert refusal(["10.0.0.1", "localhost"]) == ""
    assert refusal(["10.0.0.1"]) == "x509: certificate is valid for 10.0.0.1, not 127.0.0.1"
    refused = refusal(["no-such-host.invalid"])
    assert refused.startswith('tls: "127.0.0.1" does not match any of DNSNames ["no-such-host.invalid"]')


def test_allowed_names(tmp_path: Path) -> None:
    der = Authority(tmp_path).issue("x", common_name="alice").certificate.public_bytes(Encoding.DER)
    certificate = Certificate.parse(der)
    failed = "client certificate authentication failed"
    assert name_refusal(TlsInfo(), certificate) == ""
    assert name_refusal(TlsInfo(allowed_cns=("bob", "alice")), certificate) == ""
    assert name_refusal(TlsInfo(allowed_cns=("bob",)), certificate) == failed
    assert name_refusal(TlsInfo(allowed_hostnames=("x.org", "localhost")), certificate) == ""
    assert name_refusal(TlsInfo(allowed_hostnames=("x.org",)), certificate) == failed


@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER], ids=["PEM", "DER"])
def test_revocation_lists(encoding: Encoding, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    revoked, good = authority.issue("revoked"), authority.issue("good")
    found = RevocationList.load(str(authority.revoke([revoked], encoding, "list")))
    bad, fine = (Certificate.parse(pair.certificate.public_bytes(Encoding.DER)) for pair in (revoked, good))
    assert found.refusal((fine,)) == ""
    assert found.refusal((fine, bad)) == f"transport: certificate serial {revoked.serial_hex} revoked"
    (tmp_path / "list").write_bytes(b"-----BEGIN X509 CRL-----\nx\n-----END X509 CRL-----\n")
    assert RevocationList.load(str(tmp_path / "list")).refusal((fine,)) == "x509: malformed crl"


def test_own_certificates(tmp_path: Path) -> None:
    info = self_signed(TlsInfo(), tmp_path, ["127.0.0.1", "localhost"], 3, Logger([]))
    key, cert = Path(info.key_file), Path(info.cert_file)
    assert key.stat().st_mode & 0o777 == 0o600
    certificate = x509.load_pem_x509_certificate(cert.read_bytes())
    years = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    assert years == 3 * 365 * DAY
    server_context(info)
    assert client_context(info).verify_mode == ssl.CERT_NONE
    before = cert.read_bytes()
    assert self_signed(TlsInfo(), tmp_path, ["other"], 1, Logger([])) == info
    assert cert.read_bytes() == before
    with pytest.raises(TlsError, match="should be greater than 0"):
        self_signed(TlsInfo(), tmp_path, [], 0, Logger([]))


def test_a_member_of_a_pool_is_trusted_as_it_is(tmp_path: Path) -> None:
    """Go trusts what is in the file, be it no authority at all; so do we."""
    pair = Authority(tmp_path).issue("leaf")
    info = TlsInfo(str(pair.cert), str(pair.key), trusted_ca_file=str(pair.cert))
    server, client = server_context(info), client_context(info)
    a, b, c, d = (ssl.MemoryBIO() for _ in range(4))
    one = server.wrap_bio(a, b, server_side=True)
    two = client.wrap_bio(c, d, server_hostname="localhost")
    for _ in range(4):
        for session, out, into in ((two, d, a), (one, b, c)):
            try:
                session.do_handshake()
            except ssl.SSLWantReadError:
                pass
            into.write(out.read())
    assert one.getpeercert()
    assert two.version() == "TLSv1.3"


def test_a_pool_of_nobody(tmp_path: Path) -> None:
    pair = Authority(tmp_path).issue("leaf")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "broken").write_text("-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n")
    info = TlsInfo(str(pair.cert), str(pair.key), trusted_ca_file=str(tmp_path / "empty"))
    assert server_context(info).cert_store_stats()["x509"] == 0
    with pytest.raises(TlsError, match="x509: malformed certificate"):
        server_context(TlsInfo(str(pair.cert), str(pair.key), trusted_ca_file=str(tmp_path / "broken")))
