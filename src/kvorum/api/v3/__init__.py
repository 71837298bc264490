"""The v3 gRPC API: one module per service, ``checks`` for what a request must satisfy, ``gate`` for who may
ask.

May import ``server`` (to propose, to confirm reads), ``apply`` (to run a range), ``watch`` (the queues that
it writes out), ``proto``, ``errors``.
Not here: streams, frames, flow control (``rpc``).
"""
