"""How revisions lie in the engine: every key and record of the store, and nothing that decides.

A new store is at revision 1. Say a client puts a=1, then deletes a, then in one txn puts a=2 and b=3:

    revision  2: put a=1         3: delete a        4: put a=2 (sub 0), put b=3 (sub 1)

The engine then holds, all integers big endian, so that bytes sort as numbers do:

    current   k a          -> mod 4 sub 0 create 4 version 1 lease 0, value 2
              k b          -> mod 4 sub 1 create 4 version 1 lease 0, value 3
    events    r 2 0        -> put,       create 2, version 1, supersedes nothing, key a, value 1
              r 3 0        -> tombstone,                      supersedes 2 0,     key a
              r 4 0        -> put,       create 4, version 1, supersedes nothing, key a, value 2
              r 4 1        -> put,       create 4, version 1, supersedes nothing, key b, value 3
    history   h a. ~4 ~0   -> put
              h a. ~3 ~0   -> tombstone
              h a. ~2 ~0   -> put
              h b. ~4 ~1   -> put

- The present is read from `current` alone, so a key with a million versions costs what one with a single one costs.
- The past at revision R is read by seeking to `h key. ~R`: the first entry from there is the newest version not after
  R (~ turns the order round). The value is in the event that it names.
- Watchers catch up, and hashes are made, by walking `events`.
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

from struct import Struct
from typing import Final, NamedTuple

from zkv.errors import CorruptionError
from zkv.wire.messages import KeyValue

CURRENT: Final = b"k"
EVENT: Final = b"r"
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

CURRENT_HEAD: Final = Struct(">QIQQq")  # mod revision, sub, create revision, version, lease
CURRENT_HEAD_BYTES: Final = CURRENT_HEAD.size
EVENT_KEY: Final = Struct(">cQI")  # EVENT, revision, sub
EVENT_HEAD: Final = Struct(">BQQqQII")  # flags, create, version, lease, superseded revision and sub, key length
EVENT_HEAD_BYTES: Final = EVENT_HEAD.size
_HISTORY_TAIL: Final = Struct(">QI")  # revision and sub, inverted
HISTORY_TAIL_BYTES: Final = 2 + _HISTORY_TAIL.size
_ID: Final = Struct(">cQ")
_ALARM: Final = Struct(">cQB")

PUT_FLAG: Final = 0
TOMBSTONE_FLAG: Final = 1
PUT_MARK: Final = b"\0"
TOMBSTONE_MARK: Final = b"\1"
_U64: Final = (1 << 64) - 1
_U32: Final = (1 << 32) - 1


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
    return key.replace(b"\0", b"\0\xff") if b"\0" in key else key


def event_key(revision: int, sub: int) -> bytes:
    return EVENT_KEY.pack(EVENT, revision, sub)


def history_key(key: bytes, revision: int, sub: int) -> bytes:
    tail = _HISTORY_TAIL.pack(revision ^ _U64, sub ^ _U32)
    return b"".join((HISTORY, key.replace(b"\0", b"\0\xff"), b"\0\0", tail))


def history_of(entry: bytes) -> tuple[bytes, int, int]:
    """The key, revision and sub of a history entry's key."""
    revision, sub = _HISTORY_TAIL.unpack_from(entry, len(entry) - _HISTORY_TAIL.size)
    return entry[1:-HISTORY_TAIL_BYTES].replace(b"\0\xff", b"\0"), revision ^ _U64, sub ^ _U32


def history_before(key: bytes, revision: int) -> bytes:
    """Where the entries of `key` not after `revision` begin."""
    return history_key(key, revision, _U32)


def history_after(entry: bytes) -> bytes:
    """Behind all entries of the key that `entry` belongs to."""
    return entry[: -_HISTORY_TAIL.size - 1] + b"\1"


def history_first(entry: bytes) -> bytes:
    """Before all entries of the key that `entry` belongs to."""
    return entry[: -_HISTORY_TAIL.size]


def current_kv(key: bytes, record: bytes, *, value: bool = True) -> KeyValue:
    mod, _, create, version, lease = CURRENT_HEAD.unpack_from(record)
    return KeyValue(key, create, mod, version, record[CURRENT_HEAD_BYTES:] if value else b"", lease)


class EventRecord(NamedTuple):
    revision: int
    sub: int
    tombstone: bool
    superseded: tuple[int, int]
    kv: KeyValue


def event_record(key: bytes, record: bytes) -> EventRecord:
    """An event, of its key and value in the engine."""
    _, revision, sub = EVENT_KEY.unpack(key)
    flags, create, version, lease, before, before_sub, size = EVENT_HEAD.unpack_from(record)
    end = EVENT_HEAD_BYTES + size
    kv = KeyValue(record[EVENT_HEAD_BYTES:end], create, revision, version, record[end:], lease)
    if len(kv.key) != size:
        raise CorruptionError(f"event {revision}/{sub} is cut short")
    return EventRecord(revision, sub, bool(flags & TOMBSTONE_FLAG), (before, before_sub), kv)


def member_key(member: int) -> bytes:
    return _ID.pack(MEMBER, member)


def alarm_key(member: int, alarm: int) -> bytes:
    return _ALARM.pack(ALARM, member, alarm)


def alarm_of(key: bytes) -> tuple[int, int]:
    """Member and kind, of an alarm's key in the engine."""
    _, member, alarm = _ALARM.unpack(key)
    return member, alarm


def removed_member_key(member: int) -> bytes:
    return _ID.pack(REMOVED_MEMBER, member)


def lease_key(lease: int) -> bytes:
    return _ID.pack(LEASE, lease & _U64)


def lease_of(name: bytes) -> int:
    """The id of a lease, of its key in the engine: 64 bits with a sign, as etcd's."""
    lease: int = _ID.unpack(name)[1]
    return lease if lease < 1 << 63 else lease - (1 << 64)


class Lease(NamedTuple):
    """`ttl` in seconds. `until`: cluster clock, ms; 0: it has ended, but keys of it are left.

    `keys`: how many it holds, where a put made it for itself; NOT_COUNTED for all others.
    """

    ttl: int
    until: int
    keys: int


NOT_COUNTED: Final = -1
_LEASE: Final = Struct(">QQq")


def lease_record(lease: Lease) -> bytes:
    return _LEASE.pack(*lease)


def lease_as_kept(record: bytes) -> Lease:
    return Lease(*_LEASE.unpack(record))


ATTACHED_HEAD_BYTES: Final = _ID.size


def attached_key(lease: int, key: bytes) -> bytes:
    return _ID.pack(ATTACHED, lease & _U64) + key


def attached_range(lease: int) -> tuple[bytes, bytes]:
    """From where to where the keys of a lease lie, in order."""
    number = lease & _U64
    return _ID.pack(ATTACHED, number), _ID.pack(ATTACHED, number + 1) if number < _U64 else after_prefix(ATTACHED)
