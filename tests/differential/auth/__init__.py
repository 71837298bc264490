"""The gRPC surface under users and permissions: random programs of many users, against etcd 3.5.1.

``world.py`` is the two servers with their sessions, ``programs.py`` makes programs, ``expect.py`` says where
Kvorum refuses on purpose what etcd 3.5.1 let pass: such a call is made to Kvorum alone, and its refusal must
be the one that etcd 3.7.1 gives. ``python -m tests.differential.auth --seeds 0-299`` is the long run.
"""
