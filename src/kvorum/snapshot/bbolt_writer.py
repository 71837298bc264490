"""Writes a bbolt file from records in order, from the leaves up.

Nobody inserts into the middle: each bucket's records come sorted, so its leaves are filled one after another
and never touched again; the first key of each page is all that is kept in memory, for the branches above.
bbolt's own code may go on writing to the file, which asks for one thing more than reading it: a branch never
has fewer than two children, else the removal of one would find no neighbour to join it with.
"""

from collections.abc import Iterable
from struct import Struct
from typing import BinaryIO, Final, final

from kvorum.snapshot.bbolt_format import (
    BRANCH_ELEMENT,
    BRANCH_PAGE,
    BUCKET,
    BUCKET_ELEMENT,
    ELEMENT_BYTES,
    FREELIST_PAGE,
    LEAF_PAGE,
    MAX_COUNT,
    META_BYTES,
    PAGE_HEADER,
    PAGE_HEADER_BYTES,
    Meta,
    encode_meta,
)

_META_PAGES: Final = 2
_MIN_CHILDREN: Final = 2
_LEAF_HEADS: Final[dict[int, Struct]] = {}
"""Of ``n`` elements at once."""


@final
class BboltWriter:
    """One file: ``bucket`` for each bucket, then ``finish``.

    Args:
        file: open for writing at its start, empty, seekable. Not closed here.
        page_bytes: a power of two from 1024 to 65536.
    """

    def __init__(self, file: BinaryIO, page_bytes: int = 4096) -> None:
        self._file: Final = file
        self._page_bytes: Final = page_bytes
        self._next = _META_PAGES
        self._buckets: Final[dict[bytes, bytes]] = {}
        file.write(bytes(_META_PAGES * page_bytes))

    def bucket(self, name: bytes, records: Iterable[tuple[bytes, bytes]]) -> int:
        """Write a bucket; returns how many records it has.

        Records must ascend by key, and no key be empty.

        Raises:
            OSError: the disk's.
        """
        assert name not in self._buckets, "a bucket twice"
        pages: list[tuple[bytes, int]] = []
        count = 0
        parts: list[bytes] = []
        sizes: list[int] = []
        size = PAGE_HEADER_BYTES
        limit = self._page_bytes
        for key, value in records:
            key_size, value_size = len(key), len(value)
            size += ELEMENT_BYTES + key_size + value_size
            if size > limit and parts:
                pages.append((parts[0], self._leaf(parts, sizes, 0)))
                count += len(parts) >> 1
                parts, sizes = [], []
                size = PAGE_HEADER_BYTES + ELEMENT_BYTES + key_size + value_size
            parts += (key, value)
            sizes += (key_size, value_size)
        if not parts:
            # as bbolt makes an empty bucket: inline
            self._buckets[name] = BUCKET.pack(0, 0) + PAGE_HEADER.pack(0, LEAF_PAGE, 0, 0)
            return 0
        pages.append((parts[0], self._leaf(parts, sizes, 0)))
        self._buckets[name] = BUCKET.pack(self._tree(pages), 0)
        return count + (len(parts) >> 1)

    def finish(self) -> int:
        """Write the root, the (empty) freelist and the metas; returns the size of the file in bytes.

        Raises:
            OSError: the disk's.
        """
        parts: list[bytes] = []
        for name in sorted(self._buckets):
            parts += (name, self._buckets[name])
        root = self._leaf(parts, [len(part) for part in parts], BUCKET_ELEMENT)
        freelist = self._write(FREELIST_PAGE, 0, b"")
        size = self._next * self._page_bytes
        for page, txn_id in enumerate((2, 1)):
            meta = encode_meta(page, Meta(self._page_bytes, root, freelist, self._next, txn_id))
            assert len(meta) == META_BYTES
            self._file.seek(page * self._page_bytes)
            self._file.write(meta)
        self._file.flush()
        return size

    def _leaf(self, parts: list[bytes], sizes: list[int], flags: int) -> int:
        """Write a leaf of keys and values in turn; returns its page."""
        count = len(parts) >> 1
        head: list[int] = []
        pos = count * ELEMENT_BYTES
        for at in range(0, len(sizes), 2):
            key_size, value_size = sizes[at], sizes[at + 1]
            head += (flags, pos, key_size, value_size)
            pos += key_size + value_size - ELEMENT_BYTES
        packer = _LEAF_HEADS.get(count)
        if packer is None:
            packer = _LEAF_HEADS[count] = Struct(f"<{4 * count}I")
        return self._write(LEAF_PAGE, count, packer.pack(*head) + b"".join(parts))

    def _tree(self, pages: list[tuple[bytes, int]]) -> int:
        """Write the branches above the pages, level by level; returns the root's page."""
        while len(pages) > 1:
            pages = [(group[0][0], self._branch(group)) for group in self._groups(pages)]
        return pages[0][1]

    def _groups(self, children: list[tuple[bytes, int]]) -> list[list[tuple[bytes, int]]]:
        """Children as they go into branches: as many as fit, two at least."""
        groups: list[list[tuple[bytes, int]]] = [[]]
        size = PAGE_HEADER_BYTES
        for child in children:
            need = ELEMENT_BYTES + len(child[0])
            size += need
            if size > self._page_bytes and len(groups[-1]) >= _MIN_CHILDREN:
                groups.append([])
                size = PAGE_HEADER_BYTES + need
            groups[-1].append(child)
        if len(groups) > 1 and len(groups[-1]) < _MIN_CHILDREN:
            last, before = groups[-1], groups[-2]
            if len(before) > _MIN_CHILDREN:
                last.insert(0, before.pop())
            else:
                before += groups.pop()
        return groups

    def _branch(self, children: list[tuple[bytes, int]]) -> int:
        head = []
        pos = len(children) * ELEMENT_BYTES
        for key, page in children:
            head.append(BRANCH_ELEMENT.pack(pos, len(key), page))
            pos += len(key) - ELEMENT_BYTES
        return self._write(BRANCH_PAGE, len(children), b"".join((*head, *(key for key, _ in children))))

    def _write(self, flags: int, count: int, content: bytes) -> int:
        """Write a page, over as many as it needs; returns its number."""
        assert count <= MAX_COUNT, "a page is too small for so many elements"
        page = self._next
        size = PAGE_HEADER_BYTES + len(content)
        span = -(-size // self._page_bytes)
        self._next += span
        header = PAGE_HEADER.pack(page, flags, count, span - 1)
        self._file.write(b"".join((header, content, bytes(span * self._page_bytes - size))))
        return page
