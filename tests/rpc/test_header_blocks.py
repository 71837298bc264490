"""HPACK decoding against the ``hpack`` package, the examples of RFC 7541, and what is not HPACK."""

from contextlib import suppress

import pytest
from hpack import Decoder, Encoder
from hpack.exceptions import HPACKError
from hpack.hpack import encode_integer
from hypothesis import given
from hypothesis import strategies as st

from kvorum import limits
from kvorum.rpc.frames import COMPRESSION_ERROR, ENHANCE_YOUR_CALM, ConnectionFailed, encode_fields
from kvorum.rpc.header_blocks import STATIC_TABLE, HeaderDecoder

NAMES = st.sampled_from([":path", ":method", "content-type", "grpc-timeout", "x-a", "x-trace-bin", "te"])
VALUES = st.one_of(
    st.sampled_from(["", "POST", "/", "application/grpc", "trailers"]),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40),
    st.text("ab", min_size=200, max_size=2000),
)
FIELDS = st.lists(st.tuples(NAMES, VALUES, st.booleans()), max_size=12)
TABLE_SIZES = st.sampled_from([None, 0, 100, 4096])
Block = tuple[list[tuple[str, str, bool]], bool, int | None]


def pairs(decoder: HeaderDecoder, block: bytes) -> list[tuple[str, str]] | None:
    fields = decoder.decode(block)
    decoder.check_invariants()
    return None if fields is None else [(field.name, field.value) for field in fields]


@given(st.lists(st.tuples(FIELDS, st.booleans(), TABLE_SIZES), max_size=8))
def test_decodes_what_hpack_encodes(blocks: list[Block]) -> None:
    encoder = Encoder()
    decoder = HeaderDecoder(1 << 20)
    for fields, huffman, size in blocks:
        if size is not None:
            encoder.header_table_size = size
        block = bytes(encoder.encode(fields, huffman=huffman))
        before = decoder.changes
        table = list(decoder.table)
        assert pairs(decoder, block) == [(name, value) for name, value, _ in fields]
        if decoder.changes == before:
            assert list(decoder.table) == table


def hpacks_view(decoder: Decoder, block: bytes) -> list[tuple[str, str]] | None:
    try:
        fields = decoder.decode(block, raw=True)
    except HPACKError:
        return None
    return [(str(name, "latin-1"), str(value, "latin-1")) for name, value in fields]


@given(st.lists(st.binary(max_size=60), max_size=4))
def test_any_bytes_are_what_hpack_says_they_are(blocks: list[bytes]) -> None:
    """Fields or COMPRESSION_ERROR; only integers of absurd length are judged differently."""
    decoder = HeaderDecoder(1 << 20)
    other = Decoder()
    for block in blocks:
        expected = hpacks_view(other, block)
        if expected is None or b"\x80\x80\x80" in block:
            with suppress(ConnectionFailed):
                decoder.decode(block)
            return
        assert pairs(decoder, block) == expected


def test_the_examples_of_the_rfc() -> None:
    """RFC 7541 C.4: three requests with Huffman code on one connection."""
    decoder = HeaderDecoder(1 << 20)
    common = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com")]
    assert pairs(decoder, bytes.fromhex("828684418cf1e3c2e5f23a6ba0ab90f4ff")) == common
    assert pairs(decoder, bytes.fromhex("828684be5886a8eb10649cbf")) == [
        *common,
        ("cache-control", "no-cache"),
    ]
    assert pairs(decoder, bytes.fromhex("828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf")) == [
        (":method", "GET"),
        (":scheme", "https"),
        (":path", "/index.html"),
        (":authority", "www.example.com"),
        ("custom-key", "custom-value"),
    ]
    assert decoder.size == 164
    assert len(decoder.table) == 3


def test_the_static_table_is_the_rfcs() -> None:
    block = b"".join(bytes((0x80 | index,)) for index in range(1, 62))
    assert [(field.name, field.value) for field in STATIC_TABLE] == hpacks_view(Decoder(), block)


@given(st.sampled_from(["200", "404", "415"]), st.text("abc %", max_size=300))
def test_what_we_encode_is_read_by_hpack_and_leaves_its_table_alone(status: str, message: str) -> None:
    fields = [(":status", status), ("content-type", "application/grpc"), ("grpc-message", message)]
    decoder = Decoder()
    assert hpacks_view(decoder, encode_fields(fields)) == fields
    assert not decoder.header_table.dynamic_entries


@pytest.mark.parametrize(
    "block",
    [
        "80",  # index 0
        "be",  # index 62 of an empty table
        "ff80808080808001",  # an integer without end
        "40",  # a name that is not there
        "400161",  # a value that is not there
        "0085",  # a string longer than the block
        "0081ff0161",  # Huffman padding of more than 7 bits
        "823fe11f",  # a size update after a field
        "3fe21f",  # a table larger than allowed
    ],
)
def test_what_is_no_header_block(block: str) -> None:
    with pytest.raises(ConnectionFailed) as failed:
        HeaderDecoder(1 << 20).decode(bytes.fromhex(block))
    assert failed.value.code == COMPRESSION_ERROR


def test_a_list_that_is_too_large_keeps_the_table_in_order() -> None:
    encoder = Encoder()
    decoder = HeaderDecoder(500)
    assert decoder.decode(bytes(encoder.encode([("x-a", "v" * 600), ("x-b", "small")]))) is None
    assert pairs(decoder, bytes(encoder.encode([("x-b", "small")]))) == [("x-b", "small")]


def test_a_bomb_is_not_unpacked() -> None:
    """Thousands of one-byte references to a 4 KB entry: 16 KB would become 60 MB."""
    encoder = Encoder()
    decoder = HeaderDecoder(limits.MAX_HEADER_LIST_BYTES)
    decoder.decode(bytes(encoder.encode([("x-bomb", "v" * 3900)])))
    with pytest.raises(ConnectionFailed) as failed:
        decoder.decode(b"\xbe" * 16_000)
    assert failed.value.code == ENHANCE_YOUR_CALM


def test_remembered_strings_are_bounded() -> None:
    decoder = HeaderDecoder(1 << 20)
    encoder = Encoder()
    for number in range(3 * limits.HUFFMAN_CACHE_ENTRIES):
        decoder.decode(bytes(encoder.encode([("x-number", f"value-{number}")])))
        decoder.check_invariants()
    assert 0 < len(decoder.strings) <= limits.HUFFMAN_CACHE_ENTRIES


def test_large_integers_are_read() -> None:
    value = "v" * 100_000
    block = b"\x00\x01a" + bytes(encode_integer(len(value), 7)) + value.encode()
    assert pairs(HeaderDecoder(1 << 20), block) == [("a", value)]
