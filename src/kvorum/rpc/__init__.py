"""Stages 1, 2 and 10: bytes of a client connection to calls, and answers back to bytes.

| module | what |
|---|---|
| ``frames.py`` | numbers of HTTP/2, and frames we send, as bytes |
| ``header_blocks.py`` | HPACK decoding |
| ``requests.py`` | header fields to a checked :class:`Request` |
| ``floods.py`` | what a peer may spend: useless frames, resets, pings |
| ``http2.py`` | the connection's state: sans-IO, bytes in, calls on streams out |
| ``messages.py`` | gRPC's own syntax: message prefix, gzip, timeouts, status text |
| ``calls.py`` | :class:`UnaryCall`, :class:`StreamCall`: what a handler sees |
| ``grpc.py`` | the shell: method table, transport, timer, shutdown |

May import ``errors`` and ``limits``. Deliberately not here: any protobuf message, any etcd method, any
storage. Everything above ``calls.py`` touches no socket, clock or loop.
"""
