"""Locks: exclusive ones by prevExist, and ordered ones by keys that a POST numbers.

    lock.py 127.0.0.1:2379 exclusive printer ann 3
    lock.py 127.0.0.1:2379 ordered printer ann 3

Each takes the lock so many times, and says when it has it and with what token. Guarantees: at any index
at most one key says who holds the lock, and the tokens of those who get it rise; whoever waits for an
ordered lock gets it in the order of asking; the lock of a process that dies is free after its TTL.

NOT guaranteed: that the resource is used by one process at a time. A holder that is stopped for longer
than its TTL (a long pause, a slow disk) does not know that it has lost the lock. A lock without a fencing
token does not protect a resource: send the token with every use, and let the resource refuse what is
smaller than it has seen.
"""

import time

from etcd2 import EXISTS, NOT_FOUND, TEST_FAILED, Heartbeat, RefusedError, run, say

TTL, HOLD_SECONDS = 2, 0.15


def exclusive(etcd, lock, name, times):
    key = f"/locks/{lock}"
    for _ in range(int(times)):
        token = take(etcd, key, name)
        use(etcd, key, name, token)


def take(etcd, key, name):
    """Create the key, or wait until it is gone and try again."""
    while True:
        try:
            return etcd.put(key, name, ttl=TTL, prevExist="false")["node"]["createdIndex"]
        except RefusedError as refused:
            if refused.code != EXISTS:
                raise
            for event in etcd.watch(key, refused.index + 1):
                if event["action"] in ("expire", "delete", "compareAndDelete"):
                    break


def ordered(etcd, lock, name, times):
    directory = f"/queues/{lock}"
    for _ in range(int(times)):
        mine = etcd.post(directory, name, ttl=TTL)["node"]
        beat = Heartbeat(etcd, mine["key"], name, TTL)
        say("waits", name, mine["createdIndex"])
        wait_for_turn(etcd, directory, mine["key"])
        use(etcd, mine["key"], name, mine["createdIndex"], beat)


def wait_for_turn(etcd, directory, mine):
    """Watch the one ahead of us, and nobody else: whoever releases the lock wakes one, not all."""
    while True:
        nodes, since = etcd.nodes(directory)
        ahead = [node["key"] for node in nodes if node["key"] < mine]
        if not ahead:
            return
        for event in etcd.watch(ahead[-1], since):
            if event["action"] in ("expire", "delete", "compareAndDelete"):
                break


def use(etcd, key, name, token, beat=None):
    beat = beat or Heartbeat(etcd, key, name, TTL)
    say("holds", name, token)
    time.sleep(HOLD_SECONDS)  # here the resource is used, with the token
    beat.stop()
    say("lost" if beat.lost.is_set() else "releases", name, token)
    try:
        etcd.delete(key, prevValue=name)
    except RefusedError as refused:
        if refused.code not in (NOT_FOUND, TEST_FAILED):
            raise  # otherwise it had expired, and may be somebody else's


if __name__ == "__main__":
    run(__doc__, {"exclusive": exclusive, "ordered": ordered})
