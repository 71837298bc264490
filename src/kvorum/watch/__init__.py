"""Stage 9: the events of an applied transaction find the watchers they match. A sans-IO core.

``WatchHub`` owns the state: who watches what, who is up to date, and each stream's queue of responses.
``apply`` tells it of every transaction; ``api`` opens streams on it, hands it requests, and writes what
they have queued.

May import: ``mvcc`` (the encoding of key-values and revisions, nothing that reads or writes), ``proto``,
``errors``, ``limits``. Not here: sockets, tasks, timers (time is an argument), permissions (``api`` asks
``auth`` and refuses).
"""
