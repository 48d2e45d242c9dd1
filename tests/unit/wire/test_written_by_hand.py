"""What is written field by field is, to the byte, what msgpack makes of it."""

from __future__ import annotations

import struct
from zlib import crc32

import pytest
from librt.strings import BytesWriter

from zkv.actors.wal_format import Change, encode_frame, encode_seal
from zkv.core.mvcc.reading import succeeded
from zkv.wire.codec import encode_entry, pack, write_bytes, write_int
from zkv.wire.messages import Entry, EntryKind

EDGES = [1 << bits for bits in (0, 5, 7, 8, 15, 16, 31, 32, 62, 63, 64)]
NUMBERS = sorted({edge + more for edge in EDGES for more in (-1, 0, 1)} - {(1 << 64), (1 << 64) + 1})


@pytest.mark.parametrize("number", [*NUMBERS, *(-number for number in NUMBERS if number <= 1 << 63)])
def test_integers(number: int) -> None:
    writer = BytesWriter()
    write_int(writer, number)
    assert writer.getvalue() == pack(number)


@pytest.mark.parametrize("size", [0, 1, 31, 32, 255, 256, 65_535, 65_536])
def test_bytes(size: int) -> None:
    writer = BytesWriter()
    write_bytes(writer, bytes(size))
    assert writer.getvalue() == pack(bytes(size))


@pytest.mark.parametrize("request_id", [0, 127, 128, (1 << 64) - 1, -1])
def test_answers(request_id: int) -> None:
    assert succeeded(request_id, 300, pack(("body",))) == pack((request_id, 0, 300, ("body",)))


@pytest.mark.parametrize("number", [0, 1, 255, 1 << 31, (1 << 63) - 1])
@pytest.mark.parametrize("size", [0, 1, 300, 70_000])
def test_heads_in_the_log(number: int, size: int) -> None:
    """And to the bit what they have ever been: old logs are read by new processes."""
    body = bytes(size)
    unchecked = struct.pack(">IQQQB", size, number, number, number, 1) + body
    entry = Entry(number, number, EntryKind.CONF_CHANGE, number, body)
    assert encode_entry(entry) == struct.pack(">I", crc32(unchecked)) + unchecked
    seal = struct.pack(">8sQIII", b"noncence", number, 0, 0, 0)
    assert encode_seal(b"noncence", number) == seal + struct.pack(">I", crc32(seal))
    change = Change(first=number)
    frame, entries_at = encode_frame(b"noncence", number, change, (entry, entry))
    meta = pack((False, None, None, None, number))
    heads = encode_entry(entry)[:33] * 2
    head = struct.pack(">8sQIII", b"noncence", number, len(meta), 2 * (33 + size), crc32(meta + heads))
    assert frame == head + struct.pack(">I", crc32(head)) + meta + 2 * encode_entry(entry)
    assert frame[entries_at:] == 2 * encode_entry(entry)
