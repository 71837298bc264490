"""The v2 proxy as a process, beside etcd's, in front of members of both."""

import functools
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.proxy.support import PROGRAMS, ask, http_proxy
from tests.support.cluster import Cluster
from tests.support.process import Program, kvorum
from tests.support.waiting import wait_until


def initial_cluster(cluster: Cluster) -> str:
    return ",".join(f"{member.name}={member.peer_url}" for member in cluster.members)


def serves(url: str) -> bool:
    return ask(f"{url}/v2/keys/")[0] == 200


def conversation(url: str, prefix: str) -> list[Any]:
    """The same requests for every proxy; what varies from run to run is left out."""
    keys = f"{url}/v2/keys/{prefix}"
    answers = [
        ask(f"{keys}/a", "PUT", b"value=1"),
        ask(f"{keys}/a"),
        ask(f"{keys}/a?quorum=true"),
        ask(f"{keys}/a?prevValue=2", "PUT", b"value=3"),
        ask(f"{keys}/none"),
        ask(f"{keys}", "POST", b"value=in+order"),
        ask(f"{keys}/a", "DELETE"),
        ask(f"{url}/nothing"),
        ask(f"{url}/v2/config/local/proxy", "POST", b""),
    ]
    seen = []
    for status, body, headers in answers:
        try:
            parsed = json.loads(body)
            parsed = (parsed.get("action"), parsed.get("errorCode"), parsed.get("message"))
        except ValueError:
            parsed = body
        seen.append((status, parsed, headers.get("content-type"), "x-etcd-index" in headers))
    return seen


@pytest.mark.parametrize("behind", ["kvorums", "etcds"])
def test_both_proxies_answer_alike(behind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    cluster: Cluster = request.getfixturevalue(behind)
    seen = []
    for program in PROGRAMS:
        directory = tmp_path / program.name
        directory.mkdir()
        with http_proxy(program, directory, initial_cluster(cluster)) as url:
            wait_until(functools.partial(serves, url), "members behind the proxy")
            seen.append(conversation(url, program.name))
            known = json.loads(ask(f"{url}/v2/config/local/proxy")[1])
            assert sorted(known["endpoints"]) == sorted(member.url for member in cluster.members)
        file = json.loads((directory / "proxy-data/proxy/cluster").read_text())
        assert sorted(file["PeerURLs"]) == sorted(member.peer_url for member in cluster.members)
    assert seen[0] == seen[1]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_a_readonly_proxy_refuses_writes(kvorums: Cluster, tmp_path: Path, program: Program) -> None:
    with http_proxy(program, tmp_path, initial_cluster(kvorums), mode="readonly") as url:
        wait_until(functools.partial(serves, url), "members behind the proxy")
        for method in ("PUT", "POST", "DELETE", "HEAD"):
            assert ask(f"{url}/v2/keys/x", method, b"value=1" if method != "HEAD" else None)[:2] == (501, b"")


def test_a_dead_member_is_left_out_and_taken_back(kvorums: Cluster, tmp_path: Path) -> None:
    flags = ("--proxy-failure-wait=1", "--proxy-refresh-interval=60000")
    victim = kvorums.members[0]
    with http_proxy(kvorum(), tmp_path, initial_cluster(kvorums), *flags) as url:
        victim.kill()
        for _ in range(12):
            assert ask(f"{url}/v2/keys/", timeout=15)[0] == 200
        page = ask(f"{url}/metrics")[1].decode()
        assert 'etcd_proxy_handled_total{code="200",method="GET"} 12' in page
        assert 'etcd_proxy_requests_total{method="GET"} 12' in page
        victim.start()
        shown = f"{url}/v2/config/local/proxy"
        wait_until(lambda: victim.url in json.loads(ask(shown)[1])["endpoints"], "the member taken back")


def test_without_any_member_the_answer_says_so(tmp_path: Path) -> None:
    with http_proxy(kvorum(), tmp_path, "a=http://127.0.0.1:1") as url:
        status, body, _ = ask(f"{url}/v2/keys/")
        assert (status, json.loads(body)) == (
            503,
            {"message": "httpproxy: zero endpoints currently available"},
        )


def test_a_proxy_finds_its_cluster_in_the_file_that_it_wrote(kvorums: Cluster, tmp_path: Path) -> None:
    """etcd's file is read, ours is etcd's: each starts again from what the other has left."""
    first = initial_cluster(kvorums).split(",")[0]
    for program in (*PROGRAMS, PROGRAMS[0]):
        with http_proxy(program, tmp_path, first) as url:
            wait_until(functools.partial(serves, url), "members behind the proxy")
        first = "nobody=http://127.0.0.1:1"


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_wait_outlives_the_member_behind(kvorums: Cluster, tmp_path: Path, is_stream: bool) -> None:
    key = f"wait-{is_stream}"
    seen: list[str] = []
    begun = threading.Event()

    def watch(url: str) -> None:
        import urllib.request

        target = f"{url}/v2/keys/{key}?wait=true" + ("&stream=true" if is_stream else "")
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(target, timeout=30) as answer:
            begun.set()
            for line in answer:
                if line.strip():
                    seen.append(json.loads(line)["node"]["value"])
                if len(seen) == (3 if is_stream else 1):
                    return

    with http_proxy(kvorum(), tmp_path, initial_cluster(kvorums)) as url:
        watching = threading.Thread(target=watch, args=(url,))
        watching.start()
        assert begun.wait(20)
        if is_stream:
            ask(f"{kvorums.members[0].url}/v2/keys/{key}", "PUT", b"value=0")
            wait_until(lambda: len(seen) == 1, "the first event")
        for victim in list(kvorums.members):  # whichever it is, it dies
            victim.kill()
            victim.start()
        kvorums.wait_leader()
        for value in (b"value=1", b"value=2"):
            assert ask(f"{kvorums.members[0].url}/v2/keys/{key}", "PUT", value)[0] in (200, 201)
        watching.join(20)
    assert seen == (["0", "1", "2"] if is_stream else ["1"])
