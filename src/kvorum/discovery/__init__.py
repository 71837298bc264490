"""How members that do not know each other find each other, before the first start of a cluster.

Three ways, each with one call that gives the text that ``--initial-cluster`` would have had: a directory of a
v2 server (``v2``), keys of a v3 server (``v3``), SRV records (``srv``). They run once, in a member without
data. May use flags, logs and TLS files; nothing of a member is here, and no server either: Kvorum as the
discovery service is ``api/v2/discovery.py``.
"""
