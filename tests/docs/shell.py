"""Runs a page's commands as a reader would: one bash, one directory, one after the other.

What is not as on the page: the port (the page's is 2379), and whatever the caller replaces. Nothing else: the
programs are those of this environment, found through PATH.
"""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.docs.pages import Command, matches
from tests.support.process import clean_environment

RUN_SECONDS: Final = 120.0
_MARK: Final = "@@end@@"
_HEAD: Final = f"""
trap 'kill $(jobs -p) 2>/dev/null' EXIT
mark() {{ local status=$?; echo {_MARK}; return $status; }}
"""
_ABOUT_JOBS: Final = re.compile(r"^\S+: line \d+: +\d+ (?:Killed|Terminated).*\n?", re.MULTILINE)


def variables(port: int, peer_port: int, home: Path) -> dict[str, str]:
    """Settings that put members and clients on this port, and our programs first."""
    url = f"http://127.0.0.1:{port}"
    return {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(home),
        "ETCD_LISTEN_CLIENT_URLS": url,
        "ETCD_ADVERTISE_CLIENT_URLS": url,
        "ETCD_LISTEN_PEER_URLS": f"http://127.0.0.1:{peer_port}",
        "ETCDCTL_ENDPOINTS": f"127.0.0.1:{port}",
        # A reader is slower than a script: give a member that was just started time to answer.
        "ETCDCTL_COMMAND_TIMEOUT": "15s",
        "ETCDCTL_DIAL_TIMEOUT": "15s",
    }


def outputs(commands: Sequence[str], directory: Path, extra: Mapping[str, str]) -> list[str]:
    """Run the commands in one shell; what each printed, both streams together."""
    script = directory.with_suffix(".sh")
    marked = "".join(f"{{ {command}\n}} 2>&1 </dev/null\nmark\n" for command in commands)
    script.write_text(_HEAD + marked)
    with subprocess.Popen(
        ["bash", str(script)],
        cwd=directory,
        env=clean_environment() | dict(extra),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as process:
        try:
            printed, _ = process.communicate(timeout=RUN_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # the session that was started above
            printed, _ = process.communicate()
            raise AssertionError(f"not done in {RUN_SECONDS:g} s: {printed.decode()}") from None
    found = _ABOUT_JOBS.sub("", printed.decode()).split(f"{_MARK}\n")
    assert len(found) == len(commands) + 1, f"the shell ended early: {printed.decode()}"
    return found[:-1]


def check(commands: Sequence[Command], directory: Path, port: int, extra: Mapping[str, str]) -> None:
    """Run the commands and compare what they print with the page."""
    directory.mkdir()
    here = [command.text.replace("2379", str(port)) for command in commands]
    for command, actual in zip(commands, outputs(here, directory, extra), strict=True):
        expected = command.output.replace("2379", str(port))
        assert matches(expected, actual), f"line {command.line}: $ {command.text}\n{expected}---\n{actual}"
