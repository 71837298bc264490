"""Queues: jobs in order, each for one worker; and a gate that holds them until a condition holds.

    work_queue.py 127.0.0.1:2379 put jobs 10
    work_queue.py 127.0.0.1:2379 take jobs ann
    work_queue.py 127.0.0.1:2379 take jobs ann gated
    work_queue.py 127.0.0.1:2379 open jobs

Jobs are ordered by the revision that made them; a worker claims one by creating a key beside it under its
lease, and deletes both in one transaction when the job is done. Gated workers begin when the key
``condition`` exists. Guarantees: jobs are begun in order, and every job is done at least once; a worker
whose claim has expired cannot take the job away any more. Not guaranteed: once only; a worker that is
stopped for longer than its lease's TTL does what another one does as well.
"""

import time
import uuid

from etcd3 import name_of, pb, run, say

TTL, JOB_SECONDS = 2, 0.05


def put(etcd, queue, count):
    for number in range(int(count)):
        etcd.put(f"/{queue}/todo/{uuid.uuid4()}", f"job {number}")
    say("put", count)


def open_gate(etcd, queue):
    etcd.put(f"/{queue}/condition", "met")
    say("opened", queue)


def take(etcd, queue, name, gated=""):
    if gated:
        say("waits at the gate", name)
        pass_gate(etcd, queue)
    lease = etcd.lease(TTL)
    while not lease.lost.is_set():
        kvs, revision = etcd.list(f"/{queue}/")
        claimed = {name_of(kv) for kv in kvs if kv.key.startswith(f"/{queue}/claims/".encode())}
        jobs = [kv for kv in kvs if kv.key.startswith(f"/{queue}/todo/".encode())]
        free = [job for job in jobs if name_of(job) not in claimed]
        if not jobs:
            say("empty", name)
        if not (free and claim(etcd, queue, name, free[0], lease)):
            next(etcd.watch(f"/{queue}/", revision))


def claim(etcd, queue, name, job, lease):
    """Do a job unless somebody else does."""
    key = f"/{queue}/claims/{name_of(job)}"
    there = pb.Compare(key=job.key, target="MOD", result="EQUAL", mod_revision=job.mod_revision)
    missing = pb.Compare(key=key.encode(), target="CREATE", result="EQUAL", create_revision=0)
    put = pb.RequestOp(request_put=pb.PutRequest(key=key.encode(), value=name.encode(), lease=lease.id))
    request = pb.TxnRequest(compare=[there, missing], success=[put])
    answer = etcd.call("etcdserverpb.KV/Txn", request, pb.TxnResponse)
    if not answer.succeeded:
        return False
    value = job.value.decode()
    say("begins", name, value)
    time.sleep(JOB_SECONDS)
    mine = pb.Compare(key=key.encode(), target="MOD", result="EQUAL", mod_revision=answer.header.revision)
    deletes = [
        pb.RequestOp(request_delete_range=pb.DeleteRangeRequest(key=each)) for each in (job.key, key.encode())
    ]
    done, _ = etcd.txn(mine, *deletes)
    say("finished" if done else "was too late with", name, value)
    return True


def pass_gate(etcd, queue):
    kvs, revision = etcd.list(f"/{queue}/condition")
    if not kvs:
        next(etcd.watch(f"/{queue}/condition", revision))


if __name__ == "__main__":
    run(__doc__, {"put": put, "take": take, "open": open_gate})
