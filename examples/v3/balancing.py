"""Load balancing: requests go round the servers that live.

    balancing.py 127.0.0.1:2379 serve one
    balancing.py 127.0.0.1:2379 ask 100

Guarantees: a server gets requests from the moment it has registered, and none later than its TTL after its
death; a request whose server does not answer goes to the next one. Not guaranteed: that a request is done
once only (a server may die between doing it and saying so), so requests must bear repeating.
"""

import itertools
import socket
import socketserver
import threading
import time

from etcd3 import is_delete, run, say

ROOT, TTL = "/balanced/", 2


def serve(etcd, name):
    class Handler(socketserver.StreamRequestHandler):
        def handle(self):
            self.wfile.write(f"{name} did {self.rfile.readline().decode()}".encode())

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"127.0.0.1:{server.server_address[1]}"
        while True:
            lease = etcd.lease(TTL)
            etcd.put(ROOT + name, address, lease.id)
            say("serving", name, address)
            lease.lost.wait()


def ask(etcd, count):
    servers = {}

    def follow():
        kvs, revision = etcd.list(ROOT)
        servers.update({kv.key: kv.value.decode() for kv in kvs})
        for event in etcd.watch(ROOT, revision):
            if is_delete(event):
                servers.pop(event.kv.key, None)
            else:
                servers[event.kv.key] = event.kv.value.decode()

    threading.Thread(target=follow, daemon=True).start()
    turns = itertools.count()
    for number in range(int(count)):
        while (answer := one_request(servers, next(turns), number)) is None:
            time.sleep(0.01)  # nobody there, or the one we tried is not: on to the next
        say(answer)


def one_request(servers, turn, number):
    listed = sorted(servers.copy().items())
    if not listed:
        return None
    host, port = listed[turn % len(listed)][1].split(":")
    try:
        with socket.create_connection((host, int(port)), 1) as connection:
            connection.sendall(f"{number}\n".encode())
            return connection.makefile().readline().strip() or None
    except OSError:
        return None


if __name__ == "__main__":
    run(__doc__, {"serve": serve, "ask": ask})
