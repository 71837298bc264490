"""docs/operating/discovery.md does what it says. The test brings the name server with the page's records."""

import os
import re
import sys
from pathlib import Path
from typing import Final

import pytest

from kvorum.discovery import errors
from tests.docs.pages import blocks, matches, page, page_commands
from tests.docs.shell import outputs
from tests.support.dns_server import DnsServer, Zone
from tests.support.ports import free_port

pytestmark = pytest.mark.slow

PAGE: Final = "docs/operating/discovery.md"
_PORTS: Final = re.compile(r"\b[2345]?23(?:79|80)\b")


def records(text: str) -> Zone:
    """The records that the page shows."""
    zone: Zone = {"localhost.": {"A": [["127.0.0.1"]]}}
    for line in text.splitlines():
        name, _, _, kind, *values = line.split()
        zone.setdefault(name, {}).setdefault(kind, []).append(list(values))
    return zone


def test_the_page(tmp_path: Path) -> None:
    ports: dict[str, str] = {}

    def here(text: str) -> str:
        return _PORTS.sub(lambda found: ports.setdefault(found[0], str(free_port())), text)

    text = page(PAGE)
    commands = page_commands(text)
    assert len(commands) >= 20
    (shown,) = (block.text for block in blocks(text) if block.language == "")
    directory = tmp_path / "discovery"
    directory.mkdir()
    with DnsServer(records(here(shown))) as server:
        environment = {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(tmp_path),
            # A reader is slower than a script: give members that were just started time to answer.
            "ETCDCTL_COMMAND_TIMEOUT": "20s",
            "ETCDCTL_DIAL_TIMEOUT": "20s",
            **server.environment,
        }
        printed = outputs([here(command.text) for command in commands], directory, environment)
    for command, actual in zip(commands, printed, strict=True):
        expected = here(command.output)
        assert matches(expected, actual), f"line {command.line}: $ {command.text}\n{expected}---\n{actual}"


def test_links_and_errors() -> None:
    text = page(PAGE)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        assert (Path(__file__).parents[2] / "docs" / "operating" / target).exists(), target
    for error in (
        errors.SizeNotFoundError(),
        errors.BadSizeError(),
        errors.BadEndpointError(),
        errors.DuplicateIdError(),
        errors.DuplicateNameError(),
        errors.FullClusterError(()),
    ):
        assert f"| `{error.reason}` |" in text
