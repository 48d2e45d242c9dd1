"""One seed, one play: a raft cluster, the trouble it gets into, and what it must hold to.

Act one is trouble. Each seed draws its own climate (how much is lost, how slow disks are, whether
members crash, whether the membership changes ..), so that some plays are all about one kind of trouble and some
about all at once; then for some simulated seconds proposals, reads and mishaps fall at random moments. The watcher
(tests/harness/raft_checks.py) holds every step against Raft's promises.

Act two: everything is healed, and the cluster must make progress within a bounded time.

    python -m tests.simulation --seeds 10000           plays many, each with the next seed
    python -m tests.simulation --seed 4711 --trace     plays that one again, telling each mishap
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.harness.raft_checks import BrokenPromise, Watcher
from tests.harness.raft_member import Member
from tests.harness.raft_world import Weather, World
from zkv.core.raft.raft import RaftConfig, Role
from zkv.wire.messages import ConfChange, ConfChangeKind, ConfState

if TYPE_CHECKING:
    from collections.abc import Callable

TROUBLE_MS = 12_000
HEALING_MS = 30_000
"""Far more than a healthy cluster needs: an election takes 2 s or so, a snapshot half a second."""


@dataclass(frozen=True)
class Outcome:
    """What a play came to; equal for equal seeds."""

    committed: int
    reads: int
    terms: int


@dataclass(frozen=True)
class Climate:
    """Mean times between mishaps are ms, 0: never."""

    proposal_every: int
    read_every: int
    cut_every: int
    crash_every: int
    pause_every: int
    compact_every: int
    conf_every: int
    transfer_every: int
    suspect_every: int
    sync_ms: int
    sync_in_thread: bool


class Play:
    def __init__(self, seed: int, tell: Callable[[str], None] | None = None) -> None:
        """`tell` hears of each mishap."""
        self._rng = rng = random.Random(seed)
        self._tell = tell
        self._world = World(rng)
        self._watcher = Watcher()
        voters = tuple(range(1, rng.choice((1, 2, 3, 3, 3, 4, 5, 5)) + 1))
        learners = tuple(range(len(voters) + 1, len(voters) + 1 + rng.choice((0, 0, 0, 1, 2))))
        self._conf = ConfState(voters, learners)
        self._members: dict[int, Member] = {}
        self._next_member = len(voters) + len(learners) + 1
        self._climate = self._draw_climate()
        self._world.weather = self._draw_weather()
        self._limits = {
            "append_bytes_max": rng.choice((1, 60, 10_000)),
            "in_flight_appends_max": rng.choice((1, 3, 64)),
            "in_flight_bytes_max": rng.choice((20, 10_000)),
        }
        for member in voters + learners:
            self._add(member, self._conf)

    def _draw_climate(self) -> Climate:
        def often(*means: int) -> int:
            return self._rng.choice((0, *means))

        return Climate(
            proposal_every=self._rng.choice((20, 60, 200)),
            read_every=self._rng.choice((30, 100)),
            cut_every=often(700, 2500),
            crash_every=often(800, 3000),
            pause_every=often(2000, 5000),
            compact_every=often(300, 2000),
            conf_every=often(300, 2000),
            transfer_every=often(1500),
            suspect_every=often(1500),
            sync_ms=self._rng.choice((0, 2, 10, 150)),
            sync_in_thread=self._rng.random() < 0.3,
        )

    def _draw_weather(self) -> Weather:
        def chance(*chances: float) -> float:
            return self._rng.choice((0.0, *chances))

        return Weather(
            lost=chance(0.01, 0.1, 0.3),
            doubled=chance(0.01, 0.2),
            late=chance(0.02, 0.3),
            late_ms=self._rng.choice((20, 300, 3000)),
        )

    def _add(self, member: int, conf: ConfState) -> None:
        config = RaftConfig(member, **self._limits)
        added = Member(self._world, self._watcher, config, conf)
        added.sync_ms = self._climate.sync_ms
        added.sync_in_thread = self._climate.sync_in_thread
        self._members[member] = added
        added.start()

    def _say(self, what: str) -> None:
        if self._tell:
            self._tell(f"{self._world.now:6} {what}")

    # --- act one -----------------------------------------------------------------------------------

    def run(self) -> Outcome:
        climate = self._climate
        self._say(f"{self._conf} {climate} {self._world.weather}")
        for mean, mishap in (
            (climate.proposal_every, self._propose),
            (climate.read_every, self._read),
            (climate.cut_every, self._cut),
            (climate.crash_every, self._crash),
            (climate.pause_every, self._pause),
            (climate.compact_every, self._compact),
            (climate.conf_every, self._change_conf),
            (climate.transfer_every, self._transfer),
            (climate.suspect_every, self._suspect),
        ):
            if mean:
                self._every(mean, mishap)
        self._world.run(TROUBLE_MS)
        self._heal()
        return Outcome(
            len(self._watcher.committed),
            sum(member.reads_served for member in self._members.values()),
            max(member.log.hard_state.term for member in self._members.values()),
        )

    def _every(self, mean: int, mishap: Callable[[], None]) -> None:
        def happen() -> None:
            if self._world.now < TROUBLE_MS:
                mishap()
                self._every(mean, mishap)

        self._world.plan(1 + int(self._rng.expovariate(1 / mean)), happen)

    def _some(self) -> Member:
        return self._rng.choice(list(self._members.values()))

    def _leaders(self) -> list[Member]:
        return [member for member in self._members.values() if member.core and member.core.role is Role.LEADER]

    def _some_leader(self) -> Member:
        return self._rng.choice(self._leaders() or list(self._members.values()))

    def _propose(self) -> None:
        bodies = [self._rng.randbytes(8) for _ in range(self._rng.randint(1, 4))]
        self._some_leader().ask(lambda core, now: core.propose(bodies, now))

    def _read(self) -> None:
        self._rng.choice((self._some(), self._some_leader())).read()

    def _cut(self) -> None:
        every = list(self._members)
        some = self._rng.sample(every, self._rng.randint(1, len(every)))
        if self._rng.random() < 0.4:
            some = [self._some_leader().id]  # who then leads on for a while, unheard
        others = [member for member in every if member not in some] or every
        self._world.weather.cut.clear()
        self._world.cut_off(some, others, both_ways=self._rng.random() < 0.7)
        self._say(f"cut {some} | {others}")
        if self._rng.random() < 0.5:  # the connections break, and all see it
            for member in self._members.values():
                member.disconnected(every)
        self._world.plan(self._rng.randint(100, 4000), self._world.weather.cut.clear)

    def _crash(self) -> None:
        """One, a few, or a power cut for all; some are soon back and may have to do without the others."""
        rng = self._rng
        victims = list(self._members.values()) if rng.random() < 0.3 else [self._some_leader(), self._some()]
        for victim in victims if rng.random() < 0.5 else victims[:1]:
            if victim.core is not None:
                self._say(f"crash {victim.id}")
                victim.crash()
                self._world.plan(rng.choice((1, 50, 500, 3000)), lambda who=victim: self._restart(who))  # type: ignore[misc]

    def _restart(self, member: Member) -> None:
        if member.core is None:
            self._say(f"restart {member.id}")
            member.start()

    def _pause(self) -> None:
        member = self._rng.choice((self._some(), self._some_leader()))
        self._say(f"pause {member.id}")
        member.pause()
        self._world.plan(self._rng.choice((50, 900, 1500, 4000)), member.resume)

    def _compact(self) -> None:
        member = self._some()
        member.make_durable()
        member.compact()

    def _change_conf(self) -> None:
        """Add or promote, demote, remove: one or several at once; those who join start with an empty log."""
        leader = self._some_leader()
        if leader.core is None:
            return
        conf = leader.core.conf
        changes: list[tuple[int, int, tuple[str, ...]]] = []
        known = [*conf.voters, *conf.learners]
        for member in self._rng.sample(
            [*known, self._next_member], self._rng.choice((1, 1, min(3, len(known)), len(known)))
        ):
            kind = self._rng.choice((ConfChangeKind.ADD_VOTER, ConfChangeKind.ADD_LEARNER, ConfChangeKind.REMOVE))
            if len(known) > 5:
                kind = ConfChangeKind.REMOVE
            changes.append((kind, member, ()))
        joins = any(member == self._next_member for _, member, _ in changes)
        if leader.ask(lambda core, now: core.propose_conf_change(ConfChange(tuple(changes)), now)):
            self._say(f"{leader.id} changes {conf} by {changes}")
            if joins:
                self._add(self._next_member, ConfState(()))
                self._next_member += 1

    def _transfer(self) -> None:
        self._some_leader().ask(lambda core, now: core.transfer_leadership(core.successor(), now))

    def _suspect(self) -> None:
        self._some().disconnected(self._members)

    # --- act two -----------------------------------------------------------------------------------

    def _heal(self) -> None:
        self._say("heal")
        self._world.weather = Weather()
        for member in self._members.values():
            self._restart(member)
            member.sync_ms = 2
            member.resume()
        deadline = self._world.now + HEALING_MS
        while self._world.now < deadline:
            self._world.run(self._world.now + 500)
            for leader in self._leaders():
                leader.ask(lambda core, now: core.propose([b"healed"], now))
            if self._is_well():
                return
        raise BrokenPromise(f"progress: healed for {HEALING_MS} ms, and still {self._condition()}")

    def _is_well(self) -> bool:
        """One leads, the others know, and all members hold and have applied nearly the same."""
        leaders = self._leaders()
        if len(leaders) != 1 or leaders[0].core is None or not self._watcher.committed:
            return False
        leader, conf = leaders[0], leaders[0].core.conf
        if conf.voters_outgoing:
            return False
        last = self._watcher.committed[-1]
        return last.body == b"healed" and all(
            core is not None
            and core.leader == leader.id
            and core.conf == conf
            and self._members[member].applied == last.index
            for member in conf.voters + conf.learners
            for core in (self._members[member].core,)
        )

    def _condition(self) -> str:
        return "; ".join(
            f"{member.id}: {core.role.name} term {core.term} leader {core.leader} commit {core.commit} "
            f"applied {member.applied} log {member.log.first_index}..{member.log.last_index} {core.conf}"
            for member in self._members.values()
            if (core := member.core)
        )
