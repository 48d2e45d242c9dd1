"""Records to bytes and back.

Between processes a message is the msgpack array `[kind, *fields]`, where `kind` says which class of
messages.py it is (`KINDS`). The body of a log entry is packed once, by the leader, and travels and lies on disk as it
is: raft looks at entry headers only.

What comes from another process of the same node or from another member is trusted to be well-formed as far
as its checksum and its authenticated channel go; still any byte string yields a record or a
`CorruptionError`, nothing else. What comes from clients passes `gateway/validate.py`.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import msgpack

from zkv.errors import CorruptionError
from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable

# One number per class, for ever. Append only.
KINDS: dict[int, type[NamedTuple]] = dict(
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
            ),
        ),
        start=1,
    )
)  # fmt: skip
KIND_OF: dict[type, int] = {cls: kind for kind, cls in KINDS.items()}

pack: Callable[[object], bytes] = msgpack.Packer(use_bin_type=True, autoreset=True).pack
"""Any tree of tuples, bytes, text, ints, bools and None as msgpack."""


def unpack(data: bytes | memoryview) -> Any:
    """The tree that `pack` was given, arrays as tuples.

    Raises CorruptionError for anything that is not exactly one msgpack value.
    """
    try:
        return msgpack.unpackb(data, use_list=False, raw=False, strict_map_key=True)
    except (ValueError, TypeError, RecursionError, msgpack.exceptions.UnpackException) as error:
        raise CorruptionError(f"not a message: {type(error).__name__}") from None


def encode(message: NamedTuple) -> bytes:
    return pack((KIND_OF[type(message)], *message))


def decode(data: bytes | memoryview) -> NamedTuple:
    """The message that `encode` was given.

    Nested records that raft and the actors look into come back as their classes; all else stays plain tuples.
    """
    fields = unpack(data)
    try:
        cls = KINDS[fields[0]]
        message = cls(*fields[1:])
        restore = _RESTORE.get(cls)
        return restore(message) if restore else message
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise CorruptionError(f"not a message: {type(error).__name__}") from None


# --- nested records ------------------------------------------------------------------------------


def _meta(fields: Any) -> m.SnapshotMeta:
    index, term, time, conf = fields
    return m.SnapshotMeta(index, term, time, m.ConfState(*conf))


def _members(fields: Any) -> tuple[m.Member, ...]:
    return tuple(m.Member(*member) for member in fields)


_ENTRIES = m.Message._fields.index("entries")


def _message(message: Any) -> NamedTuple:
    if not message.entries:
        return cast("m.Message", message)
    fields = list(message)
    fields[_ENTRIES] = tuple([m.Entry(*entry) for entry in message.entries])
    return m.Message(*fields)


def _chunk(fields: Any) -> m.SnapshotChunk:
    chunk = m.SnapshotChunk(*fields)
    return chunk._replace(meta=_meta(chunk.meta))


def _taken(message: Any) -> NamedTuple:
    installed = None if message.installed is None else _meta(message.installed)
    return m.SnapshotTaken(message.member, m.SnapshotAck(*message.ack), installed)


_RESTORE: dict[type, Any] = {
    m.Message: _message,
    m.Apply: lambda apply: m.Apply(apply.term, tuple([m.Entry(*entry) for entry in apply.entries])),
    m.StorageAt: lambda at: at if at.base is None else at._replace(base=_meta(at.base)),
    m.MembersAre: lambda are: m.MembersAre(_members(are.members), _members(are.removed), are.index),
    m.JoinAnswer: lambda answer: answer._replace(members=_members(answer.members)),
    m.StampedRead: lambda r: r if r.stamp is None else r._replace(stamp=m.Stamp(*r.stamp)),
    m.SnapshotChunk: _chunk,
    m.SnapshotOut: lambda out: m.SnapshotOut(out.member, _chunk(out.chunk)),
    m.SnapshotIn: lambda into: m.SnapshotIn(into.member, _chunk(into.chunk)),
    m.SnapshotTaken: _taken,
}


def decode_frame(frame: bytes) -> m.Frame:
    """A packed Frame; its groups stay packed."""
    try:
        return m.Frame(*unpack(frame))
    except TypeError:
        raise CorruptionError("not a frame") from None


def decode_conf_change(body: bytes) -> m.ConfChange:
    try:
        return m.ConfChange(*unpack(body))
    except TypeError:
        raise CorruptionError("not a conf change") from None


# --- entries on disk and between members --------------------------------------------------------------

_ENTRY = struct.Struct(">IIQQQB")  # checksum of all that follows it, body length, index, term, time, kind
ENTRY_HEADER_BYTES = _ENTRY.size


def encode_entry(entry: m.Entry) -> bytes:
    """An entry as it lies in the raft log: header (big endian, checksum first), then its body."""
    head = _ENTRY.pack(0, len(entry.body), entry.index, entry.term, entry.time, entry.kind)
    checksum = zlib.crc32(entry.body, zlib.crc32(head[4:]))
    return b"".join((checksum.to_bytes(4, "big"), head[4:], entry.body))


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
    if zlib.crc32(body, zlib.crc32(data[offset + 4 : end])) != checksum:
        raise CorruptionError(f"checksum of log entry {index} does not fit")
    return m.Entry(index, term, kind, time, body), end + size
