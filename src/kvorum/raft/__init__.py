"""Stage [5] of a request's path: the replicated log, as a state machine that touches nothing.

Messages, proposals and ticks go in; a ``Ready`` comes out and says what to persist, send and apply, and in
which order. The shape is etcd's own library (``etcd-io/raft``), the messages are its wire messages, so that
members of both kinds can share a cluster.

May import: ``limits``, ``proto`` (only ``codec.py``). Deliberately not here: sockets, files, threads, clocks
and random sources (ticks are counted, randomness is passed in), the log on disk (``wal``), what entries mean
(``apply``), the peer protocol's framing (``peer``).

Reading order: ``types``, ``quorum``, ``log``, ``progress``, ``confchange``, ``reads``, ``core`` (the heart),
``rawnode`` (the Ready protocol around it).
"""
