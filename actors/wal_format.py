"""How the raft log lies in its files: names, segment headers, frames. Bytes in, records out; no file is touched here.

    SEQUENCE-INDEX.wal      a segment, both numbers as 16 hex digits (as etcd names them): the how-manieth, and
                            the index that was next when it was begun
    SEQUENCE.spare          a segment no longer needed, kept to be written again

    segment = header, frame, frame, ..., seal, and then whatever was there before
    header  = magic, sequence, nonce, checksum
    frame   = nonce, number, size of meta, size of entries, checksum, checksum of this header; meta; entries
    seal    = the header of a frame that has the next number, and nothing in it

One frame is what one sync made durable. Frames are numbered through all segments. The `nonce` is drawn when
a segment is begun, so bytes of its former life are never taken for a frame of this one, and frames can be
found by searching for it. The frame's checksum covers its meta and the header of each entry, which in turn has a
checksum of the entry's body (codec.encode_entry): every byte is under one, and the bodies are gone through once.

The meta is what changed besides the entries (`Change`); the first frame of a segment repeats all of it, so that
no older segment is needed for it.

**Torn or damaged?** A frame is written only after the one before it was synced, and once it is synced itself a seal is
written where the next one will begin; the seal is not synced, it goes to the disk with the next frame, or when the
kernel thinks fit. So a frame that does not verify was damaged later if anything with a higher number follows it, frame
or seal, and is a write cut short by a crash if nothing does. (What is left: a power loss that took the seal, and damage
to that very frame besides.)
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from zlib import crc32

from librt.strings import BytesWriter, write_i64_be

from zkv.errors import CorruptionError
from zkv.wire import codec
from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Sequence

MAGIC: Final = b"zkvwal\x00\x01"
_SEGMENT: Final = struct.Struct(">8sQ8sI")
SEGMENT_HEADER_BYTES: Final = _SEGMENT.size
_FRAME: Final = struct.Struct(">8sQIIII")
FRAME_HEADER_BYTES: Final = _FRAME.size
SEAL_BYTES: Final = FRAME_HEADER_BYTES
_NAME: Final = re.compile(r"([0-9a-f]{16})-[0-9a-f]{16}\.wal")
_SPARE_NAME: Final = re.compile(r"([0-9a-f]{16})\.spare")


class Change:
    """What one frame does to the log, in this order; None and 0 mean: nothing.

    `reset` empties it; `base` forgets what is not behind it; entries from `first` on are cut off and those
    of the frame put there. (Each sync makes one, and a tuple with names takes ten times as long to make.)
    """

    def __init__(
        self,
        *,
        reset: bool = False,
        base: m.SnapshotMeta | None = None,
        hard_state: m.HardState | None = None,
        conf: m.ConfState | None = None,
        first: int = 0,
    ) -> None:
        self.reset = reset
        self.base = base
        self.hard_state = hard_state
        self.conf = conf
        self.first = first


class Frame(NamedTuple):
    """`entries`: each with the offset in the segment at which it lies."""

    change: Change
    entries: list[tuple[int, m.Entry]]
    end: int


def segment_name(sequence: int, next_index: int) -> str:
    return f"{sequence:016x}-{next_index:016x}.wal"


def spare_name(sequence: int) -> str:
    return f"{sequence:016x}.spare"


def segment_sequence(name: str) -> int | None:
    """The sequence number in a segment's name; None for any other file."""
    matched = _NAME.fullmatch(name)
    return int(matched[1], 16) if matched else None


def spare_sequence(name: str) -> int | None:
    matched = _SPARE_NAME.fullmatch(name)
    return int(matched[1], 16) if matched else None


def encode_segment_header(sequence: int, nonce: bytes) -> bytes:
    head = _SEGMENT.pack(MAGIC, sequence, nonce, 0)[:-4]
    return head + crc32(head).to_bytes(4, "big")


def decode_segment_header(data: bytes, sequence: int) -> bytes:
    """The nonce of segment `sequence`. Raises CorruptionError; a segment gets its name only when it has its header."""
    if len(data) < SEGMENT_HEADER_BYTES:
        raise CorruptionError("segment header cut short")
    magic, found, nonce, checksum = _SEGMENT.unpack_from(data)
    if crc32(data[: SEGMENT_HEADER_BYTES - 4]) != checksum:
        raise CorruptionError("checksum of the segment header does not fit")
    if magic != MAGIC:
        raise CorruptionError("not a log segment of this version")
    if found != sequence:
        raise CorruptionError(f"segment {found} under the name of segment {sequence}")
    assert isinstance(nonce, bytes)
    return nonce


def encode_frame(nonce: bytes, number: int, change: Change, entries: Sequence[m.Entry]) -> tuple[bytes, int]:
    """The frame, and where in it the entries begin."""
    meta = codec.pack((change.reset, change.base, change.hard_state, change.conf, change.first))
    parts = [b"", meta]
    size = 0
    checksum = crc32(meta)
    for entry in entries:
        header, body = codec.entry_header(entry), entry.body
        checksum = crc32(header, checksum)
        size += len(header) + len(body)
        parts.append(header)
        parts.append(body)
    parts[0] = _frame_head(nonce, number, len(meta), size, checksum)
    return b"".join(parts), FRAME_HEADER_BYTES + len(meta)


def _frame_head(nonce: bytes, number: int, meta_bytes: int, entries_bytes: int, checksum: int) -> bytes:
    writer = BytesWriter()
    writer.write(nonce)
    write_i64_be(writer, number)
    codec.write_uint32(writer, meta_bytes)
    codec.write_uint32(writer, entries_bytes)
    codec.write_uint32(writer, checksum)
    codec.write_uint32(writer, crc32(writer.getvalue()))
    return writer.getvalue()


def encode_seal(nonce: bytes, number: int) -> bytes:
    """What says that all frames before `number` were synced. No frame is without meta."""
    return _frame_head(nonce, number, 0, 0, 0)


def _frame_header(data: bytes, offset: int, nonce: bytes) -> tuple[int, int, int, int] | None:
    """(number, size of meta, size of entries, checksum), if a frame of this segment begins at `offset`."""
    if offset + FRAME_HEADER_BYTES > len(data):
        return None
    found, number, meta_bytes, entries_bytes, checksum, head_checksum = _FRAME.unpack_from(data, offset)
    if found != nonce or crc32(data[offset : offset + FRAME_HEADER_BYTES - 4]) != head_checksum:
        return None
    return number, meta_bytes, entries_bytes, checksum


def decode_frame(data: bytes, offset: int, nonce: bytes, number: int) -> Frame | None:
    """Frame `number` at `offset`; None if it is not there, or not whole."""
    header = _frame_header(data, offset, nonce)
    if header is None or header[0] != number or not header[1]:
        return None
    _, meta_bytes, entries_bytes, expected = header
    start = offset + FRAME_HEADER_BYTES
    at = start + meta_bytes
    end = at + entries_bytes
    meta = data[start:at]
    checksum = crc32(meta)
    entries: list[tuple[int, m.Entry]] = []
    try:
        while at < end:
            entry, behind = codec.decode_entry(data, at)
            checksum = crc32(data[at : at + codec.ENTRY_HEADER_BYTES], checksum)
            entries.append((at, entry))
            at = behind
    except CorruptionError:
        return None
    if at != end or checksum != expected:
        return None
    return Frame(_change(codec.unpack(meta)), entries, end)


def find_later(data: bytes, offset: int, nonce: bytes, number: int) -> int | None:
    """Where, at or behind `offset`, a frame or seal numbered higher than `number` begins."""
    while (offset := data.find(nonce, offset)) >= 0:
        header = _frame_header(data, offset, nonce)
        if header is not None and header[0] > number:
            return offset
        offset += 1
    return None


def is_torn(data: bytes, offset: int, nonce: bytes, number: int) -> bool:
    """Was frame `number`, which cannot be read, begun at `offset`?"""
    seal = encode_seal(nonce, number)
    return data.startswith(nonce, offset) and not data.startswith(seal, offset)


def first_frame_number(data: bytes, nonce: bytes) -> int:
    """Raises CorruptionError: a segment gets its name only when its first frame is on the disk."""
    header = _frame_header(data, SEGMENT_HEADER_BYTES, nonce)
    if header is None:
        raise CorruptionError("the first frame of the segment is damaged")
    return header[0]


def _change(fields: Any) -> Change:
    reset, base, hard_state, conf, first = fields
    if base is not None:
        index, term, time, base_conf = base
        base = m.SnapshotMeta(index, term, time, m.ConfState(*base_conf))
    return Change(
        reset=reset,
        base=base,
        hard_state=None if hard_state is None else m.HardState(*hard_state),
        conf=None if conf is None else m.ConfState(*conf),
        first=first,
    )
