"""Tables as etcdctl draws them: a centred header in capitals, cells to the right, ``+--+`` around.

Source of behaviour: the ``tablewriter`` package with etcdctl's settings.
"""

import textwrap
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Final

WRAP_COLUMNS: Final = 30
"""Cells with white space are broken at this width (tablewriter's default)."""


def render(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return the table, each line ended by a newline."""
    titles = [title.upper().replace("_", " ") for title in header]
    cells = [[_wrap(cell) for cell in row] for row in rows]
    widths = [
        max([_width(titles[column]), *(_width(line) for row in cells for line in row[column])])
        for column in range(len(titles))
    ]
    rule = "+" + "+".join("-" * (width + 2) for width in widths) + "+\n"
    lines = [rule, _line(_centred(title, width) for title, width in zip(titles, widths, strict=True)), rule]
    for row in cells:
        for index in range(max(len(cell) for cell in row)):
            texts = [cell[index] if index < len(cell) else "" for cell in row]
            lines.append(_line(_right(text, width) for text, width in zip(texts, widths, strict=True)))
    if rows:
        lines.append(rule)
    return "".join(lines)


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |\n"


def _wrap(cell: str) -> list[str]:
    words = cell.split()
    if not words:
        return [""]
    limit = max(WRAP_COLUMNS, *(len(word) for word in words))
    return textwrap.wrap(" ".join(words), limit, break_long_words=False, break_on_hyphens=False)


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(char) in "FW" else 1 for char in text)


def _centred(text: str, width: int) -> str:
    gap = width - _width(text)
    left = gap // 2
    return " " * left + text + " " * (gap - left)


def _right(text: str, width: int) -> str:
    return " " * (width - _width(text)) + text
