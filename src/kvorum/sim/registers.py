"""A second opinion on linearizability, key by key: is there any order of the operations that explains the
answers?

Every key is a register that is written, deleted, read, and compared and swapped. Linearizability is local
(Herlihy and Wing, theorem 1), so each key is judged alone; of an operation on several keys each key sees its
own part. Nothing here knows of the log or of revisions, so a mistake in the oracle's model cannot hide one of
the members.

The search takes operations by the time of their answers (Lowe, "Testing for linearizability", 2017: just in
time). A configuration is a value and which of the operations under way have happened already; when an
operation is answered, those in which it has happened, or can be made to happen now by letting others happen
before it, live on. If none does, there is no order.

An operation of unknown outcome is under way for ever. One that would have written a value nobody ever saw is
left out, as nothing could tell that it happened. If a key's configurations become too many, it is left
undecided.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, final

from kvorum.proto.rpc_pb2 import (
    Compare,
    DeleteRangeRequest,
    DeleteRangeResponse,
    PutRequest,
    PutResponse,
    RangeRequest,
    RangeResponse,
    TxnRequest,
    TxnResponse,
)
from kvorum.sim.model import in_range
from kvorum.sim.oracle import Operation
from kvorum.sim.trace import ViolationError

MOST_CONFIGURATIONS: Final = 3000
"""With more than these at one answer a key is left undecided."""

Value = bytes | None
"""A register's value; None: deleted, or never written."""


@final
@dataclass(frozen=True)
class Step:
    """What one operation does to one register.

    ``before``: what it must find, if ``looks``; ``after``: what it leaves, if ``writes``. A compare and swap
    of unknown outcome ``may_miss``: where it does not find what it looks for it does nothing.
    """

    name: str
    started: float
    ended: float
    looks: bool = False
    before: Value = None
    writes: bool = False
    after: Value = None
    may_miss: bool = False

    def happens(self, value: Value) -> tuple[bool, Value]:
        """Whether it can happen at a value, and what is there then."""
        if self.looks and value != self.before:
            return self.may_miss, value
        return True, self.after if self.writes else value


def check(operations: Sequence[Operation]) -> int:
    """Raise ViolationError if some key has no order that explains it; returns how many are undecided."""
    values = _values_of_revisions(operations)
    keys = sorted({key for operation in operations for key in _keys(operation)})
    undecided = 0
    for key in keys:
        steps = [step for operation in operations for step in _steps(operation, key, values)]
        explained = explain(_without_unseen(steps))
        if explained is None:
            undecided += 1
        elif explained:
            raise ViolationError(
                "registers", f"no order of operations on {key.decode()} explains {explained}"
            )
    return undecided


def explain(steps: Sequence[Step]) -> str | None:
    """Search for an order: an empty text if there is one, the answer that rules it out, None if undecided."""
    events = [(step.started, 0, at) for at, step in enumerate(steps)]
    events += [(step.ended, 1, at) for at, step in enumerate(steps) if step.ended < math.inf]
    under_way: set[int] = set()
    configurations: set[tuple[Value, frozenset[int]]] = {(None, frozenset())}
    for _, is_answer, at in sorted(events):
        if not is_answer:
            under_way.add(at)
            continue
        known = _all_with(at, steps, under_way, configurations)
        if known is None:
            return None
        if not known:
            return steps[at].name
        configurations = known
        under_way.discard(at)
    return ""


def _all_with(
    answered: int,
    steps: Sequence[Step],
    under_way: set[int],
    configurations: set[tuple[Value, frozenset[int]]],
) -> set[tuple[Value, frozenset[int]]] | None:
    """The configurations in which ``answered`` has happened, without it; None if they are too many."""
    found: set[tuple[Value, frozenset[int]]] = set()
    seen = set(configurations)
    stack = list(configurations)
    while stack:
        value, happened = stack.pop()
        if answered in happened:
            found.add((value, happened - {answered}))
            continue
        for at in under_way - happened:
            possible, after = steps[at].happens(value)
            following = (after, happened | {at})
            if possible and following not in seen:
                seen.add(following)
                stack.append(following)
        if len(seen) > MOST_CONFIGURATIONS:
            return None
    return found


def _without_unseen(steps: Sequence[Step]) -> list[Step]:
    """Leave out what may not have happened and nobody saw."""
    seen = {step.before for step in steps if step.looks}
    return [
        step
        for step in steps
        if step.ended < math.inf or (step.writes and (step.after is None or step.after in seen))
    ]


# --- from operations to steps -----------------------------------------------------------------------------


def _keys(operation: Operation) -> Iterator[bytes]:
    request = operation.request
    if isinstance(request, PutRequest) and not request.lease:
        yield request.key
    elif isinstance(request, TxnRequest):
        for op in request.success:
            if op.WhichOneof("request") == "request_put":
                yield op.request_put.key


def _values_of_revisions(operations: Sequence[Operation]) -> dict[tuple[bytes, int], bytes]:
    """What clients saw under a key at a mod revision: what a compare of mod revisions means."""
    values = {}
    for operation in operations:
        for kv in getattr(operation.response, "kvs", ()):
            values[kv.key, kv.mod_revision] = kv.value
    return values


def _steps(operation: Operation, key: bytes, values: Mapping[tuple[bytes, int], bytes]) -> Iterator[Step]:
    if operation.refused or (operation.ended < math.inf and operation.response is None):
        return
    request, response = operation.request, operation.response
    name, times = str(operation), (operation.started, operation.ended)
    if isinstance(request, PutRequest) and request.key == key:
        looks, before = False, None
        if isinstance(response, PutResponse) and request.prev_kv:
            looks, before = True, response.prev_kv.value if response.HasField("prev_kv") else None
        yield Step(name, *times, looks=looks, before=before, writes=True, after=request.value)
    elif isinstance(request, DeleteRangeRequest) and in_range(key, request.key, request.range_end):
        yield _deletion(name, times, key, request, response)
    elif (
        isinstance(request, RangeRequest) and operation.kind == "read" and isinstance(response, RangeResponse)
    ):
        if in_range(key, request.key, request.range_end) and not request.revision and not response.more:
            found = {kv.key: kv.value for kv in response.kvs}
            yield Step(name, *times, looks=True, before=found.get(key))
    elif isinstance(request, TxnRequest):
        yield from _transaction(name, times, key, request, response, values)


def _deletion(
    name: str, times: tuple[float, float], key: bytes, request: DeleteRangeRequest, response: object
) -> Step:
    if isinstance(response, DeleteRangeResponse) and request.prev_kv:
        found = {kv.key: kv.value for kv in response.prev_kvs}
        return Step(name, *times, looks=True, before=found.get(key), writes=True)
    return Step(name, *times, writes=True)


def _transaction(
    name: str,
    times: tuple[float, float],
    key: bytes,
    request: TxnRequest,
    response: object,
    values: Mapping[tuple[bytes, int], bytes],
) -> Iterator[Step]:
    """A compare and swap of one key, or writes to some."""
    puts = {op.request_put.key: op.request_put for op in request.success if op.HasField("request_put")}
    if key not in puts:
        return
    after = puts[key].value
    if not request.compare:
        found = (
            {op.response_put.prev_kv.key: op.response_put.prev_kv.value for op in response.responses}
            if isinstance(response, TxnResponse)
            else {}
        )
        looks = isinstance(response, TxnResponse)
        yield Step(name, *times, looks=looks, before=found.get(key), writes=True, after=after)
        return
    expected = _expected(request.compare[0], values)
    if not isinstance(response, TxnResponse):
        yield Step(name, *times, looks=True, before=expected, writes=True, after=after, may_miss=True)
    elif response.succeeded:
        yield Step(name, *times, looks=True, before=expected, writes=True, after=after)
    else:
        kvs = response.responses[0].response_range.kvs
        yield Step(name, *times, looks=True, before=kvs[0].value if kvs else None)


def _expected(compare: Compare, values: Mapping[tuple[bytes, int], bytes]) -> Value:
    if compare.target == Compare.CompareTarget.VALUE:
        return compare.value
    return values.get((compare.key, compare.mod_revision)) if compare.mod_revision else None
