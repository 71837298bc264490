"""Whether a peer can be reached, and at which of its URLs (etcd ``peer_status.go``, ``urlpick.go``)."""

from collections.abc import Callable, Sequence
from typing import Final, final

from kvorum.logging import Logger, hex_id
from kvorum.peer.figures import PeerFigures
from kvorum.urls import Url


@final
class PeerStatus:
    """A peer is active from the first thing that worked until the first that failed."""

    __slots__ = ("_clock", "_figures", "_log", "_name", "since")

    def __init__(self, peer_id: int, log: Logger, figures: PeerFigures, clock: Callable[[], float]) -> None:
        self._name: Final = hex_id(peer_id)
        self._log: Final = log
        self._figures: Final = figures
        self._clock: Final = clock
        self.since: float | None = None
        """Since when it is active, by the clock given; None while it is not."""
        figures.active.setdefault(self._name, 0)

    @property
    def is_active(self) -> bool:
        """Whether the last thing tried with it worked."""
        return self.since is not None

    def activate(self) -> None:
        """Something worked."""
        if self.since is None:
            self._log.info("peer became active", peer_id=self._name)
            self.since = self._clock()
            self._figures.active[self._name] = 1

    def deactivate(self, action: str, source: str, reason: BaseException | str) -> None:
        """Something failed: ``action`` with the peer on ``source``, for a reason."""
        text = f"failed to {action} {self._name} on {source} ({reason})"
        if self.since is None:
            self._log.debug("peer deactivated again", peer_id=self._name, error=text)
            return
        self._log.warn("peer became inactive (message send to peer failed)", peer_id=self._name, error=text)
        self.stop()
        self._figures.disconnected[self._name] += 1

    def stop(self) -> None:
        """It is no peer any more."""
        self.since = None
        self._figures.active[self._name] = 0


@final
class UrlPicker:
    """Which of a peer's URLs to use: the same one until it fails, then the next."""

    __slots__ = ("_picked", "_urls")

    def __init__(self, urls: Sequence[Url]) -> None:
        self.update(urls)

    def update(self, urls: Sequence[Url]) -> None:
        """Take other URLs; there is at least one."""
        assert urls, "a peer has a URL"
        self._urls = tuple(urls)
        self._picked = 0

    def pick(self) -> Url:
        """The URL to use."""
        return self._urls[self._picked]

    def unreachable(self, url: Url) -> None:
        """``url`` failed: go on with the next one, unless somebody else did already."""
        if url == self._urls[self._picked]:
            self._picked = (self._picked + 1) % len(self._urls)
