"""Whether a member's advertised peer URLs are those that the initial cluster has for it.

They may name the same addresses in different words, so what differs is resolved first; a name that does not
resolve is tried again for a while, as its record may only be made with the member. URLs that are the same in
writing need no resolving (etcd resolves these, too, and does not start without an answer). Source: etcd
``server/config/config.go`` (advertiseMatchesCluster), ``pkg/netutil``.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from kvorum import limits
from kvorum.config import Config, ConfigError
from kvorum.golang import quote
from kvorum.logging import Logger
from kvorum.urls import Url


class _DifferentError(Exception):
    """They are not the same; the text is etcd's."""


async def settle(config: Config, log: Logger) -> Config:
    """The configuration with the member's peer URLs as the initial cluster writes them.

    Raises:
        ConfigError: they are others, or are not known to be the same.
    """
    configured = config.initial_members().get(config.name)
    if configured is None or sorted(map(str, configured)) == sorted(map(str, config.advertise_peer_urls)):
        return config  # what else does not hold is said by Config.verify_bootstrap
    try:
        await _compare(config.advertise_peer_urls, configured, log)
    except _DifferentError as different:
        try:
            config.verify_bootstrap()
        except ConfigError as error:
            told = str(error)
            raise ConfigError(
                f"{told} ({different})" if told.startswith("--initial-cluster") else told
            ) from None
        raise
    return replace(config, advertise_peer_urls=configured)


async def _compare(advertised: Sequence[Url], configured: Sequence[Url], log: Logger) -> None:
    ours, theirs = (sorted(urls, key=str) for urls in (advertised, configured))
    if len(ours) != len(theirs):
        raise _DifferentError(f"len({_listed(ours)}) != len({_listed(theirs)})")
    end = asyncio.get_running_loop().time() + limits.RESOLVE_ADVERTISED_SECONDS
    found = [[await _resolved(url, end, log) for url in urls] for urls in (ours, theirs)]
    for at, (one, other) in enumerate(zip(sorted(found[0]), sorted(found[1]), strict=True)):
        if one != other:
            raise _DifferentError(
                f"{quote(one)}(resolved from {quote(str(ours[at]))}) !="
                f" {quote(other)}(resolved from {quote(str(theirs[at]))})"
            )


def _listed(urls: Sequence[Url]) -> str:
    return f"[{' '.join(quote(str(url)) for url in urls)}]"


async def _resolved(url: Url, end: float, log: Logger) -> str:
    """A URL with an address in the place of a name; ``localhost`` stays, and what is a file."""
    if url.is_unix or url.host == "localhost" or _is_address(url.host):
        return str(url)
    loop = asyncio.get_running_loop()
    while True:
        try:
            found: list[tuple[Any, ...]] = await loop.getaddrinfo(
                url.host, int(url.port), type=socket.SOCK_STREAM
            )
        except (OSError, UnicodeError, ValueError) as error:
            log.warn(
                "failed to resolve URL Host",
                {"url": str(url), "host": url.address, "retry-interval": "1s"},
                error=error,
            )
            if loop.time() + limits.RESOLVE_AGAIN_SECONDS > end:
                raise _DifferentError(
                    f"failed to resolve {quote(str(url))} (lookup {url.host}: no such host)"
                ) from None
            await asyncio.sleep(limits.RESOLVE_AGAIN_SECONDS)
        else:
            host, port = found[0][4][:2]
            address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            log.info("resolved URL Host", {"url": str(url), "host": url.address, "resolved-addr": address})
            return str(Url(url.scheme, address))


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
