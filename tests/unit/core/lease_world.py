"""Lessors of three members round one log, in a few lines: mail is late, leaders do not know that they are deposed,
lease actors start again, and a new leader's clock is behind the one before it, or as far, and never ahead.

Elections take no time here and ask nobody, so that what raft makes rare is common: a leader and its deposed predecessor
are both asked, and both answer.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from zkv.core.lease import Lessor
from zkv.core.lease_askers import GONE
from zkv.limits import LEASE_SLACK_MS, Limits
from zkv.wire.messages import LeaseExpire, LeaseNews, LeaseRenew

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

LIMITS = Limits()._replace(leases_per_entry_max=3)
LEASES = range(1, 4)


class EndedEarly(AssertionError):
    """A lease is gone, and its holder had been told that it lives."""


class WronglyDenied(AssertionError):
    """A lease is said not to be, and is."""


class Grant(NamedTuple):
    lease: int
    ttl: int


class Logged(NamedTuple):
    term: int
    time: int
    what: Grant | LeaseRenew | LeaseExpire


def apply(table: dict[int, tuple[int, int]], logged: Logged) -> set[int]:
    """The leases of `table`, (ttl, until) each, that are another now."""
    what = logged.what
    changed = set()
    if isinstance(what, Grant):
        if what.lease not in table:
            table[what.lease] = what.ttl, logged.time + what.ttl * 1000 + LEASE_SLACK_MS
            changed.add(what.lease)
    elif what.term == logged.term:
        for lease, until in what.leases:
            if lease in table and isinstance(what, LeaseRenew) and until > table[lease][1]:
                table[lease] = table[lease][0], until
                changed.add(lease)
            elif lease in table and isinstance(what, LeaseExpire) and until == table[lease][1]:
                del table[lease]
                changed.add(lease)
    return changed


class Node:
    """A member: its storage, and its lease actor with mail from raft and storage, each in its order."""

    def __init__(self, world: World, member: int) -> None:
        self.member = member
        self.table: dict[int, tuple[int, int]] = {}
        self.applied = 0
        self.term = 0  # that its raft has heard of, and who leads
        self.leader = 0
        self._world = world
        self.restart()

    def restart(self) -> None:
        """The lease actor; it is told the table, and who leads."""
        self.lessor = Lessor(LIMITS, self.member, ticket=self._world.rng.getrandbits(40))
        self.from_raft: deque[Callable[[], None]] = deque()
        self.from_storage: deque[Callable[[], None]] = deque()
        self._tell_leader()
        self._tell(tuple((lease, *record) for lease, record in self.table.items()), (), fresh=True)

    def hear_leader(self, term: int, leader: int) -> None:
        self.term, self.leader = term, leader
        self._tell_leader()

    def _tell_leader(self) -> None:
        term, leader, clock = self.term, self.leader, self._world.clocks[self.term]
        lessor = self.lessor
        self.from_raft.append(lambda: lessor.leader_is(term, leader, clock, self._world.now))

    def _tell(self, leases: tuple[tuple[int, int, int], ...], gone: tuple[int, ...], *, fresh: bool = False) -> None:
        term = self._world.log[self.applied - 1].term if self.applied else 0
        news = LeaseNews(self.applied, leases, gone, fresh, term=term)
        lessor = self.lessor
        self.from_storage.append(lambda: lessor.news(news, self._world.now))

    def tell_answer(self, ticket: int, exist: list[int]) -> None:
        lessor = self.lessor
        self.from_storage.append(lambda: lessor.answered(ticket, exist, self._world.now))

    def apply(self) -> None:
        if self.applied == len(self._world.log):
            return
        changed = apply(self.table, self._world.log[self.applied])
        self.applied += 1
        known = tuple((lease, *self.table[lease]) for lease in changed if lease in self.table)
        self._tell(known, tuple(changed - self.table.keys()))

    def read_mail(self) -> None:
        world = self._world
        queue = self.from_raft if world.rng.random() < world.raft_first else self.from_storage
        if queue:
            queue.popleft()()


class World:
    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.raft_first = rng.choice((0.5, 0.05))
        self._unrest = rng.choice((1, 3))
        self.now = 0
        self.log: list[Logged] = []
        self.clocks = {0: 0}
        self.term = self.leader = 0
        self.promised: dict[int, int] = {}  # life, by the world's time
        self.answers = 0
        self.expiries = 0
        self._table: dict[int, tuple[int, int]] = {}
        self._granted: dict[int, int] = {}
        self._proposals: list[LeaseRenew | LeaseExpire] = []
        self._questions: list[tuple[Node, int, int, list[int]]] = []  # who, ticket, to be read at, about what
        self.nodes = [Node(self, member) for member in (1, 2, 3)]
        self._elect()

    def play(self, steps: int) -> None:
        deeds = (
            (self._unrest, self._elect), (1, self._restart), (3, self._grant), (25, self._keep_alive),
            (15, self._pass_time), (12, self._log_proposal), (18, self._apply), (25, self._read_mail),
            (4, self._answer_question),
        )  # fmt: skip
        weights = [weight for weight, _ in deeds]
        for _ in range(steps):
            self.rng.choices(deeds, weights)[0][1]()
            for node in self.nodes:
                self._turn(node)

    def _turn(self, node: Node) -> None:
        """What each turn of the actor does."""
        lessor = node.lessor
        lessor.step(self.now)
        self._proposals += lessor.take_proposals()
        question = lessor.askers.question(self.now)
        if question is not None:
            self._questions.append((node, question.ticket, len(self.log), question.leases))
        settled, lessor.askers.settled = lessor.askers.settled, []
        for (lease, sent), ttl in settled:
            if ttl > 0:
                self.answers += 1
                self._promise(lease, sent + ttl * 1000)
            elif ttl == GONE and lease in self._table and self._granted[lease] < sent:
                raise WronglyDenied(f"{lease} has been there since {self._granted[lease]}, asked for at {sent}")

    def _promise(self, lease: int, until: int) -> None:
        if lease in self._table:
            self.promised[lease] = max(self.promised.get(lease, 0), until)
        # else it was asked before its end, and answered after: then that was checked when it ended, by `until`
        elif until > self.now:
            raise EndedEarly(f"{lease} is answered to live until {until}, and gone at {self.now}")

    # --- deeds -----------------------------------------------------------------------------------------

    def _elect(self) -> None:
        """Somebody leads, and the others, the deposed leader among them, hear of it at times of their own."""
        rng = self.rng
        last = self.log[-1].time if self.log else 0
        before = self.clocks[self.term]
        node = rng.choice(self.nodes)
        self.term, self.leader = self.term + 1, node.member
        self.clocks[self.term] = max(before - rng.choice((0, 0, 3, 200, 5_000)), last - self.now)
        self._append(LeaseRenew(self.term, ()))
        node.hear_leader(self.term, self.leader)

    def _restart(self) -> None:
        self.rng.choice(self.nodes).restart()

    def _grant(self) -> None:
        self._append(Grant(self.rng.choice(LEASES), self.rng.choice((1, 1, 2))))

    def _append(self, what: Grant | LeaseRenew | LeaseExpire) -> None:
        logged = Logged(self.term, self.now + self.clocks[self.term], what)
        self.log.append(logged)
        for lease in apply(self._table, logged):
            if isinstance(what, Grant):
                self.promised[lease] = self.now + what.ttl * 1000
                self._granted[lease] = self.now
            elif lease not in self._table:
                self.expiries += 1
                if self.promised[lease] > self.now:
                    raise EndedEarly(f"{lease} is gone at {self.now}, promised until {self.promised[lease]}")

    def _keep_alive(self) -> None:
        """Of whoever believes to lead."""
        leading = [node for node in self.nodes if node.lessor.leading]
        if leading:
            lease = self.rng.choice(LEASES)
            self.rng.choice(leading).lessor.keep_alive(lease, (lease, self.now), self.now)

    def _pass_time(self) -> None:
        self.now += self.rng.choice((1, 10, 50, 50, 400))

    def _log_proposal(self) -> None:
        """One arrives at the leader, sooner or later; some never do."""
        if self._proposals:
            proposal = self._proposals.pop(self.rng.randrange(len(self._proposals)))
            if self.rng.random() < 0.9:
                self._append(proposal)

    def _apply(self) -> None:
        node = self.rng.choice(self.nodes)
        for _ in range(self.rng.choice((1, 3, 30))):
            node.apply()

    def _read_mail(self) -> None:
        node = self.rng.choice(self.nodes)
        for _ in range(self.rng.choice((1, 3, 30))):
            node.read_mail()

    def _answer_question(self) -> None:
        """Only who leads can say at which place a read is linearizable."""
        for each in list(self._questions):
            node, ticket, at, leases = each
            if node.member != self.leader:
                self._questions.remove(each)
            elif node.applied >= at:
                self._questions.remove(each)
                node.tell_answer(ticket, [lease for lease in leases if lease in node.table])
        for node in self.nodes:  # raft's word of the leader spreads as well
            if node.term < self.term and self.rng.random() < 0.5:
                node.hear_leader(self.term, self.leader)
