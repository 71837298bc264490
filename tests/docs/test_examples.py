"""The examples are what README.md shows, and they print what it says.

The suite must pass where there are only Python, make and a package index. So the Node example is run where
``node`` and ``npm`` are, and where npm can install the client; otherwise the test says why it was not, on the
terminal. With ``CI=true`` a client that cannot be installed fails. The Python example is always run.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.docs import shell
from tests.docs.pages import ROOT, Command, blocks, matches, page, page_commands
from tests.support.process import Member

EXAMPLES = sorted(ROOT.glob("examples/*_client.*"))
INSTALL_SECONDS = 240.0


def commands_below(heading: str) -> tuple[Command, Command]:
    install, run = page_commands(page("README.md"), frozenset({heading}))
    return install, run


def test_the_readme_shows_each_example_whole() -> None:
    shown = dict(re.findall(r"^<!-- (examples/\S+) -->\n```\w+\n(.*?)^```$", page("README.md"), re.M | re.S))
    assert shown == {str(path.relative_to(ROOT)): path.read_text() for path in EXAMPLES}
    languages = {
        block.heading: block.language for block in blocks(page("README.md")) if block.text in shown.values()
    }
    assert languages == {"From Python": "python", "From Node": "js"}


def run_example(command: Command, member: Member, directory: Path, extra: Mapping[str, str]) -> None:
    """Run the README's command on a copy of the example that differs in the port only."""
    program, name = command.text.split()
    text = (ROOT / name).read_text()
    assert text.count("2379") == 1
    example = directory / Path(name).name
    example.write_text(text.replace("2379", str(member.client_port)))
    environment = shell.variables(member.client_port, member.peer_port, directory) | dict(extra)
    (directory / "run").mkdir()
    (printed,) = shell.outputs([f"{program} {example}"], directory / "run", environment)
    assert matches(command.output, printed), printed


def installed(words: list[str], directory: Path) -> str | None:
    """Run an installer, with the settings of whoever runs the tests; its complaint if it fails."""
    try:
        done = subprocess.run(
            words, cwd=directory, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return f"{words[0]} did not end in {INSTALL_SECONDS:g} s"
    return None if done.returncode == 0 else done.stdout + done.stderr


def test_the_python_example(kvorum: Member, tmp_path: Path) -> None:
    """The client goes into a folder of its own; grpcio and protobuf, which it needs, are ours."""
    install, run = commands_below("From Python")
    pip, verb, *wanted = install.text.split()
    assert (pip, verb) == ("pip", "install")
    site = tmp_path / "site"
    words = [
        sys.executable,
        "-m",
        pip,
        verb,
        "-q",
        "--disable-pip-version-check",
        "--no-deps",
        "--target",
        str(site),
    ]
    complaint = installed([*words, *wanted], tmp_path)
    assert complaint is None, complaint
    run_example(run, kvorum, tmp_path, {"PYTHONPATH": str(site)})


def test_the_node_example(kvorum: Member, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    install, run = commands_below("From Node")
    reason = _install_node_client(install, tmp_path)
    if reason is None:
        run_example(run, kvorum, tmp_path, {"PATH": os.environ["PATH"]})
        return
    assert os.environ.get("CI") != "true" or not reason.startswith("npm"), reason
    with capfd.disabled():
        sys.stderr.write(f"\nexamples/node_client.js was compared with README.md and not run: {reason}\n")


def _install_node_client(install: Command, directory: Path) -> str | None:
    """Install what the README says; why that is not possible, or None."""
    missing = [program for program in ("node", "npm") if shutil.which(program) is None]
    if missing:
        return f"this machine has no {' and no '.join(missing)}"
    (directory / "package.json").write_text("{}")
    options = ["--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
    complaint = installed([*install.text.split(), *options], directory)
    return complaint and f"npm could not install the client: {complaint}"
