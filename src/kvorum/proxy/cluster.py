"""Which cluster the v2 proxy stands in front of, remembered in ``<data-dir>/proxy/cluster``.

The file is etcd's: ``{"PeerURLs":[...]}``. It is written anew whenever a member could say who the members
are, so that a proxy finds its cluster after all of the first members are gone. Source of behaviour: etcd
``server/etcdmain/etcd.go`` (startProxy), ``etcdserver/cluster_util.go`` (GetClusterFromRemotePeers).
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, final

from kvorum import limits
from kvorum.config import Config, ConfigError
from kvorum.discovery import find
from kvorum.logging import Logger
from kvorum.peer.client import PeerClient
from kvorum.urls import parse_cluster

DIRECTORY: Final = "proxy"
"""Below the data directory; whoever finds it there starts as a proxy again."""


@final
class ClusterFile:
    """The file with the peer URLs. Its texts are in etcd's form, which etcd's proxy reads in turn."""

    def __init__(self, data_dir: Path) -> None:
        self.path: Final = data_dir / DIRECTORY / "cluster"

    def prepare(self) -> None:
        """Make the directory. Raises OSError."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)

    def read(self) -> list[str] | None:
        """The peer URLs, None without a file.

        Raises:
            ConfigError: it is none of etcd's.
            OSError: it cannot be read.
        """
        try:
            text = self.path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            urls = json.loads(text)["PeerURLs"]
            return [str(url) for url in urls or ()]
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{self.path}: not a cluster file: {error}") from None

    def write(self, urls: Sequence[str]) -> None:
        """Replace the file, durably. Raises OSError."""
        text = json.dumps({"PeerURLs": list(urls)}, separators=(",", ":"))
        beside = self.path.with_name("cluster.bak")
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, self.path)


async def find_peers(config: Config, file: ClusterFile, log: Logger) -> list[str]:
    """The peer URLs to begin with: the file's, else what the flags say or lead to.

    Raises:
        ConfigError: neither names a cluster.
        DiscoveryError: ``--discovery`` leads to none.
        OSError: the file cannot be read.
    """
    remembered = file.read()
    if remembered is not None:
        _say_ignored(config, file, log)
        log.info(
            "proxy using peer URLS from cluster file",
            {"peer-urls": remembered, "cluster-file": str(file.path)},
        )
        return remembered
    urls = _urls_of(await _cluster_of(config, log))
    log.info("proxy using peer URLS", {"peer-urls": urls})
    return urls


async def ask_members(client: PeerClient, peer_urls: Sequence[str]) -> tuple[list[str], list[str]] | None:
    """Client and peer URLs of all members, sorted, from the first one that answers; None if none does."""
    for url in peer_urls:
        try:
            answer = await client.get(url, "/members", timeout_seconds=limits.PEER_MEMBERS_SECONDS)
            members: list[dict[str, Any]] = json.loads(answer.body) if answer.status == 200 else []
            clients = sorted(str(one) for member in members for one in member.get("clientURLs") or ())
            peers = sorted(str(one) for member in members for one in member.get("peerURLs") or ())
        except (OSError, ValueError, AttributeError, TypeError):
            continue
        if peers:
            return clients, peers
    return None


def _say_ignored(config: Config, file: ClusterFile, log: Logger) -> None:
    for flag, what in (("discovery", "discovery token"), ("discovery-srv", "DNS SRV discovery")):
        if config.value(flag):
            log.warn(
                f"{what} ignored since the proxy has already been initialized; valid cluster file found",
                {"cluster-file": str(file.path)},
            )


async def _cluster_of(config: Config, log: Logger) -> str:
    if config.value("discovery"):
        return await find.look_up(config, log)
    if config.value("discovery-srv"):
        from kvorum.discovery import records  # with the resolver's library

        return await records.listed(config, log)
    return config.initial_cluster


def _urls_of(cluster: str) -> list[str]:
    try:
        members = parse_cluster(cluster)
    except ValueError as error:
        raise ConfigError(f"error setting up initial cluster: {error}") from None
    return sorted(str(url) for urls in members.values() for url in urls)
