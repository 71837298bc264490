"""The member: proposals in, the Ready loop, reads confirmed, everything assembled and started.

Stages 4 and 6 of a request's path. ``ready.py`` is the one place where the log is saved, messages are sent
and entries are applied, in that order. May import every room below it (``raft``, ``wal``, ``snapshot``,
``apply``, ``mvcc``); ``member.py`` alone also imports the shells above, because it puts them together. Not
here: what a request may ask for (``api``), what it does (``apply``).
"""
