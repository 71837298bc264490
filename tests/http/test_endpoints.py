"""``/version``, ``/health``, ``/livez``, ``/readyz``, ``/metrics`` and the gate; held against a real etcd."""

import asyncio
import gzip
import http.client
import json
from collections.abc import Iterator

import pytest

from kvorum import ETCD_VERSION
from kvorum.api.http.gate import AccessGate
from kvorum.api.http.health import HealthHandlers
from kvorum.api.http.pages import install_metrics, install_version
from kvorum.errors import ERR_TIMEOUT, EtcdError
from kvorum.logging import Logger
from kvorum.rpc.http1 import HttpServer
from tests.http.serving import Serving, serving
from tests.support.process import Member

Answer = tuple[int, dict[str, str], bytes]


class Patient:
    """A member as healthy as a test wants it."""

    request_timeout_seconds = 0.1

    def __init__(self) -> None:
        self.leader = True
        self.learner = False
        self.raised: list[str] = []
        self.local_error: EtcdError | None = None
        self.quorum_error: EtcdError | None = None
        self.quorum_hangs = False

    def has_leader(self) -> bool:
        return self.leader

    def is_learner(self) -> bool:
        return self.learner

    def alarms(self) -> list[str]:
        return self.raised

    def serializable_read(self) -> None:
        if self.local_error is not None:
            raise self.local_error

    async def linearizable_read(self) -> None:
        if self.quorum_hangs:
            await asyncio.Event().wait()
        if self.quorum_error is not None:
            raise self.quorum_error


class Room:
    """The endpoints with a patient behind them."""

    def __init__(self) -> None:
        self.patient = Patient()
        self.health: HealthHandlers

    def install(self, http: HttpServer) -> None:
        self.health = HealthHandlers(self.patient, Logger([]))
        self.health.install(http)
        install_version(http, ETCD_VERSION, lambda: "3.5.0")
        install_metrics(http, lambda: b"# the page\n" * 100)


@pytest.fixture
def room() -> Room:
    return Room()


@pytest.fixture
def server(room: Room) -> Iterator[Serving]:
    with serving(room.install, gate=AccessGate()) as running:
        yield running


def ask(port: int, path: str, method: str = "GET", **headers: str) -> Answer:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    client.request(method, path, headers=headers)
    response = client.getresponse()
    body = response.read()
    client.close()
    return response.status, dict(response.getheaders()), body


def without_date(answer: Answer) -> Answer:
    return answer[0], {name: value for name, value in answer[1].items() if name != "Date"}, answer[2]


def test_answers_are_those_of_etcd(server: Serving, etcd: Member) -> None:
    etcd.wait_log("cluster version is updated")
    etcd_port = int(etcd.endpoint.rpartition(":")[2])
    asked = [
        (method, path)
        for method in ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH")
        for path in ("/version", "/health", "/nope", "/")
    ]
    asked += [
        ("GET", path) for path in ("/version?a=b", "/version/", "/health?exclude=NOSPACE", "/%76ersion")
    ]
    asked += [("GET", "//version"), ("GET", "/a/../health"), ("POST", "//version")]
    for method, path in asked:
        theirs, ours = (without_date(ask(port, path, method)) for port in (etcd_port, server.port))
        assert ours == theirs, (method, path)


def test_version_before_the_members_agree() -> None:
    with serving(lambda http: install_version(http, "3.5.1", str)) as server:
        assert ask(server.port, "/version")[2] == b'{"etcdserver":"3.5.1","etcdcluster":"not_decided"}'


@pytest.mark.parametrize(
    ("path", "change", "reason"),
    [
        ("/health", {}, ""),
        ("/health", {"raised": ["NOSPACE"]}, "ALARM NOSPACE"),
        ("/health", {"raised": ["CORRUPT"]}, "ALARM CORRUPT"),
        ("/health", {"raised": ["NONE"]}, "ALARM UNKNOWN"),
        ("/health?exclude=NOSPACE", {"raised": ["NOSPACE", "NOSPACE"]}, ""),
        ("/health?exclude=NOSPACE", {"raised": ["NOSPACE", "CORRUPT"]}, "ALARM CORRUPT"),
        ("/health?exclude=NOSPACE&exclude=CORRUPT", {"raised": ["NOSPACE", "CORRUPT"]}, ""),
        ("/health", {"leader": False}, "RAFT NO LEADER"),
        ("/health?serializable=true", {"leader": False, "quorum_error": ERR_TIMEOUT}, ""),
        ("/health?serializable=false", {"leader": False}, "RAFT NO LEADER"),
        ("/health", {"quorum_error": ERR_TIMEOUT}, "RANGE ERROR:etcdserver: request timed out"),
        ("/health", {"quorum_hangs": True}, "RANGE ERROR:context deadline exceeded"),
        (
            "/health?serializable=true",
            {"local_error": ERR_TIMEOUT},
            "RANGE ERROR:etcdserver: request timed out",
        ),
    ],
)
def test_health(server: Serving, room: Room, path: str, change: dict[str, object], reason: str) -> None:
    for name, value in change.items():
        setattr(room.patient, name, value)
    status, headers, body = ask(server.port, path)
    assert json.loads(body) == {"health": "false" if reason else "true", "reason": reason}
    assert status == (503 if reason else 200)
    assert body.endswith(b"\n") == bool(reason)
    assert ("X-Content-Type-Options" in headers) == bool(reason)
    assert (room.health.failures, room.health.successes) == ((1, 0) if reason else (0, 1))


READY = ("data_corruption", "serializable_read", "linearizable_read", "non_learner")


@pytest.mark.parametrize(
    ("path", "change", "status", "text"),
    [
        ("/livez", {}, 200, "ok\n"),
        ("/livez?verbose", {}, 200, "[+]serializable_read ok\nok\n"),
        ("/livez", {"leader": False, "raised": ["CORRUPT"], "learner": True}, 200, "ok\n"),
        ("/livez?exclude=serializable_read", {"local_error": ERR_TIMEOUT}, 200, "ok\n"),
        (
            "/livez",
            {"local_error": ERR_TIMEOUT},
            503,
            "[-]serializable_read failed: etcdserver: request timed out\n\n",
        ),
        ("/livez/serializable_read?verbose", {}, 200, "[+]serializable_read ok\nok\n"),
        ("/livez/linearizable_read", {}, 404, "404 page not found\n"),
        ("/readyz", {}, 200, "ok\n"),
        ("/readyz?verbose=1", {}, 200, "".join(f"[+]{name} ok\n" for name in READY) + "ok\n"),
        ("/readyz?verbose&exclude=non_learner&exclude=nope", {"learner": True}, 200, None),
        (
            "/readyz/non_learner",
            {"learner": True},
            503,
            "[-]non_learner failed: not supported for learner\n\n",
        ),
        (
            "/readyz/data_corruption",
            {"raised": ["CORRUPT"]},
            503,
            "[-]data_corruption failed: alarm activated: CORRUPT\n\n",
        ),
        ("/readyz/data_corruption", {"raised": ["NOSPACE"]}, 200, "ok\n"),
        (
            "/readyz?exclude=serializable_read",
            {"quorum_hangs": True},
            503,
            "[+]data_corruption ok\n[-]linearizable_read failed: context deadline exceeded\n"
            "[+]non_learner ok\n\n",
        ),
    ],
)
def test_livez_and_readyz(
    server: Serving, room: Room, path: str, change: dict[str, object], status: int, text: str | None
) -> None:
    for name, value in change.items():
        setattr(room.patient, name, value)
    answer = ask(server.port, path)
    assert answer[0] == status
    if text is not None:
        assert answer[2].decode() == text
    assert answer[1]["Content-Type"] == "text/plain; charset=utf-8"


def test_results_of_checks_are_counted(server: Serving, room: Room) -> None:
    ask(server.port, "/livez")
    room.patient.local_error = ERR_TIMEOUT
    ask(server.port, "/livez")
    assert room.health.last_result == {("serializable_read", "livez"): 0}
    assert room.health.results == {
        ("serializable_read", "success", "livez"): 1,
        ("serializable_read", "error", "livez"): 1,
    }


def test_the_metrics_page_plain_and_compressed(server: Serving) -> None:
    status, headers, body = ask(server.port, "/metrics")
    assert (status, body) == (200, b"# the page\n" * 100)
    assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    _, headers, packed = ask(server.port, "/metrics", **{"Accept-Encoding": "br, gzip;q=0.5"})
    assert headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed) == body
    assert "Content-Encoding" not in ask(server.port, "/metrics", **{"Accept-Encoding": "gzip;q=0"})[1]


# --- the gate ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("origin", "allowed"), [("https://a.example", True), ("https://b.example", False), (None, False)]
)
def test_cors_with_a_list_of_origins(origin: str | None, allowed: bool) -> None:
    gate = AccessGate(cors=["https://a.example"])
    with serving(lambda http: install_version(http, "3.5.1", str), gate=gate) as server:
        headers = {"Origin": origin} if origin else {}
        for method, status in (("GET", 200), ("OPTIONS", 200), ("POST", 405)):
            answer = ask(server.port, "/version", method, **headers)
            assert answer[0] == status
            assert answer[1].get("Access-Control-Allow-Origin") == (origin if allowed else None)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("good", 200),
        ("good:2379", 200),
        ("[::1]:2379", 200),
        ("evil", 421),
        ("evil:good", 421),
        ("good:1:2", 421),
    ],
)
def test_hosts_that_are_not_on_the_list_are_turned_away(host: str, status: int) -> None:
    gate = AccessGate(host_whitelist=["good", "::1"])
    with serving(lambda http: install_version(http, "3.5.1", str), gate=gate) as server:
        answer = ask(server.port, "/version", Host=host)
        assert answer[0] == status
        assert (b"--host-whitelist" in answer[2]) == (status == 421)
