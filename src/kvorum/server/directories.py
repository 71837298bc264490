"""Directories that only their owner may enter. Source: etcd ``client/pkg/fileutil`` (TouchDirAll)."""

import os
import stat
from typing import Final

from kvorum.golang import quote
from kvorum.logging import Logger

PRIVATE_MODE: Final = 0o700


def make_private(path: str, log: Logger) -> None:
    """Make a directory and those above it that are missing, for its owner alone; warn if others may enter one
    that is there.

    Raises:
        OSError: it cannot be made, or not written to.
    """
    if os.path.isdir(path):
        mode = stat.S_IMODE(os.stat(path).st_mode)
        if mode != PRIVATE_MODE:
            log.warn(
                "check file permission",
                error=f"directory {quote(path)} exist, but the permission is"
                f' "{stat.filemode(stat.S_IFDIR | mode)}". The recommended permission is "-rwx------"'
                " to prevent possible unprivileged access to the data",
            )
    else:
        _make_missing(path)
    probe = os.path.join(path, ".touch")
    descriptor = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.close(descriptor)
    os.unlink(probe)


def _make_missing(path: str) -> None:
    """Like ``os.makedirs``, which leaves the directories in between open to others."""
    above = os.path.dirname(path.rstrip("/"))
    if above and not os.path.isdir(above):
        _make_missing(above)
    try:
        os.mkdir(path, PRIVATE_MODE)
    except FileExistsError:
        if not os.path.isdir(path):
            raise
