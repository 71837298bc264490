"""Which of several endpoints can be reached: the first that accepts a TCP connection.

grpcio connects behind a channel's back and says so from threads that outlive the channel; plain sockets tell
the same sooner.
"""

import selectors
import socket
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, Final

from kvorum.ctl.errors import CallError
from kvorum.errors import DEADLINE_EXCEEDED
from kvorum.urls import split_host_port

_Address = tuple[Any, ...] | str

_PAUSE_SECONDS: Final = 0.1


def address_of(endpoint: str) -> tuple[str, str]:
    """Return scheme (maybe empty) and address of ``host:port``, ``http://host:port`` or ``unix:path``."""
    scheme, separator, address = endpoint.partition("://")
    if separator:
        return scheme, address
    return ("unix", endpoint[5:]) if endpoint.startswith("unix:") else ("", endpoint)


def first_reachable(endpoints: Sequence[str], deadline: float) -> str:
    """Return the endpoint that accepts a connection first; raises CallError at the deadline.

    Args:
        endpoints: As in ``--endpoints``.
        deadline: ``time.monotonic()`` seconds.
    """
    while time.monotonic() < deadline:
        found = _try_all(endpoints, deadline)
        if found:
            return found
        time.sleep(max(0.0, min(_PAUSE_SECONDS, deadline - time.monotonic())))
    raise CallError(DEADLINE_EXCEEDED, "")


def _try_all(endpoints: Sequence[str], deadline: float) -> str:
    with ExitStack() as stack:
        waiting = stack.enter_context(selectors.DefaultSelector())
        for endpoint in endpoints:
            for probe in _probes(endpoint):
                stack.enter_context(probe)
                waiting.register(probe, selectors.EVENT_WRITE, endpoint)
        while waiting.get_map():
            ready = waiting.select(max(0.0, deadline - time.monotonic()))
            if not ready:
                return ""
            for key, _ in ready:
                connecting = key.fileobj
                assert isinstance(connecting, socket.socket)
                if not connecting.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    return str(key.data)
                waiting.unregister(connecting)
    return ""


def _probes(endpoint: str) -> list[socket.socket]:
    """Return sockets that are connecting to the endpoint's addresses; none for a name that is not known."""
    scheme, address = address_of(endpoint)
    if scheme.startswith("unix"):
        targets: list[tuple[int, _Address]] = [(socket.AF_UNIX, address)]
    else:
        try:
            host, port = split_host_port(address)
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, ValueError):
            return []
        targets = [(item[0], item[4]) for item in found]
    return [_connecting(family, target) for family, target in targets]


def _connecting(family: int, target: _Address) -> socket.socket:
    probe = socket.socket(family, socket.SOCK_STREAM)
    probe.setblocking(False)
    probe.connect_ex(target)  # whatever becomes of it shows as SO_ERROR once it is writable
    return probe
