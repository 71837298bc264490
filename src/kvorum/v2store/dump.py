"""A whole store as etcd's JSON: what travels in the data of a Raft snapshot, from and to members of etcd.

It is made from the tables alone, so that a process beside the member's can make it from what is committed,
and read into tables, before a store is loaded from them. Nothing here recurses: directories may lie deeper
than Python's stack.

etcd's ring of events is written as etcd would have filled it: the event of index i stands in place i - 1.
The ``ttl`` that events once showed is not kept (``tables.py``) and left out. Source: etcd 3.4.23
``v2store/store.go`` (Save, Recovery), ``node.go``, ``event_queue.go``.
"""

from collections.abc import Iterator
from typing import Any, Final, Protocol

from kvorum import limits
from kvorum.golang import json_string
from kvorum.v2store.deepjson import parse
from kvorum.v2store.event import Event, NodeView
from kvorum.v2store.node import Node
from kvorum.v2store.paths import join, name_of
from kvorum.v2store.stats import Stats
from kvorum.v2store.store import NAMESPACES
from kvorum.v2store.tables import (
    EVENT_TABLE,
    NODE_TABLE,
    STATE_KEY,
    STATE_TABLE,
    Records,
    Tables,
    sorted_events,
    unpack_node,
)
from kvorum.v2store.times import ZERO_TIME, format_time, parse_time

_VERSION: Final = 2
"""``CurrentVersion`` of every store."""


class View(Protocol):
    """The backend, to be read."""

    def records(self, table: bytes) -> Iterator[tuple[bytes, bytes]]:
        """The records of a table in order; none of one that is not there."""


# --- tables to JSON --------------------------------------------------------------------------------------


def save_json(view: View) -> bytes:
    """The store in the tables as etcd's ``Save`` writes it; a new one if there is none."""
    root = _tree(unpack_node(key, record) for key, record in view.records(NODE_TABLE))
    history = sorted_events((record for _, record in view.records(EVENT_TABLE)), 0)
    stats = Stats()
    index = 0
    for key, record in view.records(STATE_TABLE):
        if key == STATE_KEY:
            index = stats.unpack(record)
    parts = ['{"Root":']
    _write_tree(root, parts)
    parts.append(',"WatcherHub":{"EventHistory":')
    _write_history(history, parts)
    parts.append(f'}},"CurrentIndex":{index},"Stats":{stats.to_json(0)},"CurrentVersion":{_VERSION}}}')
    return "".join(parts).encode()


def _tree(nodes: Iterator[Node]) -> Node:
    """Join nodes to a tree; returns its root."""
    root = Node(0, "/", 0, is_dir=True)
    by_path = {namespace: Node(0, namespace, 0, is_dir=True) for namespace in NAMESPACES}
    by_path.update((node.path, node) for node in nodes)
    for node in by_path.values():
        at = node.path.rindex("/")
        parent = by_path[node.path[:at]] if at else root
        assert parent.children is not None, "what holds nodes is a directory"
        parent.children[node.path[at + 1 :]] = node
    return root


def _write_tree(root: Node, parts: list[str]) -> None:
    """Append the JSON of a node and all below it; children in the order of their names, as Go sorts maps."""
    parts.append(_opening(root))
    levels = [iter(_sorted_children(root))]
    first = True
    while levels:
        child = next(levels[-1], None)
        if child is None:
            levels.pop()
            parts.append("}}")
            first = False
            continue
        parts.append(f"{'' if first else ','}{json_string(name_of(child.path))}:{_opening(child)}")
        first = child.children is not None
        if child.children is None:
            parts.append("null}")
        else:
            levels.append(iter(_sorted_children(child)))


def _opening(node: Node) -> str:
    """A node up to its children."""
    expires = format_time(node.expires) if node.expires else ZERO_TIME
    return (
        f'{{"Path":{json_string(node.path)},"CreatedIndex":{node.created_index},'
        f'"ModifiedIndex":{node.modified_index},"ExpireTime":"{expires}",'
        f'"Value":{json_string(node.value)},"Children":{"" if node.children is None else "{"}'
    )


def _sorted_children(node: Node) -> list[Node]:
    assert node.children is not None
    return [child for _, child in sorted(node.children.items(), key=_bytes_of_name)]


def _bytes_of_name(item: tuple[str, Node]) -> bytes:
    return item[0].encode("utf-8", "surrogateescape")


def _write_history(history: list[Event], parts: list[str]) -> None:
    """Append the JSON of the history as a ring."""
    capacity = limits.V2_HISTORY_EVENTS
    size = len(history)
    start = history[0].index if history else 0
    front = (start - 1) % capacity if size == capacity else 0
    ring = ["null"] * capacity
    for number, event in enumerate(history):
        ring[(front + number) % capacity] = _event_json(event)
    last = history[-1].index if history else 0
    back = (front + size) % capacity
    parts.append(
        f'{{"Queue":{{"Events":[{",".join(ring)}],"Size":{size},"Front":{front},"Back":{back},'
        f'"Capacity":{capacity}}},"StartIndex":{start},"LastIndex":{last}}}'
    )


def _event_json(event: Event) -> str:
    text = event.to_json().decode()
    return f'{text[:-1]},"refresh":true}}' if event.refresh else text


# --- JSON to tables --------------------------------------------------------------------------------------


def recover_json(data: bytes, tables: Tables) -> None:
    """Put the store of etcd's JSON into tables, which must be empty.

    The history is taken as far back as its indices follow each other up to the store's.

    Raises:
        ValueError: it is none.
    """
    try:
        state = parse(data.decode("utf-8", "replace"))
        index = int(state["CurrentIndex"])
        stats = Stats()
        stats.fill(state.get("Stats") or {})
        history = _read_history(state["WatcherHub"]["EventHistory"], index)
        nodes = list(_read_tree(state["Root"]))
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"no store of etcd's v2 API: {error!r}") from error
    records = Records(tables)
    for node in nodes:
        records.put_node(node)
    for event in history:
        records.put_event(event)
    records.put_state(index, stats)


def _read_tree(root: dict[str, Any]) -> Iterator[Node]:
    """The nodes below the root, each directory before what is in it."""
    node_id = 0
    waiting = [("/", root)]
    while waiting:
        path, fields = waiting.pop()
        children = fields["Children"]
        if path != "/":
            node_id += 1
            node = Node(
                node_id,
                path,
                int(fields["CreatedIndex"]),
                str(fields["Value"]),
                parse_time(fields["ExpireTime"]),
                is_dir=children is not None,
            )
            node.modified_index = int(fields["ModifiedIndex"])
            yield node
        if children:
            waiting += [(join(path, name), child) for name, child in reversed(children.items())]


def _read_history(fields: dict[str, Any], index: int) -> list[Event]:
    """The events in their order, back from the one of ``index`` to the first gap."""
    queue = fields["Queue"]
    slots = queue["Events"]
    front = int(queue["Front"])
    ring = [slots[(front + number) % len(slots)] for number in range(int(queue["Size"]))]
    events: list[Event] = []
    for slot in reversed(ring[-limits.V2_HISTORY_EVENTS :]):
        event = None if slot is None else _read_event(slot)
        if event is None or event.index != index - len(events):
            break
        events.append(event)
    events.reverse()
    return events


def _read_event(fields: dict[str, Any]) -> Event:
    prev = fields.get("prevNode")
    node = _read_view(fields["node"])
    return Event(
        str(fields["action"]),
        node,
        None if prev is None else _read_view(prev),
        node.modified_index,
        bool(fields.get("refresh")),
    )


def _read_view(fields: dict[str, Any]) -> NodeView:
    value = fields.get("value")
    expiration = fields.get("expiration")
    return NodeView(
        str(fields.get("key", "")),
        int(fields.get("modifiedIndex", 0)),
        int(fields.get("createdIndex", 0)),
        None if value is None else str(value),
        bool(fields.get("dir")),
        0 if expiration is None else parse_time(expiration),
        int(fields.get("ttl", 0)),
    )
