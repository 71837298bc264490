"""Liveness: who is alive, and who has just died.

    liveness.py 127.0.0.1:2379 beat ann
    liveness.py 127.0.0.1:2379 monitor

Guarantees: a process that dies is reported down after its lease's TTL, within a second, whoever watches;
the monitor and the process know nothing of each other. Not guaranteed: that what is down is dead (it may
be cut off), nor that what is up is well: it renews a lease, no more.
"""

from etcd3 import CompactedError, is_delete, name_of, run, say

ROOT, TTL = "/alive/", 2


def beat(etcd, name):
    while True:
        lease = etcd.lease(TTL)
        etcd.put(ROOT + name, name, lease.id)
        say("beats", name)
        lease.lost.wait()


def monitor(etcd):
    up = set()
    while True:
        kvs, revision = etcd.list(ROOT)
        now = {name_of(kv) for kv in kvs}
        tell(up, now)
        up = now
        say("watching")
        try:
            for event in etcd.watch(ROOT, revision):
                name = name_of(event.kv)
                now = up - {name} if is_delete(event) else up | {name}
                tell(up, now)
                up = now
        except CompactedError:
            continue  # we were away for long: look again


def tell(before, after):
    for name in sorted(after - before):
        say("up", name)
    for name in sorted(before - after):
        say("down", name)


if __name__ == "__main__":
    run(__doc__, {"beat": beat, "monitor": monitor})
