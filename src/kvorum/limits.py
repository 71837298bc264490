"""Every bound of the server, in one place, each with its reason and the etcd flag or constant it mirrors.

A number that keeps something from growing belongs here and nowhere else. Values that a flag sets are the
flag's defaults; the room that uses one takes it as an argument.
"""

from typing import Final

# --- requests (api) -------------------------------------------------------------------------------------
MAX_REQUEST_BYTES: Final = 1536 * 1024
"""``--max-request-bytes``: the largest proposal; one entry must not hold up replication."""
GRPC_OVERHEAD_BYTES: Final = 512 * 1024
"""Added to MAX_REQUEST_BYTES for the largest gRPC message taken (etcd ``embed``: ``grpcOverheadBytes``)."""
MAX_TXN_OPS: Final = 128
"""``--max-txn-ops``: operations in one branch of a transaction."""
MAX_GAP_BETWEEN_APPLY_AND_COMMIT: Final = 5000
"""Entries committed but not applied before new proposals get "too many requests" (etcd ``server.go``)."""

# --- logging --------------------------------------------------------------------------------------------
LOG_SAMPLE_FIRST: Final = 100
"""Equal log lines written in a second before thinning starts (etcd ``logutil``: ``Sampling.Initial``)."""
LOG_SAMPLE_THEREAFTER: Final = 100
"""After that, every so many-th equal line is written (etcd ``logutil``: ``Sampling.Thereafter``)."""
LOG_CALLERS_REMEMBERED: Final = 4096
"""Places in the code whose ``caller`` text is kept; there are fewer, unless code is made at run time."""
JOURNAL_DATAGRAM_BYTES: Final = 128 * 1024
"""Longest line sent to the systemd journal; a datagram socket refuses more than its send buffer."""
