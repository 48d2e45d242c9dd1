"""Frames as bytes, as RFC 9113 draws them."""

from __future__ import annotations

import struct
from itertools import product

import pytest

from zkv.gateway.http2 import words
from zkv.gateway.http2.frame_reader import FrameReader
from zkv.gateway.http2.grpc_messages import prefixed
from zkv.gateway.http2.limits import Http2Limits
from zkv.gateway.http2.words import FRAME_BYTES_MAX_MAX, PREFACE, SETTINGS, STREAM_ID_MAX, ConnectionFault

SIZES = (0, 1, 0xFF, 0x100, 0xFFFF, 0x10000, 0x7FFFFF, 0x800000, FRAME_BYTES_MAX_MAX)


@pytest.mark.parametrize("size", SIZES)
def test_a_header_is_nine_bytes_of_big_endian_numbers(size: int) -> None:
    """24 bits of length, type, flags, and a stream id whose highest bit is not set (section 4.1)."""
    for kind, flags, stream_id in product((0, 9, 0xFF), (0, 0x25, 0xFF), (0, 1, 0x01020304, STREAM_ID_MAX)):
        drawn = struct.pack(">HBBBI", size >> 8, size & 0xFF, kind, flags, stream_id)
        assert words.header(size, kind, flags, stream_id) == drawn


@pytest.mark.parametrize("size", SIZES)
def test_what_a_header_says_is_read_from_it(size: int) -> None:
    """Whatever the length's bytes are, none is taken for a sign; the reserved bit says nothing."""
    reader = FrameReader(Http2Limits(frame_bytes_max=1 << 14), 0)
    reader.feed(PREFACE + words.frame(SETTINGS, 0, 0), 0)
    assert reader.next()
    payload = b"x" * min(size, 1 << 14)
    reader.feed(struct.pack(">HBBBI", size >> 8, size & 0xFF, 0, 0x25, 1 << 31 | 0x01020304) + payload, 0)
    if size > 1 << 14:
        with pytest.raises(ConnectionFault):
            reader.next()
        return
    assert reader.next()
    assert (reader.kind, reader.flags, reader.stream_id, reader.payload) == (0, 0x25, 0x01020304, payload)


@pytest.mark.parametrize("size", [0, 1, 0xFF, 0x100, 0x10000, 0x1000001])
def test_a_message_of_grpcs_has_five_bytes_in_front(size: int) -> None:
    """A flag, and 32 bits of length."""
    assert prefixed(1, bytes(size)) == struct.pack(">BI", 1, size) + bytes(size)
