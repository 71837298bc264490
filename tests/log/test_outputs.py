"""Descriptors, files, rotation, the journal; and that none of them harms the server."""

import gzip
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from kvorum.log_outputs import (
    FdOutput,
    FileOutput,
    JournalOutput,
    RotatingFileOutput,
    RotationConfig,
    open_outputs,
)
from kvorum.logging import ERROR, FATAL, INFO, Logger

MEGABYTE = 1024 * 1024


def test_a_closed_pipe_loses_lines_only() -> None:
    reading, writing = os.pipe()
    output = FdOutput(writing)
    output.write(INFO, b"one\n")
    os.close(reading)
    output.write(INFO, b"two\n")
    assert output.dropped == 1
    os.close(writing)
    output.write(INFO, b"three\n")
    assert output.dropped == 2


def test_a_full_pipe_loses_lines_and_keeps_them_apart() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    output = FdOutput(writing)
    line = b"x" * 9999 + b"\n"
    while not output.dropped:
        output.write(INFO, line)
    read = os.read(reading, 1 << 20)
    output.write(INFO, b"after\n")
    read += os.read(reading, 1 << 20)
    os.close(reading)
    os.close(writing)
    assert read.endswith(b"\nafter\n")
    assert set(read.split(b"\n")[:-2]) <= {line[:-1], read.split(b"\n")[-3]}


def test_a_process_with_a_closed_stderr_goes_on() -> None:
    code = (
        "import os; from kvorum.logging import Logger; from kvorum.log_outputs import FdOutput\n"
        "os.close(2); log = Logger([FdOutput(2)]); log.info('x'); print('alive')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "alive\n"


def test_files_are_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"before\n")
    for _ in range(2):
        (output,) = open_outputs([str(path)])
        assert isinstance(output, FileOutput)
        output.write(INFO, b"line\n")
        assert output.dropped == 0
    assert path.read_bytes() == b"before\nline\nline\n"
    (tmp_path / "new").touch()
    with pytest.raises(NotADirectoryError):
        open_outputs([str(path / "x")])


def test_several_outputs(tmp_path: Path) -> None:
    names = [str(tmp_path / "a"), str(tmp_path / "b"), str(tmp_path / "a"), "stderr", "stdout"]
    outputs = open_outputs(names)
    assert len(outputs) == 4
    Logger(outputs[:2]).info("x")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() != b""


def test_discarding() -> None:
    assert open_outputs(["stderr", "/dev/null"]) == []


@pytest.mark.parametrize(
    ("names", "rotated", "message"),
    [
        (["a", "default"], False, 'multi logoutput for "default" is not supported yet'),
        (["a", "systemd/journal"], False, "running with systemd/journal but other"),
        (["stderr"], True, "--log-outputs requires a single file path when"),
        (["a", "b"], True, "--log-outputs requires a single file path when"),
        (["systemd/journal"], False, "can't find journal (/no/such"),
    ],
)
def test_names_that_do_not_go_together(names: list[str], rotated: bool, message: str) -> None:
    with pytest.raises(ValueError, match=r"log|journal") as caught:
        open_outputs(names, RotationConfig() if rotated else None, journal_socket="/no/such")
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "improperly formatted log rotation config: "),
        ("[]", "invalid log rotation config: it must be a JSON object"),
        ('{"maxsize": "a"}', 'invalid log rotation config: "maxsize" must be a number'),
        ('{"compress": 1}', 'invalid log rotation config: "compress" must be true or false'),
    ],
)
def test_wrong_rotation(text: str, message: str) -> None:
    with pytest.raises(ValueError, match="log rotation") as caught:
        RotationConfig.parse(text)
    assert str(caught.value).startswith(message)


def test_rotation_config() -> None:
    config = RotationConfig.parse('{"MaxSize": 1, "compress": true, "unknown": 1}')
    assert config == RotationConfig(maxsize=1, compress=True)


class Clock:
    """A clock that moves a second with every look."""

    def __init__(self) -> None:
        self.now = 1638352800.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


def rotate(path: Path, config: RotationConfig, lines: int) -> RotatingFileOutput:
    output = RotatingFileOutput(str(path), config, clock=Clock())
    for number in range(lines):
        output.write(INFO, f"{number}".encode() * 1 + b"." * (MEGABYTE // 2) + b"\n")
    output.wait_for_cleanup()
    assert output.dropped == 0
    return output


def test_a_full_file_is_renamed(tmp_path: Path) -> None:
    rotate(tmp_path / "sub" / "etcd.log", RotationConfig(maxsize=1), 3)
    names = sorted(path.name for path in (tmp_path / "sub").iterdir())
    assert names == ["etcd-2021-12-01T10-00-01.000.log", "etcd-2021-12-01T10-00-02.000.log", "etcd.log"]
    assert (tmp_path / "sub" / "etcd.log").read_bytes().startswith(b"2.")
    assert (tmp_path / "sub" / names[0]).read_bytes().startswith(b"0.")


def test_an_old_file_is_continued(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"x" * (MEGABYTE - 3))
    output = RotatingFileOutput(str(path), RotationConfig(maxsize=1))
    output.write(INFO, b"ab\n")
    assert path.stat().st_size == MEGABYTE
    output.write(INFO, b"c\n")
    assert path.read_bytes() == b"c\n"


def test_old_files_go_and_are_compressed(tmp_path: Path) -> None:
    rotate(tmp_path / "etcd.log", RotationConfig(maxsize=1, maxbackups=2, compress=True), 6)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert len(names) == 3
    assert names[:2] == ["etcd-2021-12-01T10-00-04.000.log.gz", "etcd-2021-12-01T10-00-05.000.log.gz"]
    assert gzip.decompress((tmp_path / names[1]).read_bytes()).startswith(b"4.")


def test_files_of_age_go(tmp_path: Path) -> None:
    old = tmp_path / "etcd-2001-01-01T00-00-00.000.log"
    old.touch()
    os.utime(old, (0, 0))
    foreign = tmp_path / "other.log"
    foreign.touch()
    os.utime(foreign, (0, 0))
    rotate(tmp_path / "etcd.log", RotationConfig(maxsize=1, maxage=1), 2)
    assert not old.exists()
    assert foreign.exists()


def test_a_folder_that_vanishes_loses_lines_only(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "log"
    output = RotatingFileOutput(str(path), RotationConfig(maxsize=1))
    output.write(INFO, b"x" * MEGABYTE)
    path.unlink()
    path.parent.rmdir()
    output.write(INFO, b"lost\n")
    output.write(INFO, b"lost\n")
    assert output.dropped == 2


def test_the_journal(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    fallback_reading, fallback = os.pipe()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(path)
        output = JournalOutput(FdOutput(fallback), socket_path=path, identifier="kvorum")
        for level in (INFO, ERROR, FATAL):
            output.write(level, b'{"a":1}\n')
        got = [journal.recv(1 << 16) for _ in range(3)]
    assert got[0] == (
        b'PRIORITY=6\nSYSLOG_IDENTIFIER=kvorum\nMESSAGE\n\x07\x00\x00\x00\x00\x00\x00\x00{"a":1}\n'
    )
    assert got[1].startswith(b"PRIORITY=3\n")
    assert got[2].startswith(b"PRIORITY=2\n")
    output.write(INFO, b"the journal has gone\n")
    assert os.read(fallback_reading, 100) == b"the journal has gone\n"
    output.close()
    os.close(fallback)
    os.close(fallback_reading)


def test_lines_of_several_processes_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "log"
    code = (
        "import sys; from kvorum.logging import Logger; from kvorum.log_outputs import open_outputs\n"
        "log = Logger(open_outputs([sys.argv[1]]), sample=False)\n"
        "for n in range(300): log.info('x' * 500, n=n)"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, str(path)]) for _ in range(2)]
    assert [process.wait() for process in running] == [0, 0]
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert sorted(line["n"] for line in lines) == sorted([*range(300), *range(300)])
