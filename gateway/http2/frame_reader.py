"""Bytes, as they fall, to frames: the preface, frame boundaries and sizes, and header blocks made whole.

    PREFACE   the client's 24 bytes             then
    GREETING  its first frame, SETTINGS         then
    FRAMES    any; but after HEADERS without END_HEADERS only CONTINUATION of the same stream, until it has them

What is kept between two reads is less than one frame, and one header block.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from librt.strings import read_i32_be

from zkv.gateway.http2.words import (
    ACK,
    CONTINUATION,
    END_HEADERS,
    FRAME_BYTES_MAX_MAX,
    FRAME_HEADER_BYTES,
    HEADERS,
    PADDED,
    PREFACE,
    PRIORITIZED,
    SETTINGS,
    STREAM_ID_MAX,
    ConnectionFault,
    ErrorCode,
)

if TYPE_CHECKING:
    from zkv.gateway.http2.limits import Http2Limits

_PREFACE: Final = 0
_GREETING: Final = 1
_FRAMES: Final = 2
_PRIORITY_BYTES: Final = 5


class _Block(NamedTuple):
    """A header block that is not whole."""

    stream_id: int
    flags: int
    parts: bytearray
    since: int


class FrameReader:
    """Of one connection: `feed` it what was read, then go from frame to frame, to the end.

    After a ConnectionFault it is not to be used again.
    """

    def __init__(self, limits: Http2Limits, now: int) -> None:
        self.kind = self.flags = self.stream_id = 0
        self.payload = b""
        """Of the frame that `next` has found. That of HEADERS is the whole block, without padding and priority."""
        self._data = b""
        self._position = 0
        self._now = now
        self._limits = limits
        self._frame_bytes_max = limits.frame_bytes_max
        self._phase = _PREFACE
        self._pending = bytearray()  # the start of a frame ...
        self._needed = len(PREFACE)  # ... and how long it is, as far as is known
        self._pending_since = now
        self._block: _Block | None = None
        self._continuations = 0

    @property
    def greeted(self) -> bool:
        """Preface and SETTINGS were there."""
        return self._phase == _FRAMES

    def feed(self, data: bytes, now: int) -> None:
        """What was read. Raises ConnectionFault."""
        self._now = now
        pending = self._pending
        if pending:
            # Gathered until the frame is whole, so that one that drips in costs its bytes, not their square.
            pending += data
            if len(pending) < self._needed:
                return
            data = bytes(pending)
            pending.clear()
        self._data = data
        self._position = 0
        if self._phase == _PREFACE:
            if not data.startswith(PREFACE[: len(data)]):
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "not HTTP/2")
            if len(data) >= len(PREFACE):
                self._position = len(PREFACE)
                self._phase = _GREETING

    def next(self) -> bool:
        """Is there another frame that is whole? CONTINUATION is never found. Raises ConnectionFault."""
        data = self._data
        end = len(data)
        while end:
            position = self._position
            needed = FRAME_HEADER_BYTES if self._phase != _PREFACE else len(PREFACE)
            if end - position >= needed:
                length_and_kind = read_i32_be(data, position)
                size: int = length_and_kind >> 8 & FRAME_BYTES_MAX_MAX
                kind: int = length_and_kind & 0xFF
                flags: int = data[position + 4]
                stream_id: int = read_i32_be(data, position + 5) & STREAM_ID_MAX  # but for the reserved bit
                if size > self._frame_bytes_max:
                    raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a frame larger than SETTINGS said")
                needed = FRAME_HEADER_BYTES + size
            if end - position < needed:
                self._keep(needed)
                return False
            start = position + FRAME_HEADER_BYTES
            self._position = position + needed
            payload = data[start : position + needed]
            if self._phase == _GREETING:
                if kind != SETTINGS or flags & ACK:
                    raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the first frame is not SETTINGS")
                self._phase = _FRAMES
            if kind == HEADERS and (flags & (PADDED | PRIORITIZED) or not flags & END_HEADERS):
                payload = _bare(flags, payload)
                if not flags & END_HEADERS and self._block is None:
                    self._block = _Block(stream_id, flags, bytearray(payload), self._now)
                    continue
            if self._block is not None:
                self._continue(kind, stream_id, payload)
                if not flags & END_HEADERS:
                    continue
                kind, flags, payload = HEADERS, self._block.flags | END_HEADERS, bytes(self._block.parts)
                self._block = None
                self._continuations = 0
            elif kind == CONTINUATION:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "CONTINUATION of nothing")
            self.kind, self.flags, self.stream_id, self.payload = kind, flags, stream_id, payload
            return True
        return False

    def _keep(self, needed: int) -> None:
        """What is not whole, of which so many bytes are needed."""
        self._needed = needed
        if self._position < len(self._data):
            self._pending += memoryview(self._data)[self._position :]
            self._pending_since = self._now
        self._data = self.payload = b""
        self._position = 0

    def check_times(self, now: int) -> None:
        """Raises ConnectionFault when a frame, or a block, was begun too long ago."""
        since = self._pending_since if self._pending else now
        if self._block is not None:
            since = min(since, self._block.since)
        if self.greeted and now - since >= self._limits.frame_ms:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "a frame begun and not ended in time")

    def _continue(self, kind: int, stream_id: int, payload: bytes) -> None:
        block = self._block
        assert block is not None
        if kind != CONTINUATION or stream_id != block.stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a frame within a header block")
        parts = block.parts
        parts += payload
        self._continuations += 1
        limits = self._limits
        if len(parts) > limits.header_block_bytes_max or self._continuations > limits.continuations_max:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "a header block without end")  # CVE-2024-27316


def _bare(flags: int, payload: bytes) -> bytes:
    """6.2: a part of a header block, without its padding and priority. Raises ConnectionFault."""
    start, stop = unpadded(payload) if flags & PADDED else (0, len(payload))
    if flags & PRIORITIZED:
        start += _PRIORITY_BYTES
        if start > stop:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "HEADERS too short for their priority")
    return payload[start:stop]


def unpadded(payload: bytes) -> tuple[int, int]:
    """6.1, 6.2: where what is padded begins, and ends. Raises ConnectionFault."""
    if not payload:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "no room for the padding's length")
    stop = len(payload) - payload[0]
    if stop < 1:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "padding longer than its frame")
    return 1, stop
