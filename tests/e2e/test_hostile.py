"""Peers that mean no good, against a real process: it stays up, its memory bounded, others are served.

What each bound is and when it strikes is shown in ``tests/rpc`` and ``tests/http``; here the whole member
stands between the attackers and one honest client, who is asked after every wave.
"""

import random
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import h2.config
import h2.connection
import h2.settings
import pytest

from kvorum.proto import rpc_pb2 as pb
from tests.conftest import StartMember
from tests.rpc.grpc_kit import prefixed
from tests.support import process
from tests.support.client import Client
from tests.support.process import Member

SEED = 20161121
MEBIBYTE = 1 << 20
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\0\0\0\4\0\0\0\0\0"


@pytest.fixture
def member(start_member: StartMember) -> Member:
    return start_member(process.kvorum())


@pytest.fixture
def honest(member: Member) -> Iterator[Client]:
    with Client(member.endpoint, timeout_seconds=30) as client:
        client.put(b"honest", b"0")
        yield client


def still_serves(client: Client, number: int) -> None:
    client.put(b"honest", b"%d" % number)
    assert client.get(b"honest") == b"%d" % number


def connection_to(member: Member) -> socket.socket:
    return socket.create_connection(("127.0.0.1", member.client_port), 30)


def drained(connection: socket.socket) -> bytes:
    """Everything the server says until it closes."""
    parts = []
    try:
        while data := connection.recv(1 << 16):
            parts.append(data)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def test_garbage(member: Member, honest: Client) -> None:
    chance = random.Random(SEED)
    before = member.rss_bytes()
    heads = (
        b"",
        PREFACE,
        PREFACE + SETTINGS,
        PREFACE + SETTINGS + b"\xff\xff\xff\1\4\0\0\0\1",
        b"GET / HTTP/1.1\r\n",
        b"POST /version HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\0" * 100,
    )
    for number in range(200):
        with connection_to(member) as connection:
            try:
                connection.sendall(chance.choice(heads) + chance.randbytes(chance.randrange(1, 20_000)))
                connection.shutdown(socket.SHUT_WR)
            except OSError:
                continue  # it had heard enough
            drained(connection)
        if number % 50 == 0:
            still_serves(honest, number)
    still_serves(honest, 200)
    assert member.rss_bytes() < before + 64 * MEBIBYTE


# What never becomes a request, on either protocol.
UNFINISHED = {
    "http1_request_line": b"GET /hea",
    "http1_headers": b"GET /health HTTP/1.1\r\nHost: x\r\nX-Slow: ",
    "http1_body": b"POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n",
    "http2_preface": PREFACE[:10],
    "http2_settings": PREFACE + SETTINGS[:5],
    "http2_header_block": PREFACE + SETTINGS + b"\0\0\1\1\0\0\0\0\1\x83" + b"\0\0\1\x09\0\0\0\0\1\x86",
    "http2_frame": PREFACE + SETTINGS + b"\0\x40\0\1\4\0\0\0\1",
}


def test_slow_loris_on_both_protocols(member: Member, honest: Client) -> None:
    before = member.rss_bytes()
    with ExitStack() as stack:
        slow = []
        for _ in range(40):
            for head in UNFINISHED.values():
                connection = stack.enter_context(connection_to(member))
                connection.sendall(head)
                slow.append(connection)
        for wave in range(20):
            for connection in slow:
                try:
                    connection.sendall(b"a")
                except (BrokenPipeError, ConnectionResetError):
                    continue
            still_serves(honest, wave)
        assert member.rss_bytes() < before + 64 * MEBIBYTE
    still_serves(honest, 1000)


# --- readers that do not read -----------------------------------------------------------------------------

VALUES = 100
CONNECTIONS = 4
EVERYTHING = prefixed(pb.RangeRequest(key=b"large/", range_end=b"large0").SerializeToString())


@contextmanager
def deaf(member: Member, streams: int, window: int) -> Iterator[socket.socket]:
    """A connection that asks for everything on each of its streams, allows ``window`` bytes, reads none."""
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(30)
        connection.connect(("127.0.0.1", member.client_port))
        config = h2.config.H2Configuration(client_side=True)
        engine = h2.connection.H2Connection(config)
        engine.local_settings[h2.settings.SettingCodes.INITIAL_WINDOW_SIZE] = window
        engine.initiate_connection()
        if window > 65_535:
            engine.increment_flow_control_window(window - 65_535)
        for _ in range(streams):
            stream_id = engine.get_next_available_stream_id()
            fields = [
                (":method", "POST"),
                (":scheme", "http"),
                (":path", "/etcdserverpb.KV/Range"),
                (":authority", "x"),
                ("te", "trailers"),
                ("content-type", "application/grpc"),
            ]
            engine.send_headers(stream_id, fields)
            engine.send_data(stream_id, EVERYTHING, end_stream=True)
        connection.sendall(engine.data_to_send())
        yield connection


@pytest.mark.parametrize(("streams", "window"), [(50, 2**31 - 1), (100, 65_535), (100, 0)])
def test_readers_that_do_not_read(member: Member, honest: Client, streams: int, window: int) -> None:
    for number in range(VALUES):
        honest.put(b"large/%d" % number, bytes([number]) * MEBIBYTE)
    before = member.rss_bytes()
    highest = [before]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            highest.append(member.rss_bytes())

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        with ExitStack() as stack:
            for number in range(CONNECTIONS):
                stack.enter_context(deaf(member, streams, window))
                for wave in range(5):
                    still_serves(honest, 10 * number + wave)
    finally:
        done.set()
        watching.join()
    still_serves(honest, 1000)
    # They asked for 20 to 40 GB. Each connection may have one answer of 100 MB under way, and a copy of it.
    assert max(highest) < before + CONNECTIONS * 2 * VALUES * MEBIBYTE
