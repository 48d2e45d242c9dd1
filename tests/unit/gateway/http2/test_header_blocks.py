"""HPACK: what RFC 7541 shows, what hpack makes of it, and what is remembered."""

from __future__ import annotations

import contextlib

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.harness import http2_wire as wire
from zkv.gateway.http2 import words
from zkv.gateway.http2.header_blocks import HeaderDecoder, encode
from zkv.gateway.http2.limits import Http2Limits
from zkv.gateway.http2.request_reader import RequestReader
from zkv.gateway.http2.words import ConnectionFault, ErrorCode

TEXT = st.binary(max_size=40)
FIELDS = st.lists(st.tuples(TEXT, TEXT, st.booleans()), max_size=12)
LIMITS = Http2Limits()


@given(st.lists(FIELDS, max_size=6), st.lists(st.integers(0, 4096), max_size=3))
def test_what_hpack_encodes_is_decoded(blocks: list[list[tuple[bytes, bytes, bool]]], sizes: list[int]) -> None:
    """Block after block, over one table, which may be resized between them; with Huffman code and without."""
    encoder = hpack.Encoder()
    decoder = HeaderDecoder(1 << 16)
    for i, block in enumerate(blocks):
        if i < len(sizes):
            encoder.header_table_size = sizes[i]
        coded = encoder.encode(block, huffman=i % 2 == 0)
        assert decoder.decode(coded) == tuple((name, value) for name, value, _ in block)


@given(st.binary(max_size=200))
def test_any_bytes_are_fields_or_a_fault(block: bytes) -> None:
    """And what hpack makes of them is the same, as far as it looks as closely."""
    ours: object = None
    theirs: object = None
    with contextlib.suppress(ConnectionFault):
        ours = HeaderDecoder(1 << 16).decode(block)
    with contextlib.suppress(hpack.HPACKError):
        theirs = tuple(tuple(field) for field in hpack.Decoder(1 << 16).decode(block, raw=True))
    if ours is not None:
        assert ours == theirs


@given(st.lists(st.tuples(TEXT, TEXT), max_size=12))
def test_what_is_encoded_here_enters_no_table(fields: list[tuple[bytes, bytes]]) -> None:
    """So it may be sent to anybody at any time: hpack reads it with a table of no size."""
    decoder = hpack.Decoder(1 << 16)
    decoder.header_table_size = 0
    for _ in range(2):
        assert [tuple(field) for field in decoder.decode(encode(fields), raw=True)] == fields
    assert not decoder.header_table.dynamic_entries


def test_static_fields_are_one_byte() -> None:
    """The whole field, or at least its name, by index."""
    assert encode([(b":status", b"200")]) == b"\x88"
    assert encode([(b"content-type", b"a")]) == b"\x0f\x10\x01a"
    assert encode([(b"n" * 200, b"")])[:4] == b"\x00\x7f\x49n"


def test_a_list_larger_than_announced_is_refused_while_it_is_read() -> None:
    """4,000 bytes in the table, and a byte for each time they are meant again (CVE-2016-6581)."""
    bomb = b"\x40\x01a" + b"\x7f\xa1\x1e" + b"x" * 4000 + b"\xbe" * 10_000
    decoder = HeaderDecoder(16_384)
    with pytest.raises(ConnectionFault) as caught:
        decoder.decode(bomb)
    assert caught.value.code == ErrorCode.ENHANCE_YOUR_CALM


@pytest.mark.parametrize("size", [16_384, 16_385])
def test_a_list_of_just_the_size_announced(size: int) -> None:
    """Each field counts its bytes and 32."""
    block = encode([(b"a", b"x" * (size - 33))])
    decoder = HeaderDecoder(16_384)
    if size > 16_384:
        with pytest.raises(ConnectionFault):
            decoder.decode(block)
    else:
        assert len(decoder.decode(block)) == 1


def reader() -> RequestReader:
    return RequestReader(LIMITS, b"grpc-timeout")


def test_the_same_bytes_are_the_same_request() -> None:
    """Not only an equal one: what was made of it is there too."""
    here = reader()
    first, _ = here.request(encode(wire.GET))
    first.note = "seen"
    assert here.request(encode(wire.GET))[0] is first


def test_a_table_that_moves_makes_old_bytes_mean_new_things() -> None:
    """The entry behind an index is another one after an insertion."""
    here = reader()
    block = encode(wire.GET) + b"\xbe"  # and the newest entry of the table
    here.fields(b"\x40\x01a\x011")
    assert here.request(block)[0].fields == ((b"a", b"1"),)
    here.fields(b"\x40\x01b\x012")
    assert here.request(block)[0].fields == ((b"b", b"2"),)


def test_the_table_may_move_by_a_size_update_alone() -> None:
    """What was in it is gone."""
    here = reader()
    here.fields(b"\x40\x01a\x011")
    block = encode(wire.GET) + b"\xbe"
    here.request(block)
    here.fields(b"\x20")
    with pytest.raises(ConnectionFault):
        here.request(block)


def test_a_block_that_moves_the_table_moves_it_each_time() -> None:
    """It is not remembered: sent again, it is another entry."""
    here = reader()
    block = encode(wire.GET) + b"\x40\x01a\x011"
    here.request(block)
    here.request(block)
    assert here.fields(b"\xbe\xbf") == ((b"a", b"1"), (b"a", b"1"))


def test_one_field_is_set_aside() -> None:
    """Requests that differ in it alone are one request."""
    here = reader()
    one, first = here.request(encode((*wire.GET, (b"grpc-timeout", b"5S"), (b"a", b"b"))))
    two, second = here.request(encode((*wire.GET, (b"grpc-timeout", b"499m"), (b"a", b"b"))))
    assert one is two
    assert (first, second) == (b"5S", b"499m")
    assert one.fields == ((b"a", b"b"),)
    three, none = here.request(encode((*wire.GET, (b"grpc-timeout", b"5 S"))))
    assert (three.fields, none) == (((b"grpc-timeout", b"5 S"),), b"")


def test_what_is_remembered_is_bounded() -> None:
    """However many requests differ."""
    here = reader()
    for i in range(1000):
        here.request(encode((*wire.GET, (b"n", b"%d" % i))))
    assert len(here._by_block) <= LIMITS.cached_requests_max
    assert len(here._by_fields) <= LIMITS.cached_requests_max


def test_a_block_longer_than_allowed_is_not_looked_at() -> None:
    """Even if its frame might be so long."""
    with pytest.raises(ConnectionFault) as caught:
        reader().request(bytes(LIMITS.header_block_bytes_max + 1))
    assert caught.value.code == ErrorCode.ENHANCE_YOUR_CALM
    assert LIMITS.header_block_bytes_max <= words.DEFAULT_FRAME_BYTES_MAX
