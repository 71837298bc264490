"""The official etcdctl 3.5.1, run as users run it."""

import json
import subprocess
from dataclasses import dataclass
from typing import Any, Final, final

from tests.support.process import clean_environment, distro_binary

RUN_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Output:
    """What a command printed and its exit status."""

    stdout: str
    stderr: str
    status: int


@final
class Etcdctl:
    """etcdctl bound to one endpoint (``host:port``, or several joined by commas)."""

    def __init__(self, endpoint: str, *flags: str) -> None:
        self.endpoint: Final = endpoint
        self.flags: Final = flags

    def run(self, *args: str, stdin: str = "", check: bool = True) -> Output:
        """Run ``etcdctl <args>``; with ``check`` a status other than 0 fails with what it printed."""
        command = [distro_binary("etcdctl"), f"--endpoints={self.endpoint}", *self.flags, *args]
        done = subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS,
            env=clean_environment(),
            check=False,
        )
        assert not check or done.returncode == 0, (args, done.returncode, done.stdout, done.stderr)
        return Output(done.stdout, done.stderr, done.returncode)

    def json(self, *args: str, stdin: str = "") -> Any:
        """Run with ``-w json`` and return what it printed, parsed."""
        return json.loads(self.run(*args, "-w", "json", stdin=stdin).stdout)
