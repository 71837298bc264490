"""The pages of docs/operating do what they say: each in a shell and a directory of its own."""

import os
import re
import sys
from pathlib import Path
from typing import Final
from urllib.parse import unquote

import pytest

from tests.docs.pages import ROOT, blocks, matches, page_commands
from tests.docs.shell import outputs
from tests.support.ports import free_port
from tests.support.process import distro_binary

pytestmark = pytest.mark.slow

PAGES: Final = ("bootstrap", "replace", "move", "rebuild", "migrate", "proxy")
_PORTS: Final = re.compile(r"\b[2345]?23(?:79|80)\b")
"""The pages' ports: 2379 and 2380, and the same of the second, third and fourth member."""


TOOLS: Final = {"move": "etcdctl"}
"""A page that is run with the official tool; the others with ours, as they stand."""


@pytest.mark.parametrize("name", PAGES)
def test_a_page(name: str, tmp_path: Path) -> None:
    text = (ROOT / "docs" / "operating" / f"{name}.md").read_text()
    commands = page_commands(text.replace("kvorumctl ", f"{TOOLS.get(name, 'kvorumctl')} "))
    assert len(commands) >= 10
    ports: dict[str, str] = {}

    def here(text: str) -> str:
        return _PORTS.sub(lambda found: ports.setdefault(found[0], str(free_port())), text)

    directory = tmp_path / name
    directory.mkdir()
    environment = {
        "PATH": os.pathsep.join(
            [str(Path(sys.executable).parent), str(Path(distro_binary("etcd")).parent), os.environ["PATH"]]
        ),
        "HOME": str(tmp_path),
        # A reader is slower than a script: give members that were just started time to answer.
        "ETCDCTL_COMMAND_TIMEOUT": "20s",
        "ETCDCTL_DIAL_TIMEOUT": "20s",
    }
    printed = outputs([here(command.text) for command in commands], directory, environment)
    for command, actual in zip(commands, printed, strict=True):
        expected = here(command.output)
        assert matches(expected, actual), f"line {command.line}: $ {command.text}\n{expected}---\n{actual}"


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name: str) -> None:
    path = ROOT / "docs" / "operating" / f"{name}.md"
    text = path.read_text()
    assert all(block.language in ("console", "") for block in blocks(text)), (
        "what is no console block is not run"
    )
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        file, _, anchor = unquote(target).partition("#")
        found = path.parent / file if file else path
        assert found.exists(), target
        headings = re.findall(r"^#+ (.+)$", found.read_text(), re.MULTILINE)
        known = {re.sub(r"[^\w -]", "", line.lower()).replace(" ", "-") for line in headings}
        assert not anchor or anchor in known, target
