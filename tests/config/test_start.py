"""What a member says of its configuration when it starts, beside etcd with the same flags."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from kvorum.main import default_host
from tests.support import process
from tests.support.process import Member, Program

SAID = ("Running: ", "'data-dir' was empty; using default", "server has been already initialized")


def said(member: Member) -> list[str]:
    """Which of the messages were logged, in order."""
    return [record["msg"] for record in member.log_records() if record["msg"] in SAID]


@pytest.mark.parametrize("program", [process.etcd, process.kvorum])
def test_first_and_second_start(program: Callable[[], Program], tmp_path: Path) -> None:
    with Member(program(), tmp_path / "x.etcd", env={"ETCD_MAX_WALS": "7", "ETCD_FOO": "1"}) as member:
        assert said(member) == ["Running: "]
        first = [record["msg"] for record in member.log_records()[:3]]
        assert first[0] == "recognized and used environment variable"
        assert first[1] == "unrecognized environment variable"
        member.restart()
        assert said(member) == ["Running: ", "server has been already initialized"]


@pytest.mark.parametrize("program", [process.etcd, process.kvorum])
def test_data_dir_named_after_the_member(program: Callable[[], Program], tmp_path: Path) -> None:
    with Member(program(), tmp_path / "x.etcd", flags=["--data-dir="], name="who") as member:
        assert said(member) == ["Running: ", "'data-dir' was empty; using default"]
        assert (tmp_path / "who.etcd" / "member").is_dir()


def test_outputs_and_levels(tmp_path: Path) -> None:
    log = tmp_path / "log"
    flags = [f"--log-outputs={log},stderr", "--log-level=debug", "--raft-read-timeout=9s"]
    with Member(process.kvorum(), tmp_path / "x.etcd", flags=flags) as member:
        member.stop()
        lines = log.read_text().splitlines()
        assert lines == [line for line in member.log_lines if line.startswith("{")]
        records = [json.loads(line) for line in lines]
        (harmless,) = [record for record in records if record["msg"] == "flag has no effect" and
                       record["flag"] == "--raft-read-timeout"]  # fmt: skip
        assert harmless["reason"]


def test_console_form(tmp_path: Path) -> None:
    with Member(process.kvorum(), tmp_path / "x.etcd", flags=["--log-format=console"]) as member:
        stamp, level, caller, message, fields = member.log_lines[0].split("\t")
        assert stamp.endswith("Z") or stamp[-5] in "+-"
        assert (level, message) == ("info", "Running: ")
        assert caller.startswith("kvorum/main.py:")
        assert json.loads(fields)["args"][0] == "kvorum"


def test_default_host_is_an_address_or_nothing() -> None:
    host = default_host()
    assert not host or host.count(".") == 3
