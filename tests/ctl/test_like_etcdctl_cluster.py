"""Leases, members, alarms, watches, locks, elections, backups: the same words to etcdctl and kvorumctl."""

import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from kvorum.proto import rpc_pb2 as pb
from kvorum.utl.backup import read_backup
from tests.conftest import StartMember
from tests.ctl.conftest import Done, Run
from tests.ctl.test_like_etcdctl import etcdctl
from tests.support import process
from tests.support.client import Client
from tests.support.cluster import LOOSE, Cluster, forming
from tests.support.process import Member, clean_environment, distro_binary
from tests.support.waiting import wait_until

NUMBERS: Final = re.compile(
    rb"\d{15,}|[0-9a-f]{12,16}|(?<=revision\":)\d+|(?<=Revision\" : )\d+|remaining\(\d+s\)"
    rb"|\"(?:ttl|TTL)\":\d+|\"TTL\" : \d+|(?<=127.0.0.1:)\d+"
)


def alike(done: Done) -> Done:
    """Without the IDs, revisions and ports, which differ between two members."""
    error = [NUMBERS.sub(b"N", line.encode()).decode() for line in done.error]
    return Done(done.status, NUMBERS.sub(b"N", done.stdout), error)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Member, Member]]:
    """An etcd for etcdctl and one for kvorumctl."""
    folder = tmp_path_factory.mktemp("pair")
    with ExitStack() as stack:
        members = [
            Member(process.etcd(), folder / name, flags=LOOSE, name="same") for name in ("a.etcd", "b.etcd")
        ]
        for member in members:
            stack.callback(member.close)
            member.start()
        yield members[0], members[1]


@pytest.fixture
def compare(pair: tuple[Member, Member], kvorumctl: Run) -> Callable[..., bytes]:
    """Say the same to both tools; returns what ours printed. ``{id}`` is what an earlier answer named."""
    known: list[dict[str, str]] = [{}, {}]

    def run(*words: str, remember: str = "") -> bytes:
        dones = []
        for member, tool, names in zip(pair, (etcdctl, kvorumctl), known, strict=True):
            said = [word.format(**names) for word in words]
            done = tool("--endpoints", member.endpoint, *said)
            if remember:
                found = re.search(rb"[0-9a-f]{15,16}", done.stdout)
                assert found is not None, done
                names[remember] = found[0].decode()
            dones.append(done)
        theirs, ours = dones
        assert alike(ours) == alike(theirs), words
        return ours.stdout

    return run


def test_leases(compare: Callable[..., bytes]) -> None:
    compare("lease", "grant", "600", remember="id")
    for form in ("simple", "json", "fields"):
        compare("lease", "grant", "500", "-w", form)
    compare("put", "leased", "x", "--lease", "{id}")
    for form in ("simple", "json", "fields"):
        compare("lease", "timetolive", "{id}", "-w", form)
        compare("lease", "timetolive", "{id}", "--keys", "-w", form)
        compare("lease", "keep-alive", "--once", "{id}", "-w", form)
        compare("lease", "list", "-w", form)
    compare("lease", "revoke", "{id}")
    compare("lease", "timetolive", "{id}")
    compare("get", "leased", "--prefix")
    compare("lease", "keep-alive", "{id}")
    compare("lease", "revoke", "{id}")


@pytest.mark.parametrize(
    "words",
    [
        ["lease", "grant"],
        ["lease", "grant", "x"],
        ["lease", "grant", "99999999999999999999"],
        ["lease", "grant", "9000000001"],
        ["lease", "revoke"],
        ["lease", "revoke", "xyz"],
        ["lease", "revoke", "12345"],
        ["lease", "timetolive"],
        ["lease", "timetolive", "12345"],
        ["lease", "keep-alive"],
        ["lease", "keep-alive", "--once", "12345"],
        ["lease", "list", "-w", "table"],
        ["member", "add"],
        ["member", "add", "x"],
        ["member", "add", "x", "http://127.0.0.1:1"],
        ["member", "add", "x", "--peer-urls", "127.0.0.1:1"],
        ["member", "remove"],
        ["member", "remove", "x"],
        ["member", "remove", "12345"],
        ["member", "remove", "12345678901234567890"],
        ["member", "update", "12345"],
        ["member", "update", "12345", "--peer-urls=http://127.0.0.1:1"],
        ["member", "promote", "12345"],
        ["move-leader"],
        ["move-leader", "x"],
        ["move-leader", "12345"],
        ["alarm", "list"],
        ["alarm", "list", "x"],
        ["alarm", "list", "-w", "json"],
        ["alarm", "list", "-w", "fields"],
        ["alarm", "list", "-w", "table"],
        ["alarm", "disarm"],
        ["alarm", "disarm", "x"],
        ["defrag"],
        ["watch"],
        ["watch", "a", "b", "--prefix"],
        ["watch", "a", "--"],
        ["lock"],
        ["elect"],
        ["elect", "a"],
        ["elect", "a", "b", "-l"],
        ["lock", "a", "true"],
        ["lock", "a", "--", "sh", "-c", "exit 3"],
        [
            "lock",
            "a",
            "--",
            "sh",
            "-c",
            'test -n "$ETCD_LOCK_REV" && case $ETCD_LOCK_KEY in a/*) echo yes;; esac',
        ],
        ["snapshot", "save"],
        ["snapshot", "save", "/no/such/directory/file"],
    ],
    ids=" ".join,
)
def test_words(words: list[str], compare: Callable[..., bytes]) -> None:
    compare(*words)


def test_alarms(compare: Callable[..., bytes], pair: tuple[Member, Member]) -> None:
    for member in pair:
        with Client(member.endpoint) as client:
            raise_it = pb.AlarmRequest(action=pb.AlarmRequest.ACTIVATE, memberID=77, alarm=pb.NOSPACE)
            client.call("etcdserverpb.Maintenance/Alarm", raise_it, pb.AlarmResponse)
    for form in ("simple", "json", "fields"):
        assert b"NOSPACE" in compare("alarm", "list", "-w", form) or form == "json"
    assert compare("alarm", "disarm") == b"memberID:77 alarm:NOSPACE \n"
    assert compare("alarm", "list") == b""


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with forming(tmp_path_factory.mktemp("three"), [process.kvorum()] * 3, LOOSE) as cluster:
        yield cluster


def test_members_come_and_go(three: Cluster, kvorumctl: Run) -> None:
    """The sequence that a membership goes through, each tool on a member of the same cluster in turn."""
    leader = three.wait_leader()
    where = ("--endpoints", ",".join(member.endpoint for member in three.members))
    printed: dict[str, list[Done]] = {}
    for tool in (etcdctl, kvorumctl):
        learner = three.make(process.kvorum())
        steps: list[tuple[str, ...]] = [
            ("member", "add", learner.name, "--peer-urls", learner.peer_url, "--learner")
        ]
        done = tool(*where, *steps[0])
        assert done.status == 0, done.error
        number = re.findall(rb"Member +([0-9a-f]+) added", done.stdout)[0].decode()
        steps = [
            ("member", "update", number, "--peer-urls", f"{learner.peer_url},http://127.0.0.1:1"),
            ("member", "promote", number),
            ("member", "remove", number),
            ("member", "remove", number),
        ]
        shown = [done, *(tool(*where, *step) for step in steps)]
        printed[tool.__name__] = [_without_names(step) for step in shown]
        other = next(member for member in three.members if member is not leader)
        moved = tool(*where, "move-leader", f"{three.id_of(other):x}")
        assert moved.stdout == (
            f"Leadership transferred from {three.id_of(leader):x} to {three.id_of(other):x}\n".encode()
        )
        three.wait_led_by(other)
        leader = other
        follower = next(member for member in three.members if member is not leader)
        refused = tool("--endpoints", follower.endpoint, "move-leader", f"{three.id_of(follower):x}")
        assert (refused.status, refused.error) == (
            128,
            [f"Error: no leader endpoint given at [{follower.endpoint}]"],
        )
    theirs, ours = printed["etcdctl"], printed["run"]
    assert ours == theirs


def _without_names(done: Done) -> Done:
    """Words only: the members stand in the order of IDs, which are chance."""
    text = re.sub(rb"\bm\d+\b", b"NAME", alike(done).stdout)
    return Done(done.status, b" ".join(sorted(re.findall(rb'[^\s,"]+', text))), alike(done).error)


def test_a_backup(three: Cluster, kvorumctl: Run, tmp_path: Path) -> None:
    member = three.members[0]
    where = ("--endpoints", member.endpoint)
    done = kvorumctl(*where, "snapshot", "save", str(tmp_path / "ours.db"))
    assert (done.status, done.stdout) == (0, f"Snapshot saved at {tmp_path / 'ours.db'}\n".encode())
    assert etcdctl(*where, "snapshot", "save", str(tmp_path / "theirs.db")).status == 0
    assert read_backup(tmp_path / "ours.db") == read_backup(tmp_path / "theirs.db")
    assert [path.name for path in sorted(tmp_path.glob("*.db*"))] == ["ours.db", "theirs.db"]
    several = f"{member.endpoint},{three.members[1].endpoint}"
    words = ("--endpoints", several, "snapshot", "save", str(tmp_path / "none.db"))
    assert kvorumctl(*words) == etcdctl(*words)


# --- commands that wait ---------------------------------------------------------------------------------


class Waiting:
    """A tool as a process, beside the test; a context manager, which ends it."""

    def __init__(self, tool: str, member: Member, *words: str, stdin: bytes = b"") -> None:
        command = distro_binary("etcdctl") if tool == "etcdctl" else str(Path(sys.executable).parent / tool)
        self.process: Final = subprocess.Popen(
            [command, "--endpoints", member.endpoint, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=clean_environment(),
        )
        assert self.process.stdin is not None
        self.process.stdin.write(stdin)
        self.process.stdin.flush()

    def __enter__(self) -> "Waiting":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def lines(self, count: int) -> list[bytes]:
        """Return so many lines of its output, waiting for them."""
        assert self.process.stdout is not None
        return [self.process.stdout.readline() for _ in range(count)]

    def interrupt(self) -> int:
        """End it as Ctrl-C does; returns its status."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(20)


TOOLS: Final = ("etcdctl", "kvorumctl")


def both_print(
    member: Member, words: Sequence[str], count: int, act: Callable[[], None]
) -> list[list[bytes]]:
    """What each of the tools prints of the same; they wait at once."""
    with ExitStack() as stack:
        waiting = [stack.enter_context(Waiting(tool, member, *words)) for tool in TOOLS]
        act()
        return [each.lines(count) for each in waiting]


@pytest.mark.parametrize(
    ("words", "count"),
    [
        (["watch", "w", "--prefix"], 5),
        (["watch", "w", "--prefix", "--prev-kv", "-w", "json"], 1),
        (["watch", "w1", "w3", "-w", "fields"], 12),
        (["watch", "w1", "--hex", "--", "sh", "-c", "echo $ETCD_WATCH_EVENT_TYPE $ETCD_WATCH_KEY"], 6),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_watches(words: list[str], count: int, pair: tuple[Member, Member]) -> None:
    with Client(pair[0].endpoint) as client:
        revision = client.put(b"w1", b"1").header.revision
        client.delete(b"w1")
        at = words.index("--") if "--" in words else len(words)
        begins = [*words[:at], f"--rev={revision}", *words[at:]]
        theirs, ours = both_print(pair[0], begins, count, lambda: None)
        assert ours == theirs
        assert all(ours)


def test_a_watch_that_is_too_late(pair: tuple[Member, Member], kvorumctl: Run) -> None:
    with Client(pair[0].endpoint) as client:
        client.compact(client.put(b"w9", b"1").header.revision)
    words = ("--endpoints", pair[0].endpoint, "watch", "w", "--rev=1")
    theirs, ours = etcdctl(*words), kvorumctl(*words)
    assert ours == theirs
    assert ours.status == 5


def test_locks_and_elections_wait_for_each_other(start_member: StartMember) -> None:
    """Each tool in turn holds what the other one waits for, on a Kvorum member."""
    member = start_member(process.kvorum())
    for first, second in (TOOLS, TOOLS[::-1]):
        for words, lines in ((("lock", "l"), 2), (("elect", "e", "me"), 2)):
            with Waiting(first, member, *words) as holder:
                held = holder.lines(lines)
                with Waiting(second, member, *words) as waiter:
                    with Client(member.endpoint) as client:
                        wait_for_keys(client, words[1].encode() + b"/", 2)
                    assert holder.interrupt() == 0
                    taken = waiter.lines(lines)
                    assert taken[0].split(b"/")[0] == held[0].split(b"/")[0] == words[1].encode()
                    assert taken[1] == held[1]
                    assert waiter.interrupt() == 0
            with Client(member.endpoint) as client:
                assert not client.range(words[1].encode() + b"/", words[1].encode() + b"0").kvs


def wait_for_keys(client: Client, prefix: bytes, count: int) -> None:
    end = prefix[:-1] + b"0"
    wait_until(lambda: len(client.range(prefix, end).kvs) == count or None, f"{count} wait for {prefix!r}")


def test_who_leads(pair: tuple[Member, Member]) -> None:
    with Waiting("kvorumctl", pair[0], "elect", "who", "a") as leader:
        held = leader.lines(2)
        theirs, ours = both_print(pair[0], ["elect", "-l", "who"], 2, lambda: None)
        assert ours == theirs == held


def test_interactive_watches(pair: tuple[Member, Member]) -> None:
    with Client(pair[0].endpoint) as client:
        revision = client.put(b"i1", b"1").header.revision
    stdin = f"watch i1 --rev={revision}\nprogress\n".encode()
    with ExitStack() as stack:
        waiting = [stack.enter_context(Waiting(tool, pair[0], "watch", "-i", stdin=stdin)) for tool in TOOLS]
        theirs, ours = (set(each.lines(4)) for each in waiting)
        assert ours == theirs == {b"PUT\n", b"i1\n", b"1\n", b"progress notify: %d\n" % revision}
