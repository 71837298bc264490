"""Fenced blocks of our Markdown pages, and the commands in them with what the page says they print."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
_FENCE: Final = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_HEADING: Final = re.compile(r"^#+ (.+)$", re.MULTILINE)
ELLIPSIS: Final = "..."


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: its language, its text, and the number of its first line in the page."""

    language: str
    text: str
    line: int
    heading: str


@dataclass(frozen=True, slots=True)
class Command:
    """A line after ``$ `` and what the page shows below it."""

    text: str
    output: str
    line: int


def page(name: str) -> str:
    return (ROOT / name).read_text()


def blocks(text: str) -> list[Block]:
    return [
        Block(
            match[1],
            match[2],
            text.count("\n", 0, match.start(2)) + 1,
            _HEADING.findall(text, 0, match.start())[-1],
        )
        for match in _FENCE.finditer(text)
    ]


def commands(block: Block) -> list[Command]:
    found: list[Command] = []
    for number, line in enumerate(block.text.splitlines(keepends=True), block.line):
        if line.startswith("$ "):
            found.append(Command(line[2:].rstrip("\n"), "", number))
        else:
            assert found, f"line {number}: a console block begins with a command"
            last = found.pop()
            found.append(Command(last.text, last.output + line, last.line))
    return found


def page_commands(text: str, headings: frozenset[str] | None = None) -> list[Command]:
    """Every command of a page's console blocks, or of those below the headings given."""
    return [
        command
        for block in blocks(text)
        if block.language == "console" and (headings is None or block.heading in headings)
        for command in commands(block)
    ]


def matches(expected: str, actual: str) -> bool:
    """Whether the output is the expected one, in which ``...`` stands for anything, of any number of lines.

    Runs of spaces and tabs are one space: tables are as wide as their contents.
    """
    parts = (re.escape(re.sub("[ \t]+", " ", part)) for part in expected.strip().split(ELLIPSIS))
    return re.fullmatch(".*".join(parts), re.sub("[ \t]+", " ", actual.strip()), re.DOTALL) is not None
