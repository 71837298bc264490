"""Stage 3, HTTP/1.1: the endpoints for people, probes and scrapers beside the gRPC API.

``/version``, ``/health``, ``/livez``, ``/readyz``, ``/metrics``, and the gate for hosts and origins in
front of all; ``peers.py`` is what members ask each other, on the port for peers. May import ``rpc`` (requests
and responses) and ``errors``; probes see the member through the small Protocol in ``health.py``, the metrics
page is a function. Deliberately not here: the v2 API and the
JSON gateway, any storage.
"""
