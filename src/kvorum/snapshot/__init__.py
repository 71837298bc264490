"""Side room of stage 6: what a log may start from instead of its beginning.

| module | what |
|---|---|
| ``snap_file.py`` | the ``.snap`` files of a member: Raft's snapshot metadata and what etcd's v2 store adds |

May import ``raft.types``, ``raft.codec``, ``wal`` (its disk and its markers), ``failpoint``. Deliberately not
here: when a snapshot is taken (``server/``), the keys themselves: they are durable in the store, and a
``.snap`` only says up to which entry.
"""
