"""HashKV against etcd 3.5.1: the same history gives the same hash, before and after compactions."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from kvorum.errors import ERR_COMPACTED, ERR_FUTURE_REV
from kvorum.mvcc.store import CompactedError, FutureRevisionError, Store
from tests.support.client import Client, op_delete, op_put, refused_with
from tests.support.process import Member


def compare(client: Client, store: Store, revisions: list[int]) -> None:
    for revision in revisions:
        theirs, ours = client.hash_kv(revision), store.hash_kv(revision)
        assert (theirs.hash, theirs.compact_revision, theirs.header.revision) == ours, revision


@pytest.mark.parametrize("seed", [11, 12])
def test_hash_kv_is_etcds(
    etcd: Member, connect: Callable[[Member], Client], tmp_path: Path, seed: int
) -> None:
    random_ = random.Random(seed)
    client = connect(etcd)
    store = Store.open(str(tmp_path / "db"), clock=lambda: 0.0)
    names = [b"key-%02d" % number for number in range(25)]
    compare(client, store, [0])
    for step in range(240):
        if random_.random() < 0.25:
            key, end = sorted(random_.sample(names, 2))
            end = random_.choice([b"", end])
            deleted = client.delete(key, end).deleted
            with store.write() as txn:
                assert txn.delete_range_count(key, end) == deleted
        elif random_.random() < 0.3:
            chosen = random_.sample(names, 4)
            deletes, puts = chosen[:2], chosen[2:]
            client.txn(success=[*(op_delete(key) for key in deletes), *(op_put(key, b"txn") for key in puts)])
            with store.write() as txn:
                for key in deletes:
                    txn.delete_range_count(key)
                for key in puts:
                    txn.put(key, b"txn")
        else:
            key, value = random_.choice(names), b"v" * random_.choice([0, 1, 127, 128, 5000])
            client.put(key, value)
            with store.write() as txn:
                txn.put(key, value)
        if step % 60 == 59:
            low = max(store.compact_revision + 1, 1)
            compare(client, store, [0, low, *random_.sample(range(low, store.revision + 1), 5)])
            at = random_.choice([store.revision, random_.randrange(low, store.revision + 1)])
            client.compact(at, physical=True)
            store.compact(at)
            store.compact_now()
            later = range(at + 1, store.revision + 1)
            compare(client, store, [0, *random_.sample(later, min(len(later), 5))])
            with refused_with(ERR_COMPACTED):
                client.hash_kv(at)
            with pytest.raises(CompactedError):
                store.hash_kv(at)
    with refused_with(ERR_FUTURE_REV):
        client.hash_kv(store.revision + 1)
    with pytest.raises(FutureRevisionError):
        store.hash_kv(store.revision + 1)

    # The last key is deleted after a compaction: nothing is to be kept then, and etcd hashes what is left.
    client.delete(b"\0", b"\0")
    client.put(b"one", b"1")
    with store.write() as txn:
        txn.delete_range_count(b"\0", b"\0")
    with store.write() as txn:
        txn.put(b"one", b"1")
    client.compact(store.revision, physical=True)
    store.compact(store.revision)
    store.compact_now()
    client.delete(b"one")
    with store.write() as txn:
        assert txn.delete_range_count(b"one") == 1
    compare(client, store, [0, store.revision])

    # All that is known of a history survives a restart of either.
    etcd.restart()
    store.close()
    store = Store.open(str(tmp_path / "db"), clock=lambda: 0.0)
    compare(client, store, [0, store.revision])
    store.close()
