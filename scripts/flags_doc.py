"""Write the table of flags in docs/configuration.md from the code's own table (``--check``: only compare).

The page's words are written by hand; what stands between the two marks is made here.
"""

import sys
from pathlib import Path

from kvorum.flag_support import HARMLESS, NOT_THERE_YET
from kvorum.flag_table import DOCUMENTED, TWINS
from kvorum.flags import Flag

PAGE = Path(__file__).resolve().parent.parent / "docs" / "configuration.md"
BEGIN, END = "<!-- flags: made by scripts/flags_doc.py -->\n", "<!-- end of flags -->\n"


def table() -> str:
    """Return the tables of all groups."""
    groups: dict[str, list[Flag]] = {}
    for flag in DOCUMENTED:
        groups.setdefault(flag.group, []).append(flag)
    parts = []
    for group, flags in groups.items():
        rows = [_row(flag) for flag in flags]
        head = "| flag | default | what | here |\n|---|---|---|---|\n"
        parts.append(f"### {group[0].upper()}{group[1:]}\n\n{head}{''.join(rows)}")
    return "\n".join(parts)


def _row(flag: Flag) -> str:
    default = flag.shown_default or flag.default
    shown = f"`{default}`" if default else ""
    return f"| `--{flag.name}` | {shown} | {flag.help.replace('|', chr(92) + '|')} | {_here(flag.name)} |\n"


def _here(name: str) -> str:
    if name in TWINS:
        return f"sets `--{TWINS[name]}`"
    if name in NOT_THERE_YET:
        return f"refused: {NOT_THERE_YET[name]}"
    return f"no effect: {HARMLESS[name]}" if name in HARMLESS else "yes"


def page_with_table(page: str) -> str:
    """Return the page with a fresh table between the marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def main() -> int:
    """Write the page, or compare it; returns the exit status."""
    page = PAGE.read_text()
    fresh = page_with_table(page)
    if "--check" in sys.argv[1:]:
        return int(page != fresh)
    PAGE.write_text(fresh)
    return 0


if __name__ == "__main__":
    sys.exit(main())
