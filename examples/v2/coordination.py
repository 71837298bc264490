"""Coordination by watched directories: a controller hands out tasks, workers do them and report.

    coordination.py 127.0.0.1:2379 work ann
    coordination.py 127.0.0.1:2379 control 10

A worker is there while its key below /coordination/workers lives, watches its directory below
/coordination/tasks, and moves what it has done to /coordination/done. The controller gives each task to
somebody, and to somebody else if that one vanishes. Guarantees: every task is done at least once as long
as some worker lives. Not guaranteed: once only; a worker that is cut off may finish what another one was
given meanwhile.
"""

import time

from etcd2 import Heartbeat, run, say

ROOT, TTL, TASK_SECONDS = "/coordination", 2, 0.1


def work(etcd, name):
    etcd.put(f"{ROOT}/workers/{name}", name, ttl=TTL)
    beat = Heartbeat(etcd, f"{ROOT}/workers/{name}", name, TTL)
    say("ready", name)
    while not beat.lost.is_set():
        nodes, since = etcd.nodes(f"{ROOT}/tasks/{name}")
        for node in nodes:
            number = node["key"].rpartition("/")[2]
            say("begins", number)
            time.sleep(TASK_SECONDS)
            etcd.put(f"{ROOT}/done/{number}", name)
            etcd.delete(node["key"])
            say("finished", number)
        if not nodes:
            next(etcd.watch(f"{ROOT}/tasks/{name}", since))


def control(etcd, count):
    given = {}
    while True:
        nodes, since = etcd.nodes(ROOT)
        listed = {node["key"].rpartition("/")[2]: node.get("nodes", []) for node in nodes}
        done = {node["key"].rpartition("/")[2] for node in listed.get("done", [])}
        workers = [node["value"] for node in listed.get("workers", [])]
        for number in map(str, range(int(count))):
            if number not in done and given.get(number) not in workers and workers:
                given[number] = workers[int(number) % len(workers)]
                etcd.put(f"{ROOT}/tasks/{given[number]}/{number}", "to do")
                say("gave", number, "to", given[number])
        if len(done) == int(count):
            say("all done")
            return
        next(etcd.watch(ROOT, since))


if __name__ == "__main__":
    run(__doc__, {"work": work, "control": control})
