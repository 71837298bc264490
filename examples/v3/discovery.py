"""Service discovery: instances register themselves under a lease, others find them.

    discovery.py 127.0.0.1:2379 register web one 10.0.0.1:80
    discovery.py 127.0.0.1:2379 find web

Guarantees: an instance that dies is listed for at most its lease's TTL and a second more. Not guaranteed:
that an instance that is listed lives (try another one if it does not answer), nor that one that lives is
listed: one that cannot reach the cluster for the length of its TTL is dropped, and registers again when
it can.
"""

from etcd3 import CompactedError, is_delete, name_of, run, say

TTL = 2


def register(etcd, service, name, address):
    while True:
        lease = etcd.lease(TTL)
        etcd.put(f"/services/{service}/{name}", address, lease.id)
        say("registered", name)
        lease.lost.wait()


def find(etcd, service):
    """Print the addresses now, and again after each change."""
    prefix = f"/services/{service}/"
    while True:
        kvs, revision = etcd.list(prefix)
        known = {name_of(kv): kv.value.decode() for kv in kvs}
        say("found", *sorted(known.items()))
        try:
            for event in etcd.watch(prefix, revision):
                if is_delete(event):
                    known.pop(name_of(event.kv), None)
                else:
                    known[name_of(event.kv)] = event.kv.value.decode()
                say("found", *sorted(known.items()))
        except CompactedError:
            continue  # we were away for long: look again


if __name__ == "__main__":
    run(__doc__, {"register": register, "find": find})
