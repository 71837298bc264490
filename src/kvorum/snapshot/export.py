"""A member's committed state as a bbolt file, by a process of its own: ``python -m kvorum.snapshot.export``.

The member must not wait while a million keys are copied, and a thread beside its loop would fight it for the
interpreter. LMDB lets another process read the last committed state, for as long as that takes. The writer of
the file is told which database is meant (``mvcc.exchange.FileIdentity``) and says which moment it got: the
consistent index, term and configuration are read in the transaction that everything else is read in.

The file goes to a descriptor that was inherited. On standard output comes a line of JSON (``Exported``), then
the v2 tree as JSON. Exit codes: 0; 3: the database has been replaced, ask again; 1: anything else, with a
line on standard error.
"""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import BinaryIO, Final

from kvorum.mvcc.backend import BackendError
from kvorum.mvcc.exchange import Committed, FileIdentity, MovedError
from kvorum.raft.codec import CodecError, decode_conf_state, encode_conf_state
from kvorum.snapshot.bbolt_writer import BboltWriter
from kvorum.snapshot.process import accompany
from kvorum.snapshot.schema import BUCKETS, META, Position, own_position, to_etcd
from kvorum.snapshot.v2 import v2_json

MOVED: Final = 3


@dataclass(frozen=True)
class Exported:
    """What was exported, and as of when."""

    size: int
    """Bytes of the bbolt file."""
    index: int
    term: int
    conf_state: str
    """Raft's configuration: protobuf, in hex."""
    v2_bytes: int

    def to_line(self) -> bytes:
        """One line of JSON."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> "Exported":
        """The opposite."""
        return cls(**json.loads(line))

    @property
    def position(self) -> Position:
        """Where in the log the file stands."""
        return Position(self.index, self.term, decode_conf_state(bytes.fromhex(self.conf_state)))


def export(view: Committed, file: BinaryIO) -> int:
    """Write what ``view`` sees into a file; returns the file's size in bytes.

    Raises:
        OSError: the disk's. CodecError: the database's configuration cannot be read.
    """
    writer = BboltWriter(file)
    for bucket in BUCKETS:
        writer.bucket(bucket, to_etcd(bucket, view.records(bucket)))
    return writer.finish()


def main(argv: Sequence[str]) -> int:
    """``<database> <map bytes> <inode of the database> <inode of its lock> <descriptor to write to>``."""
    path = argv[0]
    map_bytes, data, lock, descriptor = map(int, argv[1:])
    try:
        with (
            Committed(path, map_bytes, FileIdentity(data, lock)) as view,
            os.fdopen(descriptor, "wb", 1 << 20) as file,
        ):
            size = export(view, file)
            v2 = v2_json(view)
            position = own_position(lambda key: view.get(META, key))
        conf_state = encode_conf_state(position.conf_state).hex()
        sys.stdout.buffer.write(Exported(size, position.index, position.term, conf_state, len(v2)).to_line())
        sys.stdout.buffer.write(v2)
        sys.stdout.buffer.flush()
    except MovedError:
        return MOVED
    except (BackendError, OSError, CodecError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    accompany()
    sys.exit(main(sys.argv[1:]))
