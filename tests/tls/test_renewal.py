"""Certificates, keys, authorities and lists that are replaced on disk count from the next connection on."""

import asyncio
import contextlib
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from kvorum.tls.info import TlsError
from kvorum.tls.source import FileSource
from tests.support import process
from tests.support.certificates import Authority, Pair
from tests.support.client import Client
from tests.support.process import Member
from tests.support.waiting import wait_until as wait_for


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "keys")


@pytest.fixture
def client_pair(authority: Authority) -> Pair:
    return authority.issue("client")


@pytest.fixture
def server(authority: Authority) -> Pair:
    return authority.issue("server")


@pytest.fixture
def revoked(authority: Authority) -> Path:
    return authority.revoke([], Encoding.DER, "revoked")


@pytest.fixture
def member(authority: Authority, server: Pair, revoked: Path, tmp_path: Path) -> Iterator[Member]:
    flags = [
        f"--cert-file={server.cert}",
        f"--key-file={server.key}",
        f"--trusted-ca-file={authority.path}",
        "--client-cert-auth",
        f"--client-crl-file={revoked}",
    ]
    with Member(process.kvorum(), tmp_path / "data", flags=flags, client_scheme="https") as member:
        yield member


def wait_until(look: Callable[[], bool], what: str) -> None:
    """Look ten times a second: each look is a handshake."""
    wait_for(look, what, poll_seconds=0.1)


def shown(member: Member, context: ssl.SSLContext) -> int | None:
    """The serial number of the certificate that a new connection is shown; None if it is refused."""
    raw = socket.create_connection(("127.0.0.1", member.client_port), 20)
    try:
        with context.wrap_socket(raw, server_hostname="localhost") as connection:
            der = connection.getpeercert(binary_form=True)
            connection.sendall(b"GET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            if not connection.recv(100).startswith(b"HTTP/1.1 200"):
                return None
    except OSError:
        return None
    assert der is not None
    return x509.load_der_x509_certificate(der).serial_number


def test_renewed_under_load(member: Member, authority: Authority, client_pair: Pair, server: Pair) -> None:
    """Ten renewals while clients come and go: nobody is refused, and each new certificate is soon shown.

    The two files are replaced one after the other, so there are moments when they do not fit together.
    """
    context = authority.context(client_pair)
    stop = threading.Event()
    refused: list[object] = []
    served = [0]

    def come_and_go() -> None:
        while not stop.is_set():
            served[0] += 1
            stop.wait(0.01)
            if shown(member, context) is None:
                refused.append(served[0])

    threads = [threading.Thread(target=come_and_go) for _ in range(2)]
    with Client(member.endpoint, credentials=authority.credentials(client_pair)) as staying:
        for thread in threads:
            thread.start()
        try:
            for number in range(2):
                renewed = authority.issue("server")
                serial = renewed.certificate.serial_number
                wait_until(lambda: shown(member, context) == serial, "the new certificate")  # noqa: B023
                staying.put(b"n", b"%d" % number)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    assert not refused
    assert served[0] > 4


def test_a_half_done_renewal(member: Member, authority: Authority, client_pair: Pair, server: Pair) -> None:
    """A key that does not fit, or no file at all: what was good before goes on being shown."""
    context = authority.context(client_pair)
    before = server.certificate.serial_number
    key = server.key.read_bytes()
    server.key.write_bytes(authority.issue("other").key.read_bytes())
    wait_until(
        lambda: shown(member, context) == before and "failed to create peer certificate" in member.log_tail(),
        "a word about it",
    )
    assert "private key does not match public key" in member.log_tail()
    os.unlink(server.cert)
    wait_until(
        lambda: shown(member, context) == before and "no such file or directory" in member.log_tail(),
        "another word",
    )
    server.key.write_bytes(key)
    renewed = authority.issue("server").certificate.serial_number
    wait_until(lambda: shown(member, context) == renewed, "the new certificate")


def test_revoked_while_it_runs(
    member: Member, authority: Authority, client_pair: Pair, revoked: Path
) -> None:
    context = authority.context(client_pair)
    assert shown(member, context) is not None
    authority.revoke([client_pair], Encoding.PEM, "revoked")
    wait_until(lambda: shown(member, context) is None, "a refusal")
    member.wait_log(f"transport: certificate serial {client_pair.serial_hex} revoked")
    revoked.write_bytes(b"not a list")
    other = authority.context(authority.issue("another"))
    wait_until(lambda: shown(member, other) is None, "nobody is let in by a list that cannot be read")
    os.unlink(revoked)
    member.wait_log("x509: malformed crl")
    wait_until(
        lambda: shown(member, other) is None and "no such file" in member.log_tail(), "nor by none at all"
    )
    authority.revoke([], Encoding.DER, "revoked")
    wait_until(lambda: shown(member, context) is not None, "an answer")


def test_another_authority(member: Member, authority: Authority, client_pair: Pair, tmp_path: Path) -> None:
    other = Authority(tmp_path / "other", "other")
    newcomer = authority.context(other.issue("newcomer"))
    assert shown(member, newcomer) is None
    authority.path.write_bytes(other.path.read_bytes())
    wait_until(lambda: shown(member, newcomer) is not None, "the new authority's client is let in")


class TestSource:
    """Looks at files happen in a thread, once a second at most, and whoever connects waits for one."""

    def test_no_look_is_repeated_within_a_second(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        path.write_text("1")
        made: list[str] = []
        problems: list[str] = []

        def load() -> str:
            text = path.read_text()
            made.append(text)
            if not text:
                raise TlsError("empty")
            return text

        async def run() -> None:
            source = FileSource((str(path), ""), load, lambda error: problems.append(str(error)))
            assert await asyncio.gather(*(source.fresh() for _ in range(10))) == ["1"] * 10
            path.write_text("22")
            assert await source.fresh() == "1"
            source._looked_at = float("-inf")
            assert await asyncio.gather(*(source.fresh() for _ in range(10))) == ["22"] * 10
            assert made == ["1", "22"]
            path.write_text("")
            for _ in range(3):
                source._looked_at = float("-inf")
                assert await source.fresh() == "22"
            assert problems == ["empty"]
            path.write_text("333")
            source._looked_at = float("-inf")
            assert await source.fresh() == "333"

        asyncio.run(run())

    def test_it_cannot_begin_with_a_mistake(self) -> None:
        def load() -> str:
            raise TlsError("no")

        with pytest.raises(TlsError):
            FileSource((), load, lambda error: None)

    def test_who_waits_may_go(self, tmp_path: Path) -> None:
        """A look goes on when the one that asked for it does not wait any more."""
        path = tmp_path / "file"
        path.write_text("1")

        async def run() -> None:
            source = FileSource((str(path),), path.read_text, lambda error: None)
            path.write_text("2")
            waiting = asyncio.get_running_loop().create_task(source.fresh())
            await asyncio.sleep(0)
            waiting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await waiting
            assert await source.fresh() == "2"

        asyncio.run(run())

    def test_a_file_system_that_hangs(self, tmp_path: Path) -> None:
        """What was there before is used, until the look comes back."""
        path = tmp_path / "file"
        path.write_text("1")
        answered = threading.Event()

        def load() -> str:
            text = path.read_text()
            assert text == "1" or answered.wait(20)
            return text

        async def run() -> None:
            source = FileSource((str(path),), load, lambda error: None)
            path.write_text("22")
            assert await source.fresh() == "1"
            assert not source.is_due
            answered.set()
            assert source._looking is not None
            await source._looking
            assert await source.fresh() == "22"

        asyncio.run(run())
