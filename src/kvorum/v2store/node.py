"""A node of the tree: a value, or a directory of nodes by name.

Source: etcd 3.4.23 ``v2store/node.go``.
"""

from typing import Final, final

from kvorum.v2store.errors import NOT_FILE, TEST_FAILED, V2Error
from kvorum.v2store.event import NodeView
from kvorum.v2store.times import NANOSECONDS


def seconds_until(expires: int, now: int) -> int:
    """Whole seconds from ``now`` to ``expires`` (nanoseconds), rounded up; 0 if that is 0, for never."""
    return -((now - expires) // NANOSECONDS) if expires else 0


@final
class Node:
    """A value or a directory (``children`` is not None).

    ``expires`` is nanoseconds since 1970, 0 for never. ``id`` names its record in the backend and never
    changes.
    """

    __slots__ = ("children", "created_index", "expires", "id", "modified_index", "path", "value")

    def __init__(
        self, node_id: int, path: str, index: int, value: str = "", expires: int = 0, *, is_dir: bool = False
    ) -> None:
        self.id: Final = node_id
        self.path: Final = path
        self.created_index = index
        self.modified_index = index
        self.value = value
        self.expires = expires
        self.children: dict[str, Node] | None = {} if is_dir else None

    def view(self, now: int) -> NodeView:
        """What events show of it: itself, without what is below. ``now`` is what its ttl counts from."""
        expires = self.expires
        is_dir = self.children is not None
        return NodeView(
            self.path,
            self.modified_index,
            self.created_index,
            None if is_dir else self.value,
            is_dir,
            expires,
            seconds_until(expires, now) if expires else 0,
        )

    def listing(self, now: int, recursive: bool, ordered: bool) -> NodeView:
        """What a read shows: a directory with the nodes in it, and all below if ``recursive``.

        Nodes whose name begins with ``_`` are left out; ``ordered`` sorts by key.
        """
        top = self.view(now)
        waiting = [(self, top)]
        while waiting:
            node, view = waiting.pop()
            if node.children is None:
                continue
            shown = [child for name, child in node.children.items() if name[0] != "_"]
            if ordered:
                shown.sort(key=_path_of)
            nodes = [child.view(now) for child in shown]
            view.nodes = nodes
            if recursive:
                waiting += [pair for pair in zip(shown, nodes, strict=True) if pair[0].children is not None]
        return top

    def subtree(self) -> "list[Node]":
        """The node and all below it, each directory before what is in it."""
        nodes = [self]
        for node in nodes:
            if node.children:
                nodes.extend(node.children.values())
        return nodes


def compare(node: Node, prev_value: str, prev_index: int, index: int) -> V2Error | None:
    """What keeps a comparison with a node from succeeding, if anything; ``index`` is the store's."""
    if node.children is not None:
        return V2Error(NOT_FILE, node.path, index)
    value_differs = bool(prev_value) and node.value != prev_value
    index_differs = bool(prev_index) and node.modified_index != prev_index
    if not value_differs and not index_differs:
        return None
    causes = []
    if value_differs:
        causes.append(f"[{prev_value} != {node.value}]")
    if index_differs:
        causes.append(f"[{prev_index} != {node.modified_index}]")
    return V2Error(TEST_FAILED, " ".join(causes), index)


def _path_of(node: Node) -> str:
    return node.path
