"""Telling systemd that the service is up: ``sd_notify(3)``, what ``Type=notify`` units wait for."""

import os
import socket


def notify_ready() -> bool:
    """Say READY=1 where ``NOTIFY_SOCKET`` names; whether there was anybody to tell.

    A manager that cannot be reached is no reason not to serve, so nothing is raised.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]  # the abstract namespace
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager:
            manager.sendto(b"READY=1", address)
    except OSError:
        return False
    return True
