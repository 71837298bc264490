"""Leader election: one of many leads, the others stand by.

    election.py 127.0.0.1:2379 candidate ann
    election.py 127.0.0.1:2379 observe

Candidates queue up as for an ordered lock. Guarantees: at any index one candidate is the first; if it
dies, the next one in line leads after the TTL. Not guaranteed: that an old leader knows that it is none
any more. It stops by itself when it could not renew its key for the length of the TTL, by its own clock;
what it does meanwhile needs the term (the index of its key), so that others can refuse an older one.
"""

from etcd2 import Heartbeat, run, say
from lock import TTL, wait_for_turn

ROOT = "/election"


def candidate(etcd, name):
    while True:
        mine = etcd.post(ROOT, name, ttl=TTL)["node"]
        beat = Heartbeat(etcd, mine["key"], name, TTL)
        say("stands", name, mine["createdIndex"])
        wait_for_turn(etcd, ROOT, mine["key"])
        say("leads", name, mine["createdIndex"])
        beat.lost.wait()  # here it leads
        say("steps down", name, mine["createdIndex"])


def observe(etcd):
    leader = None
    while True:
        nodes, since = etcd.nodes(ROOT)
        first = (nodes[0]["value"], nodes[0]["createdIndex"]) if nodes else None
        if first != leader:
            leader = first
            say("leader", *(first or ("nobody",)))
        next(etcd.watch(ROOT, since))


if __name__ == "__main__":
    run(__doc__, {"candidate": candidate, "observe": observe})
