"""What watchers read of the store: its history, by revision."""

from collections.abc import Iterator
from typing import Protocol

from kvorum.limits import WATCH_CATCH_UP_BYTES
from kvorum.mvcc.keyvalue import key_of, varint
from kvorum.mvcc.revision import main_of, pack_revision


class Found(Protocol):
    """What a range found."""

    @property
    def kvs(self) -> list[bytes]:
        """Serialized KeyValues."""


class History(Protocol):
    """The store (``mvcc.store.Store``), as far as it is needed here."""

    @property
    def compact_revision(self) -> int:
        """Revisions below it may be gone; -1 if none is."""

    def records(self, start: bytes) -> Iterator[tuple[bytes, bytes]]:
        """(packed revision, KeyValue as stored) in order, from a packed revision on."""

    def range(self, key: bytes, range_end: bytes = b"", *, revision: int = 0) -> Found:
        """A key as of a revision that is not compacted."""


def read_changes(
    history: History, start: int, until: int, limit: int
) -> tuple[list[tuple[int, bytes, bytes]], int]:
    """Whole revisions of the history from ``start`` on, before ``until``, and the revision that comes next.

    Stops behind the revision that reaches ``limit`` changes or WATCH_CATCH_UP_BYTES. A change is (revision,
    key, KeyValue as an event carries it).
    """
    changes: list[tuple[int, bytes, bytes]] = []
    size = 0
    revision = 0
    for packed, kv in history.records(pack_revision(start, 0)):
        main = main_of(packed)
        if main != revision:
            if main >= until:
                break
            if len(changes) >= limit or size >= WATCH_CATCH_UP_BYTES:
                return changes, main
            revision = main
        size += len(kv)
        # A tombstone is stored without its revision, and an event has it.
        event_kv = kv + b"\x18" + varint(main) if packed[11] & 1 else kv
        changes.append((main, key_of(kv), event_kv))
    return changes, until
