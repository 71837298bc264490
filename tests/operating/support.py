"""Members whose directory changes hands: the same name, peer port and flags, another program."""

import hashlib
import json
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.support.etcdctl import Etcdctl
from tests.support.process import Member, Program
from tests.support.waiting import wait_until


def successor(old: Member, program: Program, flags: Sequence[str] = (), *, at: Path | None = None) -> Member:
    """Return a member on the directory of a stopped one, or on another with its data; not started."""
    new = Member(program, at or old.data_dir, flags=(*old.flags, *flags), env=old.env, name=old.name)
    new.peer_port = old.peer_port
    new.initial_cluster, new.initial_cluster_state = old.initial_cluster, old.initial_cluster_state
    return new


def fingerprints(folder: Path) -> dict[str, tuple[int, str]]:
    """Return every file below a folder: when it was changed, and what is in it."""
    return {
        str(path.relative_to(folder)): (
            path.stat().st_mtime_ns,
            hashlib.sha256(path.read_bytes()).hexdigest(),
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def ask(member: Member, path: str, data: bytes | None = None, method: str = "GET") -> Any:
    """Ask over HTTP/1.1 and return the JSON that is answered."""
    request = urllib.request.Request(member.url + path, data=data, method=method)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def v2_tree(member: Member) -> Any:
    """Return all that v2 clients see, in one order, without what counts down."""
    shown = ask(member, "/v2/keys/?recursive=true&sorted=true")["node"]
    return _without_ttl(shown)


def _without_ttl(node: Any) -> Any:
    kept = {name: value for name, value in node.items() if name not in ("ttl", "nodes")}
    return kept | {"nodes": [_without_ttl(inner) for inner in node.get("nodes", ())]}


def wait_stored(member: Member, key: str, value: str) -> None:
    """Wait until a linearizable read at this member gives the value."""

    def stored() -> bool | None:
        done = Etcdctl(member.endpoint).run("get", "--print-value-only", key, check=False)
        return done.stdout.strip() == value or None

    wait_until(stored, f"{key} is {value}")
