"""Helpers for tests with real processes: members (Kvorum or etcd), a gRPC client, etcdctl.

Nothing here knows how the server is built inside: a member is a program with etcd's flags, whichever it is.
The benchmark uses them too.
"""
