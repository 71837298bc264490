"""README.md and docs/operations.md do what they say."""

import re
import subprocess
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.docs import shell
from tests.docs.pages import ELLIPSIS, ROOT, Block, Command, blocks, commands, matches, page, page_commands
from tests.support.ports import free_port
from tests.support.process import clean_environment

TOUR = frozenset({"A tour of two minutes"})
PAGES = sorted(
    str(path.relative_to(ROOT))
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("bench/*.md"))
)


def test_each_command_of_a_page_is_run_somewhere() -> None:
    """A block with commands in a new place would otherwise run nowhere."""
    ran = {*TOUR, "From Python", "From Node"}
    assert {block.heading for block in blocks(page("README.md")) if block.language == "console"} == ran
    for name in PAGES:
        for block in blocks(page(name)):
            if block.language == "console":
                assert name in ("README.md", "docs/operations.md"), f"{name}:{block.line}: is not run"
            if block.language in ("sh", "bash"):
                assert name == "README.md", f"{name}:{block.line}: is not run"


def test_the_two_commands() -> None:
    """They would run this suite, and a server on the default port: make shows what it would do."""
    (block,) = (block for block in blocks(page("README.md")) if block.language == "sh")
    would_do = []
    for line in block.text.splitlines():
        done = subprocess.run(
            [*line.split(), "--dry-run"],
            cwd=ROOT,
            env=clean_environment(),
            capture_output=True,
            text=True,
            check=True,
        )
        would_do.append(done.stdout)
    assert re.search(r"^exec \.venv/bin/kvorum$", would_do[0], re.MULTILINE)
    assert re.search(r"^\.venv/bin/python -m pytest", would_do[1], re.MULTILINE)


@pytest.mark.parametrize("program", ["etcdctl", "kvorumctl"])
def test_the_tour(program: str, tmp_path: Path) -> None:
    """On a member as ``make run`` starts it, but for the port."""
    tour = page_commands(page("README.md").replace("etcdctl ", f"{program} "), TOUR)
    assert len(tour) >= 10
    started = [Command("kvorum 2>kvorum.log &", "", 0), Command("kvorumctl endpoint health", ELLIPSIS, 0)]
    port = free_port()
    environment = shell.variables(port, free_port(), tmp_path)
    shell.check([*started, *tour], tmp_path / "tour", port, environment)


def test_operations(tmp_path: Path) -> None:
    text = page_commands(page("docs/operations.md"))
    assert len(text) >= 30
    port = free_port()
    shell.check(text, tmp_path / "operations", port, shell.variables(port, free_port(), tmp_path))


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name: str) -> None:
    text = page(name)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?://", target):
            continue
        path, _, anchor = unquote(target).partition("#")
        file = (ROOT / name).parent / path if path else ROOT / name
        assert file.exists(), f"{name}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", line.lower()).replace(" ", "-") for line in headings}


def test_the_changelog_knows_this_version() -> None:
    from kvorum import __version__

    text = page("CHANGELOG.md")
    assert f"## [{__version__}]" in text or ("## [Unreleased]" in text and __version__ in text)


def test_failpoint_actions_are_those_of_the_code() -> None:
    from kvorum import failpoint

    table = page("docs/operations.md").partition("| action |")[2].partition("\n\n")[0]
    actions = re.findall(r"`(\w+(?:\(\w+\))?)`", table)
    assert len(actions) >= 5
    for action in actions:
        failpoint.configure(f"apply_before={action.replace('seconds', '1')}*0")
    failpoint.configure("")


# --- the helpers can fail ------------------------------------------------------------


@pytest.mark.parametrize(
    ("expected", "actual", "same"),
    [
        ("OK\n", "OK\n", True),
        ("OK\n", "OK\nmore\n", False),
        ("", "Error\n", False),
        ("a ... c\n", "a b c\n", True),
        ("...\n│ keys │     3 │\n...\n", "┌\n│ keys  │     3 │\n└\n", True),
        ("...\n│ keys │     3 │\n...\n", "┌\n│ keys  │     4 │\n└\n", False),
        ("a.b", "axb", False),
    ],
)
def test_outputs_are_compared(expected: str, actual: str, same: bool) -> None:
    assert matches(expected, actual) is same


def test_a_wrong_page_is_noticed(tmp_path: Path) -> None:
    text = commands(Block("console", "$ echo a\na\n$ echo b >&2; false\nc\n", 7, "Nothing"))
    with pytest.raises(AssertionError, match="line 9"):
        shell.check(text, tmp_path / "wrong", 1, shell.variables(1, 2, tmp_path))
