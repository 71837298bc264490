"""Is all of a database file there? To be asked before LMDB maps it.

LMDB believes its file: where it was cut short (a copy that ran out of room, say) the first look at a missing
page ends the process with SIGBUS, and nobody says why. The file may well be shorter than its last page
number says, since pages that were never used need not be written. So these are the checks that cannot be
wrong: both meta pages are there, the roots of the newest one's trees are, and there is room for as many
pages as its trees have. A file that passes may still lack a page further down.

Layout of a meta page: LMDB's ``mdb.c``, ``MDB_page`` and ``MDB_meta``.
"""

import os
import struct
from typing import Final, NamedTuple

_PAGE_HEADER_BYTES: Final = 16
_META: Final = struct.Struct("<IIQQ")
"""magic, version, address, map size; then two trees (the free list and the main one), last page, txn ID."""
_TREE: Final = struct.Struct("<IHHQQQQQ")
"""page size (of the free list's), flags, depth, branch, leaf and overflow pages, entries, root page."""
_MAGIC: Final = 0xBEEFC0DE
_NO_PAGE: Final = (1 << 64) - 1
_META_PAGES: Final = 2


class _Meta(NamedTuple):
    txn_id: int
    page_bytes: int
    pages: int
    """Pages of the two trees and the meta pages."""
    last_root: int


def missing_from(path: str) -> str | None:
    """What says that the file was cut short; None if nothing does, or if it is no LMDB file at all.

    Raises:
        OSError: it cannot be read.
    """
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        first = _read_meta(file.read(_META_BYTES))
        if first is None:
            return None
        file.seek(first.page_bytes)
        second = _read_meta(file.read(_META_BYTES))
    if second is None or size < _META_PAGES * first.page_bytes:
        return f"it has {size} bytes, which is less than its two meta pages"
    newest = max(first, second)
    needed = max(newest.pages, newest.last_root + 1) * newest.page_bytes
    return f"it has {size} bytes and needs at least {needed}" if size < needed else None


_META_BYTES: Final = _PAGE_HEADER_BYTES + _META.size + 2 * _TREE.size + 16


def _read_meta(data: bytes) -> _Meta | None:
    if len(data) < _META_BYTES or _META.unpack_from(data, _PAGE_HEADER_BYTES)[0] != _MAGIC:
        return None
    at = _PAGE_HEADER_BYTES + _META.size
    trees = [_TREE.unpack_from(data, at + number * _TREE.size) for number in range(2)]
    pages = _META_PAGES + sum(sum(tree[3:6]) for tree in trees)
    last_root = max((tree[7] for tree in trees if tree[7] != _NO_PAGE), default=0)
    (txn_id,) = struct.unpack_from("<Q", data, _META_BYTES - 8)
    return _Meta(txn_id, trees[0][0], pages, last_root)
