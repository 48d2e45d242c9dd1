"""Just enough of protobuf to ask etcd for something and to look into its answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def varint(number: int) -> bytes:
    low, rest = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def field(number: int, value: bytes | int) -> bytes:
    """One field: wire type 2 (length and bytes) or 0 (varint)."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """(number, value) of each field of a message that has none but those two wire types."""
    at, end = 0, len(message)
    while at < end:
        tag, at = _read(message, at)
        value, at = _read(message, at)
        if tag & 7 == 2:
            yield tag >> 3, message[at : at + value]
            at += value
        else:
            assert tag & 7 == 0
            yield tag >> 3, value


def _read(message: memoryview, at: int) -> tuple[int, int]:
    """A varint, and where it ends."""
    byte = message[at]
    if byte < 0x80:
        return byte, at + 1
    value, shift = byte & 0x7F, 7
    while byte & 0x80:
        at += 1
        byte = message[at]
        value |= (byte & 0x7F) << shift
        shift += 7
    return value, at + 1


def number_in(message: memoryview, wanted: int) -> int:
    """The varint field of that number; 0, protobuf's default, where there is none."""
    return next((value for number, value in fields(message) if number == wanted and isinstance(value, int)), 0)


def bytes_in(message: memoryview, wanted: int) -> memoryview:
    """The first field of bytes of that number; empty where there is none."""
    found = (value for number, value in fields(message) if number == wanted and isinstance(value, memoryview))
    return next(found, memoryview(b""))
