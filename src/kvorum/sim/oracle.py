"""Holds every answer against the model: is the clients' history linearizable, and is nothing lost or done
twice?

The model of correctness is strict serializability of the whole key space, with etcd's revision as witness.
Members apply one sequence of entries (the judge sees to that); it is fed, in order, into ``model.Model``. A
history passes if

- an acknowledged write is in the sequence exactly once, and its answer (revision, previous values, deletions,
  branch and results of a transaction, error) is what the model says at its place;
- a write that was definitely refused is not in the sequence; one whose outcome is unknown is there at most
  once;
- a linearizable read at revision R shows what the model has at R;
- a place for every operation can be chosen between its beginning and its end. A write's place is its index. A
  read's is anywhere from the entry that made R to the one that made R + 1, not included. As places are known,
  it is enough that whatever ended before an operation began has a place not after its own (an interval order:
  if it holds for pairs, it holds for all);
- a serializable read shows what the model has at *some* revision that a member had by then, and on one run of
  one member these revisions do not go back.

To pass is to be linearizable: the sequence with the reads in their places is the witness. ``registers.py``
looks for a witness of its own without knowing of the log.

The same model says what watchers must see (``watching.py``) and what leases do (``leasing.py``).
"""

import math
from dataclasses import dataclass, field
from typing import Final, final

from google.protobuf.message import Message as ProtobufMessage

from kvorum.proto.raft_internal_pb2 import InternalRaftRequest
from kvorum.proto.rpc_pb2 import (
    DeleteRangeResponse,
    PutResponse,
    RangeRequest,
    RangeResponse,
    TxnResponse,
)
from kvorum.raft.types import ENTRY_NORMAL, Entry
from kvorum.sim.model import COMPACTED, FUTURE, Answer, Model
from kvorum.sim.trace import ViolationError

TAG: Final = b"\x85\xfa\x01"
"""Field 4,000 (fixed32), which no request has: it carries the operation's number through the log."""

_RESPONSES: Final[dict[str, type[ProtobufMessage]]] = {
    "put": PutResponse,
    "delete": DeleteRangeResponse,
    "txn": TxnResponse,
}
LINEARIZABLE: Final = "linearizability"
LOST: Final = "no-lost-write"


def tagged(request: ProtobufMessage, number: int) -> bytes:
    """A request's bytes, with the number of the operation it belongs to."""
    return request.SerializeToString() + TAG + number.to_bytes(4, "little")


@final
@dataclass(eq=False)
class Operation:
    """Something a client asked for. ``index`` is its entry's, once it was applied anywhere."""

    number: int
    client: str
    kind: str
    request: ProtobufMessage
    started: float
    floor: int
    """The latest place of what had ended before this began."""
    run: str = ""
    """The run of the member that is asked."""
    shown: int = 0
    """The newest revision that this run had shown anybody."""
    ended: float = math.inf
    index: int = 0
    expected: Answer = field(default_factory=lambda: Answer(0))
    refused: bool = False
    revision: int = 0
    response: ProtobufMessage | None = None

    def __str__(self) -> str:
        return f"{self.client}#{self.number} {self.kind}"


@final
class Oracle:
    """See the module."""

    def __init__(self) -> None:
        self.model: Final = Model()
        self.operations: Final[list[Operation]] = []
        self.revocations: Final[list[tuple[int, int]]] = []
        """Leases revoked, with the number of the operation that asked for it (0: expired)."""
        self._floor = 0
        self._shown: Final[dict[str, int]] = {}

    # --- what clients do ------------------------------------------------------------------------------------

    def begin(self, client: str, kind: str, request: ProtobufMessage, now: float) -> Operation:
        """A client asks for something."""
        number = len(self.operations) + 1
        operation = Operation(number, client, kind, request, now, self._floor)
        self.operations.append(operation)
        return operation

    def arrived(self, operation: Operation, run: str) -> None:
        """It has come to a member, in a certain run of it."""
        operation.run = run
        operation.shown = self._shown.get(run, 0)

    def refused(self, operation: Operation, now: float) -> None:
        """The client knows that nothing came of it."""
        operation.ended = now
        operation.refused = True
        if operation.index:
            raise ViolationError(LINEARIZABLE, f"{operation} was refused, and applied at {operation.index}")

    def written(self, operation: Operation, revision: int, body: bytes, error: str, now: float) -> None:
        """A write was answered from its being applied, with a revision and a response or with an error."""
        operation.ended = now
        if not operation.index:
            raise ViolationError(LOST, f"{operation} was acknowledged, and no member has applied it")
        expected = operation.expected
        if error or expected.error:
            if error != expected.error:
                raise ViolationError(
                    LINEARIZABLE, f"{operation} got {error or 'an answer'!r}, not {expected.error or 'one'!r}"
                )
        elif revision != expected.revision:
            raise ViolationError(
                LINEARIZABLE, f"{operation} got revision {revision}, not {expected.revision}"
            )
        kind = _RESPONSES.get(operation.kind)
        if kind is not None and not error:
            response = kind.FromString(body)
            if response != expected.response:
                raise ViolationError(
                    LINEARIZABLE, f"{operation} got {_line(response)}, not {_line(expected.response)}"
                )
            operation.response = response
        operation.revision = revision
        self._floor = max(self._floor, operation.index)

    def read(self, operation: Operation, revision: int, body: bytes, now: float) -> None:
        """A linearizable read was answered."""
        operation.ended = now
        self._shows(operation, revision, body)
        places = self.model.index_of_revision
        last = places[revision + 1] - 1 if revision + 1 < len(places) else math.inf
        if last < operation.floor:
            raise ViolationError(
                LINEARIZABLE,
                f"{operation} was answered at revision {revision} (up to entry {last}), after entry"
                f" {operation.floor} had been answered: stale",
            )
        self._floor = max(self._floor, places[revision])

    def read_somewhere(self, operation: Operation, revision: int, body: bytes, now: float) -> None:
        """A serializable read was answered by ``operation.run``, one run of one member."""
        operation.ended = now
        self._shows(operation, revision, body)
        if revision < operation.shown:
            raise ViolationError(
                "serializability", f"{operation} saw {revision} on {operation.run}, after {operation.shown}"
            )
        self._shown[operation.run] = max(revision, self._shown.get(operation.run, 0))

    def _shows(self, operation: Operation, revision: int, body: bytes) -> None:
        model, request = self.model, operation.request
        assert isinstance(request, RangeRequest), "a read is a range"
        if revision > model.revision:
            raise ViolationError(
                LINEARIZABLE, f"{operation} was answered at revision {revision}, which nobody has made"
            )
        response = RangeResponse.FromString(body)
        expected = model.range(request, revision)
        if response != expected:
            raise ViolationError(
                LINEARIZABLE if operation.kind == "read" else "serializability",
                f"{operation} at revision {revision} got {_line(response)}, not {_line(expected)}",
            )
        operation.revision, operation.response = revision, response

    def read_refused(self, operation: Operation, error: str, now: float) -> None:
        """A read at an old revision found it compacted, or, where the member is behind, not there yet."""
        operation.ended = now
        request = operation.request
        assert isinstance(request, RangeRequest), "a read is a range"
        is_gone = error == COMPACTED and 0 < request.revision < self.model.compacted
        is_late = error == FUTURE and request.serializable and request.revision > operation.shown
        if not (is_gone or is_late):
            raise ViolationError(LINEARIZABLE, f"{operation} of revision {request.revision}: {error}")

    # --- what members do ------------------------------------------------------------------------------------

    def applied(self, entry: Entry) -> Operation | None:
        """An entry is applied for the first time anywhere; returns the operation that it is."""
        data = entry.data
        if entry.type != ENTRY_NORMAL or not data:
            self.model.apply(entry, None)
            return None
        request = InternalRaftRequest.FromString(data)
        expected = self.model.apply(entry, request)
        at = data.find(TAG)
        number = int.from_bytes(data[at + 3 : at + 7], "little") if at >= 0 else 0
        if request.HasField("lease_revoke") and not expected.error:
            self.revocations.append((request.lease_revoke.ID, number))
        if not number:
            return None
        operation = self.operations[number - 1]
        if operation.index:
            raise ViolationError(
                LINEARIZABLE, f"{operation} is applied at {operation.index} and at {entry.index}"
            )
        if operation.refused:
            raise ViolationError(LINEARIZABLE, f"{operation} was refused, and is applied at {entry.index}")
        if operation.floor >= entry.index:
            raise ViolationError(
                LINEARIZABLE, f"{operation} at {entry.index} began after {operation.floor} was answered"
            )
        operation.index, operation.expected = entry.index, expected
        return operation


def _line(message: object) -> str:
    return " ".join(str(message).split()) or "nothing"
