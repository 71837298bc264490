"""What can be wrong with a log on disk. Each message names the file, the place and the remedy."""

from typing import Final

REMEDY: Final = (
    "the log cannot be trusted from there on: restore the member's directory from a backup, "
    "or, in a cluster, remove the member, clear its data directory and add it again"
)


class WalError(Exception):
    """Anything wrong with the log on disk."""


class WalExistsError(WalError):
    """There is a log already where one should be created."""


class WalNotFoundError(WalError):
    """No segment holds what was asked for, or one in between is missing (etcd ``ErrFileNotFound``)."""


class WalLockedError(WalError):
    """Another process holds the data directory or a segment."""


class WalFailedError(WalError):
    """A write or sync failed before; whether the disk holds what it was given is unknown for good."""


class CorruptWalError(WalError):
    """The log is damaged where no interrupted write can explain it.

    ``path`` and ``offset`` (bytes from the start of the file) say where the damaged record starts.
    """

    def __init__(self, path: str, offset: int, reason: str) -> None:
        super().__init__(f"wal: {reason} in {path} at byte offset {offset}; {REMEDY}")
        self.path: Final = path
        self.offset: Final = offset
        self.reason: Final = reason


class TornTailError(WalError):
    """The last write was cut short; everything before ``offset`` is sound (etcd ``io.ErrUnexpectedEOF``)."""

    def __init__(self, path: str, offset: int) -> None:
        super().__init__(f"wal: torn record at the end of {path}, byte offset {offset}; repair cuts it off")
        self.path: Final = path
        self.offset: Final = offset


class SnapshotNotFoundError(WalError):
    """The log has no record of the snapshot it should start from (etcd ``ErrSnapshotNotFound``)."""


class SnapshotMismatchError(WalError):
    """The log records the snapshot's index under another term (etcd ``ErrSnapshotMismatch``)."""
