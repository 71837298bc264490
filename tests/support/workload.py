"""A bit of everything that a store can hold, through all members; and the look whether all hold the same."""

import random
from collections.abc import Iterator
from typing import Final

from bench import generator, messages
from kvorum.proto import rpc_pb2 as pb
from tests.support.client import Client, op_delete, op_put, op_range
from tests.support.cluster import Cluster
from tests.support.process import Member

KEYS: Final = 40
ROUNDS: Final = 20


def everything(cluster: Cluster, seed: int, rounds: int = ROUNDS) -> None:
    """Write at random: puts, leases kept and revoked, transactions, deletions of ranges, compactions."""
    choose = random.Random(seed)
    clients = [cluster.client(member) for member in cluster.live]
    leases = [clients[0].grant(3600).ID]
    revision = 0
    for number in range(rounds):
        client = choose.choice(clients)
        _leased(client, choose, leases)
        revision = _written(client, choose, number, choose.choice(leases))
        client.txn(_compared(choose), _operations(choose, number), [op_put(_key(choose), b"failed")])
        first, last = sorted((_key(choose), _key(choose)))
        if choose.random() < 0.2:
            client.delete(first, last)
        if number % 8 == 7:
            client.compact(revision - 5, physical=choose.random() < 0.5)


def _key(choose: random.Random) -> bytes:
    return b"every/%02d" % choose.randrange(KEYS)


def _leased(client: Client, choose: random.Random, leases: list[int]) -> None:
    dice = choose.random()
    if dice < 0.3:
        leases.append(client.grant(choose.randrange(600, 3600)).ID)
    elif dice < 0.4 and len(leases) > 1:
        client.revoke(leases.pop(choose.randrange(1, len(leases))))


def _written(client: Client, choose: random.Random, number: int, lease: int) -> int:
    value = b"%d %s" % (number, b"." * choose.randrange(300))
    return client.put(_key(choose), value, lease=lease if choose.random() < 0.5 else 0).header.revision


def _compared(choose: random.Random) -> list[pb.Compare]:
    return [pb.Compare(key=_key(choose), version=0, result=pb.Compare.GREATER, target=pb.Compare.VERSION)]


def _operations(choose: random.Random, number: int) -> list[pb.RequestOp]:
    return [
        op_put(b"every/txn", b"%d" % number),
        op_range(_key(choose)),
        op_delete(b"every/%02d" % (number % KEYS)),
        pb.RequestOp(request_txn=pb.TxnRequest(success=[op_put(b"every/nested", b"%d" % number)])),
    ]


def many(member: Member, count: int, first: int = 0) -> None:
    """Put ``count`` keys of 256 bytes, many in flight: enough entries to compact a log."""
    bodies = messages.puts(first, count)
    generator.run(member.endpoint, messages.PUT_PATH, bodies, connections=4, in_flight=64)


def large(member: Member, mebibytes: int) -> None:
    """Put so much that a snapshot takes a while to carry over."""
    value = random.Random(mebibytes).randbytes(1 << 20)
    with Client(member.endpoint) as client:
        for number in range(mebibytes):
            client.put(b"large/%d" % number, value)


def same_everywhere(cluster: Cluster) -> int:
    """Compare all that live: hashes, each key with its revisions and lease, leases, members; the revision."""
    revision = cluster.check_equal()
    for look in (_keys, _leases, _members):
        held = {member.name: look(cluster.client(member), revision) for member in cluster.live}
        assert len(set(held.values())) == 1, {name: sorted(_apart(name, held)) for name in held}
    return revision


def _apart(name: str, held: dict[str, frozenset[object]]) -> Iterator[str]:
    """Yield what this one has and some other has not."""
    for one in held[name]:
        if any(one not in other for other in held.values()):
            yield repr(one)


def _keys(client: Client, revision: int) -> frozenset[object]:
    found = client.range(b"\0", b"\0", serializable=True, revision=revision)
    return frozenset(kv.SerializeToString() for kv in found.kvs)


def _leases(client: Client, _revision: int) -> frozenset[object]:
    leases = {lease: client.time_to_live(lease, keys=True) for lease in client.leases()}
    return frozenset((lease, told.grantedTTL, *sorted(told.keys)) for lease, told in leases.items())


def _members(client: Client, _revision: int) -> frozenset[object]:
    listed = client.member_list(linearizable=False).members
    return frozenset((m.ID, m.name, *m.peerURLs, *m.clientURLs, m.isLearner) for m in listed)
