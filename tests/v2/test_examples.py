"""The eight classic uses, in ``examples/``: each by several processes against a member, and one is killed.

The same tests hold the programs over v2 and over v3: what they promise is the same.
"""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final, final

import pytest

from tests.docs.pages import ROOT
from tests.support import process
from tests.support.process import Member, clean_environment

WAIT_SECONDS: Final = 30.0
Line = list[str]


@final
class Running:
    """An example that runs, and the lines it has said so far."""

    def __init__(self, said: "Said", words: list[str]) -> None:
        self.lines: Final[list[Line]] = []
        self._said = said
        self._process = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=clean_environment()
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._said.changed:
                self.lines.append(line.split())
                self._said.all.append((self, line.split()))
                self._said.changed.notify_all()

    def wait(self, condition: Callable[[list[Line]], object]) -> None:
        """Wait until its lines satisfy a condition."""
        self._said.wait(lambda: condition(self.lines))

    def says(self, *words: str) -> None:
        """Wait for a line that begins with these words."""
        self.wait(lambda lines: any(line[: len(words)] == list(words) for line in lines))

    def ends(self) -> None:
        """Wait for its end, which is a good one."""
        assert self._process.wait(WAIT_SECONDS) == 0, self.lines
        self._reader.join()

    def kill(self) -> None:
        """End it as a crash does."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()


@final
class Said:
    """Everything that was said, in the order in which it was heard."""

    def __init__(self) -> None:
        self.changed: Final = threading.Condition()
        self.all: Final[list[tuple[Running, Line]]] = []

    def wait(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        with self.changed:
            while not condition():
                left = deadline - time.monotonic()
                assert left > 0, [line for _, line in self.all]
                self.changed.wait(left)


@final
class Examples:
    """Starts the programs of one API against one member."""

    def __init__(self, api: str, member: Member) -> None:
        self.api: Final = api
        self.said: Final = Said()
        self._member: Final = member
        self._running: Final[list[Running]] = []

    def start(self, program: str, *arguments: object) -> Running:
        path = ROOT / "examples" / self.api / f"{program}.py"
        words = [sys.executable, str(path), self._member.endpoint, *map(str, arguments)]
        self._running.append(Running(self.said, words))
        return self._running[-1]

    def close(self) -> None:
        for one in self._running:
            one.kill()


@pytest.fixture(scope="module", params=["v2", "v3"])
def member(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Member]]:
    with Member(process.kvorum(), tmp_path_factory.mktemp("examples") / "kvorum.etcd") as running:
        yield request.param, running


@pytest.fixture
def examples(member: tuple[str, Member]) -> Iterator[Examples]:
    started = Examples(*member)
    yield started
    started.close()


def test_discovery(examples: Examples) -> None:
    one = examples.start("discovery", "register", "web", "one", "10.0.0.1:80")
    two = examples.start("discovery", "register", "web", "two", "10.0.0.2:80")
    for instance in (one, two):
        instance.says("registered")
    found = examples.start("discovery", "find", "web")
    found.says("found", "('one',", "'10.0.0.1:80')", "('two',", "'10.0.0.2:80')")
    one.kill()
    found.wait(lambda lines: lines[-1] == ["found", "('two',", "'10.0.0.2:80')"])
    examples.start("discovery", "register", "web", "six", "10.0.0.6:80")
    found.wait(lambda lines: lines[-1][1] == "('six',")


def test_configuration(examples: Examples) -> None:
    examples.start("configuration", "publish", "colour", "red").ends()
    subscribers = [examples.start("configuration", "subscribe") for _ in range(3)]
    for subscriber in subscribers:
        subscriber.says("now", "colour", "red")
        subscriber.says("following")
    subscribers[0].kill()
    for value in ("green", "blue", "black"):
        examples.start("configuration", "publish", "colour", value).ends()
    for subscriber in subscribers[1:]:
        subscriber.says("now", "colour", "black")
        values = [line[2] for line in subscriber.lines if line[:2] == ["now", "colour"]]
        assert values == ["red", "green", "blue", "black"]


def test_balancing(examples: Examples) -> None:
    servers = [examples.start("balancing", "serve", name) for name in ("one", "two")]
    for server in servers:
        server.says("serving")
    asking = examples.start("balancing", "ask", 1_500)
    for name in ("one", "two"):
        asking.says(name, "did")
    servers[0].kill()
    already = len(asking.lines)
    asking.ends()
    assert [line[2] for line in asking.lines] == [str(number) for number in range(1_500)]
    assert {line[0] for line in asking.lines[already + 100 :]} <= {"two"}


def test_coordination(examples: Examples) -> None:
    workers = [examples.start("coordination", "work", name) for name in ("ann", "bob")]
    for worker in workers:
        worker.says("ready")
    control = examples.start("coordination", "control", 12)
    workers[0].says("finished")
    workers[0].kill()
    control.ends()
    assert control.lines[-1] == ["all", "done"]
    done = {line[1] for worker in workers for line in worker.lines if line[0] == "finished"}
    assert len(done) >= 11  # the one that was killed may have done one without saying so
    given_twice = [line[1] for line in control.lines if line[0] == "gave"]
    assert len(given_twice) > 12, "what the killed one had was given to the other"


@pytest.mark.parametrize("kind", ["exclusive", "ordered"])
def test_lock(examples: Examples, kind: str) -> None:
    clients = [examples.start("lock", kind, "printer", name, 3) for name in ("ann", "bob", "cat")]
    clients[0].says("holds")
    clients[0].wait(lambda lines: lines[-1][0] == "holds")
    clients[0].kill()
    for client in clients[1:]:
        client.ends()
    said = [(one, line) for one, line in examples.said.all if line[0] in ("holds", "releases")]
    tokens = [int(line[2]) for _, line in said if line[0] == "holds"]
    assert tokens == sorted(set(tokens)), "tokens rise"
    holder = None
    for one, line in said:
        if line[0] == "holds":
            assert holder in (None, clients[0]), f"{line} while somebody else holds it"
            holder = one
        else:
            holder = None
    assert len(tokens) >= 7, "two who took it three times, and the one who died with it"


def test_election(examples: Examples) -> None:
    candidates = {name: examples.start("election", "candidate", name) for name in ("ann", "bob", "cat")}
    for candidate in candidates.values():
        candidate.says("stands")
    observer = examples.start("election", "observe")
    observer.wait(lambda lines: lines and lines[-1][1] in candidates)
    first = observer.lines[-1]
    candidates[first[1]].says("leads")
    candidates[first[1]].kill()
    observer.wait(lambda lines: lines[-1][1] in candidates and lines[-1] != first)
    second = observer.lines[-1]
    assert second[1] != first[1]
    assert int(second[2]) > int(first[2]), "terms rise"
    candidates[second[1]].says("leads", second[1], second[2])


def test_queue(examples: Examples) -> None:
    examples.start("work_queue", "put", "jobs", 30).ends()
    workers = [examples.start("work_queue", "take", "jobs", name) for name in ("ann", "bob", "cat")]
    workers[0].says("finished")
    workers[0].wait(lambda lines: lines[-1][0] == "begins")
    workers[0].kill()
    workers[1].says("empty")
    begun = [int(line[3]) for _, line in examples.said.all if line[0] == "begins"]
    assert set(begun) == set(range(30)), "every job at least once"
    assert len(begun) <= 31, "and only the killed one's again"


def test_gated_queue(examples: Examples) -> None:
    examples.start("work_queue", "put", "gated", 5).ends()
    workers = [examples.start("work_queue", "take", "gated", name, "gated") for name in ("ann", "bob")]
    for worker in workers:
        worker.says("waits")
    workers[0].kill()
    assert not any(line[0] == "begins" for line in workers[1].lines)
    examples.start("work_queue", "open", "gated").ends()
    workers[1].says("empty")
    assert [line[3] for line in workers[1].lines if line[0] == "finished"] == list("01234")


def test_liveness(examples: Examples) -> None:
    monitor = examples.start("liveness", "monitor")
    monitor.says("watching")
    beats = {name: examples.start("liveness", "beat", name) for name in ("ann", "bob")}
    for name in beats:
        monitor.says("up", name)
    beats["ann"].kill()
    monitor.says("down", "ann")
    assert ["down", "bob"] not in monitor.lines


def test_every_example_says_what_it_guarantees() -> None:
    for api in ("v2", "v3"):
        programs = [
            path for path in (ROOT / "examples" / api).glob("*.py") if not path.name.startswith("etcd")
        ]
        assert len(programs) == 8
        for path in programs:
            text = path.read_text().partition('"""\n\n')[0]
            assert "uarantee" in text, path
            assert "Not guaranteed" in text or "NOT guaranteed" in text, path
            assert f"{path.name} 127.0.0.1:2379" in text, path
        lock = (ROOT / "examples" / api / "lock.py").read_text()
        assert "without a fencing token does not protect" in " ".join(lock.split())
