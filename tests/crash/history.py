"""Writers that remember what they were told, and the check of a restarted member against their memory.

Each writer owns a few keys and writes to them one after the other, every value only once. So after a crash a
key must hold the newest acknowledged value, or a later one that was sent and not answered: a write whose
answer was lost may have happened, or not, but only whole and only once.
"""

import random
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, final

import grpc

from kvorum.proto import rpc_pb2 as pb
from kvorum.proto.kv_pb2 import KeyValue
from tests.support.client import Client

KEYS_PER_WRITER: Final = 3


@final
@dataclass
class Written:
    """What one group of keys, always written together, was sent and acknowledged."""

    sent: int = 0
    acknowledged: int = 0
    revision: int = 0


@final
@dataclass
class Writer:
    """One client that writes until the server is gone: single puts, and transactions over all of its keys."""

    name: str
    seed: int
    puts: Written = field(default_factory=Written)
    txns: Written = field(default_factory=Written)
    violations: list[str] = field(default_factory=list)

    def run(self, client: Client, stop: threading.Event) -> None:
        """Write until the connection breaks or ``stop`` is set."""
        choose = random.Random(self.seed + self.puts.sent + self.txns.sent)
        while not stop.is_set():
            written = self.puts if choose.random() < 0.6 else self.txns
            written.sent += 1
            try:
                if written is self.puts:
                    header = client.put(self._key("put"), self._value(written.sent)).header
                else:
                    header = client.txn(success=self._puts(written.sent)).header
            except grpc.RpcError:
                return
            if header.revision <= written.revision:
                self.violations.append(f"{self.name}: revision {header.revision} after {written.revision}")
            written.acknowledged, written.revision = written.sent, header.revision
            if choose.random() < 0.05:
                self._compact(client, header.revision - 3)

    @staticmethod
    def _compact(client: Client, revision: int) -> None:
        """Compact; another writer may have done so already, and the server may be gone."""
        try:
            client.compact(revision)
        except grpc.RpcError:
            return

    def check(self, client: Client) -> None:
        """Compare what a restarted member holds with what this writer was told; collects violations."""
        single = client.range(self._key("put")).kvs
        if single and self.puts.acknowledged == self.puts.sent:
            self._same_revision("put", self.puts, single[0].mod_revision)
        self._check_value("put", self.puts, single)
        found = client.range(self._key("txn"), self._key("txn") + b"\xff").kvs
        values = {int(kv.value.split()[0]) for kv in found}
        revisions = {kv.mod_revision for kv in found}
        if len(values) > 1 or len(revisions) > 1 or len(found) not in (0, KEYS_PER_WRITER):
            self.violations.append(f"{self.name}: half a transaction: {values} at {revisions}")
        if found and self.txns.acknowledged == self.txns.sent:
            self._same_revision("txn", self.txns, found[0].mod_revision)
        self._check_value("txn", self.txns, found)

    def _check_value(self, kind: str, written: Written, found: Sequence[KeyValue]) -> None:
        held = int(found[0].value.split()[0]) if found else 0
        if not written.acknowledged <= held <= written.sent:
            self.violations.append(
                f"{self.name} {kind}: holds {held}, acknowledged {written.acknowledged}, sent {written.sent}"
            )
        # What the crash left unanswered is decided now, and must stay decided.
        written.acknowledged = written.sent = held
        written.revision = found[0].mod_revision if found else 0

    def _same_revision(self, kind: str, written: Written, held: int) -> None:
        if held != written.revision:
            self.violations.append(f"{self.name} {kind}: written at {written.revision}, found at {held}")

    def _key(self, kind: str) -> bytes:
        return f"{kind}/{self.name}/".encode()

    @staticmethod
    def _value(number: int) -> bytes:
        return b"%d %s" % (number, b"." * (number % 400))

    def _puts(self, number: int) -> list[pb.RequestOp]:
        return [
            pb.RequestOp(
                request_put=pb.PutRequest(key=self._key("txn") + b"%d" % at, value=self._value(number))
            )
            for at in range(KEYS_PER_WRITER)
        ]
