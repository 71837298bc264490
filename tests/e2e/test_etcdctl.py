"""One session of etcdctl 3.5.1, the same words to etcd and to Kvorum: the same bytes, the same exit code.

The session is one history: each command finds what those before it left, on both sides, so that revisions,
versions, counts and hashes must agree from the first command to the last. What two clusters cannot share is
blanked: the IDs of cluster and member, the ports, the sizes of the files and how long something took.
"""

import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import StartMember
from tests.e2e.conftest import Both
from tests.support import process
from tests.support.process import Member, clean_environment, distro_binary

Words = tuple[str, ...]


@dataclass(frozen=True)
class Said:
    """What a run of a tool left: exit code, stdout, and what stderr says to people (no log lines)."""

    status: int
    stdout: bytes
    stderr: str


BLANKS = [
    # json, in both bases, and fields
    (rb'("(?:cluster_id|member_id|ID|leader|memberID)":)(?:\d+|"[0-9a-f]+")', rb"\1ID"),
    (rb'("(?:ClusterID|MemberID|Leader|ID|memberID|MemberID)" ?: ?)\d+', rb"\1ID"),
    (rb'("(?:dbSize|dbSizeInUse)":)\d+', rb"\1SIZE"),
    (rb'("(?:DBSize|DBSizeInUse)" ?: ?)\d+', rb"\1SIZE"),
    (rb'("took":)"[0-9.a-z\xc2\xb5]+"', rb'\1"TOOK"'),
    (rb"took = [0-9.]+(?:\xc2\xb5s|ms|s)", b"took = TOOK"),
    (rb"\d+(?:\.\d+)? [kM]?B\b", b"SIZE"),
    (rb"\d+(?:\.\d+)?(?:\xc2\xb5s|ms)\b", b"TOOK"),
    (rb"\b[0-9a-f]{14,16}\b", b"ID"),
    (rb"memberID:\d+", b"memberID:ID"),
    (rb"http://127\.0\.0\.1:\d+", b"URL"),
    (rb"127\.0\.0\.1:\d+", b"ENDPOINT"),
]


def blanked(stdout: bytes) -> bytes:
    """Leave out what two clusters cannot have in common; a table's rules and padding go with it."""
    for pattern, replacement in BLANKS:
        stdout = re.sub(pattern, replacement, stdout)
    if stdout.startswith(b"+-"):
        stdout = re.sub(rb"-+", b"-", re.sub(rb" +", b" ", stdout))
    return stdout


def told(stderr: str) -> str:
    """What stderr says to people: no log lines."""
    lines = [line for line in stderr.splitlines() if line and not line.startswith("{")]
    return blanked("\n".join(lines).encode()).decode()


def run(tool: Sequence[str], member: Member, words: Sequence[str], stdin: bytes = b"") -> Said:
    done = subprocess.run(
        [*tool, f"--endpoints={member.endpoint}", *words],
        input=stdin,
        capture_output=True,
        timeout=60,
        check=False,
        env=clean_environment(),
    )
    stdout = done.stdout
    if "protobuf" in words:
        stdout = b""  # the header's IDs stand in it as varints; its fields are those of the JSON before it
    return Said(done.returncode, blanked(stdout), told(done.stderr.decode()))


ETCDCTL = (distro_binary("etcdctl"),)
KVORUMCTL = (str(Path(sys.executable).parent / "kvorumctl"),)

FORMS = ("simple", "json", "fields", "table", "protobuf")

PUTS: list[tuple[Words, bytes]] = [
    (("put", "foo", "bar"), b""),
    (("put", "foo", "bar2", "--prev-kv"), b""),
    (("put", "foo", "bar3", "--prev-kv", "-w", "json"), b""),
    (("put", "foo", "bar4", "--prev-kv", "-w", "fields"), b""),
    (("put", "foo", "bar5", "--prev-kv", "-w", "protobuf"), b""),
    (("put", "foo", "--ignore-value"), b""),
    (("put", "absent", "--ignore-value"), b""),
    (("put", "foo", "x", "--ignore-lease"), b""),
    (("put", "absent", "x", "--ignore-lease"), b""),
    (("put", "foo", "x", "--lease=1234"), b""),
    (("put", "", "x"), b""),
    (("put", "empty", ""), b""),
    (("put", "stdin"), b"a value\nof two lines\x00\xff"),
    (("put", "--", "-dash", "--value"), b""),
    (("put", "unicodé", "välue ☃"), b""),
    (("put", "large"), b"v" * 1_000_000),
    (("put", "too large"), b"v" * 1_600_000),
    (("put", "far too large"), b"v" * 3_000_000),
    *((("put", f"key{number}", f"{9 - number}", "-w", "json"), b"") for number in range(6)),
    (("put", "key3", "again"), b""),
]

GETS: list[tuple[Words, bytes]] = [
    *((("get", "foo", "-w", form), b"") for form in FORMS),
    *((("get", "key", "--prefix", "--limit=2", "-w", form), b"") for form in FORMS),
    *((("get", "absent", "-w", form), b"") for form in FORMS),
    (("get", "empty"), b""),
    (("get", "stdin", "--hex"), b""),
    (("get", "unicodé", "-w", "json", "--hex"), b""),
    (("get", "key1", "key4"), b""),
    (("get", "key4", "key1"), b""),
    (("get", "key", "--prefix", "--keys-only"), b""),
    (("get", "key", "--prefix", "--print-value-only"), b""),
    (("get", "key", "--prefix", "--count-only", "-w", "fields"), b""),
    (("get", "key", "--prefix", "--count-only", "-w", "json"), b""),
    (("get", "key3", "--from-key", "--keys-only"), b""),
    (("get", "", "--prefix", "--keys-only", "-w", "json"), b""),
    (("get", "", "--from-key", "--limit=3"), b""),
    *(
        (
            ("get", "key", "--prefix", f"--sort-by={target}", f"--order={order}", "--limit=3", "-w", "json"),
            b"",
        )
        for target in ("KEY", "CREATE", "MODIFY", "VALUE")
        for order in ("ASCEND", "DESCEND")
    ),
    (("get", "key", "--prefix", "--sort-by=VERSION", "--order=DESCEND", "--limit=1"), b""),
    (("get", "foo", "--rev=2"), b""),
    (("get", "foo", "--rev=3", "-w", "json"), b""),
    (("get", "foo", "--rev=9999"), b""),
    (("get", "foo", "--consistency=s"), b""),
    (("get", "foo", "--consistency=l", "-w", "json"), b""),
    (("get", ""), b""),
]

TXNS: list[tuple[Words, bytes]] = [
    (("txn",), b'mod("foo") > "0"\nvalue("foo") = "x"\n\nput t1 "a b"\nget t1\ndel t2\n\nget foo\n\n'),
    (("txn", "-w", "json"), b'ver("key3") = "2"\n\nget key --prefix\nput t3 v --prev-kv\n\n\n'),
    (("txn", "-w", "fields"), b'c("absent") = "0"\n\nput t4 x\ndel key0 --prev-kv\nget key0\n\n\n'),
    (("txn", "-w", "protobuf"), b"\n\n\n"),
    (("txn", "-w", "table"), b"\nget foo\n\n\n"),
    (("txn", "-w", "json"), b'create("foo") > "99"\n\n\nget foo\nput t5 "else"\n\n'),
    (("txn",), b"\nput twice 1\nput twice 2\n\n\n"),
    (("txn",), b"\nput in-range 1\ndel in --prefix\n\n\n"),
    (("txn",), b"\nget foo --rev=9999\n\n\n"),
    (("txn",), b"\n" + b"".join(b"put many%d x\n" % number for number in range(128)) + b"\n\n"),
    (("txn",), b"\n" + b"".join(b"put many%d x\n" % number for number in range(129)) + b"\n\n"),
]

DELETES: list[tuple[Words, bytes]] = [
    (("del", "absent"), b""),
    (("del", "key1"), b""),
    (("del", "key2", "--prev-kv"), b""),
    (("del", "key3", "--prev-kv", "-w", "json"), b""),
    (("del", "key4", "key6", "-w", "fields"), b""),
    (("del", "many1", "--prefix", "-w", "json"), b""),
    (("del", "unicod", "--from-key", "--prev-kv"), b""),
    (("del", "many", "--prefix", "-w", "protobuf"), b""),
    (("del", "",), b""),
    (("get", "", "--prefix", "--keys-only", "-w", "json"), b""),
]  # fmt: skip

MAINTENANCE: list[tuple[Words, bytes]] = [
    *((("endpoint", "status", "-w", form), b"") for form in FORMS),
    (("endpoint", "status", "--cluster"), b""),
    *((("endpoint", "health", "-w", form), b"") for form in ("simple", "json", "fields", "table")),
    (("endpoint", "health", "--cluster"), b""),
    *((("endpoint", "hashkv", "-w", form), b"") for form in ("simple", "json", "fields", "table")),
    (("endpoint", "hashkv", "--rev=5"), b""),
    (("endpoint", "hashkv", "--rev=9999"), b""),
    *((("member", "list", "-w", form), b"") for form in FORMS),
    (("member", "list", "-w", "json", "--hex"), b""),
    *((("alarm", "list", "-w", form), b"") for form in FORMS),
    (("alarm", "disarm"), b""),
    (("alarm", "disarm", "-w", "json"), b""),
    (("compaction", "9999"), b""),
    (("compaction", "0"), b""),
    (("compaction", "5"), b""),
    (("compaction", "5"), b""),
    (("compaction", "9", "--physical", "-w", "json"), b""),
    (("compaction", "8"), b""),
    (("get", "foo", "--rev=3"), b""),
    (("txn",), b"\nget foo --rev=3\n\n\n"),
    (("endpoint", "hashkv", "--rev=3"), b""),
    (("endpoint", "hashkv", "-w", "json"), b""),
    (("get", "", "--prefix", "-w", "json"), b""),
    (("version",), b""),
]

SESSION = [*PUTS, *GETS, *TXNS, *DELETES, *MAINTENANCE]

QUOTA = 200_000
FULL: list[tuple[Words, bytes]] = [
    (("put", "small", "x"), b""),
    (("put", "large"), b"v" * QUOTA),
    (("alarm", "list"), b""),
    (("alarm", "list", "-w", "json"), b""),
    (("put", "small", "y"), b""),
    (("txn",), b"\nput small z\n\n\n"),
    (("get", "small"), b""),
    (("txn",), b"\nget small\n\n\n"),
    (("del", "small", "--prev-kv"), b""),
    (("endpoint", "health"), b""),
    (("endpoint", "status", "-w", "json"), b""),
    (("endpoint", "status", "-w", "table"), b""),
    (("alarm", "disarm"), b""),
    (("alarm", "disarm"), b""),
    (("alarm", "list"), b""),
    (("put", "small", "again"), b""),
    (("endpoint", "health"), b""),
]


def converse(etcd: Member, kvorum: Member, session: Sequence[tuple[Words, bytes]]) -> list[Said]:
    """Say the same to both; returns what both answered, fails with everything that differed."""
    answers, differences = [], []
    for words, stdin in session:
        theirs, ours = (run(ETCDCTL, member, words, stdin) for member in (etcd, kvorum))
        answers.append(theirs)
        if theirs != ours:
            differences.append(f"{words}\netcd:   {theirs}\nkvorum: {ours}")
    assert not differences, "\n".join(differences)
    return answers


def test_a_session_of_etcdctl(both: Both) -> None:
    answers = converse(both.etcd, both.kvorum, SESSION)
    # Both could be equally out of reach: that this was a session shows in how it went.
    assert sum(answer.status == 0 for answer in answers) > len(SESSION) * 2 // 3
    assert not any("context deadline exceeded" in answer.stderr for answer in answers)
    refusals = " ".join(answer.stderr for answer in answers)
    for text in ("required revision has been compacted", "duplicate key", "too many operations", "too large"):
        assert text in refusals


def test_a_session_of_a_full_member(start_member: StartMember) -> None:
    flags = (f"--quota-backend-bytes={QUOTA}",)
    etcd = start_member(process.etcd(), flags=flags)
    kvorum = start_member(process.kvorum(), flags=flags)
    answers = converse(etcd, kvorum, FULL)
    assert "database space exceeded" in answers[1].stderr
    assert b"alarm:NOSPACE" in answers[2].stdout


KVORUMCTL_SESSION: list[tuple[Words, bytes]] = [
    (("put", "ours", "x"), b""),
    (("get", "ours", "-w", "fields"), b""),
    (("txn", "-w", "json"), b'mod("ours") > "0"\n\nput ours y --prev-kv\nget ours\n\n\n'),
    (("del", "ours", "--prev-kv"), b""),
    (("get", "ours", "--rev=9999"), b""),
    (("endpoint", "status", "-w", "table"), b""),
    (("endpoint", "health"), b""),
    (("endpoint", "hashkv", "-w", "json"), b""),
    (("member", "list", "-w", "json"), b""),
]


def test_a_session_of_kvorumctl(both: Both) -> None:
    for words, stdin in KVORUMCTL_SESSION:
        theirs = run(ETCDCTL, both.etcd, words, stdin)
        ours = run(KVORUMCTL, both.kvorum, words, stdin)
        assert ours == theirs, words
