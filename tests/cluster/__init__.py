"""Clusters of real processes: what three and five members promise, and what they keep when some die.

``KVORUM_TEST_CLUSTER=etcd`` runs the same scenarios on etcd 3.5.1, which is how they were held against it;
``etcd,kvorum,etcd-3.4`` runs them on members of all three, in turn.
"""
