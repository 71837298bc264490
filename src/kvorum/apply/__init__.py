"""Stage 7: a committed entry becomes an operation on the store, the same on every member.

Synchronous and deterministic: no clock, no randomness, no I/O of its own. It is the only room that writes to
``mvcc``; ``server/ready.py`` calls it in log order, once per entry. Reads that need no entry (serializable
ranges, confirmed linearizable ones) use the same range code through a read view.

May import: ``mvcc``, ``proto``, ``errors``. Not here: waiting calls, Raft, what a request may do (``api``).
"""
