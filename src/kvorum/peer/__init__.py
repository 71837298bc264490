"""A stage beside the path: Raft's messages and snapshots between members, in etcd's own peer protocol.

``transport.py`` is what the member talks to; ``peer.py`` joins, per member, what carries messages there: two
streams that the *other* side dials (``writer.py`` writes to them, ``reader.py`` dials the ones we read), the
pipeline of POSTs for when no stream is there, the snapshot sender and the prober. ``handlers.py`` answers the
requests of other members. ``codec.py`` is the sans-IO part. ``client.py`` is a small HTTP/1.1 client that
other rooms use as well. May import ``raft`` for the nouns, ``rpc`` for the HTTP server, ``metrics``.
Deliberately not here: what a message means, what is in a snapshot, who is a member.
"""
