"""The v3 proxy: many clients in front, a few calls to the members behind.

  ``flags``, ``front`` the command; ``upstream`` calls to whichever member works; ``service`` the methods and
  where each goes; ``passing`` those that are passed on as they are; ``namespace`` keys with a prefix;
  ``cache`` and ``kv`` ranges answered without a member; ``sharing`` one watch for many (sans-IO),
  ``watching`` its streams on both sides; ``keepalive`` leases renewed together; ``leader`` whether there is
  one; ``members`` who is shown as a member; ``pages`` health and metrics.

Towards clients it is the members' own server (``rpc``), towards members gRPC's library. Deliberately not
here: users and passwords (tokens are passed on), leases of keys for local reads (etcd's experiment).
"""
