"""Publish and subscribe: configuration that reaches everyone who runs.

    configuration.py 127.0.0.1:2379 publish colour blue
    configuration.py 127.0.0.1:2379 subscribe

Guarantees: a subscriber sees the newest value of every key, sooner or later, and never an older one after a
newer one. While it follows, and after an absence of less than 1,000 changes, it sees every change in order.
Not guaranteed: that two subscribers have the same values at the same time.
"""

from etcd2 import HISTORY_GONE, RefusedError, run, say

ROOT = "/configuration"


def publish(etcd, name, value):
    answer = etcd.put(f"{ROOT}/{name}", value)
    say("published", name, value, "at", answer["node"]["modifiedIndex"])


def subscribe(etcd):
    while True:
        nodes, since = etcd.nodes(ROOT)
        for node in nodes:
            tell(node)
        say("following")
        try:
            for event in etcd.watch(ROOT, since):
                tell(event["node"])
        except RefusedError as refused:
            if refused.code != HISTORY_GONE:
                raise  # otherwise: what is there now counts


def tell(node):
    name = node["key"].removeprefix(ROOT + "/")
    say("now", name, node.get("value", "(gone)"), "at", node["modifiedIndex"])


if __name__ == "__main__":
    run(__doc__, {"publish": publish, "subscribe": subscribe})
