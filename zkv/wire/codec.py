"""Records to bytes and back.

Between processes a message is the msgpack array `[kind, *fields]`, where `kind` says which class of
messages.py it is (`KINDS`). The body of a log entry is packed once, by the leader, and travels and lies on disk as it
is: raft looks at entry headers only.

What comes from another process of the same node or from another member is trusted as far as its checksum and its
authenticated channel go; still any byte string yields a record of just the shape it is to have (shapes.py) or a
`CorruptionError`, nothing else. What comes from clients passes `gateway/validate.py`.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar, cast
from zlib import crc32

import msgpack
from librt.strings import BytesWriter, write_i32_be, write_i64_be

from zkv.errors import CorruptionError
from zkv.wire import messages as m
from zkv.wire.shapes import Misfit, shape_of

if TYPE_CHECKING:
    from collections.abc import Callable

R = TypeVar("R", bound=tuple[Any, ...])

# One number per class, for ever. Append only.
KINDS: Final[dict[int, type[NamedTuple]]] = dict(
    enumerate(
        cast(
            "tuple[type[NamedTuple], ...]",
            (
                m.Message, m.Rejoin, m.Forward, m.ForwardRefused, m.SnapshotChunk, m.SnapshotAck,
                m.Hello, m.Propose, m.Read, m.Refused, m.StampedRead, m.StorageAt, m.Apply, m.GatewayAnswers,
                m.StreamCredit, m.LeaderIs, m.Applied, m.SnapshotWanted, m.SnapshotOut, m.SnapshotIn, m.SnapshotTaken,
                m.MembersAre, m.RejoinAnswer,
                m.WatchNeeds, m.HistoryWanted, m.History, m.WatchWords, m.WatchOut, m.LeaseRequests, m.LeaseNews,
                m.Relay, m.Newcomer, m.NewcomerAnswer, m.Dismissed, m.Join, m.JoinAnswer, m.Gauges,
                m.HashWanted, m.HashIs, m.DigestsWanted, m.DigestsAre,
                m.CurveKeyIs, m.Admit, m.Admitted, m.Dismiss, m.Acquaint, m.PeerKeyIs, m.Slow, m.AuthNews,
                m.ReadAhead, m.AnsweredAhead, m.Confirmed,
            ),
        ),
        start=1,
    )
)  # fmt: skip
KIND_OF: Final[dict[type, int]] = {cls: kind for kind, cls in KINDS.items()}

pack: Final[Callable[[object], bytes]] = msgpack.Packer(use_bin_type=True, autoreset=True).pack
"""Any tree of tuples, bytes, text, ints, bools and None as msgpack."""
_unpackb: Final[Callable[..., object]] = msgpack.unpackb  # compiled, a name of this module is nearer than another's

_SHORT_ARRAYS: Final = [bytes((0x90 | count,)) for count in range(16)]


def array_head(count: int) -> bytes:
    """What an array of so many begins with; they follow, packed one by one."""
    if count < 16:
        return _SHORT_ARRAYS[count]
    if count < 1 << 16:
        return b"\xdc" + count.to_bytes(2, "big")
    return b"\xdd" + count.to_bytes(4, "big")


_NEAR_MAX: Final = (1 << 62) - 1  # beyond, compiled code keeps integers as objects, and a comparison takes a call


def write_int(writer: BytesWriter, number: int) -> None:
    """What `pack` makes of it, sooner."""
    if 0 <= number < 1 << 7:
        writer.append(number)
    elif not 0 < number <= _NEAR_MAX:
        writer.write(pack(number))
    elif number < 1 << 8:
        writer.append(0xCC)
        writer.append(number)
    elif number < 1 << 16:
        writer.append(0xCD)
        writer.append(number >> 8)
        writer.append(number & 0xFF)
    elif number < 1 << 32:
        writer.append(0xCE)
        write_uint32(writer, number)
    else:
        writer.append(0xCF)
        write_i64_be(writer, number)


def write_uint32(writer: BytesWriter, number: int) -> None:
    """In four bytes."""
    write_i32_be(writer, number if number < 1 << 31 else number - (1 << 32))


def write_bytes(writer: BytesWriter, data: bytes) -> None:
    """As `write_int`."""
    size = len(data)
    if size < 1 << 8:
        writer.append(0xC4)
        writer.append(size)
    elif size < 1 << 16:
        writer.append(0xC5)
        writer.append(size >> 8)
        writer.append(size & 0xFF)
    else:
        writer.write(pack(data))
        return
    writer.write(data)


def unpack(data: bytes | memoryview) -> Any:
    """The tree that `pack` was given, arrays as tuples.

    Raises CorruptionError for anything that is not exactly one msgpack value.
    """
    try:
        return _unpackb(data, use_list=False, raw=False, strict_map_key=True)
    except (ValueError, TypeError, RecursionError, msgpack.exceptions.UnpackException) as error:
        raise CorruptionError(f"not a message: {type(error).__name__}") from None


def encode(message: NamedTuple) -> bytes:
    return pack((KIND_OF[type(message)],) + message)  # noqa: RUF005 - compiled, a third of the time of an unpacking


def decode(data: bytes | memoryview) -> NamedTuple:
    """The message that `encode` was given, and the records within it, as far as they have the shape they are to have.

    Raises CorruptionError.
    """
    fields = unpack(data)
    kind = fields[0] if type(fields) is tuple and fields else None
    cls = KINDS.get(kind) if type(kind) is int else None
    if cls is None:
        raise CorruptionError("not a message")
    return _record(cls, fields[1:])


def decode_frame(frame: bytes) -> m.Frame:
    """A packed Frame; its groups stay packed."""
    return _record(m.Frame, unpack(frame))


def is_frame(data: bytes) -> bool:
    """Of what another member forwards: what is none must not come into the log, where it would end all members."""
    try:
        decode_frame(data)
    except CorruptionError:
        return False
    return True


def decode_conf_change(body: bytes) -> m.ConfChange:
    return _record(m.ConfChange, unpack(body))


def _record(cls: type[R], fields: object) -> R:
    try:
        return cast("R", shape_of(cls).read(fields))
    except Misfit:
        raise CorruptionError(f"not a {cls.__name__}") from None


# --- entries on disk and between members --------------------------------------------------------------

_ENTRY = struct.Struct(">IIQQQB")  # checksum of all that follows it, body length, index, term, time, kind
ENTRY_HEADER_BYTES = _ENTRY.size


def encode_entry(entry: m.Entry) -> bytes:
    """An entry as it lies in the raft log: header (big endian, checksum first), then its body."""
    return entry_header(entry) + entry.body


def entry_header(entry: m.Entry) -> bytes:
    index, term, kind, time, body = entry
    writer = BytesWriter()
    write_uint32(writer, len(body))
    write_i64_be(writer, index)
    write_i64_be(writer, term)
    write_i64_be(writer, time)
    writer.append(kind)
    head = writer.getvalue()  # without its checksum
    return crc32(body, crc32(head)).to_bytes(4, "big") + head


def decode_entry(data: bytes | memoryview, offset: int = 0) -> tuple[m.Entry, int]:
    """The entry at `offset`, and the offset behind it.

    Raises CorruptionError when bytes are missing or the checksum does not fit.
    """
    end = offset + ENTRY_HEADER_BYTES
    if end > len(data):
        raise CorruptionError("log entry cut short")
    checksum, size, index, term, time, kind = _ENTRY.unpack_from(data, offset)
    body = bytes(data[end : end + size])
    if len(body) != size:
        raise CorruptionError("log entry cut short")
    if crc32(body, crc32(data[offset + 4 : end])) != checksum:
        raise CorruptionError(f"checksum of log entry {index} does not fit")
    return m.Entry(index, term, kind, time, body), end + size
