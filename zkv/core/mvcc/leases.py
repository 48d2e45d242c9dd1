"""The lease table, part of the replicated state: which leases there are, until when, and which keys they hold.

A lease is granted for `ttl` seconds. Its record says `until`: the time of the cluster clock (`Entry.time`) up to which
*the log* lets it live: `LEASE_SLACK_MS` later than asked for, so that the leader can renew it in its memory again and
again, and log a renewal only when the record would no longer cover the next one (core/lease.py).

Nothing ends here because time has passed. A lease ends when the log says so: by a revoke of a client; by an expiry
that the leader has logged, void if the lease was renewed meanwhile (`until` is another then); or, for a lease that
a put made for itself (`Put.ttl`), when a request has taken its last key away. With it, its keys are deleted.

    grant, own -> alive --revoke, expire------------------> gone, and its keys at one revision
                    |                                        ^
                    +----expire, and it holds too many keys  | expire (id, 0), as often as keys are left
                    |                  +--------> ended -----+
                    +----last key leaves (of an `own`ed one)-> gone

`ended` (until 0) is a lease whose keys are more than one log entry may delete: nobody can use it any more, nor take
its id, and its keys go by and by.

Keys are attached by puts, at most one lease to a key: as etcd, a put moves its key to the lease it names, also to none.
The key's own record names the lease; the index here leads from the lease to its keys. What is written lies
in a pending batch, as in the store, and is undone with the store's.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from hashlib import blake2b
from struct import Struct
from typing import TYPE_CHECKING, Any, Final

from zkv.core.mvcc import layout
from zkv.core.mvcc.layout import NOT_COUNTED, Lease
from zkv.errors import LeaseExists, LeaseNotFound, LeaseTTLTooLarge
from zkv.limits import LEASE_SLACK_MS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zkv.core.mvcc.engine import Reader

TTL_MAX: Final = 9_000_000_000
"""Seconds; etcd's (lease.MaxLeaseTTL)."""
CACHED_MAX: Final = 16_384
"""Records kept unpacked in memory."""
MISSING: Final = object()
"""In the undo list: there was no such entry."""

_INT64_MAX: Final = (1 << 63) - 1
_MOMENT: Final = Struct(">QQQ")  # entry, request within it, draw


class Leases:
    """Records and index in the engine; what changed since `flush` in memory, and the lately used records.

    `undo` is the store's: (table, key, what was there or MISSING) for each change since the request began. `news`
    gathers what became of each lease changed (None: gone); the owner takes them away.
    """

    def __init__(self, reader: Reader, undo: list[tuple[dict[Any, Any], Any, object]]) -> None:
        self.news: dict[int, Lease | None] = {}
        self.moment = (0, 0, 0)
        """Entry, request within it, cluster clock: what the request being applied may know of where it stands."""
        self.idle: list[int] = []
        """Leases of puts that the request being applied has taken the last key from."""
        self._reader = reader
        self._undo = undo
        self._records: dict[int, Lease | None] = {}
        self._attached: dict[int, dict[bytes, bool]] = {}
        self._cache: OrderedDict[int, Lease] = OrderedDict()
        self._drawn = (0, 0)
        self._draws = 0
        self._emptied: dict[int, bytes] = {}
        """Of ended leases, the last key that went: none is left before it. Saves wading through what was deleted."""

    # --- looking ---

    def get(self, lease: int) -> Lease | None:
        """The record, also of one that has ended."""
        if lease in self._records:
            return self._records[lease]
        cache = self._cache
        known = cache.get(lease)
        if known is not None:
            cache.move_to_end(lease)
            return known
        record = self._reader.get(layout.lease_key(lease))
        if record is None:
            return None
        known = cache[lease] = layout.lease_as_kept(record)
        if len(cache) > CACHED_MAX:
            cache.popitem(last=False)
        return known

    def check(self, lease: int) -> Lease:
        """The record of a lease that is alive. Raises LeaseNotFound."""
        record = self.get(lease)
        if record is None or not record.until:
            raise LeaseNotFound
        return record

    def keys_of(self, lease: int) -> Iterator[bytes]:
        """In order. Whoever changes the lease meanwhile takes what he needs first."""
        start, end = layout.attached_range(lease)
        emptied = self._emptied.get(lease)
        if emptied is not None:
            start = layout.attached_key(lease, emptied + b"\0")
        pending = self._attached.get(lease, {})
        names = self._reader.keys(start, end)
        if not pending:
            return _stored(names, pending)
        added = sorted(key for key, attached in pending.items() if attached)
        return heapq.merge(_stored(names, pending), added)

    # --- changing ---

    def grant(self, lease: int, ttl: int, remaining: int = 0) -> tuple[int, int]:
        """A new lease: its id (one that is free, if `lease` is 0) and seconds; `remaining` of them are left (0: all).

        Raises LeaseTTLTooLarge, LeaseExists.
        """
        check_ttl(ttl)
        if not lease:
            lease = self._free_id()
        elif self.get(lease) is not None:
            raise LeaseExists
        ttl = max(ttl, 1)
        left = min(remaining, ttl) if remaining > 0 else ttl
        self._set(self._records, lease, Lease(ttl, self._until(left), NOT_COUNTED))
        return lease, ttl

    def own(self, ttl: int) -> int:
        """The id of a new lease for the key that will be attached next; it ends when no key is left to it.

        Raises LeaseTTLTooLarge.
        """
        assert ttl > 0, "a put without a ttl makes none"
        check_ttl(ttl)
        lease = self._free_id()
        self._set(self._records, lease, Lease(ttl, self._until(ttl), 0))
        return lease

    def renew(self, lease: int, until: int) -> None:
        """Let it live until then, if it is alive and may not already."""
        record = self.get(lease)
        if record is not None and 0 < record.until < until:
            self._set(self._records, lease, record._replace(until=until))

    def end(self, lease: int, emptied: bytes | None) -> None:
        """Nobody can use it any more; keys behind `emptied` are left to it. News also if it was so before."""
        record = self.get(lease)
        assert record is not None, "who has keys is there"
        self._set(self._records, lease, record._replace(until=0))
        if emptied is not None:
            self._emptied[lease] = emptied

    def remove(self, lease: int) -> None:
        """It holds no key any more."""
        self._emptied.pop(lease, None)
        if self.get(lease) is not None:
            self._set(self._records, lease, None)

    def move(self, key: bytes, before: int, after: int) -> None:
        """From one lease to another; 0: none."""
        if before:
            self._set(self._attached.setdefault(before, {}), key, False)
            record = self.get(before)
            if record is not None and record.keys != NOT_COUNTED:
                self._set(self._records, before, record._replace(keys=record.keys - 1))
                if record.keys == 1:
                    self.idle.append(before)
        if after:
            self._set(self._attached.setdefault(after, {}), key, True)
            record = self.get(after)
            assert record is not None, "keys are attached to what is there"
            if record.keys != NOT_COUNTED:
                self._set(self._records, after, record._replace(keys=record.keys + 1))

    def settle(self) -> None:
        """A request is done: leases of `idle` to which it has attached nothing else are gone."""
        for lease in self.idle:
            record = self.get(lease)
            if record is not None and record.keys == 0:
                self.remove(lease)
        self.idle.clear()

    def _set(self, table: dict[Any, Any], key: Any, value: object) -> None:
        self._undo.append((table, key, table.get(key, MISSING)))
        table[key] = value

    def _until(self, ttl: int) -> int:
        return self.moment[2] + ttl * 1000 + LEASE_SLACK_MS

    def _free_id(self) -> int:
        """One that follows from the log alone, and looks like chance: so leases given are soon hit upon by nobody."""
        entry, request, _ = self.moment
        if self._drawn != (entry, request):
            self._drawn, self._draws = (entry, request), 0
        while True:
            self._draws += 1
            seed = _MOMENT.pack(entry, request, self._draws)
            lease = int.from_bytes(blake2b(seed, digest_size=8).digest(), "big") & _INT64_MAX
            if lease and self.get(lease) is None:
                return lease

    # --- the pending batch ---

    def flush(self, puts: list[tuple[bytes, bytes]], deletes: list[bytes]) -> None:
        """Add what is pending to what the engine is about to be given."""
        if self._records:
            for lease, record in self._records.items():
                if record is None:
                    deletes.append(layout.lease_key(lease))
                    self._cache.pop(lease, None)
                else:
                    puts.append((layout.lease_key(lease), layout.lease_record(record)))
                    self._cache[lease] = record
            self.news.update(self._records)
            self._records = {}
            while len(self._cache) > CACHED_MAX:
                self._cache.popitem(last=False)
        if self._attached:
            for lease, keys in self._attached.items():
                for key, attached in keys.items():
                    if attached:
                        puts.append((layout.attached_key(lease, key), b""))
                    else:
                        deletes.append(layout.attached_key(lease, key))
            self._attached = {}


def check_ttl(ttl: int) -> None:
    """Raises LeaseTTLTooLarge."""
    if ttl > TTL_MAX:
        raise LeaseTTLTooLarge


def _stored(names: Iterator[bytes], pending: dict[bytes, bool]) -> Iterator[bytes]:
    """The keys of these attachments, but for those that `pending` knows better."""
    for name in names:
        key = name[layout.ATTACHED_HEAD_BYTES :]
        if key not in pending:
            yield key


def table(reader: Reader, after: int | None, most: int) -> list[tuple[int, Lease]]:
    """Up to `most` leases, ended ones too, behind the lease `after` (None: from the first)."""
    start = layout.LEASE if after is None else layout.lease_key(after) + b"\0"
    found: list[tuple[int, Lease]] = []
    for name, record in reader.scan(start, layout.after_prefix(layout.LEASE)):
        found.append((layout.lease_of(name), layout.lease_as_kept(record)))
        if len(found) == most:
            break
    return found
