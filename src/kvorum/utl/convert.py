"""``convert``: an etcd member's directory becomes a Kvorum member's elsewhere.

What a member does by itself when it starts on such a directory (``server/takeover.py``), for those who want
to see it done, on another disk or machine.
"""

from pathlib import Path

from kvorum import layout
from kvorum.server.takeover import Converted, Places, TakeoverError, convert, is_etcds, original_of


def convert_directory(data_dir: Path, wal_dir: str, out: Path, out_wal_dir: str) -> Converted:
    """Convert; nothing is left of ``out`` if that fails.

    Raises:
        TakeoverError: there is no stopped etcd member, or the place is taken. BackendError, WalError,
        OSError: the files, or the disk.
    """
    original = original_of(str(data_dir), wal_dir)
    if not is_etcds(original):
        raise TakeoverError(f"{data_dir} is no data directory of etcd")
    target = Places(
        layout.etcd_member_folder(out), Path(out_wal_dir or layout.etcd_member_folder(out) / "wal")
    )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise TakeoverError(f"{out} is there, and not empty")
    if target.wal.exists():
        raise TakeoverError(f"{target.wal} is there")
    fresh = not out.exists()
    out.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        return convert(original, target)
    except BaseException:
        if fresh:
            out.rmdir()
        raise
