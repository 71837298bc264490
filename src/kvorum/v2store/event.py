"""What happened (``Event``), what a node looked like (``NodeView``), and their JSON, byte for byte etcd's.

An event is made once, when its entry is applied, and shared by the answer, the history and every watcher: it
never changes. Source: etcd 3.4.23 ``v2store/event.go``, ``node_extern.go``; Go ``encoding/json``.
"""

from typing import Final, final

from kvorum.golang import json_string
from kvorum.v2store.times import format_time

GET: Final = "get"
CREATE: Final = "create"
SET: Final = "set"
UPDATE: Final = "update"
DELETE: Final = "delete"
COMPARE_AND_SWAP: Final = "compareAndSwap"
COMPARE_AND_DELETE: Final = "compareAndDelete"
EXPIRE: Final = "expire"

_WITHOUT_VALUE: Final = frozenset((SET, COMPARE_AND_SWAP, CREATE, UPDATE))
"""Actions whose nodes ``noValueOnSuccess`` leaves out."""


@final
class NodeView:
    """A node as clients see it.

    ``value`` is None where none is shown (directories, what was deleted); ``expiration`` is nanoseconds since
    1970 with 0 for none, ``ttl`` the whole seconds to it when this was made; ``nodes`` are what a directory
    showed, None where it was not listed.
    """

    __slots__ = ("created_index", "dir", "expiration", "key", "modified_index", "nodes", "ttl", "value")

    def __init__(
        self,
        key: str,
        modified_index: int,
        created_index: int,
        value: str | None = None,
        is_dir: bool = False,
        expiration: int = 0,
        ttl: int = 0,
        nodes: "list[NodeView] | None" = None,
    ) -> None:
        self.key = key
        self.value = value
        self.dir = is_dir
        self.expiration = expiration
        self.ttl = ttl
        self.nodes = nodes
        self.modified_index = modified_index
        self.created_index = created_index

    def to_json(self, trim: str = "") -> str:
        """etcd's JSON of the node and what is below it; ``trim`` is cut off the beginning of keys."""
        if not self.nodes:
            return self._leaf_json(trim)
        # Directories can lie deeper than Python's stack; a level is a directory and what of it is to come.
        parts = [self._opening(trim)]
        levels = [(self, iter(self.nodes))]
        separator = ""
        while levels:
            node, rest = levels[-1]
            child = next(rest, None)
            if child is None:
                levels.pop()
                parts.append(node._closing())
                separator = ","
            elif child.nodes:
                parts += (separator, child._opening(trim))
                levels.append((child, iter(child.nodes)))
                separator = ""
            else:
                parts += (separator, child._leaf_json(trim))
                separator = ","
        return "".join(parts)

    def _leaf_json(self, trim: str) -> str:
        if self.value is not None and not self.expiration:  # by far the most
            return (
                f'{{"key":{json_string(self.key.removeprefix(trim))},"value":{json_string(self.value)},'
                f'"modifiedIndex":{self.modified_index},"createdIndex":{self.created_index}}}'
            )
        return "{" + ",".join(self._members_before(trim) + self._members_after()) + "}"

    def _opening(self, trim: str) -> str:
        return "{" + "".join([member + "," for member in self._members_before(trim)]) + '"nodes":['

    def _closing(self) -> str:
        return "]" + "".join(["," + member for member in self._members_after()]) + "}"

    def _members_before(self, trim: str) -> list[str]:
        """What stands before ``nodes``; empty values are left out, as Go's ``omitempty`` does."""
        members: list[str] = []
        key = self.key.removeprefix(trim)
        if key:
            members.append(f'"key":{json_string(key)}')
        if self.value is not None:
            members.append(f'"value":{json_string(self.value)}')
        if self.dir:
            members.append('"dir":true')
        if self.expiration:
            members.append(f'"expiration":"{format_time(self.expiration)}"')
        if self.ttl:
            members.append(f'"ttl":{self.ttl}')
        return members

    def _members_after(self) -> list[str]:
        """What stands behind ``nodes``."""
        members: list[str] = []
        if self.modified_index:
            members.append(f'"modifiedIndex":{self.modified_index}')
        if self.created_index:
            members.append(f'"createdIndex":{self.created_index}')
        return members


@final
class Event:
    """What an operation did: ``node`` after it, ``prev_node`` before it (None: there was none).

    ``etcd_index`` is the store's index when it was answered (header ``X-Etcd-Index``). ``refresh`` events
    stand in the history but wake no watcher.
    """

    __slots__ = ("action", "etcd_index", "node", "prev_node", "refresh")

    def __init__(
        self,
        action: str,
        node: NodeView,
        prev_node: NodeView | None = None,
        etcd_index: int = 0,
        refresh: bool = False,
    ) -> None:
        self.action = action
        self.node = node
        self.prev_node = prev_node
        self.etcd_index = etcd_index
        self.refresh = refresh

    @property
    def index(self) -> int:
        """The index at which it happened."""
        return self.node.modified_index

    @property
    def is_created(self) -> bool:
        """Whether there was nothing before: answered with status 201."""
        return self.action == CREATE or (self.action == SET and self.prev_node is None)

    def to_json(self, trim: str = "", *, no_value: bool = False) -> bytes:
        """The body of the answer, without the line end.

        ``trim`` (the store's prefix, "/1") is cut off keys; ``no_value`` is ``noValueOnSuccess``: nodes are
        left out where the action wrote a value.
        """
        if no_value and self.action in _WITHOUT_VALUE:
            return f'{{"action":"{self.action}"}}'.encode()
        prev_node = self.prev_node
        prev = "" if prev_node is None else f',"prevNode":{prev_node.to_json(trim)}'
        return f'{{"action":"{self.action}","node":{self.node.to_json(trim)}{prev}}}'.encode()
