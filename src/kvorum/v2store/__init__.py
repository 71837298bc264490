"""The tree of the v2 API: directories and values with one index, times to live, a history and watchers.

It stands beside ``mvcc`` at the end of the path: ``apply/v2.py`` turns committed requests into calls of
``Store``, reads and watches come from ``server/v2.py``. A sans-IO core: no socket, no clock (the time that
events show comes from a function passed in), no randomness; the tables it writes are the backend's, given by
a small Protocol.

| module | what |
|---|---|
| ``request.py`` | ``V2Request``: what a client asked, and its bytes in the log |
| ``errors.py`` | ``V2Error`` and the catalogue of its codes |
| ``event.py`` | ``Event`` and ``NodeView``: what happened, what a node looked like, and their JSON |
| ``node.py``, ``ttl.py`` | the tree's nodes, and the queue of those that expire |
| ``history.py``, ``hub.py`` | the last 1,000 events, and who waits for the next |
| ``tables.py`` | how all of it lies in the backend |
| ``store.py`` | the operations |
| ``dump.py`` | etcd's JSON of a whole store, which travels in snapshots |

May import nothing of the project but the common leaves. Deliberately not here: HTTP, forms, the log, who is
the leader. Source of behaviour: etcd 3.4.23 ``etcdserver/api/v2store``, ``v2error``.
"""
