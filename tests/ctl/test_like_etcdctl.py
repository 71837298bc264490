"""The same words to etcdctl and to kvorumctl, against etcd: the same bytes, the same exit code."""

import json
import re
import subprocess
from collections.abc import Mapping

import pytest

from tests.conftest import StartMember
from tests.ctl.conftest import Done, Run, said
from tests.support import process
from tests.support.process import Member, clean_environment, distro_binary


def etcdctl(*words: str, stdin: bytes = b"", variables: Mapping[str, str] | None = None) -> Done:
    done = subprocess.run(
        [distro_binary("etcdctl"), *words],
        input=stdin,
        capture_output=True,
        timeout=60,
        check=False,
        env=clean_environment(variables),
    )
    return Done(done.returncode, done.stdout, said(done.stderr.decode()))


IDS = re.compile(
    rb'("(?:cluster_id|member_id|ID|leader)":|"(?:ClusterID|MemberID|Leader|ID)" : )(\d+|"[0-9a-f]+")'
)


def without_ids(done: Done) -> Done:
    return Done(done.status, IDS.sub(rb"\1ID", done.stdout), done.error)


HISTORY = [
    ("put", "a", "1"),
    ("put", "a", "2"),
    ("put", "b", 'long value with <html> & \u2028 "quotes"'),
    ("put", "c\x01\tx", "binary \x1f"),
    ("put", "key1", "z"),
    ("put", "key2", "y"),
    ("put", "key3", "x"),
    ("put", "key2", "w"),
    ("put", "gone", "gone"),
    ("del", "gone"),
]


@pytest.fixture(scope="session", autouse=True)
def keys(etcds: list[Member]) -> None:
    """The same history in both members."""
    for member in etcds:
        for words in HISTORY:
            assert etcdctl("--endpoints", member.endpoint, *words).status == 0


READS = [
    ["get", "a"],
    ["get", "a", "c"],
    ["get", "--prefix", "key"],
    ["get", "key", "--prefix=true", "--limit", "2"],
    ["get", "key", "--prefix=false"],
    ["get", "", "--prefix"],
    ["get", "", "--from-key"],
    ["get", "b", "--from-key", "--keys-only"],
    ["get", "key", "--prefix", "--print-value-only"],
    ["get", "key", "--prefix", "--order", "descend"],
    ["get", "key", "--prefix", "--order=DESCEND", "--sort-by=value"],
    ["get", "key", "--prefix", "--sort-by=modify", "--order=ASCEND"],
    ["get", "key", "--prefix", "--sort-by=version", "--order=DESCEND"],
    ["get", "key", "--prefix", "--sort-by=create"],
    ["get", "a", "--rev", "2"],
    ["get", "a", "--consistency=s"],
    ["get", "key", "--prefix", "--count-only", "-w", "fields"],
    ["get", "a", "--hex"],
    ["get", "c", "--prefix", "--hex"],
    ["get", "c", "--prefix"],
    ["get", "absent"],
    ["get", "--", "a"],
    ["get", "a", "--", "b"],
    ["-w", "json", "get", "a"],
    ["get", "-wjson", "", "--prefix"],
    ["get", "-w=fields", "", "--prefix"],
    ["get", "a", "-w", "protobuf"],
    ["get", "key", "--prefix", "--limit=1", "-w", "json"],
    ["get", "absent", "-w", "json"],
    ["get", "absent", "-w", "fields"],
    ["ge", "a"],
    ["member", "list"],
    ["member", "list", "-w", "json"],
    ["member", "list", "-w", "json", "--hex"],
    ["member", "list", "-w", "fields"],
    ["member", "list", "-w", "table"],
    ["endpoint", "status"],
    ["endpoint", "status", "-w", "json"],
    ["endpoint", "status", "-w", "fields"],
    ["endpoint", "status", "-w", "table"],
    ["endpoint", "status", "--cluster"],
    ["endpoint", "--cluster", "status", "-w", "json"],
    ["endpoint", "hashkv"],
    ["endpoint", "hashkv", "--rev", "5"],
    ["endpoint", "hashkv", "-w", "json"],
    ["endpoint", "hashkv", "-w", "fields"],
    ["endpoint", "hashkv", "-w", "table"],
]

REFUSED = [
    ["get"],
    ["get", "a", "b", "--prefix"],
    ["get", "a", "--prefix", "--from-key"],
    ["get", "a", "--keys-only", "--count-only"],
    ["get", "a", "--consistency=x"],
    ["get", "a", "--order=x"],
    ["get", "a", "--sort-by=x"],
    ["get", "a", "--count-only"],
    ["get", "a", "--print-value-only", "-w", "json"],
    ["get", "a", "-w", "table"],
    ["get", "a", "-w", "x"],
    ["get", "-w", "x"],
    ["get", "a", "--rev", "999"],
    ["get", ""],
    ["get", "a", "--cert="],
    ["get", "a", "--cert=/no/such"],
    ["put"],
    ["put", "a"],
    ["put", "a", "b", "--ignore-value"],
    ["put", "a", "b", "--lease", "zz"],
    ["put", "a", "b", "--lease", "fffffffffffffffff"],
    ["put", "a", "b", "--lease", "5"],
    ["put", "a", "b", "--ignore-lease", "--lease=5"],
    ["put", "absent", "--ignore-value"],
    ["put", "", "x"],
    ["del"],
    ["del", "a", "b", "c"],
    ["del", "a", "b", "--prefix"],
    ["del", "a", "--prefix", "--from-key"],
    ["txn", "a"],
    ["txn", "-w", "x"],
    ["compaction"],
    ["compaction", "x"],
    ["compaction", "999"],
    ["compaction", "99999999999999999999"],
    ["endpoint", "hashkv", "--rev=999"],
    ["member", "list", "-w", "x"],
]


def both(member: Member, run: Run, *words: str, stdin: bytes = b"") -> tuple[Done, Done]:
    where = ("--endpoints", member.endpoint)
    return etcdctl(*where, *words, stdin=stdin), run(*where, *words, stdin=stdin)


@pytest.mark.parametrize("words", READS, ids=" ".join)
def test_reads(words: list[str], etcds: list[Member], kvorumctl: Run) -> None:
    theirs, ours = both(etcds[0], kvorumctl, *words)
    assert ours == theirs
    assert ours.status == 0


@pytest.mark.parametrize("words", REFUSED, ids=" ".join)
def test_refusals(words: list[str], etcds: list[Member], kvorumctl: Run) -> None:
    theirs, ours = both(etcds[0], kvorumctl, *words)
    assert ours == theirs
    assert ours.status != 0


# etcdctl prints its usage on stdout as well
MISUSED = [
    ["get", "--foo"],
    ["get", "-x"],
    ["get", "a", "--limit"],
    ["get", "a", "--limit", "x"],
    ["get", "a", "--limit", "99999999999999999999"],
    ["get", "a", "--prefix=maybe"],
    ["get", "a", "--command-timeout", "1"],
    ["get", "a", "--command-timeout", "1x"],
    ["get", "a", "-w"],
    ["get", "a", "---prefix"],
]


@pytest.mark.parametrize("words", MISUSED, ids=" ".join)
def test_misuse(words: list[str], etcds: list[Member], kvorumctl: Run) -> None:
    theirs, ours = both(etcds[0], kvorumctl, *words)
    assert (ours.status, ours.error) == (theirs.status, theirs.error)
    assert ours.stdout == b""


def test_unknown_commands(kvorumctl: Run) -> None:
    theirs, ours = etcdctl("foo"), kvorumctl("foo")
    assert [line.replace("etcdctl", "kvorumctl") for line in theirs.error] == ours.error
    assert ours.status == theirs.status == 1


WRITES: list[tuple[list[str], bytes]] = [
    (["put", "w1", "1"], b""),
    (["put", "w1", "2", "--prev-kv"], b""),
    (["put", "w1", "3", "--prev-kv", "-w", "json"], b""),
    (["put", "w1", "4", "--prev-kv", "-w", "fields"], b""),
    (["put", "w1", "--ignore-value", "-w", "json"], b""),
    (["put", "w1", "5", "--ignore-lease"], b""),
    (["put", "w2"], b"from stdin\n\x00\xff"),
    (["put", "--", "-w3", "-value"], b""),
    (["put", "-w3", "--", "-value"], b""),
    (["get", "w", "--prefix"], b""),
    (["get", "-w", "json", "--", "-w3"], b""),
    (["txn"], b'mod("w1") > "0"\nvalue("w1") = "5"\n\nput w1 "a b"\nget w1\ndel w2 --prev-kv\n\nget w1\n\n'),
    (["txn", "-w", "json"], b'ver("w1") = "1"\n\n\nput w4 v\nget w --prefix\nput w4 u --prev-kv\n\n'),
    (["txn", "-w", "fields"], b'c("w1") != "0"\nm("w1") < "99"\n\nget w1\ndel absent\nput w5 x\n\n\n'),
    (["txn", "-w", "protobuf"], b"\n\n\n"),
    (["txn", "-i"], b'val("w1") = `a b`\n\nput "single quoted" "\\x41\\t\\u00e9"\n\n\n'),
    (["txn"], b'create("absent") = "0"\n  version("absent") = "0"\n\nget "" --prefix --limit=2\n\n\n'),
    (["del", "w1"], b""),
    (["del", "w1"], b""),
    (["del", "w", "x", "--prev-kv"], b""),
    (["del", "key", "--prefix", "--prev-kv", "-w", "json"], b""),
    (["del", "single", "--from-key", "-w", "fields"], b""),
    (["compaction", "5"], b""),
    (["compaction", "6", "--physical", "-w", "json"], b""),
    (["compaction", "5"], b""),
    (["get", "a", "--rev=5"], b""),
    (["txn"], b"\nget a --rev=5\n\n\n"),
    (["txn"], b"\nput a 1\nput a 2\n\n\n"),
    (["endpoint", "hashkv", "-w", "json"], b""),
    (["get", "", "--prefix", "-w", "json"], b""),
]


def test_a_history_of_writes(start_member: StartMember, kvorumctl: Run) -> None:
    """On members of its own: a compaction would take from the other tests what they read."""
    theirs_at, ours_at = (start_member(process.etcd()).endpoint for _ in range(2))
    for endpoint in (theirs_at, ours_at):
        for command in HISTORY:
            assert etcdctl("--endpoints", endpoint, *command).status == 0
    for words, stdin in WRITES:
        theirs = etcdctl("--endpoints", theirs_at, *words, stdin=stdin)
        ours = kvorumctl("--endpoints", ours_at, *words, stdin=stdin)
        if "protobuf" in words:
            theirs, ours = (Done(done.status, b"", done.error) for done in (theirs, ours))
        ours = Done(ours.status, ours.stdout.replace(ours_at.encode(), theirs_at.encode()), ours.error)
        assert without_ids(ours) == without_ids(theirs), words


BROKEN_TRANSACTIONS = [
    b"",
    b"\n\n",
    b'mod("a") > "0"',
    b"mod\n\n\n\n",
    b'mod("a" > "0"\n\n\n\n',
    b'mod("a") > 0\n\n\n\n',
    b'mod(a) > "0"\n\n\n\n',
    b'mod("a") > "x"\n\n\n\n',
    b'mod("a")>"0"\n\n\n\n',
    b'mod("a") >\n\n\n\n',
    b'foo("a") > "0"\n\n\n\n',
    b'mod("a") > "99999999999999999999"\n\n\n\n',
    b"\nget\n\n\n",
    b"\nfoo a\n\n\n",
    b"\nget a --foo\n\n\n",
    b"\nget a --limit=x\n\n\n",
    b"\nput a\n\n\n",
    b"\nget a --prefix --from-key\n\n\n",
    b"\nput a b --lease=zz\n\n\n",
]


@pytest.mark.parametrize("stdin", BROKEN_TRANSACTIONS, ids=repr)
def test_broken_transactions(stdin: bytes, etcds: list[Member], kvorumctl: Run) -> None:
    theirs, ours = both(etcds[0], kvorumctl, "txn", stdin=stdin)
    assert (ours.status, ours.error) == (theirs.status, theirs.error[-1:])  # without its usage
    assert ours.status != 0


def test_health(etcds: list[Member], kvorumctl: Run) -> None:
    endpoint = etcds[0].endpoint
    took = re.compile(rb"took = [0-9.]+(\xc2\xb5s|ms|s)\n")
    theirs, ours = both(etcds[0], kvorumctl, "endpoint", "health")
    assert took.sub(b"", ours.stdout) == took.sub(b"", theirs.stdout)
    assert ours.status == 0
    for form in ("json", "fields", "table"):
        theirs, ours = both(etcds[0], kvorumctl, "endpoint", "health", "-w", form)
        if form == "json":
            (shown,) = json.loads(ours.stdout)
            assert shown.keys() == json.loads(theirs.stdout)[0].keys()
            assert (shown["endpoint"], shown["health"]) == (endpoint, True)
        assert ours.stdout.count(b"\n") == theirs.stdout.count(b"\n")
        assert (ours.status, ours.error) == (0, [])


NOBODY = "127.0.0.1:1"  # tcpmux: nothing listens there
SHORT = "--command-timeout=300ms"


@pytest.mark.parametrize(
    "words",
    [
        ["get", "a"],
        ["endpoint", "status"],
        ["endpoint", "health"],
        ["endpoint", "hashkv"],
        ["endpoint", "status", "--cluster"],
    ],
    ids=" ".join,
)
def test_nobody_answers(words: list[str], kvorumctl: Run) -> None:
    theirs, ours = (
        etcdctl("--endpoints", NOBODY, SHORT, *words),
        kvorumctl("--endpoints", NOBODY, SHORT, *words),
    )
    assert (ours.status, ours.error) == (theirs.status, theirs.error)
    assert ours.status == 1


def test_one_of_several_answers(etcds: list[Member], kvorumctl: Run) -> None:
    endpoints = f"{NOBODY},{etcds[0].endpoint}"
    assert kvorumctl("--endpoints", endpoints, "get", "a").stdout == b"a\n2\n"
    assert kvorumctl("--endpoints", NOBODY, "--endpoints", etcds[0].endpoint, "get", "a").stdout == b"a\n2\n"
    theirs = etcdctl("--endpoints", endpoints, SHORT, "endpoint", "status", "-w", "json")
    ours = kvorumctl("--endpoints", endpoints, SHORT, "endpoint", "status", "-w", "json")
    assert ours == theirs
    assert ours.status == 1


@pytest.mark.parametrize("form", ["http://{}", " {} ", "{}"])
def test_forms_of_endpoints(form: str, etcds: list[Member], kvorumctl: Run) -> None:
    assert kvorumctl("--endpoints", form.format(etcds[0].endpoint), "get", "a").status == 0


def test_environment(etcds: list[Member], kvorumctl: Run) -> None:
    variables = {"ETCDCTL_ENDPOINTS": etcds[0].endpoint, "ETCDCTL_WRITE_OUT": "json", "ETCDCTL_API": "3"}
    theirs, ours = etcdctl("get", "a", variables=variables), kvorumctl("get", "a", variables=variables)
    assert ours == theirs
    assert ours.stdout.startswith(b"{")


def test_a_variable_beside_its_flag(etcds: list[Member], kvorumctl: Run) -> None:
    words, shadow = ("--endpoints", etcds[0].endpoint, "get", "a"), {"ETCDCTL_ENDPOINTS": "x"}
    theirs, ours = etcdctl(*words, variables=shadow), kvorumctl(*words, variables=shadow)
    assert ours == theirs
    assert ours.status == 1


def test_version(kvorumctl: Run) -> None:
    theirs, ours = etcdctl("version"), kvorumctl("version")
    assert ours.stdout.startswith(theirs.stdout)
    assert ours.status == 0
