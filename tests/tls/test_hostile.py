"""Peers that mean no good, at a TLS port of a real process: it stays up, its memory bounded, others served.

``python -m tests.tls.test_hostile`` does the same in full: 10,000 connections of random bytes, 5,000
handshakes that stall, as many that are refused at their end, a million malformed frames; it prints what they
cost.
"""

import multiprocessing
import random
import socket
import ssl
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psutil
import pytest

from kvorum import limits
from tests.support import process
from tests.support.certificates import Authority
from tests.support.client import Client
from tests.support.process import Member

pytestmark = pytest.mark.slow

SEED: Final = 20161121
MEBIBYTE: Final = 1 << 20
PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS: Final = b"\0\0\0\4\0\0\0\0\0"
GROWTH_BYTES: Final = 96 * MEBIBYTE
"""What the process may grow by: begun handshakes take 50 KiB each, and there are 1,024 at most."""


@contextmanager
def serving(directory: Path) -> Iterator[tuple[Member, Authority]]:
    """A member whose clients need certificates."""
    authority = Authority(directory / "keys")
    server = authority.issue("server")
    flags = [f"--cert-file={server.cert}", f"--key-file={server.key}", f"--trusted-ca-file={authority.path}",
             "--client-cert-auth"]  # fmt: skip
    data = directory / "data"
    with Member(process.kvorum(), data, flags=flags, client_scheme="https") as member:
        yield member, authority


class Honest:
    """A client that comes and goes all the while; how long its puts take is what the attack costs others."""

    def __init__(self, member: Member, authority: Authority) -> None:
        self._member: Final = member
        self._credentials: Final = authority.credentials(authority.issue("honest"))
        self._stop: Final = threading.Event()
        self._thread: Final = threading.Thread(target=self._work)
        self.staying: Final[list[float]] = []
        """Seconds of puts on one connection."""
        self.coming: Final[list[float]] = []
        """Seconds from nothing to a put's answer: a connection, its handshake, the put."""
        self.failures: Final[list[str]] = []

    def _work(self) -> None:
        with Client(self._member.endpoint, 20, credentials=self._credentials) as staying:
            while not self._stop.is_set():
                try:
                    begun = time.monotonic()
                    staying.put(b"honest", b"stays")
                    self.staying.append(time.monotonic() - begun)
                    begun = time.monotonic()
                    with Client(self._member.endpoint, 20, credentials=self._credentials) as coming:
                        coming.put(b"honest", b"comes")
                    self.coming.append(time.monotonic() - begun)
                except Exception as error:
                    self.failures.append(str(error))

    def __enter__(self) -> "Honest":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def check(self, longest_seconds: float) -> None:
        assert not self.failures
        assert self.staying
        assert self.coming
        assert max(self.staying + self.coming) < longest_seconds


def connect(member: Member) -> socket.socket:
    return socket.create_connection(("127.0.0.1", member.client_port), 30)


def random_bytes(member: Member, count: int) -> None:
    chance = random.Random(SEED)
    heads = (
        b"",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x16\x03\x01",
        PREFACE,
        b"GET / HTTP/1.1\r\n",
    )
    for _ in range(count):
        with connect(member) as raw:
            try:
                raw.sendall(chance.choice(heads) + chance.randbytes(chance.randrange(1, 2000)))
                if chance.random() < 0.5:
                    raw.shutdown(socket.SHUT_WR)
            except OSError:
                pass


def hello(authority: Authority) -> bytes:
    outgoing = ssl.MemoryBIO()
    session = authority.context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        session.do_handshake()
    return outgoing.read()


def stalled(member: Member, authority: Authority, count: int) -> list[socket.socket]:
    """Connections that said a whole hello, a part of one, or nothing, and then nothing more."""
    whole = hello(authority)
    opened = []
    for number in range(count):
        raw = connect(member)
        raw.sendall((whole, whole[:100], b"")[number % 3])
        opened.append(raw)
    return opened


def malformed_frames(member: Member, authority: Authority, count: int) -> int:
    """Send so many frames that no HTTP/2 client would; returns how many connections that took."""
    chance = random.Random(SEED)
    context = authority.context(authority.issue("malformed"))
    context.set_alpn_protocols(["h2"])
    sent = connections = 0
    while sent < count:
        connections += 1
        frames = []
        for _ in range(min(500, count - sent)):
            size = chance.randrange(0, 40)
            kind, flags, stream = chance.randrange(12), chance.randrange(256), chance.randrange(8)
            head = size.to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big")
            frames.append(head + chance.randbytes(size))
        sent += len(frames)
        raw = connect(member)
        try:
            with context.wrap_socket(raw, server_hostname="localhost") as connection:
                connection.sendall(PREFACE + SETTINGS + b"".join(frames))
        except OSError:
            pass
    return connections


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Member, Authority]]:
    with serving(tmp_path_factory.mktemp("attacked")) as both:
        yield both


def test_random_bytes(attacked: tuple[Member, Authority]) -> None:
    member, authority = attacked
    before = member.rss_bytes()
    with Honest(member, authority) as honest:
        random_bytes(member, 400)
    honest.check(15)
    assert member.rss_bytes() - before < GROWTH_BYTES


def test_handshakes_that_stall(attacked: tuple[Member, Authority]) -> None:
    member, authority = attacked
    before = member.rss_bytes()
    count = limits.TLS_HANDSHAKES + 200
    with Honest(member, authority) as honest:
        opened = stalled(member, authority, count)
        member.wait_log("too many handshakes")
    honest.check(15)
    assert member.rss_bytes() - before < GROWTH_BYTES
    for raw in opened:
        raw.close()


def test_malformed_frames(attacked: tuple[Member, Authority]) -> None:
    member, authority = attacked
    before = member.rss_bytes()
    with Honest(member, authority) as honest:
        assert malformed_frames(member, authority, 20_000) >= 40
    honest.check(15)
    assert member.rss_bytes() - before < GROWTH_BYTES


def unanswered(member: Member, authority: Authority, count: int) -> None:
    """Whole handshakes of somebody without a certificate: the most that work can be asked for."""
    context = authority.context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    for _ in range(count):
        with connect(member) as raw:
            try:
                context.wrap_socket(raw, server_hostname="localhost").close()
            except OSError:
                pass


def spread(seconds: list[float]) -> str:
    """Median and maximum."""
    seconds = sorted(seconds)
    return f"median {seconds[len(seconds) // 2] * 1000:.1f} ms, slowest {seconds[-1] * 1000:.0f} ms"


def attack(member: Member, authority: Authority, what: str, run: Callable[[], object]) -> None:
    """Attack from another process, and say what that costs the honest."""
    attacker = multiprocessing.get_context("fork").Process(target=run)
    most = before = member.rss_bytes()
    used = psutil.Process(member.pid).cpu_times()
    attacker.start()
    begun = time.monotonic()
    with Honest(member, authority) as honest:
        while attacker.is_alive():
            attacker.join(0.1)
            most = max(most, member.rss_bytes())
        seconds = time.monotonic() - begun
    spent = psutil.Process(member.pid).cpu_times()
    assert not honest.failures, honest.failures
    processor = spent.user + spent.system - used.user - used.system
    sys.stdout.write(
        f"{what}: {seconds:.1f} s, {processor:.1f} s of the member's processor; memory"
        f" {before / MEBIBYTE:.0f} MiB, at most {most / MEBIBYTE:.0f}; {len(honest.staying)} puts beside it,"
        f" {spread(honest.staying)}; with a new connection {spread(honest.coming)}\n"
    )


def main() -> None:
    """Do all of it in full."""

    def stall() -> None:
        for raw in stalled(member, authority, 5000):
            raw.close()

    with tempfile.TemporaryDirectory() as directory, serving(Path(directory)) as (member, authority):
        attack(member, authority, "nothing", lambda: time.sleep(5))
        attack(member, authority, "10,000 of random bytes", lambda: random_bytes(member, 10_000))
        attack(member, authority, "5,000 that stall", stall)
        attack(member, authority, "5,000 whole handshakes", lambda: unanswered(member, authority, 5000))
        attack(member, authority, "1,000,000 frames", lambda: malformed_frames(member, authority, 1_000_000))
        attack(member, authority, "nothing", lambda: time.sleep(5))


if __name__ == "__main__":
    main()
