"""A store from its tables, as it was when they were written."""

from typing import Final, final

from kvorum.v2store.history import EventHistory
from kvorum.v2store.node import Node
from kvorum.v2store.stats import Stats
from kvorum.v2store.tables import Records
from kvorum.v2store.ttl import TtlQueue


@final
class Loaded:
    """What the tables hold; the counts of writes go into ``stats``.

    Namespaces that are not there are made; ``now`` is where the ttl of past events begins.
    """

    __slots__ = ("_records", "history", "index", "next_id", "root", "ttl")

    def __init__(self, records: Records, stats: Stats, namespaces: frozenset[str], now: int) -> None:
        self._records: Final = records
        self.index: Final = records.load_state(stats)
        self.root: Final = Node(0, "/", 0, is_dir=True)
        self.ttl: Final = TtlQueue()
        self.history: Final = EventHistory()
        nodes = list(records.nodes())
        self.next_id = max([node.id for node in nodes], default=0) + 1
        missing = sorted(namespaces - {"/"} - {node.path for node in nodes})
        self._join([self._new_directory(path) for path in missing] + nodes)
        for event in records.events(now):
            self.history.add(event)

    def _new_directory(self, path: str) -> Node:
        node = Node(self.next_id, path, 0, is_dir=True)
        self.next_id += 1
        self._records.put_node(node)
        return node

    def _join(self, nodes: list[Node]) -> None:
        """Put every node into its directory, and those that expire into the queue."""
        by_path = {"": self.root}
        by_path.update((node.path, node) for node in nodes)
        for node in nodes:
            at = node.path.rindex("/")
            parent = by_path.get(node.path[:at])
            assert parent is not None, f"the v2 tree has {node.path!r}, but not the directory it is in"
            assert parent.children is not None, f"the v2 tree has {node.path!r} below a value"
            parent.children[node.path[at + 1 :]] = node
            if node.expires:
                self.ttl.put(node)
