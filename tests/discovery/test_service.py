"""Kvorum as the discovery service: tokens, their bounds and their end. ``/new`` is a page on the internet."""

import http.client
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import pytest

from kvorum import limits
from kvorum.api.v2.discovery import Allowance
from tests.discovery.conftest import Members
from tests.support import process
from tests.support.process import Member
from tests.support.waiting import wait_until


@dataclass(frozen=True)
class Answer:
    status: int
    text: str

    @property
    def fields(self) -> dict[str, Any]:
        fields = json.loads(self.text)
        assert isinstance(fields, dict)
        return fields


class Web:
    def __init__(self, member: Member) -> None:
        self.member = member
        self._connection = http.client.HTTPConnection("127.0.0.1", member.client_port, timeout=20)

    def ask(self, method: str, path: str, **form: object) -> Answer:
        headers = {"Content-Type": "application/x-www-form-urlencoded"} if form else {}
        self._connection.request(method, path, urlencode(form) if form else None, headers)
        answer = self._connection.getresponse()
        return Answer(answer.status, answer.read().decode())

    def token(self, size: int) -> str:
        """The path of a new token."""
        answer = self.ask("GET", f"/new?size={size}")
        assert answer.status == 200, answer
        found = re.fullmatch(rf"{self.member.url}(/[0-9a-f]{{32}})", answer.text)
        assert found, answer
        return found[1]


@pytest.fixture
def web(members: Members) -> Iterator[Web]:
    flags = ("--enable-discovery-service", "--discovery-service-ttl=3s", "--enable-v2")
    web = Web(members.serve(process.kvorum(), *flags))
    yield web
    web._connection.close()


def test_tokens(web: Web) -> None:
    path = web.token(5)
    node = web.ask("GET", path).fields["node"]
    assert node["key"] == f"/_etcd/registry{path}"
    assert 0 < node["ttl"] <= 3
    assert "nodes" not in node
    assert web.ask("GET", f"{path}/_config/size").fields["node"]["value"] == "5"
    assert web.ask("PUT", "/new", size="2").status == 200
    assert web.ask("PUT", "/new").status == 200  # for three

    member = f"{path}/ff01"
    assert web.ask("PUT", f"{member}?prevExist=false", value="a=http://a:1").status == 201
    for query in ("", "?prevExist=true", "?prevValue=a%3Dhttp://a:1", "?ttl=99999"):
        answer = web.ask("PUT", member + query, value="b=http://b:1")
        assert (answer.status, answer.fields["errorCode"]) == (412, 105), query
    assert web.ask("GET", member).fields["node"]["value"] == "a=http://a:1"
    assert 0 < web.ask("GET", member).fields["node"]["ttl"] <= 3
    assert web.ask("DELETE", member).status == 200

    assert web.ask("PUT", f"{path}/_config/size", value=1).status == 405
    assert web.ask("DELETE", f"{path}?recursive=true").status == 405
    assert web.ask("POST", path, value=1).status == 405
    assert web.ask("PUT", f"{path}/a/b", value=1).status == 405
    assert (
        web.ask("PUT", f"{path}/ff02", value="x" * (limits.DISCOVERY_SERVICE_VALUE_BYTES + 1)).status == 413
    )
    stranger = "/" + "0" * 32
    assert web.ask("PUT", f"{stranger}/ff01", value="a=http://a:1").fields["errorCode"] == 100
    assert web.ask("GET", stranger).fields["errorCode"] == 100
    for nothing in ("/", "/abc", "/" + "A" * 32, "/favicon.ico"):
        assert web.ask("GET", nothing).status == 404, nothing

    wait_until(lambda: web.ask("GET", path).status == 404, "the token has expired")
    assert web.ask("PUT", f"{path}/ff01", value="a=http://a:1").status == 404


def test_sizes(web: Web) -> None:
    for size in ("0", "-1", "x", "", "51", "9" * 20, "3.0"):
        answer = web.ask("GET", f"/new?size={size}")
        assert (answer.status, answer.text) == (400, "size must be a number from 1 to 50\n"), size
    assert web.ask("GET", "/new?size=%zz").status == 400
    assert web.token(50)


def test_not_too_many(web: Web) -> None:
    path = web.token(3)
    for number in range(limits.DISCOVERY_SERVICE_KEYS_PER_TOKEN):
        assert web.ask("PUT", f"{path}/{number:x}", value="a=http://a:1").status == 201
    assert web.ask("PUT", f"{path}/fff", value="a=http://a:1").status == 403

    for number in range(limits.DISCOVERY_SERVICE_TOKENS):
        web.ask("PUT", f"/v2/keys/_etcd/registry/{number:032x}", dir="true", ttl=100)
    answer = web.ask("GET", "/new")
    assert (answer.status, answer.text) == (503, "there are too many tokens; wait until some have expired\n")


def test_not_too_fast(web: Web) -> None:
    statuses = [web.ask("GET", "/new").status for _ in range(limits.DISCOVERY_SERVICE_BURST + 5)]
    assert statuses[0] == 200
    assert statuses[-1] == 429


def test_without_the_flag_there_is_no_service(kvorum: Member) -> None:
    web = Web(kvorum)
    assert web.ask("GET", "/new").status == 404
    assert web.ask("GET", "/" + "0" * 32).status == 404
    web._connection.close()


def test_the_allowance_fills_with_time() -> None:
    now = 0.0
    allowance = Allowance(2, 10.0, lambda: now)
    assert [allowance.take() for _ in range(3)] == [True, True, False]
    now = 9.0
    assert not allowance.take()
    now = 11.0
    assert [allowance.take() for _ in range(2)] == [True, False]
    now = 1000.0
    assert [allowance.take() for _ in range(3)] == [True, True, False]
