"""From flags to a cluster: which way was chosen, and what it gives in place of ``--initial-cluster``.

``assume`` comes before the checks of a first start: records are looked up, and whoever discovers by a token
is alone at first. ``join`` comes after them, with the member's ID known. Both return the configuration with
the members in it. Source of behaviour: etcd ``embed.Config.PeerURLsMapAndToken``, ``server.go`` (NewServer).
"""

import os
from collections.abc import Mapping
from dataclasses import replace

from kvorum.config import Config, ConfigError
from kvorum.discovery import v2
from kvorum.logging import Logger
from kvorum.urls import format_cluster, parse_cluster


async def assume(config: Config, log: Logger, environment: Mapping[str, str] = os.environ) -> Config:
    """The configuration whose cluster the checks of a first start look at.

    Raises:
        ConfigError: the records do not name a cluster with this member in it.
    """
    if config.discovery or config.discovery_endpoints:
        if config.initial_cluster_state == "existing":
            raise ConfigError("discovery URL should not be set when joining existing initial cluster")
        alone = format_cluster({config.name: config.advertise_peer_urls})
        token = config.discovery or config.discovery_token
        return replace(config, initial_cluster=alone, initial_cluster_token=token)
    if config.discovery_srv:
        from kvorum.discovery import records  # with the resolver's library, which few members need

        return await records.assume(config, log, environment)
    return config


def say_ignored(config: Config, log: Logger) -> None:
    """Tell that a member with data looks for nobody."""
    if config.discovery or config.discovery_endpoints:
        log.warn(
            "discovery token is ignored since cluster already initialized; valid logs are found",
            {"wal-dir": str(config.wal_path)},
        )


async def join(config: Config, member_id: int, log: Logger) -> Config:
    """Wait for the others, if members are to be discovered by a token.

    Raises:
        DiscoveryError: they do not come together, or not with this one.
        ConfigError: they do not make a cluster.
    """
    if config.discovery:
        client = v2.http_client(config.discovery_proxy, log)
        cluster = await v2.V2Discovery(config.discovery, member_id, client, log).join(config.initial_cluster)
    elif config.discovery_endpoints:
        from kvorum.discovery import v3  # with gRPC's library, which members do without

        log.info("Bootstrapping cluster using v3 discovery.")
        cluster = await v3.join(config, member_id, log)
    else:
        return config
    return replace(config, initial_cluster=_without_duplicates(cluster))


async def look_up(config: Config, log: Logger) -> str:
    """The members of the cluster that ``--discovery`` leads to, for who is none of them (a proxy).

    Raises:
        DiscoveryError: they do not come together.
    """
    client = v2.http_client(config.discovery_proxy, log)
    return await v2.V2Discovery(config.discovery, 0, client, log).look_up()


def _without_duplicates(cluster: str) -> str:
    members = parse_cluster(cluster)
    urls = [url for part in members.values() for url in part]
    if len(set(urls)) != len(urls):
        raise ConfigError(f"discovery cluster {format_cluster(members)} has duplicate url")
    return cluster
