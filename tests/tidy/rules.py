"""The rules of the tidy test, as tables. A new edge or exception is a line here, with its reason.

The lists of exceptions only shrink: an entry that is no longer needed fails the test.
"""

from dataclasses import dataclass
from typing import Final

COMMON: Final = frozenset(
    {
        "errors", "limits", "proto", "golang", "duration", "urls", "logging", "log_outputs", "failpoint",
        "layout", "systemd",
    }
)  # fmt: skip
"""Leaves that any room may use: they know no room themselves."""


@dataclass(frozen=True, slots=True)
class Room:
    """A folder (or module) of ``src/kvorum``: which rooms it may import besides COMMON, and why no more."""

    may_import: frozenset[str]
    reason: str


def _room(reason: str, *may_import: str) -> Room:
    return Room(frozenset(may_import), reason)


ROOMS: Final = {
    "proto": _room("the wire means nothing by itself"),
    "raft": _room("a core: bytes, numbers and Ready; the log on disk and the peers are its shell's"),
    "tls": _room("who may connect, and encrypted connections; nothing of what they carry"),
    "rpc": _room("a transport: it carries messages and knows none", "tls"),
    "wal": _room("the log on disk holds Raft's nouns and nothing above them", "raft"),
    "snapshot": _room(
        "files of Raft's nouns and of key-values, apart from the path", "raft", "wal", "mvcc", "v2store"
    ),
    "mvcc": _room("storage: keys and revisions, whoever asks"),
    "watch": _room("events of revisions to the watchers they match; reads storage, asks nobody", "mvcc"),
    "lease": _room("a queue of expiries; what expires goes through the log, which is the server's"),
    "auth": _room("users, roles and tokens as values"),
    "v2store": _room("a tree of its own; what changes it comes from apply"),
    "apply": _room(
        "the only writer of storage; deterministic, so no Raft state, no waiting calls",
        "mvcc", "lease", "auth", "v2store",
    ),
    "peer": _room(
        "carries Raft's messages and snapshots between members; what is in a snapshot is others' business",
        "raft", "rpc", "metrics", "tls",
    ),
    "api": _room(
        "talks to the member, never to storage or the log; the watch hub's queues are its to write out",
        "rpc", "server", "apply", "watch", "v2store", "auth",
    ),
    "server": _room(
        "the Ready loop and the assembly: every room below it, and the shells it starts",
        "raft", "wal", "snapshot", "peer", "apply", "mvcc", "watch", "lease", "auth", "v2store",
        "rpc", "api", "config", "metrics", "tls", "discovery",
    ),
    "discovery": _room("how members find each other, before there is one", "config", "tls"),
    "config": _room("flags are values, some of them names that only TLS knows", "tls"),
    "metrics": _room("numbers"),
    "proxy": _room(
        "in front of a cluster: servers towards clients, a client towards members; nothing of a member's"
        " inside but the gate before its HTTP routes",
        "rpc", "peer", "tls", "metrics", "watch", "config", "discovery", "api",
    ),
    "client": _room("speaks the wire"),
    "ctl": _room("a client", "client", "discovery"),
    "utl": _room(
        "works on a stopped member's files, and makes them of backups",
        "raft", "wal", "snapshot", "mvcc", "v2store", "apply", "server",
    ),
    "testing": _room("shipped helpers start a member as users do", "client", "config", "server"),
    "sim": _room(
        "drives the cores and the member's parts under one seed",
        "raft", "wal", "mvcc", "apply", "watch", "server", "snapshot", "config",
    ),
    "main": _room("the entry point", "config", "server", "rpc", "api", "metrics", "proxy", "discovery"),
}  # fmt: skip

GROUPS: Final = {"flag": "config", "config": "config", "metrics": "metrics"}
"""Modules at the top whose names begin so form one room."""

ASSEMBLY: Final = (
    "server/member.py", "server/bootstrap.py", "server/figures.py", "server/peers.py", "server/ports.py",
    "server/process.py", "server/security.py",
)  # fmt: skip
"""The modules of ``server`` that import the shells above it (``api``, ``rpc``): they assemble them."""

IO: Final = frozenset(
    {
        "asyncio", "concurrent", "fcntl", "http", "lmdb", "mmap", "multiprocessing", "os", "pathlib",
        "select", "selectors", "shutil", "signal", "socket", "ssl", "subprocess", "tempfile", "threading",
        "urllib", "uvloop", "logging", "_thread",
    }
)  # fmt: skip
TIME_AND_CHANCE: Final = frozenset({"time", "datetime", "random", "secrets", "uuid"})


@dataclass(frozen=True, slots=True)
class Core:
    """Modules (path prefixes below src/kvorum) and what outside the project they must not import."""

    prefixes: tuple[str, ...]
    banned: frozenset[str]
    reason: str


CORES: Final = (
    Core(
        ("raft/", "wal/record", "mvcc/index", "mvcc/keyset", "watch/", "lease/", "v2store/", "auth/"),
        IO | TIME_AND_CHANCE,
        "a sans-IO core",
    ),
    Core(
        (
            "rpc/http2", "rpc/frames", "rpc/header_blocks", "rpc/requests", "rpc/floods", "rpc/streams",
            "rpc/outbound", "rpc/control", "rpc/messages",
        ),
        IO | TIME_AND_CHANCE,
        "the protocol is a sans-IO core",
    ),
    Core(("apply/",), IO | TIME_AND_CHANCE, "apply is the same on every member"),
    Core(
        ("mvcc/",),
        frozenset({"asyncio", "socket", "ssl", "http", "subprocess", "uvloop"}) | TIME_AND_CHANCE,
        "storage waits for nobody, and time is an argument",
    ),
    Core(("api/",), frozenset({"lmdb", "socket", "os", "random"}), "the API only asks the member"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class OnlyIn:
    """A pattern of source text and the only places (path prefixes below src/kvorum) where it may stand."""

    pattern: str
    places: tuple[str, ...]
    reason: str


ONLY_IN: Final = (
    OnlyIn(
        r"\b_?wal\.(?:prepare|flush)\(",
        ("server/ready.py", "server/standalone.py", "wal/", "utl/backup.py", "sim/"),
        "only the Ready loop saves the WAL; a restoration makes one for others, a member that shall go on"
        " alone forces its log before there is a loop, the simulator spoils it",
    ),
    OnlyIn(r"\bstore\.write\(", ("apply/", "utl/", "mvcc/", "sim/"), "only apply writes to mvcc"),
    OnlyIn(r"\bnode\.store\b", ("server/", "sim/"), "the API asks the member, not its store"),
    OnlyIn(r"\bWriteTxn\b", ("apply/", "utl/", "mvcc/", "sim/"), "only apply writes to mvcc"),
    OnlyIn(r"(?<![\w.])print\(", ("ctl/", "utl/", "sim/"), "a server logs; it does not print"),
    OnlyIn(r"\bNotImplementedError\b", (), "what is not there is not declared"),
)

MAX_FUNCTION_LINES: Final = 60
MAX_FILE_LINES: Final = 450
MAX_TEST_FUNCTION_LINES: Final = 80
MAX_TEST_FILE_LINES: Final = 500


@dataclass(frozen=True, slots=True)
class Long:
    """How many lines an exception may have, and why it is one."""

    lines: int
    reason: str


LONG_FILES: Final[dict[str, Long]] = {
    "src/kvorum/raft/core.py": Long(950, "the heart: one state machine, as the paper has it"),
    "src/kvorum/raft/rawnode.py": Long(480, "the order of a Ready is one argument, best read in one place"),
    "src/kvorum/mvcc/store.py": Long(
        740, "the heart of storage: one open transaction and all that goes into it"
    ),
    "src/kvorum/limits.py": Long(700, "every bound of the program with its reason, in one place"),
    "src/kvorum/server/node.py": Long(485, "where all rooms meet: one member's state machine"),
    "src/kvorum/rpc/http1_connection.py": Long(
        465, "one connection's state, from its first byte to its last"
    ),
    "src/kvorum/metrics/catalogue.py": Long(480, "a table of what dashboards know, in one place"),
    "src/kvorum/wal/wal.py": Long(580, "the log's two halves share their invariants"),
}
"""By path from the root."""

LONG_FUNCTIONS: Final[dict[str, Long]] = {
    "src/kvorum/server/node.py::Node.__init__": Long(82, "each room that a node joins, named once"),
}
"""By ``path::qualified name``."""
