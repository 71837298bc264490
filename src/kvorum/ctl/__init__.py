"""``kvorumctl``: a command line client of any etcd or Kvorum cluster, used like ``etcdctl``.

A client and nothing else: it speaks gRPC through grpcio, which shares no code with the server's own stack, so
what it shows is also a test of the server. It may import the wire (``proto``), the error texts and the small
leaves (``golang``, ``duration``, ``logging``); never a room of the server.

Commands, flags, ``ETCDCTL_*`` variables, output and exit codes are those of etcdctl 3.5. Deliberately not
here: watches, leases, locks, elections, membership changes, authentication's own commands, snapshots; each
comes with the service that it calls. ``check perf`` has no place beside a benchmark.
"""
