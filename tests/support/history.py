"""What clients of a cluster saw, and whether one order explains it: no lost write, no stale read.

The order is there to be checked, not searched: every answer carries the store's revision. A write that was
acknowledged stands at its revision; a linearizable read stands after the write of its revision and before the
next. That order explains the history if

1. **real time**: what began after another operation's end does not stand before it (a write stands after);
2. **nothing lost**: in the end the store's own history (a watch from the first revision) has each
   acknowledged write, at its revision, with its key and value;
3. **no phantom**: it has nothing else but writes whose answer was lost, each at most once and not before it
   was sent;
4. **right answers**: a read saw what that history holds for its key at its revision, and what was written on
   condition met its condition.

So a history that passes is linearizable (Herlihy & Wing 1990), with the revisions as the witness. One that
does not breaks what etcd documents of its header's revision, if not linearizability itself. Serializable
reads only owe 4, and that the revisions which one client sees of one member never go back.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

WRITE: Final = "write"
READ: Final = "read"
STALE_READ: Final = "serializable read"


@dataclass(frozen=True, slots=True)
class Operation:
    """One call of one client. Times are of one clock, in seconds.

    ``revision``: the answer's, 0 if there was none (then only a write is worth keeping). ``value``: what was
    written or read, empty for a key that is not there; every write's is different. ``mod_revision``: of a
    read, 0 for a key that is not there; of a write, the one that its key must have had, -1 for any.
    """

    client: str
    kind: str
    key: bytes
    value: bytes
    started: float
    ended: float
    revision: int = 0
    mod_revision: int = -1


@dataclass(frozen=True, slots=True)
class Change:
    """One change in the store's own history."""

    revision: int
    key: bytes
    value: bytes


def violations(operations: Sequence[Operation], truth: Sequence[Change]) -> list[str]:
    """Return what the history breaks, in words; ``truth`` is every change, in the order of revisions."""
    by_place = {(change.revision, change.key): change.value for change in truth}
    return [
        *_real_time(operations),
        *_lost(operations, by_place),
        *_phantoms(operations, truth),
        *_wrong_answers(operations, truth),
        *_unmet(operations, truth),
        *_going_back(operations),
    ]


def _ordered(operations: Iterable[Operation]) -> list[Operation]:
    """Return those that were answered and have a place in the one order, by their beginning."""
    return sorted(
        (operation for operation in operations if operation.revision and operation.kind != STALE_READ),
        key=lambda operation: operation.started,
    )


def _newest_before(
    operations: Iterable[Operation], moments: Iterable[Operation]
) -> Iterator[Operation | None]:
    """Yield for each of ``moments`` (by their beginning) the highest of all that had ended by then."""
    ended = sorted(_ordered(operations), key=lambda operation: operation.ended)
    newest: Operation | None = None
    at = 0
    for moment in moments:
        while at < len(ended) and ended[at].ended < moment.started:
            if newest is None or ended[at].revision > newest.revision:
                newest = ended[at]
            at += 1
        yield newest


def _real_time(operations: Sequence[Operation]) -> Iterator[str]:
    moments = _ordered(operations)
    for operation, before in zip(moments, _newest_before(operations, moments), strict=True):
        if before is not None and operation.revision < before.revision + (operation.kind == WRITE):
            yield f"order: {_told(operation)} began after the end of {_told(before)}"


def _lost(operations: Iterable[Operation], by_place: Mapping[tuple[int, bytes], bytes]) -> Iterator[str]:
    for operation in operations:
        if operation.kind == WRITE and operation.revision:
            held = by_place.get((operation.revision, operation.key))
            if held != operation.value:
                yield f"lost: {_told(operation)} was acknowledged; there is {held!r}"


def _phantoms(operations: Sequence[Operation], truth: Iterable[Change]) -> Iterator[str]:
    acknowledged = {(o.revision, o.key) for o in operations if o.kind == WRITE and o.revision}
    unanswered = sorted(
        (o for o in operations if o.kind == WRITE and not o.revision), key=lambda o: o.started
    )
    floors = _newest_before(operations, unanswered)
    allowed = {(o.key, o.value): before for o, before in zip(unanswered, floors, strict=True)}
    for change in truth:
        if (change.revision, change.key) in acknowledged:
            continue
        if (change.key, change.value) not in allowed:
            yield f"phantom: {change} was written by nobody, or twice"
            continue
        before = allowed.pop((change.key, change.value))
        if before is not None and change.revision <= before.revision:
            yield f"phantom: {change} was sent after the end of {_told(before)}"


def _wrong_answers(operations: Iterable[Operation], truth: Sequence[Change]) -> Iterator[str]:
    reads = sorted((o for o in operations if o.kind != WRITE and o.revision), key=lambda o: o.revision)
    held: dict[bytes, Change] = {}
    at = 0
    for read in reads:
        while at < len(truth) and truth[at].revision <= read.revision:
            held[truth[at].key] = truth[at]
            at += 1
        change = held.get(read.key, Change(0, read.key, b""))
        if (read.value, read.mod_revision) != (change.value, change.revision):
            yield f"wrong: {_told(read)} with mod_revision {read.mod_revision}; there was {change}"


def _unmet(operations: Iterable[Operation], truth: Iterable[Change]) -> Iterator[str]:
    conditions = {(o.key, o.value): o for o in operations if o.kind == WRITE and o.mod_revision >= 0}
    held: dict[bytes, int] = {}
    for change in truth:
        operation = conditions.get((change.key, change.value))
        before = held.get(change.key, 0)
        if operation is not None and operation.mod_revision != before:
            yield f"unmet: {_told(operation)} wanted mod_revision {operation.mod_revision}; it was {before}"
        held[change.key] = change.revision


def _going_back(operations: Iterable[Operation]) -> Iterator[str]:
    """Serializable reads of one client; ``client`` names the member too."""
    seen: dict[str, Operation] = {}
    for read in sorted((o for o in operations if o.kind == STALE_READ), key=lambda o: o.started):
        before = seen.get(read.client)
        if before is not None and read.revision < before.revision:
            yield f"back: {_told(read)} after {_told(before)}"
        seen[read.client] = read


def _told(operation: Operation) -> str:
    return (
        f"{operation.client}'s {operation.kind} of {operation.key!r}={operation.value!r} at revision "
        f"{operation.revision} ({operation.started:.4f}-{operation.ended:.4f})"
    )
