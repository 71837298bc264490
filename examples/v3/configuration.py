"""Publish and subscribe: configuration that reaches everyone who runs.

    configuration.py 127.0.0.1:2379 publish colour blue
    configuration.py 127.0.0.1:2379 subscribe

Guarantees: a subscriber sees the newest value of every key, sooner or later, and never an older one after
a newer one. It sees every change in order, also those of an absence, unless the history was compacted
meanwhile. Not guaranteed: that two subscribers have the same values at the same time.
"""

from etcd3 import CompactedError, is_delete, name_of, run, say

ROOT = "/configuration/"


def publish(etcd, name, value):
    say("published", name, value, "at", etcd.put(ROOT + name, value))


def subscribe(etcd):
    while True:
        kvs, revision = etcd.list(ROOT)
        for kv in kvs:
            say("now", name_of(kv), kv.value.decode(), "at", kv.mod_revision)
        say("following")
        try:
            for event in etcd.watch(ROOT, revision):
                value = "(gone)" if is_delete(event) else event.kv.value.decode()
                say("now", name_of(event.kv), value, "at", event.kv.mod_revision)
        except CompactedError:
            continue  # what is there now counts


if __name__ == "__main__":
    run(__doc__, {"publish": publish, "subscribe": subscribe})
