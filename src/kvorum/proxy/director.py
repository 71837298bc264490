"""Whom the v2 proxy may ask: the client URLs of the cluster, without those that failed a moment ago.

The list is made anew at every refresh, in random order so that proxies do not all lean on one member; what
failed before counts as well again then. Sans-IO. Source of behaviour: etcd
``server/proxy/httpproxy/director.go``.
"""

from collections.abc import Callable, Sequence
from typing import Final, final

from kvorum.urls import Url, parse_url


@final
class Endpoint:
    """One client URL; not to be asked before ``available_at`` (seconds of the caller's clock)."""

    __slots__ = ("available_at", "url")

    def __init__(self, url: Url) -> None:
        self.url: Final = url
        self.available_at = 0.0


@final
class Director:
    """The endpoints.

    Args:
        failure_wait: seconds for which one that failed is left out (``--proxy-failure-wait``).
        shuffle: puts a list into random order.
    """

    def __init__(self, failure_wait: float, shuffle: Callable[[list[Endpoint]], None]) -> None:
        self._failure_wait: Final = failure_wait
        self._shuffle: Final = shuffle
        self._endpoints: list[Endpoint] = []

    def refresh(self, urls: Sequence[str]) -> list[str]:
        """Take the URLs as they are now; returns those that are none."""
        endpoints, invalid = [], []
        for text in urls:
            try:
                endpoints.append(Endpoint(parse_url(text)))
            except ValueError:
                invalid.append(text)
        self._shuffle(endpoints)
        self._endpoints = endpoints
        return invalid

    def available(self, now: float) -> list[Endpoint]:
        """The endpoints that may be asked, in the order in which to try them."""
        return [endpoint for endpoint in self._endpoints if endpoint.available_at <= now]

    def failed(self, endpoint: Endpoint, now: float) -> bool:
        """Leave an endpoint out for a while; False if it was already."""
        if endpoint.available_at > now:
            return False
        endpoint.available_at = now + self._failure_wait
        return True
