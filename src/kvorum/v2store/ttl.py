"""The queue of nodes that expire, soonest first.

etcd keeps a heap whose order among equal times depends on its past; here the path decides, so that members
that came to the same tree by other ways (a snapshot, a restart) expire its nodes in the same order.
"""

from heapq import heapify, heappop, heappush
from typing import Final, final

from kvorum.v2store.node import Node

_STALE_ALLOWED: Final = 64


@final
class TtlQueue:
    """Nodes by the time they expire; its length is how many there are.

    An entry that no longer says what its node says is passed over, which makes changing and removing cheap.
    Invariant: each node of ``_live`` has an entry with its time; entries are at most twice as many, and 64.
    """

    __slots__ = ("_heap", "_live")

    def __init__(self) -> None:
        self._heap: list[tuple[int, str, int]] = []
        self._live: dict[int, Node] = {}

    def __len__(self) -> int:
        return len(self._live)

    def __contains__(self, node: Node) -> bool:
        return self._live.get(node.id) is node

    def put(self, node: Node) -> None:
        """Take a node in, or its new time."""
        assert node.expires
        self._live[node.id] = node
        heappush(self._heap, (node.expires, node.path, node.id))
        if len(self._heap) > 2 * len(self._live) + _STALE_ALLOWED:
            self._heap = [(live.expires, live.path, live.id) for live in self._live.values()]
            heapify(self._heap)

    def discard(self, node: Node) -> None:
        """Let a node go, if it is here."""
        self._live.pop(node.id, None)

    def first(self) -> Node | None:
        """The node that expires next; None if none does."""
        heap = self._heap
        while heap:
            expires, _, node_id = heap[0]
            node = self._live.get(node_id)
            if node is not None and node.expires == expires:
                return node
            heappop(heap)
        return None
