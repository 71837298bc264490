"""Coordination by watched prefixes: a controller hands out tasks, workers do them and report.

    coordination.py 127.0.0.1:2379 work ann
    coordination.py 127.0.0.1:2379 control 10

A worker is there while its key below /coordination/workers lives, watches its keys below
/coordination/tasks, and moves what it has done to /coordination/done. The controller gives each task to
somebody, and to somebody else if that one vanishes. Guarantees: every task is done at least once as long
as some worker lives. Not guaranteed: once only; a worker that is cut off may finish what another one was
given meanwhile.
"""

import time

from etcd3 import run, say

ROOT, TTL, TASK_SECONDS = "/coordination", 2, 0.1


def work(etcd, name):
    lease = etcd.lease(TTL)
    etcd.put(f"{ROOT}/workers/{name}", name, lease.id)
    say("ready", name)
    tasks = f"{ROOT}/tasks/{name}/"
    while not lease.lost.is_set():
        kvs, revision = etcd.list(tasks)
        for kv in kvs:
            number = kv.value.decode()
            say("begins", number)
            time.sleep(TASK_SECONDS)
            etcd.put(f"{ROOT}/done/{number}", name)
            etcd.delete(kv.key.decode())
            say("finished", number)
        if not kvs:
            next(etcd.watch(tasks, revision))


def control(etcd, count):
    given = {}
    while True:
        kvs, revision = etcd.list(ROOT + "/")
        listed = {kv.key.decode().removeprefix(ROOT + "/"): kv.value.decode() for kv in kvs}
        done = {key.removeprefix("done/") for key in listed if key.startswith("done/")}
        workers = [value for key, value in listed.items() if key.startswith("workers/")]
        for number in map(str, range(int(count))):
            if number not in done and given.get(number) not in workers and workers:
                given[number] = workers[int(number) % len(workers)]
                etcd.put(f"{ROOT}/tasks/{given[number]}/{number}", number)
                say("gave", number, "to", given[number])
        if len(done) == int(count):
            say("all done")
            return
        next(etcd.watch(ROOT + "/", revision))


if __name__ == "__main__":
    run(__doc__, {"work": work, "control": control})
