"""gRPC's messages: five bytes in front of each (is it compressed? how long is it?), across DATA frames as they fall.

    flag (1)  length (4, big-endian)  message (length)

A message is refused by its length before any of it is kept, and a compressed one by what it would become, before it
does: gzip makes a thousand bytes of one.
"""

from __future__ import annotations

import zlib
from typing import Final

from librt.strings import BytesWriter, write_i32_be

from zkv.gateway.http2.grpc_words import GrpcFault, Status
from zkv.gateway.http2.words import unpack_u32

PREFIX_BYTES: Final = 5
COMPRESSION_LEVEL: Final = 1
"""The line is seldom what is short here."""
COMPRESSED_BYTES_MIN: Final = 512
"""A message below this is sent as it is."""

_GZIP_WINDOW: Final = 31


def too_large(size: int, most: int) -> GrpcFault:
    return GrpcFault(Status.RESOURCE_EXHAUSTED, f"grpc: received message larger than max ({size} vs. {most})")


class Assembler:
    """Of one call: DATA in, messages out."""

    __slots__ = ("_bytes_max", "_needed", "_parts")

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._parts = bytearray()
        self._needed = PREFIX_BYTES

    @property
    def held(self) -> int:
        """Bytes kept of a message that is not whole."""
        return len(self._parts)

    @property
    def missing(self) -> int:
        """Bytes until it is, or until it is known how long it is."""
        return self._needed - len(self._parts)

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """(flag, message) of all that are whole now. Raises GrpcFault."""
        parts = self._parts
        if parts:
            parts += data
            if len(parts) < self._needed:
                return []
            data = bytes(parts)
            parts.clear()
        found: list[tuple[int, bytes]] = []
        position = 0
        left = len(data)
        while left >= PREFIX_BYTES:
            flag = data[position]
            size = unpack_u32(data, position + 1)[0]
            if flag > 1:
                raise GrpcFault(Status.INTERNAL, f"grpc: received unexpected payload format {flag}")
            if size > self._bytes_max:
                raise too_large(size, self._bytes_max)
            if left < PREFIX_BYTES + size:
                self._needed = PREFIX_BYTES + size
                break
            start = position + PREFIX_BYTES
            position = start + size
            left = len(data) - position
            found.append((flag, data[start:position]))
        else:
            self._needed = PREFIX_BYTES
        if left:
            parts += memoryview(data)[position:]
        return found


def decompress(data: bytes, bytes_max: int) -> bytes:
    """Of gzip, one member. Raises GrpcFault."""
    machine = zlib.decompressobj(_GZIP_WINDOW)
    try:
        out = machine.decompress(data, bytes_max + 1)
    except zlib.error:
        raise GrpcFault(Status.INTERNAL, "grpc: failed to decompress the received message") from None
    if len(out) > bytes_max:
        raise too_large(len(out), bytes_max)
    if not machine.eof or machine.unused_data:
        raise GrpcFault(Status.INTERNAL, "grpc: failed to decompress the received message")
    return out


def prefixed(flag: int, data: bytes) -> bytes:
    out = BytesWriter()
    out.append(flag)
    write_i32_be(out, len(data))
    out.write(data)
    return out.getvalue()


def message(data: bytes, *, gzip: bool) -> bytes:
    """`data` as it goes out."""
    if gzip and len(data) >= COMPRESSED_BYTES_MIN:
        machine = zlib.compressobj(COMPRESSION_LEVEL, zlib.DEFLATED, _GZIP_WINDOW)
        packed = machine.compress(data) + machine.flush()
        if len(packed) < len(data):
            return prefixed(1, packed)
    return prefixed(0, data)
