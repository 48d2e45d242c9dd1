"""What is written field by field is, to the byte, what msgpack makes of it."""

from __future__ import annotations

import pytest
from librt.strings import BytesWriter

from zkv.core.mvcc.reading import succeeded
from zkv.wire.codec import pack, write_bytes, write_int

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
