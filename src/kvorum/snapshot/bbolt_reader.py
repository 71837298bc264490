"""Reads a bbolt file that may be anything: a backup, a peer's snapshot, an attack.

Nothing in it is believed: sizes and positions are held against the bounds of their page, page numbers against
the file, keys against the one before, depth and the number of pages looked at against what a sound file can
have. So a loop or a shared page ends with an error, as do cut and scrambled files; BboltError is the only
one. What the format has no checksum for (everything but the metas) cannot be told from what was meant.
"""

import mmap
import os
from collections.abc import Iterator
from typing import Final, NamedTuple, final

from kvorum.limits import MAX_BBOLT_BUCKETS, MAX_BBOLT_DEPTH
from kvorum.snapshot.bbolt_format import (
    BRANCH_ELEMENT,
    BRANCH_PAGE,
    BUCKET,
    BUCKET_ELEMENT,
    ELEMENT_BYTES,
    LEAF_ELEMENT,
    LEAF_PAGE,
    MAX_PAGE_BYTES,
    META_BYTES,
    MIN_PAGE_BYTES,
    PAGE_HEADER,
    PAGE_HEADER_BYTES,
    BboltError,
    Meta,
    decode_meta,
)


class _Page(NamedTuple):
    flags: int
    size: int
    """How many elements it has."""
    content: bytes
    """With the header, so that offsets are those of the page."""
    name: str


@final
class BboltReader:
    """One file, mapped; the file must not become shorter meanwhile. Use as a context manager, or close it.

    Raises:
        BboltError: it is no sound bbolt file. OSError: it cannot be opened.
    """

    def __init__(self, path: str) -> None:
        self.path: Final = path
        with open(path, "rb") as file:
            self._file_bytes = os.fstat(file.fileno()).st_size
            if self._file_bytes < 2 * MIN_PAGE_BYTES:
                raise BboltError(f"{path}: {self._file_bytes} bytes are no bbolt file")
            self._map: Final = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        try:
            self.meta: Final = self._newest_meta()
            self._roots: Final = self._read_roots()
        except BaseException:
            self._map.close()
            raise

    @property
    def size_bytes(self) -> int:
        """Bytes of the file that belong to bbolt; behind them may be room, or a checksum of the whole."""
        return self.meta.pages * self.meta.page_bytes

    @property
    def buckets(self) -> list[bytes]:
        """Names of the top-level buckets, in order."""
        return list(self._roots)

    def records(self, bucket: bytes) -> Iterator[tuple[bytes, bytes]]:
        """The records of a bucket in order; a bucket that is not there has none.

        Raises:
            BboltError: while iterating, where the tree is not sound, or has a bucket inside.
        """
        root = self._roots.get(bucket)
        name = bucket.decode("utf-8", "backslashreplace")
        if root is None:
            return
        for flags, key, value in self._elements(root, name):
            if flags:
                raise BboltError(f"{self.path}: bucket {name} has another one inside, which etcd's have not")
            yield key, value

    def close(self) -> None:
        """Unmap the file."""
        self._map.close()

    def __enter__(self) -> "BboltReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- metas and the root ---------------------------------------------------------------------------------

    def _newest_meta(self) -> Meta:
        """The sound meta page with the higher transaction."""
        found: list[Meta] = []
        try:
            found.append(decode_meta(self._map[:META_BYTES]))
            sizes = [found[0].page_bytes]
            problem = ""
        except BboltError as error:
            # Where the second one is follows from the page size, which the first one would have told.
            sizes = [
                1 << shift for shift in range(MIN_PAGE_BYTES.bit_length() - 1, MAX_PAGE_BYTES.bit_length())
            ]
            problem = str(error)
        for size in sizes:
            try:
                meta = decode_meta(self._map[size : size + META_BYTES])
            except BboltError:
                continue
            if meta.page_bytes == size:
                found.append(meta)
        if not found:
            raise BboltError(f"{self.path}: neither meta page is sound; the first: {problem}")
        meta = max(found, key=lambda meta: meta.txn_id)
        if meta.pages * meta.page_bytes > self._file_bytes:
            needed = meta.pages * meta.page_bytes
            raise BboltError(
                f"{self.path}: it has {self._file_bytes} bytes and needs {needed}: it was cut short"
            )
        return meta

    def _read_roots(self) -> dict[bytes, bytes]:
        """Each bucket's place, as the root's leaves hold it."""
        roots: dict[bytes, bytes] = {}
        for flags, key, value in self._elements(BUCKET.pack(self.meta.root, 0), "the root"):
            if flags != BUCKET_ELEMENT:
                raise BboltError(f"{self.path}: a record outside of any bucket")
            if len(value) < BUCKET.size:
                raise BboltError(f"{self.path}: the bucket {key!r} is cut short")
            if len(roots) == MAX_BBOLT_BUCKETS:
                raise BboltError(f"{self.path}: more than {MAX_BBOLT_BUCKETS} buckets")
            roots[key] = value
        return roots

    # --- trees ----------------------------------------------------------------------------------------------

    def _elements(self, root: bytes, name: str) -> Iterator[tuple[int, bytes, bytes]]:
        """The elements of a tree's leaves in order: (flags, key, value)."""
        page = BUCKET.unpack_from(root)[0]
        if page == 0:
            header = root[BUCKET.size :][:PAGE_HEADER_BYTES].ljust(PAGE_HEADER_BYTES, b"\0")
            _, flags, size, _ = PAGE_HEADER.unpack(header)
            inline = _Page(flags, size, root[BUCKET.size :], f"{name}, inline")
            if inline.flags != LEAF_PAGE:
                raise BboltError(f"{self.path}: {inline.name}: flags {inline.flags:#x}")
            yield from self._leaf(inline, b"")
            return
        last = b""
        for leaf in self._leaves(page, name):
            elements = self._leaf(leaf, last)
            if elements:
                last = elements[-1][1]
                yield from elements

    def _leaves(self, root: int, name: str) -> Iterator[_Page]:
        """The leaves of a tree in order, by depth first."""
        budget = self.meta.pages
        path = [iter((root,))]
        while path:
            number = next(path[-1], -1)
            if number < 0:
                path.pop()
                continue
            page, span = self._page(number, name)
            budget -= span
            if budget < 0:
                raise BboltError(f"{self.path}: {name}: pages are used more than once")
            if page.flags == LEAF_PAGE:
                yield page
            elif page.flags != BRANCH_PAGE:
                raise BboltError(f"{self.path}: {page.name}: flags {page.flags:#x} in a tree")
            elif len(path) == MAX_BBOLT_DEPTH:
                raise BboltError(f"{self.path}: {page.name}: deeper than {MAX_BBOLT_DEPTH}")
            else:
                path.append(iter(self._branch(page)))

    def _page(self, number: int, name: str) -> tuple[_Page, int]:
        """A page, and how many it spans."""
        meta = self.meta
        if not 2 <= number < meta.pages:
            raise BboltError(f"{self.path}: {name}: page {number} of {meta.pages}")
        start = number * meta.page_bytes
        itself, flags, count, overflow = PAGE_HEADER.unpack_from(self._map, start)
        if itself != number:
            raise BboltError(f"{self.path}: {name}: page {number} says that it is {itself}")
        if overflow >= meta.pages - number:
            raise BboltError(f"{self.path}: {name}: page {number} goes on behind the file's end")
        content = self._map[start : start + (overflow + 1) * meta.page_bytes]
        return _Page(flags, count, content, f"{name}, page {number}"), overflow + 1

    def _branch(self, page: _Page) -> list[int]:
        """The children of a branch."""
        end = PAGE_HEADER_BYTES + page.size * ELEMENT_BYTES
        if not page.size or end > len(page.content):
            raise BboltError(f"{self.path}: {page.name}: a branch of {page.size}")
        heads = BRANCH_ELEMENT.iter_unpack(page.content[PAGE_HEADER_BYTES:end])
        return [child for _, _, child in heads]

    def _leaf(self, page: _Page, last: bytes) -> list[tuple[int, bytes, bytes]]:
        """The elements of a leaf; the first key must be behind ``last``."""
        content = page.content
        size = len(content)
        at = PAGE_HEADER_BYTES
        end = at + page.size * ELEMENT_BYTES
        if end > size:
            raise BboltError(f"{self.path}: {page.name}: it has no room for its {page.size} elements")
        elements = []
        for flags, pos, key_size, value_size in LEAF_ELEMENT.iter_unpack(content[at:end]):
            start = at + pos
            middle = start + key_size
            behind = middle + value_size
            if behind > size or flags > BUCKET_ELEMENT:
                raise BboltError(f"{self.path}: {page.name}: an element reaches behind its end")
            key = content[start:middle]
            if key <= last:
                raise BboltError(f"{self.path}: {page.name}: keys out of order")
            elements.append((flags, key, content[middle:behind]))
            last = key
            at += ELEMENT_BYTES
        return elements
