"""The lines that a book shows its readers, typed into a shell one after the other, with what it says they do.

The book (on etcd 2) describes the API by these commands; each is run by the real curl, with the port changed
and printing errors put right (a space within a URL, ``tt1`` for ``ttl``). Two things etcd changed before 3.4,
so the answers differ from the printed ones: names of ordered keys have twenty digits, and the order of
fields.
"""

import json
import shlex
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, final

import pytest

from tests.support import process
from tests.support.process import Member

WAIT_SECONDS = 20.0


@final
class Shell:
    """Runs the book's lines against one member."""

    def __init__(self, member: Member) -> None:
        self._port = member.client_port

    def words(self, line: str) -> list[str]:
        words = shlex.split(line.replace("127.0.0.1:2379", f"127.0.0.1:{self._port}"))
        return [words[0], "-sS", "--noproxy", "*", *words[1:]]

    def __call__(self, line: str) -> Any:
        """The answer to a line, parsed."""
        done = subprocess.run(
            self.words(line), capture_output=True, text=True, timeout=WAIT_SECONDS, check=True
        )
        return json.loads(done.stdout)

    def begin(self, line: str) -> "Waiting":
        """A line that waits; returns once the server knows that somebody does."""
        before = self._watchers()
        waiting = Waiting([*self.words(line), "--max-time", f"{WAIT_SECONDS:g}"])
        deadline = time.monotonic() + WAIT_SECONDS
        while self._watchers() == before:
            assert time.monotonic() < deadline, "nobody waits"
        return waiting

    def _watchers(self) -> int:
        count = self("curl http://127.0.0.1:2379/v2/stats/store")["watchers"]
        assert isinstance(count, int)
        return count


@final
class Waiting:
    """A curl that waits for an event."""

    def __init__(self, words: list[str]) -> None:
        self._process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self._out = self._process.stdout

    def answer(self) -> Any:
        with self._out:
            rest = self._out.read()
        self._process.wait(WAIT_SECONDS)
        return json.loads(rest)


@pytest.fixture(scope="module")
def curl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    with Member(process.kvorum(), tmp_path_factory.mktemp("curl") / "kvorum.etcd") as member:
        yield Shell(member)


def node(answer: Any) -> Any:
    return answer["node"]


def test_set_get_change_and_delete(curl: Shell) -> None:
    made = curl('curl http://127.0.0.1:2379/v2/keys/message -XPUT -d value="Hello world"')
    index = node(made)["createdIndex"]
    assert made == {
        "action": "set",
        "node": {"key": "/message", "value": "Hello world", "createdIndex": index, "modifiedIndex": index},
    }
    found = curl("curl http://127.0.0.1:2379/v2/keys/message")
    assert found == {"action": "get", "node": made["node"]}
    changed = curl('curl http://127.0.0.1:2379/v2/keys/message -XPUT -d value="Hello etcd"')
    assert changed["prevNode"] == made["node"]
    assert node(changed)["value"] == "Hello etcd"
    assert node(changed)["modifiedIndex"] == index + 1
    deleted = curl("curl http://127.0.0.1:2379/v2/keys/message -XDELETE")
    assert deleted["action"] == "delete"
    assert deleted["prevNode"] == node(changed)
    assert curl("curl http://127.0.0.1:2379/v2/keys/message")["errorCode"] == 100


def test_a_key_that_ends_and_one_that_is_kept_after_all(curl: Shell) -> None:
    made = curl("curl http://127.0.0.1:2379/v2/keys/foo -XPUT -d value=bar -d ttl=5")
    assert node(made)["ttl"] == 5
    ends = time.strptime(node(made)["expiration"][:19], "%Y-%m-%dT%H:%M:%S")
    left = time.mktime(ends) - time.mktime(time.gmtime())
    assert 2 <= left <= 6
    kept = curl("curl http://127.0.0.1:2379/v2/keys/foo -XPUT -d value=bar -d ttl= -d prevExist=true")
    assert kept["action"] == "update"
    assert "ttl" not in node(kept)
    assert "expiration" not in node(kept)
    assert "ttl" in kept["prevNode"]


def test_a_key_ends_when_its_time_is_up(curl: Shell) -> None:
    curl("curl http://127.0.0.1:2379/v2/keys/foo -XPUT -d value=bar -d ttl=1")
    waiting = curl.begin("curl http://127.0.0.1:2379/v2/keys/foo?wait=true")
    ended = waiting.answer()
    assert ended["action"] == "expire"
    assert ended["prevNode"]["value"] == "bar"
    assert curl("curl http://127.0.0.1:2379/v2/keys/foo")["errorCode"] == 100


def test_watch_what_comes_and_what_was(curl: Shell) -> None:
    waiting = curl.begin("curl http://127.0.0.1:2379/v2/keys/foo?wait=true")
    made = curl("curl http://127.0.0.1:2379/v2/keys/foo -XPUT -d value=bar")
    assert waiting.answer() == made
    index = node(made)["modifiedIndex"]
    assert curl(f"curl 'http://127.0.0.1:2379/v2/keys/foo?wait=true&waitIndex={index}'") == made


def test_keys_in_order(curl: Shell) -> None:
    first = curl("curl http://127.0.0.1:2379/v2/keys/queue -XPOST -d value=Job1")
    index = node(first)["createdIndex"]
    assert first == {
        "action": "create",
        "node": {
            "key": f"/queue/{index:020}",  # the book: /queue/6
            "value": "Job1",
            "createdIndex": index,
            "modifiedIndex": index,
        },
    }
    second = curl("curl http://127.0.0.1:2379/v2/keys/queue -XPOST -d value=Job2")
    listed = curl("curl -S 'http://127.0.0.1:2379/v2/keys/queue?recursive=true&sorted=true'")
    assert node(listed)["nodes"] == [node(first), node(second)]


def test_a_directory_that_ends_with_all_in_it(curl: Shell) -> None:
    made = curl("curl http://127.0.0.1:2379/v2/keys/dir -XPUT -d ttl=30 -d dir=true")
    assert node(made)["dir"] is True
    assert node(made)["ttl"] == 30
    again = curl("curl http://127.0.0.1:2379/v2/keys/dir -XPUT -d ttl=30 -d dir=true -d prevExist=true")
    assert again["action"] == "update"
    assert node(again)["ttl"] == 30
    assert node(again)["expiration"] > node(made)["expiration"]
    curl("curl http://127.0.0.1:2379/v2/keys/dir/in -XPUT -d value=x")
    curl("curl http://127.0.0.1:2379/v2/keys/dir -XPUT -d ttl=1 -d dir=true -d prevExist=true")
    assert curl("curl http://127.0.0.1:2379/v2/keys/dir?wait=true")["action"] == "expire"
    assert curl("curl http://127.0.0.1:2379/v2/keys/dir/in")["errorCode"] == 100


def test_compare_and_swap(curl: Shell) -> None:
    curl("curl http://127.0.0.1:2379/v2/keys/swap -XPUT -d value=one")
    refused = curl("curl http://127.0.0.1:2379/v2/keys/swap?prevExist=false -XPUT -d value=three")
    index = refused.pop("index")
    assert refused == {"errorCode": 105, "message": "Key already exists", "cause": "/swap"}
    refused = curl("curl http://127.0.0.1:2379/v2/keys/swap?prevValue=two -XPUT -d value=three")
    assert refused["errorCode"] == 101
    assert refused["cause"] == "[two != one]"
    refused = curl("curl http://127.0.0.1:2379/v2/keys/swap?prevValue=two -XDELETE")
    assert refused["errorCode"] == 101
    swapped = curl(f"curl 'http://127.0.0.1:2379/v2/keys/swap?prevIndex={index}' -XPUT -d value=two")
    assert swapped["action"] == "compareAndSwap"
    gone = curl("curl http://127.0.0.1:2379/v2/keys/swap?prevValue=two -XDELETE")
    assert gone["action"] == "compareAndDelete"


def test_directories(curl: Shell) -> None:
    made = curl("curl http://127.0.0.1:2379/v2/keys/foo_dir -XPUT -d dir=true")
    assert node(made)["dir"] is True
    curl("curl http://127.0.0.1:2379/v2/keys/foo_dir/in -XPUT -d value=x")
    listed = curl("curl http://127.0.0.1:2379/v2/keys/")
    assert "/foo_dir" in [child["key"] for child in node(listed)["nodes"] if child.get("dir")]
    everything = curl("curl http://127.0.0.1:2379/v2/keys/?recursive=true")
    directory = next(child for child in node(everything)["nodes"] if child["key"] == "/foo_dir")
    assert [child["key"] for child in directory["nodes"]] == ["/foo_dir/in"]
    assert curl("curl 'http://127.0.0.1:2379/v2/keys/foo_dir?dir=true' -XDELETE")["errorCode"] == 108
    curl("curl http://127.0.0.1:2379/v2/keys/foo_dir/in -XDELETE")
    assert curl("curl 'http://127.0.0.1:2379/v2/keys/foo_dir?dir=true' -XDELETE")["action"] == "delete"
    curl("curl http://127.0.0.1:2379/v2/keys/foo_dir/in -XPUT -d value=x")
    deleted = curl("curl 'http://127.0.0.1:2379/v2/keys/foo_dir?recursive=true' -XDELETE")
    assert node(deleted)["key"] == "/foo_dir"


def test_a_hidden_key(curl: Shell) -> None:
    made = curl('curl http://127.0.0.1:2379/v2/keys/_message -XPUT -d value="Hello hidden world"')
    assert curl("curl http://127.0.0.1:2379/v2/keys/_message")["node"] == made["node"]
    listed = curl("curl http://127.0.0.1:2379/v2/keys/")
    assert "/_message" not in [child["key"] for child in node(listed).get("nodes", ())]


def test_the_size_of_a_cluster_to_be_discovered(curl: Shell) -> None:
    token = "6c007a14875d53d9bf0ef5a6fc0257c817f0fb83"
    line = f"curl -X PUT http://127.0.0.1:2379/v2/keys/discovery/{token}/_config/size -d value=3"
    assert node(curl(line))["key"] == f"/discovery/{token}/_config/size"


def test_the_ports_of_old(tmp_path: Path) -> None:
    """4001 and 7001 beside 2379 and 2380: any URLs of ``--listen-client-urls`` and ``--listen-peer-urls``."""
    with Member(process.kvorum(), tmp_path / "kvorum.etcd") as first:
        second = Member(process.kvorum(), tmp_path / "legacy.etcd")
        more = (
            f"--listen-client-urls={second.url},{first.url.replace(str(first.client_port), '0')}",
            f"--listen-peer-urls={second.peer_url},{first.peer_url.replace(str(first.peer_port), '0')}",
        )
        with Member(process.kvorum(), tmp_path / "two.etcd", flags=more) as member:
            served: list[str] = []
            deadline = time.monotonic() + WAIT_SECONDS
            while len(served) < 2:
                assert time.monotonic() < deadline, served
                said = [
                    record for record in member.log_records() if "serving client traffic" in record["msg"]
                ]
                served = [record["address"] for record in said]
            for address in served:
                done = subprocess.run(
                    ["curl", "-sS", "--noproxy", "*", f"http://{address}/v2/keys/"],
                    capture_output=True, text=True, timeout=WAIT_SECONDS, check=True,
                )  # fmt: skip
                assert json.loads(done.stdout)["action"] == "get"
