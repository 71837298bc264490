"""Reading the tree: files, imports, functions."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

from tests.tidy.rules import GROUPS

ROOT: Final = Path(__file__).parents[2]
PACKAGE: Final = ROOT / "src" / "kvorum"
_SKIPPED: Final = frozenset({".git", ".venv", ".venv-lock", "default.etcd", "dist", "out", "__pycache__"})
_BINARY: Final = frozenset({".png", ".ico", ".db", ".wal", ".snap", ".gz", ".mdb"})


@cache
def tree() -> tuple[Path, ...]:
    """Return every text file that a checkout holds (and what is being added to it)."""
    found: list[Path] = []
    pending = [ROOT]
    while pending:
        for path in sorted(pending.pop().iterdir()):
            if path.is_dir():
                hidden_cache = path.name.startswith(".") and path.name != ".ci"
                if path.name not in _SKIPPED and not hidden_cache:
                    pending.append(path)
            elif path.suffix not in _BINARY:
                found.append(path)
    return tuple(found)


def name_of(path: Path) -> str:
    """Return a path from the root, as rules and messages name it."""
    return path.relative_to(ROOT).as_posix()


@cache
def modules(folder: str) -> tuple[Path, ...]:
    """Return the hand-written Python files below a folder of the root."""
    return tuple(
        path
        for path in tree()
        if path.suffix == ".py"
        and name_of(path).startswith(f"{folder}/")
        and not path.name.endswith("_pb2.py")
    )


@cache
def text_of(path: Path) -> str:
    """Return a file's text."""
    return path.read_text(encoding="utf-8")


@cache
def parsed(path: Path) -> ast.Module:
    """Return a file's syntax tree."""
    return ast.parse(text_of(path), name_of(path))


def in_package(path: Path) -> str:
    """Return a module's path below ``src/kvorum``."""
    return path.relative_to(PACKAGE).as_posix()


def room_of(path: Path) -> str:
    """Return the room a module of the package stands in: its folder, its group, or its own name."""
    return room_named(path.relative_to(PACKAGE).parts[0].removesuffix(".py"))


def room_named(name: str) -> str:
    """Return the room of a folder or module at the top of the package."""
    return next((room for prefix, room in GROUPS.items() if name.startswith(prefix)), name)


def is_room(name: str) -> bool:
    """Return whether a name in the package is a folder or module (and not something ``__init__`` defines)."""
    return (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").exists()


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and dotted name of everything imported, ``from a.b import c`` as ``a.b.c``."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}:{node.lineno}: imports are absolute"
            for alias in node.names:
                yield node.lineno, f"{node.module}.{alias.name}"


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Yield qualified name and length in lines (signature to end, docstring not counted) of each function."""
    yield from _functions(parsed(path), "")


def _functions(parent: ast.AST, outer: str) -> Iterator[tuple[str, int]]:
    for node in ast.iter_child_nodes(parent):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield outer + node.name, _lines(node)
            yield from _functions(node, f"{outer}{node.name}.")
        elif isinstance(node, ast.ClassDef):
            yield from _functions(node, f"{outer}{node.name}.")


def _lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    assert node.end_lineno is not None
    whole = node.end_lineno - node.lineno + 1
    if ast.get_docstring(node, clean=False) is None:
        return whole
    docstring = node.body[0]
    assert docstring.end_lineno is not None
    return whole - (docstring.end_lineno - docstring.lineno + 1)
