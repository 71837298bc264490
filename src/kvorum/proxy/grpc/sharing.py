"""Which clients' watchers are fed by which watch at the members. Sans-IO.

A *share* is one watch upstream and the watchers it feeds, all of one interval. It knows the revision that it
delivers next, each watcher the one that it needs next; a watcher fits a share that is not past that. As every
watcher begins at a revision that is known (one that watches "from now" at the first after the newest when it
came), a share can be opened again anywhere, at any time, with nothing lost or repeated.

A watcher with a past begins with a share of its own. Whenever a share has moved on it looks for another one
of its interval that is no further, and if there is one gives it its watchers and goes away.

Invariants (``check_invariants``): a share has watchers, and is the one that they name; no watcher needs a
revision before its share's. Source of behaviour: etcd ``server/proxy/grpcproxy/watch_broadcast(s).go``.
"""

from collections.abc import Iterator
from typing import Final, final

from kvorum.proto import kv_pb2


@final
class Watcher:
    """One watcher of a client's stream.

    ``stream`` is the stream's (any object); ``next_revision`` the first revision that has not been delivered.
    """

    __slots__ = (
        "end", "fragment", "id", "key", "next_revision", "no_delete", "no_put", "prev_kv", "progress",
        "share", "stream", "token",
    )  # fmt: skip

    def __init__(self, stream: object, watch_id: int, key: bytes, end: bytes, next_revision: int) -> None:
        self.stream: Final = stream
        self.id: Final = watch_id
        self.key: Final = key
        self.end: Final = end
        self.next_revision = next_revision
        self.token = ""
        self.progress = False
        self.prev_kv = False
        self.no_put = False
        self.no_delete = False
        self.fragment = False
        self.share: Share | None = None

    @property
    def wish(self) -> tuple[bool, bool, bool]:
        """What decides how events look: watchers that are alike get the same bytes."""
        return self.prev_kv, self.no_put, self.no_delete

    def wants(self, event: kv_pb2.Event) -> bool:
        """Whether its filters let an event through."""
        return not (self.no_delete if event.type == kv_pb2.Event.DELETE else self.no_put)


@final
class Share:
    """One watch upstream; ``id`` is what it is called there."""

    __slots__ = ("end", "id", "key", "next_revision", "token", "watchers")

    def __init__(self, share_id: int, first: Watcher) -> None:
        self.id: Final = share_id
        self.key: Final = first.key
        self.end: Final = first.end
        self.token: Final = first.token
        """Under which it was opened: the first watcher's."""
        self.next_revision = first.next_revision
        self.watchers: Final[dict[Watcher, None]] = {}


@final
class Shares:
    """All of them, by interval."""

    def __init__(self) -> None:
        self._by_interval: Final[dict[tuple[bytes, bytes], list[Share]]] = {}
        self._made = 0
        self.watchers = 0
        """Watchers that are fed."""

    def __iter__(self) -> Iterator[Share]:
        for group in self._by_interval.values():
            yield from group

    @property
    def coalesced(self) -> int:
        """Watchers beyond the first of each share."""
        return self.watchers - sum(len(group) for group in self._by_interval.values())

    def add(self, watcher: Watcher, *, from_now: bool = False) -> Share | None:
        """Feed a watcher; returns the share that has to be opened for it, None if one is there.

        ``from_now``: it came without a revision, so a share that has passed the newest one known when it came
        will do: the watch begins when it begins.
        """
        group = self._by_interval.setdefault((watcher.key, watcher.end), [])
        fitting = [share for share in group if from_now or share.next_revision <= watcher.next_revision]
        self.watchers += 1
        if fitting:
            chosen = max(fitting, key=lambda share: share.next_revision)
            watcher.next_revision = max(watcher.next_revision, chosen.next_revision)
            _join(chosen, watcher)
            return None
        self._made += 1
        share = Share(self._made, watcher)
        group.append(share)
        _join(share, watcher)
        return share

    def remove(self, watcher: Watcher) -> Share | None:
        """Feed a watcher no more; returns the share that is now to be closed, if it was its last."""
        share = watcher.share
        if share is None:
            return None
        watcher.share = None
        del share.watchers[watcher]
        self.watchers -= 1
        if share.watchers:
            return None
        self._drop(share)
        return share

    def advance(self, share: Share, next_revision: int) -> bool:
        """A share has delivered everything before a revision; whether it gave its watchers to another one
        and is to be closed.
        """
        share.next_revision = max(share.next_revision, next_revision)
        group = self._by_interval[share.key, share.end]
        for other in group:
            if other is not share and other.next_revision <= share.next_revision:
                for watcher in share.watchers:
                    watcher.next_revision = max(watcher.next_revision, share.next_revision)
                    _join(other, watcher)
                share.watchers.clear()
                self._drop(share)
                return True
        return False

    def dissolve(self, share: Share) -> list[Watcher]:
        """A share has ended upstream; returns its watchers, which are fed no more."""
        watchers = list(share.watchers)
        for watcher in watchers:
            watcher.next_revision = max(watcher.next_revision, share.next_revision)
            watcher.share = None
        self.watchers -= len(watchers)
        share.watchers.clear()
        self._drop(share)
        return watchers

    def check_invariants(self) -> None:
        """Assert what the module docstring promises."""
        count = 0
        for (key, end), group in self._by_interval.items():
            assert group, "an interval without shares"
            for share in group:
                assert (share.key, share.end) == (key, end)
                assert share.watchers, "a share that feeds nobody"
                for watcher in share.watchers:
                    count += 1
                    assert watcher.share is share
                    assert watcher.next_revision >= share.next_revision or watcher.id < 0, "events missed"
        assert count == self.watchers

    def _drop(self, share: Share) -> None:
        group = self._by_interval[share.key, share.end]
        group.remove(share)
        if not group:
            del self._by_interval[share.key, share.end]


def _join(share: Share, watcher: Watcher) -> None:
    watcher.share = share
    share.watchers[watcher] = None
