"""The table of leases, in memory."""

from collections.abc import Iterator


class MemoryTable:
    """Records by key."""

    def __init__(self) -> None:
        self.records: dict[bytes, bytes] = {}

    def put(self, key: bytes, value: bytes) -> None:
        self.records[key] = value

    def delete(self, key: bytes) -> bool:
        return self.records.pop(key, None) is not None

    def iterate(self, start: bytes = b"", end: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        for key in sorted(self.records):
            if key >= start and (end is None or key < end):
                yield key, self.records[key]
