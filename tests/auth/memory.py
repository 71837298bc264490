"""The backend's tables in memory."""

from collections.abc import Iterator


class MemoryTable:
    """A table as a dictionary."""

    def __init__(self) -> None:
        self.records: dict[bytes, bytes] = {}

    def get(self, key: bytes) -> bytes | None:
        assert 0 < len(key) <= 511, "LMDB would refuse this key"
        return self.records.get(key)

    def put(self, key: bytes, value: bytes) -> None:
        assert 0 < len(key) <= 511, "LMDB would refuse this key"
        self.records[key] = value

    def delete(self, key: bytes) -> bool:
        assert 0 < len(key) <= 511, "LMDB would refuse this key"
        return self.records.pop(key, None) is not None

    def iterate(self) -> Iterator[tuple[bytes, bytes]]:
        return iter(sorted(self.records.items()))


class MemoryTables:
    """A backend of them."""

    def __init__(self) -> None:
        self.by_name: dict[bytes, MemoryTable] = {}

    def table(self, name: bytes) -> MemoryTable:
        return self.by_name.setdefault(name, MemoryTable())
