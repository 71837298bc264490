"""Stages 1, 2 and 10: bytes of a client connection to calls, and answers back to bytes.

HTTP/2 (no socket, no clock), each standing on those above it:
  ``frames`` numbers and frames as bytes; ``header_blocks`` HPACK decoding; ``requests`` header fields to a
  checked ``Request``; ``floods`` what a peer may spend; ``streams`` what a stream is; then one connection in
  three layers: ``outbound`` what it sends, ``control`` what steers it, ``http2`` the engine that takes bytes.
gRPC:
  ``messages`` its syntax; ``observer`` counters; ``connection`` what calls share; ``calls`` unary,
  ``streaming`` the other kinds; ``methods`` the table of what is served; ``protocol`` transport and timer;
  ``grpc`` the server.
The rest of the port:
  ``listener`` sockets and the choice of protocol, ``http1*`` HTTP/1.1, ``health`` and
  ``reflection`` services.

May import ``errors`` and ``limits``. Deliberately not here: etcd's methods and messages, storage,
consensus.
"""
