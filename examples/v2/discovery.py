"""Service discovery: instances register themselves, others find them.

    discovery.py 127.0.0.1:2379 register web one 10.0.0.1:80
    discovery.py 127.0.0.1:2379 find web

Guarantees: an instance that dies is listed for at most its TTL and half a second more. Not guaranteed:
that an instance that is listed lives (try another one if it does not answer), nor that one that lives is
listed: one that cannot reach the cluster for the length of its TTL is dropped, and registers again when
it can.
"""

from etcd2 import HISTORY_GONE, NOT_FOUND, Heartbeat, RefusedError, run, say

TTL = 2


def register(etcd, service, name, address):
    key = f"/services/{service}/{name}"
    while True:
        etcd.put(key, address, ttl=TTL)
        say("registered", name)
        Heartbeat(etcd, key, address, TTL).lost.wait()


def find(etcd, service):
    """Print the addresses now, and again after each change."""
    key = f"/services/{service}"
    while True:
        nodes, since = etcd.nodes(key)
        known = {node["key"].rpartition("/")[2]: node["value"] for node in nodes}
        say("found", *sorted(known.items()))
        try:
            for event in etcd.watch(key, since):
                name = event["node"]["key"].rpartition("/")[2]
                before = dict(known)
                if event["action"] in ("expire", "delete"):
                    known.pop(name, None)
                else:
                    known[name] = event["node"]["value"]
                if known != before:
                    say("found", *sorted(known.items()))
        except RefusedError as refused:
            if refused.code not in (HISTORY_GONE, NOT_FOUND):
                raise  # otherwise we were away for more than 1,000 changes: look again


if __name__ == "__main__":
    run(__doc__, {"register": register, "find": find})
