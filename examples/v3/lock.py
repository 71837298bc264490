"""Locks: exclusive ones by a transaction that creates a key, and ordered ones by the Lock service.

    lock.py 127.0.0.1:2379 exclusive printer ann 3
    lock.py 127.0.0.1:2379 ordered printer ann 3

Each takes the lock so many times, and says when it has it and with what token. Guarantees: at any
revision at most one key says who holds the lock, and the tokens (the revisions at which those keys were
made) of those who get it rise; whoever waits for an ordered lock gets it in the order of asking; the lock
of a process that dies is free after its lease's TTL.

NOT guaranteed: that the resource is used by one process at a time. A holder that is stopped for longer
than its TTL (a long pause, a slow disk) does not know that it has lost the lock. A lock without a fencing
token does not protect a resource: send the token with every use, and let the resource refuse what is
smaller than it has seen. Writes to etcd itself can be protected by comparing the key's create revision in
the same transaction.
"""

import time

import etcd3
from etcd3 import is_delete, run, say

TTL, HOLD_SECONDS = 2, 0.15


def exclusive(etcd, lock, name, times):
    key = f"/locks/{lock}"
    for _ in range(int(times)):
        lease = etcd.lease(TTL)
        token = take(etcd, key, name, lease)
        use(name, token, lease)


def take(etcd, key, name, lease):
    """Create the key, or wait until it is gone and try again."""
    while True:
        created, revision = etcd.create(key, name, lease.id)
        if created:
            return revision
        for event in etcd.watch(key, revision + 1):
            if is_delete(event):
                break


def ordered(etcd, lock, name, times):
    for _ in range(int(times)):
        lease = etcd.lease(TTL)
        say("waits", name)
        key = etcd3.lock(etcd, f"/queues/{lock}", lease)
        use(name, etcd.get(key).create_revision, lease)


def use(name, token, lease):
    say("holds", name, token)
    time.sleep(HOLD_SECONDS)  # here the resource is used, with the token
    say("lost" if lease.lost.is_set() else "releases", name, token)
    lease.end()


if __name__ == "__main__":
    run(__doc__, {"exclusive": exclusive, "ordered": ordered})
