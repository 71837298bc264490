"""A side room: processes in front of a cluster that belong to none. They hold no data and no vote.

  ``http`` the v2 proxy (``kvorum --proxy on|readonly``), with ``director`` who may be asked and ``cluster``
  whom it belongs to; ``tcp`` the gateway (``kvorum gateway start``), with ``remotes`` where a connection
  goes; ``grpc/`` the v3 proxy (``kvorum grpc-proxy start``); ``command`` the command lines of the latter two,
  ``process`` what all three are as processes.

May import ``rpc`` (the same servers as members have), ``peer`` (HTTP/1.1 to members), ``tls``, ``metrics``,
``watch`` (intervals), ``discovery`` and ``config``. Deliberately not here: anything that knows more of a
member than a client does.
"""
