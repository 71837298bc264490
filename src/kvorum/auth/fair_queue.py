"""Whose turn it is: a bounded queue that serves its users in turns, and the connections of each in turns.

A password takes some 60 ms of a processor to check, by design, so who sends wrong ones keeps those waiting
who send right ones. Here a flood for one user keeps others waiting for one check at a time, and for the same
user other connections for one check for each that floods. When there is no more room, who has most
waiting makes some for who has less; nobody is kept out because others are many.
"""

from collections import deque
from collections.abc import Hashable
from typing import Final, Generic, TypeVar, final

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


@final
class FairQueue(Generic[T]):
    """Items by user and connection.

    Invariants (``check_invariants``): no user and no connection is kept without an item; ``_held`` counts the
    items of each connection, ``_counts`` those of each user; ``len`` is their sum and within the bound.
    """

    __slots__ = ("_counts", "_held", "_max_items", "_max_per_connection", "_size", "_users")

    def __init__(self, max_items: int, max_per_connection: int) -> None:
        self._max_items: Final = max_items
        self._max_per_connection: Final = max_per_connection
        self._users: Final[dict[str, dict[Hashable, deque[T]]]] = {}
        self._held: Final[dict[Hashable, int]] = {}
        self._counts: Final[dict[str, int]] = {}
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def put(self, user: str, connection: Hashable, item: T) -> T | None:
        """Queue an item; returns the one that there is no room for: it, or another that made room for it."""
        if self._held.get(connection, 0) >= self._max_per_connection:
            return item
        out: T | None = None
        if self._size >= self._max_items:
            out = self._make_room(user, connection)
            if out is None:
                return item
        self._users.setdefault(user, {}).setdefault(connection, deque()).append(item)
        self._count(user, connection, 1)
        return out

    def _make_room(self, user: str, connection: Hashable) -> T | None:
        """Take out the newest item of who has most; None if that is no more than this one would have."""
        most = max(self._counts, key=self._counts.__getitem__)
        connections = self._users[most]
        longest = max(connections, key=lambda each: len(connections[each]))
        if most == user:
            waiting = len(connections[connection]) if connection in connections else 0
            if len(connections[longest]) < waiting + 2:
                return None
        elif self._counts[most] < self._counts.get(user, 0) + 2:
            return None
        out = connections[longest].pop()
        if not connections[longest]:
            del connections[longest]
        if not connections:
            del self._users[most]
        self._count(most, longest, -1)
        return out

    def _count(self, user: str, connection: Hashable, change: int) -> None:
        self._size += change
        _add(self._held, connection, change)
        _add(self._counts, user, change)

    def take(self) -> T | None:
        """The item whose turn it is; None if there is none."""
        if not self._users:
            return None
        user = next(iter(self._users))
        connections = self._users.pop(user)
        connection = next(iter(connections))
        items = connections.pop(connection)
        item = items.popleft()
        if items:
            connections[connection] = items  # behind the user's other connections
        if connections:
            self._users[user] = connections  # behind the other users
        self._count(user, connection, -1)
        return item

    def check_invariants(self) -> None:
        """Assert what the class docstring promises."""
        held: dict[Hashable, int] = {}
        for connections in self._users.values():
            assert connections, "a user is kept without a connection"
            for connection, items in connections.items():
                assert items, "a connection is kept without an item"
                held[connection] = held.get(connection, 0) + len(items)
        assert held == self._held, "connections are not counted right"
        by_user = {user: sum(map(len, each.values())) for user, each in self._users.items()}
        assert by_user == self._counts, "users are not counted right"
        assert sum(held.values()) == self._size <= self._max_items, "items are not counted right"


def _add(counts: dict[K, int], key: K, change: int) -> None:
    """Count up or down; what is 0 is not kept."""
    count = counts.get(key, 0) + change
    if count:
        counts[key] = count
    else:
        del counts[key]
