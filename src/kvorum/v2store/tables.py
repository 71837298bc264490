"""How the store lies in the backend: what a restart finds is what was applied.

Three tables, written while an entry is applied, in the transaction that also moves the consistent index:

| table | key | value |
|---|---|---|
| ``v2`` | ``state`` | the index and the counts of writes (``stats.py``) |
| ``v2_node`` | a node's ID, 8 bytes | created and modified index, expiry, whether a directory, path, value |
| ``v2_event`` | the event's place in the ring, 2 bytes | action, the two nodes that it shows |

The key of a node is a number because paths are longer than LMDB's keys may be. Nothing in a record depends on
a clock of this member: the ``ttl`` that events show is left out, and made again from the expiry.
"""

import struct
from collections.abc import Iterable, Iterator
from typing import Final, Protocol, final

from kvorum import limits
from kvorum.v2store import event as events
from kvorum.v2store.event import Event, NodeView
from kvorum.v2store.node import Node, seconds_until
from kvorum.v2store.stats import NOTHING_DONE, Stats

STATE_TABLE: Final = b"v2"
NODE_TABLE: Final = b"v2_node"
EVENT_TABLE: Final = b"v2_event"
STATE_KEY: Final = b"state"
_NODE_KEY: Final = struct.Struct(">Q")
_NODE: Final = struct.Struct(">QQqBI")
_EVENT_KEY: Final = struct.Struct(">H")
_EVENT: Final = struct.Struct(">BB")
_VIEW: Final = struct.Struct(">QQqBII")

_ACTIONS: Final = (
    events.CREATE,
    events.SET,
    events.UPDATE,
    events.DELETE,
    events.COMPARE_AND_SWAP,
    events.COMPARE_AND_DELETE,
    events.EXPIRE,
)
"""By their number in a record."""
_ACTION_NUMBERS: Final = {action: number for number, action in enumerate(_ACTIONS)}

_REFRESH: Final = 1
_HAS_PREV: Final = 2
_DIR: Final = 1
_HAS_VALUE: Final = 2


class Table(Protocol):
    """A named table of the backend."""

    def get(self, key: bytes) -> bytes | None:
        """The value of a key, None without one."""

    def put(self, key: bytes, value: bytes) -> None:
        """Set a key."""

    def delete(self, key: bytes) -> bool:
        """Remove a key; whether it was there."""

    def iterate(self) -> Iterator[tuple[bytes, bytes]]:
        """Everything, in the order of keys."""


class Tables(Protocol):
    """The backend, as far as the store sees it."""

    def table(self, name: bytes) -> Table:
        """A table by its name; made if it is not there."""


@final
class Records:
    """The store's records in the backend."""

    __slots__ = ("_event", "_node", "_state")

    def __init__(self, tables: Tables) -> None:
        self._state: Final = tables.table(STATE_TABLE)
        self._node: Final = tables.table(NODE_TABLE)
        self._event: Final = tables.table(EVENT_TABLE)

    def put_state(self, index: int, stats: Stats) -> None:
        """Store the index and the counts."""
        self._state.put(STATE_KEY, stats.pack(index))

    def load_state(self, stats: Stats) -> int:
        """Fill in the counts; returns the index, 0 if nothing is stored."""
        return stats.unpack(self._state.get(STATE_KEY) or NOTHING_DONE)

    def put_node(self, node: Node) -> None:
        """Store a node."""
        path = node.path.encode("utf-8", "surrogateescape")
        head = _NODE.pack(
            node.created_index, node.modified_index, node.expires, node.children is not None, len(path)
        )
        self._node.put(_NODE_KEY.pack(node.id), head + path + node.value.encode("utf-8", "surrogateescape"))

    def delete_node(self, node: Node) -> None:
        """Remove a node."""
        self._node.delete(_NODE_KEY.pack(node.id))

    def nodes(self) -> Iterator[Node]:
        """Every node, in no order that means anything, each without its parent."""
        for key, record in self._node.iterate():
            yield unpack_node(key, record)

    def put_event(self, event: Event) -> None:
        """Store an event, in the place of the one that falls out of the history."""
        prev = event.prev_node
        flags = (_REFRESH if event.refresh else 0) | (0 if prev is None else _HAS_PREV)
        record = _EVENT.pack(_ACTION_NUMBERS[event.action], flags) + _pack_view(event.node)
        if prev is not None:
            record += _pack_view(prev)
        self._event.put(_EVENT_KEY.pack(event.index % limits.V2_HISTORY_EVENTS), record)

    def events(self, now: int) -> list[Event]:
        """The history, oldest first; ``now`` (nanoseconds; 0: unknown) is what their ``ttl`` counts from."""
        return sorted_events((record for _, record in self._event.iterate()), now)


def unpack_node(key: bytes, record: bytes) -> Node:
    """Read a record of the table of nodes."""
    created, modified, expires, is_dir, size = _NODE.unpack_from(record)
    end = _NODE.size + size
    path = record[_NODE.size : end].decode("utf-8", "surrogateescape")
    value = record[end:].decode("utf-8", "surrogateescape")
    node = Node(_NODE_KEY.unpack(key)[0], path, created, value, expires, is_dir=bool(is_dir))
    node.modified_index = modified
    return node


def sorted_events(records: Iterable[bytes], now: int) -> list[Event]:
    """Read the table of events, oldest first; ``now`` (nanoseconds; 0: unknown) is where ``ttl`` begins."""
    found = [_unpack_event(record, now) for record in records]
    found.sort(key=_index_of)
    return found


def _index_of(event: Event) -> int:
    return event.index


def _pack_view(view: NodeView) -> bytes:
    key = view.key.encode("utf-8", "surrogateescape")
    value = view.value
    if value is None:
        flags = _DIR if view.dir else 0
        return _VIEW.pack(view.modified_index, view.created_index, view.expiration, flags, len(key), 0) + key
    raw = value.encode("utf-8", "surrogateescape")
    head = _VIEW.pack(
        view.modified_index, view.created_index, view.expiration, _HAS_VALUE, len(key), len(raw)
    )
    return head + key + raw


def _unpack_view(record: bytes, at: int, now: int) -> tuple[NodeView, int]:
    modified, created, expiration, flags, key_size, value_size = _VIEW.unpack_from(record, at)
    at += _VIEW.size
    middle, end = at + key_size, at + key_size + value_size
    value = record[middle:end].decode("utf-8", "surrogateescape") if flags & _HAS_VALUE else None
    ttl = seconds_until(expiration, now) if now else 0
    key = record[at:middle].decode("utf-8", "surrogateescape")
    return NodeView(key, modified, created, value, bool(flags & _DIR), expiration, ttl), end


def _unpack_event(record: bytes, now: int) -> Event:
    number, flags = _EVENT.unpack_from(record)
    node, end = _unpack_view(record, _EVENT.size, now)
    prev = _unpack_view(record, end, now)[0] if flags & _HAS_PREV else None
    return Event(_ACTIONS[number], node, prev, node.modified_index, bool(flags & _REFRESH))
