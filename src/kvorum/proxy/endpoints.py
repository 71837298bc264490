"""Where the gateway's and the v3 proxy's endpoints come from: ``--endpoints``, or SRV records of a domain.

Of the records, those with TLS whose certificate does not hold are left out, unless ``--insecure-discovery``
says that everything is believed; without it plain ones are left out as well. Source of behaviour: etcd
``server/etcdmain/util.go``, ``client/pkg/transport/tls.go`` (ValidateSecureEndpoints).
"""

import asyncio
import os
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import urlsplit

from kvorum.logging import Logger
from kvorum.proxy.remotes import Remote
from kvorum.tls.dial import ClientTls, Dialling
from kvorum.tls.info import TlsError, TlsInfo
from kvorum.urls import split_host_port

_DIAL_SECONDS: Final = 5.0


class EndpointError(Exception):
    """No endpoints, or one that is none: one line for the user, exit code 1."""


@dataclass(frozen=True)
class Discovery:
    """What ``--discovery-srv`` and the flags beside it say."""

    domain: str
    service_name: str
    insecure: bool
    ca_file: str


@dataclass(frozen=True)
class Found:
    """One endpoint of a record."""

    url: str
    priority: int = 0
    weight: int = 0


async def discover(discovery: Discovery, log: Logger) -> list[Found]:
    """The endpoints that records name; none without a domain.

    Raises:
        EndpointError: the records cannot be had.
    """
    if not discovery.domain:
        return []
    # imported here: members and proxies without records do without the library for DNS
    from kvorum.discovery.srv import LookupFailedError, Resolver, client_targets

    try:
        names = Resolver(os.environ)
        targets = await client_targets(names, discovery.domain, discovery.service_name)
    except LookupFailedError as error:
        raise EndpointError(str(error)) from None
    found = [Found(url, target.priority, target.weight) for url, target in targets]
    about = {"srv-server": discovery.domain, "endpoints": [one.url for one in found]}
    log.info("discovered cluster from SRV", about)
    if discovery.insecure:
        return found
    log.info("validating discovered SRV endpoints", about)
    valid, problems = await _validated(found, discovery, log)
    about["endpoints"] = [one.url for one in valid]
    if problems:
        log.warn("failed to validate discovered endpoints", about, error=",".join(problems))
    else:
        log.info("using validated discovered SRV endpoints", about)
    return valid


async def _validated(found: list[Found], discovery: Discovery, log: Logger) -> tuple[list[Found], list[str]]:
    """Those that show a certificate for the domain, and what is wrong with the others."""
    valid, problems = [], []
    try:
        tls = ClientTls.load(replace(TlsInfo(), trusted_ca_file=discovery.ca_file), log)
    except TlsError as error:
        return [], [str(error)]
    for one in found:
        if not one.url.startswith("https://"):
            problems.append(f'"{one.url}" is insecure')
            continue
        host, port = host_and_port(one.url)
        try:
            async with asyncio.timeout(_DIAL_SECONDS):
                await _shake_hands(await tls.dialling(discovery.domain), host, port)
        except (OSError, TlsError, ValueError) as error:
            problems.append(f"{host}:{port}: {error}")
        else:
            valid.append(one)
    return valid, problems


async def _shake_hands(dialling: Dialling, host: str, port: int) -> None:
    transport, _ = await asyncio.get_running_loop().create_connection(lambda: dialling, host, port)
    try:
        await dialling.secured(asyncio.Protocol())
    finally:
        transport.close()


def host_and_port(endpoint: str) -> tuple[str, int]:
    """Host and port of ``host:port``, with or without a scheme. Raises EndpointError."""
    if "://" in endpoint:
        endpoint = urlsplit(endpoint).netloc or endpoint
    try:
        host, port = split_host_port(endpoint)
        return host.removesuffix("."), int(port)
    except ValueError:
        raise EndpointError(f'error parsing endpoint "{endpoint}"') from None


def remotes_of(found: list[Found], endpoints: tuple[str, ...]) -> list[Remote]:
    """The gateway's remotes: what was found, else what was given. Raises EndpointError."""
    if found:
        return [Remote(*host_and_port(one.url), one.priority, one.weight) for one in found]
    remotes = [Remote(*host_and_port(endpoint)) for endpoint in endpoints if endpoint]
    if not remotes:
        raise EndpointError("no endpoints found")
    return remotes
