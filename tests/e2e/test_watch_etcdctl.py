"""etcdctl watch against etcd and Kvorum: the same words, the same lines."""

import queue
import re
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import pytest

from tests.e2e.conftest import Both
from tests.support.etcdctl import Etcdctl
from tests.support.process import Member, clean_environment, distro_binary

LINE_SECONDS: Final = 30.0


class Running:
    """A command that goes on: lines in, lines out."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line.rstrip("\n"))

    def say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def hear(self, count: int) -> list[str]:
        """The next lines it writes."""
        return [self._lines.get(timeout=LINE_SECONDS) for _ in range(count)]

    def end(self) -> None:
        self._process.terminate()
        self._process.wait(LINE_SECONDS)
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


@contextmanager
def etcdctl(member: Member, *words: str, env: dict[str, str] | None = None) -> Iterator[Running]:
    process = subprocess.Popen(
        [distro_binary("etcdctl"), f"--endpoints={member.endpoint}", *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=clean_environment(env),
    )
    running = Running(process)
    try:
        yield running
    finally:
        running.end()


def from_both(both: Both, words: Sequence[str], lines: int) -> list[str]:
    """What ``etcdctl watch`` prints, which must be the same from both."""
    printed = []
    for member in both:
        with etcdctl(member, "watch", *words) as command:
            printed.append(command.hear(lines))
    assert printed[0] == printed[1]
    return printed[1]


@pytest.fixture(scope="module")
def history(both: Both) -> Both:
    """Both servers after the same few commands."""
    for member in both:
        tool = Etcdctl(member.endpoint)
        tool.run("put", "foo", "1")
        tool.run("put", "foo", "2")
        tool.run("put", "fop", "3")
        tool.run("del", "foo")
    return both


def test_watch_from_a_revision(history: Both) -> None:
    assert from_both(history, ["--rev=2", "foo"], 8) == [
        "PUT",
        "foo",
        "1",
        "PUT",
        "foo",
        "2",
        "DELETE",
        "foo",
    ]


def test_watch_with_previous_values(history: Both) -> None:
    printed = from_both(history, ["--rev=3", "--prev-kv", "--prefix", "fo"], 13)
    assert printed[:5] == ["PUT", "foo", "1", "foo", "2"]


def test_watch_as_json(history: Both) -> None:
    for member in history:
        with etcdctl(member, "watch", "--rev=2", "foo", "fop", "-w", "json") as command:
            (line,) = command.hear(1)
            blanked = re.sub(r'"(cluster_id|member_id)":\d+', r'"\1":0', line)
            assert blanked.startswith('{"Header":{"cluster_id":0,"member_id":0,"revision":5,"raft_term":')
            assert '"CompactRevision":0,"Canceled":false,"Created":false}' in blanked


def test_watch_runs_a_command_for_each_event(history: Both) -> None:
    script = "echo $ETCD_WATCH_EVENT_TYPE $ETCD_WATCH_KEY $ETCD_WATCH_VALUE $ETCD_WATCH_REVISION"
    printed = from_both(history, ["--rev=3", "foo", "--", "sh", "-c", script], 8)
    assert printed == ["PUT", "foo", "2", "DELETE", "foo", "", '"PUT" "foo" "2" 5', '"DELETE" "foo" "" 5']


def test_interactive_watches(history: Both) -> None:
    heard = []
    for member in history:
        with etcdctl(member, "watch", "-i") as command:
            command.say("watch --rev 2 foo")
            lines = command.hear(9)
            command.say("watch --rev 4 fop")
            lines += command.hear(3)
            command.say("progress")
            lines += command.hear(2)
            heard.append(lines)
    assert heard[0] == heard[1]
    assert heard[1][-5:] == ["PUT", "fop", "3", "progress notify: 5", "progress notify: 5"]


def test_a_watch_waits_for_what_comes(history: Both) -> None:
    for member in history:
        with etcdctl(member, "watch", "-i", env={"ETCDCTL_WATCH_KEY": "later"}) as command:
            command.say("watch")
            command.say("progress")
            assert command.hear(1) == ["progress notify: 5"]
            Etcdctl(member.endpoint).run("put", "later", "now")
            assert command.hear(3) == ["PUT", "later", "now"]
