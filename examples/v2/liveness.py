"""Liveness: who is alive, and who has just died.

    liveness.py 127.0.0.1:2379 beat ann
    liveness.py 127.0.0.1:2379 monitor

Guarantees: a process that dies is reported down after its TTL, within half a second, whoever watches; the
monitor and the process know nothing of each other. Not guaranteed: that what is down is dead (it may be
cut off), nor that what is up is well: it renews a key, no more.
"""

from etcd2 import HISTORY_GONE, Heartbeat, RefusedError, run, say

ROOT, TTL = "/alive", 2


def beat(etcd, name):
    while True:
        etcd.put(f"{ROOT}/{name}", name, ttl=TTL)
        say("beats", name)
        Heartbeat(etcd, f"{ROOT}/{name}", name, TTL).lost.wait()


def monitor(etcd):
    up = set()
    while True:
        nodes, since = etcd.nodes(ROOT)
        now = {node["key"].rpartition("/")[2] for node in nodes}
        tell(up, now)
        up = now
        say("watching")
        try:
            for event in etcd.watch(ROOT, since):
                name = event["node"]["key"].rpartition("/")[2]
                now = up - {name} if event["action"] in ("expire", "delete") else up | {name}
                tell(up, now)
                up = now
        except RefusedError as refused:
            if refused.code != HISTORY_GONE:
                raise


def tell(before, after):
    for name in sorted(after - before):
        say("up", name)
    for name in sorted(before - after):
        say("down", name)


if __name__ == "__main__":
    run(__doc__, {"beat": beat, "monitor": monitor})
