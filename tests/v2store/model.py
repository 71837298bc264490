"""A dumb twin of the store: a flat dict of paths, every answer worked out from scratch as a plain value.

What it answers is Python's form of etcd's JSON, so that comparing it holds the JSON as well.
"""

from typing import Any

Answer = dict[str, Any]
SECOND = 1_000_000_000


class RefusedError(Exception):
    """(code, cause)"""


class Entry:
    def __init__(self, value: str | None, index: int, expires: int) -> None:
        self.value = value
        self.created = self.modified = index
        self.expires = expires


class Model:
    """``value`` None is a directory. ``now`` is nanoseconds."""

    def __init__(self, now: int) -> None:
        self.now = now
        self.index = 0
        self.entries = {path: Entry(None, 0, 0) for path in ("/", "/0", "/1")}
        self.events: list[Answer] = []

    def refuse_root(self, path: str) -> None:
        if path in ("/", "/0", "/1"):
            raise RefusedError(107, "/")

    def find(self, path: str) -> Entry:
        parts = path.strip("/").split("/") if path != "/" else []
        for length in range(1, len(parts) + 1):
            above = "/" + "/".join(parts[: length - 1])
            here = "/" + "/".join(parts[:length])
            if self.entries[above].value is not None:
                raise RefusedError(104, above)
            if here not in self.entries:
                raise RefusedError(100, here)
        return self.entries[path]

    def show(self, path: str) -> Answer:
        entry = self.entries[path]
        shown: Answer = {"key": path}
        if entry.value is None:
            shown["dir"] = True
        else:
            shown["value"] = entry.value
        if entry.expires:
            left = entry.expires - self.now
            ttl = left // SECOND + (1 if left % SECOND else 0)
            shown["expires"] = entry.expires
            if ttl:
                shown["ttl"] = ttl
        if entry.modified:
            shown["modifiedIndex"] = entry.modified
        if entry.created:
            shown["createdIndex"] = entry.created
        return shown

    def children(self, path: str) -> list[str]:
        prefix = path.rstrip("/") + "/"
        return sorted(
            p for p in self.entries if p.startswith(prefix) and p != path and "/" not in p[len(prefix) :]
        )

    def get(self, path: str, recursive: bool) -> Answer:
        self.find(path)
        shown = self.show(path)
        self.list_into(shown, path, recursive)
        return {"action": "get", "node": shown}

    def list_into(self, shown: Answer, path: str, recursive: bool) -> None:
        nodes = []
        for child in self.children(path):
            if child.rsplit("/", 1)[1].startswith("_"):
                continue
            seen = self.show(child)
            if recursive:
                self.list_into(seen, child, True)
            nodes.append(seen)
        if nodes:
            shown["nodes"] = nodes

    def make(self, action: str, path: str, value: str | None, expires: int, replace: bool) -> Answer:
        self.refuse_root(path)
        parts = path[1:].split("/")
        for length in range(1, len(parts)):
            above = "/" + "/".join(parts[:length])
            if above in self.entries and self.entries[above].value is not None:
                raise RefusedError(104, above)
        prev = None
        if path in self.entries:
            if not replace:
                raise RefusedError(105, path)
            if self.entries[path].value is None:
                raise RefusedError(102, path)
            prev = self.show(path)
        self.index += 1
        for length in range(1, len(parts)):
            self.entries.setdefault("/" + "/".join(parts[:length]), Entry(None, self.index, 0))
        self.entries[path] = Entry(value, self.index, expires)
        return self.happened(action, self.show(path), prev)

    def happened(self, action: str, node: Answer, prev: Answer | None) -> Answer:
        event: Answer = {"action": action, "node": node}
        if prev is not None:
            event["prevNode"] = prev
        self.events.append(event)
        return event

    def set(self, path: str, value: str | None, expires: int, refresh: bool) -> Answer:
        if refresh:
            value = "" if value is None else value
            old = self.find(path).value
            value = value if old is None else old
        return self.make("set", path, value, expires, True)

    def change(self, action: str, path: str, value: str, expires: int, refresh: bool) -> Answer:
        entry = self.entries[path]
        prev = self.show(path)
        self.index += 1
        if entry.value is not None:
            entry.value = entry.value if refresh else value
            entry.modified = self.index
        entry.expires = expires
        node = self.show(path)
        node["modifiedIndex"] = self.index
        return self.happened(action, node, prev)

    def update(self, path: str, value: str, expires: int, refresh: bool) -> Answer:
        self.refuse_root(path)
        if self.find(path).value is None and value:
            raise RefusedError(102, path)
        return self.change("update", path, value, expires, refresh)

    def compare(self, path: str, prev_value: str, prev_index: int) -> None:
        entry = self.find(path)
        if entry.value is None:
            raise RefusedError(102, path)
        wrong_value = prev_value not in ("", entry.value)
        wrong_index = prev_index not in (0, entry.modified)
        if wrong_value and wrong_index:
            raise RefusedError(101, f"[{prev_value} != {entry.value}] [{prev_index} != {entry.modified}]")
        if wrong_value:
            raise RefusedError(101, f"[{prev_value} != {entry.value}]")
        if wrong_index:
            raise RefusedError(101, f"[{prev_index} != {entry.modified}]")

    def swap(
        self, path: str, prev_value: str, prev_index: int, value: str, expires: int, refresh: bool
    ) -> Answer:
        self.refuse_root(path)
        self.compare(path, prev_value, prev_index)
        return self.change("compareAndSwap", path, value, expires, refresh)

    def delete(self, path: str, is_dir: bool, recursive: bool) -> Answer:
        self.refuse_root(path)
        entry = self.find(path)
        if entry.value is None and not is_dir and not recursive:
            raise RefusedError(102, path)
        if entry.value is None and not recursive and self.children(path):
            raise RefusedError(108, path)
        return self.remove("delete", path)

    def compare_and_delete(self, path: str, prev_value: str, prev_index: int) -> Answer:
        self.compare(path, prev_value, prev_index)
        return self.remove("compareAndDelete", path)

    def remove(self, action: str, path: str) -> Answer:
        prev = self.show(path)
        self.index += 1
        node: Answer = {"key": path}
        if "dir" in prev:
            node["dir"] = True
        node["modifiedIndex"] = self.index
        if "createdIndex" in prev:
            node["createdIndex"] = prev["createdIndex"]
        for each in [p for p in self.entries if p == path or p.startswith(path + "/")]:
            del self.entries[each]
        return self.happened(action, node, prev)

    def expire(self, cutoff: int) -> None:
        while True:
            due = sorted((e.expires, path) for path, e in self.entries.items() if 0 != e.expires <= cutoff)
            if not due:
                return
            self.remove("expire", due[0][1])
