"""Where a member's files are below its data directory.

| path | what |
|---|---|
| ``member/wal``, ``member/snap`` | a member's log, snapshots and database; of etcd, or of Kvorum |
| ``member.kvorum/wal``, ``member.kvorum/snap`` | Kvorum's, made from an etcd member's that stays beside it |

An etcd member's files are never written to: Kvorum converts a copy of them (``server/takeover.py``), and
works on that from then on. The folder has its name only when it is complete, so that it is there decides.
"""

from pathlib import Path
from typing import Final

MEMBER: Final = "member"
TAKEN_OVER: Final = ".kvorum"
DATABASE_FILE: Final = "kvorum.lmdb"
ETCD_DATABASE_FILE: Final = "db"


def etcd_member_folder(root: Path) -> Path:
    """The folder of a member that etcd started."""
    return root / MEMBER


def taken_over_folder(root: Path) -> Path:
    """The folder of Kvorum's copy of an etcd member's."""
    return root / (MEMBER + TAKEN_OVER)


def taken_over_wal_dir(wal_dir: str) -> str:
    """The folder of the copy's log, if that of the etcd member had one of its own."""
    return wal_dir.rstrip("/") + TAKEN_OVER


def member_folder(root: Path) -> Path:
    """The folder that Kvorum works in."""
    taken_over = taken_over_folder(root)
    return taken_over if taken_over.is_dir() else root / MEMBER


def wal_folder(root: Path, wal_dir: str) -> Path:
    """The folder of the log that Kvorum works on; ``wal_dir`` is ``--wal-dir``, empty for the usual place."""
    if not wal_dir:
        return member_folder(root) / "wal"
    return Path(taken_over_wal_dir(wal_dir) if taken_over_folder(root).is_dir() else wal_dir)
