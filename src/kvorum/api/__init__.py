"""Stage 3: what a client may ask. Requests are validated, bounded and handed to ``server``; answers are
shaped.

``v3`` is the gRPC API, ``http`` the endpoints for people and probes. Thin: knows no storage and no Raft.
"""
