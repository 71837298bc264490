"""Stage 6's memory: the Raft log on disk, in etcd's WAL format, one write and one sync for everything
waiting.

| module | what |
|---|---|
| ``record.py`` | frames, rolling CRC32C, snapshot markers: sans-IO |
| ``decoder.py`` | frames back to records; what is a torn tail and what is corruption: sans-IO |
| ``reader.py`` | records to metadata, hard state, entries, markers; held against each other: sans-IO |
| ``errors.py`` | what can be wrong with a log, each with its remedy |
| ``disk.py`` | the file system as the log needs it, passed in |
| ``memdisk.py`` | a disk in memory that forgets what was not synced, for tests and simulation |
| ``segments.py`` | names, order and locks of the segment files; purging |
| ``batch.py`` | what one flush writes |
| ``wal.py`` | the log itself: create, open, read, prepare, flush, cut |
| ``recovery.py`` | repairing a torn tail, listing valid snapshot markers, verifying |
| ``kernel_sync.py`` | Linux's fdatasync without a thread |
| ``writer.py`` | flushes one batch at a time beside the loop: by the kernel, or in a thread |

May import ``raft.types``, ``raft.codec``, ``failpoint`` and ``limits``. Deliberately not here: what an entry
means, when a snapshot is taken, the .snap files (``snapshot/``), any metrics registry (durations are handed
out).
"""
