"""bbolt files: what we write we read, what bbolt's own code says of it, and what is done to hostile bytes."""

import io
import json
import struct
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvorum.snapshot.bbolt_format import BboltError, Meta, decode_meta, encode_meta, fnv1a
from kvorum.snapshot.bbolt_reader import BboltReader
from kvorum.snapshot.bbolt_writer import BboltWriter
from tests.support.process import distro_binary

Buckets = dict[bytes, dict[bytes, bytes]]

# A leaf has 4096 bytes, of which the header takes 16 and each element 16: sizes around what is left over.
SIZES = st.one_of(
    st.integers(0, 40),
    st.integers(4096 - 16 - 16 - 12, 4096 - 16),
    st.integers(8192 - 60, 8192 + 10),
    st.sampled_from([1000, 2000, 2032, 100_000]),
)
RECORDS = st.dictionaries(
    st.one_of(st.binary(min_size=1, max_size=4), st.integers(1, 3000).map(lambda size: b"k" * size)),
    SIZES.map(bytes),
    max_size=40,
)
BUCKETS = st.dictionaries(st.binary(min_size=1, max_size=12), RECORDS, max_size=5)


def write(path: Path, buckets: Buckets, page_bytes: int = 4096) -> int:
    with path.open("wb") as file:
        writer = BboltWriter(file, page_bytes)
        for name, records in buckets.items():
            assert writer.bucket(name, sorted(records.items())) == len(records)
        return writer.finish()


def read(path: Path) -> Buckets:
    with BboltReader(str(path)) as reader:
        return {name: dict(reader.records(name)) for name in reader.buckets}


def status(path: Path) -> dict[str, int]:
    """What bbolt's own code reads from a file, after its consistency check."""
    command = [distro_binary("etcdutl"), "snapshot", "status", str(path), "--write-out=json"]
    shown = subprocess.run(command, capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stderr
    result: dict[str, int] = json.loads(shown.stdout)
    return result


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bbolt") / "db"


@given(buckets=BUCKETS, page_bytes=st.sampled_from([1024, 4096, 65536]))
@settings(max_examples=150, deadline=None)
def test_what_is_written_is_read(file: Path, buckets: Buckets, page_bytes: int) -> None:
    size = write(file, buckets, page_bytes)
    assert size == file.stat().st_size
    assert size % page_bytes == 0
    assert read(file) == buckets
    with BboltReader(str(file)) as reader:
        assert reader.size_bytes == size
        assert reader.buckets == sorted(buckets)
        for name, records in buckets.items():
            assert [key for key, _ in reader.records(name)] == sorted(records)
        assert list(reader.records(b"a bucket that is not there")) == []


# One element per leaf and three to a branch, so that levels are many and their ends differ.
@given(count=st.integers(1, 400), size=st.integers(900, 1100))
@settings(max_examples=20, deadline=None)
def test_deep_trees(file: Path, count: int, size: int) -> None:
    records = {b"%04d" % number + bytes(300): bytes(size) for number in range(count)}
    write(file, {b"deep": records}, 1024)
    assert read(file) == {b"deep": records}


@pytest.mark.parametrize("count", [0, 1, 2, 100, 203, 204, 205, 40_000])
def test_bbolt_reads_and_checks_what_we_write(file: Path, count: int) -> None:
    # 204 entries make one branch full; one more makes a second that would have a single child.
    revisions = {struct.pack(">QcQ", number + 2, b"_", 0): bytes(4000) for number in range(count)}
    if count == 40_000:
        revisions = dict.fromkeys(revisions, b"small")
    buckets: Buckets = {b"key": revisions, b"meta": {b"term": bytes(8)}, b"lease": {}}
    size = write(file, buckets)
    shown = status(file)
    assert shown["totalSize"] == size
    assert shown["totalKey"] == count + 1
    assert shown["revision"] == (count + 1 if count else 0)


def test_a_branch_has_two_children_at_least(file: Path) -> None:
    for count in range(2, 40):
        write(file, {b"key": {bytes([number]) * 600: bytes(500) for number in range(1, count)}}, 1024)
        data = file.read_bytes()
        for start in range(2048, len(data), 1024):
            number, flags, children = struct.unpack_from("<QHH", data, start)
            if number == start // 1024 and flags == 0x01:
                assert children >= 2


def test_meta() -> None:
    assert fnv1a(b"") == 0xCBF29CE484222325
    assert fnv1a(b"foobar") == 0x85944171F73967E8
    meta = Meta(4096, 3, 2, 4, 1)
    assert decode_meta(encode_meta(1, meta)) == meta


def test_the_other_meta_serves_if_one_is_torn(file: Path) -> None:
    buckets = {b"key": {b"a": b"1"}}
    write(file, buckets)
    sound = bytearray(file.read_bytes())
    for page in (0, 1):
        torn = bytearray(sound)
        torn[page * 4096 + 40] ^= 1
        file.write_bytes(torn)
        assert read(file) == buckets
    sound[40] ^= 1
    sound[4096 + 40] ^= 1
    file.write_bytes(sound)
    with pytest.raises(BboltError, match=r"neither meta page is sound; the first: its checksum is wrong"):
        BboltReader(str(file))


# --- hostile files ------------------------------------------------------------------------------------------


def page(number: int, flags: int, count: int, content: bytes, overflow: int = 0) -> bytes:
    return (struct.pack("<QHHI", number, flags, count, overflow) + content).ljust(1024, b"\0")


def leaf(number: int, *elements: tuple[int, bytes, bytes]) -> bytes:
    heads, data = b"", b""
    for at, (flags, key, value) in enumerate(elements):
        pos = (len(elements) - at) * 16 + len(data)
        heads += struct.pack("<IIII", flags, pos, len(key), len(value))
        data += key + value
    return page(number, 0x02, len(elements), heads + data)


def branch(number: int, *children: int) -> bytes:
    return page(number, 0x01, len(children), b"".join(struct.pack("<IIQ", 0, 0, child) for child in children))


def bucket(root: int) -> bytes:
    return struct.pack("<QQ", root, 0)


def hostile(*pages: bytes, root: int = 2) -> bytes:
    content = b"".join(pages)
    meta = Meta(1024, root, 3, 2 + len(pages), 1)
    return b"".join(encode_meta(number, meta).ljust(1024, b"\0") for number in (0, 1)) + content


ROOT = leaf(2, (1, b"key", bucket(3)))

HOSTILE = {
    "it has 2048 bytes and needs 5120": hostile(ROOT, ROOT, ROOT)[:2048],
    "page 9 of 3": hostile(leaf(2, (1, b"key", bucket(9)))),
    "page 1 of 3": hostile(leaf(2, (1, b"key", bucket(1)))),
    "the root: page 18446744073709551615 of 3": hostile(ROOT, root=(1 << 64) - 1),
    "page 3 says that it is 4": hostile(ROOT, leaf(4)),
    "page 3 goes on behind the file's end": hostile(ROOT, page(3, 2, 0, b"", overflow=1)),
    "a branch of 0": hostile(ROOT, branch(3)),
    "a branch of 64": hostile(ROOT, page(3, 1, 64, b"")),
    "it has no room for its 64 elements": hostile(ROOT, page(3, 2, 64, b"")),
    "flags 0x10 in a tree": hostile(ROOT, page(3, 16, 0, b"")),
    "pages are used more than once": hostile(ROOT, branch(3, 4, 4, 4, 4, 4), leaf(4)),
    "pages are used more than once ": hostile(ROOT, branch(3, 3)),
    "deeper than 32": hostile(ROOT, *(branch(number, number + 1) for number in range(3, 60))),
    "keys out of order": hostile(ROOT, branch(3, 4, 4), leaf(4, (0, b"a", b""))),
    "keys out of order ": hostile(ROOT, leaf(3, (0, b"b", b""), (0, b"a", b""))),
    "keys out of order  ": hostile(ROOT, leaf(3, (0, b"", b""))),
    "reaches behind its end": hostile(ROOT, page(3, 2, 1, struct.pack("<IIII", 0, 16, 5, 5000))),
    "reaches behind its end ": hostile(ROOT, page(3, 2, 1, struct.pack("<IIII", 0, 0xFFFFFFFF, 1, 1))),
    "another one inside": hostile(ROOT, leaf(3, (1, b"a", bucket(0)))),
    "a record outside of any bucket": hostile(leaf(2, (0, b"a", b"b"))),
    "is cut short": hostile(leaf(2, (1, b"a", b"b"))),
    "inline: flags 0x0": hostile(leaf(2, (1, b"a", bucket(0)))),
    "inline: it has no room": hostile(leaf(2, (1, b"a", bucket(0) + struct.pack("<QHHI", 0, 2, 9, 0)))),
    "2 bytes are no bbolt file": b"no",
    "not of a bbolt file": bytes(4096),
}


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_files_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "db"
    path.write_bytes(HOSTILE[text])
    with pytest.raises(BboltError) as refused:
        read(path)
    assert text.strip() in str(refused.value)
    assert str(refused.value).startswith(str(path))
    assert "\n" not in str(refused.value)


def test_inline_buckets_are_read(file: Path) -> None:
    inline = bucket(0) + leaf(0, (0, b"a", b"1"), (0, b"b", b"2"))[:80]
    file.write_bytes(hostile(leaf(2, (1, b"key", inline))))
    assert read(file) == {b"key": {b"a": b"1", b"b": b"2"}}


def fill(seed: int) -> Iterator[tuple[bytes, bytes]]:
    return ((b"%06d" % number, bytes(number * seed % 700)) for number in range(400))


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_scrambled_files_are_refused_or_read(file: Path, data: st.DataObject) -> None:
    """A flipped byte anywhere is either told, or was in a value or key: never anything else."""
    buffer = io.BytesIO()
    writer = BboltWriter(buffer, 1024)
    writer.bucket(b"key", fill(7))
    writer.bucket(b"meta", [(b"a", b"b")])
    writer.finish()
    scrambled = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(scrambled) - 1))
        scrambled[at : at + 1] = data.draw(st.binary(min_size=1, max_size=8))
    file.write_bytes(scrambled[: data.draw(st.sampled_from([len(scrambled), len(scrambled) // 2]))])
    with suppress(BboltError):
        assert sum(map(len, read(file).values())) <= 401
