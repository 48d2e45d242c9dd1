r"""Who ends when: what the lease actor of the leader decides, and why no lease ever ends early.

The lease table is replicated (mvcc/leases.py): a record says `until`, a time of the cluster clock (raft/clock.py),
LEASE_SLACK_MS more than was asked for. Each member's lessor mirrors it from storage's news. The leader's also knows, in
memory only, when a lease is really to end: its *deadline*, never later than `until`. At the deadline it logs the
expiry, void if `until` is another by then.

Keep-alives cost no log entry while the log promises enough already. One that comes at time t promises the lease's life
up to t + ttl, and the answer may leave as soon as no leader, now or ever after, would expire the lease before:

    answered at once   t + ttl <= until: then only the deadline moves
    logged             otherwise: a renewal to t + ttl + SLACK is proposed, and answered when the news show it
    waits              its expiry is due or proposed: the log decides
    asked              the lease is not known here: a linearizable read tells whether it exists; only that may say no

Renewals and expiries are void unless their entry is of the term they were proposed in; expiries also if `until` is
another by then. A record was *made*, by the clock of the leader of then, at `until - SLACK - ttl`: that is the time of
a grant's entry, or of the keep-alive that was logged. It is *own* if made after `since`, the time by its own clock when
this process learned that its member leads this term. (One granted with less than its ttl left seems made earlier than
it was; so it may be taken for another's, and end at `until`, which is never too early.)

    deadline of an own record       as it came, ttl after that; with each answer, ttl after that; never beyond until
    deadline of any other record    until

Claim: a lease lives for its ttl at least from the moment when any granted, or answered, keep-alive was handled.

Own records were logged in this term, and not through a predecessor of this process: whatever lies in a leader's log at
its election has been made, and stamped, before its clock shows that time (raft/clock.py), so before `since`.
Let lessor X, leading in term T, have promised life up to p <= until. Who could log an expiry that names this `until`?
 1. X: at its deadline, which is p or later.
 2. A leader Y of a later term: it has the record in its log (X had it from storage, so it is committed), and it is not
    own to Y. So Y expires at `until` >= p, by a clock that is never ahead of T's. That X may have been deposed and not
    know it changes nothing: X promises no more than what is logged in its term or before. (News of a record that was
    logged in a later term end X's leadership: its successor may have it as own.)
 3. Whoever proposed one before X promised, and it is under way: he had reached `until - SLACK` by a clock that is not
    behind X's log, if it lies there, or is X's own, if a predecessor of X's process in the same term proposed it. So
    X's clock was past that too, and p, a ttl later, would be beyond `until`: ttl is 1 s or more, SLACK is less.
 4. A successor of X's process, in the same term: the record is not own to it.                                      []

How late may a lease end? At a leader that stays: by what logging takes. After a change of leaders: at `until`, so SLACK
more, and by what the clock lost: what the quickest entry took to come, or what passed since the last entry, if the
machine restarted; so the leader logs the time each TICK_MS while there are leases. While nobody leads, nothing ends.
"""

from __future__ import annotations

import heapq
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Final

from zkv.core.lease_askers import DEPOSED, RETRY_MS, Askers
from zkv.gauges import Histogram
from zkv.limits import LEASE_SLACK_MS
from zkv.wire.messages import LeaseExpire, LeaseNews, LeaseRenew

if TYPE_CHECKING:
    from collections.abc import Iterable

    from zkv.core.lease_askers import Asker
    from zkv.limits import Limits

TTL_UNIT: Final = 1_000_000
"""A second is counted as a millisecond, for which the buckets are made."""

TICK_MS: Final = 1000
"""While there are leases, the log is told the time at least this often."""
EXPIRES_IN_FLIGHT: Final = 2
"""Entries with expiries that wait for their outcome: the next go when they are applied, and other writes between."""
EXPIRED_PER_ENTRY: Final = 250
"""Leases that one entry ends at most: each has a revision of its own, and the writes of others wait meanwhile."""
ENDED_PER_ENTRY: Final = 100
"""Ended leases with keys left, in one entry: each costs a look, though the first may use up what may be deleted."""
DUE_ENTRIES: Final = 4
"""So many entries' leases that are due are taken from the heap ahead of time."""
STALE_MIN: Final = 1000
"""The heap is made anew when more than half of it, and this, is of leases that are gone or end sooner now."""


class _Batch:
    """Expiries proposed in one entry. `left`: those without an outcome yet."""

    __slots__ = ("ids", "left", "retry_at")

    def __init__(self, ids: list[int], retry_at: int) -> None:
        self.ids = ids
        self.left = len(ids)
        self.retry_at = retry_at


class _Lease:
    """`renewal`: proposed, not yet seen; 0: none. `due`: to expire; `batch`: proposed. `queued`: in the heap."""

    __slots__ = ("batch", "deadline", "due", "queued", "renewal", "ttl", "until")

    def __init__(self, ttl: int, until: int) -> None:
        self.ttl = ttl
        self.until = until
        self.rest()

    def rest(self) -> None:
        """As one that no leader looks after."""
        self.deadline = self.until
        self.queued = self.renewal = 0
        self.due = False
        self.batch: _Batch | None = None


class Lessor:
    """See the module. All times are ms; `now` is this machine's monotonic clock, deadlines are the cluster's.

    `ticket`: where the numbers of its questions start, another for each life of the process.
    """

    def __init__(self, limits: Limits, member_id: int, ticket: int) -> None:
        self.leader = 0
        """The member that leads, as far as is known; 0: nobody."""
        self.term = 0
        """In which term."""
        self.leading = False
        self.revision = 0
        """The store's, when it last told news."""
        self.askers = Askers(ticket, limits.in_flight_groups_max, limits.message_requests_max)
        self._limits = limits
        self._member_id = member_id
        self._table: dict[int, _Lease] = {}
        self._before: dict[int, tuple[int, int, int]] = {}  # (ttl, until, deadline) before the table came anew
        self._news_term = 0
        self._clock = 0
        self._since = 0  # the cluster clock when this leadership began here
        self._heap: list[tuple[int, int]] = []
        self._due: deque[int] = deque()
        self._ended: deque[int] = deque()
        self._expiring: list[_Batch] = []
        self._expiring_ended: _Batch | None = None
        self._to_renew: dict[int, None] = {}
        self._renewing: deque[tuple[int, list[int]]] = deque()  # (retry at, leases)
        self._spoke_at = 0
        self._proposals: list[LeaseRenew | LeaseExpire] = []
        self._reading = False  # the table is coming in slices
        self.granted = self.ended = self.expired = self.renewed = 0
        self.ttls = Histogram()
        """Of those granted."""
        """Leases seen to begin and to end; of these, as leader, those that ran out; keep-alives taken, as leader."""

    def __len__(self) -> int:
        return len(self._table)

    # --- who leads -----------------------------------------------------------------------------------

    def leader_is(self, term: int, leader: int, clock: int, now: int) -> None:
        """`clock`: what the leader, if it is this member, adds to `now` to have the cluster clock."""
        leading = leader == self._member_id and term >= self._news_term
        if leading and (self.leading, self.term, self._clock) == (True, term, clock):
            return
        if self.leading:
            self._step_down()
        self.term, self.leader = term, leader if leading or leader != self._member_id else 0
        if leading:
            self._lead(clock, now)

    def _lead(self, clock: int, now: int) -> None:
        self.leading, self._clock, self._since = True, clock, now + clock
        self._spoke_at = now
        for lease in self._table.values():
            lease.rest()
            lease.queued = lease.deadline
        self._ended.extend(id_ for id_, lease in self._table.items() if not lease.until)
        self._heap = [(lease.until, id_) for id_, lease in self._table.items() if lease.until]
        heapq.heapify(self._heap)

    def _step_down(self) -> None:
        self.leading = False
        self.leader = 0
        self.askers.depose()
        for queue in (self._heap, self._due, self._ended, self._expiring, self._to_renew, self._renewing):
            queue.clear()
        self._expiring_ended = None
        self._before.clear()
        self._proposals.clear()

    # --- what storage tells --------------------------------------------------------------------------

    def news(self, news: LeaseNews, now: int) -> None:
        self.revision = news.revision
        self._news_term = max(self._news_term, news.term)
        if self.leading and self.term < news.term:
            self._step_down()
        if news.fresh:
            self._begin_anew()
        for id_ in news.gone:
            lease = self._table.pop(id_, None)
            if lease is not None:
                self.ended += 1
                self.expired += lease.due
                self._release(lease)
            self.askers.look_up(id_)
        known = len(self._table)
        for id_, ttl, until in news.leases:
            if id_ not in self._table and not self._reading:
                self.ttls.observe(ttl * TTL_UNIT)
            self._known(id_, ttl, until, now)
        if not self._reading:
            self.granted += len(self._table) - known
        self._reading &= news.more

    def _begin_anew(self) -> None:
        """The table comes again, perhaps from a store that was set back. What was answered still binds."""
        if self.leading:
            self._before = {id_: (lease.ttl, lease.until, lease.deadline) for id_, lease in self._table.items()}
            for queue in (self._heap, self._due, self._ended, self._expiring):
                queue.clear()
            self._expiring_ended = None
            self.askers.look_up_all()
        self._table.clear()
        self._reading = True

    def _known(self, id_: int, ttl: int, until: int, now: int) -> None:
        lease = self._table.get(id_)
        changed = True
        if lease is None:
            lease = self._table[id_] = _Lease(ttl, until)
        elif (lease.ttl, lease.until) != (ttl, until) or not until:
            self._release(lease)
            lease.ttl, lease.until, lease.due = ttl, until, False
        else:
            changed = False
        if not self.leading or not changed:
            return
        if until >= lease.renewal or not until:
            lease.renewal = 0
        if not until:
            self._ended.append(id_)
            self.askers.look_up(id_)
            return
        time = now + self._clock
        lease.deadline = min(until, time + ttl * 1000) if self._is_own(lease) else until
        if self._before:
            before = self._before.pop(id_, None)
            if before is not None and before[:2] == (ttl, until):
                lease.deadline = before[2]
        self._queue(id_, lease)
        self._serve(id_, lease, now)

    def _is_own(self, lease: _Lease) -> bool:
        return lease.until - lease.ttl * 1000 - LEASE_SLACK_MS > self._since

    def _release(self, lease: _Lease) -> None:
        """It has an outcome."""
        batch, lease.batch = lease.batch, None
        if batch is not None:
            batch.left -= 1

    def _queue(self, id_: int, lease: _Lease) -> None:
        """See to it that the heap holds it at its deadline or before: then it is put where it belongs."""
        if not lease.queued or lease.deadline < lease.queued:
            lease.queued = lease.deadline
            heapq.heappush(self._heap, (lease.deadline, id_))
            if len(self._heap) > 2 * len(self._table) + STALE_MIN:
                self._heap = [(lease.queued, id_) for id_, lease in self._table.items() if lease.queued]
                heapq.heapify(self._heap)

    # --- keep-alives ---------------------------------------------------------------------------------

    def keep_alive(self, id_: int, asker: Asker, now: int) -> None:
        """Answered in `askers.settled`, at once or some time."""
        lease = self._table.get(id_)
        self.renewed += self.leading
        if not self.leading:
            self.askers.settle(asker, DEPOSED)
        elif lease is None or not lease.until:
            self.askers.inquire(id_, asker)
        else:
            owed = now + self._clock + lease.ttl * 1000
            if owed <= lease.until and not lease.due:
                lease.deadline = max(lease.deadline, owed)
                self.askers.settle(asker, lease.ttl)
            elif self.askers.wait(id_, asker, owed):
                self._renew(id_, lease, now)

    def _renew(self, id_: int, lease: _Lease, now: int) -> None:
        """Propose it, unless that is under way, or it is too late."""
        if not lease.due and not lease.renewal:
            lease.renewal = now + self._clock + lease.ttl * 1000 + LEASE_SLACK_MS
            self._to_renew[id_] = None

    def _serve(self, id_: int, lease: _Lease, now: int) -> None:
        """Answer who waits, if the log has decided."""
        if lease.due or not self.askers.waits(id_):
            return
        owed = self.askers.serve(id_, lease.until, lease.ttl, now + self._clock + lease.ttl * 1000)
        lease.deadline = max(lease.deadline, owed)
        if self.askers.waits(id_):
            self._renew(id_, lease, now)

    def answered(self, ticket: int, exist: Iterable[int], now: int) -> None:
        """Of the leases that the question asked about, these exist."""
        for id_ in self.askers.answered(ticket, exist):
            lease = self._table.get(id_)
            if lease is not None and lease.until:
                self._serve(id_, lease, now)
            else:
                self.askers.expect(id_, now)

    # --- what is to be done --------------------------------------------------------------------------

    def step(self, now: int) -> None:
        """Propose what is due. Keep-alives that have come are to be handed in before: they count first."""
        if not self.leading:
            return
        self._retry(now)
        most = self._limits.leases_per_entry_max
        expired = min(most, EXPIRED_PER_ENTRY)
        self._take_due(now + self._clock, DUE_ENTRIES * most)
        self._expiring = [batch for batch in self._expiring if batch.left]
        while self._due and len(self._expiring) < EXPIRES_IN_FLIGHT:
            batch = self._expire([self._due.popleft() for _ in range(min(expired, len(self._due)))], now)
            if batch.left:
                self._expiring.append(batch)
        self._expire_ended(now)
        self._propose_renewals(most, now)
        if self._table and now >= self._spoke_at + TICK_MS:
            self._propose(LeaseRenew(self.term, ()), now)

    def _expire_ended(self, now: int) -> None:
        """One entry at a time, so that others' writes go between. Who was first in one, and took all, is the last."""
        batch = self._expiring_ended
        if batch is not None and batch.left:
            return
        ids = list(dict.fromkeys(self._ended.popleft() for _ in range(min(ENDED_PER_ENTRY, len(self._ended)))))
        self._expiring_ended = self._expire(ids[1:] + ids[:1], now) if ids else None

    def _take_due(self, time: int, most: int) -> None:
        heap, table = self._heap, self._table
        while heap and heap[0][0] <= time and len(self._due) < most:
            at, id_ = heapq.heappop(heap)
            lease = table.get(id_)
            if lease is None or lease.queued != at:
                continue
            lease.queued = 0
            if not lease.until:
                continue
            if lease.deadline > time:
                self._queue(id_, lease)
            elif not lease.renewal:  # whoever waits for a renewal came in time: that goes first
                lease.due = True
                self._due.append(id_)

    def _expire(self, ids: list[int], now: int) -> _Batch:
        batch = _Batch([], now + RETRY_MS)
        self._propose_expiry(batch, ids, now)
        return batch

    def _propose_expiry(self, batch: _Batch, ids: list[int], now: int) -> None:
        leases = []
        for id_ in ids:
            lease = self._table.get(id_)
            if lease is not None and lease.batch in {None, batch} and (lease.due or not lease.until):
                lease.batch = batch
                leases.append((id_, lease.until))
        batch.ids, batch.left, batch.retry_at = [id_ for id_, _ in leases], len(leases), now + RETRY_MS
        if leases:
            self._propose(LeaseExpire(self.term, tuple(leases)), now)

    def _propose_renewals(self, most: int, now: int) -> None:
        while self._to_renew:
            leases = []
            for id_ in list(islice(self._to_renew, most)):
                del self._to_renew[id_]
                lease = self._table.get(id_)
                if lease is not None and lease.renewal:
                    leases.append((id_, lease.renewal))
            if leases:
                self._renewing.append((now + RETRY_MS, [id_ for id_, _ in leases]))
                self._propose(LeaseRenew(self.term, tuple(leases)), now)

    def _propose(self, proposal: LeaseRenew | LeaseExpire, now: int) -> None:
        self._spoke_at = now
        self._proposals.append(proposal)

    def _retry(self, now: int) -> None:
        while self._renewing and self._renewing[0][0] <= now:
            for id_ in self._renewing.popleft()[1]:
                lease = self._table.get(id_)
                if lease is not None and lease.renewal:
                    lease.renewal = 0
                    self._renew(id_, lease, now)
        for batch in (*self._expiring, self._expiring_ended):
            if batch is not None and batch.left and batch.retry_at <= now:
                self._propose_expiry(batch, batch.ids, now)

    # --- what goes out -------------------------------------------------------------------------------

    def take_proposals(self) -> list[LeaseRenew | LeaseExpire]:
        proposals, self._proposals = self._proposals, []
        return proposals

    def next_wakeup(self) -> int | None:
        """When `step` is due, ms."""
        if not self.leading:
            return None
        wakeups = [batch.retry_at for batch in (*self._expiring, self._expiring_ended) if batch is not None]
        if self._heap and len(self._due) < DUE_ENTRIES * self._limits.leases_per_entry_max:
            wakeups.append(self._heap[0][0] - self._clock)
        if self._renewing:
            wakeups.append(self._renewing[0][0])
        asks_at = self.askers.next_wakeup()
        if asks_at is not None:
            wakeups.append(asks_at)
        if self._table:
            wakeups.append(self._spoke_at + TICK_MS)
        return min(wakeups, default=None)
