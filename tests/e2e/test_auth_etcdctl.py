"""The official etcdctl against both servers: every command about users, with the same output and errors."""

import json
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from tests.support import process
from tests.support.etcdctl import Etcdctl, Output
from tests.support.process import Member

FLOWS: Final[dict[str, Sequence[str]]] = {
    "users": (
        "user list",
        "user add root:root",
        "user add root:root",
        "user add --no-user-password nopass",
        "user add alice:alice",
        "user list",
        "user get alice",
        "user get nobody",
        "user passwd alice --interactive=false <alice2",
        "user passwd nobody --interactive=false <x",
        "user delete nobody",
        "user delete nopass",
        "user list -w json",
        "role add r",
        "role add r",
        "user grant-role alice r",
        "user grant-role alice missing",
        "user grant-role nobody r",
        "user get alice --detail",
        "user revoke-role alice missing",
        "user revoke-role alice r",
        "user get alice -w json",
    ),
    "roles": (
        "role list",
        "role add r",
        "role add s",
        "role list",
        "role get missing",
        "role grant-permission r read foo",
        "role grant-permission r readwrite dir/ --prefix",
        "role grant-permission r write a b",
        "role grant-permission r read z --from-key",
        "role grant-permission r write foo",
        "role grant-permission missing read foo",
        "role get r",
        "role get r -w json",
        "role revoke-permission r a b",
        "role revoke-permission r a b",
        "role revoke-permission r dir/ --prefix",
        "role revoke-permission missing a",
        "role get r",
        "role delete missing",
        "role delete s",
        "role list -w json",
    ),
    "enabling": (
        "auth status",
        "auth enable",
        "user add root:root",
        "auth enable",
        "user grant-role root root",
        "--user=root:root put k v",
        "auth enable",
        "auth enable",
        "--user=root:root auth status",
        "auth status",
        "--user=root:wrong auth status",
        "--user=nobody:x get k",
        "--user=root:root user delete root",
        "--user=root:root user revoke-role root root",
        "--user=root:root role add root",
        "--user=root:root role delete root",
        "auth disable",
        "--user=root:root auth disable",
        "auth disable",
        "get k",
    ),
    "permissions": (
        "user add root:root",
        "user grant-role root root",
        "role add r",
        "role grant-permission r readwrite dir/ --prefix",
        "role grant-permission r read seen",
        "role grant-permission r write written",
        "user add alice:alice",
        "user grant-role alice r",
        "user add other:other",
        "put dir/old 1",
        "put seen 1",
        "put secret 1",
        "auth enable",
        "put dir/a 1",
        "get dir/a",
        "del dir/a",
        "--user=alice:alice put dir/a 1",
        "--user=alice:alice get dir/ --prefix",
        "--user=alice:alice get dir/ --prefix --keys-only",
        "--user=alice:alice get dir --prefix",
        "--user=alice:alice get secret",
        "--user=alice:alice get seen",
        "--user=alice:alice put seen 2",
        "--user=alice:alice put written 2",
        "--user=alice:alice put written 2 --prev-kv",
        "--user=alice:alice get written",
        "--user=alice:alice del dir/a --prev-kv",
        "--user=alice:alice del written --prev-kv",
        "--user=alice:alice del secret",
        "--user=alice:alice get '' --prefix",
        '--user=alice:alice txn <value("seen") = "1"\n\nput dir/t yes\n\nput dir/t no\n\n',
        '--user=alice:alice txn <value("secret") = "1"\n\nput dir/t yes\n\nput dir/t no\n\n',
        '--user=alice:alice txn <value("seen") = "1"\n\nput secret yes\n\nput dir/t no\n\n',
        "--user=alice:alice get dir/t",
        "--user=alice:alice user get alice",
        "--user=alice:alice user get other",
        "--user=alice:alice user list",
        "--user=alice:alice role get r",
        "--user=alice:alice role list",
        "--user=alice:alice user add eve:eve",
        "--user=alice:alice member remove 1",
        "--user=alice:alice watch secret",
        "--user=alice:alice lock secret -- echo held",
        "--user=alice:alice lock dir/lock -- echo held",
        "--user=other:other get seen",
        "--user=root:root get secret",
        "--user=root:root lock secret -- echo held",
        "--user=root:root role revoke-permission r seen",
        "--user=alice:alice get seen",
        "--user=root:root user revoke-role alice r",
        "--user=alice:alice get dir/t",
        "--user=root:root user grant-role other root",
        "--user=other:other get secret",
        "--user=other:other user delete alice",
        "--user=alice:alice get dir/t",
    ),
}


@pytest.fixture
def both(tmp_path: Path) -> Iterator[list[Member]]:
    programs = (process.etcd(), process.kvorum())
    members = [Member(program, tmp_path / program.name, flags=("--bcrypt-cost=4",)) for program in programs]
    try:
        for member in members:
            member.start(wait=False)
        for member in members:
            member.wait_ready()
        yield members
    finally:
        for member in members:
            member.close()


def told(output: Output) -> tuple[str, list[str], int]:
    """What a command printed, without what is of one server or one moment."""
    stdout = output.stdout
    if stdout.startswith("{"):
        fields = json.loads(stdout)
        fields.pop("header", None)
        stdout = json.dumps(fields)
    stdout = re.sub(r"^(.*/)[0-9a-f]{6,}$", r"\1<lease>", stdout, flags=re.M)
    lines = [line for line in output.stderr.splitlines() if not line.startswith("{")]
    return stdout, lines, output.status


@pytest.mark.parametrize("flow", FLOWS)
def test_a_flow_of_commands(both: list[Member], flow: str) -> None:
    with ThreadPoolExecutor(len(both)) as threads:
        for line in FLOWS[flow]:
            first, second = threads.map(partial(run, line), both)
            assert second == first, line


def run(line: str, member: Member) -> tuple[str, list[str], int]:
    command, _, stdin = line.partition(" <")
    words = [word.strip("'") for word in command.split()]
    return told(Etcdctl(member.endpoint).run(*words, stdin=stdin + "\n" if stdin else "", check=False))
