"""Paths of the tree: cleaned as Go's ``path.Clean`` does, and which are hidden."""


def clean(path: str) -> str:
    """The path from the root, without empty, ``.`` and ``..`` parts (Go ``path.Clean``)."""
    if path[:1] == "/" and "//" not in path and "/." not in path and (path[-1] != "/" or len(path) == 1):
        return path
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            if parts:
                parts.pop()
        elif part and part != ".":
            parts.append(part)
    return "/" + "/".join(parts)


def name_of(path: str) -> str:
    """The last part of a path."""
    return path[path.rindex("/") + 1 :]


def join(parent: str, name: str) -> str:
    """The path of a child."""
    return parent + name if parent == "/" else f"{parent}/{name}"


def is_hidden(watched: str, path: str) -> bool:
    """Whether someone who watches ``watched`` is not shown ``path``: a part below begins with ``_``.

    A watched path longer than ``path`` is one inside a directory that was deleted, which is shown.
    """
    if len(watched) > len(path):
        return False
    return "/_" in clean("/" + path[len(watched) :])
