"""Both tools against Kvorum: what etcdctl prints, kvorumctl prints."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ctl.conftest import Run
from tests.ctl.test_like_etcdctl import etcdctl
from tests.support import process
from tests.support.process import Member


@pytest.fixture(scope="module")
def member(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Member]:
    """A member of Kvorum."""
    folder: Path = tmp_path_factory.mktemp("kvorum")
    with Member(process.kvorum(), folder / "x.etcd") as running:
        yield running


def test_both_tools_see_the_same(member: Member, kvorumctl: Run) -> None:
    where = ("--endpoints", member.endpoint)
    assert kvorumctl(*where, "put", "a", "1").stdout == b"OK\n"
    assert etcdctl(*where, "put", "b", "2").stdout == b"OK\n"
    assert (
        kvorumctl(*where, "txn", stdin=b'mod("a") > "0"\n\ndel a\nput c 3\n\n\n').stdout
        == b"SUCCESS\n\n1\n\nOK\n"
    )
    for words in (
        ["get", "", "--prefix", "-w", "json"],
        ["get", "a", "--rev=2"],
        ["get", "a", "--rev=99"],
        ["put", "", "x"],
        ["member", "list"],
        ["member", "list", "-w", "json"],
        ["endpoint", "status", "-w", "fields"],
        ["endpoint", "status", "-w", "table"],
        ["endpoint", "hashkv", "-w", "json"],
        ["compaction", "2"],
        ["get", "a", "--rev=1"],
        ["compaction", "2"],
    ):
        theirs, ours = etcdctl(*where, *words), kvorumctl(*where, *words)
        if words[0] == "compaction":  # the second to ask is refused
            assert (ours.stdout + theirs.stdout).count(b"compacted revision 2") <= 1
            continue
        assert ours == theirs, words
    assert kvorumctl(*where, "endpoint", "health").status == etcdctl(*where, "endpoint", "health").status == 0
