"""WatchResponses as bytes, assembled around key-values that are serialized already.

    WatchResponse: header = 1 · watch_id = 2 · created = 3 · canceled = 4 · compact_revision = 5
                   · cancel_reason = 6 · fragment = 7 · events = 11
    Event: type = 1 (PUT 0, DELETE 1) · kv = 2 · prev_kv = 3

An event is serialized once in each form that is asked for, with and without its previous key-value, and a
response's events are joined once for all watchers that get the same ones (a ``Batch``). What differs is
the few bytes before them; watchers whose ids are equal (of different streams, mostly 0) share the whole
message.
"""

from collections.abc import Iterable
from typing import Final, Protocol, final

from kvorum.mvcc.keyvalue import is_delete, parse
from kvorum.proto.wire import varint
from kvorum.watch.watcher import NO_DELETE, NO_PUT, PREV_KV, VARIANTS, Watcher, WatcherGroup

_CREATED: Final = b"\x18\x01"
_CANCELED: Final = b"\x20\x01"
_COMPACT_REVISION_TAG: Final = b"\x28"
_CANCEL_REASON_TAG: Final = b"\x32"
_FRAGMENT: Final = b"\x38\x01"
_EVENTS_TAG: Final = b"\x5a"
_DELETE_TYPE: Final = b"\x08\x01"
_KV_TAG: Final = b"\x12"
_PREV_KV_TAG: Final = b"\x1a"


class Past(Protocol):
    """Where an event's previous key-value is looked up."""

    def previous(self, key: bytes, revision: int) -> bytes | None:
        """The serialized KeyValue that ``key`` had at ``revision``; None if it had none or that is
        compacted."""


@final
class Event:
    """One change of one key, for all who watch it.

    Args:
        revision: the transaction's main revision.
        kv: a put's KeyValue, or a deletion's with its key and mod_revision alone.
    """

    __slots__ = ("_plain", "_with_prev", "deleted", "key", "kv", "revision")

    def __init__(self, revision: int, key: bytes, kv: bytes) -> None:
        self.revision: Final = revision
        self.key: Final = key
        self.kv: Final = kv
        self.deleted: Final = is_delete(kv)
        self._plain: bytes | None = None
        self._with_prev: bytes | None = None

    def field(self, with_prev: bool, past: Past) -> bytes:
        """The event as a field of a WatchResponse, serialized the first time it is asked for in that form."""
        if with_prev:
            if self._with_prev is None:
                prev = past.previous(self.key, self.revision - 1) if self._has_previous() else None
                self._with_prev = self.field(False, past) if prev is None else self._serialize(prev)
            return self._with_prev
        if self._plain is None:
            self._plain = self._serialize(None)
        return self._plain

    def _has_previous(self) -> bool:
        if self.deleted:
            return True
        fields = parse(self.kv)
        return fields.create_revision != fields.mod_revision

    def _serialize(self, prev: bytes | None) -> bytes:
        kind = _DELETE_TYPE if self.deleted else b""
        body = b"".join((kind, _KV_TAG, varint(len(self.kv)), self.kv))
        if prev is not None:
            body = b"".join((body, _PREV_KV_TAG, varint(len(prev)), prev))
        return b"".join((_EVENTS_TAG, varint(len(body)), body))


@final
class Batch:
    """The events of one response, for every watcher that gets the same ones.

    Args:
        header: the response's header as the encoded field 1.
        events: in the order of their revisions, at least one.
    """

    __slots__ = ("_bodies", "_fields", "_messages", "_past", "events", "header")

    def __init__(self, header: bytes, events: list[Event], past: Past) -> None:
        self.header: Final = header
        self.events: Final = events
        self._past: Final = past
        self._fields: list[list[bytes] | None] = [None] * VARIANTS
        self._bodies: list[bytes | None] = [None] * VARIANTS
        self._messages: list[dict[bytes, bytes] | None] = [None] * VARIANTS

    def fields(self, variant: int) -> list[bytes]:
        """The events that a variant's filters leave, as fields of a response."""
        fields = self._fields[variant]
        if fields is None:
            unwanted = bool(variant & NO_PUT), bool(variant & NO_DELETE)
            fields = self._fields[variant] = [
                event.field(bool(variant & PREV_KV), self._past)
                for event in self.events
                if not unwanted[event.deleted]
            ]
        return fields

    def messages(self, variant: int) -> dict[bytes, bytes]:
        """The whole responses made so far, by encoded id."""
        messages = self._messages[variant]
        if messages is None:
            messages = self._messages[variant] = {}
        return messages

    def message(self, variant: int, id_field: bytes) -> bytes:
        """The whole response; the filters must leave an event."""
        messages = self.messages(variant)
        message = messages.get(id_field)
        if message is None:
            body = self._bodies[variant]
            if body is None:
                body = self._bodies[variant] = b"".join(self.fields(variant))
            assert body, "a response without events is a progress notification"
            message = messages[id_field] = b"".join((self.header, id_field, body))
        return message

    def fragments(self, variant: int, id_field: bytes, max_bytes: int) -> list[tuple[bytes, int]]:
        """The response in parts smaller than ``max_bytes`` where events can be parted, and how many each has.

        All but the last say ``fragment``; parts are as etcd cuts them (``v3rpc/watch.go``: sendFragments).
        """
        fields = self.fields(variant)
        head = self.header + id_field
        if len(fields) < 2 or len(head) + sum(map(len, fields)) < max_bytes:
            return [(self.message(variant, id_field), len(fields))]
        room = max_bytes - len(head) - len(_FRAGMENT)
        parts: list[list[bytes]] = [[]]
        size = 0
        for field in fields:
            if parts[-1] and size + len(field) >= room:
                parts.append([])
                size = 0
            parts[-1].append(field)
            size += len(field)
        last = parts.pop()
        fragments = [(b"".join((head, _FRAGMENT, *part)), len(part)) for part in parts]
        return [*fragments, (b"".join((head, *last)), len(last))]


def sort_out(
    group: WatcherGroup, changes: Iterable[tuple[int, bytes, bytes]], header: bytes, past: Past
) -> tuple[list[tuple[list[Watcher], Batch]], int]:
    """The lots of a group that changes (revision, key, KeyValue) concern, each with the events it gets.

    Lots that get the same events share one batch. Returns also how many events were made.
    """
    events: list[Event] = []
    hits: dict[int, tuple[list[Watcher], list[int]]] = {}
    for revision, key, kv in changes:
        lots = group.match(key)
        if not lots:
            continue
        for lot in lots:
            hits.setdefault(id(lot), (lot, []))[1].append(len(events))
        events.append(Event(revision, key, kv))
    batches: dict[tuple[int, ...], Batch] = {}
    sorted_out = []
    for lot, places in hits.values():
        name = tuple(places)
        batch = batches.get(name)
        if batch is None:
            batch = batches[name] = Batch(header, [events[place] for place in places], past)
        sorted_out.append((lot, batch))
    return sorted_out, len(events)


def created(header: bytes, watch_id: int) -> bytes:
    """The answer to a create request."""
    return header + _id_field(watch_id) + _CREATED


def refused(header: bytes, watch_id: int, reason: str) -> bytes:
    """The answer to a create request that comes to nothing."""
    return header + _id_field(watch_id) + _CREATED + _CANCELED + _reason_field(reason)


def canceled(header: bytes, watch_id: int) -> bytes:
    """The answer to a cancel request."""
    return header + _id_field(watch_id) + _CANCELED


def compacted(header: bytes, watch_id: int, compact_revision: int) -> bytes:
    """The end of a watch whose history is gone; as etcd's, it gives no reason and its header no revision."""
    return header + _id_field(watch_id) + _CANCELED + _COMPACT_REVISION_TAG + varint(compact_revision)


def progress(header: bytes, watch_id: int) -> bytes:
    """A response without events: everything up to the header's revision has been sent."""
    return header + _id_field(watch_id)


def _id_field(watch_id: int) -> bytes:
    return b"\x10" + varint(watch_id) if watch_id else b""


def _reason_field(reason: str) -> bytes:
    text = reason.encode()
    return _CANCEL_REASON_TAG + varint(len(text)) + text
