"""Who waits for the next event of a key.

A watcher hears of events from index ``since`` on: at its own key, below it if it is recursive (unless a part
below begins with ``_``), and of the end of a directory that held its key. A one-shot watcher hears of one, a
stream of all. Events come to a watcher while their entry is applied; it keeps them until whoever serves it
takes them, and ``wake`` says that there are some.

Otherwise than etcd (3.4.23 ``v2store/watcher_hub.go``, ``watcher.go``), a stream that begins in the history
gets all of it and then what comes, where etcd sends the first event and falls silent; and a stream that does
not keep up is closed, where etcd leaves it open without events.
"""

from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Final, final

from kvorum import limits
from kvorum.v2store.event import Event
from kvorum.v2store.history import EventHistory
from kvorum.v2store.paths import is_hidden


def _nothing() -> None:
    """Nobody is to be woken yet."""


@final
class Watcher:
    """One wait of one client.

    ``start_index`` is the store's index when it began (header ``X-Etcd-Index``). ``wake`` is called, from
    inside of applying, after events came or the watcher was closed; it must not raise. ``closed``: nothing
    more will come besides what waits in ``events``.
    """

    __slots__ = ("_hub", "closed", "events", "key", "recursive", "since", "start_index", "stream", "wake")

    def __init__(
        self, hub: "WatcherHub", key: str, recursive: bool, stream: bool, since: int, start_index: int
    ) -> None:
        self._hub: Final = hub
        self.key: Final = key
        self.recursive: Final = recursive
        self.stream: Final = stream
        self.since = since
        self.start_index: Final = start_index
        self.events: Final[deque[Event]] = deque()
        self.closed = False
        self.wake: Callable[[], None] = _nothing

    def take(self) -> Event | None:
        """The next event that waits; None if there is none now."""
        return self.events.popleft() if self.events else None

    def remove(self) -> None:
        """Wait no more; does nothing the second time."""
        self._hub.remove(self)


@final
class WatcherHub:
    """All watchers by their key, in the order in which they came, and the history.

    Invariants: no key without watchers is kept; ``count`` is the number of watchers in ``_watchers``.
    """

    __slots__ = ("_watchers", "count", "history", "requests_total")

    def __init__(self) -> None:
        self.history = EventHistory()
        self.count = 0
        self.requests_total = 0
        self._watchers: Final[dict[str, dict[Watcher, None]]] = {}

    def watch(self, key: str, recursive: bool, stream: bool, since: int, store_index: int) -> Watcher:
        """Wait for events of ``key`` from index ``since`` on.

        Raises:
            V2Error: EVENT_INDEX_CLEARED: the history does not reach back so far.
        """
        self.requests_total += 1
        watcher = Watcher(self, key, recursive, stream, since, store_index)
        past = self.history.scan(key, recursive, since, store_index)
        watcher.events.extend(past if stream else islice(past, 1))
        if watcher.events:
            watcher.since = store_index + 1
            if not stream:
                watcher.closed = True
                return watcher
        self._watchers.setdefault(key, {})[watcher] = None
        self.count += 1
        return watcher

    def remove(self, watcher: Watcher) -> None:
        """Forget the watcher, if it is still here."""
        watcher.closed = True
        at_key = self._watchers.get(watcher.key)
        if at_key is not None and watcher in at_key:
            del at_key[watcher]
            self.count -= 1
            if not at_key:
                del self._watchers[watcher.key]

    def notify(self, event: Event) -> None:
        """Add the event to the history and tell everyone at its key and above."""
        self.history.add(event)
        if not self._watchers:
            return
        self.notify_at("/", event, False)
        key = event.node.key
        end = key.find("/", 1)
        while end > 0:
            self.notify_at(key[:end], event, False)
            end = key.find("/", end + 1)
        self.notify_at(key, event, False)

    def notify_at(self, path: str, event: Event, deleted: bool) -> None:
        """Tell those who watch ``path``; ``deleted``: it went with what the event names."""
        at_path = self._watchers.get(path)
        if at_path is None:
            return
        is_own = event.node.key == path
        if not is_own and is_hidden(path, event.node.key):
            return
        for watcher in list(at_path):
            if not (watcher.recursive or is_own or deleted) or event.index < watcher.since:
                continue
            if watcher.closed:
                continue
            if not watcher.stream:
                self.remove(watcher)
                watcher.events.append(event)
            elif len(watcher.events) < limits.V2_WATCHER_QUEUE_EVENTS:
                watcher.events.append(event)
            else:
                self.remove(watcher)
            watcher.wake()

    def resume(self, history: EventHistory, store_index: int) -> None:
        """The store was replaced by a later one: tell every watcher what it missed, as far as that is known.

        A watcher whose events are not in the new history any more is closed, so that its client asks again
        and is told from where.
        """
        seen = self.history.last_index
        self.history = history
        watchers = [watcher for at_key in self._watchers.values() for watcher in at_key]
        for watcher in watchers:
            since = max(watcher.since, seen + 1)
            if since < history.start_index:
                self.remove(watcher)
            else:
                past = history.scan(watcher.key, watcher.recursive, since, store_index)
                missed = list(past if watcher.stream else islice(past, 1))
                watcher.events.extend(missed)
                if not missed:
                    continue
                if not watcher.stream:
                    self.remove(watcher)
            watcher.wake()
