"""The storage actor: the replicated state machine on its disk, fed by raft, read by the gateway.

One turn of it, in the order of what hurts most when it waits:

    apply      all entries that have come, as one write to the engine (which keeps small ones back for a while,
               `core/mvcc/gathering.py`); answers, events and the new place go out
    reads      those whose index is applied; small ones are answered at once, the rest become flows. What is read
               ahead of raft's leave goes to its door marked as such, and nothing is begun for it
    flows      a few steps of the answers under way (big ranges, hashes), for clients that have room for more
    background a step of compaction, of a slice of history for watchers, a chunk for a member that needs a snapshot,
               a step of what is compared with other members (auditor.py)

so that no read, however big, holds up writes by more than a few steps. What is applied becomes durable by a flush in a
thread beside the loop, each time about `flush_bytes` were written; raft is told how far, and cuts its log behind.

Where the disk has no room for what is to be written, nothing more is applied and raft is told so. Flows end; reads go
on, of what the engine holds: what it had kept back, and may have been answered already, only the log has then. When
there is room again, this process ends, so that its successor opens the engine anew: RocksDB writes no more until then.

When it starts, it tells raft where the store stands, and is fed from there: entries that were applied and not flushed
come again. When raft starts, it is told the same.
"""

from __future__ import annotations

import contextlib
import errno
import heapq
from pathlib import Path
from time import monotonic_ns
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import structlog

from zkv.actors import refill
from zkv.actors.auditor import Auditor, Checks
from zkv.actors.auth_feed import AuthFeed
from zkv.actors.compactor import Compactor
from zkv.actors.defragmenter import POLL_MS, Asked, Defragmenter
from zkv.actors.event_feed import EventFeed
from zkv.actors.flows import Flows
from zkv.actors.flusher import ThreadFlusher
from zkv.actors.housekeeper import Housekeeper
from zkv.actors.lease_feed import LeaseFeed
from zkv.actors.node import asking_actor
from zkv.actors.quota_gauges import quota_gauges
from zkv.actors.snapshots import SnapshotDesk
from zkv.actors.space import RESERVE_BYTES_MIN, Space
from zkv.actors.stages import SlowLog
from zkv.actors.stores import DiskStore, MemoryStore
from zkv.core.auto_compaction import AutoCompaction
from zkv.core.mvcc.machine import StateMachine
from zkv.core.mvcc.reading import HASH, SNAPSHOT
from zkv.errors import DiskFull, NoSpace, RequestError, TooManyRequests, Unavailable
from zkv.gauges import Histogram
from zkv.mailbox import Mailbox, Stop
from zkv.monotonic import monotonic_ms
from zkv.version import VERSION
from zkv.wire import codec
from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from zkv.actors.flusher import Flusher
    from zkv.actors.node import Node
    from zkv.actors.stores import Store
    from zkv.core.mvcc.engine import Engine
    from zkv.core.mvcc.machine import Answered
    from zkv.core.mvcc.reading import ReadOutcome
    from zkv.gauges import Value
    from zkv.limits import Limits

SAY_MS = 20  # what was applied is told to raft and watch this much later at most: each word costs both a turn; ...
# ... and what an entry may have given cause for is looked after as late: each look costs the turns of all requests.
LITTLE_BYTES = 16 << 10  # applied since it was told last: so little, of which nothing but answers has come, ...
SAY_LITTLE_MS = 250  # ... may wait so long, else a lone writer's next write meets with the word of the one before
FLUSH_POLL_MS = 20  # how often a flush under way is asked whether it is done
FULL_MS = 500  # how often a full disk is looked at, ...
FULL_MS_MIN = 6_000  # ... after so long: who dies of it again and again must not look like one that cannot live
SNAPSHOT_PAUSE_MS = 5_000  # so long no chunk is taken after there was no room for one
WRITTEN_PER_BODY_BYTE = 3  # a put lies in the store about three times: its record, its event, its history entry


_WaitingRead: TypeAlias = "tuple[int, int, m.StampedRead, bool]"
"""The index that must be applied, how many reads came before it, and is it to be read ahead?"""


class StorageActor:
    def __init__(
        self,
        *,
        store: Store,
        limits: Limits,
        cluster_id: int,
        member_id: int,
        bootstrap: Sequence[m.Member],
        flusher: Flusher,
        post: Callable[[str, NamedTuple], bool],
        quota_bytes: int = 0,
        auto_compaction: AutoCompaction | None = None,
        slow_log: SlowLog | None = None,
        checks: Checks = Checks(),  # noqa: B008 - a record that nobody can change
        fence: Callable[[], None] = lambda: None,
        space: Space | None = None,
        mirrors: Sequence[str] = (),
        now: int = 0,
    ) -> None:
        """`fence`: this member holds other data than the majority; raises, unless it is being refilled.

        `mirrors`: the neighbours that are told of users and roles; others are from their Hello on.
        """
        self.finished = False
        self._store = store
        self._limits = limits
        self._cluster_id = cluster_id
        self._member_id = member_id
        self._flusher = flusher
        self._post = post
        self._logger = structlog.get_logger().bind(actor="storage")
        self._machine = self._open()
        if not self._machine.applied and not self._machine.members.table():
            self._machine.bootstrap(bootstrap)
        self._desk = SnapshotDesk(limits.chunk_bytes, self._store.staging)
        self._durable = self._machine.applied  # what was found on the disk is durable
        self._flushing: int | None = None  # the place that the flush under way will make durable
        self._unflushed_bytes = 0
        self._unsaid_bytes = 0  # applied since raft was last told, and ...
        self._say_at: int | None = None  # ... when it is told at the latest
        self._must_begin = False  # raft's queue was full when it was to be told where the store stands
        self._defragmenter = Defragmenter()
        self._auditor = Auditor(member_id, checks, post, self._machine, now)
        self._fence = fence
        self._housekeeper = Housekeeper(
            member_id, quota_bytes, auto_compaction or AutoCompaction("periodic", 0), post, space
        )
        self._feed = EventFeed(self._machine, limits.feed_bytes_max, post)
        self._lease_feed = LeaseFeed(self._machine, post)
        self._auth_feed = AuthFeed(self._machine, mirrors, post)
        self._waiting: list[_WaitingRead] = []
        self._reads_taken = 0
        self._made = {kind: Histogram() for kind in (HASH, SNAPSHOT)}
        self._flows = Flows(post, self._packed, self._made)
        self._held: list[Answered] = []  # answers that wait for physical compaction
        self._stopping = False
        self._space = space
        self._compactor = Compactor()
        self._full_until: int | None = None  # there was no room on the disk; when to look again
        self._applies = Histogram()
        self._slow_applies = 0
        self._slow_log = slow_log or SlowLog(100, 300)
        self._tend_at: int | None = 0  # when what is no request is to be looked after
        self._begin()

    def _open(self) -> StateMachine:
        return StateMachine(
            self._store.engine, self._limits, cluster_id=self._cluster_id, member_id=self._member_id, version=VERSION
        )

    def _begin(self) -> None:
        """Tell raft where the store stands: it will be fed from there."""
        machine, full = self._machine, self._full_until is not None
        awaited = self._is_awaited
        at = m.StorageAt(machine.applied, self._durable, feed=True, base=machine.place, full=full, awaited=awaited)
        self._must_begin = not (self._auditor.is_starting or self._post("raft", at))
        self._tell_members()

    def _tell_members(self) -> None:
        members = self._machine.members
        if not self._post("raft", m.MembersAre(members.table(), members.removed(), self._machine.applied)):
            self._must_begin = True

    # --- the actor's face ----------------------------------------------------------------------

    def handle(self, inbox: Sequence[tuple[str, object]], now: int) -> None:
        entries: list[m.Entry] = []
        term = 0
        tends = not inbox or bool(self._flows)
        for _, message in inbox:
            if type(message) is m.Apply:
                entries.extend(message.entries)
                term = message.term
            elif type(message) is m.StampedRead:
                self._reads_taken += 1
                heapq.heappush(self._waiting, (message.index, self._reads_taken, message, False))
            elif type(message) is m.ReadAhead:
                self._reads_taken += 1
                read = message.read
                heapq.heappush(self._waiting, (read.index, self._reads_taken, read, True))
            else:
                if entries:  # what came before this message counts before it
                    self._apply(entries, term, now)
                    entries = []
                if type(message) is not m.WatchNeeds:
                    self._settle(now)
                self._mail(message, now)
                tends = tends or type(message) is not m.WatchNeeds or self._feed.is_due
        if entries:
            self._apply(entries, term, now)
            tends = tends or self._machine.compaction.is_due(self._machine.store.compacted)
        if self._auditor.is_starting:
            self._audit_start(now)
        while self._waiting and self._waiting[0][0] <= self._machine.applied and not self._auditor.is_starting:
            _, _, read, is_ahead = heapq.heappop(self._waiting)
            if is_ahead:
                self._read_ahead(read, now)
            else:
                self._read(read, now)
        if tends or self._flows or (self._tend_at is not None and self._tend_at <= now):
            self._tend(now)
            self._tend_at = self._next_tend(now)
        elif entries:
            at = now + SAY_MS if self._say_at is None or self._must_begin else self._say_at
            self._tend_at = at if self._tend_at is None else min(self._tend_at, at)

    def next_wakeup(self, now: int) -> int | None:  # noqa: ARG002 - the actors' face
        return self._tend_at

    def _tend(self, now: int) -> None:
        """All but entries and small reads: what is under way, and what time brings."""
        self._settle(now)
        self._flows.step(now)
        with self._room_needed(now):
            if self._compacts and self._compactor.at <= now:
                self._compactor.step(self._machine, now, waited_for=bool(self._held))
                self._store.engine.settle()
                self._release_held()
        self._feed.step()
        self._lease_feed.step(now)
        self._auditor.step(self._machine, now)
        self._auth_feed.step()
        if self._full_until is None:
            with self._room_needed(now):
                self._tend_flush(now)
        else:
            self._tend_full_disk(now)
        if self.finished:  # the store is closed
            return
        self._housekeeper.tend(self._machine, now)
        self._tend_defragmentation(now)
        if self._must_begin:
            self._begin()
        if self._say_at is not None and self._say_at <= now:
            self._say(now)
        if self._say_at is None and self._feed.is_due:  # if only because there was no room for it just now
            self._say_at = now + SAY_MS

    @property
    def _compacts(self) -> bool:
        machine = self._machine
        return self._full_until is None and machine.compaction.is_due(machine.store.compacted)

    def _next_tend(self, now: int) -> int | None:
        if (self._compacts and self._compactor.at <= now) or self._flows.can_step:
            return now
        if self._feed.can_step or self._auditor.can_step:
            return now
        wakeups = self._flows.wakeups()
        leases_at = self._lease_feed.wakeup()
        if leases_at is not None:
            wakeups.append(leases_at)
        if self._flushing is not None or self._stopping:
            wakeups.append(now + FLUSH_POLL_MS)
        wakeups += [at for at in (self._housekeeper.wakeup(), self._auditor.wakeup()) if at is not None]
        if self._defragmenter.is_running:
            wakeups.append(now + POLL_MS)
        if self._full_until is not None:
            wakeups.append(self._full_until)
        elif self._compacts:
            wakeups.append(self._compactor.at)
        if self._say_at is not None:
            wakeups.append(self._say_at)
        if self._must_begin or self._auth_feed.is_behind:
            wakeups.append(now + SAY_MS)
        if self._feed.is_stuck or self._flows.is_stuck:
            wakeups.append(now + SAY_MS)
        return min(wakeups, default=None)

    def gauges(self) -> Sequence[Value]:
        machine, store = self._machine, self._machine.store
        numbers = {
            "revision": machine.revision,
            "compacted": store.compacted,
            "db size": machine.engine.size(),
            "db in use": machine.engine.size_in_use(),
            "quota": self._housekeeper.quota,
            "slow applies": self._slow_applies,
            "reads waiting": len(self._waiting),
            "streams": len(self._flows),
            "changes": store.changes,
            "puts": store.changes - store.tombstones,
            "deletions": store.deletions,
            "ranges": store.ranges,
            "txns": store.txns,
            "event bytes": store.event_bytes,
            "auth revision": machine.users.book.revision,
            "snapshot coming": self._desk.is_receiving,
            "compacted keys": machine.compaction.removed,
            "unflushed": self._unflushed_bytes,
        }
        on = [alarm for _, alarm in machine.alarms.find(m.Alarm())]
        return [
            *((name, "", int(number)) for name, number in numbers.items()),
            *(("alarms", alarm.name, on.count(alarm)) for alarm in (m.AlarmType.NOSPACE, m.AlarmType.CORRUPT)),
            ("apply", "", self._applies.counts),
            *((kind, "", durations.counts) for kind, durations in self._made.items()),
            *self._defragmenter.gauges(),
            *self._compactor.gauges(),
            *quota_gauges(machine.store.quotas),
        ]

    def _mail(self, message: object, now: int) -> None:
        match message:
            case m.StreamCredit(gid=gid, chunks=chunks):
                self._flows.credit(gid, chunks, now)
            case m.SnapshotWanted(refused=True):
                self._desk.end(message.member, message.stream)
            case m.SnapshotWanted():
                self._snapshot_wanted(message)
            case m.SnapshotIn():
                if self._desk.takes_any(now):
                    self._snapshot_in(message, now)
            case m.Hello(actor="raft"):
                self._waiting.clear()  # raft's predecessor let them pass; the gateway has given them up
                self._desk.end_all()
                self._begin()
            case m.WatchNeeds():
                if message.events != self._machine.store.want_events:
                    self._say_at = self._tend_at = now  # raft is to know whether anybody waits for what is committed
                self._feed.needs(message)
            case m.HistoryWanted():
                self._feed.want(message)
            case m.Hello(actor="watch"):
                self._feed.restarted()
                self._auth_feed.meet("watch")
            case m.Hello(actor="lease"):
                self._lease_feed.restart()
            case m.Slow():
                self._slow_log.tell(message)
            case m.LeaderIs(leader=leader):
                self._housekeeper.leader_is(leader, now)
                self._auditor.leader_is(leader, now)
            case m.HashWanted() | m.HashIs() | m.DigestsWanted() | m.DigestsAre():
                self._auditor.mail(message, self._machine, now)
            case m.Hello(actor="gateway" | "grpc" as door):
                self._flows.forget(door)
                self._held = [answered for answered in self._held if m.door_of(answered.incarnation) != door]
                self._auth_feed.meet(door)
            case m.Hello():
                pass
            case Stop():
                self._stopping = True
            case _:
                raise AssertionError(f"unexpected mail {type(message).__name__}")

    def _audit_start(self, now: int) -> None:
        """Nothing is served, and raft not told to begin, before this member has been compared with the others."""
        self._auditor.step(self._machine, now)
        if not self._auditor.is_starting:
            self._begin()

    # --- writes ----------------------------------------------------------------------------------

    def _say(self, now: int) -> None:
        """Tell raft and watch how far the store has come. Raft feeds no more than a window: it must come to know."""
        self._unsaid_bytes = 0
        machine, full = self._machine, self._full_until is not None
        at = m.StorageAt(machine.applied, self._durable, full=full, awaited=self._is_awaited)
        told = self._post("raft", at)
        self._say_at = None if told else now + SAY_MS
        if self._feed.is_due:
            self._feed.say()

    @property
    def _is_awaited(self) -> bool:
        """Does anybody count on it that what is committed arrives here at once? Who watches; who shows a token that
        another member gave: until it is applied here it is nobody's.
        """
        return self._machine.store.want_events or self._machine.users.enabled

    def _apply(self, entries: list[m.Entry], term: int, now: int) -> None:
        machine = self._machine
        if self._full_until is not None:
            return  # they will be fed again
        if entries[0].index > machine.applied + 1:
            # What lies between was lost on the way (raft had sent it to our predecessor): have it fed again.
            self._begin()
            return
        began = monotonic_ns()
        try:
            outcome = machine.apply(entries, term)
        except OSError as error:
            self._no_room(error, now)
            return
        ended = monotonic_ns()
        self._applies.observe(ended - began)
        size = sum(len(entry.body) for entry in entries)
        self._slow_applies += self._slow_log.applied(entries[-1].index, began, ended, len(entries), size)
        self._unflushed_bytes += WRITTEN_PER_BODY_BYTE * size
        self._auth_feed.step()  # before what it is about: no event, no answer under permissions of before
        self._feed.applied(outcome.events)
        self._lease_feed.applied(outcome.leases, now)
        self._answer(outcome.answers, machine.applied)
        if outcome.members_changed:
            self._tell_members()
        if machine.alarms.is_fenced(self._member_id):
            self._fence()
        self._unsaid_bytes += size
        if self._unsaid_bytes >= self._limits.feed_bytes_max // 4:
            self._say(now)
            return
        has_cause = outcome.leases or outcome.members_changed or self._auth_feed.is_behind
        is_little = self._unsaid_bytes < LITTLE_BYTES and not has_cause and not machine.store.quotas.is_counting
        at = now + (SAY_LITTLE_MS if is_little else SAY_MS)
        self._say_at = at if self._say_at is None else min(self._say_at, at)

    def _answer(self, answers: list[Answered], index: int = 0) -> None:
        """To the gateways, in one message for each incarnation (each has one, but just after a restart)."""
        compaction = self._machine.compaction
        ready: dict[int, list[tuple[int, bytes, bool]]] = {}
        for answered in answers:
            if answered.compaction and compaction.is_due(answered.compaction):
                self._held.append(answered)
                self._tell_under_way(answered.incarnation, answered.gid)
            else:
                ready.setdefault(answered.incarnation, []).append((answered.gid, answered.answers, True))
        for incarnation, group in ready.items():
            told = tuple.__new__(m.GatewayAnswers, (incarnation, tuple(group), index))  # as in core/raft/replica.py
            self._post(m.door_of(incarnation), told)

    def _release_held(self) -> None:
        """Those whose compaction has ended."""
        compaction = self._machine.compaction
        ready = [answered for answered in self._held if not compaction.is_due(answered.compaction)]
        if ready:
            self._held = [answered for answered in self._held if compaction.is_due(answered.compaction)]
            self._answer(ready)

    def _tell_under_way(self, incarnation: int, gid: int) -> None:
        """However long it takes: what the door is told is that nothing has been answered yet, and more follows."""
        answers = m.GatewayAnswers(incarnation, ((gid, self._machine.packed([]), False),))
        self._post(m.door_of(incarnation), answers)

    # --- a full disk -----------------------------------------------------------------------------

    @contextlib.contextmanager
    def _room_needed(self, now: int) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._no_room(error, now)

    def _settle(self, now: int) -> None:
        """Before what reads with an order, or a view: it may find no room for what the engine has kept back."""
        with self._room_needed(now):
            self._store.engine.settle()

    def _no_room(self, error: OSError, now: int) -> None:
        """Nothing is applied from here on; what was begun, or kept back, is forgotten. Raises all other errors."""
        if error.errno != errno.ENOSPC:
            raise error
        if self._full_until is None:
            self._logger.error("no space left on the disk, this member takes no writes", reason=str(error))
            self._full_until = now + FULL_MS_MIN
            self._flows.end_all()  # a hash that waits for compaction would be of less than its revision says
            self._serve(self._open())  # as the engine has it: the batch that found no room is in no part there
            self._begin()

    def _tend_full_disk(self, now: int) -> None:
        """Raises DiskFull when it is not full any more: this process ends, and the next one opens the engine anew."""
        assert self._full_until is not None
        if self._stopping:
            self.finished = True  # what was not flushed, raft has
        elif now >= self._full_until:
            self._full_until = now + FULL_MS
            if self._space is None or self._space.free() >= RESERVE_BYTES_MIN:
                raise DiskFull("there is space on the disk again, and the store is to be opened anew")

    def _serve(self, machine: StateMachine) -> None:
        self._machine = machine
        self._feed.serve(machine)
        self._lease_feed.serve(machine)
        self._auth_feed.serve(machine)
        self._auditor.restarted()

    def _tend_defragmentation(self, now: int) -> None:
        try:
            done = self._defragmenter.done()
        except OSError as error:
            self._no_room(error, now)
            for asked in self._defragmenter.give_up():
                self._post(m.door_of(asked.incarnation), m.Refused(asked.incarnation, NoSpace.code, (asked.gid,)))
            return
        for asked in done:
            answer = asked.gid, self._machine.defragmented(asked.request), True
            self._post(m.door_of(asked.incarnation), m.GatewayAnswers(asked.incarnation, (answer,)))

    # --- reads -----------------------------------------------------------------------------------

    def _packed(self, parts: Sequence[bytes]) -> bytes:
        return self._machine.packed(parts)

    def _read(self, read: m.StampedRead, now: int) -> None:
        answers: list[tuple[int, bytes, bool]] = []
        incarnation, asker = 0, "gateway"
        for packed in read.frames:
            _, asked_by, groups = codec.decode_frame(packed)
            if answers and asked_by != incarnation:
                self._post(asker, m.GatewayAnswers(incarnation, tuple(answers)))
                answers = []
            incarnation = asked_by
            asker = asking_actor(incarnation)
            for gid, payload in groups:
                try:
                    outcome = self._evaluated(read, payload, now)
                except (RequestError, Unavailable) as error:
                    self._post(asker, m.Refused(incarnation, error.code, (gid,)))
                    continue
                if outcome.streams and len(self._flows) >= self._limits.streams_max:
                    self._post(asker, m.Refused(incarnation, TooManyRequests.code, (gid,)))
                    continue
                if outcome.defragment:  # always a group of its own
                    self._defragment(Asked(incarnation, gid, outcome.defragment[0]))
                    continue
                if not outcome.streams:
                    answers.append((gid, self._machine.packed(outcome.parts), True))
                    continue
                # a first chunk, if there was one, is paid for already; nobody gives credit for what comes in one piece
                credit = max(1, self._limits.chunk_credit - len(outcome.parts))
                self._flows.begin(incarnation, gid, outcome, credit, now)
        if answers:
            self._post(asker, tuple.__new__(m.GatewayAnswers, (incarnation, tuple(answers), 0)))

    def _evaluated(self, read: m.StampedRead, payload: bytes, now: int) -> ReadOutcome:
        """Raises a RequestError, Unavailable."""
        if read.index > self._machine.applied:
            raise Unavailable  # the store has just gone back
        try:
            return self._machine.read(payload, read.stamp)
        except OSError as error:
            self._no_room(error, now)
            raise Unavailable from None

    def _read_ahead(self, read: m.StampedRead, now: int) -> None:
        """Before raft lets it pass: nothing is begun here that may come to nothing."""
        _, incarnation, ((gid, payload),) = codec.decode_frame(read.frames[0])
        answered: m.AnsweredAhead | None = None
        try:
            outcome = self._evaluated(read, payload, now)
            if not (outcome.streams or outcome.defragment):
                found = incarnation, gid, self._machine.packed(outcome.parts), None
                answered = tuple.__new__(m.AnsweredAhead, found)
        except (RequestError, Unavailable):
            pass  # refused
        self._post(m.door_of(incarnation), answered or m.AnsweredAhead(incarnation, gid, b"", read))

    def _defragment(self, asked: Asked) -> None:
        if self._defragmenter.ask(asked, self._store.engine):
            self._tend_at = 0  # from this turn on: its end is to be looked for
            self._tell_under_way(asked.incarnation, asked.gid)
        else:
            self._post(m.door_of(asked.incarnation), m.Refused(asked.incarnation, TooManyRequests.code, (asked.gid,)))

    # --- what lasts --------------------------------------------------------------------------------

    def _tend_flush(self, now: int) -> None:
        machine = self._machine
        if self._flushing is not None:
            if not self._flusher.is_done():
                return
            self._durable, self._flushing = self._flushing, None
            self._say(now)
        if self._stopping and self._durable == machine.applied:
            self._defragmenter.wait()
            self._store.engine.close()
            self.finished = True
        elif self._unflushed_bytes >= self._limits.flush_bytes or self._stopping:
            self._store.engine.settle()
            self._flushing, self._unflushed_bytes = machine.applied, 0
            self._flusher.begin(self._store.engine)

    # --- snapshots ---------------------------------------------------------------------------------

    def _snapshot_wanted(self, wanted: m.SnapshotWanted) -> None:
        machine = self._machine
        chunk = self._desk.wanted(
            wanted.member, wanted.stream, wanted.wanted, lambda: (machine.place, machine.engine.snapshot(once=True))
        )
        if chunk is not None:
            self._post("raft", m.SnapshotOut(wanted.member, chunk))

    def _snapshot_in(self, coming: m.SnapshotIn, now: int) -> None:
        try:
            ack, staging = self._desk.take(coming.chunk)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            self._logger.warning("no space left on the disk for a snapshot", member=f"{coming.member:x}")
            self._desk.give_up_incoming(now + SNAPSHOT_PAUSE_MS)
            return
        installed = None
        if staging is not None:
            if coming.chunk.meta.index > self._machine.applied and self._flushing is None:
                self._swap_in(staging)
                installed = self._machine.place
                self._logger.info("store replaced by a snapshot", applied=installed.index)
                self._tell_members()
            else:
                staging.close()
        self._post("raft", m.SnapshotTaken(coming.member, ack, installed))

    def _swap_in(self, staging: Engine) -> None:
        """Whoever reads the store of before is told that it is gone: an engine in use cannot be closed."""
        self._flows.end_all()
        self._desk.end_all()
        self._defragmenter.wait()
        self._store.swap_in(staging)
        self._serve(self._open())
        self._durable = self._machine.applied
        self._unflushed_bytes = 0
        self._release_held()


def start(node: Node, incarnation: int) -> tuple[StorageActor, Mailbox]:
    """The actor on its real disk and sockets, for `mailbox.run`."""
    mailbox = Mailbox(node.rundir, "storage", ("raft", *node.doors, "watch", "lease"), reports=node.reports)
    store: Store = MemoryStore() if node.config.storage == "memory" else DiskStore(node.store_dir)
    actor = StorageActor(
        store=store,
        limits=node.limits,
        cluster_id=node.cluster_id,
        member_id=node.member_id,
        bootstrap=node.bootstrap,
        flusher=ThreadFlusher(),
        post=mailbox.post,
        quota_bytes=node.config.quota_backend_bytes,
        checks=Checks(*node.config.corruption_checks()),
        space=None if node.config.storage == "memory" else Space((node.store_dir, node.wal_dir)),
        fence=lambda: refill.fence(Path(node.wal_dir).parent),
        now=monotonic_ms(),
        slow_log=SlowLog(*node.config.warning_ms()),
        auto_compaction=AutoCompaction(node.config.auto_compaction_mode, node.config.compaction_retention()),
        mirrors=(*node.doors, "watch"),
    )
    for neighbour in (*node.doors, "watch", "lease"):
        mailbox.post(neighbour, m.Hello("storage", incarnation))
    return actor, mailbox
