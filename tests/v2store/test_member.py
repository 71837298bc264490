"""The v2 store in a whole member: through the log, over restarts and crashes, expiring by its leader."""

import http.client
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from kvorum.errors import ERR_REQUEST_TOO_LARGE, ERR_STOPPED, EtcdError
from kvorum.server.v2 import V2, Outcome
from kvorum.v2store.errors import KEY_NOT_FOUND, V2Error
from kvorum.v2store.event import Event
from kvorum.v2store.request import V2Request
from tests.support.inside import WAIT_SECONDS, Inside, running_inside
from tests.support.process import Member, kvorum

SECOND = 1_000_000_000


@pytest.fixture
def inside(tmp_path: Path) -> Iterator[Inside]:
    """A member that has said and agreed on all that a new one does, so that its log rests."""
    with running_inside(tmp_path / "data") as inside:
        settled = threading.Event()

        def look() -> None:
            watcher = inside.node.v2.watch("/0/version", since=1)
            watcher.wake = settled.set
            if watcher.events:
                settled.set()

        inside.call(look)
        assert settled.wait(WAIT_SECONDS)
        yield inside


def put(path: str, value: str = "", ttl_seconds: float = 0) -> V2Request:
    request = V2Request("PUT", path, value)
    if ttl_seconds:
        request.expiration = time.time_ns() + int(ttl_seconds * SECOND)
    return request


def test_writes_go_through_the_log_and_are_answered_with_what_they_did(inside: Inside) -> None:
    v2: V2 = inside.node.v2
    before = inside.node.committed_index
    event = inside.run(v2.do(put("/1/k", "a\udcff")))
    assert (event.action, event.node.key, event.node.value) == ("set", "/1/k", "a\udcff")
    assert event.etcd_index == v2.index
    assert inside.node.committed_index == before + 1
    with pytest.raises(V2Error) as refused:
        inside.run(v2.do(V2Request("DELETE", "/1/none")))
    assert refused.value.code == KEY_NOT_FOUND
    with pytest.raises(EtcdError) as too_large:
        inside.run(v2.do(put("/1/k", "x" * 2_000_000)))
    assert too_large.value is ERR_REQUEST_TOO_LARGE


def test_reads_with_a_quorum_need_no_entry(inside: Inside) -> None:
    v2 = inside.node.v2
    inside.run(v2.do(put("/1/k", "a")))
    before = inside.node.committed_index
    answers: list[Outcome] = []
    answered = threading.Event()

    def done(outcome: Outcome) -> None:
        answers.append(outcome)
        if len(answers) == 2:
            answered.set()

    inside.call(lambda: v2.quorum_get("/1/k", False, False, done))
    inside.call(lambda: v2.quorum_get("/1/none", False, False, done))
    assert answered.wait(WAIT_SECONDS)
    read, refused = answers
    assert isinstance(read, Event)
    assert read.node.value == "a"
    assert isinstance(refused, V2Error)
    assert inside.node.committed_index == before


def test_keys_expire_by_an_entry_and_nothing_is_proposed_before_one_is_due(inside: Inside) -> None:
    v2 = inside.node.v2
    inside.run(v2.do(put("/1/later", ttl_seconds=3600)))
    before = inside.node.committed_index
    inside.skip(5)
    assert inside.node.committed_index == before
    expired = threading.Event()
    watcher = inside.call(lambda: v2.watch("/1/soon"))
    watcher.wake = expired.set
    inside.run(v2.do(put("/1/other", ttl_seconds=0.2)))
    watcher = inside.call(lambda: v2.watch("/1/other"))
    watcher.wake = expired.set
    assert expired.wait(WAIT_SECONDS)
    event = watcher.take()
    assert event is not None
    assert event.action == "expire"
    assert inside.node.committed_index >= before + 2
    assert inside.call(lambda: v2.get("/1/later")).node.ttl > 3500


def test_who_waits_while_the_member_stops_is_told(tmp_path: Path) -> None:
    with running_inside(tmp_path / "data") as inside:
        v2 = inside.node.v2
    outcomes: list[Outcome] = []
    v2.propose(put("/1/k"), outcomes.append)
    assert outcomes == [ERR_STOPPED]


def test_a_crash_and_a_restart_lose_nothing(tmp_path: Path) -> None:
    """Neither the tree nor the index nor the history, whether the database or only the log had it."""
    with Member(kvorum(), tmp_path / "data", flags=["--snapshot-count=30"]) as member:
        bodies: list[bytes] = []
        indices: list[str | None] = []
        for crash in (True, False):
            with closing(http.client.HTTPConnection("127.0.0.1", member.client_port, timeout=20)) as client:

                def ask(method: str, target: str) -> bytes:
                    client.request(method, "/v2/keys" + target)
                    response = client.getresponse()
                    body = response.read()
                    if method == "GET" and "wait" not in target:
                        indices.append(response.getheader("X-Etcd-Index"))
                        bodies.append(body)
                    return body

                for number in range(25):
                    ask("POST", f"/queue?value={number}")
                    ask("PUT", f"/dir/{number % 5}?value={number}&ttl=86400")
                ask("DELETE", "/dir/3")
                ask("PUT", "/k?value=first")
                ask("GET", "/?recursive=true&sorted=true")
            if crash:
                member.kill()
            else:
                member.stop()
            member.start()
            with closing(http.client.HTTPConnection("127.0.0.1", member.client_port, timeout=20)) as client:
                ask("GET", "/?recursive=true&sorted=true")
                assert without_ttl(bodies[-1]) == without_ttl(bodies[-2])
                # What the member publishes of itself at each start is one change more, as in etcd.
                assert int(indices[-1] or 0) in (int(indices[-2] or 0), int(indices[-2] or 0) + 1)
                seen = ask("GET", f"/dir/3?wait=true&waitIndex={int(indices[-2] or 0) - 1}")
                assert b'"action":"delete","node":{"key":"/dir/3"' in seen


def without_ttl(body: bytes) -> bytes:
    return b"".join(part.split(b",", 1)[1] if part[:1].isdigit() else part for part in body.split(b'"ttl":'))
