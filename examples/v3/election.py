"""Leader election: one of many leads, the others stand by.

    election.py 127.0.0.1:2379 candidate ann
    election.py 127.0.0.1:2379 observe

Candidates wait in the Election service. Guarantees: at any revision one candidate is the first; if it
dies, the next one in line leads after its lease's TTL. Not guaranteed: that an old leader knows that it
is none any more. It stops by itself when it could not renew its lease for the length of the TTL, by its
own clock; what it does meanwhile needs the term (the revision of its key), so that others can refuse an
older one.
"""

from etcd3 import campaign, leaders, run, say

ROOT, TTL = "/election", 2


def candidate(etcd, name):
    while True:
        lease = etcd.lease(TTL)
        say("stands", name)
        term = campaign(etcd, ROOT, name, lease)
        say("leads", name, term)
        lease.lost.wait()  # here it leads
        say("steps down", name, term)


def observe(etcd):
    for leader in leaders(etcd, ROOT):
        say("leader", leader.value.decode(), leader.create_revision)


if __name__ == "__main__":
    run(__doc__, {"candidate": candidate, "observe": observe})
