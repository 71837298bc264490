"""A backend of dicts, for stores that need no disk."""

from collections.abc import Iterator
from typing import final


@final
class MemoryTable:
    def __init__(self) -> None:
        self.rows: dict[bytes, bytes] = {}

    def get(self, key: bytes) -> bytes | None:
        return self.rows.get(key)

    def put(self, key: bytes, value: bytes) -> None:
        assert 1 <= len(key) <= 511, "LMDB holds no such key"
        self.rows[key] = value

    def delete(self, key: bytes) -> bool:
        return self.rows.pop(key, None) is not None

    def iterate(self) -> Iterator[tuple[bytes, bytes]]:
        return iter(sorted(self.rows.items()))


@final
class MemoryTables:
    def __init__(self) -> None:
        self.tables: dict[bytes, MemoryTable] = {}

    def table(self, name: bytes) -> MemoryTable:
        return self.tables.setdefault(name, MemoryTable())

    def records(self, table: bytes) -> Iterator[tuple[bytes, bytes]]:
        return self.table(table).iterate()


@final
class Clock:
    """Nanoseconds that a test sets."""

    def __init__(self, now: int = 1_700_000_000_000_000_000) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now
