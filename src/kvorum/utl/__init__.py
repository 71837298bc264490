"""``kvorumutl``: looks into the data directory of a member that does not run, and makes one of a backup.

A side room: it reads what the stages left on disk, through their own readers, and believes nothing that they
derived. It takes the directory's lock, so that a running member is refused, and changes nothing.

May import the storage rooms (``wal``, ``snapshot``, ``mvcc``, ``v2store``, ``raft``'s nouns), what ``server``
knows of members, ``proto`` and the small leaves. Deliberately not here: a server, a client, repairs (a torn
tail is repaired by the member's next start; everything else needs a backup).
"""
