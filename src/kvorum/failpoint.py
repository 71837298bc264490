"""Named places where a test can make the process die, the disk fail or time pass.

A crash-safety claim is worth what was tried against it, so these stay in the shipped package, off. Off, a
failpoint costs the caller one look at a module global::

    if failpoint.enabled:
        failpoint.hit("wal_before_fsync")

``KVORUM_FAILPOINTS`` turns them on, as ``name=action`` joined by ``;``::

    wal_before_fsync=kill%5;wal_after_fsync=eio*1;snap_before_rename=sleep(0.2)@3

| action | what happens |
|---|---|
| ``kill`` | SIGKILL to the own process: nothing is flushed, nobody is told |
| ``eio``, ``enospc`` | OSError, as if the disk had answered so |
| ``sleep(seconds)`` | the calling thread waits, as on a stalled disk |
| ``panic`` | :class:`FailpointPanicError`, which nobody handles |

``%P`` fires with a chance of P percent, ``@N`` from the Nth time the place is reached, ``*C`` at most C
times. Chances and cuts come from ``KVORUM_FAILPOINT_SEED``; a random seed is printed to stderr when there is
none.

The idea is etcd's gofail; names and grammar are this project's.
"""

import errno
import os
import random
import re
import signal
import sys
import threading
import time
from typing import Final, final

NAMES: Final = {
    "wal_before_write": "a batch is encoded, none of it is written",
    "wal_after_partial_write": "a prefix of the batch, cut anywhere, is written and not synced",
    "wal_before_fsync": "the batch is written and not synced",
    "wal_after_fsync": "the batch is durable, nobody was told",
    "wal_cut_before_rename": "the next segment's head is durable under its temporary name",
    "wal_cut_after_rename": "the next segment has its name, the directory is not synced",
    "wal_cut_after_dir_fsync": "the next segment is durable, nothing was written to it",
    "wal_create_before_rename": "the first segment is durable in the temporary directory",
    "wal_create_after_rename": "the WAL directory has its name, its parent is not synced",
    "wal_repair_before_truncate": "the torn segment is copied to .broken and not yet cut",
    "wal_repair_after_truncate": "the torn segment is cut and not yet synced",
    "snap_before_write": "a .snap file is about to be written",
    "snap_before_rename": "a .snap file is durable under its temporary name",
    "snap_after_rename": "a .snap file has its name, the directory is not synced",
    "snap_before_wal_marker": "a .snap file is durable, the WAL does not name it yet",
    "purge_before_unlink": "an old segment or .snap file is about to go",
    "purge_after_unlink": "an old segment or .snap file is gone, the directory is not synced",
    "ready_after_persist": "a Ready is durable, its messages and its commits are not out",
    "apply_before": "committed entries are about to be applied",
    "apply_after": "committed entries are applied, nobody was answered",
    "backend_before_commit": "the open LMDB transaction is about to be committed",
    "backend_after_commit": "the LMDB transaction is committed, the next one is not open",
    "received_before_rename": "a snapshot's database is checked and durable, under its temporary name",
    "received_after_rename": "a snapshot's database has its name, the directory is not synced",
    "install_before_rename": "a snapshot's database is about to take the place of the member's",
    "install_between_renames": "the database has its name, its lock file has not",
    "install_after_rename": "the database is durably in its place, the member still has the old one open",
    "backend_before_compact_slice": "a slice of a compaction is about to be deleted",
    "bootstrap_before_wal": "the member directory exists, the WAL does not",
    "takeover_before_rename": "an etcd member's data is converted, under a temporary name",
    "bootstrap_after_wal": "the WAL exists, the backend does not",
}
"""Every failpoint there is, and the state it stands for."""

_RULE: Final = re.compile(
    r"(?P<name>[a-z0-9_]+)=(?P<action>kill|eio|enospc|panic|sleep\((?P<seconds>[0-9.]+)\))"
    r"(?P<options>(?:%[0-9.]+|\*[0-9]+|@[0-9]+)*)"
)
_OPTION: Final = re.compile(r"([%*@])([0-9.]+)")

enabled: bool = False
"""Whether any failpoint is on. Look here before calling anything."""


class FailpointPanicError(RuntimeError):
    """What the action ``panic`` raises."""


@final
class _Rule:
    """What one failpoint does, and how often it was reached and fired."""

    __slots__ = ("action", "fired", "first", "limit", "percent", "reached", "seconds")

    def __init__(self, action: str, seconds: float, options: str) -> None:
        self.action: Final = action
        self.seconds: Final = seconds
        self.percent = 100.0
        self.first = 1
        self.limit = -1
        self.reached = 0
        self.fired = 0
        for sign, number in _OPTION.findall(options):
            if sign == "%":
                self.percent = float(number)
            elif sign == "@":
                self.first = int(number)
            else:
                self.limit = int(number)


_rules: dict[str, _Rule] = {}
_chance = random.Random(0)
_lock = threading.Lock()


def configure(spec: str, seed: int = 0) -> None:
    """Turn on what ``spec`` names and everything else off; an empty spec turns all off.

    Raises:
        ValueError: no such failpoint, or no such action.
    """
    global enabled
    rules: dict[str, _Rule] = {}
    for text in filter(None, (part.strip() for part in spec.split(";"))):
        match = _RULE.fullmatch(text)
        if match is None:
            raise ValueError(
                f"failpoint {text!r} is not name=kill|eio|enospc|panic|sleep(seconds) with %P @N *C"
            )
        if match["name"] not in NAMES:
            raise ValueError(f"no failpoint is named {match['name']!r}; there are {', '.join(NAMES)}")
        rules[match["name"]] = _Rule(
            match["action"].split("(")[0], float(match["seconds"] or 0), match["options"]
        )
    with _lock:
        _rules.clear()
        _rules.update(rules)
        _chance.seed(seed)
    enabled = bool(rules)


def hit(name: str) -> None:
    """Say that the place ``name`` is reached; what is configured for it happens.

    Raises:
        OSError: actions ``eio`` and ``enospc``.
        FailpointPanicError: action ``panic``.
    """
    rule = _take(name)
    if rule is not None:
        _perform(name, rule)


def hit_partial(name: str, size: int) -> int:
    """Say that ``size`` bytes are about to be written; return how many the caller writes before :func:`act`.

    -1 is the usual answer: nothing is configured, or not this time.
    """
    rule = _take(name)
    if rule is None:
        return -1
    with _lock:
        return _chance.randrange(size)


def act(name: str) -> None:
    """Perform the action of ``name``, which an answer of :func:`hit_partial` announced."""
    rule = _rules.get(name)
    if rule is not None:
        _perform(name, rule)


def _take(name: str) -> _Rule | None:
    """Count that ``name`` was reached; the rule if it fires now."""
    assert name in NAMES, name
    rule = _rules.get(name)
    if rule is None:
        return None
    with _lock:
        rule.reached += 1
        if rule.reached < rule.first or rule.fired == rule.limit:
            return None
        if rule.percent < 100.0 and _chance.uniform(0.0, 100.0) >= rule.percent:
            return None
        rule.fired += 1
    return rule


def _perform(name: str, rule: _Rule) -> None:
    os.write(2, f"failpoint {name}: {rule.action}\n".encode())
    if rule.action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)  # the signal is on its way; do nothing more
    elif rule.action == "sleep":
        time.sleep(rule.seconds)
    elif rule.action == "panic":
        raise FailpointPanicError(name)
    else:
        number = errno.EIO if rule.action == "eio" else errno.ENOSPC
        raise OSError(number, f"{os.strerror(number)} (failpoint {name})")


def _configure_from_environment() -> None:
    spec = os.environ.get("KVORUM_FAILPOINTS", "")
    if not spec:
        return
    text = os.environ.get("KVORUM_FAILPOINT_SEED", "")
    seed = int(text) if text else int.from_bytes(os.urandom(4), "big")
    if not text:
        sys.stderr.write(f"KVORUM_FAILPOINT_SEED={seed}\n")
    try:
        configure(spec, seed)
    except ValueError as error:
        sys.stderr.write(f"KVORUM_FAILPOINTS: {error}\n")
        raise SystemExit(2) from None


_configure_from_environment()
