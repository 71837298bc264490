"""The v2 API: HTTP and JSON on the client port, as etcd 2.0 to 3.5 answered it (``--enable-v2``).

A request goes from ``form`` (Go's ``ParseForm``) through ``key_request`` (what etcd accepts, in its order of
checks) to ``keys`` (propose, read or watch) and leaves as bytes that ``answers`` puts together. ``members``,
``stats``, ``auth`` and ``machines`` are the other paths; ``credentials`` is who may do what.

May import: ``rpc`` (requests and answers), ``server`` (the member), ``v2store``'s values. Not here: the tree,
its index and its watchers (``v2store``), and everything that writes to them (``apply``).
"""
