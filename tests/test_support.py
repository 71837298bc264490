"""The process helpers themselves, against both servers: what other tests build on."""

from collections.abc import Callable
from pathlib import Path

import pytest

from kvorum import errors
from tests.conftest import StartMember
from tests.support import process
from tests.support.client import Client, op_put, op_range, refused_with
from tests.support.etcdctl import Etcdctl
from tests.support.process import Member, MemberError, Program

BOTH = pytest.mark.parametrize(
    "program", [process.etcd(), process.kvorum()], ids=lambda program: program.name
)


@BOTH
def test_acknowledged_writes_survive_kill_and_restart(
    program: Program, start_member: StartMember, connect: Callable[[Member], Client]
) -> None:
    member = start_member(program)
    client = connect(member)
    assert client.put(b"a", b"1").header.revision == 2
    member.kill()
    assert not member.running
    member.start()
    assert client.get(b"a") == b"1"
    first = member.pid
    member.restart()
    assert member.pid != first
    assert client.get(b"a") == b"1"
    assert member.rss_bytes() > 1 << 20
    assert any(record["msg"] == "ready to serve client requests" for record in member.log_records())


@BOTH
def test_client_and_etcdctl(
    program: Program, start_member: StartMember, connect: Callable[[Member], Client]
) -> None:
    member = start_member(program)
    client = connect(member)
    done = client.txn(success=[op_put(b"k", b"v"), op_range(b"k")])
    assert done.responses[1].response_range.kvs[0].value == b"v"
    with refused_with(errors.ERR_EMPTY_KEY):
        client.put(b"", b"v")
    with refused_with(errors.ERR_FUTURE_REV):
        client.range(b"k", revision=99)
    with pytest.raises(AssertionError, match="was not refused"), refused_with(errors.ERR_COMPACTED):
        client.range(b"k")
    ctl = Etcdctl(member.endpoint)
    assert ctl.run("get", "k").stdout == "k\nv\n"
    assert ctl.json("get", "k")["count"] == 1
    assert ctl.run("nonsense", check=False).status != 0


def test_a_member_that_dies_shows_its_log(tmp_path: Path) -> None:
    member = Member(process.etcd(), tmp_path / "d", flags=["--no-such-flag"])
    with pytest.raises(MemberError, match="no-such-flag"):
        member.start()
    assert member.wait_exit() == 2
