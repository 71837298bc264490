"""What readers get from the store: results, figures, and a view that is good for one turn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    from kvorum.mvcc.store import Store


@final
class RangeResult:
    """What a range found: serialized KeyValues in key order, how many there are without the limit, and the
    revision that was current (not the one asked for)."""

    __slots__ = ("count", "kvs", "revision")

    def __init__(self, kvs: list[bytes], count: int, revision: int) -> None:
        self.kvs = kvs
        self.count = count
        self.revision = revision


@dataclass(frozen=True, slots=True)
class Statistics:
    """The store at one moment. Totals count operations since it was opened, as etcd's mvcc metrics do."""

    keys: int
    revision: int
    compact_revision: int
    size: int
    size_in_use: int
    map_bytes: int
    pending: int
    commits: int
    last_commit_seconds: float
    puts: int
    deletes: int
    ranges: int
    txns: int
    compacted_revisions: int


@final
class ReadView:
    """The store as of its current revision."""

    __slots__ = ("_store", "revision")

    def __init__(self, store: Store) -> None:
        self._store = store
        self.revision: Final = store.revision

    @property
    def compact_revision(self) -> int:
        """Reads below it fail."""
        return self._store.compact_revision

    def get(self, key: bytes) -> bytes | None:
        """``Store.get``."""
        assert self.revision == self._store.revision, "a read view after a write"
        return self._store.get(key)

    def range(
        self,
        key: bytes,
        range_end: bytes = b"",
        *,
        limit: int = 0,
        revision: int = 0,
        count_only: bool = False,
        keys_only: bool = False,
    ) -> RangeResult:
        """``Store.range``."""
        store = self._store
        assert self.revision == store.revision, "a read view after a write"
        return store.range(
            key, range_end, limit=limit, revision=revision, count_only=count_only, keys_only=keys_only
        )
