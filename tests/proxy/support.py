"""Proxies as real processes, ours and etcd's, started with the same flags."""

import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, final

from tests.support.ports import free_port
from tests.support.process import Program, clean_environment, etcd, kvorum

WAIT_SECONDS: Final = 30.0
PROGRAMS: Final = (kvorum(), etcd())


@final
class Proxy:
    """A process that is no member; its log is read to the end."""

    def __init__(self, command: Sequence[str], directory: Path) -> None:
        self.lines: Final[list[str]] = []
        self._changed: Final = threading.Condition()
        self._ended = False
        self.process: Final = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=clean_environment(),
            cwd=directory,
        )
        self._reader: Final = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_log(self, text: str) -> str:
        """The first line that contains ``text``."""
        end = time.monotonic() + WAIT_SECONDS
        with self._changed:
            while True:
                for line in self.lines:
                    if text in line:
                        return line
                left = end - time.monotonic()
                assert left > 0 and not self._ended, (text, self.lines[-40:])  # noqa: PT018
                self._changed.wait(left)

    def close(self) -> int:
        """End it with SIGTERM; its status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            self._reader.join()
            assert self.process.stdout is not None
            self.process.stdout.close()
        return status

    def _read(self) -> None:
        assert self.process.stdout is not None
        for raw in self.process.stdout:
            with self._changed:
                self.lines.append(raw.decode(errors="replace").rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()


@contextmanager
def _running(program: Program, arguments: Sequence[str], directory: Path, ready: str) -> Iterator[Proxy]:
    proxy = Proxy([*program.command, *arguments], directory)
    try:
        proxy.wait_log(ready)
        yield proxy
    except BaseException:
        print("\n".join(proxy.lines[-60:]))  # noqa: T201 - shown by pytest
        raise
    finally:
        proxy.close()


@contextmanager
def http_proxy(
    program: Program, directory: Path, initial_cluster: str, *flags: str, mode: str = "on"
) -> Iterator[str]:
    """Run a v2 proxy; its URL."""
    url = f"http://127.0.0.1:{free_port()}"
    arguments = [
        f"--proxy={mode}",
        f"--data-dir={directory / 'proxy-data'}",
        f"--listen-client-urls={url}",
        f"--advertise-client-urls={url}",
        f"--initial-cluster={initial_cluster}",
        *flags,
    ]
    with _running(program, arguments, directory, "v2 proxy started listening on client requests"):
        yield url


@contextmanager
def gateway(program: Program, directory: Path, endpoints: str, *flags: str) -> Iterator[str]:
    """Run a TCP gateway; its address."""
    address = f"127.0.0.1:{free_port()}"
    arguments = ["gateway", "start", f"--listen-addr={address}", f"--endpoints={endpoints}", *flags]
    with _running(program, arguments, directory, "ready to proxy client requests"):
        yield address


@contextmanager
def grpc_proxy(program: Program, directory: Path, endpoints: str, *flags: str) -> Iterator[str]:
    """Run a v3 proxy; its address."""
    address = f"127.0.0.1:{free_port()}"
    arguments = [
        "grpc-proxy", "start", f"--listen-addr={address}", f"--endpoints={endpoints}",
        f"--advertise-client-url={address}", *flags,
    ]  # fmt: skip
    with _running(program, arguments, directory, "started gRPC proxy"):
        yield address


def ask(
    url: str, method: str = "GET", body: bytes | None = None, timeout: float = 10
) -> tuple[int, bytes, dict[str, str]]:
    """Make an HTTP request: status, body, headers in lower case."""
    request = urllib.request.Request(url, data=body, method=method)
    if body is not None:
        request.add_header("Content-Type", "application/x-www-form-urlencoded")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=timeout) as answer:
            return answer.status, answer.read(), {k.lower(): v for k, v in answer.headers.items()}
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(), {k.lower(): v for k, v in error.headers.items()}
