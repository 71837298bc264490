"""Side room of stage 6: what a log may start from instead of its beginning.

| module | what |
|---|---|
| ``snap_file.py`` | the ``.snap`` files of a member: Raft's snapshot metadata and what etcd's v2 store adds |
| ``bbolt_format.py``, ``bbolt_writer.py``, ``bbolt_reader.py`` | bbolt's files, which etcd's databases are |
| ``schema.py``, ``v2.py`` | what is where in etcd's database and in ours |
| ``export.py``, ``intake.py`` | a database of ours as a bbolt file and back, each as a process of its own |
| ``process.py`` | how such a process is run beside the member |
| ``received.py`` | the files of a database that was received, and what a crash leaves of them |

May import ``raft.types``, ``raft.codec``, ``wal`` (its disk and its markers), ``mvcc`` (its files, not its
``Store``), ``v2store`` (its JSON), ``failpoint``. Deliberately not here: when a snapshot is taken or sent,
and what is done with one that came (``server/``); the keys at work (``mvcc``): a ``.snap`` only says up to
which entry they stand.
"""
