"""Whose turn it is: a bounded queue that serves its users in turns, and the connections of each in turns.

A password takes some 60 ms of a processor to check, by design, so who sends wrong ones keeps those waiting
who send right ones. Here a flood for one user keeps others waiting for one check at a time, and for the same
user other connections for one check for each that floods. What does not fit is refused at once.
"""

from collections import deque
from collections.abc import Hashable
from typing import Final, Generic, TypeVar, final

T = TypeVar("T")


@final
class FairQueue(Generic[T]):
    """Items by user and connection.

    Invariants (``check_invariants``): no user and no connection is kept without an item; ``_held`` counts the
    items of each connection; ``len`` is their sum and within the bound.
    """

    __slots__ = ("_held", "_max_items", "_max_per_connection", "_size", "_users")

    def __init__(self, max_items: int, max_per_connection: int) -> None:
        self._max_items: Final = max_items
        self._max_per_connection: Final = max_per_connection
        self._users: Final[dict[str, dict[Hashable, deque[T]]]] = {}
        self._held: Final[dict[Hashable, int]] = {}
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def put(self, user: str, connection: Hashable, item: T) -> bool:
        """Queue an item; False if there is no room for it."""
        held = self._held.get(connection, 0)
        if self._size >= self._max_items or held >= self._max_per_connection:
            return False
        self._users.setdefault(user, {}).setdefault(connection, deque()).append(item)
        self._held[connection] = held + 1
        self._size += 1
        return True

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
        self._size -= 1
        self._held[connection] -= 1
        if not self._held[connection]:
            del self._held[connection]
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
        assert sum(held.values()) == self._size <= self._max_items, "items are not counted right"
