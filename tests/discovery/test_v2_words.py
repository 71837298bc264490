"""v2 discovery, word by word: what is asked, what comes of each answer, how long it waits then."""

import asyncio
import json
import ssl
from collections.abc import Sequence
from pathlib import Path

import pytest

from kvorum.discovery.backoff import Backoff
from kvorum.discovery.errors import (
    BadEndpointError,
    BadSizeError,
    DiscoveryError,
    DuplicateIdError,
    DuplicateNameError,
    FullClusterError,
    InvalidUrlError,
    SizeNotFoundError,
    UnavailableError,
)
from kvorum.discovery.http import HttpClient, parse_proxy
from kvorum.discovery.v2 import V2Discovery
from kvorum.logging import Logger
from tests.discovery.web import Reply, Web, proxying, serving
from tests.support.certificates import Authority

SELF = 0xFF01
MINE = "a=http://a:1"
THEIRS = "b=http://b:1"


def size(text: str) -> Reply:
    return Reply(json.dumps({"action": "get", "node": {"key": "/t/_config/size", "value": text}}))


def listing(*members: tuple[str, str, int], index: int = 9) -> Reply:
    nodes = [{"key": f"/t/{key}", "value": value, "createdIndex": at} for key, value, at in members]
    nodes.append({"key": "/t/_config", "dir": True, "createdIndex": 1})
    headers = (("X-Etcd-Index", str(index)),)
    return Reply(json.dumps({"node": {"key": "/t", "dir": True, "nodes": nodes}}), headers=headers)


CREATED = Reply(json.dumps({"action": "create", "node": {"createdIndex": 7}}), 201)
EVENT = Reply(json.dumps({"action": "create", "node": {"key": "/t/x"}}), chunked=True)
NONE_YET = (size("2"), listing())


def refused(code: int, status: int = 400) -> Reply:
    return Reply(json.dumps({"errorCode": code, "message": "No", "cause": "/t", "index": 3}), status)


def run(
    *replies: Reply, join: bool = True, path: str = "/t", client: HttpClient | None = None
) -> tuple[str | Exception, Web, list[float]]:
    """What a member that joins comes to, what it asked, and how long it waited between."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    async def go() -> tuple[str | Exception, Web, list[float]]:
        async with serving(replies) as web:
            discovery = V2Discovery(web.url + path, SELF, client or HttpClient(), Logger([]), Backoff(sleep))
            try:
                found: str | Exception = await (discovery.join(MINE) if join else discovery.look_up())
            except DiscoveryError as error:
                found = error
        return found, web, slept

    return asyncio.run(go())


def test_the_last_of_two() -> None:
    both = listing(("0b", THEIRS, 5), ("ff01", MINE, 7))
    found, web, slept = run(size("2"), listing(("0b", THEIRS, 5)), CREATED, EVENT, size("2"), both)
    assert found == f"{THEIRS},{MINE}"
    assert web.lines == [
        "GET /t/_config/size",
        "GET /t",
        "PUT /t/ff01?prevExist=false",
        "GET /t/ff01?wait=true&waitIndex=7",
        "GET /t/_config/size",
        "GET /t",
    ]
    put = web.asked[2]
    assert put.body == "value=a%3Dhttp%3A%2F%2Fa%3A1"
    assert put.headers["content-type"] == "application/x-www-form-urlencoded"
    assert web.asked[0].headers["host"] == web.url.removeprefix("http://")
    assert not slept


def test_the_first_of_two_waits_from_where_it_looked() -> None:
    alone = listing(("ff01", MINE, 7), index=12)
    both = listing(("0b", THEIRS, 15), ("ff01", MINE, 7))
    cleared = refused(401)
    found, web, slept = run(
        *NONE_YET, CREATED, EVENT, size("2"), alone, cleared, size("2"), alone, EVENT, size("2"), both
    )
    assert found == f"{MINE},{THEIRS}"
    assert web.lines.count("GET /t?wait=true&waitIndex=13&recursive=true") == 2
    assert not slept


def test_it_asks_again_and_waits_longer_each_time() -> None:
    failing = [Reply(status=503)] * 10
    found, _, slept = run(*failing, Reply(status=0), *NONE_YET, refused(105, 412))
    assert isinstance(found, DuplicateIdError)
    assert slept == [2, 4, 8, 16, 32, 64, 128, 256, 256, 256, 256]


def test_after_an_answer_it_waits_shortly_again() -> None:
    alone, nothing = listing(("ff01", MINE, 7)), Reply("", chunked=True)
    both = listing(("0b", THEIRS, 15), ("ff01", MINE, 7))
    found, _, slept = run(
        Reply(status=500), Reply(status=502), *NONE_YET, CREATED, EVENT,
        size("2"), alone, nothing, size("2"), alone, Reply(status=503), size("2"), both,
    )  # fmt: skip
    assert found == f"{MINE},{THEIRS}"
    assert slept == [2, 4, 2, 2]


def test_the_first_by_index_are_the_cluster() -> None:
    crowd = listing(("c", "c=http://c:1", 8), ("ff01", MINE, 7), ("d", "d=http://d:1", 9), ("0b", THEIRS, 5))
    found, _, _ = run(*NONE_YET, CREATED, EVENT, size("2"), crowd)
    assert found == f"{THEIRS},{MINE}"
    late = listing(("c", "c=http://c:1", 6), ("ff01", MINE, 7), ("0b", THEIRS, 5))
    found, _, _ = run(*NONE_YET, CREATED, EVENT, size("2"), late)
    assert isinstance(found, FullClusterError)
    assert found.members == (THEIRS, "c=http://c:1")
    assert found.initial_cluster == f"{THEIRS},c=http://c:1"
    found, web, _ = run(size("1"), listing(("0b", THEIRS, 5)))
    assert isinstance(found, FullClusterError)
    assert len(web.asked) == 2, "nothing was put"


def test_a_proxy_only_looks() -> None:
    both = listing(("0b", THEIRS, 15), ("c", "c=http://c:1", 7))
    found, _, _ = run(size("2"), both, join=False)
    assert found == f"c=http://c:1,{THEIRS}"
    found, web, _ = run(size("2"), listing(), EVENT, size("2"), both, join=False)
    assert found == f"c=http://c:1,{THEIRS}"
    assert not any(line.startswith("PUT") for line in web.lines)


@pytest.mark.parametrize(
    ("replies", "error"),
    [
        ((refused(100, 404),), SizeNotFoundError),
        ((size("0"),), BadSizeError),
        ((size("-1"),), BadSizeError),
        ((size("3.0"),), BadSizeError),
        ((size("²"),), BadSizeError),
        ((size("9" * 21),), BadSizeError),
        ((size(""),), BadSizeError),
        ((Reply("<html>"),), BadEndpointError),
        ((Reply("[]"),), BadEndpointError),
        ((size("2"), Reply("{}")), BadEndpointError),
        ((size("2"), Reply('{"node":{"nodes":[1]}}')), BadEndpointError),
        ((*NONE_YET, Reply("{}", 201)), BadEndpointError),
        ((size("2"), refused(300)), DiscoveryError),
        ((*NONE_YET, refused(105, 412)), DuplicateIdError),
        ((*NONE_YET, Reply(status=503)), DiscoveryError),
        ((*NONE_YET, CREATED, EVENT, size("1"), listing(("ff01", "nonsense", 7))), InvalidUrlError),
        (
            (*NONE_YET, CREATED, EVENT, size("2"), listing(("ff01", MINE, 7), ("0b", "a=http://b:1", 8))),
            DuplicateNameError,
        ),
    ],
)
def test_errors(replies: Sequence[Reply], error: type[Exception]) -> None:
    found, _, _ = run(*replies)
    assert type(found) is error, repr(found)


def test_an_error_of_the_service_is_shown() -> None:
    found, _, _ = run(size("2"), refused(300))
    assert str(found) == "failed to join discovery cluster (300: No (/t) [3])"
    found, web, _ = run(*NONE_YET, Reply(status=503))
    assert str(found) == (
        "failed to join discovery cluster (client: etcd cluster is unavailable or misconfigured;"
        f" error #0: client: etcd member {web.url} has no leader)"
    )


def test_paths() -> None:
    for path in ("/v2/keys/x/t", "/v2/keys//x/t/", "/v2/keys/x/./t"):
        _, web, _ = run(refused(100, 404), path=path)
        assert web.lines == ["GET /v2/keys/x/t/_config/size"], path


def test_redirects_are_followed() -> None:
    async def go() -> None:
        async with serving([refused(100, 404)]) as there:
            far = Reply(status=307, headers=(("Location", there.url + "/x"),))
            near = Reply(status=307, headers=(("Location", "/y"),))
            async with serving([near, far]) as here:
                answer = await HttpClient().request("PUT", here.url + "/a", form="b=c", timeout_seconds=5)
            assert (answer.status, here.lines, there.lines) == (404, ["PUT /a", "PUT /y"], ["PUT /x"])
            assert there.asked[0].body == "b=c"
        for reply in (Reply(status=307), Reply(status=307, headers=(("Location", "ftp://a/b"),))):
            async with serving([reply]) as here:
                with pytest.raises(UnavailableError):
                    await HttpClient().request("GET", here.url, timeout_seconds=5)
        async with serving([Reply(status=307, headers=(("Location", "/"),))] * 11) as here:
            with pytest.raises(UnavailableError, match="too many redirects"):
                await HttpClient().request("GET", here.url, timeout_seconds=5)

    asyncio.run(go())


def test_through_a_proxy(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue("server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)

    async def go() -> None:
        async with proxying() as proxy:
            client = HttpClient(
                parse_proxy(proxy.url), lambda: ssl.create_default_context(cafile=str(authority.path))
            )
            async with serving([size("1")]) as web:
                answer = await client.request("GET", web.url + "/t?x=y", timeout_seconds=5)
                assert answer.status == 200
                assert proxy.lines == [f"GET {web.url}/t?x=y"]
                assert proxy.asked[0].headers["host"] == web.url.removeprefix("http://")
            async with serving([size("1")], tls=context) as web:
                answer = await client.request("GET", web.url + "/t", timeout_seconds=5)
                assert answer.status == 200
                assert proxy.lines[1:] == [f"CONNECT {web.url.removeprefix('https://')}"]
                assert web.lines == ["GET /t"]

    asyncio.run(go())


def test_a_proxy_that_refuses() -> None:
    async def go() -> None:
        async with serving([Reply("no", 404)]) as proxy:
            client = HttpClient(parse_proxy(proxy.url))
            with pytest.raises(UnavailableError, match="404 Not Found"):
                await client.request("GET", "https://discovery.example/t", timeout_seconds=5)

    asyncio.run(go())


def test_names_of_proxies() -> None:
    assert parse_proxy("") is None
    for text in ("127.0.0.1:8080", "http://127.0.0.1:8080"):
        proxy = parse_proxy(text)
        assert proxy is not None
        assert (proxy.scheme, proxy.hostname, proxy.port) == ("http", "127.0.0.1", 8080)
    for text in ("http://", ":", "http://a:b", "a:999999"):
        with pytest.raises(ValueError, match=r"^invalid proxy address"):
            parse_proxy(text)
