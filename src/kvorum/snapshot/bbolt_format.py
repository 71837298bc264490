"""bbolt's file format, as far as a file of etcd's uses it (bbolt v1.3 ``page.go``, ``db.go``, ``bucket.go``).

A file is an array of pages, all of one size, everything little-endian. A page has a header of 16 bytes and
may go on over the ``overflow`` pages behind it:

    page   id u64 | flags u16 | count u16 | overflow u32
    meta   magic u32 | version u32 | page size u32 | flags u32 | root bucket (page u64, sequence u64)
           | freelist page u64 | number of pages u64 | transaction u64 | FNV-1a of all before u64
    branch count of (pos u32, key size u32, page u64), then the keys
    leaf   count of (flags u32, pos u32, key size u32, value size u32), then keys and values
    freelist   count of page u64

``pos`` counts from the element's own first byte. Pages 0 and 1 are metas; the sound one with the higher
transaction is the file's state. It names the root bucket, whose leaves hold the other buckets: a leaf element
with the bucket flag, whose value is the page of that bucket's tree and a sequence number; or, if that page is
0, behind it the bucket's only page ("inline").

The format has no checksums but those of the metas.
"""

import struct
from typing import Final, NamedTuple

MAGIC: Final = 0xED0CDAED
VERSION: Final = 2

BRANCH_PAGE: Final = 0x01
LEAF_PAGE: Final = 0x02
META_PAGE: Final = 0x04
FREELIST_PAGE: Final = 0x10
BUCKET_ELEMENT: Final = 0x01

PAGE_HEADER: Final = struct.Struct("<QHHI")
BRANCH_ELEMENT: Final = struct.Struct("<IIQ")
LEAF_ELEMENT: Final = struct.Struct("<IIII")
BUCKET: Final = struct.Struct("<QQ")
_META: Final = struct.Struct("<IIIIQQQQQ")
_CHECKSUM: Final = struct.Struct("<Q")

PAGE_HEADER_BYTES: Final = PAGE_HEADER.size
ELEMENT_BYTES: Final = LEAF_ELEMENT.size
"""Branch and leaf elements are of one size."""
META_BYTES: Final = PAGE_HEADER_BYTES + _META.size + _CHECKSUM.size
MIN_PAGE_BYTES: Final = 1024
MAX_PAGE_BYTES: Final = 65536
"""Page sizes of the machines bbolt runs on lie between; it writes that of its own."""
MAX_COUNT: Final = 0xFFFF


class BboltError(Exception):
    """The bytes are no sound bbolt file; one line says what is wrong and where."""


class Meta(NamedTuple):
    """A meta page's content."""

    page_bytes: int
    root: int
    freelist: int
    pages: int
    """The pages in use end before this one."""
    txn_id: int


def fnv1a(data: bytes) -> int:
    """The 64-bit FNV-1a hash."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return value


def encode_meta(page: int, meta: Meta) -> bytes:
    """A meta page, without the zeros behind it."""
    content = _META.pack(
        MAGIC, VERSION, meta.page_bytes, 0, meta.root, 0, meta.freelist, meta.pages, meta.txn_id
    )
    return PAGE_HEADER.pack(page, META_PAGE, 0, 0) + content + _CHECKSUM.pack(fnv1a(content))


def decode_meta(data: bytes) -> Meta:
    """Read and check a meta page.

    Raises:
        BboltError: it is none, or not as it was written.
    """
    if len(data) < META_BYTES:
        raise BboltError("cut short")
    content = data[PAGE_HEADER_BYTES : META_BYTES - _CHECKSUM.size]
    magic, version, page_bytes, _, root, _, freelist, pages, txn_id = _META.unpack(content)
    if magic != MAGIC:
        raise BboltError("not of a bbolt file")
    if version != VERSION:
        raise BboltError(f"of version {version}, which is not {VERSION}")
    if _CHECKSUM.unpack_from(data, META_BYTES - _CHECKSUM.size)[0] != fnv1a(content):
        raise BboltError("its checksum is wrong")
    if not MIN_PAGE_BYTES <= page_bytes <= MAX_PAGE_BYTES or page_bytes & (page_bytes - 1):
        raise BboltError(f"a page size of {page_bytes}")
    return Meta(page_bytes, root, freelist, pages, txn_id)
