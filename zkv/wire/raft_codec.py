"""What raft's cores say to each other, as codec.py packs it, written and read field by field: a leader's turn takes or
makes some such messages, and the general way (msgpack, and shapes.py behind it) takes three times as long.

    12 fields: number of Message, kind, to, sender, term, index, log term, commit, entries, reject, reject hint, context
    each of the entries, 5 fields: index, term, kind, time, body

Who speaks to whom is always the same between two members (`Pair`): so it is packed once, and compared as it lies. What
is read here is the usual: few entries, no number below 0. Of whatever else comes, codec.py says what it is, or that it
is nothing.
"""

from __future__ import annotations

from typing import Final

from librt.strings import BytesWriter, read_i32_be, read_i64_be

from zkv.wire import codec
from zkv.wire.messages import Entry, EntryKind, Message

HEAD: Final = codec.array_head(1 + len(Message._fields)) + codec.pack(codec.KIND_OF[Message])
"""What each message begins with. Then comes its kind."""
_HEAD_BYTES: Final = len(HEAD)
_ENTRY_FIELDS: Final = 0x90 | len(Entry._fields)
_FALSE: Final = 0xC2
_TRUE: Final = 0xC3


class _Unusual(Exception):
    """It is for codec.py to read."""


class Pair:
    """The core of one member, `sender`, that speaks to another's. `names`: as they stand behind the kind."""

    def __init__(self, to: int, sender: int) -> None:
        self.to = to
        self.sender = sender
        self.names = codec.pack(to) + codec.pack(sender)


def encoded(message: Message, pair: Pair, before: bytes) -> bytes:
    """`before`, which ends with HEAD, and the message."""
    kind, to, sender, term, index, log_term, commit, entries, reject, reject_hint, context = message
    assert (to, sender) == (pair.to, pair.sender), "a core speaks for itself"
    writer = BytesWriter()
    writer.write(before)
    codec.write_int(writer, kind)
    writer.write(pair.names)
    codec.write_int(writer, term)
    codec.write_int(writer, index)
    codec.write_int(writer, log_term)
    codec.write_int(writer, commit)
    writer.write(codec.array_head(len(entries)))
    for entry in entries:
        entry_index, entry_term, entry_kind, time, body = entry
        writer.append(_ENTRY_FIELDS)
        codec.write_int(writer, entry_index)
        codec.write_int(writer, entry_term)
        codec.write_int(writer, entry_kind)
        codec.write_int(writer, time)
        codec.write_bytes(writer, body)
    writer.append(_TRUE if reject else _FALSE)
    codec.write_int(writer, reject_hint)
    codec.write_int(writer, context)
    return writer.getvalue()


def read(data: bytes, at: int, pair: Pair) -> Message | None:
    """The message from `at` on, if it is a usual one between these two."""
    names = pair.names
    kind_at = at + _HEAD_BYTES
    at = kind_at + 1 + len(names)
    if len(data) <= at or data[kind_at + 1 : at] != names or data[kind_at - _HEAD_BYTES : kind_at] != HEAD:
        return None
    kind = data[kind_at]
    try:
        term, at = _number(data, at)
        index, at = _number(data, at)
        log_term, at = _number(data, at)
        commit, at = _number(data, at)
        entries, at = _entries(data, at)
        reject = data[at]
        reject_hint, at = _number(data, at + 1)
        context, at = _number(data, at)
    except (IndexError, _Unusual):
        return None
    if kind > 0x7F or reject not in (_FALSE, _TRUE) or at != len(data):
        return None
    to, sender, is_rejected = pair.to, pair.sender, reject == _TRUE
    fields = (kind, to, sender, term, index, log_term, commit, entries, is_rejected, reject_hint, context)
    return tuple.__new__(Message, fields)  # as messages are made in core/raft/replica.py


def _number(data: bytes, at: int) -> tuple[int, int]:
    """A natural number, and where it ends. Raises IndexError, _Unusual."""
    first = data[at]
    if first < 0x80:
        return first, at + 1
    if first == 0xCC:
        return data[at + 1], at + 2
    if first == 0xCD:
        return data[at + 1] << 8 | data[at + 2], at + 3
    if first == 0xCE:
        half: int = read_i32_be(data, at + 1)
        return half & 0xFFFFFFFF, at + 5
    if first == 0xCF:
        number = read_i64_be(data, at + 1)
        if number >= 0:  # else it takes all of 64 bits
            return number, at + 9
    raise _Unusual


def _entries(data: bytes, at: int) -> tuple[tuple[Entry, ...], int]:
    """As `_number`."""
    count = data[at] - 0x90
    at += 1
    if not 0 <= count < 16:
        raise _Unusual
    entries: list[Entry] = []
    for _ in range(count):
        if data[at] != _ENTRY_FIELDS:
            raise _Unusual
        index, at = _number(data, at + 1)
        term, at = _number(data, at)
        kind, at = _number(data, at)
        time, at = _number(data, at)
        if kind not in (EntryKind.BATCH, EntryKind.CONF_CHANGE):
            raise _Unusual
        body_at, at = _body(data, at)
        entries.append(tuple.__new__(Entry, (index, term, kind, time, data[body_at:at])))
    return tuple(entries), at


def _body(data: bytes, at: int) -> tuple[int, int]:
    """Where it begins, and where it ends. Raises IndexError, _Unusual."""
    first = data[at]
    if first == 0xC4:
        size, at = data[at + 1], at + 2
    elif first == 0xC5:
        size, at = data[at + 1] << 8 | data[at + 2], at + 3
    elif first == 0xC6:
        size, at = read_i32_be(data, at + 1), at + 5
    else:
        raise _Unusual
    if size < 0 or at + size > len(data):
        raise _Unusual
    return at, at + size
