"""Go's command line syntax, and the table of flags against the facts."""

import csv
import re
from dataclasses import fields
from pathlib import Path

import pytest

import kvorum
from kvorum.config import Config, flag_of
from kvorum.flag_support import HARMLESS, NOT_THERE_YET
from kvorum.flag_table import DOCUMENTED, FLAGS, TWINS
from kvorum.flags import IGNORED, FlagError, parse_command_line

FACTS = Path(__file__).parents[2] / "facts" / "flags.csv"


def test_forms() -> None:
    line = parse_command_line(
        [
            "-name",
            "a",
            "--data-dir=b",
            "--pre-vote",
            "-force-new-cluster=F",
            "--wal-dir=",
            "rest",
            "--name=c",
        ],
        FLAGS,
    )
    assert dict(line.values) == {
        "name": "a",
        "data-dir": "b",
        "pre-vote": True,
        "force-new-cluster": False,
        "wal-dir": "",
    }
    assert line.rest == ("rest", "--name=c")


def test_two_dashes_end_the_flags() -> None:
    assert parse_command_line(["--name", "a", "--", "--name=b"], FLAGS).rest == ("--name=b",)


def test_one_dash_is_a_word() -> None:
    assert parse_command_line(["-", "--name=b"], FLAGS).rest == ("-", "--name=b")


def test_a_boolean_does_not_take_the_next_word() -> None:
    assert parse_command_line(["--pre-vote", "false"], FLAGS).rest == ("false",)


def test_the_last_value_counts() -> None:
    assert parse_command_line(["--name=a", "--name=b"], FLAGS).values["name"] == "b"


@pytest.mark.parametrize("word", ["-h", "--help", "-help"])
def test_help(word: str) -> None:
    assert parse_command_line([word, "--nonsense"], FLAGS).help


@pytest.mark.parametrize("word", ["--v", "--vv", "--force", "--snapshot=x"])
def test_flags_of_the_first_etcd_are_taken(word: str) -> None:
    assert not parse_command_line([word], FLAGS).rest


def test_empty_urls_leave_the_default() -> None:
    urls = parse_command_line(["--listen-client-urls="], FLAGS).values["listen-client-urls"]
    assert urls == FLAGS["listen-client-urls"].default_value


def test_errors_name_the_flag() -> None:
    with pytest.raises(FlagError, match=r"^flag needs an argument: -name$"):
        parse_command_line(["--name"], FLAGS)
    with pytest.raises(FlagError, match=r'^strconv|invalid value "x" for flag -max-concurrent-streams'):
        parse_command_line(["--max-concurrent-streams=x"], FLAGS)


def rows() -> list[dict[str, str]]:
    with FACTS.open() as file:
        return list(csv.DictReader(file))


OTHER_DEFAULTS = {"enable-v2": "true"}
"""Flags whose default is not etcd's, on purpose (docs/differences.md)."""


# The fact's group is empty for what only etcd 2.3 had.
def test_every_fact_is_in_the_table() -> None:
    for row in rows():
        flag = FLAGS[row["flag"]]
        shown = flag.shown_default or flag.default
        if row["flag"] in OTHER_DEFAULTS:
            assert shown == OTHER_DEFAULTS[row["flag"]] != row["default"], row["flag"]
            continue
        # a switch or number without a default in etcd's help is off
        assert shown == row["default"] or (not row["default"] and shown in ("false", "0")), row["flag"]
        if row["group"]:
            assert flag.group == row["group"], row["flag"]


SOURCE = Path(kvorum.__file__).parent
READ_THROUGH = {
    "quota_backend_bytes": "quota_bytes",
    "election_timeout_ms": "election_ticks",
    "wal_dir": "wal_path",
    "initial_cluster": "initial_members",
    "initial_cluster_state": "verify_bootstrap",
    "log_outputs": "open_log",
    "log_level": "open_log",
    "log_format": "open_log",
    "enable_log_rotation": "open_log",
    "log_rotation_config_json": "open_log",
}
"""Fields that others read through a property or method of `Config`."""


def obeyed() -> set[str]:
    """The flags whose fields some room reads."""
    modules = [path for path in SOURCE.rglob("*.py") if not path.name.startswith(("config", "flag"))]
    text = "\n".join(path.read_text() for path in modules)
    names = [field.name for field in fields(Config) if field.name not in ("values", "given")]
    return {flag_of(name) for name in names if re.search(rf"config\.{READ_THROUGH.get(name, name)}\b", text)}


def test_every_flag_has_one_fate() -> None:
    done = obeyed()
    elsewhere = set(TWINS) | {"debug", "config-file", "version"}
    for name, flag in FLAGS.items():
        if flag.kind != IGNORED:
            fates = [name in part for part in (done, NOT_THERE_YET, HARMLESS, elsewhere)]
            assert sum(fates) == 1, (name, fates)
    assert set(HARMLESS) | set(NOT_THERE_YET) | done <= set(FLAGS)


def test_every_flag_is_explained() -> None:
    assert all(flag.help.endswith(".") and flag.group for flag in DOCUMENTED)
    assert len({flag.name for flag in DOCUMENTED}) == len(DOCUMENTED)
