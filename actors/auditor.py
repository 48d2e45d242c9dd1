"""Do all members hold the same? The storage actor's part of asking, of answering, and of what follows.

Two questions go from storage to storage (`Relay`, over raft's connections):

    DigestsWanted    what did entries 70 .. 95 write with you? A checksum each, which all members keep of the newest
                     entries: cheap, asked by the leader each second while something is written. It is a bell: where two
                     differ, the entry is logged at which they parted, and
    HashWanted       the hash of all revisions up to one of them is compared, as `endpoint hashkv` tells it. It reads
                     the whole store, between other work, and is what judges (core/agreement.py). It is asked, too,

- at a member's start, before it serves or takes part in anything (--experimental-initial-corrupt-check): who differs
  from a majority ends with a reason;
- by the leader, now and then (--experimental-corrupt-check-time);
- by the leader after a compaction, of the revisions that it left (--experimental-compact-hash-check-enabled, -time).

Members can be compared when they have compacted at the same revision and forgotten what that allows; who has not, or
does not answer, has no say in that round, and there will be another one.

What follows. The odd one is fenced, by an entry of the log (`Fence`): an alarm CORRUPT of that member, which ends when
it applies that, and keeps a note of it on its disk (refill.py). If no majority agrees and that lasts, an
alarm CORRUPT without a fence makes all members refuse, as in etcd.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import structlog

from zkv.core.agreement import judge
from zkv.core.mvcc.hashing import hash_store
from zkv.errors import CorruptionError
from zkv.wire import codec
from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from zkv.core.mvcc.machine import StateMachine

BELL_MS: Final = 1_000
"""How often the leader asks for digests."""
ANSWER_MS: Final = 15_000
"""A round of hashes that is not whole after so long is judged as it is."""
ASK_MS: Final = 500
"""How often who has not answered is asked again."""
AGAIN_MS: Final = 2_000
SPLITS_MAX: Final = 3
"""So many rounds in a row, AGAIN_MS apart, without a majority, and the cluster refuses."""
START_MS: Final = 7_000
"""How long a member that starts waits for the hashes of the others (as etcd's request timeout)."""
JOBS_MAX: Final = 16
"""Hashes that others wait for at once; a further question is dropped, and will be asked again."""


class Checks(NamedTuple):
    """What is compared unasked, as etcd's flags have it; ms, 0: never."""

    initial: bool = False
    periodic_ms: int = 0
    compaction_ms: int = 0


class _Job:
    """A hash being made for `asker`."""

    __slots__ = ("asker", "compacted", "revision", "steps", "ticket")

    def __init__(self, asker: int, ticket: int, revision: int) -> None:
        self.asker = asker
        self.ticket = ticket
        self.revision = revision
        self.compacted = 0
        self.steps: Iterator[int | None] | None = None


class _Round:
    """One comparison: what is known of whom. The answers of who is at `compacted` count."""

    __slots__ = ("ask_at", "compacted", "deadline", "hashes", "revision", "ticket", "waiting")

    def __init__(self, ticket: int, revision: int, compacted: int, waiting: set[int], deadline: int) -> None:
        self.ticket = ticket
        self.revision = revision
        self.compacted = compacted
        self.waiting = waiting
        self.deadline = deadline
        self.ask_at = 0
        self.hashes: dict[int, int] = {}


class Auditor:
    """Lives in the storage actor, and is stepped by it between other work. `post` reaches raft."""

    def __init__(
        self, member_id: int, checks: Checks, post: Callable[[str, NamedTuple], bool], machine: StateMachine, now: int
    ) -> None:
        self._member_id = member_id
        self._checks = checks
        self._post = post
        self._logger = structlog.get_logger().bind(actor="storage")
        self._jobs: list[_Job] = []
        self._round: _Round | None = None
        self._tickets = now  # another start for each life: answers to a predecessor are not taken for ours
        self._leading = False
        self._agreed: dict[int, int] = {}  # by member: its digests up to this entry are as ours
        self._rung_at: dict[int, int] = {}  # by member: the entry at which it was found to differ
        self._bell_at = self._periodic_at = self._compaction_at = self._again_at = 0
        self._last_compacted = 0
        self._splits = 0
        self._starts_by: int | None = None
        others = self._others(machine)
        if checks.initial and others and machine.applied:
            self._starts_by = now + START_MS
            self._begin(machine, machine.revision, now)

    @property
    def is_starting(self) -> bool:
        """The member may not serve yet."""
        return self._starts_by is not None

    @property
    def can_step(self) -> bool:
        return any(job.steps is not None for job in self._jobs)

    def leader_is(self, leader: int, now: int) -> None:
        leading = leader == self._member_id
        if leading and not self._leading:
            self._agreed.clear()
            self._bell_at = now + BELL_MS
            self._periodic_at = now + self._checks.periodic_ms
            self._compaction_at = now + self._checks.compaction_ms
        if not leading and self._starts_by is None:
            self._round = None
        self._leading = leading

    def wakeup(self) -> int | None:
        wakeups = []
        if self._leading:
            wakeups = [self._bell_at]
            if self._checks.periodic_ms:
                wakeups.append(self._periodic_at)
            if self._checks.compaction_ms:
                wakeups.append(self._compaction_at)
        if self._round is not None:
            wakeups += [self._round.deadline, self._round.ask_at]
        if self._splits:
            wakeups.append(self._again_at)
        return min(wakeups, default=None)

    def restarted(self) -> None:
        """The store was replaced: what was being read of the old one is void."""
        self._jobs.clear()

    # --- questions and answers ---------------------------------------------------------------------------

    def mail(self, message: object, machine: StateMachine, now: int) -> None:
        match message:
            case m.HashWanted(asker=asker, ticket=ticket, revision=revision):
                self._hash_wanted(_Job(asker, ticket, revision))
            case m.HashIs():
                self._hash_is(message)
            case m.DigestsWanted(asker=asker, first=first, last=last):
                self._digests_wanted(asker, first, last, machine)
            case m.DigestsAre():
                self._digests_are(message, machine, now)

    def step(self, machine: StateMachine, now: int) -> None:
        """A piece of whatever is under way. Raises CorruptionError: this member may not start."""
        self._step_jobs(machine)
        round_ = self._round
        if round_ is not None and (not round_.waiting or now >= round_.deadline):
            self._round = None
            self._judge(round_, machine, now)
        elif round_ is not None and now >= round_.ask_at:
            self._ask(round_, now)
        if not self._leading or self._starts_by is not None:
            return
        if now >= self._bell_at:
            self._bell_at = now + BELL_MS
            self._ask_for_digests(machine)
        if self._round is not None:
            return
        if self._splits and now >= self._again_at:
            self._begin(machine, machine.revision, now)
        elif self._checks.periodic_ms and now >= self._periodic_at:
            self._periodic_at = now + self._checks.periodic_ms
            self._begin(machine, machine.revision, now)
        elif self._checks.compaction_ms and now >= self._compaction_at:
            self._compaction_at = now + self._checks.compaction_ms
            if machine.store.compacted > self._last_compacted:
                self._last_compacted = machine.store.compacted
                self._begin(machine, machine.store.compacted, now)

    def _others(self, machine: StateMachine) -> list[int]:
        return [member.id for member in machine.members.table() if member.id != self._member_id]

    def _tell(self, member: int, message: NamedTuple) -> None:
        """What is lost on the way is asked for again in the next round."""
        self._post("raft", m.Relay(member, "storage", codec.encode(message)))

    # --- hashes --------------------------------------------------------------------------------------------

    def _hash_wanted(self, wanted: _Job) -> None:
        if all((job.asker, job.ticket) != (wanted.asker, wanted.ticket) for job in self._jobs):
            self._jobs = [job for job in self._jobs if job.asker != wanted.asker]  # it has given that one up
            if len(self._jobs) < JOBS_MAX:
                self._jobs.append(wanted)

    def _begin(self, machine: StateMachine, revision: int, now: int) -> None:
        others = self._others(machine)
        self._tickets += 1
        deadline = now + ANSWER_MS if self._starts_by is None else self._starts_by
        waiting = {self._member_id, *others}
        self._round = _Round(self._tickets, revision, machine.store.compacted, waiting, deadline)
        self._jobs.append(_Job(self._member_id, self._tickets, revision))
        self._ask(self._round, now)

    def _ask(self, round_: _Round, now: int) -> None:
        """Whoever has not answered; the question may have met no connection yet."""
        round_.ask_at = now + ASK_MS
        for member in round_.waiting - {self._member_id}:
            self._tell(member, m.HashWanted(self._member_id, round_.ticket, round_.revision))

    def _step_jobs(self, machine: StateMachine) -> None:
        compacted = machine.store.compacted
        for job in self._jobs:
            if job.steps is None and job.revision <= machine.revision and not machine.compaction.is_due(compacted):
                job.compacted = compacted
                job.steps = hash_store(machine.engine.snapshot(once=True), job.revision, compacted)
        under_way = next(((job, job.steps) for job in self._jobs if job.steps is not None), None)
        if under_way is None:
            return
        job, steps = under_way
        hash_ = next(steps)
        if hash_ is None:
            return
        self._jobs.remove(job)
        answer = m.HashIs(self._member_id, job.ticket, job.revision, job.compacted, hash_)
        if job.asker == self._member_id:
            self._hash_is(answer)
        else:
            self._tell(job.asker, answer)

    def _hash_is(self, answer: m.HashIs) -> None:
        round_ = self._round
        if round_ is None or round_.ticket != answer.ticket:
            return
        round_.waiting.discard(answer.member)
        if answer.compacted == round_.compacted:
            round_.hashes[answer.member] = answer.hash

    def _judge(self, round_: _Round, machine: StateMachine, now: int) -> None:
        voters = machine.members.conf.voters
        verdict = judge(voters, round_.hashes)
        hashes = {f"{member:x}": f"{hash_:x}" for member, hash_ in sorted(round_.hashes.items())}
        if verdict.odd or verdict.split:
            self._logger.error("members hold different data", revision=round_.revision, hashes=hashes)
        if self._starts_by is not None:
            self._judge_start(round_, machine, voters, odd=verdict.odd, split=verdict.split)
            return
        self._splits = self._splits + 1 if verdict.split else 0
        self._again_at = now + AGAIN_MS
        for member in verdict.odd:
            if not machine.alarms.is_fenced(member):
                self._logger.error("a member is fenced", member=f"{member:x}", revision=round_.revision)
                self._propose(m.Op.FENCE, m.Fence(member, round_.revision))
        if verdict.odd:
            for member, alarm in machine.alarms.find(m.Alarm(alarm=m.AlarmType.CORRUPT)):
                if member not in verdict.odd and not machine.alarms.is_fenced(member):
                    self._propose(m.Op.ALARM, m.Alarm(m.AlarmAction.DEACTIVATE, member, alarm))
        elif self._splits >= SPLITS_MAX:
            own = round_.hashes.get(self._member_id)
            for member, hash_ in round_.hashes.items():
                if hash_ != own:
                    self._propose(m.Op.ALARM, m.Alarm(m.AlarmAction.ACTIVATE, member, m.AlarmType.CORRUPT))

    def _judge_start(
        self, round_: _Round, machine: StateMachine, voters: tuple[int, ...], *, odd: tuple[int, ...], split: bool
    ) -> None:
        """Who cannot be sure that it holds what a majority does, while somebody holds something else, ends."""
        own = round_.hashes.get(self._member_id)
        if self._member_id in odd or split:
            raise CorruptionError(
                f"found data inconsistency with peers: at revision {round_.revision} this member holds other data "
                f"than {'a majority' if odd else 'another member'}; refill it from the others "
                "(zkv member refill --data-dir DIR), then start it again"
            )
        unheard = [f"{member:x}" for member in voters if member not in round_.hashes]
        if own is None or unheard:
            self._logger.warning("initial corruption check: could not compare with all members", unheard=unheard)
        else:
            self._logger.info("initial corruption check passed; no corruption", revision=machine.revision)
        self._starts_by = None

    # --- digests -------------------------------------------------------------------------------------------

    def _ask_for_digests(self, machine: StateMachine) -> None:
        if not machine.digests:
            return
        first, last = machine.digests[0][0], machine.applied
        for member in self._others(machine):
            since = max(first, self._agreed.get(member, 0) + 1)
            if since <= last:
                self._tell(member, m.DigestsWanted(self._member_id, since, last))

    def _digests_wanted(self, asker: int, first: int, last: int, machine: StateMachine) -> None:
        kept = machine.digests
        if not kept or first > machine.applied:
            return
        start = max(first, kept[0][0])
        digests = tuple(digest for index, digest in kept if start <= index <= last)
        self._tell(asker, m.DigestsAre(self._member_id, start, digests))

    def _digests_are(self, answer: m.DigestsAre, machine: StateMachine, now: int) -> None:
        if not self._leading:
            return
        own = dict(machine.digests)
        member, index = answer.member, answer.first
        for index, theirs in enumerate(answer.digests, answer.first):
            ours = own.get(index, m.UNKNOWN_DIGEST)
            if m.UNKNOWN_DIGEST not in {ours, theirs} and ours != theirs and self._rung_at.get(member, 0) < index:
                self._rung_at[member] = index
                self._logger.error("an entry has written other data on a member", member=f"{member:x}", entry=index)
                self._splits = max(self._splits, 1)
                self._again_at = now
                break
        self._agreed[member] = max(self._agreed.get(member, 0), index)

    def _propose(self, op: m.Op, request: m.Request) -> None:
        group = codec.pack((m.PROTOCOL_VERSION, int(m.ClientKind.REQUESTS), b"", 0, ((1, int(op), request),), m.HOUSE))
        # incarnation 0 is no gateway's: nobody waits for the answer
        self._post("raft", m.Propose(codec.pack(m.Frame(self._member_id, 0, ((0, group),)))))
