"""What the log says when a member cannot start because of discovery. Source: etcd ``etcdmain/etcd.go``."""

from kvorum.config import Config
from kvorum.discovery.errors import DiscoveryError, DuplicateIdError, DuplicateNameError, FullClusterError
from kvorum.logging import Logger

_NEW_TOKEN = "do not reuse discovery token; generate a new one to bootstrap a cluster"  # noqa: S105 - a text


def say_failed(config: Config, error: DiscoveryError, log: Logger) -> None:
    """Say why, and what to do."""
    token = config.discovery or config.discovery_token
    if not isinstance(error, FullClusterError):
        log.warn("failed to start etcd", error=error)
    if isinstance(error, DuplicateIdError):
        log.warn(
            "member has been registered with discovery service",
            {"name": config.name, "discovery-token": token, "error": error.reason},
        )
        log.warn("but could not find valid cluster configuration", {"data-dir": config.data_dir})
        log.warn("check data dir if previous bootstrap succeeded")
        log.warn("or use a new discovery token if previous bootstrap failed")
    elif isinstance(error, DuplicateNameError):
        log.warn(
            "member with duplicated name has already been registered",
            {"discovery-token": token, "error": error.reason},
        )
        log.warn("cURL the discovery token URL for details")
        log.warn(_NEW_TOKEN)
    else:
        log.warn(
            "failed to bootstrap; discovery token was already used",
            {"discovery-token": token, "error": error},
        )
        log.warn(_NEW_TOKEN)
