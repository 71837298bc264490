"""Queues: jobs in order, each for one worker; and a gate that holds them until a condition holds.

    work_queue.py 127.0.0.1:2379 put jobs 10
    work_queue.py 127.0.0.1:2379 take jobs ann
    work_queue.py 127.0.0.1:2379 take jobs ann gated
    work_queue.py 127.0.0.1:2379 open jobs

Jobs are numbered by POST; a worker claims one by creating a key beside it that its death lets expire, and
deletes the job when it is done. Gated workers begin when the key ``condition`` exists. Guarantees: jobs
are begun in order, and every job is done at least once. Not guaranteed: once only; a worker that is
stopped for longer than its claim's TTL does what another one does as well.
"""

import time

from etcd2 import EXISTS, NOT_FOUND, Heartbeat, RefusedError, run, say

TTL, JOB_SECONDS = 2, 0.05


def put(etcd, queue, count):
    for number in range(int(count)):
        etcd.post(f"/{queue}/todo", f"job {number}")
    say("put", count)


def open_gate(etcd, queue):
    etcd.put(f"/{queue}/condition", "met")
    say("opened", queue)


def take(etcd, queue, name, gated=""):
    if gated:
        say("waits at the gate", name)
        pass_gate(etcd, queue)
    while True:
        nodes, since = etcd.nodes(f"/{queue}")
        listed = {node["key"]: node.get("nodes", []) for node in nodes}
        claimed = {node["key"].rpartition("/")[2] for node in listed.get(f"/{queue}/claims", [])}
        jobs = listed.get(f"/{queue}/todo", [])
        free = [job for job in jobs if job["key"].rpartition("/")[2] not in claimed]
        if not jobs:
            say("empty", name)
        if not (free and claim(etcd, queue, name, free[0])):
            next(etcd.watch(f"/{queue}", since))


def claim(etcd, queue, name, job):
    """Do a job unless somebody else does."""
    key = f"/{queue}/claims/{job['key'].rpartition('/')[2]}"
    try:
        etcd.put(key, name, ttl=TTL, prevExist="false")
    except RefusedError as refused:
        if refused.code != EXISTS:
            raise
        return False
    beat = Heartbeat(etcd, key, name, TTL)
    try:
        etcd.get(job["key"])
    except RefusedError:
        beat.stop()
        etcd.delete(key)
        return True  # done between our look and our claim
    say("begins", name, job["value"])
    time.sleep(JOB_SECONDS)
    for finished in (job["key"], key):
        try:
            etcd.delete(finished)
        except RefusedError as refused:
            if refused.code != NOT_FOUND:
                raise
    beat.stop()
    say("finished", name, job["value"])
    return True


def pass_gate(etcd, queue):
    key = f"/{queue}/condition"
    try:
        etcd.get(key)
    except RefusedError as refused:
        if refused.code != NOT_FOUND:
            raise
        next(etcd.watch(key, refused.index + 1))


if __name__ == "__main__":
    run(__doc__, {"put": put, "take": take, "open": open_gate})
