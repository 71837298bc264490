"""The v2 tree in a snapshot: JSON beside the bbolt file, tables of its own in the database here.

A member that keeps no v2 tree sends none, and has no table for one that comes.
"""

from collections.abc import Iterator
from typing import Protocol


class TreeError(Exception):
    """The JSON is no v2 tree."""


class View(Protocol):
    """A database to be read (``mvcc.exchange.Committed``)."""

    def records(self, table: bytes) -> Iterator[tuple[bytes, bytes]]:
        """The records of a table in order; none of one that is not there."""


class Table(Protocol):
    """A table to be filled."""

    def put(self, key: bytes, value: bytes) -> None:
        """Set a key."""


class Tables(Protocol):
    """A database to be filled (``mvcc.exchange.BulkWriter``)."""

    def table(self, name: bytes) -> Table:
        """A table by its name; made if it is not there."""


def v2_json(view: View) -> bytes:
    """The tree as etcd's JSON."""
    return b""


def load_v2(data: bytes, tables: Tables) -> None:
    """Put the tree of etcd's JSON into its tables; nothing without data.

    Raises:
        TreeError: it is none.
    """
