"""The last events, so that a watcher may begin in the past.

Source: etcd 3.4.23 ``v2store/event_history.go``, ``event_queue.go``.
"""

from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import final

from kvorum import limits
from kvorum.v2store.errors import EVENT_INDEX_CLEARED, V2Error
from kvorum.v2store.event import DELETE, EXPIRE, Event


@final
class EventHistory:
    """Up to V2_HISTORY_EVENTS events; their indices follow each other without gaps."""

    __slots__ = ("events",)

    def __init__(self) -> None:
        self.events: deque[Event] = deque(maxlen=limits.V2_HISTORY_EVENTS)

    @property
    def start_index(self) -> int:
        """Index of the oldest event, 0 without one."""
        return self.events[0].index if self.events else 0

    @property
    def last_index(self) -> int:
        """Index of the newest event, 0 without one."""
        return self.events[-1].index if self.events else 0

    def add(self, event: Event) -> None:
        """Append the event; the oldest may fall off."""
        assert not self.events or event.index == self.last_index + 1, "indices follow each other"
        self.events.append(event)

    def scan(self, key: str, recursive: bool, since: int, store_index: int) -> Iterator[Event]:
        """The events from index ``since`` on that a watcher of ``key`` is shown, oldest first.

        Hidden keys count here, other than for events to come: etcd does not look for them in its history.

        Raises:
            V2Error: EVENT_INDEX_CLEARED: they are not all here any more.
        """
        start = self.start_index
        if since < start:
            cause = f"the requested history has been cleared [{start}/{since}]"
            raise V2Error(EVENT_INDEX_CLEARED, cause, store_index)
        if since > self.last_index:
            return iter(())
        below = key if key.endswith("/") else key + "/"
        return (
            event
            for event in islice(self.events, since - start, None)
            if not event.refresh and _concerns(event, key, below if recursive else "")
        )


def _concerns(event: Event, key: str, below: str) -> bool:
    """Whether a watcher of ``key`` is shown the event; ``below`` is the prefix that it watches besides."""
    changed = event.node.key
    if changed == key or (below and changed.startswith(below)):
        return True
    if event.action not in (DELETE, EXPIRE):
        return False
    gone = event.prev_node
    # etcd compares the plain prefix, so that /foobar hears of the directory /foo.
    return gone is not None and gone.dir and key.startswith(gone.key)
