"""The words of RFC 9113: error codes, frame types, flags, settings, and frames as bytes."""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final

from librt.strings import BytesWriter, write_i32_be

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

WINDOW_MAX: Final = (1 << 31) - 1
STREAM_ID_MAX: Final = (1 << 31) - 1
DEFAULT_WINDOW: Final = 65_535
DEFAULT_FRAME_BYTES_MAX: Final = 16_384
FRAME_BYTES_MAX_MAX: Final = (1 << 24) - 1
FRAME_HEADER_BYTES: Final = 9

DATA: Final = 0
HEADERS: Final = 1
PRIORITY: Final = 2
RST_STREAM: Final = 3
SETTINGS: Final = 4
PUSH_PROMISE: Final = 5
PING: Final = 6
GOAWAY: Final = 7
WINDOW_UPDATE: Final = 8
CONTINUATION: Final = 9

END_STREAM: Final = 0x1  # DATA, HEADERS
ACK: Final = 0x1  # SETTINGS, PING
END_HEADERS: Final = 0x4  # HEADERS, CONTINUATION
PADDED: Final = 0x8  # DATA, HEADERS
PRIORITIZED: Final = 0x20  # HEADERS

HEADER_TABLE_SIZE: Final = 1
ENABLE_PUSH: Final = 2
MAX_CONCURRENT_STREAMS: Final = 3
INITIAL_WINDOW_SIZE: Final = 4
MAX_FRAME_SIZE: Final = 5
MAX_HEADER_LIST_SIZE: Final = 6
NO_RFC7540_PRIORITIES: Final = 9  # RFC 9218


class ErrorCode(IntEnum):
    """Section 7."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11
    INADEQUATE_SECURITY = 12
    HTTP_1_1_REQUIRED = 13


class ConnectionFault(Exception):
    """The peer broke the connection's rules: GOAWAY with `code`, and the end. `reason` is for people, and never the
    peer's bytes.
    """

    def __init__(self, code: ErrorCode, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


class StreamFault(Exception):
    """The peer broke a stream's rules: RST_STREAM with `code`."""

    def __init__(self, code: ErrorCode, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


_long: Final = struct.Struct(">I")
_setting: Final = struct.Struct(">HI")
pack_u32: Final = _long.pack
unpack_u32: Final = _long.unpack_from
iter_settings: Final = _setting.iter_unpack


def write_header(out: BytesWriter, size: int, kind: int, flags: int, stream_id: int) -> None:
    """What a frame begins with: the length of its payload, type, flags, stream id without the reserved bit."""
    out.append(size >> 16)
    out.append(size >> 8 & 0xFF)
    out.append(size & 0xFF)
    out.append(kind)
    out.append(flags)
    write_i32_be(out, stream_id)


def header(size: int, kind: int, flags: int, stream_id: int) -> bytes:
    """The same, for a payload that follows by itself."""
    out = BytesWriter()
    write_header(out, size, kind, flags, stream_id)
    return out.getvalue()


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """One frame; `payload` is no longer than the peer takes."""
    return header(len(payload), kind, flags, stream_id) + payload


def settings(pairs: dict[int, int]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join(_setting.pack(*pair) for pair in pairs.items()))


def window_update(stream_id: int, increment: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream_id, pack_u32(increment))


def rst_stream(stream_id: int, code: int) -> bytes:
    return frame(RST_STREAM, 0, stream_id, pack_u32(code))


def goaway(last_stream_id: int, code: int, reason: str = "") -> bytes:
    return frame(GOAWAY, 0, 0, pack_u32(last_stream_id) + pack_u32(code) + reason.encode())
