"""An etcd cluster becomes a Kvorum cluster, member by member, under writes of which none fails.

A write is one put of a key of its own. Its client does what etcd's clients do for a put that may be repeated:
it has the client URLs of all members, gives one call up to a second, and goes to the next member when a call
fails or is not answered. **A write has failed** if nobody acknowledged it within five seconds, or if it was
acknowledged and is not there in the end, with its value, on every member.
"""

import threading
import time
from dataclasses import dataclass, field
from typing import Final, final

import grpc

from tests.cluster.conftest import Form, programs
from tests.support import process
from tests.support.client import Client
from tests.support.cluster import Cluster
from tests.support.process import Member, Program
from tests.support.waiting import wait_until
from tests.support.workload import everything, same_everywhere

ATTEMPT_SECONDS: Final = 1.0
WRITE_SECONDS: Final = 5.0
WRITERS: Final = 3


@final
@dataclass
class Writer:
    """One client, writing one key after the other. ``failed`` are the keys that nobody acknowledged."""

    name: str
    cluster: Cluster
    written: list[bytes] = field(default_factory=list)
    failed: list[bytes] = field(default_factory=list)
    clients: dict[str, Client] = field(default_factory=dict)

    def run(self, stop: threading.Event) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            key = f"moving/{self.name}/{number:06}".encode()
            started = time.monotonic()
            (self.written if self._write(key, started) else self.failed).append(key)
            stop.wait(0.002)
        for client in self.clients.values():
            client.close()

    def _write(self, key: bytes, started: float) -> bool:
        while time.monotonic() - started < WRITE_SECONDS:
            for member in tuple(self.cluster.members):
                try:
                    self._client(member).put(key, key)
                except grpc.RpcError:
                    continue
                return True
        return False

    def _client(self, member: Member) -> Client:
        if member.name not in self.clients:
            self.clients[member.name] = self.cluster.fresh_client(member, ATTEMPT_SECONDS)
        return self.clients[member.name]


def replace(cluster: Cluster, old: Member, program: Program) -> Member:
    """Put a member of another program in the place of an old one: as a learner first, then voting."""
    new = cluster.join(program, learner=True)
    number = cluster.id_of(new)

    def promoted() -> bool:
        try:
            cluster.client(cluster.wait_leader()).member_promote(number)
        except grpc.RpcError:
            return False
        return True

    wait_until(promoted, "the learner has caught up")
    if cluster.wait_leader() is old:
        cluster.lead(new)
    cluster.remove(old)
    assert old.wait_exit() == 0
    return new


def test_member_by_member_without_a_failed_write(form: Form) -> None:
    cluster = form([process.etcd()] * 3)
    everything(cluster, seed=51)
    writers = [Writer(f"w{number}", cluster) for number in range(WRITERS)]
    stop = threading.Event()
    threads = [threading.Thread(target=writer.run, args=(stop,)) for writer in writers]
    for thread in threads:
        thread.start()
    try:
        for old in tuple(cluster.members):
            replace(cluster, old, programs(1)[0])
        everything(cluster, seed=52)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert {member.program for member in cluster.members} == {programs(1)[0]}
    assert all(member.wait_exit() == 0 for member in cluster.gone)
    same_everywhere(cluster)
    assert [key for writer in writers for key in writer.failed] == []
    written = {key for writer in writers for key in writer.written}
    assert len(written) > 100
    for member in cluster.members:
        found = cluster.client(member).range(b"moving/", b"moving0", serializable=True).kvs
        assert written <= {kv.key for kv in found if kv.value == kv.key}
