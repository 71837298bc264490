"""kvorumctl in this process, etcdctl beside it, and members of etcd for both to talk to."""

import io
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from kvorum.ctl.main import main
from tests.support import process
from tests.support.process import Member


@dataclass(frozen=True)
class Done:
    """What a tool printed; ``error`` is stderr without etcdctl's log lines and its repetitions."""

    status: int
    stdout: bytes
    error: list[str]


Run = Callable[..., Done]


def said(stderr: str) -> list[str]:
    """The lines of stderr that are for people, each once."""
    lines = [line for line in stderr.splitlines() if line and not line.startswith("{")]
    return list(dict.fromkeys(lines))


@pytest.fixture
def kvorumctl(capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run kvorumctl with these words."""

    def run(*words: str, stdin: bytes = b"", variables: Mapping[str, str] | None = None) -> Done:
        capfdbinary.readouterr()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
            for name, value in (variables or {}).items():
                patch.setenv(name, value)
            status = main(words)
        captured = capfdbinary.readouterr()
        return Done(status, captured.out, said(captured.err.decode()))

    return run


@pytest.fixture(scope="session")
def etcds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Member]]:
    """Two members of etcd, each a cluster of its own."""
    folder: Path = tmp_path_factory.mktemp("etcds")
    members = [Member(process.etcd(), folder / name) for name in ("a.etcd", "b.etcd")]
    try:
        for member in members:
            member.start(wait=False)
        for member in members:
            member.wait_ready()
        yield members
    finally:
        for member in members:
            member.close()
