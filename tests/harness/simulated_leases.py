"""Clients with leases, in the world of simulated nodes, and what is held against them:

- *never early*: a lease lives for its TTL at least from when a keep-alive (or its grant) was sent that was answered;
- *never late*: it ends within LATE_MS after its true deadline, not counting the time in which nobody can end it;
- keys go with their lease, and with nothing else;
- that there is no such lease is said of none that was there all the time.

When a lease ends is seen where the log's entries are first handed to a storage. The true deadline is known from what
the leader's lease actor says: TTL after it last answered a keep-alive, or logged one. "Nobody can end it": there is no
leader with its storage and lease actors at work that gets committed what it logs. And each leader's clock is held
against the clock of the one before it in the log: never ahead, and behind by no more than there is a reason for.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.harness.simulated_session import SimulatedSession
from zkv.core.raft.raft import Role
from zkv.errors import LeaseNotFound
from zkv.wire import messages as m
from zkv.wire.codec import decode, unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.harness.raft_world import World
    from tests.harness.simulated_node import SimulatedNode
    from tests.harness.simulated_watchers import Oracle
    from zkv.client.ticket import Ticket
    from zkv.core.mvcc.machine import Outcome

LATE_MS = 1000
"""The slack that the log gives, and what it takes to log."""
SAMPLE_MS = 20
RECOVERY_MS = 700
"""What a leader takes to have everything running: what was lost is proposed again, storage is fed again."""
LOSS_MS = 250
"""What a leader's clock may be behind the one before for no better reason: lost entries come with a heartbeat."""
TICK_MS = 1400
"""A leader of leases has said the time so short ago: no more is lost where a machine restarts, but for its rest."""
COMMIT_MS = 200
"""What is logged is committed, and applied, so soon, or no leader is at work."""
PATIENCE_MS = 3000
WORKERS = {"raft", "storage", "lease"}
"""The actors that it takes to end a lease."""


class BrokenLease(AssertionError):
    """What a lease owes its holder, or the others, it did not do."""


class _Known:
    """What is known of a lease, in world time."""

    def __init__(self, ttl: int) -> None:
        self.ttl_ms = ttl * 1000
        self.promised = 0  # it lives until then at least: by what was answered
        self.due = 0  # and no longer than until then: by what the leader said
        self.lost_ms = 0  # what clocks had lost when that was said
        self.late_ms = 0  # how long it might have been ended since, and was not
        self.revoked = False  # somebody has asked for it
        self.began: int | None = None
        self.ended: int | None = None

    @property
    def lives(self) -> bool:
        return self.began is not None and self.ended is None


class _Leader(NamedTuple):
    offset: int  # its clock less the world's
    elected_at: int
    excuse: int  # what its clock may have lost


class Clocks:
    """What is measured of leaders: their clocks, and when none was at work."""

    def __init__(self, world: World, nodes: dict[int, SimulatedNode]) -> None:
        self.cut_at = 0
        """When the network was last cut, or whole again after that."""
        self.lost_ms = 0
        """What clocks have lost, over all elections."""
        weather = world.weather
        self.delay_ms = 2 * (weather.late_ms if weather.late else 0) + (400 if weather.lost else 0)
        """What messages take, where they are late or lost."""
        self._world = world
        self._nodes = nodes
        self._leaders: dict[int, _Leader] = {}  # by term
        self._term = 0  # of what is committed
        self._works_since: int | None = None
        self._logged: dict[tuple[int, int], deque[int]] = {}  # (term, leader) -> its log's ends, of late
        self._worked_at = 0

    def elected(self, node: SimulatedNode, term: int, clock: int) -> None:
        if term in self._leaders:
            return
        now, before = self._world.now, self._leaders.get(self._term)
        since = before.elected_at if before else 0
        held_ms = sum(until - at for at, until in node.held if until > since)
        if max(node.booted_at, self.cut_at) < since and not held_ms and not self.delay_ms:
            excuse = LOSS_MS
        else:  # what comes late tells little, and who starts anew has the last entry's time
            excuse = LOSS_MS + TICK_MS + now - self._worked_at + held_ms + self.delay_ms
        self._leaders[term] = _Leader(clock + node.ahead, now, excuse)

    def committed(self, entry: m.Entry, *, needed: bool) -> None:
        """`needed`: there are leases, so that the clock matters."""
        if entry.term == self._term:
            return
        before, after = self._leaders.get(self._term), self._leaders.get(entry.term)
        if before is not None and after is not None:
            lost = before.offset - after.offset
            if lost < 0:
                raise BrokenLease(f"the clock of term {entry.term} is {-lost} ms ahead of that of term {self._term}")
            if lost > after.excuse and needed:
                raise BrokenLease(f"the clock of term {entry.term} lost {lost} ms, and not for {after.excuse} a reason")
            self.lost_ms += lost
        self._term = entry.term

    def works(self) -> bool:
        """Is a leader at work, and has been for long enough to have everything running? Asked each SAMPLE_MS."""
        now = self._world.now
        before, self._logged = self._logged, {}
        for node in self._nodes.values():
            if (leader := self._leader(node)) is not None:
                self._logged[leader] = before.get(leader, deque(maxlen=COMMIT_MS // SAMPLE_MS))
        if not any(self._serves(term, self._nodes[member], logged) for (term, member), logged in self._logged.items()):
            self._works_since = None
            return False
        self._worked_at = now
        if self._works_since is None:
            self._works_since = now
        return now - self._works_since >= RECOVERY_MS

    def _leader(self, node: SimulatedNode) -> tuple[int, int] | None:
        """Which, if it leads, and all it takes to end a lease runs there."""
        actors = node.actors
        if not actors.keys() >= WORKERS or any(map(node.is_held_up, WORKERS)):
            return None
        core = actors["raft"]._core
        leads = core is not None and core.role is Role.LEADER and actors["lease"].lessor.leading
        return (core.term, node.id) if leads else None

    def _serves(self, term: int, node: SimulatedNode, logged: deque[int]) -> bool:
        """Has its storage applied what was logged COMMIT_MS ago, or, since it leads, first?"""
        assert node.actors["raft"]._core.term == term
        applied = node.actors["storage"]._machine.applied
        served = bool(logged) and applied >= logged[0]
        logged.append(node.log.last_index)
        return served


class Holder:
    """A client that takes leases, attaches keys, keeps them alive as it likes, and stops."""

    def __init__(self, world: World, number: int, nodes: Sequence[int], leases: Leases) -> None:
        self.session = SimulatedSession(world, b"holder %d" % number, nodes)
        self._world = world
        self._leases = leases
        self._mine: list[int] = []

    def take(self) -> None:
        """A lease; sometimes by a put that makes its own."""
        rng, sent = self._world.rng, self._world.now
        ttl = rng.choice((1, 1, 2, 3))
        if rng.random() < 0.2:
            key = b"t/%d" % rng.getrandbits(60)
            put = m.Put(key, b"", ttl=ttl)
            self.session.submit(put, PATIENCE_MS, lambda ticket: self._own(ticket, ttl, sent))
        else:
            lease = rng.getrandbits(60) + 1
            self._leases.known[lease] = _Known(ttl)
            grant = m.LeaseGrant(ttl, lease)
            self.session.submit(grant, PATIENCE_MS, lambda ticket: self._granted(ticket, lease, sent))

    def _own(self, ticket: Ticket, ttl: int, sent: int) -> None:
        if ticket.error is None:
            assert isinstance(ticket.answer, m.PutAnswer)
            self._leases.promise(ticket.answer.lease, sent)

    def _granted(self, ticket: Ticket, lease: int, sent: int) -> None:
        if ticket.error is None:
            self._leases.promise(lease, sent)
            self._mine.append(lease)

    def act(self) -> None:
        """Something with a lease it has, or had."""
        rng = self._world.rng
        if not self._mine:
            return
        lease, chance, sent = rng.choice(self._mine), rng.random(), self._world.now
        if chance < 0.6:
            kept = m.LeaseKeepAlive(lease)
            self.session.submit(kept, PATIENCE_MS, lambda ticket: self._leases.kept(ticket, lease, sent))
        elif chance < 0.9:
            put = m.Put(b"l/%d/%d" % (lease, rng.randrange(6)), b"", lease)
            self.session.submit(put, PATIENCE_MS, lambda _: None)
        elif chance < 0.96:
            self._mine.remove(lease)  # it is left alone
        else:
            self._mine.remove(lease)
            self._leases.known[lease].revoked = True
            self.session.submit(m.LeaseRevoke(lease), PATIENCE_MS, lambda _: None)


class Leases:
    """All of a play."""

    def __init__(self, world: World, nodes: dict[int, SimulatedNode], oracle: Oracle) -> None:
        self.known: dict[int, _Known] = {}
        self.clocks = Clocks(world, nodes)
        self.holders = [Holder(world, number, list(nodes), self) for number in range(world.rng.randint(1, 3))]
        self._world = world
        self._attached: dict[bytes, int] = {}
        oracle.told = self._told
        for node in nodes.values():
            node.overheard = self._overheard

    def begin(self, every: Callable[[int, Callable[[], None]], None]) -> None:
        """`every(mean, deed)`: until the trouble is over."""
        rng = self._world.rng
        every(400, lambda: rng.choice(self.holders).take())
        every(rng.choice((40, 150)), lambda: rng.choice(self.holders).act())
        self._tick()

    def _tick(self) -> None:
        if self.clocks.works():
            for id_, known in self.known.items():
                if known.lives and not known.revoked and self._world.now > known.due:
                    self._is_late(id_, known)
        for holder in self.holders:
            holder.session.carry()
        self._world.plan(SAMPLE_MS, self._tick)

    def _is_late(self, lease: int, known: _Known) -> None:
        known.late_ms += SAMPLE_MS
        clocks = self.clocks
        if known.late_ms > LATE_MS + clocks.lost_ms - known.lost_ms + 2 * clocks.delay_ms:
            raise BrokenLease(f"lease {lease} was due at {known.due}, and is there {known.late_ms} working ms later")

    @property
    def sessions(self) -> list[SimulatedSession]:
        return [holder.session for holder in self.holders]

    @property
    def owed(self) -> str | None:
        """A lease that is still there, or a client that waits."""
        if any(holder.session.busy for holder in self.holders):
            return "an answer to a holder"
        return next((f"the end of lease {id_}" for id_, each in self.known.items() if each.lives), None)

    @property
    def count(self) -> int:
        """Leases that have ended by themselves."""
        return sum(each.ended is not None and not each.revoked for each in self.known.values())

    # --- what holders are told -----------------------------------------------------------------------

    def promise(self, lease: int, sent: int) -> None:
        """It was granted, or kept alive, by what was sent then."""
        known = self.known[lease]
        if known.ended is not None and not known.revoked and known.ended < sent + known.ttl_ms:
            raise BrokenLease(f"lease {lease} ended at {known.ended}, before {sent} + {known.ttl_ms}")
        known.promised = max(known.promised, sent + known.ttl_ms)

    def kept(self, ticket: Ticket, lease: int, sent: int) -> None:
        known = self.known[lease]
        if ticket.error is None:
            self.promise(lease, sent)
        elif isinstance(ticket.error, LeaseNotFound) and known.ended is None:
            raise BrokenLease(f"lease {lease} is there, and is said not to be")

    # --- what leaders say ----------------------------------------------------------------------------

    def _overheard(self, node: SimulatedNode, name: str, message: Any) -> None:
        if type(message) is m.LeaderIs and message.leader == node.id:
            self.clocks.elected(node, message.term, message.clock)
        elif name == "lease":
            if type(message) is m.Relay:
                message = decode(message.message)
            if type(message) is m.GatewayAnswers:
                for _, payload, _ in message.answers:
                    for _, code, _, body in unpack(payload)[4]:
                        if code == 0:
                            self._alive(body[0])
            elif type(message) is m.Propose:
                for _, op, fields in unpack(unpack(message.frame)[2][0][1])[4]:
                    for lease, _ in fields[1] if op == m.Op.LEASE_RENEW else ():
                        self._alive(lease)

    def _alive(self, lease: int) -> None:
        """Its deadline is a TTL from now at most."""
        known = self.known[lease]
        known.due = self._world.now + known.ttl_ms
        known.lost_ms, known.late_ms = self.clocks.lost_ms, 0

    # --- what the log says ---------------------------------------------------------------------------

    def _told(self, entry: m.Entry, outcome: Outcome) -> None:
        ended = set()
        for lease, record in outcome.leases.items():
            if record is not None and record.until:
                known = self.known.setdefault(lease, _Known(record.ttl))  # a put's own is not known before
                known.began = self._world.now if known.began is None else known.began
                self._alive(lease)
            else:
                ended.add(lease)
                self._ends(lease)
        self.clocks.committed(entry, needed=any(known.lives for known in self.known.values()))
        for _, events in outcome.events:
            for event in events:
                if event.kv.key.startswith((b"l/", b"t/")):
                    self._check_key(event, ended)
        for lease in ended:
            if outcome.leases[lease] is None:
                self._check_gone(lease)

    def _ends(self, lease: int) -> None:
        known, now = self.known.get(lease), self._world.now
        if known is None:
            raise BrokenLease(f"lease {lease} ended at {now}, and never began")
        if known.ended is None:
            known.ended = now
            if now < known.promised and not known.revoked:
                raise BrokenLease(f"lease {lease} ended at {now}, promised until {known.promised}")

    def _check_key(self, event: m.Event, ended: set[int]) -> None:
        """Nobody deletes these keys but the end of their lease."""
        key = event.kv.key
        if not event.deleted:
            self._attached[key] = event.kv.lease
        elif self._attached.pop(key) not in ended:
            raise BrokenLease(f"{key!r} is gone, and its lease is not")

    def _check_gone(self, lease: int) -> None:
        left = [key for key, holder in self._attached.items() if holder == lease]
        if left:
            raise BrokenLease(f"lease {lease} is gone, and {left} are left")
