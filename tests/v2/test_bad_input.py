"""Clients that mean ill or know no better: a clear error or patience, and memory that stays bounded."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support import process
from tests.support.process import Member
from tests.v2.differential.steps import FORM
from tests.v2.differential.wire import Answer, Connection

MIB = 1024 * 1024
IDLE_POLLS = 10_000


@pytest.fixture(scope="module")
def member(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Member]:
    with Member(process.kvorum(), tmp_path_factory.mktemp("bad") / "kvorum.etcd") as running:
        yield running


@pytest.fixture
def client(member: Member) -> Iterator[Connection]:
    connection = Connection(member.client_port)
    yield connection
    connection.close()


def put(client: Connection, key: str, body: bytes) -> Answer:
    return client.ask("PUT", f"/v2/keys/{key}".encode(), (FORM,), body)


def test_values_up_to_the_limit_are_kept_and_no_larger_ones(client: Connection, member: Member) -> None:
    assert put(client, "large", b"value=" + b"x" * (MIB + MIB // 4)).status == 201
    refused = put(client, "large", b"value=" + b"x" * (2 * MIB))
    assert refused.status == 500
    assert json.loads(refused.body) == {
        "errorCode": 300,
        "message": "Raft Internal Error",
        "cause": "etcdserver: request is too large",
        "index": 0,
    }
    got = client.ask("GET", b"/v2/keys/large", (), b"")
    assert len(json.loads(got.body)["node"]["value"]) == MIB + MIB // 4
    escaped = put(client, "escaped", b"value=" + b"%41" * MIB)
    assert escaped.status == 201
    assert json.loads(escaped.body)["node"]["value"] == "A" * MIB


def test_a_body_of_ten_mebibytes_is_refused_unread(member: Member) -> None:
    before = member.rss_bytes()
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", member.client_port)) as raw:
            head = "PUT /v2/keys/a HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
            raw.sendall(f"{head}Content-Length: {10 * MIB}\r\n\r\nvalue=".encode())
            assert raw.makefile("rb").readline() == b"HTTP/1.1 413 Request Entity Too Large\r\n"
    assert member.rss_bytes() - before < 20 * MIB


def test_a_slow_body_waits_and_holds_up_nobody(client: Connection, member: Member) -> None:
    with socket.create_connection(("127.0.0.1", member.client_port), 20) as slow:
        slow.sendall(b"PUT /v2/keys/slow HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n")
        slow.sendall(b"Content-Type: application/x-www-form-urlencoded\r\n\r\n")
        for byte in b"value=abc":
            assert put(client, "quick", b"value=x").status in (200, 201)
            slow.sendall(bytes([byte]))
        assert slow.makefile("rb").readline() == b"HTTP/1.1 201 Created\r\n"


@pytest.mark.parametrize(
    ("target", "status", "location"),
    [
        (b"/v2/keys/a/../../../etc/passwd", 301, "/etc/passwd"),
        (b"/v2/keys/%2e%2e/%2e%2e/members", 301, "/members"),
        (b"/v2/keys/a/./b", 301, "/v2/keys/a/b"),
        (b"/v2/keys/../stats/self", 301, "/v2/stats/self"),
    ],
)
def test_paths_that_climb_lead_nowhere(client: Connection, target: bytes, status: int, location: str) -> None:
    answer = client.ask("GET", target, (), b"")
    assert (answer.status, answer.header("location")) == (status, location)


def test_a_nul_and_bytes_that_are_no_text(client: Connection) -> None:
    assert put(client, "nul%00byte", b"value=a%00b").status == 201
    assert json.loads(client.ask("GET", b"/v2/keys/nul%00byte", (), b"").body)["node"]["value"] == "a\0b"
    for _ in range(2):
        answer = put(client, "%ff%fe", b"value=%80%81")
        assert b'"key":"/\\ufffd\\ufffd","value":"\\ufffd\\ufffd"' in answer.body
    assert answer.status == 200, "the key is the same, although it looks like many others"


def test_long_and_deep_keys(client: Connection) -> None:
    long = "k" * 100_000
    assert put(client, long, b"value=x").status == 201
    assert (
        json.loads(client.ask("GET", f"/v2/keys/{long}".encode(), (), b"").body)["node"]["key"] == f"/{long}"
    )
    deep = "/".join("d" * 1_500)
    assert put(client, deep, b"value=x").status == 201
    listed = client.ask("GET", b"/v2/keys/d?recursive=true&sorted=true", (), b"")
    assert listed.body.count(b'"nodes"') == 1_499
    assert client.ask("DELETE", b"/v2/keys/d?recursive=true", (), b"").status == 200
    refused = put(client, "/".join("d" * 20_000), b"value=x")
    assert (refused.status, json.loads(refused.body)["errorCode"]) == (400, 209)
    assert client.ask("GET", b"/v2/keys/" + b"k" * 200_000, (), b"").status == 431


def test_forms_that_cost_work_are_refused(client: Connection) -> None:
    for body in (b"&" * MIB, b"a=b&" * 100_000, b"%41=%42&" * 100_000):
        began = time.monotonic()
        answer = put(client, "a", body)
        assert (answer.status, json.loads(answer.body)["errorCode"]) == (400, 210)
        assert time.monotonic() - began < 1


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[" * 100_000, b'{"user":' * 50_000, b"\xff", b"NaN", b'{"user":1}']
)
def test_json_that_is_none(client: Connection, body: bytes) -> None:
    for path, status in ((b"/v2/auth/users/x", 400), (b"/v2/auth/roles/x", 400), (b"/v2/members", 400)):
        method = "POST" if path == b"/v2/members" else "PUT"
        answer = client.ask(method, path, (("Content-Type", "application/json"),), body)
        assert answer.status == status, (path, answer)
        assert set(json.loads(answer.body)) == {"message"}


def test_ten_thousand_idle_long_polls(client: Connection, member: Member) -> None:
    """Each costs a connection and no more; all of them hear of one event; those that leave are forgotten."""
    polls: list[socket.socket] = []
    before = member.rss_bytes()
    request = b"GET /v2/keys/polled?wait=true HTTP/1.1\r\nHost: x\r\n\r\n"
    try:
        for _ in range(idle_polls()):
            poll = socket.create_connection(("127.0.0.1", member.client_port), 20)
            poll.sendall(request)
            polls.append(poll)
        for poll in polls:
            assert poll.recv(4096).startswith(b"HTTP/1.1 200 OK\r\n")
        assert watchers(client) == len(polls)
        assert (member.rss_bytes() - before) / len(polls) < 12 * 1024
        for poll in polls[::2]:
            poll.close()
        wait_for_watchers(client, len(polls) - len(polls[::2]))
        assert put(client, "polled", b"value=now").status == 201
        for poll in polls[1::2]:
            answer = b""
            while not answer.endswith(b"0\r\n\r\n"):
                piece = poll.recv(4096)
                assert piece
                answer += piece
            assert b'"value":"now"' in answer
        assert watchers(client) == 0
    finally:
        for poll in polls:
            poll.close()


def idle_polls() -> int:
    """As many as this process and the member may have descriptors for."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(IDLE_POLLS + 500, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return min(IDLE_POLLS, min(soft, wanted) - 500) if soft < wanted else IDLE_POLLS


def watchers(client: Connection) -> int:
    count = json.loads(client.ask("GET", b"/v2/stats/store", (), b"").body)["watchers"]
    assert isinstance(count, int)
    return count


def wait_for_watchers(client: Connection, count: int) -> None:
    deadline = time.monotonic() + 20
    while watchers(client) != count:
        assert time.monotonic() < deadline


def write_some(member: Member, value: bytes) -> None:
    writer = Connection(member.client_port)
    for _ in range(50):
        assert put(writer, "stream", value).status in (200, 201)
    writer.close()


def test_a_stream_that_nobody_reads_ends(client: Connection, member: Member) -> None:
    """Its events wait in the socket and then in the watcher, which has a bound; memory does not grow."""
    value = b"value=" + b"x" * 20_000
    with socket.create_connection(("127.0.0.1", member.client_port), 20) as lazy:
        lazy.sendall(b"GET /v2/keys/stream?wait=true&stream=true HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_for_watchers(client, 1)
        before = member.rss_bytes()
        with ThreadPoolExecutor(8) as writers:
            for _ in range(100):
                list(writers.map(lambda _: write_some(member, value), range(8)))
                if not watchers(client):
                    break
        assert not watchers(client)
        assert member.rss_bytes() - before < 200 * MIB
        received = threading.Event()

        def drain() -> None:
            answer = b""
            while not answer.endswith(b"\r\n0\r\n\r\n"):
                piece = lazy.recv(MIB)
                if not piece:
                    return
                answer = (answer + piece)[-16:]
            received.set()

        reader = threading.Thread(target=drain)
        reader.start()
        reader.join(20)
        assert received.is_set(), "what it was sent ends as a stream should"
