"""A bbolt file as a database of ours, by a process of its own: ``python -m kvorum.snapshot.intake``.

Everything in the file is looked at on the way: its pages, its records, and whether it stands where the
snapshot's message says. What comes out is durable, but has no name yet that anybody would open.

A file must not be ahead of its message: the v2 tree, which came in the message, would lack what lies between.
It may be behind: etcd before 3.5 does not note the index of every entry. What counts is the message's.
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from kvorum.mvcc.backend import BackendError
from kvorum.mvcc.exchange import BulkWriter
from kvorum.raft.codec import encode_conf_state
from kvorum.snapshot.bbolt_format import BboltError
from kvorum.snapshot.bbolt_reader import BboltReader
from kvorum.snapshot.members import adopt_members
from kvorum.snapshot.process import accompany
from kvorum.snapshot.schema import (
    BUCKETS,
    CONF_STATE,
    CONSISTENT_INDEX,
    META,
    TERM,
    Position,
    SchemaError,
    etcds_position,
    from_etcd,
)
from kvorum.snapshot.snap_file import SnapFileError, read_snap_file
from kvorum.snapshot.v2 import TreeError, load_v2

IntakeError: Final = (BboltError, SchemaError, TreeError, BackendError, OSError)
"""Why a file cannot be taken in."""


@dataclass(frozen=True)
class TakenIn:
    """What was taken in."""

    records: int
    left_out: tuple[bytes, ...]
    """Buckets of which nothing is known here."""
    sync_seconds: float
    """How long it took until it was durable."""


def take_in(source: str, target: str, position: Position | None, v2: bytes) -> TakenIn:
    """Make the database ``target`` of the bbolt file ``source``.

    Args:
        source: the bbolt file.
        target: nothing may be there. What is there after an error is to be removed.
        position: where the snapshot stands; None: where the file says.
        v2: etcd's JSON of the v2 tree; empty for none.

    Raises:
        BboltError, SchemaError, TreeError: the file or the tree is not sound, or not of that position.
        BackendError, OSError: the disk's.
    """
    with BboltReader(source) as reader:
        meta = dict(reader.records(META))
        found = etcds_position(meta.get)
        if position is not None and found.index > position.index:
            raise SchemaError(f"{source} stands at index {found.index}, its message at {position.index}")
        writer = BulkWriter(target, reader.size_bytes)
        try:
            records = sum(
                writer.append(bucket, from_etcd(bucket, reader.records(bucket))) for bucket in BUCKETS
            )
            if position is not None:
                _note(writer, position)
            load_v2(v2, writer)
            _adopt(writer)
            started = time.perf_counter()
            writer.finish()
            seconds = time.perf_counter() - started
        except BaseException:
            writer.abandon()
            raise
        return TakenIn(records, tuple(name for name in reader.buckets if name not in BUCKETS), seconds)


def _adopt(writer: BulkWriter) -> None:
    try:
        adopt_members(writer)
    except (ValueError, TypeError) as error:
        raise TreeError(f"the members in the v2 tree are not etcd's: {error}") from error


def _note(writer: BulkWriter, position: Position) -> None:
    writer.put(META, CONSISTENT_INDEX, position.index.to_bytes(8, "big"))
    writer.put(META, TERM, position.term.to_bytes(8, "big"))
    writer.put(META, CONF_STATE, encode_conf_state(position.conf_state))


def main(argv: Sequence[str]) -> int:
    """``<bbolt file> <database to make> <.snap file of the message>``; stderr says what failed."""
    source, target, message = argv
    try:
        snapshot = read_snap_file(message)
        metadata = snapshot.metadata
        position = Position(metadata.index, metadata.term, metadata.conf_state)
        taken = take_in(source, target, position, snapshot.data)
    except (*IntakeError, SnapFileError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{taken.records} {taken.sync_seconds}\n")
    sys.stdout.writelines(name.decode("utf-8", "backslashreplace") + "\n" for name in taken.left_out)
    return 0


if __name__ == "__main__":
    accompany()
    sys.exit(main(sys.argv[1:]))
