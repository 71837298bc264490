"""Clients: they put, get, delete, compare and swap, try again elsewhere, and often do not learn what became
of it.

A client speaks to one member at a time, over a connection that breaks when the member does. What it asked for
and was not answered may have happened, or may happen later: its outcome is unknown, and its next attempt is
another operation, with a value of its own.
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

from google.protobuf.message import Message as ProtobufMessage

from kvorum import errors
from kvorum.apply import range as ranges
from kvorum.apply.applier import Result
from kvorum.apply.txn import OpenedTxn
from kvorum.errors import EtcdError
from kvorum.proto.rpc_pb2 import (
    CompactionRequest,
    Compare,
    DeleteRangeRequest,
    PutRequest,
    RangeRequest,
    RequestOp,
    TxnRequest,
)
from kvorum.server import requests
from kvorum.server.node import Node
from kvorum.sim.oracle import Operation, tagged

if TYPE_CHECKING:
    from kvorum.sim.cluster import Cluster
    from kvorum.sim.member import Member

NUMBERS: Final = {
    "put": requests.PUT,
    "delete": requests.DELETE_RANGE,
    "txn": requests.TXN,
    "compact": requests.COMPACTION,
    "grant": requests.LEASE_GRANT,
    "revoke": requests.LEASE_REVOKE,
}
"""Kinds of operations that are written to the log, by their field of InternalRaftRequest."""

UNDECIDED: Final = frozenset(
    error.message
    for error in (
        errors.ERR_TIMEOUT,
        errors.ERR_TIMEOUT_DUE_TO_CONNECTION_LOST,
        errors.ERR_TIMEOUT_DUE_TO_LEADER_FAIL,
        errors.ERR_STOPPED,
        errors.ERR_LEADER_CHANGED,
        errors.ERR_NO_LEADER,
    )
)
"""Errors of a write that say nothing about whether it was, or will be, applied."""


@final
@dataclass(frozen=True)
class Outcome:
    """What a client learns. ``decided`` False: nothing. ``refused``: nothing came of it, for certain."""

    decided: bool
    refused: bool = False
    revision: int = 0
    body: bytes = b""
    error: str = ""


UNKNOWN: Final = Outcome(decided=False)
REFUSED: Final = Outcome(decided=True, refused=True)

Answered = Callable[[Outcome], None]


@final
class Connection:
    """How one client's requests reach members, and their answers it."""

    def __init__(self, cluster: "Cluster", dice: random.Random) -> None:
        self._cluster: Final = cluster
        self._dice: Final = dice

    def latency(self) -> float:
        """Seconds to or from a member."""
        return 0.0002 + self._cluster.profile.client_delay_seconds * self._dice.expovariate(1.0)

    async def ask(
        self,
        member: "Member",
        work: Callable[[Node, Answered], None],
        patience_seconds: float,
    ) -> Outcome:
        """Let ``work`` happen at a member, and wait for its outcome."""
        loop = self._cluster.loop
        waiting: asyncio.Future[Outcome] = loop.create_future()

        def settle(outcome: Outcome) -> None:
            if not waiting.done():
                waiting.set_result(outcome)

        def answered(outcome: Outcome) -> None:
            loop.call_later(self.latency(), settle, outcome)

        def arrive() -> None:
            running = member.running
            if running is None:
                answered(REFUSED)
                return
            broken = member.calls
            broken[waiting] = lambda: answered(UNKNOWN)
            node = running.node
            running.process.run(lambda: node.guard(lambda: work(node, answered)))

        loop.call_later(self.latency(), arrive)
        timeout = loop.call_later(patience_seconds, settle, UNKNOWN)
        outcome = await waiting
        timeout.cancel()
        member.calls.pop(waiting, None)
        return outcome


def proposal(operation: Operation) -> Callable[[Node, Answered], None]:
    """What a member does with a write (``api/v3/kv.py``)."""
    request = operation.request
    body = tagged(request, operation.number)
    parsed: object = OpenedTxn(request) if isinstance(request, TxnRequest) else request

    def work(node: Node, answered: Answered) -> None:
        def done(result: Result) -> None:
            error = result.error
            if error is None:
                answered(Outcome(True, revision=result.revision, body=result.body))
            elif error.message in UNDECIDED:
                answered(UNKNOWN)
            else:
                answered(Outcome(True, error=error.message))

        try:
            node.propose(NUMBERS[operation.kind], body, done, parsed)
        except EtcdError:
            answered(REFUSED)

    return work


def reading(operation: Operation) -> Callable[[Node, Answered], None]:
    """What a member does with a range (``api/v3/kv.py``)."""
    request = operation.request
    assert isinstance(request, RangeRequest), "a read is a range"

    def work(node: Node, answered: Answered) -> None:
        def run(error: EtcdError | None) -> None:
            if error is not None:
                answered(REFUSED)
                return
            try:
                revision, body = ranges.execute(node.view(), request)
            except EtcdError as refused:
                answered(Outcome(True, error=refused.forget().message))
            else:
                answered(Outcome(True, revision=revision, body=body))

        if request.serializable:
            run(None)
        else:
            node.reads.wait(run)

    return work


@final
class Client:
    """One client, one operation after the other."""

    def __init__(
        self,
        cluster: "Cluster",
        name: str,
        dice: random.Random,
        *,
        only_reads: bool = False,
        patience_seconds: float | None = None,
    ) -> None:
        self._only_reads: Final = only_reads
        self._cluster: Final = cluster
        self.name: Final = name
        self._dice: Final = dice
        self.connection: Final = Connection(cluster, dice)
        self._patience: Final = patience_seconds or cluster.profile.patience_seconds
        self._member = 0
        self._seen: dict[bytes, tuple[int, bytes]] = {}
        self._revision = 1
        self.attempts = 0

    # --- the workload ---------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until the storm is over."""
        cluster, dice = self._cluster, self._dice
        self._member = dice.randrange(1 << 30)
        while not cluster.is_closing:
            await asyncio.sleep(dice.expovariate(1.0) * cluster.profile.think_seconds)
            kind, request = self._next()
            outcome = await self.do(kind, request)
            if self._only_reads or not outcome.decided or outcome.refused or dice.random() < 0.05:
                self._member = dice.randrange(1 << 30)

    def _next(self) -> tuple[str, ProtobufMessage]:
        draw = 0.99 if self._only_reads else self._dice.random()
        key = self._key()
        if draw < 0.30:
            return "put", PutRequest(key=key, value=self._value(), prev_kv=draw < 0.1)
        if draw < 0.40:
            return "delete", self._delete(key)
        if draw < 0.60:
            return "txn", self._swap(key)
        if draw < 0.66:
            return "txn", self._both()
        if draw < 0.68 and self._cluster.profile.compactions:
            return "compact", CompactionRequest(revision=max(1, self._revision - self._dice.randrange(20)))
        request = RangeRequest(key=key)
        if self._dice.random() < 0.25:
            request = RangeRequest(key=b"k", range_end=b"l", limit=self._dice.choice((0, 0, 2)))
        if self._dice.random() < 0.08:
            request.revision = max(1, self._revision - self._dice.randrange(25))
        if draw < 0.80:
            request.serializable = True
            return "serializable", request
        return "read", request

    def _key(self) -> bytes:
        return b"k%02d" % self._dice.randrange(self._cluster.profile.keys)

    def _value(self) -> bytes:
        self.attempts += 1
        return b"%s.%d" % (self.name.encode(), self.attempts)

    def _delete(self, key: bytes) -> DeleteRangeRequest:
        if self._dice.random() < 0.2:
            return DeleteRangeRequest(key=key, range_end=b"k99", prev_kv=True)
        return DeleteRangeRequest(key=key, prev_kv=self._dice.random() < 0.5)

    def _swap(self, key: bytes) -> TxnRequest:
        """Compare and swap, against what this client has seen last."""
        mod, value = self._seen.get(key, (0, b""))
        if mod and self._dice.random() < 0.5:
            compare = Compare(
                key=key,
                target=Compare.CompareTarget.VALUE,
                result=Compare.CompareResult.EQUAL,
                value=value,
            )
        else:
            compare = Compare(
                key=key,
                target=Compare.CompareTarget.MOD,
                result=Compare.CompareResult.EQUAL,
                mod_revision=mod,
            )
        return TxnRequest(
            compare=[compare],
            success=[RequestOp(request_put=PutRequest(key=key, value=self._value()))],
            failure=[RequestOp(request_range=RangeRequest(key=key))],
        )

    def _both(self) -> TxnRequest:
        """Two keys at once, and a look at everything."""
        first, second = self._key(), self._key()
        writes = {first, second}
        puts = [
            RequestOp(request_put=PutRequest(key=key, value=self._value(), prev_kv=True))
            for key in sorted(writes)
        ]
        look = RequestOp(request_range=RangeRequest(key=b"k", range_end=b"l"))
        return TxnRequest(success=[*puts, look])

    # --- one operation --------------------------------------------------------------------------------------

    async def do(self, kind: str, request: ProtobufMessage, member: "Member | None" = None) -> Outcome:
        """Ask a member for something, and tell the oracle what came of it."""
        cluster = self._cluster
        oracle, trace, loop = cluster.oracle, cluster.trace, cluster.loop
        if member is None:
            member = cluster.nth(self._member)
        operation = oracle.begin(self.name, kind, request, loop.now)
        trace.note(f"{operation} -> {member.name}: {_short(request)}")
        is_read = kind in ("read", "serializable")
        work = reading(operation) if is_read else proposal(operation)

        def arrived(node: Node, answered: Answered) -> None:
            oracle.arrived(operation, f"{member.name}/{member.starts}")
            work(node, answered)

        outcome = await self.connection.ask(member, arrived, self._patience)
        trace.note(
            f"{operation} <- "
            + (
                "unknown"
                if not outcome.decided
                else "refused"
                if outcome.refused
                else outcome.error or f"revision {outcome.revision}"
            )
        )
        if outcome.refused:
            oracle.refused(operation, loop.now)
        elif outcome.decided:
            self._decided(operation, outcome)
        return outcome

    def _decided(self, operation: Operation, outcome: Outcome) -> None:
        oracle, now = self._cluster.oracle, self._cluster.loop.now
        if operation.kind == "read" and not outcome.error:
            oracle.read(operation, outcome.revision, outcome.body, now)
        elif operation.kind == "serializable" and not outcome.error:
            oracle.read_somewhere(operation, outcome.revision, outcome.body, now)
        elif operation.kind in ("read", "serializable"):
            oracle.read_refused(operation, outcome.error, now)
        else:
            oracle.written(operation, outcome.revision, outcome.body, outcome.error, now)
        self._revision = max(self._revision, outcome.revision)
        kvs = getattr(operation.response, "kvs", ())
        for kv in kvs:
            self._seen[kv.key] = (kv.mod_revision, kv.value)


def _short(request: ProtobufMessage) -> str:
    return " ".join(str(request).split())[:160]
