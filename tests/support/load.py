"""Clients that load a cluster from threads and record what they saw (``history``).

A worker has one member at a time and goes to another when a call fails, as clients with several endpoints do.
It never repeats a write: what was not answered is recorded as that, and every write has a value of its own.
"""

import itertools
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, final

import grpc

from kvorum.proto import rpc_pb2 as pb
from tests.support.client import Client, op_put, op_range
from tests.support.cluster import Cluster
from tests.support.history import READ, STALE_READ, WRITE, Change, Operation, violations
from tests.support.process import Member
from tests.support.streams import WatchCall
from tests.support.waiting import WAIT_SECONDS, wait_until

CALL_SECONDS: Final = 2.0
_numbers: Final = itertools.count(1)

PUTS: Final = 0.3
SWAPS: Final = 0.55
READS: Final = 0.85
"""Up to which the dice say put, compare-and-swap, linearizable read; above it is a serializable read."""


@final
class Worker:
    """One client. ``operations`` is its record."""

    def __init__(
        self, name: str, seed: int, members: Callable[[], Sequence[Member]], keys: Sequence[bytes]
    ) -> None:
        self.name: Final = name
        self.operations: Final[list[Operation]] = []
        self._choose: Final = random.Random(seed)
        self._members: Final = members
        self._keys: Final = keys
        self._known: Final = dict.fromkeys(self._keys, 0)  # the mod_revision last seen
        self._written = 0
        self._member: Member | None = None
        self._client: Client | None = None

    def run(self, stop: threading.Event, pause_seconds: float) -> None:
        """Work until ``stop`` is set, with a pause between the calls."""
        while not stop.is_set():
            client, member = self._connected()
            try:
                self._one(client, member)
            except grpc.RpcError:
                client.close()
                self._client = None
            stop.wait(pause_seconds)
        if self._client is not None:
            self._client.close()

    def _connected(self) -> tuple[Client, Member]:
        if self._client is None:
            others = [member for member in self._members() if member is not self._member]
            self._member = self._choose.choice(others or self._members())
            self._client = Client(self._member.endpoint, CALL_SECONDS, wait_for_ready=False)
        assert self._member is not None
        return self._client, self._member

    def _one(self, client: Client, member: Member) -> None:
        key = self._choose.choice(self._keys)
        dice = self._choose.random()
        if dice < PUTS:
            self._write(key, -1, lambda value: client.put(key, value))
        elif dice < SWAPS:
            self._write(key, self._known[key], lambda value: self._swap(client, key, value))
        elif dice < READS:
            self._read(client, key, READ, self.name)
        else:
            self._read(client, key, STALE_READ, f"{self.name} at {member.name}")

    def _write(
        self, key: bytes, condition: int, write: Callable[[bytes], pb.PutResponse | pb.TxnResponse]
    ) -> None:
        self._written += 1
        value = f"{self.name}-{self._written}".encode()
        started = time.monotonic()
        try:
            answer = write(value)
        except grpc.RpcError:
            self._record(WRITE, key, value, started, 0, condition)
            raise
        if isinstance(answer, pb.TxnResponse) and not answer.succeeded:
            self._seen(
                READ, self.name, key, started, answer.responses[0].response_range, answer.header.revision
            )
            return
        self._record(WRITE, key, value, started, answer.header.revision, condition)
        self._known[key] = answer.header.revision

    def _swap(self, client: Client, key: bytes, value: bytes) -> pb.TxnResponse:
        unchanged = pb.Compare(key=key, mod_revision=self._known[key], target=pb.Compare.MOD)
        return client.txn([unchanged], [op_put(key, value)], [op_range(key)])

    def _read(self, client: Client, key: bytes, kind: str, reader: str) -> None:
        started = time.monotonic()
        answer = client.range(key, serializable=kind == STALE_READ)
        self._seen(kind, reader, key, started, answer, answer.header.revision)

    def _seen(
        self, kind: str, reader: str, key: bytes, started: float, answer: pb.RangeResponse, revision: int
    ) -> None:
        value, found = (answer.kvs[0].value, answer.kvs[0].mod_revision) if answer.kvs else (b"", 0)
        self._record(kind, key, value, started, revision, found, reader)
        self._known[key] = found

    def _record(
        self,
        kind: str,
        key: bytes,
        value: bytes,
        started: float,
        revision: int,
        mod_revision: int,
        client: str = "",
    ) -> None:
        self.operations.append(
            Operation(
                client or self.name, kind, key, value, started, time.monotonic(), revision, mod_revision
            )
        )


@final
class Load:
    """Several workers on one cluster, on keys of their own: all those from ``prefix`` to ``end``."""

    def __init__(self, cluster: Cluster, seed: int, workers: int = 4, keys: int = 8) -> None:
        self._cluster: Final = cluster
        name = b"load%d" % next(_numbers)
        self.prefix: Final = name + b"/"
        self.end: Final = name + b"0"
        self.first_revision: Final = cluster.client(cluster.wait_leader()).range(b"\0").header.revision + 1
        self.workers: Final = [
            Worker(
                f"w{number}",
                seed + number,
                lambda: tuple(cluster.members),
                [self.prefix + b"%d" % key for key in range(keys)],
            )
            for number in range(workers)
        ]

    @contextmanager
    def running(self, pause_seconds: float = 0.005) -> Iterator["Load"]:
        """Work while the block runs."""
        stop = threading.Event()
        threads = [threading.Thread(target=worker.run, args=(stop, pause_seconds)) for worker in self.workers]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            stop.set()
            for thread in threads:
                thread.join()

    @property
    def operations(self) -> list[Operation]:
        """What all of them recorded."""
        return [operation for worker in self.workers for operation in worker.operations]

    def acknowledged(self, kind: str = WRITE) -> int:
        """Return how many calls of a kind were answered."""
        return sum(operation.kind == kind and operation.revision > 0 for operation in self.operations)

    def wait_acknowledged(self, more: int, deadline_seconds: float = WAIT_SECONDS) -> None:
        """Wait until so many more writes have been acknowledged. Raises WaitError."""
        enough = self.acknowledged() + more
        wait_until(lambda: self.acknowledged() >= enough, f"{enough} writes acknowledged", deadline_seconds)

    def check(self) -> None:
        """Compare all members with each other, and with the record. No worker may be at work."""
        self._cluster.check_equal()
        for member in self._cluster.live:
            changes = truth(self, self._cluster.client(member))
            found = violations(self.operations, changes)
            assert not found, (member.name, len(found), found[:20])


def truth(load: Load, client: Client) -> list[Change]:
    """Return every change of the load's keys: a watch from where it began, nothing being compacted since."""
    last = client.range(
        load.prefix, load.end, sort_target=pb.RangeRequest.MOD, sort_order=pb.RangeRequest.DESCEND, limit=1
    ).kvs
    changes: list[Change] = []
    if not last:
        return changes
    with WatchCall(client) as watch:
        watch.create(load.prefix, load.end, start_revision=load.first_revision)
        while not changes or changes[-1].revision < last[0].mod_revision:
            answer = watch.take()
            assert not answer.canceled, answer
            changes += (Change(e.kv.mod_revision, e.kv.key, e.kv.value) for e in answer.events)
    return changes
