"""The replicated state machine: log entries in, one engine batch and the answers out.

An entry holds frames, a frame groups (each a client's message), a group requests. They are applied in that order, one
by one, through the store; all that they change, and the *place* in the log that they bring the store to, is written as
one engine batch at the end of `apply`. So data and place cannot drift apart, whenever the power fails.

A request that scans must see what is pending merged in, which is only cheap while little is; so before one with
more than `PENDING_MAX` keys pending, the batch is written early, with a place in the middle of the entry ("begun",
and how many requests are done). After a crash the entry is fed again, and those are skipped. A request is never split.

Everything here follows from the log alone (time included: `Entry.time`), never from how entries came in batches, nor
from which member this is: engines of members at the same place hold the same bytes, save how far compaction has
come in the background. Who made a frame only decides who answers it.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from librt.strings import BytesWriter

from zkv import errors
from zkv.core.mvcc import guard, txn
from zkv.core.mvcc.alarms import Alarms
from zkv.core.mvcc.compaction import Compaction
from zkv.core.mvcc.layout import FORMER_EVENT, PLACE, Lease, Place, after_prefix
from zkv.core.mvcc.members import Members
from zkv.core.mvcc.reading import Reading, ReadOutcome, failed, succeeded
from zkv.core.mvcc.sessions import Session, Sessions
from zkv.core.mvcc.store import NOTHING_TO_TELL, Store
from zkv.core.mvcc.users import Users
from zkv.wire import messages as m
from zkv.wire.codec import array_head, decode_conf_change, decode_frame, pack, unpack, write_bytes, write_int
from zkv.wire.groups import Group, judged

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zkv.core.mvcc.engine import Engine
    from zkv.limits import Limits

PENDING_MAX: Final = 256
"""Keys a scan merges at most with what the engine holds."""
PREFETCH_KEYS: Final = 256
"""Records read ahead in one go."""
DIGESTS_KEPT: Final = 4096
"""Entries: the auditor (actors/auditor.py) asks each second for those that came since."""

_NOTHING_TO_TELL: Final = pack(NOTHING_TO_TELL)
_HEAD_IN_TXN: Final = {
    int(op): array_head(2) + pack(int(op)) for op in (m.Op.RANGE, m.Op.PUT, m.Op.DELETE_RANGE, m.Op.TXN)
}
_CONF_CHANGE: Final = int(m.EntryKind.CONF_CHANGE)
_OP_RANGE: Final = int(m.Op.RANGE)
_OP_PUT: Final = int(m.Op.PUT)
_OP_DELETE: Final = int(m.Op.DELETE_RANGE)
_OP_TXN: Final = int(m.Op.TXN)
_OP_COMPACT: Final = int(m.Op.COMPACT)


class Answered:
    """A group's packed answers; to be held back until compaction has physically come to `compaction`, if not 0."""

    __slots__ = ("answers", "compaction", "gid", "incarnation")

    def __init__(self, incarnation: int, gid: int, answers: bytes, compaction: int) -> None:
        self.incarnation = incarnation
        self.gid = gid
        self.answers = answers
        self.compaction = compaction


class Outcome:
    """`events`: (revision, events) for watchers. `members_changed`: the member table is another now.

    `leases`: what became of those that changed; None: gone.
    """

    __slots__ = ("answers", "events", "leases", "members_changed")

    def __init__(
        self,
        answers: list[Answered],
        events: list[tuple[int, tuple[m.Event, ...]]],
        leases: dict[int, Lease | None],
        *,
        members_changed: bool,
    ) -> None:
        self.answers = answers
        self.events = events
        self.members_changed = members_changed
        self.leases = leases


_Taken: TypeAlias = tuple[bool, int, int, Group]
"""A group of the log: is this member to answer it, and by which number to the gateway of which incarnation?"""


class StateMachine:
    """The store of one member. Opening it takes the same time whatever it holds.

    `version` is what Status says. `want_events`: gather events for watchers; `want_prev_kv`: with what they superseded.
    """

    def __init__(
        self,
        engine: Engine,
        limits: Limits,
        *,
        cluster_id: int,
        member_id: int,
        version: str = "",
        want_events: bool = False,
        want_prev_kv: bool = False,
    ) -> None:
        self.engine = engine
        self._limits = limits
        self._member_id = member_id
        record = engine.get(PLACE)
        if record and next(engine.keys(FORMER_EVENT, after_prefix(FORMER_EVENT)), None) is not None:
            raise errors.CorruptionError(
                "the store was written by zkv before its first release: it is not read any more"
            )
        place = Place(*unpack(record)) if record else Place(0, 0, 0, 0, 1, -1, 0, 0, pack(m.ConfState(())))
        self.applied = place.applied
        self._begun = place.begun
        self._term = place.term
        self._time = place.time
        self.store = Store(engine, limits, place.revision, place.compacted)
        self.store.want_events = want_events
        self.store.want_prev_kv = want_prev_kv
        self.members = Members(engine, m.ConfState(*unpack(place.conf)))
        self._sessions = Sessions(engine, limits, place.sessions, place.horizon)
        self.compaction = Compaction(engine)
        self.alarms = Alarms(engine)
        self.users = Users(engine)
        self._raft_term = place.term
        self._ids = cluster_id, member_id
        self._head_of_answers = -1, b""  # the term it tells, and what answers begin with
        self._packed_conf = self.members.conf, pack(self.members.conf)
        self._reading = Reading(
            self.store, self.members, self.compaction, self.alarms, self.users, limits=limits, version=version
        )
        self._members_changed = False
        self.digests: deque[tuple[int, int]] = deque(maxlen=DIGESTS_KEPT)
        """Of the entries applied last: index, and a checksum of what each has written; to be compared among members."""

    # --- the place in the log ---

    @property
    def revision(self) -> int:
        return self.store.revision

    @property
    def term(self) -> int:
        """The newest that raft has told with what was applied."""
        return self._raft_term

    @property
    def place(self) -> m.SnapshotMeta:
        """What the store is a snapshot of."""
        return m.SnapshotMeta(self.applied, self._term, self._time, self.members.conf)

    def bootstrap(self, members: Sequence[m.Member]) -> None:
        """The members a new cluster starts with: the same, in any order, on each of them."""
        assert (self.applied, self._begun) == (0, 0), "only a new store is bootstrapped"
        self.members.bootstrap(members)
        self._commit()

    def force_alone(self, conf: m.ConfState) -> tuple[m.Member, ...]:
        """The one voter of `conf` is all there is from now on; the others count as removed. They are returned."""
        dropped = self.members.force(conf)
        self._commit()
        return dropped

    def _commit(self) -> None:
        store, sessions = self.store, self._sessions
        puts: list[tuple[bytes, bytes]] = []
        deletes: list[bytes] = []
        sessions.flush(puts, deletes)
        self.members.flush(puts, deletes)
        self.alarms.flush(puts, deletes)
        self.users.flush(puts, deletes)
        store.quotas.flush(puts, deletes)
        if self._packed_conf[0] is not self.members.conf:
            self._packed_conf = self.members.conf, pack(self.members.conf)
        place = BytesWriter()  # a packed Place
        place.append(0x99)
        write_int(place, self.applied)
        write_int(place, self._begun)
        write_int(place, self._term)
        write_int(place, self._time)
        write_int(place, store.revision)
        write_int(place, store.compacted)
        write_int(place, sessions.count)
        write_int(place, sessions.horizon)
        write_bytes(place, self._packed_conf[1])
        puts.append((PLACE, place.getvalue()))
        store.commit(puts, deletes)

    # --- applying ---

    def apply(self, entries: Sequence[m.Entry], term: int) -> Outcome:
        """Apply what follows `applied`; what does not (entries fed again) is passed over. `term` goes into answers."""
        self._raft_term = term
        answers: list[Answered] = []
        self._members_changed = False
        for entry in entries:
            if entry.index <= self.applied:
                continue
            assert entry.index == self.applied + 1, "entries come without a gap"
            now = max(self._time, entry.time)
            whole = not self._begun
            if whole:
                self._begun = 1
                self._sessions.expire(now)
            if entry.kind == _CONF_CHANGE:
                self._members_changed |= self.members.change(decode_conf_change(entry.body), entry.index)
                self.alarms.unfence(self.members.conf.learners)
            elif entry.body:
                self._apply_groups(entry, now, answers)
            self.applied, self._begun, self._term, self._time = entry.index, 0, entry.term, now
            digest = self.store.quotas.digest(self.store.take_digest())
            self.digests.append((entry.index, digest if whole else m.UNKNOWN_DIGEST))
        self._commit()
        events, self.store.events = self.store.events, []
        news, self.store.leases.news = self.store.leases.news, {}
        return Outcome(answers, events, news, members_changed=self._members_changed)

    def _apply_groups(self, entry: m.Entry, now: int, answers: list[Answered]) -> None:
        groups = self._groups(entry, answers)
        skip = self._begun - 1
        number = fetched_upto = 0  # requests passed, groups read ahead for
        for at, (mine, gid, incarnation, group) in enumerate(groups):
            if at == fetched_upto:
                fetched_upto = self._prefetch(groups, at)
            after = number + len(group.asked)
            if after <= skip:
                parts = [failed(request, errors.Unavailable(), self.store.revision) for request, _, _ in group.asked]
                compaction = 0
            else:
                parts, compaction = self._apply_group(entry, now, group, number, skip, mine=mine)
            number = after
            self._begun = number + 1
            if mine:
                answers.append(Answered(incarnation, gid, self.packed(parts), compaction))

    def _groups(self, entry: m.Entry, answers: list[Answered]) -> list[_Taken]:
        """All of the entry, judged before any of it is applied."""
        groups = []
        for packed in unpack(entry.body):
            member_id, incarnation, framed = decode_frame(packed)
            mine = member_id == self._member_id
            for gid, payload in framed:
                try:
                    groups.append((mine, gid, incarnation, judged(payload)))
                except errors.CorruptionError:
                    if mine:
                        part = failed(0, errors.InvalidRequest("not a message"), self.store.revision)
                        answers.append(Answered(incarnation, gid, self.packed([part]), 0))
        return groups

    def _prefetch(self, groups: list[_Taken], at: int) -> int:
        """Read ahead for groups from `at` on; up to which?"""
        keys: list[bytes] = []
        while at < len(groups) and len(keys) < PREFETCH_KEYS:
            keys += groups[at][3].keys
            at += 1
        self.store.prefetch(keys)
        return at

    def _apply_group(
        self, entry: m.Entry, now: int, group: Group, number: int, skip: int, *, mine: bool
    ) -> tuple[list[bytes], int]:
        """The packed answers, and the revision whose physical compaction they wait for."""
        store, index, parts, compaction = self.store, entry.index, [], 0
        book = self.users.book
        session: Session | None = None
        if group.session:
            try:
                session = self._sessions.of(group.session, group.floor, index, now)
            except (errors.SessionExpired, errors.TooManyRequests) as error:
                return [failed(request, error, store.revision) for request, _, _ in group.asked], 0
        limits, quotas = self._limits, store.quotas
        for request, op, asked in group.asked:
            number += 1
            if session is not None:
                answered = session.answers
                if request in answered:
                    parts.append(answered[request])
                    if _is_physical(op, asked):
                        compaction = store.compacted  # who asks again waits as well
                    continue
                if request < session.floor:
                    parts.append(failed(request, errors.SessionExpired(str(index)), store.revision))
                    continue
                if len(answered) >= limits.session_answers_max and op not in _READS:
                    parts.append(failed(request, errors.TooManyRequests("session"), store.revision))
                    continue
            if number <= skip:
                parts.append(failed(request, errors.Unavailable(), store.revision))
                continue
            if book.enabled and (refusal := self._refusal(group.caller, op, asked)) is not None:
                parts.append(failed(request, refusal, store.revision))  # not remembered: it may be allowed when retried
                continue
            if op == _OP_PUT and type(asked) is tuple and not self.alarms.any:
                refused = store.refusal_of(asked[0], asked[1], now) if quotas.any else None
                if refused is None:
                    part = succeeded(request, store.put_plain(asked[0], asked[1]), _NOTHING_TO_TELL)
                else:
                    part = failed(request, refused, store.revision)
                if session is not None and (refused is None or not isinstance(refused, errors.OverRate)):
                    session.remember(request, part, store.revision, limits)
                parts.append(part)
                continue
            if op != _OP_PUT and len(store.pending) > 0:
                self._begun = number
                self._make_room(op, asked, session)
            store.leases.moment = (index, number, now)
            try:
                remember, body = self._evaluate(op, asked, entry, mine)
            except (errors.RequestError, errors.AuthOldRevision, errors.OverRate) as error:
                store.cancel()
                # Only what every member evaluates may be remembered, or their tables would differ.
                # And not that it came too early: it will be allowed when retried.
                remember = _is_write(op, asked) and not isinstance(error, errors.OverRate)
                part = failed(request, error, store.revision)
            else:
                part = succeeded(request, store.revision, _packed(body))
                if _is_physical(op, asked):
                    compaction = store.compacted
            if session is not None and remember:
                session.remember(request, part, store.revision, self._limits)
            parts.append(part)
        return parts, compaction

    def _refusal(self, caller: m.Caller | None, op: int, asked: Any) -> errors.ZkvError | None:
        if asked is None:
            return None  # whoever asks, it is no request
        try:
            guard.check(self.users.book, self.store.leases, caller, op, asked)
        except (errors.RequestError, errors.AuthOldRevision) as error:
            return error
        return None

    def _make_room(self, op: int, asked: Any, session: Session | None) -> None:
        """Write what is pending early where the next request would have to merge too much, or reads its history."""
        store = self.store
        scans = past = False
        if asked is None:
            return
        many = len(store.pending) > PENDING_MAX
        if op == _OP_TXN:
            scans, past = many and txn.scans(asked), txn.reads_past(asked)
        elif op == _OP_RANGE:
            ranged = m.Range(*asked)
            scans, past = bool(ranged.range_end), ranged.revision > 0
        elif op == _OP_DELETE:
            scans = bool(asked.range_end)
        elif op in _QUOTA_OPS:
            scans = True
        if past or (scans and many):
            self._commit()
            if session is not None:
                self._sessions.touch(session)

    def _evaluate(self, op: int, asked: Any, entry: m.Entry, mine: bool) -> tuple[bool, object]:
        """Whether the answer is one to remember, and its body.

        Raises a RequestError, AuthOldRevision, OverRate.
        """
        store = self.store
        store.begin()
        body: object
        if asked is None:
            raise errors.InvalidRequest
        if self.alarms.any:
            self.alarms.check(op, asked)
        if op == _OP_PUT:
            body = store.put(m.Put(*asked) if type(asked) is tuple else asked)
            store.end()
            return True, body
        if op == _OP_TXN:
            write = txn.is_write(asked)
            store.txns += 1
            body = txn.run(store, asked) if write or mine else None
            store.end()
            return write, body
        if op == _OP_DELETE:
            body = store.delete_range(asked)
            store.end()
            return True, body
        if op == _OP_COMPACT:
            store.compact(asked.revision)
            return True, ()
        if op in _MEMBER_OPS:
            self._members_changed = True
            return True, self._change_members(op, asked, entry.index)
        if op in _LEASE_OPS:
            return True, self._change_leases(op, asked, entry.term)
        if op in _USER_OPS:
            return True, self.users.change(op, asked)
        if op in _QUOTA_OPS:
            return True, store.quotas.change(asked, store.leases.moment[2], store.view().scan)
        if op == m.Op.ALARM:
            return True, (self.alarms.change(asked),)
        if op == m.Op.FENCE:
            self.alarms.fence(asked.member_id)
            return True, ((),)
        if op == _OP_RANGE:
            return False, store.range(m.Range(*asked)) if mine else None
        if op == m.Op.MEMBER_LIST:
            return False, (self.members.all(),)
        raise errors.InvalidRequest("not a request for the log")

    def _change_members(self, op: int, asked: Any, index: int) -> object:
        members = self.members
        if op == m.Op.PUBLISH:
            members.publish(asked)
            return ()
        if op == m.Op.MEMBER_ADD:
            added = members.add(asked, index)
            return added, members.all()
        if op == m.Op.MEMBER_REMOVE:
            members.remove(asked.id)
        elif op == m.Op.MEMBER_UPDATE:
            members.update(asked)
        else:
            members.promote(asked.id)
        return (members.all(),)

    def _change_leases(self, op: int, asked: Any, term: int) -> object:
        """The answer's body. Raises as `_evaluate`."""
        store = self.store
        if op == m.Op.LEASE_GRANT:
            ttl, lease, ttl_min, remaining = asked
            return m.LeaseGrantAnswer(*store.leases.grant(lease, max(ttl, ttl_min), remaining))
        if op == m.Op.LEASE_REVOKE:
            store.revoke(asked.id)
            store.end(as_of_right=True)
            return ()
        if asked.term != term:
            return ()  # who wrote this is deposed: what it knew of other leases' renewals may have been overtaken
        if op == m.Op.LEASE_RENEW:
            for lease, until in asked.leases:
                store.leases.renew(lease, until)
        else:
            store.expire(asked.leases, self._limits.lease_keys_max)
        return ()

    # --- the rest of the storage actor's calls ---

    def packed(self, parts: Sequence[bytes]) -> bytes:
        """A packed `Answers` of packed (id, code, revision, body)."""
        term, head = self._head_of_answers
        if term != self._raft_term:
            term = self._raft_term
            head = b"".join((b"\x96", *map(pack, (m.PROTOCOL_VERSION, *self._ids, term))))
            self._head_of_answers = term, head
        return pack_answers(head, parts)

    def read(self, payload: bytes, stamp: m.Stamp | None) -> ReadOutcome:
        """Evaluate a group of reads. Raises InvalidRequest when it is none."""
        return self._reading.read(payload, stamp, self.applied, self._time)

    def defragmented(self, request: int) -> bytes:
        """The answer to a request that `read` has left to the owner."""
        return self.packed([self._reading.defragmented(request)])

    def compaction_step(self) -> bool:
        """Forget a bounded part of what has been compacted. Is there more?"""
        return self.compaction.step(self.store.compacted)


_READS: Final = frozenset(
    (
        m.Op.RANGE,
        m.Op.HASH_KV,
        m.Op.STATUS,
        m.Op.MEMBER_LIST,
        m.Op.LEASE_TIME_TO_LIVE,
        m.Op.LEASE_LIST,
        m.Op.QUOTA_GET,
        m.Op.QUOTA_LIST,
    )
)
_LEASE_OPS: Final = frozenset((m.Op.LEASE_GRANT, m.Op.LEASE_REVOKE, m.Op.LEASE_RENEW, m.Op.LEASE_EXPIRE))


_MEMBER_OPS: Final = frozenset(
    (m.Op.PUBLISH, m.Op.MEMBER_ADD, m.Op.MEMBER_REMOVE, m.Op.MEMBER_UPDATE, m.Op.MEMBER_PROMOTE)
)


_QUOTA_OPS: Final = frozenset((m.Op.QUOTA_SET, m.Op.QUOTA_DELETE, m.Op.QUOTA_COUNT))


_USER_OPS: Final = frozenset(
    (
        m.Op.AUTH_ENABLE,
        m.Op.AUTH_DISABLE,
        m.Op.USER_ADD,
        m.Op.USER_DELETE,
        m.Op.USER_CHANGE_PASSWORD,
        m.Op.USER_GRANT_ROLE,
        m.Op.USER_REVOKE_ROLE,
        m.Op.ROLE_ADD,
        m.Op.ROLE_DELETE,
        m.Op.ROLE_GRANT_PERMISSION,
        m.Op.ROLE_REVOKE_PERMISSION,
        m.Op.LOGIN,
    )
)


def _is_physical(op: int, asked: Any) -> bool:
    """A compaction whose answer waits for its end."""
    return op == _OP_COMPACT and asked is not None and bool(asked.physical)


def _is_write(op: int, asked: Any) -> bool:
    if op == _OP_TXN and asked is not None:
        return txn.is_write(asked)
    return op not in _READS


def _packed(body: object) -> bytes:
    """What packing it would give; a txn's is put together of what is packed already."""
    if body is NOTHING_TO_TELL:
        return _NOTHING_TO_TELL
    if not isinstance(body, m.TxnAnswer):
        return pack(body)
    holds, responses = body
    parts = [b"\x92\xc3" if holds else b"\x92\xc2", array_head(len(responses))]
    for op, inner in responses:
        parts.append(_HEAD_IN_TXN[op])
        parts.append(_packed(inner))
    return b"".join(parts)


def pack_answers(head: bytes, parts: Sequence[bytes]) -> bytes:
    """What packing an `Answers` would give, without unpacking the parts first; `head`: all up to the array of them."""
    return head + array_head(len(parts)) + b"".join(parts) + b"\x00"
