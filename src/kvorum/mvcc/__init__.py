"""The multi-version store: the stage that applied changes end in, and that reads are answered from.

``store`` holds it together; ``index`` (key -> revisions, sans-IO, over ``keyset``) and ``backend`` (revision
-> KeyValue, LMDB) are its two B-trees; ``revision`` and ``keyvalue`` are the bytes both speak; ``compaction``
and ``hash`` are its slow work, in slices; ``install`` replaces all of it by another member's; ``reader`` and
``exchange`` are for readers on other threads and in other processes, and for files made in bulk; ``check`` is
the same invariants for a data directory.

May import: ``errors``, ``limits``, ``failpoint``. Written only by ``apply``. Not here: leases, users,
watchers and sorting, which stand above; snapshots in bbolt's format; any protobuf runtime.
"""
