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

from etcd2 import Heartbeat, run, say

ROOT, TTL = "/balanced", 2


def serve(etcd, name):
    class Handler(socketserver.StreamRequestHandler):
        def handle(self):
            self.wfile.write(f"{name} did {self.rfile.readline().decode()}".encode())

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"127.0.0.1:{server.server_address[1]}"
        while True:
            etcd.put(f"{ROOT}/{name}", address, ttl=TTL)
            say("serving", name, address)
            Heartbeat(etcd, f"{ROOT}/{name}", address, TTL).lost.wait()


def ask(etcd, count):
    servers = {}

    def follow():
        nodes, since = etcd.nodes(ROOT)
        servers.update({node["key"]: node["value"] for node in nodes})
        for event in etcd.watch(ROOT, since):
            if event["action"] in ("expire", "delete"):
                servers.pop(event["node"]["key"], None)
            else:
                servers[event["node"]["key"]] = event["node"]["value"]

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
