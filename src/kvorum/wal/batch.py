"""What passes from the loop's half of the log to the half that touches the disk."""

from typing import Final, final


@final
class Batch:
    """What one ``flush`` writes: bytes, their place, and the head of the next segment if this one is full.

    ``must_sync`` False: it waits in memory for the next batch; it need not be flushed and nothing need wait
    for it.
    """

    __slots__ = ("data", "must_sync", "next_head", "next_index", "offset")

    def __init__(
        self, data: bytes, offset: int, must_sync: bool, next_head: bytes = b"", next_index: int = 0
    ) -> None:
        self.data: Final = data
        self.offset: Final = offset
        self.must_sync: Final = must_sync
        self.next_head: Final = next_head
        self.next_index: Final = next_index
