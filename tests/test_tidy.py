"""What a reviewer would otherwise have to look for: the source, held against the tables in ``tests/tidy``.

Every offence of a kind is listed at once, as ``file:line: what (why)``.
"""

import ast
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

import pytest

from tests.tidy import rules
from tests.tidy.rules import COMMON, ROOMS, Long
from tests.tidy.source import (
    PACKAGE,
    ROOT,
    functions,
    imports,
    in_package,
    is_room,
    modules,
    name_of,
    parsed,
    room_named,
    room_of,
    text_of,
    tree,
)

SOURCE: Final = modules("src/kvorum")
PYTHON: Final = (*SOURCE, *modules("tests"), *modules("bench"), *modules("scripts"))


def none_of(offences: Iterable[str]) -> None:
    """Fail with the whole list."""
    listed = list(offences)
    assert not listed, "\n" + "\n".join(listed)


def matches(pattern: str, files: Iterable[Path]) -> Iterator[tuple[Path, int, str]]:
    """Yield file, line number and text of each line in which the pattern is found."""
    search = re.compile(pattern).search
    for path in files:
        for number, line in enumerate(text_of(path).splitlines(), 1):
            if search(line):
                yield path, number, line.strip()


# --- who may import whom ----------------------------------------------------------------------------------


def test_rooms_import_only_what_their_line_allows() -> None:
    def offences() -> Iterator[str]:
        for path in SOURCE:
            room = room_of(path)
            if room in COMMON or room == "__init__":
                allowed, reason = COMMON | {"proto"}, "a leaf knows no room"
            else:
                allowed, reason = ROOMS[room].may_import | COMMON | {room}, ROOMS[room].reason
            for line, name in imports(path):
                parts = name.split(".")
                inside = parts[0] == "kvorum" and len(parts) > 1 and is_room(parts[1])
                if inside and room_named(parts[1]) not in allowed:
                    yield f"{name_of(path)}:{line}: imports {name} ({room}: {reason})"

    assert {room_of(path) for path in SOURCE} - COMMON - {"__init__"} <= set(ROOMS), "a room without a line"
    none_of(offences())


def test_only_the_assembly_imports_the_shells_above_the_server() -> None:
    none_of(
        f"{name_of(path)}:{line}: imports {name} (only {', '.join(rules.ASSEMBLY)} assemble the shells)"
        for path in SOURCE
        if room_of(path) == "server" and in_package(path) not in rules.ASSEMBLY
        for line, name in imports(path)
        if name.startswith(("kvorum.api", "kvorum.rpc"))
    )


@pytest.mark.parametrize("core", rules.CORES, ids=lambda core: core.prefixes[0])
def test_cores_import_no_world(core: rules.Core) -> None:
    none_of(
        f"{name_of(path)}:{line}: imports {name} ({core.reason})"
        for path in SOURCE
        if in_package(path).startswith(core.prefixes)
        for line, name in imports(path)
        if name.split(".")[0] in core.banned
    )


@pytest.mark.parametrize("rule", rules.ONLY_IN, ids=lambda rule: rule.pattern)
def test_things_that_stand_in_one_place_only(rule: rules.OnlyIn) -> None:
    files = [path for path in SOURCE if not rule.places or not in_package(path).startswith(rule.places)]
    none_of(
        f"{name_of(path)}:{line}: {text} ({rule.reason})" for path, line, text in matches(rule.pattern, files)
    )


# --- size --------------------------------------------------------------------------------------------------


def _ratchet(lengths: Mapping[str, int], limit: Callable[[str], int], exceptions: Mapping[str, Long]) -> None:
    """Hold lengths below the limit; an exception has a ceiling of its own and goes when it isn't needed."""

    def offences() -> Iterator[str]:
        for name, lines in lengths.items():
            ceiling = exceptions[name].lines if name in exceptions else limit(name)
            if lines > ceiling:
                yield f"{name}: {lines} lines, {ceiling} allowed"
        for name in exceptions:
            if lengths.get(name, 0) <= limit(name):
                yield f"{name}: is listed as too long and isn't; take it off the list"

    none_of(offences())


def _is_test(name: str) -> bool:
    return name.startswith("tests/")


def test_files_are_short() -> None:
    _ratchet(
        {name_of(path): text_of(path).count("\n") for path in PYTHON},
        lambda name: rules.MAX_TEST_FILE_LINES if _is_test(name) else rules.MAX_FILE_LINES,
        rules.LONG_FILES,
    )


def test_functions_are_short() -> None:
    _ratchet(
        {f"{name_of(path)}::{name}": lines for path in PYTHON for name, lines in functions(path)},
        lambda name: rules.MAX_TEST_FUNCTION_LINES if _is_test(name) else rules.MAX_FUNCTION_LINES,
        rules.LONG_FUNCTIONS,
    )


def test_the_ratchet_turns() -> None:
    listed = {"a": Long(20, "why")}
    _ratchet({"a": 15, "b": 10}, lambda _: 10, listed)
    for lengths in ({"a": 21}, {"a": 10}, {"a": 15, "b": 11}, {}):
        with pytest.raises(AssertionError):
            _ratchet(lengths, lambda _: 10, listed)


# --- words -------------------------------------------------------------------------------------------------


def test_a_type_ignore_names_its_error() -> None:
    none_of(
        f"{name_of(path)}:{line}: {text}"
        for path, line, text in matches(r"#\s*type:\s*ignore(?!\[)", PYTHON)
        if path != Path(__file__)
    )


def test_no_test_is_skipped_or_expected_to_fail() -> None:
    none_of(
        f"{name_of(path)}:{line}: {text}"
        for path, line, text in matches(r"\bpytest\.(?:mark\.)?(?:skip|skipif|xfail|importorskip)\b", PYTHON)
        if path != Path(__file__)
    )


def test_nothing_is_left_to_do() -> None:
    marks = r"\b(?:TO" + r"DO|FIX" + r"ME)\b"
    none_of(f"{name_of(path)}:{line}: {text}" for path, line, text in matches(marks, tree()))


def test_nothing_of_the_machine_it_was_written_on() -> None:
    places = (
        r"(?<![\w.])/(?:home|root|Users|work)/\w|\bfile:/"
        + r"/|pythonhosted|artifactory|(?:index|find)[-_]url\s*="
    )
    none_of(
        f"{name_of(path)}:{line}: {text[:100]}"
        for path, line, text in matches(places, tree())
        if path != Path(__file__)
    )


# --- documents and tables -----------------------------------------------------------------------------------


def test_every_package_says_what_it_is() -> None:
    none_of(
        f"{name_of(path)}: no docstring"
        for path in SOURCE
        if path.name == "__init__.py" and not ast.get_docstring(parsed(path))
    )


def test_every_package_and_test_folder_is_a_package() -> None:
    """Test modules of the same name in two folders need it, and so does ``from tests.support import …``."""
    none_of(
        f"{name_of(folder)}: no __init__.py"
        for folder in sorted({path.parent for path in (*SOURCE, *modules("tests"), *modules("bench"))})
        if not (folder / "__init__.py").exists()
    )


def _limits() -> Iterator[tuple[str, bool]]:
    """Yield each bound's name and whether text follows it."""
    body = parsed(PACKAGE / "limits.py").body
    for node, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            documented = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            yield node.target.id, documented
        else:
            assert not isinstance(node, ast.Assign), f"limits.py:{node.lineno}: bounds are `NAME: Final = …`"


def test_every_bound_has_a_reason_and_a_use() -> None:
    elsewhere = "\n".join(text_of(path) for path in SOURCE if in_package(path) != "limits.py")
    used = set(re.findall(r"\b[A-Z][A-Z0-9_]+\b", elsewhere))
    own = re.findall(
        r"\b[A-Z][A-Z0-9_]+\b", re.sub(r'"""(?s:.*?)"""|#.*', "", text_of(PACKAGE / "limits.py"))
    )

    def offences() -> Iterator[str]:
        for name, documented in _limits():
            if not documented:
                yield f"limits.{name}: no reason given below it"
            if name not in used and own.count(name) < 2:
                yield f"limits.{name}: used nowhere"

    none_of(offences())


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock"])
def test_locks_pin_everything_with_hashes(lock: str) -> None:
    text = (ROOT / lock).read_text()
    entries = re.split(
        r"\n(?=\S)", "\n".join(line for line in text.splitlines() if not line.strip().startswith("#"))
    )
    wanted = [entry for entry in entries if entry.strip()]
    assert wanted
    none_of(
        f"{lock}: {entry.splitlines()[0]}"
        for entry in wanted
        if not re.match(r"[\w.\[\]-]+==\S+ ", entry) or "--hash=sha256:" not in entry
    )
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = [*project["dependencies"], *project["optional-dependencies"]["build"]]
    if "dev" in lock:
        needed += project["optional-dependencies"]["dev"]
    names = {_normalized(re.split(r"[=\[]", entry.strip())[0]) for entry in wanted}
    assert {_normalized(re.split(r"[><=;\[ ]", need)[0]) for need in needed} <= names


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_targets_named_in_documents_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    none_of(
        f"{path.name}: make {target}"
        for path in sorted(ROOT.glob("*.md"))
        for target in re.findall(r"(?:`|^\s*\$?\s?)make ([a-z]+)", text_of(path), re.MULTILINE)
        if target not in targets
    )


def test_files_named_in_the_architecture_exist() -> None:
    """ARCHITECTURE.md walks the code; what it names in backticks as a path must be there."""
    named = re.findall(r"`((?:[a-z0-9_]+/)+(?:[a-z0-9_]+\.py)?)`", text_of(ROOT / "ARCHITECTURE.md"))
    assert named
    bases = (PACKAGE, ROOT, ROOT / "src")
    none_of(f"ARCHITECTURE.md: {name}" for name in named if not any((base / name).exists() for base in bases))
