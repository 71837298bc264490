"""A node of the tree: a value, or a directory of nodes by name.

Source: etcd 3.4.23 ``v2store/node.go``.
"""

from typing import Final, final

from kvorum.v2store.event import NodeView
from kvorum.v2store.paths import name_of
from kvorum.v2store.times import NANOSECONDS


@final
class Node:
    """A value or a directory (``children`` is not None).

    ``expires`` is nanoseconds since 1970, 0 for never. ``id`` names its record in the backend and never
    changes. Invariant: every node in the tree stands in its parent's ``children`` under its path's last part.
    """

    __slots__ = ("children", "created_index", "expires", "id", "modified_index", "parent", "path", "value")

    def __init__(
        self,
        id: int,
        path: str,
        parent: "Node | None",
        index: int,
        value: str = "",
        expires: int = 0,
        *,
        dir: bool = False,
    ) -> None:
        self.id: Final = id
        self.path: Final = path
        self.parent: Final = parent
        self.created_index = index
        self.modified_index = index
        self.value = value
        self.expires = expires
        self.children: dict[str, Node] | None = {} if dir else None

    @property
    def in_tree(self) -> bool:
        """Whether it still stands under its parent (what stands above that is not looked at)."""
        parent = self.parent
        if parent is None:
            return True
        return parent.children is not None and parent.children.get(name_of(self.path)) is self

    def ttl(self, now: int) -> int:
        """Whole seconds until it expires, rounded up; 0 if it never does. Times are nanoseconds."""
        return -((now - self.expires) // NANOSECONDS) if self.expires else 0

    def view(self, now: int) -> NodeView:
        """What events show of it: itself, without what is below."""
        expires = self.expires
        return NodeView(
            self.path,
            self.modified_index,
            self.created_index,
            self.value if self.children is None else None,
            self.children is not None,
            expires,
            -((now - expires) // NANOSECONDS) if expires else 0,
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
                waiting += [
                    (child, seen)
                    for child, seen in zip(shown, nodes, strict=True)
                    if child.children is not None
                ]
        return top

    def subtree(self) -> "list[Node]":
        """The node and all below it, each directory before what is in it."""
        nodes = [self]
        for node in nodes:
            if node.children:
                nodes.extend(node.children.values())
        return nodes


def _path_of(node: Node) -> str:
    return node.path
