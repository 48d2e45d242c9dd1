"""Answers to groups of reads, which come beside the log: whole where they are small, as streams where they are not.

A group is evaluated against the store as it is between two applies. What a request cannot be answered in one
bounded step (a big range, a hash, a count of many keys) becomes a `Stream` over a snapshot: the owner steps it when
the client has room for more and nothing more urgent is to do.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from librt.strings import BytesWriter

from zkv import errors
from zkv.core.mvcc import guard, ranges, txn
from zkv.core.mvcc.hashing import hash_store
from zkv.core.mvcc.layout import (
    BOUND,
    SESSION,
    SESSION_QUEUE,
    after_prefix,
)
from zkv.core.mvcc.leases import table
from zkv.core.mvcc.ranges import Past, Present
from zkv.limits import LEASE_SLACK_MS
from zkv.wire import messages as m
from zkv.wire.codec import pack, write_int
from zkv.wire.groups import judged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from zkv.core.mvcc.alarms import Alarms
    from zkv.core.mvcc.compaction import Compaction
    from zkv.core.mvcc.engine import Reader
    from zkv.core.mvcc.members import Members
    from zkv.core.mvcc.store import Store
    from zkv.core.mvcc.users import Users
    from zkv.limits import Limits

Part: TypeAlias = bytes
"""A packed (id, code, revision, body)."""
HASH: Final = "hash"
SNAPSHOT: Final = "snapshot"
STEP_LEASES: Final = 1000
"""Leases, or keys of one, looked at in one step."""
_LEASE_BYTES: Final = 9  # an id in an answer
_OP_RANGE: Final = int(m.Op.RANGE)
_OK: Final = int(errors.Code.OK)


class Stream:
    """One request answered in parts. `step` gives the next part, or None after a bounded piece of work towards it.

    `done`: the part that `step` gave was the last. `kind`: what is made, where somebody asks how long.
    """

    def __init__(self, request: int, parts: Iterator[tuple[Part, bool] | None], kind: str = "") -> None:
        self.id = request
        self.kind = kind
        self.done = False
        self._parts = parts

    def step(self) -> Part | None:
        assert not self.done
        step = next(self._parts)
        if step is None:
            return None
        part, self.done = step
        return part


class ReadOutcome:
    """`parts`: answers that are ready. `streams`: requests answered in parts; the first one may be in `parts`.

    `defragment`: requests that the owner answers (`defragmented`), when it has had the engine do so.
    """

    __slots__ = ("defragment", "parts", "streams")

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.streams: list[Stream] = []
        self.defragment: list[int] = []


class Reading:
    def __init__(
        self,
        store: Store,
        members: Members,
        compaction: Compaction,
        alarms: Alarms,
        users: Users,
        *,
        limits: Limits,
        version: str,
    ) -> None:
        self._store = store
        self._alarms = alarms
        self._users = users
        self._members = members
        self._compaction = compaction
        self._limits = limits
        self._version = version
        self._time = 0

    def read(self, payload: bytes, stamp: m.Stamp | None, applied: int, time: int) -> ReadOutcome:
        """Evaluate a client's packed `Requests`; `applied` is for Status, `time` that of the newest entry applied.

        Raises InvalidRequest when it is none.
        """
        try:
            group = judged(payload)
        except errors.CorruptionError:
            raise errors.InvalidRequest("not a message") from None
        outcome = ReadOutcome()
        self._time = max(time, stamp.time) if stamp else time
        asked, caller = group.asked, group.caller
        plain = [op == _OP_RANGE and type(one) is tuple for _, op, one in asked]
        if all(plain) and not self._alarms.corrupt and not self._users.enabled:
            outcome.parts.extend(self._keys(asked))
            return outcome
        for each in asked:
            self._read(each, caller, stamp, applied, outcome)
        return outcome

    def _keys(self, asked: list[tuple[int, int, Any]]) -> list[Part]:
        """Of plain ranges, which nearly all requests are."""
        store = self._store
        assert not store.pending, "reads come between two applies"
        store.ranges += len(asked)
        revision = store.revision
        bodies = store.lately.bodies([fields[0] for _, _, fields in asked])
        return [succeeded(request, revision, body) for (request, _, _), body in zip(asked, bodies, strict=True)]

    def _read(
        self,
        each: tuple[int, int, Any],
        caller: m.Caller | None,
        stamp: m.Stamp | None,
        applied: int,
        outcome: ReadOutcome,
    ) -> None:
        request, op, asked = each
        store = self._store
        body: object
        try:
            if asked is None:
                raise errors.InvalidRequest
            if self._users.enabled:
                guard.check(self._users.book, store.leases, caller, op, asked)
            if self._alarms.corrupt:
                self._alarms.check(op, asked)
            if op == m.Op.RANGE:
                ranged = m.Range(*asked)
                if ranged.range_end or ranged.revision > 0:
                    store.check_revision(ranged.revision, store.revision)
                    store.ranges += 1
                    self._start(request, self._range(request, ranged, store.engine.snapshot()), outcome)
                    return
                body = store.range(ranged)
            elif op == m.Op.TXN:
                store.txns += 1
                body = self._txn(asked)
            elif op == m.Op.HASH_KV:
                revision = asked.revision
                if 0 < revision <= store.compacted:
                    raise errors.Compacted
                if revision > store.revision:
                    raise errors.FutureRevision
                self._start(request, self._hash(request, revision), outcome, HASH)
                return
            elif op == m.Op.STATUS:
                body = self._status(stamp, applied)
            elif op == m.Op.ALARM:
                body = (self._alarms.find(asked),)
            elif op == m.Op.DEFRAGMENT:
                outcome.defragment.append(request)
                return
            elif op == m.Op.SNAPSHOT:
                self._start(request, self._snapshot(request, asked), outcome, SNAPSHOT)
                return
            elif op == m.Op.MEMBER_LIST:
                body = (self._members.all(),)
            elif op == m.Op.LEASE_TIME_TO_LIVE:
                self._start(request, self._time_to_live(request, asked, self._readable(caller)), outcome)
                return
            elif op == m.Op.LEASE_LIST:
                self._start(request, self._lease_list(request), outcome)
                return
            elif op in {m.Op.QUOTA_GET, m.Op.QUOTA_LIST}:
                body = store.quotas.look(asked)
            elif op >= m.Op.AUTH_ENABLE:
                body = self._users.look(op, asked)
            else:
                raise errors.InvalidRequest("not a read")
        except (errors.RequestError, errors.AuthOldRevision) as error:
            outcome.parts.append(failed(request, error, store.revision))
        else:
            outcome.parts.append(pack((request, errors.Code.OK, store.revision, body)))

    def defragmented(self, request: int) -> Part:
        return pack((request, errors.Code.OK, self._store.revision, m.DefragmentAnswer()))

    def _start(
        self, request: int, parts: Iterator[tuple[Part, bool] | None], outcome: ReadOutcome, kind: str = ""
    ) -> None:
        """Answer at once what takes one step."""
        first = next(parts)
        if first is not None:
            outcome.parts.append(first[0])
            if first[1]:
                return
        outcome.streams.append(Stream(request, parts, kind))

    def _range(self, request: int, ranged: m.Range, reader: Reader) -> Iterator[tuple[Part, bool] | None]:
        revision = self._store.revision
        source = Past(reader, ranged.revision) if 0 < ranged.revision < revision else Present(reader)
        refused = b""
        try:
            for chunk in ranges.stream(ranged, source, self._limits):
                if chunk is None:
                    yield None
                    continue
                code = errors.Code.OK if chunk.last else errors.Code.CHUNK
                yield pack((request, code, revision, (chunk.kvs, chunk.more, chunk.total))), chunk.last
        except errors.RangeTooLarge as error:
            refused = failed(request, error, revision)
        if refused:
            yield refused, True

    def _snapshot(self, request: int, asked: m.Snapshot) -> Iterator[tuple[Part, bool] | None]:
        """All of the store; mostly without the sessions: they are of this log, and who restores begins another one."""
        revision, size = self._store.revision, self._store.engine.size()
        reader = self._store.engine.snapshot(once=True)
        pairs: list[tuple[bytes, bytes]] = []
        held = 0
        without = (
            (b"", SESSION_QUEUE),
            (after_prefix(SESSION_QUEUE), SESSION),
            (after_prefix(SESSION), BOUND),
        )
        for start, end in ((b"", BOUND),) if asked.sessions else without:
            for pair in reader.scan(start, end):
                pairs.append(pair)
                held += len(pair[0]) + len(pair[1])
                if held >= self._limits.chunk_bytes:
                    yield pack((request, errors.Code.CHUNK, revision, (pairs, size))), False
                    pairs, held = [], 0
        yield pack((request, errors.Code.OK, revision, (pairs, size))), True

    def _hash(self, request: int, revision: int) -> Iterator[tuple[Part, bool] | None]:
        store = self._store
        while self._compaction.is_due(store.compacted):
            yield None  # what is left is the same on all members only when it has come to its end
        now, compacted = store.revision, store.compacted
        if 0 < revision <= compacted:
            yield failed(request, errors.Compacted(), now), True
            return
        upto = revision if revision > 0 else now
        for checksum in hash_store(store.engine.snapshot(once=True), upto, compacted):
            if checksum is None:
                yield None
            else:
                yield pack((request, errors.Code.OK, now, m.HashKVAnswer(checksum, compacted))), True

    def _readable(self, caller: m.Caller | None) -> Callable[[bytes], bool]:
        if not self._users.enabled or caller is None or caller == m.HOUSE:
            return lambda _: True
        name, book = caller[0], self._users.book
        return lambda key: book.may_read(name, key)

    def _time_to_live(
        self, request: int, asked: m.LeaseTimeToLive, readable: Callable[[bytes], bool]
    ) -> Iterator[tuple[Part, bool] | None]:
        store, revision = self._store, self._store.revision
        lease = store.leases.get(asked.id)
        if lease is None or not lease.until:
            yield pack((request, errors.Code.OK, revision, m.LeaseTimeToLiveAnswer(asked.id, -1, 0))), True
            return
        left = min(max(lease.until - LEASE_SLACK_MS - self._time, 0) // 1000, lease.ttl)
        keys: list[bytes] = []
        held = 0
        for seen, key in enumerate(store.leases.keys_of(asked.id) if asked.keys else (), 1):
            held += len(key)
            if not readable(key):
                yield failed(request, errors.PermissionDenied(), revision), True
                return
            if held > self._limits.answer_bytes_max:
                yield failed(request, errors.RangeTooLarge(), revision), True
                return
            keys.append(key)
            if seen % STEP_LEASES == 0:
                yield None
        body = m.LeaseTimeToLiveAnswer(asked.id, left, lease.ttl, tuple(keys))
        yield pack((request, errors.Code.OK, revision, body)), True

    def _lease_list(self, request: int) -> Iterator[tuple[Part, bool] | None]:
        """All that are alive, as etcd lists them: who ends first comes first."""
        revision, reader = self._store.revision, self._store.engine.snapshot()
        runs: list[list[tuple[int, int]]] = []  # each in order, so that no step sorts much
        part = table(reader, None, STEP_LEASES)
        while part:
            runs.append(sorted((lease.until, id_) for id_, lease in part if lease.until))
            if sum(map(len, runs)) * _LEASE_BYTES > self._limits.answer_bytes_max:
                yield failed(request, errors.RangeTooLarge(), revision), True
                return
            if len(part) < STEP_LEASES:
                break
            yield None
            part = table(reader, part[-1][0], STEP_LEASES)
        leases: list[int] = []
        for _, id_ in heapq.merge(*runs):
            leases.append(id_)
            if len(leases) % STEP_LEASES == 0:
                yield None
        yield pack((request, errors.Code.OK, revision, m.LeaseListAnswer(tuple(leases)))), True

    def _txn(self, parsed: m.Txn) -> m.TxnAnswer:
        if txn.is_write(parsed):
            raise errors.InvalidRequest("not a read")
        self._store.begin()
        return txn.run(self._store, parsed)

    def _status(self, stamp: m.Stamp | None, applied: int) -> m.StatusAnswer:
        stamp = stamp or m.Stamp(0, 0, applied, False)
        engine = self._store.engine
        alarms = [
            f"{f'memberID:{member} ' if member else ''}alarm:{m.AlarmType(alarm).name} "
            for member, alarm in self._alarms.find(m.Alarm())
        ]
        troubles = (*(() if stamp.leader else (errors.NoLeader.text,)), *alarms)
        return m.StatusAnswer(
            self._version,
            engine.size(),
            engine.size_in_use(),
            stamp.leader,
            stamp.term,
            stamp.commit,
            applied,
            troubles,
            stamp.is_learner,
        )


def succeeded(request: int, revision: int, body: bytes) -> Part:
    """What packing (request, OK, revision, body) would give, of a body that is packed."""
    head = BytesWriter()
    head.append(0x94)  # an array of four
    write_int(head, request)
    write_int(head, _OK)
    write_int(head, revision)
    return head.getvalue() + body


def failed(request: int, error: errors.ZkvError, revision: int) -> Part:
    return pack((request, error.code, revision, error.fields()))
