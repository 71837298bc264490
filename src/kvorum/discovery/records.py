"""SRV records in place of ``--initial-cluster``: both kinds are looked up, and what they name is the cluster.

Source of behaviour: etcd ``embed.Config.GetDNSClusterNames``.
"""

import os
from collections.abc import Mapping
from dataclasses import replace

from kvorum.config import Config, ConfigError
from kvorum.discovery.srv import DnsCluster, LookupFailedError, MemberLookup, Resolver, service_name
from kvorum.golang import quote
from kvorum.logging import Logger
from kvorum.urls import parse_cluster


async def listed(config: Config, log: Logger, environment: Mapping[str, str] = os.environ) -> str:
    """The members that SRV records name, this one among them or not.

    Raises:
        ConfigError: no records, or none that are of use.
    """
    return ",".join((await _look(config, log, environment)).nodes)


async def assume(config: Config, log: Logger, environment: Mapping[str, str]) -> Config:
    """The configuration with the members that the records name, this one among them.

    Raises:
        ConfigError: there are no such records.
    """
    found = await _look(config, log, environment)
    cluster = ",".join(found.nodes)
    if config.name not in parse_cluster(cluster):
        problem = f"cannot find local etcd member {quote(config.name)} in SRV records"
        raise ConfigError(f"error setting up initial cluster: {problem}")
    # The records may call this member's address by another name: they are what all members have in common.
    advertised = tuple(sorted((found.local.get(url, url) for url in config.advertise_peer_urls), key=str))
    return replace(config, initial_cluster=cluster, advertise_peer_urls=advertised)


async def _look(config: Config, log: Logger, environment: Mapping[str, str]) -> DnsCluster:
    """Both kinds of records, together. Raises ConfigError if there are none."""
    advertised = [str(url) for url in config.advertise_peer_urls]
    found, problems = DnsCluster(), []
    try:
        names = Resolver(environment)
    except LookupFailedError as error:
        raise ConfigError(f"error setting up initial cluster: {error}") from None
    lookup = MemberLookup(names, config.discovery_srv, config.name, config.advertise_peer_urls)
    for scheme in ("https", "http"):
        service = service_name("etcd-server", config.discovery_srv_name, scheme)
        nodes: list[str] = []
        problem: LookupFailedError | None = None
        try:
            part = await lookup.look(service, scheme)
        except LookupFailedError as error:
            problem = error
            problems.append(str(error))
        else:
            nodes = part.nodes
            found.nodes.extend(nodes)
            found.local.update(part.local)
        log.info(
            f"get cluster for {service.removesuffix('-' + config.discovery_srv_name)} SRV",
            {
                "service-scheme": scheme,
                "service-name": service,
                "server-name": config.name,
                "discovery-srv": config.discovery_srv,
                "advertise-peer-urls": advertised,
                "found-cluster": nodes,
            },
            **({"error": problem} if problem is not None else {}),
        )
    if problems:
        log.warn("failed to resolve during SRV discovery", error="; ".join(problems))
    if not found.nodes:
        raise ConfigError(f"error setting up initial cluster: {'; '.join(problems)}")
    for node in found.nodes:
        log.info("got bootstrap from DNS for etcd-server", node=node)
    return found
