"""The store of the v2 API: one tree, one index.

Every change that succeeds moves the index by one and leaves one event of that index; directories that a
change needs are made along with it. Clients' keys stand below ``/1``, the cluster's members below ``/0``
(etcd ``StoreKeysPrefix``, ``StoreClusterPrefix``), and both share the index: that is why a new cluster's does
not begin at zero.

What changes the tree is called by ``apply`` with what a log entry says, so every member does the same; the
clock passed in only fills in the ``ttl`` that events show. The tree in memory answers reads; each change is
also written to the backend's tables (``tables.py``), in whose transaction the consistent index moves as well.

Errors change nothing but counters. The counters count some refusals as successes, and one twice, where etcd
does. Source: etcd 3.4.23 ``v2store/store.go``.
"""

from collections.abc import Callable, Sequence
from typing import Final, final

from kvorum.v2store import event as actions
from kvorum.v2store import stats as counters
from kvorum.v2store.errors import (
    DIR_NOT_EMPTY,
    KEY_NOT_FOUND,
    NODE_EXIST,
    NOT_DIR,
    NOT_FILE,
    ROOT_READ_ONLY,
    V2Error,
)
from kvorum.v2store.event import Event, NodeView
from kvorum.v2store.history import EventHistory
from kvorum.v2store.hub import Watcher, WatcherHub
from kvorum.v2store.loading import Loaded
from kvorum.v2store.node import Node, compare
from kvorum.v2store.paths import clean, join
from kvorum.v2store.stats import Stats
from kvorum.v2store.tables import Records, Tables
from kvorum.v2store.times import NANOSECONDS
from kvorum.v2store.ttl import TtlQueue

NAMESPACES: Final = ("/0", "/1")
_EARLIEST_EXPIRY: Final = 946_684_800 * NANOSECONDS
"""1 January 2000: a node made with an earlier expiry gets none (etcd ``minExpireTime``)."""


@final
class Store:
    """The tree, its index, its history and its watchers.

    Args:
        tables: where it is kept; what is there is loaded.
        now: nanoseconds since 1970, for the ``ttl`` of events.

    Paths may be unclean; times (``expires``, ``cutoff``) are nanoseconds since 1970, ``expires`` 0 for never.
    Invariants (``check_invariants``): a node stands in its parent's children under its path's last part;
    exactly the nodes with a time are in the queue; the newest event's index is the store's; the tables hold
    the same as memory.
    """

    __slots__ = ("_next_id", "_now", "_read_only", "_records", "_root", "_ttl", "hub", "index", "stats")

    def __init__(
        self, tables: Tables, now: Callable[[], int], namespaces: Sequence[str] = NAMESPACES
    ) -> None:
        self._now: Final = now
        self._records = Records(tables)
        self._read_only: Final = frozenset(("/", *namespaces))
        self.hub: Final = WatcherHub()
        self.stats: Final = Stats()
        self.index = 0
        self._next_id = 1
        self._root = Node(0, "/", 0, is_dir=True)
        self._ttl = TtlQueue()
        self.hub.history = self._load()

    # --- reads -------------------------------------------------------------------------------------------

    def get(self, path: str, recursive: bool = False, ordered: bool = False) -> Event:
        """Read a node; of a directory also what is in it (all below if ``recursive``), but no hidden nodes.

        Raises:
            V2Error: KEY_NOT_FOUND, NOT_DIR.
        """
        counts = self.stats.counts
        if recursive:
            self.stats.recursive_reads += 1
        try:
            node = self._find(clean(path))
        except V2Error:
            counts[counters.GET_FAIL] += 1
            raise
        counts[counters.GET_SUCCESS] += 1
        view = (
            node.view(self._now() if node.expires else 0)
            if node.children is None
            else node.listing(self._now(), recursive, ordered)
        )
        return Event(actions.GET, view, None, self.index)

    def peek(self, path: str) -> str | None:
        """The value at a clean path, without counting it as a read; None if there is none."""
        node = self._root
        for name in path[1:].split("/"):
            child = None if node.children is None else node.children.get(name)
            if child is None:
                return None
            node = child
        return None if node.children is not None else node.value

    def watch(self, path: str, recursive: bool = False, stream: bool = False, since: int = 0) -> Watcher:
        """Wait for the next event of a key from index ``since`` on (0: from now on); see ``hub.py``.

        Raises:
            V2Error: EVENT_INDEX_CLEARED: the history does not reach back so far.
        """
        return self.hub.watch(clean(path), recursive, stream, since or self.index + 1, self.index)

    @property
    def has_ttl_keys(self) -> bool:
        """Whether any node expires."""
        return len(self._ttl) > 0

    @property
    def next_expiry(self) -> int:
        """When the next node expires; 0 if none does."""
        node = self._ttl.first()
        return 0 if node is None else node.expires

    @property
    def nodes_made(self) -> int:
        """How many nodes were ever made here, about: how much memory may have been taken since."""
        return self._next_id

    def stats_json(self) -> bytes:
        """The counters, as etcd's JSON."""
        return self.stats.to_json(self.hub.count).encode()

    # --- changes -----------------------------------------------------------------------------------------

    def create(
        self, path: str, is_dir: bool = False, value: str = "", unique: bool = False, expires: int = 0
    ) -> Event:
        """Make a node where there is none; ``unique`` makes it below ``path``, named by the index.

        Raises:
            V2Error: NODE_EXIST, NOT_DIR, ROOT_READ_ONLY.
        """
        if unique:
            path = f"{path}/{self.index + 1:020}"
        try:
            event = self._create(actions.CREATE, path, is_dir, value, expires, replace=False)
        except V2Error:
            self._count(counters.CREATE_FAIL)
            raise
        self._count(counters.CREATE_SUCCESS)
        return self._publish(event)

    def set(
        self, path: str, is_dir: bool = False, value: str = "", expires: int = 0, refresh: bool = False
    ) -> Event:
        """Make a node, in place of the value that stands there; ``refresh`` keeps the value and wakes nobody.

        Raises:
            V2Error: NOT_FILE (a directory stands there), NOT_DIR, ROOT_READ_ONLY; KEY_NOT_FOUND (refresh).
        """
        try:
            if refresh:
                value = self._find(clean(path)).value
            event = self._create(actions.SET, path, is_dir, value, expires, replace=True)
        except V2Error:
            self._count(counters.SET_FAIL)
            raise
        self._count(counters.SET_SUCCESS)
        return self._publish(event, refresh)

    def update(self, path: str, value: str = "", expires: int = 0, refresh: bool = False) -> Event:
        """Change the value and the time of a node; a directory has only the latter, and no value is given.

        Raises:
            V2Error: KEY_NOT_FOUND, NOT_DIR, NOT_FILE (a value for a directory), ROOT_READ_ONLY.
        """
        path = clean(path)
        if path in self._read_only:
            self._count(counters.UPDATE_SUCCESS)  # as etcd does
            raise V2Error(ROOT_READ_ONLY, "/", self.index)
        node = self._find_or_count(path, counters.UPDATE_FAIL)
        if node.children is not None and value:
            self._count(counters.UPDATE_SUCCESS)  # as etcd does
            raise V2Error(NOT_FILE, path, self.index)
        event = self._write(actions.UPDATE, node, node.value if refresh else value, expires)
        self._count(counters.UPDATE_SUCCESS)
        return self._publish(event, refresh)

    def compare_and_swap(
        self,
        path: str,
        prev_value: str = "",
        prev_index: int = 0,
        value: str = "",
        expires: int = 0,
        refresh: bool = False,
    ) -> Event:
        """Change a value if it is ``prev_value`` (unless empty) and of ``prev_index`` (unless 0).

        Raises:
            V2Error: TEST_FAILED, KEY_NOT_FOUND, NOT_FILE, NOT_DIR, ROOT_READ_ONLY.
        """
        path = clean(path)
        if path in self._read_only:
            self._count(counters.COMPARE_AND_SWAP_SUCCESS)  # as etcd does
            raise V2Error(ROOT_READ_ONLY, "/", self.index)
        node = self._find_or_count(path, counters.COMPARE_AND_SWAP_FAIL)
        error = compare(node, prev_value, prev_index, self.index)
        if error is not None:
            self._count(counters.COMPARE_AND_SWAP_FAIL)
            raise error
        event = self._write(actions.COMPARE_AND_SWAP, node, node.value if refresh else value, expires)
        self._count(counters.COMPARE_AND_SWAP_SUCCESS)
        return self._publish(event, refresh)

    def delete(self, path: str, is_dir: bool = False, recursive: bool = False) -> Event:
        """Remove a value, or a directory: an empty one if ``is_dir``, any if ``recursive``.

        Raises:
            V2Error: KEY_NOT_FOUND, NOT_DIR, NOT_FILE (a directory), DIR_NOT_EMPTY, ROOT_READ_ONLY.
        """
        path = clean(path)
        if path in self._read_only:
            self._count(counters.DELETE_SUCCESS)  # as etcd does
            raise V2Error(ROOT_READ_ONLY, "/", self.index)
        node = self._find_or_count(path, counters.DELETE_FAIL)
        if node.children is not None and not recursive and (node.children or not is_dir):
            self._count(counters.DELETE_FAIL)
            raise V2Error(DIR_NOT_EMPTY if is_dir else NOT_FILE, path, self.index)
        return self._remove(actions.DELETE, node, counters.DELETE_SUCCESS)

    def compare_and_delete(self, path: str, prev_value: str = "", prev_index: int = 0) -> Event:
        """Remove a value if it is ``prev_value`` (unless empty) and of ``prev_index`` (unless 0).

        Raises:
            V2Error: TEST_FAILED, KEY_NOT_FOUND, NOT_FILE, NOT_DIR.
        """
        path = clean(path)
        node = self._find_or_count(path, counters.COMPARE_AND_DELETE_FAIL)
        error = compare(node, prev_value, prev_index, self.index)
        if error is not None:
            self._count(counters.COMPARE_AND_DELETE_SUCCESS)  # as etcd does
            raise error
        return self._remove(actions.COMPARE_AND_DELETE, node, counters.COMPARE_AND_DELETE_SUCCESS)

    def delete_expired_keys(self, cutoff: int) -> int:
        """Remove what expires by ``cutoff``, soonest first; returns how many nodes that were, without those
        that went with their directories.
        """
        expired = 0
        while (node := self._ttl.first()) is not None and node.expires <= cutoff:
            self._remove(actions.EXPIRE, node, counters.EXPIRE_COUNT)
            expired += 1
        return expired

    # --- how ---------------------------------------------------------------------------------------------

    def _find(self, path: str) -> Node:
        """The node at a clean path; raises KEY_NOT_FOUND or NOT_DIR."""
        node = self._root
        if path == "/":
            return node
        for name in path[1:].split("/"):
            children = node.children
            if children is None:
                raise V2Error(NOT_DIR, node.path, self.index)
            child = children.get(name)
            if child is None:
                raise V2Error(KEY_NOT_FOUND, join(node.path, name), self.index)
            node = child
        return node

    def _find_or_count(self, path: str, counter: int) -> Node:
        try:
            return self._find(path)
        except V2Error:
            self._count(counter)
            raise

    def _create(
        self, action: str, path: str, is_dir: bool, value: str, expires: int, *, replace: bool
    ) -> Event:
        """Put a new node into the tree, with the directories it needs; raises before anything is changed."""
        path = clean(path)
        if path in self._read_only:
            raise V2Error(ROOT_READ_ONLY, "/", self.index)
        at = path.rindex("/")
        name = path[at + 1 :]
        children = self._children_at(path[:at], replace)
        old = children.get(name)
        if old is not None:
            if not replace:
                raise V2Error(NODE_EXIST, path, self.index)
            if old.children is not None:
                raise V2Error(NOT_FILE, path, self.index)
        if expires < _EARLIEST_EXPIRY:
            expires = 0
        now = self._now() if expires or (old is not None and old.expires) else 0
        prev = None
        if old is not None:
            prev = old.view(now)
            self._ttl.discard(old)
        self.index += 1
        # What replaces a node takes over its record.
        node = Node(
            self._new_id() if old is None else old.id,
            path,
            self.index,
            "" if is_dir else value,
            expires,
            is_dir=is_dir,
        )
        children[name] = node
        if expires:
            self._ttl.put(node)
        self._records.put_node(node)
        return Event(action, node.view(now), prev, self.index)

    def _children_at(self, path: str, replace: bool) -> dict[str, Node]:
        """What is in the directory at ``path``, which is made, with those above it, if it is not there."""
        children = self._root.children
        assert children is not None
        at = 0
        while at < len(path):
            end = path.find("/", at + 1)
            if end < 0:
                end = len(path)
            name = path[at + 1 : end]
            node = children.get(name)
            if node is None:
                node = Node(self._new_id(), path[:end], self.index + 1, is_dir=True)
                children[name] = node
                self._records.put_node(node)
            if node.children is None:
                if not replace:
                    self.stats.counts[counters.SET_FAIL] += 1  # as etcd does, besides the action's own
                raise V2Error(NOT_DIR, node.path, self.index)
            children = node.children
            at = end
        return children

    def _new_id(self) -> int:
        node_id = self._next_id
        self._next_id = node_id + 1
        return node_id

    def _write(self, action: str, node: Node, value: str, expires: int) -> Event:
        """Change a node where it stands."""
        now = self._now() if expires or node.expires else 0
        prev = node.view(now)
        self.index += 1
        if node.children is None:
            node.value = value
            node.modified_index = self.index  # a directory keeps its own, as in etcd
        node.expires = expires
        if expires:
            self._ttl.put(node)
        else:
            self._ttl.discard(node)
        self._records.put_node(node)
        view = node.view(now)
        view.modified_index = self.index
        return Event(action, view, prev, self.index)

    def _remove(self, action: str, node: Node, counter: int) -> Event:
        """Take a node and all below it out of the tree; tell who watched any of it."""
        self.index += 1
        path = node.path
        prev = node.view(self._now() if node.expires else 0)
        view = NodeView(path, self.index, node.created_index, None, node.children is not None)
        event = Event(action, view, prev, self.index)
        at = path.rindex("/")
        parent = self._find(path[:at] or "/")
        assert parent.children is not None
        del parent.children[path[at + 1 :]]
        removed = node.subtree()
        for each in removed:
            if each.expires:
                self._ttl.discard(each)
            self._records.delete_node(each)
        self._count(counter)
        if self.hub.count:
            for each in reversed(removed):
                self.hub.notify_at(each.path, event, True)
        return self._publish(event)

    def _count(self, counter: int) -> None:
        """Count what was done, and store it with the index."""
        self.stats.counts[counter] += 1
        self._records.put_state(self.index, self.stats)

    def _publish(self, event: Event, refresh: bool = False) -> Event:
        """Add the event to the history and tell who waits for it."""
        if refresh:
            event.refresh = True
            self._records.put_event(event)
            self.hub.history.add(event)
        else:
            self._records.put_event(event)
            self.hub.notify(event)
        return event

    # --- from the backend --------------------------------------------------------------------------------

    def reload(self, tables: Tables) -> None:
        """The tables were replaced by those of a snapshot: take over what they hold, and tell who waits."""
        self._records = Records(tables)
        self.hub.resume(self._load(), self.index)

    def _load(self) -> EventHistory:
        """Take over what the tables hold; returns the history."""
        loaded = Loaded(self._records, self.stats, self._read_only, self._now())
        self.index = loaded.index
        self._root = loaded.root
        self._ttl = loaded.ttl
        self._next_id = loaded.next_id
        return loaded.history

    def check_invariants(self) -> None:
        """Raise AssertionError if what the class promises does not hold."""
        nodes = self._root.subtree()[1:]
        for node in nodes:
            at = node.path.rindex("/")
            siblings = self._find(node.path[:at] or "/").children
            assert siblings is not None
            assert siblings[node.path[at + 1 :]] is node
            assert (node in self._ttl) == bool(node.expires)
        assert len(self._ttl) == sum(bool(node.expires) for node in nodes)
        assert not self.hub.history.events or self.hub.history.last_index == self.index
        assert self._records.load_state(Stats()) == self.index
        assert sorted(map(_plain, self._records.nodes())) == sorted(map(_plain, nodes))


def _plain(node: Node) -> tuple[object, ...]:
    return (
        node.path,
        node.id,
        node.created_index,
        node.modified_index,
        node.value,
        node.expires,
        node.children is None,
    )
