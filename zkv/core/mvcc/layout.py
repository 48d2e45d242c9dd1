"""How revisions lie in the engine: every key and record of the store, and nothing that decides.

A new store is at revision 1. Say a client puts a=1, then deletes a, then in one txn puts a=2 and b=3:

    revision  2: put a=1         3: delete a        4: put a=2 (sub 0), put b=3 (sub 1)

The engine then holds, all integers big endian, so that bytes sort as numbers do:

    current   k a          -> mod 4 sub 0 create 4 version 1 lease 0, value 2
              k b          -> mod 4 sub 1 create 4 version 1 lease 0, value 3
    events    E 2 0        -> put,       create 2, version 1, supersedes nothing, key a, value 1
              E 3 0        -> tombstone,                      supersedes 2 0,     key a
              E 4 0        -> put,       create 4, version 1, supersedes nothing, key a, value 2
              E 4 1        -> put,       create 4, version 1, supersedes nothing, key b, value 3
    history   h a. ~4 ~0   -> put
              h a. ~3 ~0   -> tombstone
              h a. ~2 ~0   -> put
              h b. ~4 ~1   -> put

- The present is read from `current` alone, so a key with a million versions costs what one with a single one costs.
- The past at revision R is read by seeking to `h key. ~R`: the first entry from there is the newest version not after
  R (~ turns the order round). The value is in the event that it names.
- Watchers catch up, and hashes are made, by walking `events`. They come before all else: what is young reaches from its
  first event on, so that merging it in an engine of sorted tables leaves alone the tables of older events.
- Compaction at C walks the events up to C. Each names the one it supersedes, which nobody can ask for any more: that
  event and its history entry go, and a tombstone goes itself. After compaction at 3 only revision 4 is left above.

The key in a history entry is escaped (00 becomes 00 FF) and ended by 00 00, so that the order of the entries
is the order of the keys, whatever bytes follow (the "memcomparable" form known from TiKV and MyRocks).

A lease of id 7 with the key a:

    lease     l 7          -> ttl 10, until 16000, not counted
    attached  a 7 a        -> nothing

`until` is the time of the cluster clock, ms, up to which the log lets it live (core/mvcc/leases.py).

Beside them: `m` members, `d` former ones, `n` alarms, `u` users, `o` roles, `p` prefix policies, `s` sessions, `q` the
queue in which sessions grow old, `x` the store's own place.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from librt.strings import BytesWriter, read_i32_be, read_i64_be, write_i32_be, write_i64_be

from zkv.errors import CorruptionError
from zkv.wire.messages import KeyValue

CURRENT: Final = b"k"
EVENT: Final = b"E"
FORMER_EVENT: Final = b"r"
"""Where they lay once: such a store is refused."""
HISTORY: Final = b"h"
LEASE: Final = b"l"
MEMBER: Final = b"m"
REMOVED_MEMBER: Final = b"d"
ALARM: Final = b"n"
USER: Final = b"u"
ROLE: Final = b"o"
QUOTA: Final = b"p"
ATTACHED: Final = b"a"
SESSION: Final = b"s"
SESSION_QUEUE: Final = b"q"
PLACE: Final = b"xplace"
COMPACTION: Final = b"xcompaction"
AUTH: Final = b"xauth"
BOUND: Final = b"\xff"
"""After all keys of the store."""

CURRENT_HEAD_BYTES: Final = 36  # mod revision, sub (of 4 bytes), create revision, version, lease
EVENT_HEAD_BYTES: Final = 41  # flags (1), create, version, lease, superseded revision and sub (4), key length (4)
_HISTORY_PLACE_BYTES: Final = 12  # revision and sub (4), inverted
_ID_BYTES: Final = 9  # prefix, id

PUT_FLAG: Final = 0
TOMBSTONE_FLAG: Final = 1
PUT_MARK: Final = b"\0"
TOMBSTONE_MARK: Final = b"\1"
_INT64_MAX: Final = (1 << 63) - 1


class Place(NamedTuple):
    """Where the store stands in the log, and all that goes with it.

    Entries up to `applied` are applied whole; of the one behind it, `begun` - 1 requests (0: it was not begun).
    `term` and `time` are those of the newest entry begun; `conf` is the packed ConfState in force.
    """

    applied: int
    begun: int
    term: int
    time: int
    revision: int
    compacted: int
    sessions: int
    horizon: int
    conf: bytes


def after_prefix(prefix: bytes) -> bytes:
    """The first key behind all those that begin with `prefix` (which does not end in FF)."""
    return prefix[:-1] + bytes((prefix[-1] + 1,))


def current_range(key: bytes, range_end: bytes) -> tuple[bytes, bytes]:
    """From where to where the current records of etcd's [key, range_end) lie. A range that is none is empty."""
    start = CURRENT + key
    if not range_end:
        return start, start + b"\0"
    return start, after_prefix(CURRENT) if range_end == b"\0" else max(start, CURRENT + range_end)


def history_range(key: bytes, range_end: bytes) -> tuple[bytes, bytes]:
    """As `current_range`, for the history."""
    start = HISTORY + escaped(key)
    if not range_end:
        return start + b"\0\0", start + b"\0\1"
    return start, after_prefix(HISTORY) if range_end == b"\0" else max(start, HISTORY + escaped(range_end))


def escaped(key: bytes) -> bytes:
    return key.replace(b"\0", b"\0\xff") if 0 in key else key  # `b"\0" in key` makes an exception each time


# Integers are written and read as signed ones, which makes the same bytes of whatever counts: that never comes to half
# of what there is room for. Only ids may be as large.


def event_key(revision: int, sub: int) -> bytes:
    writer = BytesWriter()
    writer.write(EVENT)
    write_i64_be(writer, revision)
    write_i32_be(writer, sub)
    return writer.getvalue()


def event_of(name: bytes) -> tuple[int, int]:
    """Revision and sub, of an event's key in the engine."""
    return read_i64_be(name, 1), read_i32_be(name, 9)


def history_key(key: bytes, revision: int, sub: int) -> bytes:
    return _history_key(key, ~revision, ~sub)


def _history_key(key: bytes, revision: int, sub: int) -> bytes:
    writer = BytesWriter()
    writer.write(HISTORY)
    writer.write(escaped(key))
    writer.write(b"\0\0")
    write_i64_be(writer, revision)
    write_i32_be(writer, sub)
    return writer.getvalue()


def history_of(entry: bytes) -> tuple[bytes, int, int]:
    """The key, revision and sub of a history entry's key."""
    end = len(entry) - _HISTORY_PLACE_BYTES
    key = entry[1 : end - 2].replace(b"\0\xff", b"\0")
    return key, ~read_i64_be(entry, end), ~read_i32_be(entry, end + 8)


def history_before(key: bytes, revision: int) -> bytes:
    """Where the entries of `key` not after `revision` begin."""
    return _history_key(key, ~revision, 0)


def history_after(entry: bytes) -> bytes:
    """Behind all entries of the key that `entry` belongs to."""
    return entry[: -_HISTORY_PLACE_BYTES - 1] + b"\1"


def history_first(entry: bytes) -> bytes:
    """Before all entries of the key that `entry` belongs to."""
    return entry[:-_HISTORY_PLACE_BYTES]


def packed_current(revision: int, sub: int, *, create: int, version: int, lease: int, value: bytes) -> bytes:
    """The record of a key as it is now."""
    head = BytesWriter()
    write_i64_be(head, revision)
    write_i32_be(head, sub)
    write_i64_be(head, create)
    write_i64_be(head, version)
    write_i64_be(head, lease)
    return head.getvalue() + value


def current_head(record: bytes) -> tuple[int, int, int, int, int]:
    """Mod revision, sub, create revision, version and lease; the value lies behind CURRENT_HEAD_BYTES."""
    return (
        read_i64_be(record, 0),
        read_i32_be(record, 8),
        read_i64_be(record, 12),
        read_i64_be(record, 20),
        read_i64_be(record, 28),
    )


def current_kv(key: bytes, record: bytes, *, value: bool = True) -> KeyValue:
    mod, _, create, version, lease = current_head(record)
    kept = record[CURRENT_HEAD_BYTES:] if value else b""
    return tuple.__new__(KeyValue, (key, create, mod, version, kept, lease))  # as in core/raft/replica.py


def packed_event(
    key: bytes, value: bytes, *, flags: int, create: int = 0, version: int = 0, lease: int = 0, before: tuple[int, int]
) -> bytes:
    """`before`: the event that is superseded, by revision and sub; (0, 0): none."""
    superseded, sub = before
    writer = BytesWriter()
    writer.append(flags)
    write_i64_be(writer, create)
    write_i64_be(writer, version)
    write_i64_be(writer, lease)
    write_i64_be(writer, superseded)
    write_i32_be(writer, sub)
    write_i32_be(writer, len(key))
    writer.write(key)
    return writer.getvalue() + value


def event_head(record: bytes) -> tuple[int, int, int, int, int, int, int]:
    """Flags, create revision, version, lease, superseded revision and sub, length of the key; key and value follow."""
    return (
        record[0],
        read_i64_be(record, 1),
        read_i64_be(record, 9),
        read_i64_be(record, 17),
        read_i64_be(record, 25),
        read_i32_be(record, 33),
        read_i32_be(record, 37),
    )


class EventRecord(NamedTuple):
    revision: int
    sub: int
    tombstone: bool
    superseded: tuple[int, int]
    kv: KeyValue


def event_record(key: bytes, record: bytes) -> EventRecord:
    """An event, of its key and value in the engine."""
    revision, sub = event_of(key)
    flags, create, version, lease, before, before_sub, size = event_head(record)
    end = EVENT_HEAD_BYTES + size
    kv = KeyValue(record[EVENT_HEAD_BYTES:end], create, revision, version, record[end:], lease)
    if len(kv.key) != size:
        raise CorruptionError(f"event {revision}/{sub} is cut short")
    return EventRecord(revision, sub, bool(flags & TOMBSTONE_FLAG), (before, before_sub), kv)


def member_key(member: int) -> bytes:
    return _id_key(MEMBER, member)


def alarm_key(member: int, alarm: int) -> bytes:
    return _id_key(ALARM, member, bytes((alarm,)))


def alarm_of(key: bytes) -> tuple[int, int]:
    """Member and kind, of an alarm's key in the engine."""
    return int.from_bytes(key[1:_ID_BYTES], "big"), key[_ID_BYTES]


def removed_member_key(member: int) -> bytes:
    return _id_key(REMOVED_MEMBER, member)


def lease_key(lease: int) -> bytes:
    return _id_key(LEASE, lease)


def lease_of(name: bytes) -> int:
    """The id of a lease, of its key in the engine: 64 bits with a sign, as etcd's."""
    return read_i64_be(name, 1)


def _id_key(prefix: bytes, id_: int, rest: bytes = b"") -> bytes:
    """Of 64 bits, with a sign or without: the same bytes for 2**64 - 1 and -1."""
    writer = BytesWriter()
    writer.write(prefix)
    write_i64_be(writer, id_ if id_ <= _INT64_MAX else id_ - (1 << 64))
    writer.write(rest)
    return writer.getvalue()


class Lease(NamedTuple):
    """`ttl` in seconds. `until`: cluster clock, ms; 0: it has ended, but keys of it are left.

    `keys`: how many it holds, where a put made it for itself; NOT_COUNTED for all others.
    """

    ttl: int
    until: int
    keys: int


NOT_COUNTED: Final = -1


def lease_record(lease: Lease) -> bytes:
    writer = BytesWriter()
    write_i64_be(writer, lease.ttl)
    write_i64_be(writer, lease.until)
    write_i64_be(writer, lease.keys)
    return writer.getvalue()


def lease_as_kept(record: bytes) -> Lease:
    return Lease(read_i64_be(record, 0), read_i64_be(record, 8), read_i64_be(record, 16))


ATTACHED_HEAD_BYTES: Final = _ID_BYTES


def attached_key(lease: int, key: bytes) -> bytes:
    return _id_key(ATTACHED, lease, key)


def attached_range(lease: int) -> tuple[bytes, bytes]:
    """From where to where the keys of a lease lie, in order."""
    return _id_key(ATTACHED, lease), after_prefix(ATTACHED) if lease == -1 else _id_key(ATTACHED, lease + 1)
