"""The store: etcd's revision model over an engine.

What is written lies first in a *pending* batch, which later requests see, and which `commit` hands to the engine
together with the place in the log. Pending are: the current record of each key written (None: deleted), the events
and history entries, which are only ever added, and what changed in the lease table (`leases`).

Revisions. A new store is at 1. A request that changes something takes the next one, and its changes number
themselves by `sub` within it. `begin` opens such a request, `end` closes it, `cancel` undoes it as if it had never
been: an error in the middle of a txn leaves no trace.

    begin -> put, delete_range, range ... -> end | cancel

Between `begin` and `end`, `revision` is still the one before; a range sees what the request has changed so
far (as of `revision` + 1), as in etcd (mvcc.storeTxnWrite.Range).
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Final
from zlib import crc32

from zkv.core.mvcc import layout
from zkv.core.mvcc.lately import Lately
from zkv.core.mvcc.layout import CURRENT, CURRENT_HEAD_BYTES
from zkv.core.mvcc.leases import MISSING, Leases
from zkv.core.mvcc.quotas import Quotas
from zkv.core.mvcc.ranges import Past, Present, answer, passes
from zkv.errors import Compacted, FutureRevision, KeyNotFound, OverQuota, OverRate, RangeTooLarge
from zkv.wire.messages import DeleteRangeAnswer, Event, KeyValue, Put, PutAnswer, Range, RangeAnswer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from zkv.core.mvcc.engine import Engine
    from zkv.limits import Limits
    from zkv.wire.messages import DeleteRange

NOTHING_TO_TELL: Final = PutAnswer()
"""The answer to nearly all puts."""
_SOME_HEAD: Final = bytes(CURRENT_HEAD_BYTES)


class Store:
    """Live keys, their history, and what is pending of both.

    `events` gathers (revision, events) for watchers when `want_events` is set; the owner takes them away.
    """

    def __init__(self, engine: Engine, limits: Limits, revision: int, compacted: int) -> None:
        self.engine = engine
        self.limits = limits
        self.revision = revision
        self.compacted = compacted
        self.committed_revision = revision
        """What the engine holds; the history of later revisions is pending."""
        self.pending: dict[bytes, bytes | None] = {}
        self.fetched: dict[bytes, bytes | None] = {}
        """Current records as read ahead by `prefetch`."""
        self.want_events = False
        self.want_prev_kv = False
        """Events carry what they superseded: it costs a look at the whole record."""
        self.events: list[tuple[int, tuple[Event, ...]]] = []
        self._written: list[tuple[bytes, bytes]] = []  # events, and ...
        self._history: list[tuple[bytes, bytes]] = []  # ... their history entries: apart, so that neighbours stay so
        self.changes = 0
        """Events committed since this store was opened; of these, tombstones are:"""
        self.tombstones = 0
        self.deletions = self.ranges = self.txns = 0
        """Requests for these, within txns too, since then."""
        self.event_bytes = 0
        self._digest = 0  # of the events since it was last taken, up to `_digested` of those pending
        self._digested = 0
        self._sub = 0
        self._undo: list[tuple[dict[Any, Any], Any, object]] = []
        self.leases = Leases(engine, self._undo)
        self.quotas = Quotas(engine)
        self.lately = Lately(engine)
        self._written_before = 0
        self._events_now: list[Event] = []

    # --- the pending batch ---

    def prefetch(self, keys: Sequence[bytes]) -> None:
        """Read the current records of `keys` in one go, for the writes to come. One alone is read when it comes."""
        pending = self.pending
        fetched = self.fetched = {}
        if len(keys) < 2:
            return
        wanted = [key for key in dict.fromkeys(keys) if key not in pending]
        if len(wanted) > 1:
            records = self.engine.get_many([CURRENT + key for key in wanted])
            for at, key in enumerate(wanted):
                fetched[key] = records[at]

    def commit(self, puts: list[tuple[bytes, bytes]], deletes: list[bytes]) -> None:
        """Write what is pending, and the caller's pairs with it, as one batch."""
        self._extend_digest()
        self.changes += len(self._written)
        writes = self._written
        writes += self._history
        for key, record in self.pending.items():
            if record is None:
                deletes.append(CURRENT + key)
            else:
                writes.append((CURRENT + key, record))
        writes += puts
        self.leases.flush(writes, deletes)
        self.engine.write(writes, deletes)
        self.lately.forget(self.pending)
        self.pending = {}
        self.fetched = {}
        self._written = []
        self._history = []
        self._digested = 0
        self._undo.clear()
        self.committed_revision = self.revision

    def take_digest(self) -> int:
        """A checksum of the events since the last call, which history follows from: the same on all members."""
        self._extend_digest()
        digest, self._digest = self._digest, 0
        return digest

    def _extend_digest(self) -> None:
        written = self._written
        if self._digested < len(written):
            events = written[self._digested :] if self._digested else written
            joined = b"".join([event for _, event in events])
            self._digest = crc32(joined, self._digest)
            self._digested = len(written)
            self.event_bytes += len(joined)

    def begin(self) -> None:
        self._sub = 0
        self._undo.clear()
        self._written_before = len(self._written)

    def end(self, *, as_of_right: bool = False) -> bool:
        """Take the next revision if anything has changed; tell whether.

        Raises OverQuota, OverRate, unless it is done `as_of_right`.
        """
        if not self._sub:
            return False
        if self.quotas.is_noted:
            if as_of_right:
                self.quotas.grant()
            else:
                self.quotas.settle(self.leases.moment[2])
        self.revision += 1
        if self.leases.idle:
            self.leases.settle()
        if self._events_now:
            self.events.append((self.revision, tuple(self._events_now)))
            self._events_now = []
        self._sub = 0
        return True

    def cancel(self) -> None:
        for table, key, before in self._undo[::-1]:
            if before is MISSING:
                del table[key]
            else:
                table[key] = before
        self.tombstones -= sum(event[0] == layout.TOMBSTONE_FLAG for _, event in self._written[self._written_before :])
        del self._written[self._written_before :], self._history[self._written_before :]
        self._events_now = []
        self._sub = 0
        self.leases.idle.clear()
        self.quotas.cancel()

    # --- reading ---

    def current(self, key: bytes) -> bytes | None:
        """The record of a live key."""
        pending = self.pending
        if key in pending:
            return pending[key]
        fetched = self.fetched
        return fetched[key] if key in fetched else self.engine.get(CURRENT + key)

    def view(self) -> Present:
        """The present, pending writes included."""
        return Present(self.engine, self.pending)

    def range(self, request: Range) -> RangeAnswer:
        """Within a write: answered whole.

        Raises Compacted, FutureRevision, and RangeTooLarge beyond Limits.answer_bytes_max.
        """
        self.ranges += 1
        now = self.revision + (1 if self._sub else 0)
        if not request.range_end and (request.revision <= 0 or request.revision == now):
            return self._get(request)
        self.check_revision(request.revision, now)
        assert request.revision <= self.committed_revision or request.revision == now, "history is still pending"
        present = request.revision <= 0 or request.revision == now
        return answer(request, self.view() if present else Past(self.engine, request.revision), self.limits)

    def check_revision(self, revision: int, now: int) -> None:
        """Raises FutureRevision, Compacted."""
        if revision > now:
            raise FutureRevision
        if 0 < revision < self.compacted:
            raise Compacted

    def _get(self, request: Range) -> RangeAnswer:
        record = self.current(request.key)
        if record is None or request.count_only:
            return RangeAnswer((), False, 0 if record is None else 1)
        kv = layout.current_kv(request.key, record, value=not request.keys_only)
        return tuple.__new__(RangeAnswer, ((kv,) if passes(request, kv) else (), False, 1))

    # --- writing, between begin and end ---

    def put(self, request: Put) -> PutAnswer:
        """Raises LeaseNotFound, KeyNotFound (ignore_value or ignore_lease without a key to keep them from),
        LeaseTTLTooLarge.
        """
        key, value, lease, prev_kv, ignore_value, ignore_lease, ttl = request
        if lease:
            self.leases.check(lease)
        record = self.current(key)
        if (ignore_value or ignore_lease) and record is None:
            raise KeyNotFound
        if record is None:
            before = before_sub = version = kept_lease = 0
            create = self.revision + 1
        else:
            before, before_sub, create, version, kept_lease = layout.current_head(record)
            if ignore_value:
                value = record[CURRENT_HEAD_BYTES:]
            if ignore_lease:
                lease = kept_lease
        if ttl:
            lease = self.leases.own(ttl)
        if lease != kept_lease:
            self.leases.move(key, kept_lease, lease)
        revision, sub, version = self.revision + 1, self._sub, version + 1
        after = layout.packed_current(revision, sub, create=create, version=version, lease=lease, value=value)
        if self.quotas.any:
            self.quotas.note(key, record, after)
        self._set(key, after)
        event = layout.packed_event(
            key,
            value,
            flags=layout.PUT_FLAG,
            create=create,
            version=version,
            lease=lease,
            before=(before, before_sub),
        )
        self._written.append((layout.event_key(revision, sub), event))
        self._history.append((layout.history_key(key, revision, sub), layout.PUT_MARK))
        self._sub = sub + 1
        previous = None
        if record is not None and (prev_kv or self.want_prev_kv):
            previous = layout.current_kv(key, record)
        if self.want_events:
            kv = tuple.__new__(KeyValue, (key, create, revision, version, value, lease))  # as in core/raft/replica.py
            self._events_now.append(tuple.__new__(Event, (False, kv, previous if self.want_prev_kv else None)))
        if not prev_kv and not ttl:
            return NOTHING_TO_TELL
        return PutAnswer(previous if prev_kv else None, lease if ttl else 0)

    def refusal_of(self, key: bytes, value: bytes, now: int) -> OverQuota | OverRate | None:
        """What policies say to a `put_plain` that is done next if they say nothing."""
        quotas = self.quotas
        if quotas.cover(key) is None:
            return None
        quotas.note(key, self.current(key), _SOME_HEAD + value)
        try:
            quotas.settle(now)
        except (OverQuota, OverRate) as refusal:
            quotas.cancel()
            return refusal
        return None

    def put_plain(self, key: bytes, value: bytes) -> int:
        """`begin`, `put` without any option, and `end` in one: the request that is made most, and cannot fail.

        Policies have been asked (`refusal_of`). Returns its revision.
        """
        pending, fetched = self.pending, self.fetched
        if key in pending:
            record = pending[key]
        elif key in fetched:
            record = fetched[key]
        else:
            record = self.engine.get(CURRENT + key)
        revision = self.revision = self.revision + 1
        if record is None:
            before = before_sub = 0
            create, version = revision, 1
        else:
            before, before_sub, create, version, kept_lease = layout.current_head(record)
            version += 1
            if kept_lease:
                self.leases.move(key, kept_lease, 0)
                self.leases.settle()
        pending[key] = layout.packed_current(revision, 0, create=create, version=version, lease=0, value=value)
        event = layout.packed_event(
            key, value, flags=layout.PUT_FLAG, create=create, version=version, before=(before, before_sub)
        )
        self._written.append((layout.event_key(revision, 0), event))
        self._history.append((layout.history_key(key, revision, 0), layout.PUT_MARK))
        if self.want_events:
            previous = layout.current_kv(key, record) if self.want_prev_kv and record is not None else None
            kv = tuple.__new__(KeyValue, (key, create, revision, version, value, 0))
            self.events.append((revision, (tuple.__new__(Event, (False, kv, previous)),)))
        return revision

    def delete_range(self, request: DeleteRange) -> DeleteRangeAnswer:
        """Raises RangeTooLarge when the previous values asked for are more than Limits.answer_bytes_max."""
        if request.range_end:
            doomed: Iterable[tuple[bytes, bytes]] = self.view().scan(request.key, request.range_end)
        else:
            record = self.current(request.key)
            doomed = () if record is None else ((request.key, record),)
        self.deletions += 1
        deleted = held = 0
        previous: list[KeyValue] = []
        for key, record in doomed:
            deleted += 1
            if request.prev_kv:
                held += len(key) + len(record)
                if held > self.limits.answer_bytes_max:
                    raise RangeTooLarge
                previous.append(layout.current_kv(key, record))
            self._delete(key, record)
        return DeleteRangeAnswer(deleted, tuple(previous))

    def _delete(self, key: bytes, record: bytes) -> None:
        before, before_sub, _, _, lease = layout.current_head(record)
        if lease:
            self.leases.move(key, lease, 0)
        revision, sub = self.revision + 1, self._sub
        if self.quotas.any:
            self.quotas.note(key, record, None)
        self._set(key, None)
        event = layout.packed_event(key, b"", flags=layout.TOMBSTONE_FLAG, before=(before, before_sub))
        self._written.append((layout.event_key(revision, sub), event))
        self.tombstones += 1
        self._history.append((layout.history_key(key, revision, sub), layout.TOMBSTONE_MARK))
        self._sub = sub + 1
        if self.want_events:
            gone = tuple.__new__(KeyValue, (key, 0, revision, 0, b"", 0))
            previous = layout.current_kv(key, record) if self.want_prev_kv else None
            self._events_now.append(tuple.__new__(Event, (True, gone, previous)))

    def _set(self, key: bytes, record: bytes | None) -> None:
        pending = self.pending
        self._undo.append((pending, key, pending.get(key, MISSING)))
        pending[key] = record

    # --- leases that end ---

    def revoke(self, lease: int) -> None:
        """End a lease, and with it all its keys, in order. Raises LeaseNotFound."""
        self.leases.check(lease)
        self._delete_all(list(self.leases.keys_of(lease)))
        self.leases.remove(lease)

    def expire(self, leases: Iterable[tuple[int, int]], keys_max: int) -> None:
        """End each lease that may live just until then, its keys at a revision of their own; `keys_max` in all.

        Not between `begin` and `end`: it takes as many revisions as it needs. What cannot go now is `Leases.end`ed.
        """
        for lease, until in leases:
            record = self.leases.get(lease)
            if record is None or record.until != until:
                continue
            keys = list(islice(self.leases.keys_of(lease), keys_max + 1))
            doomed = keys[:keys_max]
            keys_max -= len(doomed)
            self.begin()
            self._delete_all(doomed)
            if len(keys) > len(doomed):
                self.leases.end(lease, doomed[-1] if doomed else None)
            else:
                self.leases.remove(lease)
            self.end(as_of_right=True)

    def _delete_all(self, keys: list[bytes]) -> None:
        pending, fetched = self.pending, self.fetched
        unknown = [key for key in keys if key not in pending and key not in fetched]
        fetched.update(zip(unknown, self.engine.get_many([CURRENT + key for key in unknown]), strict=True))
        for key in keys:
            record = self.current(key)
            assert record is not None, "who is attached is alive"
            self._delete(key, record)

    # --- compaction, the logical half ---

    def compact(self, revision: int) -> None:
        """From now on nothing before `revision` can be read. Raises Compacted, FutureRevision."""
        if revision <= self.compacted:
            raise Compacted
        if revision > self.revision:
            raise FutureRevision
        self.compacted = revision
