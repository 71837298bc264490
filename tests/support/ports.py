"""Ports for servers under test.

A server that restarts needs the same port again, so ``:0`` alone won't do. The ports come from below the
kernel's ephemeral range (32768 and up on Linux), where no outgoing connection can take one between our look
and the server's bind; each test process starts looking at a place of its own, and holds a lock on what it
gave out until it ends, so that no other test process gives it out meanwhile.
"""

import fcntl
import os
import socket
import tempfile
from typing import Final

_FIRST: Final = 20_000
_COUNT: Final = 12_000
_STRIDE: Final = 97  # a prime, so that neighbouring process ids are far apart

_next = os.getpid() * _STRIDE % _COUNT


_locks = os.open(
    os.path.join(tempfile.gettempdir(), f"kvorum-test-ports-{os.getuid()}"), os.O_RDWR | os.O_CREAT, 0o600
)


def _is_ours(port: int) -> bool:
    """Lock the port's byte of a file that all test processes share; whether nobody else has."""
    try:
        fcntl.lockf(_locks, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    return True


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """Return a loopback TCP port that nobody listens on, never the same twice in one process."""
    global _next
    for _ in range(_COUNT):
        port = _FIRST + _next
        _next = (_next + 1) % _COUNT
        if _is_ours(port) and _is_free(port):
            return port
    raise RuntimeError("no free port")
