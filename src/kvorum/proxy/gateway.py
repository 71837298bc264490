"""``kvorum gateway start``: from flags to a running gateway. Source: etcd ``server/etcdmain/gateway.go``."""

import asyncio
import socket
import sys
from collections.abc import Mapping
from typing import Final

from kvorum.duration import Duration
from kvorum.flags import BOOL, DURATION, LIST, STRING, Flag, Value
from kvorum.logging import Logger
from kvorum.proxy.endpoints import Discovery, EndpointError, discover, host_and_port, remotes_of
from kvorum.proxy.remotes import Remote
from kvorum.proxy.tcp import Gateway
from kvorum.systemd import notify_ready

_CA: Final = "CA that endpoints of records must show certificates of."
FLAGS: Final = {
    flag.name: flag
    for flag in (
        Flag("listen-addr", STRING, "127.0.0.1:23790", "Address to listen on."),
        Flag("discovery-srv", STRING, "", "Domain whose SRV records name the endpoints."),
        Flag("discovery-srv-name", STRING, "", "Suffix of the records' service name."),
        Flag("insecure-discovery", BOOL, "false", "Take endpoints of records without TLS as well."),
        Flag("trusted-ca-file", STRING, "", _CA),
        Flag("endpoints", LIST, "127.0.0.1:2379", "Endpoints by comma."),
        Flag("retry-delay", DURATION, "1m0s", "Between looks at endpoints that failed."),
    )
}


async def start(values: Mapping[str, Value], log: Logger) -> int:
    """Run a gateway until cancelled; returns the exit code if it cannot be run."""
    try:
        remotes, listening = await _prepare(values, log)
    except (EndpointError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    delay = values["retry-delay"]
    assert isinstance(delay, Duration)
    notify_ready()
    await Gateway(listening, remotes, delay.seconds, log).run()
    return 0


async def _prepare(values: Mapping[str, Value], log: Logger) -> tuple[list[Remote], socket.socket]:
    """The remotes, and the socket that is none of them. Raises EndpointError or OSError."""
    domain, service, ca = (str(values[n]) for n in ("discovery-srv", "discovery-srv-name", "trusted-ca-file"))
    found = await discover(Discovery(domain, service, bool(values["insecure-discovery"]), ca), log)
    endpoints = values["endpoints"]
    assert isinstance(endpoints, tuple)
    remotes = remotes_of(found, tuple(str(endpoint) for endpoint in endpoints))
    address = str(values["listen-addr"])
    try:
        host, port = host_and_port(address)
    except EndpointError:
        raise EndpointError(f"failed to validate listen address: {address}") from None
    await _refuse_ourselves(remotes, host, port, address)
    return remotes, _listen(host, port)


async def _refuse_ourselves(remotes: list[Remote], host: str, port: int, address: str) -> None:
    """A gateway whose endpoint is itself would go round for ever."""
    own = await _addresses(host, f"failed to resolve listen host: {host}")
    for remote in remotes:
        theirs = await _addresses(remote.host, f"failed to resolve endpoint host: {remote.host}")
        same = sorted(own & theirs) if remote.port == port else []
        if same:
            raise EndpointError(
                f"SRV or endpoint ({remote.host}:{remote.port}->{same[0]}:{remote.port})"
                f" should not resolve to the gateway listen addr ({address})"
            )


async def _addresses(host: str, failure: str) -> set[str]:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host or None, None, type=socket.SOCK_STREAM)
    except OSError:
        raise EndpointError(failure) from None
    return {str(address[0]) for *_, address in found}


def _listen(host: str, port: int) -> socket.socket:
    """Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        reason = (error.strerror or str(error)).partition(" (")[0].lower()
        raise OSError(f"listen tcp {host}:{port}: bind: {reason}") from None
    listening.setblocking(False)
    return listening
